"""Against a whole store: what fails leaves no block behind; what is damaged on disk is an error."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import KIB, MIB
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import wait_until
from craqen.tests.gateway.integration.whole_store import WholeStore
from craqen.tests.gateway.unit.signing_client import encode_signed, encode_unsigned

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIZES = [1000, 40 * KIB, 3 * MIB]
"""In the record; in one block; more than a receive buffer."""


@pytest.fixture
def client(store: WholeStore) -> Iterator[RawClient]:
    with RawClient(store) as client:
        yield client


@pytest.fixture
def nothing_stored(store: WholeStore, store_s3: Any, store_bucket: str) -> Iterator[None]:
    """Whatever the test does, afterwards the bucket is empty and the blocks are as before."""
    before = store.blocks()
    assert before.reserved == 0
    yield
    wait_until(lambda: store.blocks() == before)
    assert store_s3.list_objects_v2(Bucket=store_bucket)["KeyCount"] == 0
    assert "Uploads" not in store_s3.list_multipart_uploads(Bucket=store_bucket)


def test_blocks_are_counted(store: WholeStore, store_s3: Any, store_bucket: str) -> None:
    """The counter that the tests below rely on does count."""
    before = store.blocks()
    store_s3.put_object(Bucket=store_bucket, Key="k", Body=os.urandom(3 * MIB))
    assert store.blocks().used > before.used


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("size", SIZES)
class TestFailedBodies:
    def test_short(self, client: RawClient, store_bucket: str, size: int) -> None:
        request = client.signed("PUT", f"/{store_bucket}/k", content_sha256=UNSIGNED)
        client.send_head(request, {"content-length": str(size)})
        client.send(os.urandom(size - 1))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().code == "IncompleteBody"
        assert client.is_closed()

    def test_vanished(
        self, store: WholeStore, client: RawClient, store_bucket: str, size: int
    ) -> None:
        request = client.signed("PUT", f"/{store_bucket}/k", content_sha256=UNSIGNED)
        client.send_head(request, {"content-length": str(size)})
        client.send(os.urandom(size * 3 // 4))
        if size > MIB:
            wait_until(lambda: store.blocks().reserved > 0)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()

    def test_wrong_content_md5(self, client: RawClient, store_bucket: str, size: int) -> None:
        wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        answer = client.put(f"/{store_bucket}/k", os.urandom(size), {"content-md5": wrong})
        assert (answer.status, answer.code) == (400, "BadDigest")
        assert client.get(f"/{store_bucket}/k").code == "NoSuchKey", "the connection lives"

    @pytest.mark.parametrize("digest_bytes", [("crc32", 4), ("sha256", 32), ("crc64nvme", 8)])
    def test_wrong_checksum(
        self, client: RawClient, store_bucket: str, size: int, digest_bytes: tuple[str, int]
    ) -> None:
        name, length = digest_bytes
        headers = {f"x-amz-checksum-{name}": base64.b64encode(bytes(length)).decode()}
        request = client.signed("PUT", f"/{store_bucket}/k", headers, content_sha256=UNSIGNED)
        client.send_head(request, {"content-length": str(size)})
        client.send(os.urandom(size))
        answer = client.answer()
        assert (answer.status, answer.code) == (400, "BadDigest")

    def test_wrong_payload_digest(self, client: RawClient, store_bucket: str, size: int) -> None:
        request = client.signed("PUT", f"/{store_bucket}/k", body=os.urandom(size))
        client.send_head(request, {"content-length": str(size)})
        client.send(os.urandom(size))
        answer = client.answer()
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")

    @pytest.mark.parametrize("last", [False, True])
    def test_wrong_chunk_signature(
        self, client: RawClient, store_bucket: str, size: int, last: bool
    ) -> None:
        payload = os.urandom(size)
        headers = {"x-amz-decoded-content-length": str(size)}
        request = client.signed("PUT", f"/{store_bucket}/k", headers, content_sha256=SIGNED_CHUNKS)
        body = bytearray(encode_signed(request, payload, 16 * KIB))
        if last:  # in the signature of the empty chunk at the end
            body[-5] = ord("0") if body[-5] != ord("0") else ord("1")
        else:
            body[body.index(payload[-8:])] ^= 1
        client.send_head(request, {"content-length": str(len(body))})
        client.send(bytes(body))
        answer = client.answer()
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")

    def test_wrong_trailer(self, client: RawClient, store_bucket: str, size: int) -> None:
        headers = {
            "x-amz-decoded-content-length": str(size),
            "x-amz-trailer": "x-amz-checksum-crc32",
        }
        request = client.signed(
            "PUT", f"/{store_bucket}/k", headers, content_sha256=UNSIGNED_CHUNKS
        )
        trailer = {"x-amz-checksum-crc32": "AAAAAA=="}
        body = encode_unsigned(os.urandom(size), 16 * KIB, trailer)
        client.send_head(request, {"content-length": str(len(body))})
        client.send(body)
        assert client.answer().code == "BadDigest"

    def test_condition_that_fails_in_the_end(
        self, store_s3: Any, client: RawClient, store_bucket: str, size: int
    ) -> None:
        """Asked for the body, because the key was free; taken when the body had come."""
        request = client.signed(
            "PUT", f"/{store_bucket}/k", {"If-None-Match": "*"}, content_sha256=UNSIGNED
        )
        client.send_head(request, {"content-length": str(size), "expect": "100-continue"})
        assert client.status_line() == "HTTP/1.1 100 Continue"
        store_s3.put_object(Bucket=store_bucket, Key="k", Body=b"first")
        client.send(os.urandom(size))
        answer = client.answer()
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
        store_s3.delete_object(Bucket=store_bucket, Key="k")


class TestDamagedBlock:
    @pytest.mark.parametrize("read_before", [False, True])
    def test_is_an_error_and_never_data(
        self,
        store: WholeStore,
        store_s3: Any,
        client: RawClient,
        store_bucket: str,
        read_before: bool,
    ) -> None:
        data, other = os.urandom(3 * MIB), os.urandom(3 * MIB)
        assert client.put(f"/{store_bucket}/damaged", data).status == 200
        assert client.put(f"/{store_bucket}/whole", other).status == 200
        if read_before:
            assert client.get(f"/{store_bucket}/damaged").body == data
        store.flip_byte(data[2 * MIB + 5 :][:64])
        for _ in range(2):
            answer = client.get(f"/{store_bucket}/damaged")
            assert (answer.status, answer.code) == (500, "InternalError")
            assert data[:16] not in answer.body
        told = [line for line in store.log().splitlines() if f"/{store_bucket}/damaged" in line]
        assert told, "the log names the object"
        assert all("chunk" in line for line in told), told
        assert client.get(f"/{store_bucket}/whole").body == other
        answer = client.put(f"/{store_bucket}/damaged", other)
        assert answer.status == 200, "a damaged object can be replaced"
        assert client.get(f"/{store_bucket}/damaged").body == other

    def test_far_into_a_body_cuts_the_connection(
        self, store: WholeStore, client: RawClient, store_bucket: str
    ) -> None:
        data = os.urandom(40 * MIB)
        assert client.put(f"/{store_bucket}/long", data).status == 200
        store.flip_byte(data[39 * MIB + 5 :][:64])
        client.send_head(client.signed("GET", f"/{store_bucket}/long"))
        _, _, body = client.rest().partition(b"\r\n\r\n")
        assert len(body) <= 39 * MIB
        assert data.startswith(body), "nothing damaged, nothing padded"
        with RawClient(store) as other:
            other.send_head(
                other.signed("GET", f"/{store_bucket}/long", {"Range": f"bytes=0-{MIB - 1}"})
            )
            assert other.answer().body == data[:MIB], "the rest of it can be read"
        told = [line for line in store.log().splitlines() if f"{store_bucket}/long" in line]
        assert told
        assert all("chunk" in line for line in told), told

    def test_is_not_copied_into_a_part(
        self, store: WholeStore, store_s3: Any, store_bucket: str
    ) -> None:
        data = os.urandom(3 * MIB)
        source = {"Bucket": store_bucket, "Key": "source"}
        store_s3.put_object(**source, Body=data)
        store.flip_byte(data[MIB + 5 :][:64])
        place = {"Bucket": store_bucket, "Key": "k"}
        place["UploadId"] = store_s3.create_multipart_upload(**place)["UploadId"]
        with pytest.raises(ClientError) as error:
            store_s3.upload_part_copy(
                **place, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=5-{2 * MIB}"
            )
        assert error.value.response["Error"]["Code"] == "InternalError"
        assert "Parts" not in store_s3.list_parts(**place)
