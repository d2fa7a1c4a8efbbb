"""One suite for every transport: what a caller may rely on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from craqen.core.errors import (
    ChecksumMismatchError,
    CraqenError,
    DataLossError,
    DeadlineExceededError,
    NoSpaceError,
    OperatorError,
    PreconditionFailedError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.transport.port import Answer, Connection, IncomingRequest, Server
from craqen.core.transport.registry import transport_for
from craqen.core.wire.framing import FrameKind, frame_head

Scenario = Callable[[Connection, "Service"], Awaitable[None]]

ECHO, FETCH, STORE, FAIL, HANG, CRASH, FILES, FROM_FILE = range(1, 9)


class Service:
    """A handler with one method for each thing that handlers do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = os.open(folder / "shared", os.O_RDWR | os.O_CREAT)
        self.stored: list[bytes] = []
        self.gone: list[int] = []
        self.peer_gone = asyncio.Event()
        self.hanging = asyncio.Event()
        self.release = asyncio.Event()
        self.error: CraqenError = UnavailableError("none")

    def on_gone(self, peer_id: int) -> None:
        self.gone.append(peer_id)
        self.peer_gone.set()

    async def __call__(self, request: IncomingRequest) -> Answer:
        if request.method == FETCH:
            for number, length in enumerate(request.receive_lengths):
                await request.push(number, memoryview(pattern(number, length)))
        elif request.method == STORE:
            for number in reversed(range(len(request.send_lengths))):
                buffer = bytearray(request.send_lengths[number])
                await request.pull(number, memoryview(buffer))
                self.stored.append(bytes(buffer))
        elif request.method == FAIL:
            raise self.error
        elif request.method == HANG:
            self.hanging.set()
            await self.release.wait()
            for number, length in enumerate(request.receive_lengths):
                await request.push(number, memoryview(pattern(number, length)))
        elif request.method == CRASH:
            raise ZeroDivisionError
        elif request.method == FILES:
            os.pwrite(self.shared, request.header, 0)
            return Answer(b"take it", (self.shared, self.shared))
        elif request.method == FROM_FILE:
            path = self.folder / "source"
            path.write_bytes(pattern(7, 3_000_000))
            descriptor = os.open(path, os.O_RDONLY)
            try:
                await request.push_file(0, descriptor, 1000, request.receive_lengths[0])
            finally:
                os.close(descriptor)
        return Answer(request.header)


