"""Peers that break the protocol: it costs them their connection, and nobody else anything."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from craqen.core.errors import NotFoundError, ProtocolError, UnavailableError
from craqen.core.transport.endpoint import DESCRIPTORS_MAX
from craqen.core.transport.flow import CALLS_IN_FLIGHT_MAX, EAGER_BYTES_MAX
from craqen.core.transport.port import Connection
from craqen.core.transport.registry import transport_for
from craqen.core.transport.stream_client import StreamConnection
from craqen.core.wire.codec import encode_error
from craqen.core.wire.framing import (
    CANCEL,
    DATA,
    ERROR,
    HEAD_BYTES,
    PULL,
    REPLY,
    FrameKind,
    frame,
    request_frame,
)
from craqen.tests.core.transport.service import (
    ECHO,
    HANG,
    PULL_AND_WAIT,
    Service,
    open_descriptors,
)

LARGE = EAGER_BYTES_MAX + 1


def request(
    call_id: int, method: int = ECHO, send: tuple[int, ...] = (), payload: int = 0
) -> bytes:
    return request_frame(call_id, method, b"", send, (), payload)


def damaged(data: bytes) -> bytes:
    """With another call number than its checksum covers."""
    return data[:15] + bytes([data[15] ^ 1]) + data[16:]


CLIENT_LIES = {
    "another protocol": b"GET / HTTP/1.1\r\nHost: somewhere else\r\n\r\n",
    "zeros": bytes(HEAD_BYTES),
    "a damaged head": damaged(request(1)),
    "a head that promises too much": frame(DATA, 1, payload_length=(64 << 20) + 1),
    "a reply": frame(REPLY, 1),
    "an error": frame(ERROR, 1),
    "a pull": frame(PULL, 1),
    "bytes nobody asked for": frame(DATA, 1, payload_length=1) + b"x",
    "bytes before they are pulled": request(1, HANG, (LARGE,))
    + frame(DATA, 1, payload_length=1)
    + b"x",
    "a call number that is not the next": request(2),
    "a call number twice": request(1, HANG) + request(1, HANG),
    "a cancellation of the future": frame(CANCEL, 1),
    "eager bytes missing": request(1, ECHO, (10,)),
    "eager bytes too many": request(1, ECHO, (10,), 11) + bytes(11),
    "eager bytes too large": request(1, ECHO, (LARGE,), LARGE),
    "too many calls": b"".join(
        request(number + 1, HANG) for number in range(CALLS_IN_FLIGHT_MAX + 1)
    ),
}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Service, Connection]]:
    """A server at *folder*/socket, and an honest connection that still works at the end."""
    service = Service(folder)
    address = f"unix://{folder}/socket"
    server = await transport_for(address).serve(address, service, peer_gone=service.on_gone)
    honest = await transport_for(address).connect(address)
    await honest.call(ECHO, b"first")  # peer 1
    try:
        yield service, honest
        assert (await honest.call(ECHO, b"still")).header == b"still"
        assert 1 not in service.gone
    finally:
        service.release.set()
        await honest.close()
        await server.close()
        service.close()


@asynccontextmanager
async def plain_client(
    folder: Path,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain socket connection to the server at *folder*/socket."""
    reader, writer = await asyncio.open_unix_connection(f"{folder}/socket")
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run *scenario*; no descriptor may be left over."""

    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 20)

    before = open_descriptors()
    asyncio.run(bounded())
    assert open_descriptors() == before


@pytest.mark.parametrize("lie", CLIENT_LIES)
def test_a_client_that_lies_is_cut_off(
    tmp_path: Path, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (service, _), plain_client(tmp_path) as (reader, writer):
            writer.write(CLIENT_LIES[lie])
            with suppress(ConnectionError):
                await reader.read()
            service.release.set()
            await service.peer_gone.wait()
            assert service.gone == [2]
        assert "connection 2 closed: " in caplog.text

    run(scenario)


def test_pulled_bytes_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        for lie in (
            frame(DATA, 1, number=0, payload_length=2, offset=5) + b"xx",
            frame(DATA, 1, number=0, payload_length=LARGE + 1),
            frame(DATA, 1, number=1, payload_length=2) + b"xx",
        ):
            async with served(tmp_path) as (service, _), plain_client(tmp_path) as (reader, writer):
                writer.write(request(1, PULL_AND_WAIT, (LARGE,)))
                assert await reader.readexactly(HEAD_BYTES) == frame(PULL, 1, offset=1)
                writer.write(lie)
                assert await reader.read() == b""
                assert "UnavailableError" in await service.outcome
                await service.peer_gone.wait()

    run(scenario)


def test_half_a_frame_and_then_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (service, _):
            for data in (request(1)[:20], request(1, ECHO, (100,), 100) + bytes(50)):
                service.peer_gone.clear()
                async with plain_client(tmp_path) as (_, writer):
                    writer.write(data)
                    await writer.drain()
                await service.peer_gone.wait()
            assert service.gone == [2, 3]

    run(scenario)


def test_a_client_that_reads_no_answers_is_not_read_for_ever(tmp_path: Path) -> None:
    """Its calls stay in flight, so their number bounds what the server keeps for it."""

    async def scenario() -> None:
        async with served(tmp_path) as (service, _), plain_client(tmp_path) as (_, writer):
            header = bytes(1 << 20)
            number = 0
            while not service.gone:
                number += 1
                writer.write(request_frame(number, ECHO, header, (), (), 0))
                try:
                    await writer.drain()
                except ConnectionError:
                    break
                assert number < 100
            await service.peer_gone.wait()

    run(scenario)


@contextmanager
def plain_socket(folder: Path) -> Iterator[socket.socket]:
    """A socket connected to the server at *folder*/socket, for what only sockets can send."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        sock.connect(f"{folder}/socket")
        yield sock


