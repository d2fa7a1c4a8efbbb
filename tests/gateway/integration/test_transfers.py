"""How bytes travel: https and its trailers, pipelines, half-closed connections, many clients at
once, slow clients, objects replaced under a reader."""

from __future__ import annotations

import os
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from craqen.core.limits import KIB, MIB
from craqen.gateway import sendfile
from craqen.gateway.auth.request import SignedRequest
from craqen.tests.gateway.integration.conftest import make_bucket
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import (
    Gateway,
    running_gateway,
    wait_until,
)
from craqen.tests.gateway.integration.test_hostile import UNSIGNED


class TestHttps:
    @pytest.mark.parametrize("size", [0, 1000, 100_000, MIB, 9 * MIB + 1])
    def test_bytes_come_back(self, secure_s3: Any, secure_bucket: str, size: int) -> None:
        """By https botocore sends the checksum as a trailer of an unsigned aws-chunked body."""
        data = os.urandom(size)
        put = secure_s3.put_object(Bucket=secure_bucket, Key="k", Body=data)
        assert "ChecksumCRC32" in put
        got = secure_s3.get_object(Bucket=secure_bucket, Key="k")
        assert got["Body"].read() == data
        assert "ContentEncoding" not in got

    def test_every_checksum_as_a_trailer(self, secure_s3: Any, secure_bucket: str) -> None:
        data = os.urandom(300_000)
        for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
            put = secure_s3.put_object(
                Bucket=secure_bucket, Key="k", Body=data, ChecksumAlgorithm=algorithm
            )
            got = secure_s3.get_object(Bucket=secure_bucket, Key="k", ChecksumMode="ENABLED")
            member = f"Checksum{algorithm}"
            assert got[member] == put[member]
            assert got["Body"].read() == data

    def test_multipart(self, secure_s3: Any, secure_bucket: str) -> None:
        target = {"Bucket": secure_bucket, "Key": "k"}
        upload = secure_s3.create_multipart_upload(**target)["UploadId"]
        parts = [os.urandom(5 * MIB), b"!"]
        named = []
        for number, data in enumerate(parts, 1):
            answer = secure_s3.upload_part(**target, UploadId=upload, PartNumber=number, Body=data)
            named.append(
                {
                    "PartNumber": number,
                    "ETag": answer["ETag"],
                    "ChecksumCRC32": answer["ChecksumCRC32"],
                }
            )
        done = secure_s3.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload={"Parts": named}
        )
        assert done["Location"].startswith("https://")
        assert secure_s3.get_object(**target)["Body"].read() == b"".join(parts)

    def test_ranges_and_many_clients(
        self, secure_gateway: Gateway, secure_s3: Any, secure_bucket: str
    ) -> None:
        data = os.urandom(3 * MIB)
        secure_s3.put_object(Bucket=secure_bucket, Key="k", Body=data)

        def read(start: int) -> bool:
            end = start + 500_000
            answer = secure_s3.get_object(
                Bucket=secure_bucket, Key="k", Range=f"bytes={start}-{end - 1}"
            )
            return bool(answer["Body"].read() == data[start:end])

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(0, 2_000_000, 100_000)))
        assert secure_gateway.free_buffers() == 4


