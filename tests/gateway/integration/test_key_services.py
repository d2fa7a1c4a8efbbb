"""SSE-KMS with keys of a key service, through both doors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from craqen.core.client.file_keys import FileKeys
from craqen.core.client.files import FileClient
from craqen.core.client.sealed_files import SealedFiles
from craqen.core.clock import SystemClock
from craqen.core.crypt.open_keys import open_keys
from craqen.core.crypt.port import KeyKeeper
from craqen.core.errno_map import errno_of
from craqen.core.errors import KeyServiceUnavailableError
from craqen.core.limits import KIB
from craqen.core.meta.records import InodeType
from craqen.core.options import Config
from craqen.tests.core.crypt.test_key_services import configured
from craqen.tests.gateway.integration.running_gateway import Gateway, running_gateway
from craqen.tests.gateway.integration.test_buckets import HERE
from craqen.tests.support.key_services import FakeKms, FakeService, FakeVault, running

KEY = "x-amz-server-side-encryption-aws-kms-key-id"
MARK = b"in the clear! "


class Store(NamedTuple):
    """A gateway whose keys are with a service."""

    gateway: Gateway
    service: FakeService
    s3: Any
    config: Config


@pytest.fixture(params=[FakeKms, FakeVault])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    service: FakeService = request.param()
    with running(service):
        config = configured(service, tmp_path, kms_cache_seconds=0.0, kms_timeout_seconds=2.0)
        segments = tmp_path / "segments"
        segments.mkdir()
        keeper = open_keys(config, SystemClock())
        with running_gateway(segments, keeper=keeper) as gateway:
            client = gateway.client()
            client.create_bucket(Bucket="bucket", CreateBucketConfiguration=HERE)
            yield Store(gateway, service, client, config)
            client.close()
            gateway.call(keeper.close())


def put(store: Store, key: str, data: bytes, **more: Any) -> Any:
    return store.s3.put_object(
        Bucket="bucket", Key=key, Body=data, ServerSideEncryption="aws:kms", **more
    )


def get(store: Store, key: str) -> bytes:
    data: bytes = store.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    return data


def failure(work: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        work()
    answer: dict[str, Any] = dict(error.value.response)
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


async def through_the_mount(store: Store, keeper: KeyKeeper, key: bytes) -> bytes:
    """The content as a mount gives it."""
    meta, data = store.gateway.meta, store.gateway.data
    with ThreadPoolExecutor(1) as executor:
        sealed = SealedFiles(meta, data, executor, FileKeys(meta, keeper))
        client = FileClient(meta, data, SystemClock(), sealed=sealed)
        bucket_id = (await meta.get_bucket("bucket")).inode_id
        inode = await meta.lookup(bucket_id, key)
        file = await client.open(inode.inode_id)
        try:
            return bytes(await client.read(file, 0, inode.size))
        finally:
            await client.release(file)


def test_both_doors_read_what_is_wrapped_elsewhere(store: Store, tmp_path: Path) -> None:
    small, large = MARK * 10, MARK + os.urandom(300 * KIB)
    answer = put(store, "small", small, SSEKMSKeyId="second")
    assert answer["SSEKMSKeyId"].endswith("second")
    assert put(store, "large", large)["SSEKMSKeyId"].endswith("first")
    assert (get(store, "small"), get(store, "large")) == (small, large)
    copied = store.s3.copy_object(
        Bucket="bucket",
        Key="copy",
        CopySource="bucket/large",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="second",
    )
    assert copied["SSEKMSKeyId"].endswith("second")
    assert get(store, "copy") == large
    range_of = store.s3.get_object(Bucket="bucket", Key="copy", Range="bytes=70000-70009")
    assert range_of["Body"].read() == large[70_000:70_010]
    assert not any(MARK in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    async def mount() -> list[bytes]:
        keeper = open_keys(store.config, SystemClock())
        try:
            names = (b"small", b"large", b"copy")
            return [await through_the_mount(store, keeper, name) for name in names]
        finally:
            await keeper.close()

    assert store.gateway.call(mount()) == [small, large, large]


def test_what_the_mount_writes_is_wrapped_by_the_bucket_default(store: Store) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    store.s3.put_bucket_encryption(
        Bucket="bucket", ServerSideEncryptionConfiguration={"Rules": [rule]}
    )

    async def mount() -> None:
        meta, data = store.gateway.meta, store.gateway.data
        keeper = open_keys(store.config, SystemClock())
        with ThreadPoolExecutor(1) as executor:
            sealed = SealedFiles(meta, data, executor, FileKeys(meta, keeper))
            client = FileClient(meta, data, SystemClock(), sealed=sealed)
            bucket_id = (await meta.get_bucket("bucket")).inode_id
            inode = await meta.create(bucket_id, b"file", InodeType.FILE, mode=0o644, uid=1, gid=1)
            file = client.opened(inode)
            await client.write(file, 0, MARK * 9000)
            await client.release(file)
        await keeper.close()

    store.gateway.call(mount())
    assert get(store, "file") == MARK * 9000
    head = store.s3.head_object(Bucket="bucket", Key="file")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"][-5:]) == ("aws:kms", "first")


def test_a_service_that_is_away_damages_nothing(store: Store) -> None:
    put(store, "k", MARK)
    store.s3.put_object(Bucket="bucket", Key="plain", Body=b"plain")
    store.s3.put_object(Bucket="bucket", Key="own", Body=b"own", ServerSideEncryption="AES256")
    store.service.fault = (500, {"__type": "KMSInternalException"})
    away = (503, "ServiceUnavailable")
    assert failure(lambda: get(store, "k")) == away
    assert failure(lambda: put(store, "k", b"another")) == away
    assert failure(lambda: put(store, "new", bytes(200 * KIB))) == away
    assert store.s3.head_object(Bucket="bucket", Key="k")["ContentLength"] == len(MARK)
    assert (get(store, "plain"), get(store, "own")) == (b"plain", b"own")

    async def mount() -> int:
        keeper = open_keys(store.config, SystemClock())
        try:
            await through_the_mount(store, keeper, b"k")
        except KeyServiceUnavailableError as error:
            return errno_of(error)
        finally:
            await keeper.close()
        return 0

    assert os.strerror(store.gateway.call(mount())) == "Input/output error"
    store.service.fault = None
    assert get(store, "k") == MARK
    names = [one["Key"] for one in store.s3.list_objects_v2(Bucket="bucket")["Contents"]]
    assert names == ["k", "own", "plain"]


def test_refusals_of_the_service(store: Store) -> None:
    put(store, "k", MARK)
    missing = (400, "KMS.NotFoundException")
    assert failure(lambda: put(store, "new", b"x", SSEKMSKeyId="missing")) == missing
    store.service.disabled.add("first")
    disabled = (400, "KMS.DisabledException")
    assert failure(lambda: put(store, "new", b"x")) == disabled
    assert failure(lambda: get(store, "k")) == disabled
    store.service.disabled.clear()
    kept = store.service.keys.pop("first")
    assert failure(lambda: get(store, "k")) == missing
    store.service.keys["first"] = kept
    assert get(store, "k") == MARK
