"""Quotas at the S3 door."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import KIB, MIB
from craqen.core.meta.accounts import Account, Kind
from craqen.tests.gateway.integration.running_gateway import Gateway


def is_full(error: ClientError) -> bool:
    response: dict[str, Any] = dict(error.response)
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return (status, response["Error"]["Code"]) == (403, "QuotaExceeded")


def refused() -> pytest.RaisesExc[ClientError]:
    return pytest.raises(ClientError, check=is_full)


def limit(gateway: Gateway, bucket: str, size_bytes: int, files: int = 0) -> None:
    async def work() -> None:
        number = (await gateway.meta.get_bucket(bucket)).inode_id
        account = Account(Kind.BUCKET, number)
        await gateway.meta.set_quota(account, size_bytes=size_bytes, files=files)

    gateway.call(work())


def test_a_bucket_is_full(s3: Any, bucket: str, gateway: Gateway) -> None:
    limit(gateway, bucket, 1 * MIB, 3)
    s3.put_object(Bucket=bucket, Key="a", Body=os.urandom(900 * KIB))
    for length in (125 * KIB, 2 * MIB):
        with refused():
            s3.put_object(Bucket=bucket, Key="b", Body=os.urandom(length))
    with refused():
        s3.copy_object(Bucket=bucket, Key="b", CopySource=f"{bucket}/a")
    for key in ("b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    with refused():
        s3.put_object(Bucket=bucket, Key="d", Body=b"")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in "abc"]})
    s3.put_object(Bucket=bucket, Key="d", Body=os.urandom(1 * MIB))


def test_parts_are_refused(s3: Any, bucket: str, gateway: Gateway) -> None:
    limit(gateway, bucket, 6 * MIB)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
    with refused():
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=2, Body=bytes(2 * MIB))
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(6 * MIB))


def test_a_body_is_refused_before_it_is_stored(s3: Any, bucket: str, gateway: Gateway) -> None:
    limit(gateway, bucket, 1 * MIB)
    before = gateway.data.written_bytes
    with refused():
        s3.put_object(Bucket=bucket, Key="k", Body=bytes(8 * MIB))
    assert gateway.data.written_bytes == before


def test_many_writers_do_not_pass_it(s3: Any, bucket: str, gateway: Gateway) -> None:
    limit(gateway, bucket, 64 * KIB)

    def put(number: int) -> bool:
        try:
            s3.put_object(Bucket=bucket, Key=str(number), Body=bytes(1 * KIB))
        except ClientError as error:
            if is_full(error):
                return False
            raise
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(put, range(100)))
    assert sum(done) == 64
    usage = gateway.call(gateway.meta.usage(bucket))
    assert (usage.size_bytes, usage.objects) == (64 * KIB, 64)


@pytest.fixture(autouse=True)
def no_quota(gateway: Gateway, bucket: str) -> Any:
    yield

    async def lift() -> None:
        for one in await gateway.meta.quotas():
            await gateway.meta.remove_quota(one.account)

    gateway.call(lift())
