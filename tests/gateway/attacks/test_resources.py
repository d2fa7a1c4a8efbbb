"""Little that costs much: documents and objects that grow when they are read, patterns that never
end, names that collide, clients that take their time."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from craqen.core.access.patterns import matches_glob
from craqen.core.access.policy import parse_identity_policy
from craqen.core.limits import MIB
from craqen.gateway import protocol, receive
from craqen.gateway.errors import S3Error
from craqen.gateway.request_documents import parse_delete, parse_tagging
from craqen.gateway.select.job import CsvInput, SelectJob
from craqen.gateway.select.streams import PIECE_BYTES, decompressor
from craqen.gateway.settings import cors
from craqen.tests.gateway.attacks.attack_support import code_of, open_to_all
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway, wait_until

CONNECTIONS = 2000
CONNECTION_BYTES_MAX = 100 * 1024  # of a slow client, both ends of it being in this process


def memory_bytes() -> int:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def took(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


class TestDocuments:
    @pytest.mark.parametrize(
        "body",
        [
            b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
            + b"".join(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9))
            + b"]><Tagging>&a8;</Tagging>",
            b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><Tagging>&a;</Tagging>',
            b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x"><Tagging/>',
            b'<?xml version="1.0" encoding="UTF-16"?><Tagging/>',
            '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a []><Tagging/>'.encode("utf-16"),
            '<!DOCTYPE a [<!ENTITY a "b">]><Tagging>&a;</Tagging>'.encode("utf-7"),
            b'<?xml version="1.0" encoding="cp037"?><Tagging/>',
            b"<Tagging>&undefined;</Tagging>",
            b"<a>" * 200_000,
        ],
    )
    def test_bombs(self, body: bytes) -> None:
        def parse() -> None:
            with pytest.raises(S3Error, match=r"MalformedXML|MaxMessageLength"):
                parse_tagging(body)

        assert took(parse) < 2

    def test_many_attributes_and_depths(self) -> None:
        attributes = b" ".join(b'a%d=""' % number for number in range(60_000))
        deep = b"<a>" * 100_000 + b"</a>" * 100_000
        for body in (
            b"<Delete " + attributes + b"/>",
            b"<Delete>" + deep + b"</Delete>",
            b"<Delete>" + b"x" * (4 * MIB),
        ):

            def parse(body: bytes = body) -> None:
                with pytest.raises(S3Error):
                    parse_delete(body)

            assert took(parse) < 5

    def test_answers_are_well_formed(self, s3: Any, raw: RawClient, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="<&>\"']]>", Body=b"")
        ElementTree.fromstring(raw.get(f"/{bucket}?list-type=2&prefix=%3C").body)

    def test_compressed_objects_do_not_grow_in_memory(self) -> None:
        bomb = gzip.compress(bytes(64 * MIB))
        assert len(bomb) < 100_000
        job = SelectJob("", "csv", "GZIP", CsvInput())
        total, largest = 0, 0
        for piece in decompressor(job.compression).feed(bomb):
            total += len(piece)
            largest = max(largest, len(piece))
        assert total == 64 * MIB
        assert largest <= PIECE_BYTES

    def test_a_record_without_end(self, s3: Any, bucket: str) -> None:
        pytest.importorskip("duckdb")
        s3.put_object(Bucket=bucket, Key="k", Body=gzip.compress(b"a" * (32 * MIB), 1))
        code = code_of(
            s3.select_object_content,
            Bucket=bucket,
            Key="k",
            Expression="SELECT * FROM S3Object",
            ExpressionType="SQL",
            InputSerialization={"CSV": {}, "CompressionType": "GZIP"},
            OutputSerialization={"CSV": {}},
        )
        assert code in ("OverMaxRecordSize", "InvalidRequest")


class TestPatterns:
    def test_policies(self) -> None:
        def ask() -> None:
            for pattern in ("*a" * 4_000 + "b", "*" * 8_000 + "b", "a?*" * 2_000 + "b"):
                assert not matches_glob("a" * 10_000, pattern)

        assert took(ask) < 5

    def test_large_policies(self) -> None:
        statement = {"Effect": "Allow", "Action": ["s3:*a*b*c*d"] * 50, "Resource": ["*x*y*z"] * 50}
        text = json.dumps({"Statement": [statement] * 20})

        def parse() -> None:
            parse_identity_policy(text)

        assert took(parse) < 2

    def test_origins(self) -> None:
        """One wildcard each, as AWS has it: nothing to go back and forth over."""
        rule = "<CORSRule><AllowedOrigin>{}</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        document = f"<CORSConfiguration>{rule}</CORSRule></CORSConfiguration>"
        with pytest.raises(S3Error):
            cors.parse(document.format("*a*a*a*a*a*b").encode())
        rules = cors.parse(document.format("https://*a.org").encode())

        def ask() -> None:
            headers = {"origin": "https://" + "a" * 30_000}
            assert "Access-Control-Allow-Origin" not in cors.response_headers(rules, "GET", headers)

        assert took(ask) < 1


class TestCollisions:
    def test_many_headers_are_refused(self, raw: RawClient, bucket: str) -> None:
        lines = "".join(f"X-{number}: 1\r\n" for number in range(5_000))
        raw.send(f"GET /{bucket} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
        assert raw.answer().status == 400

    def test_many_tags_and_parameters(self, raw: RawClient, bucket: str) -> None:
        tags = "&".join(f"t{number}=1" for number in range(2_000))
        request = raw.signed(
            "PUT", f"/{bucket}/k", {"x-amz-tagging": tags}, content_sha256="UNSIGNED-PAYLOAD"
        )
        raw.send_head(request, {"content-length": "0"})
        assert raw.answer().code in ("InvalidTag", "InvalidArgument", "BadRequest")
        query = "&".join(f"x-{number}=1" for number in range(2_000))
        with RawClient(raw._gateway) as other:
            other.send(f"GET /{bucket}?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert other.answer().status == 400

    def test_hashes_are_not_to_be_guessed(self) -> None:
        """Names from requests are keys of dicts, whose hash is seeded anew in each process."""
        import sys

        assert sys.flags.hash_randomization == 1


class TestManyParts:
    def test_part_numbers_and_pages_are_bounded(self, s3: Any, bucket: str) -> None:
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        named = {"Bucket": bucket, "Key": "k", "UploadId": upload}
        for number in (0, 10_001, 2**31):
            assert code_of(s3.upload_part, **named, PartNumber=number, Body=b"x") == (
                "InvalidArgument"
            )
        parts = [{"PartNumber": number, "ETag": "x"} for number in range(1, 10_002)]
        assert code_of(s3.complete_multipart_upload, **named, MultipartUpload={"Parts": parts}) in (
            "MalformedXML",
            "InvalidArgument",
        )
        for _ in range(30):
            s3.create_multipart_upload(Bucket=bucket, Key="many")
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=10)
        assert len(page["Uploads"]) == 10
        assert page["IsTruncated"]


class TestSlowClients:
    def test_dripping_does_not_buy_time(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A head must be whole in its time, however busily it drips."""
        monkeypatch.setattr(protocol, "KEEPALIVE_SECONDS", 0.5)
        with RawClient(gateway) as client:
            client.send(b"GET / HTTP/1.1\r\nX: ")
            stopped = threading.Event()

            def drip() -> None:
                while not stopped.wait(0.05):
                    try:
                        client.send(b"x")
                    except OSError:
                        return

            thread = threading.Thread(target=drip)
            thread.start()
            began = time.monotonic()
            try:
                client.rest()
            finally:
                stopped.set()
                thread.join()
            assert time.monotonic() - began < 5

    @pytest.mark.parametrize("chunked", [False, True])
    def test_dripping_bodies_do_not_keep_the_room_of_others(
        self, gateway: Gateway, s3: Any, bucket: str, chunked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each holds buffers that all share; who sends next to nothing gives way once others
        wait."""
        for module in (protocol, receive):
            monkeypatch.setattr(module, "IDLE_TIMEOUT_SECONDS", 0.4)
        monkeypatch.setattr(protocol, "SLOW_SECONDS", 0.5)
        length = {"content-length": str(64 * MIB)}
        if chunked:
            length = {"transfer-encoding": "chunked"}
        piece = b"1\r\nx\r\n" if chunked else b"x"
        clients = [RawClient(gateway) for _ in range(6)]
        stopped = threading.Event()
        try:
            for number, client in enumerate(clients):
                request = client.signed(
                    "PUT", f"/{bucket}/slow-{number}", content_sha256="UNSIGNED-PAYLOAD"
                )
                client.send_head(request, length)
                body = bytes(2 * MIB)
                client.send(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)

            def drip() -> None:
                while not stopped.wait(0.1):
                    for client in clients:
                        try:
                            client.send(piece)
                        except OSError:
                            continue

            thread = threading.Thread(target=drip)
            thread.start()
            wait_until(lambda: gateway.free_buffers() == 0)
            s3.put_object(Bucket=bucket, Key="k", Body=bytes(3 * MIB))
        finally:
            stopped.set()
            thread.join()
            for client in clients:
                client.socket.close()
        wait_until(lambda: gateway.free_buffers() == 4)

    def test_two_thousand_of_them(self, gateway: Gateway, s3: Any, bucket: str) -> None:
        """They cost little, and others are served meanwhile."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * CONNECTIONS + 500
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"needs {wanted} descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        before = memory_bytes()
        clients: list[socket.socket] = []
        try:
            for _ in range(CONNECTIONS):
                client = socket.create_connection(("127.0.0.1", gateway.port), 20)
                client.sendall(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nX-Slow: " + b"x" * 1000)
                clients.append(client)
            s3.put_object(Bucket=bucket, Key="k", Body=b"x")
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
            grown = memory_bytes() - before
            assert grown < CONNECTIONS * CONNECTION_BYTES_MAX, f"{grown} bytes"
        finally:
            for client in clients:
                client.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        def served() -> bool:
            return bool(s3.head_bucket(Bucket=bucket))

        wait_until(served)

    def test_who_asks_and_never_reads(self, gateway: Gateway, s3: Any, bucket: str) -> None:
        """Answers wait at the client's end of the connection, not in memory here."""
        s3.put_object(Bucket=bucket, Key="k", Body=bytes(30_000))
        open_to_all(s3, bucket, "s3:GetObject")
        asking = f"GET /{bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode() * 1000
        before = memory_bytes()
        with socket.create_connection(("127.0.0.1", gateway.port), 1) as client:

            def ask() -> None:
                for _ in range(2_000):
                    client.sendall(asking)

            with pytest.raises(TimeoutError):  # the gateway takes no more questions
                ask()
            assert memory_bytes() - before < 64 * MIB
        assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 30_000