def pattern(seed: int, length: int) -> bytes:
    unit = bytes((seed * 31 + step) & 0xFF for step in range(251))
    return (unit * (length // 251 + 1))[:length]


def address_of(kind: str, tmp_path: Path) -> str:
    return {
        "inproc": f"inproc://{tmp_path}",
        "unix": f"unix://{tmp_path}/socket",
        "long-unix": f"unix://{tmp_path}/{'long' * 30}/socket",
        "tcp": "tcp://127.0.0.1:0",
    }[kind]


@pytest.fixture(params=["inproc", "unix", "long-unix", "tcp", "tcp-uvloop", "unix-uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    kind, _, loop_kind = request.param.removeprefix("long-").partition("-")
    long = request.param.startswith("long-")

    async def scene(scenario: Scenario) -> None:
        address = address_of(f"long-{kind}" if long else kind, tmp_path)
        if long:
            Path(address.removeprefix("unix://")).parent.mkdir()
        service = Service(tmp_path)
        transport = transport_for(address)
        server: Server = await transport.serve(address, service, peer_gone=service.on_gone)
        connection = await transport.connect(server.address)
        try:
            await asyncio.wait_for(scenario(connection, service), 20)
        finally:
            service.release.set()
            await connection.close()
            await server.close()
            os.close(service.shared)

    def runner(scenario: Scenario) -> None:
        if loop_kind == "uvloop":
            uvloop.run(scene(scenario))
        else:
            asyncio.run(scene(scenario))

    return runner


def test_headers_come_back(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        for header in (b"", b"x", os.urandom(100_000)):
            assert (await connection.call(ECHO, header)).header == header

    run(scenario)


def test_many_calls_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        headers = [str(number).encode() * 20 for number in range(500)]
        replies = await asyncio.gather(*(connection.call(ECHO, header) for header in headers))
        assert [reply.header for reply in replies] == headers

    run(scenario)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 8 << 20])
def test_buffers_both_ways(run: Callable[[Scenario], None], size: int) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        sizes = [size, 10, size]
        data = [pattern(number + 50, length) for number, length in enumerate(sizes)]
        await connection.call(STORE, b"", send=[memoryview(item) for item in data])
        assert service.stored == data[::-1]
        buffers = [bytearray(length) for length in sizes]
        await connection.call(FETCH, b"", receive=[memoryview(buffer) for buffer in buffers])
        assert buffers == [pattern(number, length) for number, length in enumerate(sizes)]

    run(scenario)


def test_large_transfers_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        buffers = [bytearray(1_000_000) for _ in range(20)]
        data = memoryview(pattern(3, 700_000))
        await asyncio.gather(
            *(connection.call(FETCH, b"", receive=[memoryview(one)]) for one in buffers),
            *(connection.call(STORE, b"", send=[data]) for _ in range(20)),
        )
        assert all(buffer == pattern(0, 1_000_000) for buffer in buffers)
        assert service.stored == [bytes(data)] * 20

    run(scenario)


def test_push_from_a_file(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        buffer = bytearray(2_500_000)
        await connection.call(FROM_FILE, b"", receive=[memoryview(buffer)])
        assert buffer == pattern(7, 3_000_000)[1000:2_501_000]

    run(scenario)


def test_descriptors(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        if not connection.shares_files:
            return
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            reply = await connection.call(FILES, f"content {number}".encode())
            assert reply.header == b"take it"
            first, second = reply.descriptors
            assert first != second
            assert os.pread(first, 100, 0) == f"content {number}".encode()
            os.pwrite(second, b"C", 0)
            assert (service.folder / "shared").read_bytes()[:1] == b"C"
            os.close(first)
            os.close(second)
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario)


def test_errors_arrive_as_what_they_are(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        for error in (
            NoSpaceError("disk full"),
            DataLossError("page 3"),
            ChecksumMismatchError("no"),
            PreconditionFailedError("no", condition="If-Match"),
            StaleChainVersionError("old", chain_id=4, current_version=9),
        ):
            service.error = error
            with pytest.raises(type(error)) as caught:
                await connection.call(FAIL, b"")
            assert str(caught.value) == str(error)
            assert vars(caught.value) == vars(error)

    run(scenario)


def test_a_crashing_handler_costs_only_its_call(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        with pytest.raises(UnavailableError):
            await connection.call(CRASH, b"")
        assert (await connection.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_a_deadline(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        with pytest.raises(DeadlineExceededError):
            await connection.call(HANG, b"", timeout_seconds=0.05)
        assert (await connection.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_after_a_cancellation_the_buffers_are_left_alone(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        buffer = bytearray(b"\xee" * 4_000_000)
        task = asyncio.create_task(connection.call(HANG, b"", receive=[memoryview(buffer)]))
        await service.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.release.set()
        assert (await connection.call(ECHO, b"on")).header == b"on"
        assert buffer == b"\xee" * 4_000_000
        offered = bytearray(pattern(1, 4_000_000))
        task = asyncio.create_task(connection.call(STORE, b"", send=[memoryview(offered)]))
        await connection.call(ECHO, b"meanwhile")
        task.cancel()
        await asyncio.wait([task])
        offered[:] = bytes(len(offered))
        assert (await connection.call(ECHO, b"on")).header == b"on"
        assert service.stored in ([], [pattern(1, 4_000_000)])

    run(scenario)


def test_the_server_hears_once_that_a_peer_is_gone(run: Callable[[Scenario], None]) -> None:
    async def scenario(connection: Connection, service: Service) -> None:
        await connection.call(ECHO, b"hello")
        await connection.close()
        await service.peer_gone.wait()
        assert len(service.gone) == 1
        with pytest.raises(UnavailableError):
            await connection.call(ECHO, b"")

    run(scenario)


def test_calls_end_when_the_server_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix://{tmp_path}/socket"
        service = Service(tmp_path)
        server = await transport_for(address).serve(address, service)
        connection = await transport_for(address).connect(address)
        task = asyncio.create_task(connection.call(HANG, b""))
        await service.hanging.wait()
        service.release.set()
        await server.close()
        with pytest.raises(UnavailableError):
            await task
        with pytest.raises(UnavailableError):
            await transport_for(address).connect(address)
        await connection.close()

    asyncio.run(scenario())


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"unix://{tmp_path}/socket"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(f"{tmp_path}/socket")
        server = await transport_for(address).serve(address, Service(tmp_path))
        assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o600
        with pytest.raises(OperatorError, match="another process"):
            await transport_for(address).serve(address, Service(tmp_path))
        await server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "lie",
    [
        b"GET / HTTP/1.1\r\nHost: here, and some more bytes\r\n\r\n",
        frame_head(FrameKind.REQUEST, 1, header_length=1 << 31),
        frame_head(FrameKind.DATA, 1, payload=1 << 62),
        frame_head(FrameKind.REQUEST, 1, header_length=5) + b"\xff\xff\xff\xff\xff",
        frame_head(FrameKind.REPLY, 1),
        bytes(28),
    ],
    ids=["http", "long header", "long payload", "no request", "a reply", "zeros"],
)
def test_a_lying_peer_costs_itself_the_connection_and_nobody_else(
    tmp_path: Path, lie: bytes
) -> None:
    async def scenario() -> None:
        address = f"unix://{tmp_path}/socket"
        service = Service(tmp_path)
        server = await transport_for(address).serve(address, service, peer_gone=service.on_gone)
        honest = await transport_for(address).connect(address)
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/socket")
        writer.write(lie)
        assert await reader.read() == b""
        await service.peer_gone.wait()
        assert (await honest.call(ECHO, b"still")).header == b"still"
        writer.close()
        await honest.close()
        await server.close()

    asyncio.run(scenario())
