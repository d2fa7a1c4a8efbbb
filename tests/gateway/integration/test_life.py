"""How a worker ends, what it is protected by, and how many buffers it has."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from craqen.core.errors import ConfigError
from craqen.core.limits import MIB
from craqen.core.options import Config, GatewayOptions
from craqen.gateway.buffers import BUFFER_BYTES, BufferPool
from craqen.gateway.server import DRAIN_SECONDS
from craqen.gateway.tls import Certificates
from craqen.tests.gateway.integration.conftest import make_bucket
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway, running_gateway, wait_until
from craqen.tests.gateway.integration.test_hostile import UNSIGNED


class TestStopping:
    def test_idle_connections_do_not_hold_it_up(self, tmp_path: Path) -> None:
        with running_gateway(tmp_path) as gateway, RawClient(gateway) as client:
            assert client.get("/").status == 200
            with RawClient(gateway):
                started = time.monotonic()
                gateway.stop()
                assert time.monotonic() - started < DRAIN_SECONDS / 2
            assert client.is_closed()

    @pytest.mark.parametrize("size", [1000, 40_000, 3 * MIB])
    def test_an_upload_under_way_comes_to_its_end(self, tmp_path: Path, size: int) -> None:
        with running_gateway(tmp_path) as gateway, RawClient(gateway) as client:
            boto = gateway.client()
            bucket = make_bucket(boto)
            boto.close()
            request = client.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
            client.send_head(request, {"content-length": str(size), "expect": "100-continue"})
            assert client.status_line() == "HTTP/1.1 100 Continue"
            client.send(bytes(size // 2))
            stopping = threading.Thread(target=gateway.stop)
            stopping.start()
            wait_until(lambda: not takes_connections(gateway))
            client.send(bytes(size - size // 2))
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert client.is_closed()
            stopping.join()


def takes_connections(gateway: Gateway) -> bool:
    try:
        RawClient(gateway).socket.close()
    except (ConnectionRefusedError, ConnectionResetError):
        return False  # reset: it was still in the queue of the socket that was closed
    return True


def test_an_offer_of_another_protocol_is_declined(raw: RawClient, bucket: str) -> None:
    """As Java's client makes it with its first request."""
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AA"}
    for _ in range(2):
        raw.send_head(raw.signed("GET", f"/{bucket}?location"), upgrade)
        assert raw.answer().status == 200
    assert raw.put(f"/{bucket}/k", bytes(MIB), upgrade).status == 200
    assert raw.get(f"/{bucket}/k").body == bytes(MIB)


class TestCertificates:
    def config(self, folder: Path, certificate: str = "") -> Config:
        options = GatewayOptions(tls=True, tls_certificate=certificate)
        return Config(data_folder=str(folder), gateway=options)

    def test_one_is_made_once(self, tmp_path: Path) -> None:
        Certificates(self.config(tmp_path))
        key = tmp_path / "tls" / "key.pem"
        first = key.read_bytes()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        Certificates(self.config(tmp_path))
        assert key.read_bytes() == first

    def test_files_that_cannot_be_used_are_named(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("no certificate")
        for path in (wrong, tmp_path / "missing.pem"):
            with pytest.raises(ConfigError, match=path.name):
                Certificates(self.config(tmp_path, str(path)))

    def test_new_files_are_taken_on_request(self, tmp_path: Path) -> None:
        certificates = Certificates(self.config(tmp_path))
        (tmp_path / "tls" / "certificate.pem").write_text("damaged")
        with pytest.raises(ConfigError):
            certificates.reload()
        (tmp_path / "tls" / "certificate.pem").unlink()
        Certificates(self.config(tmp_path))
        certificates.reload()


class TestBufferPool:
    def test_whoever_waits_longest_is_served_first(self) -> None:
        async def work() -> None:
            pool = BufferPool(2)
            first, second = await pool.take(), await pool.take()
            assert len(first) == len(second) == BUFFER_BYTES
            assert pool.take_now() is None
            waiting = [asyncio.create_task(pool.take()) for _ in range(3)]
            await asyncio.sleep(0)
            pool.give(first)
            assert await waiting[0] is first
            waiting[1].cancel()
            pool.give(second)
            assert await waiting[2] is second
            pool.give(first)
            assert pool.take_now() is first

        asyncio.run(work())

    def test_a_buffer_given_to_someone_who_just_left_is_not_lost(self) -> None:
        async def work() -> None:
            pool = BufferPool(1)
            buffer = await pool.take()
            waiting = asyncio.create_task(pool.take())
            await asyncio.sleep(0)
            pool.give(buffer)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert pool.take_now() is buffer

        asyncio.run(work())


def test_memory_stays_small(gateway: Gateway, raw: RawClient, bucket: str) -> None:
    """A large upload and download leave the process about as large as it was."""

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    piece = os.urandom(MIB)
    assert raw.put(f"/{bucket}/warm", piece * 8).status == 200
    before = resident_bytes()
    request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
    raw.send_head(request, {"content-length": str(256 * MIB)})
    for _ in range(256):
        raw.send(piece)
    assert raw.answer().status == 200
    raw.send_head(raw.signed("GET", f"/{bucket}/k"))
    received = 0
    while received < 256 * MIB:
        data = raw.socket.recv(MIB)
        assert data
        received += len(data)
    assert resident_bytes() - before < 32 * MIB