def pass_along(sock: socket.socket, data: bytes, *descriptors: int) -> None:
    numbers = array.array("i", descriptors)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def test_descriptors_that_no_frame_announces_are_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (service, honest):
            loop = asyncio.get_running_loop()
            with plain_socket(tmp_path) as sock:
                await honest.call(ECHO, b"accepted by now")
                before = open_descriptors()
                pass_along(sock, request(1), *[0] * 10)
                assert (await loop.sock_recv(sock, 100)) == b""
                await service.peer_gone.wait()
                assert open_descriptors() == before - 1  # its side of this connection

    run(scenario)


LENT = frame(FrameKind.LENT, 1)


def no_memory() -> int:
    """Something that may keep a reader waiting for ever."""
    ours, theirs = os.pipe()
    os.close(theirs)
    return ours


def memory() -> int:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, LARGE)
    return descriptor


LENDING_LIES: dict[str, tuple[bytes, bool, Callable[[], int] | None]] = {
    "no descriptor": (LENT, True, None),
    "no memory": (LENT, True, no_memory),
    "no call": (frame(FrameKind.LENT, 2), True, memory),
    "no such buffer": (frame(FrameKind.LENT, 1, number=1), True, memory),
    "not pulled": (LENT, False, memory),
    "bytes as well": (LENT + frame(DATA, 1, payload_length=1) + b"x", True, memory),
    "twice": (frame(DATA, 1, payload_length=1) + b"x" + LENT, True, memory),
}
"""What is said, whether after a pull, and what comes with it."""


