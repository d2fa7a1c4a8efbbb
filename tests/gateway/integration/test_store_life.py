"""A whole store that is killed, started again, or started twice; and one that serves https."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from craqen.core.bench.store import free_port
from craqen.core.limits import KIB, MIB
from craqen.tests.gateway.integration.conftest import make_bucket
from craqen.tests.gateway.integration.running_gateway import wait_until
from craqen.tests.gateway.integration.whole_store import WholeStore, whole_store

SIZES = (100, 40 * KIB, 3 * MIB)
WRITERS = 3
STOP_TIMEOUT_SECONDS = 60.0


class Writer(threading.Thread):
    """Puts and overwrites objects until the store is gone; knows what was acknowledged."""

    def __init__(self, client: Any, bucket: str, number: int) -> None:
        super().__init__()
        self._client = client
        self._bucket = bucket
        self._number = number
        self.acknowledged: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        """What was on its way when the store went."""
        self.removed: set[str] = set()

    def run(self) -> None:
        turn = 0
        try:
            while True:
                turn += 1
                self._turn(f"{self._number}/{turn % 40}", os.urandom(SIZES[turn % 3]))
                if turn % 7 == 0:
                    self._remove(f"{self._number}/{(turn - 3) % 40}")
        except (BotoCoreError, ClientError):
            return

    def _turn(self, key: str, data: bytes) -> None:
        self.unknown = {key: hashlib.sha256(data).hexdigest()}
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        self.acknowledged.update(self.unknown)
        self.removed.discard(key)
        self.unknown = {}

    def _remove(self, key: str) -> None:
        self.unknown = {key: ""}
        self._client.delete_object(Bucket=self._bucket, Key=key)
        self.acknowledged.pop(key, None)
        self.removed.add(key)
        self.unknown = {}

    def check(self, client: Any) -> None:
        """Everything acknowledged is there, with its bytes; what was on its way is there whole or
        not at all."""
        for key in self.acknowledged.keys() | self.removed | self.unknown.keys():
            allowed = {self.acknowledged.get(key, ""), self.unknown.get(key)}
            assert self._stored(client, key) in allowed, key

    def _stored(self, client: Any, key: str) -> str:
        try:
            got = client.get_object(Bucket=self._bucket, Key=key)
        except client.exceptions.NoSuchKey:
            return ""
        return hashlib.sha256(got["Body"].read()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["every process", "the supervisor"])
def test_killed_under_load_it_keeps_what_it_acknowledged(tmp_path: Path, whole: bool) -> None:
    with whole_store(tmp_path / "store") as store:
        client = store.client()
        bucket = make_bucket(client)
        upload = client.create_multipart_upload(Bucket=bucket, Key="multipart")["UploadId"]
        part = {"Bucket": bucket, "Key": "multipart", "UploadId": upload}
        data = os.urandom(5 * MIB)
        etags = [
            client.upload_part(**part, PartNumber=number, Body=data)["ETag"] for number in (1, 2)
        ]
        every: list[Writer] = []
        for turn in range(2 if whole else 1):
            numbers = range(turn * WRITERS, (turn + 1) * WRITERS)
            writers = [Writer(store.client(), bucket, number) for number in numbers]
            every += writers
            for writer in writers:
                writer.start()
            wait_until(lambda: all(len(one.acknowledged) >= 8 for one in writers))  # noqa: B023
            if whole:
                store.kill_all()
            else:
                store.local.kill()
            for writer in writers:
                writer.join()
            store.local.start()
            for writer in every:
                writer.check(client)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        client.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
        assert client.get_object(Bucket=bucket, Key="multipart")["Body"].read() == data * 2
        client.close()


def test_a_second_store_on_the_folder_is_refused(
    store: WholeStore, store_s3: Any, store_bucket: str
) -> None:
    words = [sys.executable, "-m", "craqen.core.cli", "up", "--data", str(store.folder)]
    words += ["--port", str(free_port()), "--workers", "1"]
    second = subprocess.run(
        words, capture_output=True, text=True, timeout=STOP_TIMEOUT_SECONDS, check=False
    )
    assert second.returncode not in (0, None)
    assert str(store.folder) in second.stderr
    assert "Traceback" not in second.stderr
    store_s3.put_object(Bucket=store_bucket, Key="k", Body=b"the first one serves on")


@pytest.fixture(scope="module")
def secure_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStore]:
    """By https, and without grace for what was removed."""
    options = ["CRAQEN_GATEWAY_TLS=true", "CRAQEN_META_REMOVAL_GRACE_SECONDS=0"]
    folder = tmp_path_factory.mktemp("secure-store")
    with whole_store(folder, options=options) as running:
        yield running


@pytest.fixture(scope="module")
def client(secure_store: WholeStore) -> Iterator[Any]:
    client = secure_store.client()
    yield client
    client.close()


@pytest.mark.parametrize("size", [0, 1, *SIZES, 20 * MIB + 1])
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_trailing_checksums(client: Any, size: int, algorithm: str) -> None:
    bucket = make_bucket(client)
    data = os.urandom(size)
    put = client.put_object(Bucket=bucket, Key="k", Body=data, ChecksumAlgorithm=algorithm)
    sent = put["ResponseMetadata"]["HTTPHeaders"]
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data
    assert got[f"Checksum{algorithm}"] == sent[f"x-amz-checksum-{algorithm.lower()}"]


def test_bytes_of_removed_objects_are_freed(secure_store: WholeStore, client: Any) -> None:
    """Overwritten, removed, aborted: in the end nothing of it takes space."""
    bucket = make_bucket(client)
    wait_until(lambda: secure_store.blocks().reserved == 0)
    for entry in client.list_buckets()["Buckets"]:
        for found in client.list_objects_v2(Bucket=entry["Name"]).get("Contents", []):
            client.delete_object(Bucket=entry["Name"], Key=found["Key"])
    wait_until(lambda: secure_store.blocks().used == 0)
    place = {"Bucket": bucket, "Key": "k"}
    for _ in range(2):
        client.put_object(**place, Body=os.urandom(3 * MIB))
    client.delete_object(**place)
    upload = client.create_multipart_upload(**place)["UploadId"]
    for number in (1, 1, 2):
        data = os.urandom(5 * MIB)
        part = client.upload_part(**place, UploadId=upload, PartNumber=number, Body=data)
    client.abort_multipart_upload(**place, UploadId=upload)
    upload = client.create_multipart_upload(**place)["UploadId"]
    for number in (1, 1, 2, 3):
        part = client.upload_part(**place, UploadId=upload, PartNumber=number, Body=data)
    named = {"Parts": [{"PartNumber": 3, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=named)
    assert client.get_object(**place)["Body"].read() == data
    client.copy_object(Bucket=bucket, Key="copy", CopySource=place)
    client.delete_object(**place)
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == data
    client.delete_object(Bucket=bucket, Key="copy")
    wait_until(lambda: secure_store.blocks() == (0, 0))
