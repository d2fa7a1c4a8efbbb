"""Server-side encryption by boto3: the three kinds, ranges, parts, copies, defaults, errors; and
nothing of the content lies on the disk in the clear."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.crypt.pages import PLAIN_PAGE_BYTES
from craqen.core.limits import INLINE_BYTES_MAX, KIB, MIB
from craqen.tests.gateway.integration.running_gateway import Gateway

CUSTOMER_KEY = bytes(range(32))
S3 = {"ServerSideEncryption": "AES256"}
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "testkey-1"}
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CUSTOMER_KEY}
OTHER_CUSTOMER = {**CUSTOMER, "SSECustomerKey": bytes(32)}
KINDS: dict[str, dict[str, Any]] = {"SSE-S3": S3, "SSE-KMS": KMS, "SSE-C": CUSTOMER}
SIZES = [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, PLAIN_PAGE_BYTES, 3 * MIB + 5]
MARK = b"this must not be found on any disk. "


def reading(kind: dict[str, Any]) -> dict[str, Any]:
    """What a reader has to send."""
    return kind if "SSECustomerKey" in kind else {}


def told(answer: Any) -> dict[str, Any]:
    """What an answer tells of the encryption."""
    return {name: value for name, value in answer.items() if name.startswith(("Server", "SSE"))}


def code_of(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_bytes_come_back(s3: Any, bucket: str, name: str, size: int) -> None:
    kind, data = KINDS[name], os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **kind)
    got = s3.get_object(Bucket=bucket, Key="k", **reading(kind))
    assert got["Body"].read() == data
    head = s3.head_object(Bucket=bucket, Key="k", **reading(kind))
    assert head["ContentLength"] == size
    assert told(put) == told(got) == told(head) != {}
    md5 = f'"{hashlib.md5(data).hexdigest()}"'
    assert (put["ETag"] == md5) == (name == "SSE-S3")
    assert put["ETag"] == got["ETag"] == head["ETag"]


@pytest.mark.parametrize("name", KINDS)
def test_ranges(s3: Any, bucket: str, name: str) -> None:
    kind, data = KINDS[name], os.urandom(4 * PLAIN_PAGE_BYTES + 77)
    s3.put_object(Bucket=bucket, Key="k", Body=data, **kind)
    edges = [0, 1, PLAIN_PAGE_BYTES - 1, PLAIN_PAGE_BYTES, 3 * PLAIN_PAGE_BYTES, len(data) - 1]
    for first, last in itertools.combinations_with_replacement(edges, 2):
        got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}", **reading(kind))
        assert got["Body"].read() == data[first : last + 1]


@pytest.mark.parametrize("name", KINDS)
def test_parts(s3: Any, bucket: str, name: str) -> None:
    kind = KINDS[name]
    data = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), os.urandom(3)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **kind)
    assert told(upload)
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    parts = []
    for number, body in enumerate(data, 1):
        part = s3.upload_part(PartNumber=number, Body=body, **named, **reading(kind))
        assert told(part) == told(upload)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **named)
    assert done["ETag"].endswith('-3"')
    got = s3.get_object(Bucket=bucket, Key="k", **reading(kind))
    assert got["Body"].read() == b"".join(data)
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, **reading(kind))
    assert second["Body"].read() == data[1]


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize(
    ("source", "target"), list(itertools.product([{}, *KINDS.values()], repeat=2))
)
def test_copies(
    s3: Any, bucket: str, source: dict[str, Any], target: dict[str, Any], size: int
) -> None:
    data = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="from", Body=data, Metadata={"a": "b"}, **source)
    keys = {f"CopySource{name}": value for name, value in reading(source).items()}
    copied = s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from", **target, **keys)
    got = s3.get_object(Bucket=bucket, Key="to", **reading(target))
    assert got["Body"].read() == data
    assert told(got) == told(copied)
    assert bool(told(got)) == bool(target)
    assert got["Metadata"] == {"a": "b"}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", **target)
    named = {"Bucket": bucket, "Key": "parts", "UploadId": upload["UploadId"]}
    part = s3.upload_part_copy(
        PartNumber=1,
        CopySource=f"{bucket}/from",
        CopySourceRange=f"bytes=7-{size - 9}",
        **named,
        **keys,
        **reading(target),
    )
    s3.complete_multipart_upload(
        MultipartUpload={
            "Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}],
        },
        **named,
    )
    got = s3.get_object(Bucket=bucket, Key="parts", **reading(target))
    assert got["Body"].read() == data[7 : size - 8]


def test_a_copy_outlives_its_source(s3: Any, bucket: str) -> None:
    data = os.urandom(MIB)
    s3.put_object(Bucket=bucket, Key="from", Body=data, **S3)
    s3.copy_object(Bucket=bucket, Key="to", CopySource=f"{bucket}/from", **KMS)
    s3.delete_object(Bucket=bucket, Key="from")
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == data


def test_customer_keys_that_do_not_fit(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"secret", **CUSTOMER)
    s3.put_object(Bucket=bucket, Key="plain", Body=b"open")
    named = {"Bucket": bucket, "Key": "k"}
    assert code_of(s3.get_object, **named) == ("InvalidRequest", 400)
    assert code_of(s3.head_object, **named)[1] == 400
    assert code_of(s3.get_object, **named, **OTHER_CUSTOMER) == ("AccessDenied", 403)
    assert code_of(s3.get_object, Bucket=bucket, Key="plain", **CUSTOMER) == (
        "InvalidRequest",
        400,
    )
    for wrong in (
        {**CUSTOMER, "SSECustomerKey": b"short"},
        {**CUSTOMER, "SSECustomerAlgorithm": "AES128"},
        {
            "SSECustomerAlgorithm": "AES256",
            "SSECustomerKey": base64.b64encode(CUSTOMER_KEY).decode(),
            "SSECustomerKeyMD5": base64.b64encode(bytes(16)).decode(),
        },
        {**CUSTOMER, **S3},
    ):
        assert code_of(s3.put_object, Bucket=bucket, Key="new", Body=b"x", **wrong)[1] == 400
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m", **CUSTOMER)["UploadId"]
    part = {"Bucket": bucket, "Key": "m", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
    assert code_of(s3.upload_part, **part)[1] == 400
    assert code_of(s3.upload_part, **part, **OTHER_CUSTOMER) == ("InvalidRequest", 400)
    source = {**part, "CopySource": f"{bucket}/plain"}
    del source["Body"]
    assert code_of(s3.upload_part_copy, **source, **OTHER_CUSTOMER) == ("InvalidRequest", 400)


@pytest.mark.parametrize("name", ["SSE-S3", "SSE-KMS"])
def test_a_read_does_not_choose_the_encryption(
    s3: Any, bucket: str, gateway: Gateway, name: str
) -> None:
    named = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**named, Body=b"x", **KINDS[name])
    asking = gateway.client()
    headers = {"x-amz-server-side-encryption": KINDS[name]["ServerSideEncryption"]}
    for operation in ("GetObject", "HeadObject"):
        asking.meta.events.register(
            f"before-call.s3.{operation}",
            lambda params, **_: params["headers"].update(headers),
        )
    assert code_of(asking.get_object, **named) == ("InvalidArgument", 400)
    assert code_of(asking.head_object, **named)[1] == 400
    assert s3.get_object(**named)["Body"].read() == b"x"


def test_keys_of_the_store(s3: Any, bucket: str, gateway: Gateway) -> None:
    nobody = {**KMS, "SSEKMSKeyId": "nobody"}
    assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x", **nobody) == (
        "KMS.NotFoundException",
        400,
    )
    assert code_of(
        s3.put_object, Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="rot13"
    ) == ("InvalidArgument", 400)
    second = {**KMS, "SSEKMSKeyId": "testkey-2", "SSEKMSEncryptionContext": "eyJhIjoiYiJ9"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept", **second)
    gateway.keys.rotate("testkey-2")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"kept"
    assert got["SSEKMSKeyId"] == "testkey-2"
    gateway.keys.set_disabled("testkey-2", True)
    try:
        assert code_of(s3.get_object, Bucket=bucket, Key="k") == ("KMS.DisabledException", 400)
    finally:
        gateway.keys.set_disabled("testkey-2", False)


def test_the_default_of_a_bucket(s3: Any, bucket: str) -> None:
    missing = "ServerSideEncryptionConfigurationNotFoundError"
    assert code_of(s3.get_bucket_encryption, Bucket=bucket) == (missing, 404)
    rule = {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": "testkey-1",
        },
        "BucketKeyEnabled": True,
    }
    configuration = {"Rules": [rule]}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=configuration)
    found = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert found == configuration
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert put["SSEKMSKeyId"] == "testkey-1"
    assert put["BucketKeyEnabled"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert "SSECustomerAlgorithm" in s3.put_object(Bucket=bucket, Key="c", Body=b"x", **CUSTOMER)
    s3.delete_bucket_encryption(Bucket=bucket)
    assert told(s3.put_object(Bucket=bucket, Key="k", Body=b"x")) == {}


@pytest.mark.parametrize("name", KINDS)
def test_nothing_lies_there_in_the_clear(s3: Any, bucket: str, gateway: Gateway, name: str) -> None:
    for size in (len(MARK) * 3, 200 * KIB):
        data = (MARK * (size // len(MARK) + 1))[:size]
        s3.put_object(Bucket=bucket, Key=f"k{size}", Body=data, **KINDS[name])
    files = [path for path in Path(gateway.folder).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert MARK not in path.read_bytes()
        assert not re.search(re.escape(CUSTOMER_KEY), path.read_bytes())


@pytest.mark.parametrize("first", [0, 100, 300_000])
@pytest.mark.parametrize("name", KINDS)
def test_appends(s3: Any, bucket: str, name: str, first: int) -> None:
    kind = KINDS[name]
    data = os.urandom(first)
    s3.put_object(Bucket=bucket, Key="k", Body=data, **kind)
    for size in (50, 70_000, MIB, 3):
        more = os.urandom(size)
        s3.put_object(
            Bucket=bucket, Key="k", Body=more, WriteOffsetBytes=len(data), **reading(kind)
        )
        data += more
        got = s3.get_object(Bucket=bucket, Key="k", **reading(kind))
        assert got["Body"].read() == data
        assert told(got)