@pytest.mark.parametrize("lie", LENDING_LIES)
def test_memory_is_lent_only_as_agreed(tmp_path: Path, lie: str) -> None:
    said, pulled, made = LENDING_LIES[lie]

    async def scenario() -> None:
        async with served(tmp_path) as (service, honest):
            loop = asyncio.get_running_loop()
            with plain_socket(tmp_path) as sock:
                method = PULL_AND_WAIT if pulled else HANG
                await loop.sock_sendall(sock, request(1, method, (LARGE,)))
                if pulled:
                    assert await loop.sock_recv(sock, 100) == frame(PULL, 1, offset=1)
                descriptors = () if made is None else (made(),)
                pass_along(sock, said, *descriptors)
                for one in descriptors:
                    os.close(one)
                assert await loop.sock_recv(sock, 100) == b""
                service.release.set()
                await service.peer_gone.wait()
            assert (await honest.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_lent_memory_that_is_too_short_fails_the_call_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (service, _):
            loop = asyncio.get_running_loop()
            with plain_socket(tmp_path) as sock:
                await loop.sock_sendall(sock, request(1, PULL_AND_WAIT, (2 * LARGE,)))
                assert await loop.sock_recv(sock, 100) == frame(PULL, 1, offset=1)
                descriptor = memory()
                pass_along(sock, LENT, descriptor)
                os.close(descriptor)
                assert "ends before" in await service.outcome

    run(scenario)


# Servers that lie


def with_descriptors(count: int, data: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: pass_along(sock, data, *[0] * count)


SERVER_LIES: dict[str, bytes | Callable[[socket.socket], None]] = {
    "garbage": os.urandom(100),
    "a damaged head": damaged(frame(REPLY, 1)),
    "a reply never asked for": frame(REPLY, 2),
    "an error never asked for": frame(ERROR, 2, header=encode_error(NotFoundError("x"))),
    "an error that is none": frame(ERROR, 1, header=b"\xff"),
    "a request": request(1),
    "a cancellation": frame(CANCEL, 1),
    "bytes for another call": frame(DATA, 2, payload_length=1) + b"x",
    "bytes for a buffer that is not there": frame(DATA, 1, number=1, payload_length=1) + b"x",
    "more bytes than the buffer has": frame(DATA, 1, payload_length=LARGE + 1),
    "bytes beyond the buffer": frame(DATA, 1, payload_length=2, offset=LARGE - 1) + b"xx",
    "a pull of a buffer that is not there": frame(PULL, 1, number=1),
    "a second pull of a buffer": frame(PULL, 1) * 2,
    "a pull for another call": frame(PULL, 2),
    "descriptors that are not there": frame(REPLY, 1, number=1),
    "descriptors that no frame announces": with_descriptors(3, frame(REPLY, 1)),
    "fewer descriptors announced than sent": with_descriptors(3, frame(REPLY, 1, number=2)),
    "too many descriptors": with_descriptors(
        DESCRIPTORS_MAX + 1, frame(REPLY, 1, number=DESCRIPTORS_MAX + 1)
    ),
    "half a reply": frame(REPLY, 1, header=bytes(100))[:50],
    "nothing": b"",
}


ENDINGS = {"half a reply", "nothing"}
"""These are seen only when the connection ends."""


@pytest.mark.parametrize("lie", SERVER_LIES)
def test_a_server_that_lies_is_left(lie: str) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        connection = StreamConnection(ours)
        buffer = bytearray(b"\xee" * (LARGE + 10))
        view = memoryview(buffer)[:LARGE]
        call = asyncio.create_task(connection.call(ECHO, b"", send=[view], receive=[view]))
        await asyncio.sleep(0)
        said = SERVER_LIES[lie]
        if isinstance(said, bytes):
            theirs.sendall(said)
        else:
            said(theirs)
        if lie in ENDINGS:
            theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait([call])
        if not call.cancelled() and call.exception() is None:
            for descriptor in call.result().descriptors:
                os.close(descriptor)  # what came before the lie was said
        else:
            assert isinstance(call.exception(), UnavailableError)
        while connection.lost is None:
            await asyncio.sleep(0)
        assert isinstance(connection.lost, ProtocolError) == (lie not in ENDINGS)
        with pytest.raises(UnavailableError):
            await connection.call(ECHO, b"")
        assert buffer[LARGE:] == b"\xee" * 10
        theirs.close()

    run(scenario)


def test_an_answer_before_the_request_was_sent_is_a_lie() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        connection = StreamConnection(ours)
        calls = [asyncio.create_task(connection.call(ECHO, bytes(1 << 20))) for _ in range(4)]
        await asyncio.sleep(0)
        theirs.sendall(frame(REPLY, 4))
        await asyncio.wait(calls)
        assert all(isinstance(call.exception(), UnavailableError) for call in calls)
        assert "before it was sent" in str(connection.lost)
        theirs.close()

    run(scenario)