def whole(request: SignedRequest, body: bytes = b"") -> bytes:
    """A request as one piece of bytes."""
    target = request.raw_path + (f"?{request.raw_query}" if request.raw_query else "")
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.method == "PUT":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class TestConnections:
    def put(self, raw: RawClient, path: str, body: bytes) -> bytes:
        return whole(raw.signed("PUT", path, content_sha256=UNSIGNED), body)

    def test_requests_may_follow_each_other_without_waiting(
        self, raw: RawClient, bucket: str
    ) -> None:
        bodies = {"a": b"x" * 10, "b": os.urandom(3 * MIB), "c": b"", "d": os.urandom(100_000)}
        stream = b""
        for key, body in bodies.items():
            stream += self.put(raw, f"/{bucket}/{key}", body)
            stream += whole(raw.signed("GET", f"/{bucket}/{key}"))
        sender = threading.Thread(target=raw.send, args=(stream,))
        sender.start()
        for body in bodies.values():
            assert raw.answer().status == 200
            assert raw.answer().body == body
        sender.join()

    def test_byte_by_byte(self, raw: RawClient, bucket: str) -> None:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in self.put(raw, f"/{bucket}/k", b"slowly"):
            raw.send(bytes([byte]))
        assert raw.answer().status == 200
        assert raw.get(f"/{bucket}/k").body == b"slowly"

    @pytest.mark.parametrize("step", [777, 65_537, 1_048_577])
    def test_in_pieces_of_any_size(self, raw: RawClient, bucket: str, step: int) -> None:
        body = os.urandom(400_000 if step < 1000 else 4 * MIB + 11)
        stream = self.put(raw, f"/{bucket}/k", body)
        for start in range(0, len(stream), step):
            raw.send(stream[start : start + step])
        assert raw.answer().status == 200
        assert raw.get(f"/{bucket}/k").body == body

    def test_a_client_that_closes_its_half_gets_everything(
        self, raw: RawClient, bucket: str
    ) -> None:
        body = os.urandom(20 * MIB)
        assert raw.put(f"/{bucket}/k", body).status == 200
        raw.send(whole(raw.signed("GET", f"/{bucket}/k")) * 2)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.answer().body == body
        assert raw.answer().body == body
        assert raw.is_closed()

    @pytest.mark.parametrize("size", [100, 3 * MIB])
    def test_connection_close_is_honoured(self, raw: RawClient, bucket: str, size: int) -> None:
        body = os.urandom(size)
        raw.put(f"/{bucket}/k", body)
        raw.send_head(raw.signed("GET", f"/{bucket}/k"), {"connection": "close"})
        answer = raw.answer()
        assert (answer.body, answer.headers["connection"]) == (body, "close")
        assert raw.is_closed()

    def test_plain_transfer_encoding(self, raw: RawClient, bucket: str) -> None:
        body = os.urandom(2 * MIB)
        raw.send_head(
            raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED),
            {"transfer-encoding": "chunked"},
        )
        for start in range(0, len(body), 100_000):
            piece = body[start : start + 100_000]
            raw.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        raw.send(b"0\r\n\r\n")
        assert raw.answer().status == 200
        assert raw.get(f"/{bucket}/k").body == body

    def test_more_uploads_than_buffers(self, gateway: Gateway, bucket: str) -> None:
        """Four buffers serve ten clients at once."""
        bodies = {f"k{number}": os.urandom(3 * MIB + number) for number in range(10)}
        all_begun = threading.Barrier(len(bodies))

        def put(key: str) -> int:
            with RawClient(gateway) as client:
                stream = self.put(client, f"/{bucket}/{key}", bodies[key])
                client.send(stream[: 100 * KIB])
                all_begun.wait()
                client.send(stream[100 * KIB :])
                return client.answer().status

        with ThreadPoolExecutor(len(bodies)) as pool:
            assert set(pool.map(put, bodies)) == {200}
        with RawClient(gateway) as client:
            for key, body in bodies.items():
                assert client.get(f"/{bucket}/{key}").body == body


class TestSlowReaders:
    def test_places_are_looked_up_anew_when_their_time_is_over(
        self, gateway: Gateway, raw: RawClient, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = os.urandom(24 * MIB)
        raw.put(f"/{bucket}/k", body)
        monkeypatch.setattr(gateway.data, "lease_seconds", 0.001)
        gateway.data.locate_calls = 0
        assert raw.get(f"/{bucket}/k").body == body
        assert gateway.data.locate_calls > 6

    def test_a_slow_client_gets_copies(
        self, raw: RawClient, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendfile, "SLOW_SECONDS", 0.0)
        body = os.urandom(10 * MIB)
        raw.put(f"/{bucket}/k", body)
        assert raw.get(f"/{bucket}/k").body == body

    def test_a_client_that_takes_nothing_is_cut_off(
        self, gateway: Gateway, bucket: str, raw: RawClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendfile, "STALL_TIMEOUT_SECONDS", 0.3)
        body = os.urandom(24 * MIB)
        raw.put(f"/{bucket}/k", body)
        with RawClient(gateway) as client:
            client.send_head(client.signed("GET", f"/{bucket}/k"))
            reset = select.poll()
            reset.register(client.socket, 0)  # errors are always told
            assert reset.poll(20_000), "the connection is still open"
            assert len(client.rest()) < len(body)

    def test_an_object_replaced_under_a_reader_is_sent_to_its_end(self, tmp_path: Path) -> None:
        """Once the sending takes long, a session keeps the bytes."""
        body = os.urandom(40 * MIB)
        with running_gateway(tmp_path, removal_grace_seconds=0.2) as gateway:
            gateway.data.lease_seconds = 0.05
            client = gateway.client()
            bucket = make_bucket(client)
            client.close()
            with RawClient(gateway) as reader, RawClient(gateway) as writer:
                assert writer.put(f"/{bucket}/k", body).status == 200
                inode_id = gateway.inode_id(bucket, b"k")
                reader.send_head(reader.signed("GET", f"/{bucket}/k"))
                wait_until(lambda: gateway.session_count(inode_id) == 1)
                assert writer.put(f"/{bucket}/k", b"new").status == 200
                assert reader.answer().body == body
                wait_until(lambda: gateway.session_count(inode_id) == 0)
                assert reader.get(f"/{bucket}/k").body == b"new"
