"""What a well-behaved client never sends: the error it gets, what becomes of the connection, and
that nothing is stored."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from craqen.core.errors import DataLossError, NoSpaceError
from craqen.core.limits import KIB, MIB
from craqen.gateway import protocol, receive
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import (
    WAIT_SECONDS,
    Gateway,
    running_gateway,
    wait_until,
)
from craqen.tests.gateway.unit.signing_client import encode_signed, encode_unsigned

UNSIGNED = "UNSIGNED-PAYLOAD"


@pytest.fixture
def nothing_stored(gateway: Gateway, s3: Any, bucket: str) -> Iterator[None]:
    """Whatever the test does, afterwards the bucket is empty and no segment was left."""
    before = gateway.segments()
    yield
    wait_until(lambda: gateway.data.open_writers == 0 and gateway.segments() == before)
    gateway.data.mend()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


class TestNoHttp:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello in TLS\r\n\r\n",
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nbroken header line\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 5\r\n\r\n",
        ],
    )
    def test_gets_a_bad_request(self, raw: RawClient, data: bytes) -> None:
        raw.send(data)
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "BadRequest")
        assert answer.headers["connection"] == "close"
        assert raw.is_closed()

    def test_long_header_lines_are_refused(self, raw: RawClient) -> None:
        raw.send(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n")
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "RequestHeaderSectionTooLarge")
        assert raw.is_closed()

    def test_a_head_without_end_is_refused(self, raw: RawClient) -> None:
        lines = b"".join(b"X-%04d: %s\r\n" % (number, b"x" * 8000) for number in range(1000))
        with pytest.raises(ConnectionError):
            raw.send(b"GET / HTTP/1.1\r\n" + lines)

    def test_long_heads_that_are_allowed(self, raw: RawClient, bucket: str) -> None:
        answer = raw.get(f"/{bucket}/k?x-long={'x' * 20_000}")
        assert answer.code == "NoSuchKey"

    def test_slow_heads_end_the_connection(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol, "KEEPALIVE_SECONDS", 0.2)
        with RawClient(gateway) as client:
            client.send(b"GET / HTTP/1.1\r\nHost:")
            assert client.is_closed()


class TestWhoAsks:
    def test_an_unsigned_request_is_denied_and_the_connection_lives(
        self, raw: RawClient, bucket: str
    ) -> None:
        for _ in range(2):
            raw.send(f"GET /{bucket} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            answer = raw.answer()
            assert (answer.status, answer.code) == (403, "AccessDenied")

    def test_even_for_what_is_not_there(self, raw: RawClient, bucket: str) -> None:
        raw.send(f"GET /{bucket}?acl HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert raw.answer().status == 403

    @pytest.mark.usefixtures("nothing_stored")
    def test_a_wrong_signature(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        wrong = request._replace(raw_path=f"/{bucket}/j")
        raw.send_head(wrong, {"content-length": "4"})
        raw.send(b"body")
        answer = raw.answer()
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")

    @pytest.mark.usefixtures("nothing_stored")
    def test_a_wrong_signature_on_a_large_body(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request._replace(raw_path=f"/{bucket}/j"), {"content-length": str(4 * MIB)})
        raw.send(bytes(4 * MIB))
        answer = raw.answer()
        assert answer.code == "SignatureDoesNotMatch"
        assert answer.headers["connection"] == "close"
        assert raw.is_closed()

    def test_errors_of_head_have_no_body(self, raw: RawClient, bucket: str) -> None:
        raw.send(f"HEAD /{bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert raw.answer(head_only=True).status == 403
        assert raw.get(f"/{bucket}/k").status == 404

    def test_methods_that_are_not(self, raw: RawClient, bucket: str) -> None:
        raw.send_head(raw.signed("PATCH", f"/{bucket}/k"), {"content-length": "0"})
        answer = raw.answer()
        assert (answer.status, answer.code) == (405, "MethodNotAllowed")
        assert "PUT" in answer.headers["allow"]


@pytest.mark.usefixtures("nothing_stored")
class TestBodiesThatFail:
    @pytest.mark.parametrize("size", [1000, 50_000, 3 * MIB])
    def test_a_short_body(self, raw: RawClient, bucket: str, size: int) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(size)})
        raw.send(bytes(size - 1))
        raw.socket.shutdown(socket.SHUT_WR)
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "IncompleteBody")
        assert raw.is_closed()

    @pytest.mark.parametrize("sent", [0, 1000, 100_000, 2 * MIB + 7])
    def test_a_client_that_vanishes(
        self, gateway: Gateway, raw: RawClient, bucket: str, sent: int
    ) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(3 * MIB)})
        raw.send(bytes(sent))
        if sent > 2 * MIB:
            wait_until(lambda: gateway.data.open_writers == 1)
        raw.socket.close()
        if sent > 2 * MIB:
            assert gateway.data.aborted.wait(WAIT_SECONDS)

    def test_a_reset_connection(self, gateway: Gateway, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(8 * MIB)})
        raw.send(bytes(4 * MIB))
        wait_until(lambda: gateway.data.open_writers == 1)
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.socket.close()
        assert gateway.data.aborted.wait(WAIT_SECONDS)

    @pytest.mark.parametrize("size", [1000, 300_000])
    def test_a_client_that_falls_silent(
        self, gateway: Gateway, bucket: str, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (protocol, receive):
            monkeypatch.setattr(module, "IDLE_TIMEOUT_SECONDS", 0.2)
        monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.2)
        with RawClient(gateway) as client:
            request = client.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
            client.send_head(request, {"content-length": str(size)})
            client.send(bytes(size // 2))
            answer = client.answer()
            assert (answer.status, answer.code) == (400, "RequestTimeout")
            assert client.is_closed()

    def test_too_large_a_body_is_not_waited_for(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(6 << 30), "expect": "100-continue"})
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "EntityTooLarge")
        assert raw.is_closed()

    def test_no_length_at_all(self, raw: RawClient, bucket: str) -> None:
        raw.send_head(raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED))
        answer = raw.answer()
        assert (answer.status, answer.code) == (411, "MissingContentLength")

    @pytest.mark.parametrize("size", [100_000, 3 * MIB])
    def test_a_full_store(self, gateway: Gateway, raw: RawClient, bucket: str, size: int) -> None:
        gateway.data.write_error = NoSpaceError("target 1: no space")
        answer = raw.put(f"/{bucket}/k", bytes(size))
        assert (answer.status, answer.code) == (507, "InsufficientStorage")
        gateway.data.mend()
        with RawClient(gateway) as client:
            assert client.get(f"/{bucket}/k").status == 404

    def test_a_refusal_in_the_middle_reaches_a_client_that_goes_on_sending(
        self, gateway: Gateway, raw: RawClient, bucket: str
    ) -> None:
        gateway.data.write_error = NoSpaceError("target 1: no space")
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(32 * MIB)})
        for _ in range(32):
            raw.send(bytes(MIB))
        answer = raw.answer()
        assert answer.status == 507
        assert answer.headers["connection"] == "close"
        assert raw.is_closed()


class TestExpect:
    def test_the_body_is_asked_for(self, raw: RawClient, bucket: str) -> None:
        for size in (0, 10, 100_000, 2 * MIB):
            data = os.urandom(size)
            request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
            raw.send_head(request, {"content-length": str(size), "expect": "100-continue"})
            if size:
                assert raw.status_line() == "HTTP/1.1 100 Continue"
            raw.send(data)
            assert raw.answer().status == 200
            assert raw.get(f"/{bucket}/k").body == data

    def test_a_client_that_does_not_wait(self, raw: RawClient, bucket: str) -> None:
        for size in (10, 100_000, 2 * MIB):
            data = os.urandom(size)
            request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
            raw.send_head(request, {"content-length": str(size), "expect": "100-continue"})
            raw.send(data)
            answer = raw.answer_behind_continue()
            assert answer.status == 200
            assert raw.get(f"/{bucket}/k").body == data

    @pytest.mark.parametrize(
        ("path", "headers", "code"),
        [
            ("/no-such-bucket/k", {}, "NoSuchBucket"),
            ("/{bucket}/k", {"If-Match": '"x"'}, "NoSuchKey"),
            ("/{bucket}/there", {"If-None-Match": "*"}, "PreconditionFailed"),
            ("/{bucket}/k", {"x-amz-storage-class": "PAPER"}, "InvalidStorageClass"),
            ("/{bucket}/k", {"Content-MD5": "nonsense"}, "InvalidDigest"),
        ],
    )
    def test_what_can_be_refused_is_refused_before(
        self, raw: RawClient, bucket: str, path: str, headers: dict[str, str], code: str
    ) -> None:
        raw.put(f"/{bucket}/there", b"x")
        request = raw.signed("PUT", path.format(bucket=bucket), headers, content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": str(5 << 30), "expect": "100-continue"})
        answer = raw.answer()
        assert answer.code == code
        assert answer.headers["connection"] == "close"
        assert raw.is_closed()

    def test_a_stranger_is_never_asked_for_a_body(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(
            request._replace(raw_path=f"/{bucket}/j"),
            {"content-length": "1000000", "expect": "100-continue"},
        )
        assert raw.answer().code == "SignatureDoesNotMatch"
        assert raw.is_closed()


class TestChunks:
    MODE = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

    def send(
        self, raw: RawClient, bucket: str, payload: bytes, damage: Callable[[bytes], bytes]
    ) -> None:
        request = raw.signed(
            "PUT",
            f"/{bucket}/k",
            {"x-amz-decoded-content-length": str(len(payload)), "content-encoding": "aws-chunked"},
            content_sha256=self.MODE,
        )
        body = damage(encode_signed(request, payload, 64 * KIB))
        raw.send_head(request, {"content-length": str(len(body))})
        raw.send(body)

    @pytest.mark.parametrize("size", [0, 1, 30_000, 100_000, 3 * MIB + 5])
    def test_signed_chunks(self, raw: RawClient, bucket: str, size: int) -> None:
        payload = os.urandom(size)
        self.send(raw, bucket, payload, lambda body: body)
        assert raw.answer().status == 200
        got = raw.get(f"/{bucket}/k")
        assert got.body == payload
        assert "content-encoding" not in got.headers

    @pytest.mark.usefixtures("nothing_stored")
    @pytest.mark.parametrize("size", [1000, 100_000, 3 * MIB])
    @pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
    def test_a_changed_byte_is_seen(
        self, raw: RawClient, bucket: str, size: int, place: float
    ) -> None:
        payload = os.urandom(size)

        def damage(body: bytes) -> bytes:
            at = body.index(payload[int(size * place) :][:8])
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

        self.send(raw, bucket, payload, damage)
        answer = raw.answer()
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")

    @pytest.mark.usefixtures("nothing_stored")
    @pytest.mark.parametrize("size", [1000, 100_000, 3 * MIB])
    def test_framing_that_breaks_off(self, raw: RawClient, bucket: str, size: int) -> None:
        self.send(raw, bucket, os.urandom(size), lambda body: body[:-90])
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "IncompleteBody")

    @pytest.mark.usefixtures("nothing_stored")
    def test_a_length_must_be_stated(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=self.MODE)
        raw.send_head(request, {"content-length": "100"})
        raw.send(bytes(100))
        answer = raw.answer()
        assert (answer.status, answer.code) == (411, "MissingContentLength")

    @pytest.mark.parametrize("size", [0, 1000, 3 * MIB + 5])
    def test_both_kinds_of_chunks_at_once(self, raw: RawClient, bucket: str, size: int) -> None:
        """aws-chunked inside Transfer-Encoding: chunked, and asked for with Expect."""
        payload = os.urandom(size)
        request = raw.signed(
            "PUT",
            f"/{bucket}/k",
            {"x-amz-decoded-content-length": str(size), "content-encoding": "aws-chunked,gzip"},
            content_sha256=self.MODE,
        )
        body = encode_signed(request, payload, 64 * KIB)
        raw.send_head(request, {"transfer-encoding": "chunked", "expect": "100-continue"})
        assert raw.status_line() == "HTTP/1.1 100 Continue"
        for start in range(0, len(body), 50_000):
            piece = body[start : start + 50_000]
            raw.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        raw.send(b"0\r\n\r\n")
        assert raw.answer().status == 200
        got = raw.get(f"/{bucket}/k")
        assert (got.body, got.headers["content-encoding"]) == (payload, "gzip")

    @pytest.mark.usefixtures("nothing_stored")
    def test_a_wrong_trailer(self, raw: RawClient, bucket: str) -> None:
        for payload in (b"x" * 1000, os.urandom(200_000)):
            request = raw.signed(
                "PUT",
                f"/{bucket}/k",
                {
                    "x-amz-decoded-content-length": str(len(payload)),
                    "x-amz-trailer": "x-amz-checksum-crc32",
                },
                content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            )
            body = encode_unsigned(payload, 64 * KIB, {"x-amz-checksum-crc32": "AAAAAA=="})
            raw.send_head(request, {"content-length": str(len(body))})
            raw.send(body)
            answer = raw.answer()
            assert (answer.status, answer.code) == (400, "BadDigest")


class TestLostData:
    @pytest.fixture
    def data(self, raw: RawClient, bucket: str) -> bytes:
        data = os.urandom(20 * MIB)
        assert raw.put(f"/{bucket}/precious%20key", data).status == 200
        return data

    @pytest.mark.usefixtures("data")
    def test_is_an_error_before_the_first_byte(
        self, gateway: Gateway, raw: RawClient, bucket: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        gateway.data.locate_error = DataLossError("chunk 17.0: damaged")
        answer = raw.get(f"/{bucket}/precious%20key")
        assert (answer.status, answer.code) == (500, "InternalError")
        assert f"/{bucket}/precious" in caplog.text
        assert "chunk 17.0" in caplog.text
        gateway.data.mend()
        assert raw.get(f"/{bucket}/precious%20key").status == 200

    def test_cuts_the_connection_in_the_middle(
        self,
        gateway: Gateway,
        raw: RawClient,
        bucket: str,
        data: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        gateway.data.locate_error = DataLossError("chunk 17.2: damaged")
        gateway.data.locate_error_from = 17 * MIB
        raw.send_head(raw.signed("GET", f"/{bucket}/precious%20key"))
        head, _, body = raw.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) < len(data)
        assert data.startswith(body), "nothing is ever padded"
        assert "chunk 17.2" in caplog.text


class TestDocuments:
    def post(self, raw: RawClient, target: str, document: bytes) -> str:
        raw.send_head(raw.signed("POST", target, body=document), self.length(document))
        raw.send(document)
        return raw.answer().code

    def length(self, document: bytes) -> dict[str, str]:
        digest = base64.b64encode(hashlib.md5(document).digest()).decode()
        return {"content-length": str(len(document)), "content-md5": digest}

    def test_what_is_no_document_of_ours(self, raw: RawClient, bucket: str) -> None:
        for document in (
            b"",
            b"no xml",
            b"<Delete>",
            b"<Other/>",
            b"<!DOCTYPE x [<!ENTITY a 'b'>]><Delete><Object><Key>&a;</Key></Object></Delete>",
            b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
        ):
            code = self.post(raw, f"/{bucket}?delete", document)
            assert code in ("MalformedXML", "MissingRequestBodyError"), document[:40]

    def test_too_large_a_document(self, raw: RawClient, bucket: str) -> None:
        document = b"<Delete>" + b" " * (5 * MIB)
        assert self.post(raw, f"/{bucket}?delete", document) == "EntityTooLarge"


def test_one_connection_too_many(tmp_path: Path) -> None:
    with running_gateway(tmp_path, connections_max=2) as gateway:
        with RawClient(gateway) as first, RawClient(gateway) as second:
            assert first.get("/").status == second.get("/").status == 200
            with RawClient(gateway) as third:
                answer = third.answer()
                assert (answer.status, answer.code) == (503, "SlowDown")
                assert third.is_closed()
            assert first.get("/").status == 200

        def has_room() -> bool:
            with RawClient(gateway) as client:
                client.send_head(client.signed("GET", "/"))
                return client.answer().status == 200

        wait_until(has_room)
