"""Who gives up in the middle of a transfer has its buffer back at once; the stream stays whole.

The other side is a plain socket here, so that the middle is a fixed place.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.errors import NoSpaceError
from craqen.core.limits import MIB
from craqen.core.transport.flow import EAGER_BYTES_MAX
from craqen.core.transport.lending import LendableMemory
from craqen.core.transport.port import Answer, IncomingRequest
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
    frame,
    request_frame,
)
from craqen.tests.core.transport.service import (
    ECHO,
    FETCH,
    HANG,
    PULL_AND_WAIT,
    STORE,
    Service,
    pattern,
)

LARGE = 3 * MIB


class Plain:
    """The other end of a connection, by hand."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive_some(self) -> bytes:
        piece = await self._loop.sock_recv(self._socket, 1 << 16)
        assert piece, "the connection ended"
        return piece

    async def receive(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            piece = await self._loop.sock_recv(self._socket, count - len(found))
            assert piece, "the connection ended"
            found += piece
        return bytes(found)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 20)

    asyncio.run(bounded())


def with_plain_server(scenario: Callable[[StreamConnection, Plain], Awaitable[None]]) -> None:
    async def scene() -> None:
        ours, theirs = socket.socketpair()
        connection = StreamConnection(ours)
        try:
            await scenario(connection, Plain(theirs))
            assert connection.lost is None
        finally:
            await connection.close()
            theirs.close()

    play(scene)


def test_what_arrives_after_a_cancellation_stays_out_of_the_buffer() -> None:
    async def scenario(connection: StreamConnection, server: Plain) -> None:
        buffer = bytearray(LARGE)
        call = asyncio.create_task(connection.call(ECHO, b"", receive=[memoryview(buffer)]))
        await server.receive(HEAD_BYTES + 4)
        content = pattern(1, MIB)
        await server.send(frame(DATA, 1, payload_length=MIB) + content[: MIB // 2])
        while buffer[MIB // 2 - 1] != content[MIB // 2 - 1]:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        buffer[:] = b"\xee" * LARGE
        assert await server.receive(HEAD_BYTES) == frame(CANCEL, 1)
        await server.send(content[MIB // 2 :])
        await server.send(frame(DATA, 1, payload_length=MIB, offset=MIB) + content)
        await server.send(frame(REPLY, 1))
        following = asyncio.create_task(connection.call(ECHO, b""))
        assert await server.receive(HEAD_BYTES) == request_frame(2, ECHO, b"", (), (), 0)
        await server.send(frame(REPLY, 2))
        await following
        assert buffer == b"\xee" * LARGE

    with_plain_server(scenario)


@pytest.mark.parametrize("ending", ["cancelled", "refused"])
def test_a_frame_that_was_begun_is_completed_as_it_was_and_the_rest_is_dropped(
    ending: str,
) -> None:
    async def scenario(connection: StreamConnection, server: Plain) -> None:
        offered = bytearray(pattern(5, LARGE))
        original = bytes(offered)
        call = asyncio.create_task(connection.call(ECHO, b"", send=[memoryview(offered)]))
        await server.receive(HEAD_BYTES + 4)
        await server.send(frame(PULL, 1))
        head = await server.receive(HEAD_BYTES)
        assert head == frame(DATA, 1, payload_length=MIB)
        if ending == "cancelled":
            call.cancel()
        else:
            await server.send(frame(ERROR, 1, header=encode_error(NoSpaceError("full"))))
        await asyncio.wait([call])
        offered[:] = bytes(LARGE)
        assert await server.receive(MIB) == original[:MIB]
        following = asyncio.create_task(connection.call(ECHO, b""))
        place, head = MIB, await server.receive(HEAD_BYTES)
        while head == frame(DATA, 1, payload_length=MIB, offset=place):
            # Had its place on the stream already, though nothing of it was sent.
            assert await server.receive(MIB) == original[place : place + MIB]
            place, head = place + MIB, await server.receive(HEAD_BYTES)
        assert place < LARGE
        if ending == "cancelled":
            assert head == frame(CANCEL, 1)
            head = await server.receive(HEAD_BYTES)
            await server.send(frame(REPLY, 1))
        assert head == request_frame(2, ECHO, b"", (), (), 0)
        await server.send(frame(REPLY, 2))
        await following

    with_plain_server(scenario)


def test_an_eager_buffer_is_given_back_too() -> None:
    async def scenario(connection: StreamConnection, server: Plain) -> None:
        offered = bytearray(pattern(5, EAGER_BYTES_MAX))
        original = bytes(offered)
        first = asyncio.create_task(connection.call(ECHO, bytes(4 * MIB)))
        call = asyncio.create_task(connection.call(ECHO, b"", send=[memoryview(offered)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        offered[:] = bytes(EAGER_BYTES_MAX)
        await server.receive(HEAD_BYTES + 4 * MIB)
        await server.receive(HEAD_BYTES + 4)
        assert await server.receive(EAGER_BYTES_MAX) == original
        assert await server.receive(HEAD_BYTES) == frame(CANCEL, 2)
        await server.send(frame(REPLY, 2) + frame(REPLY, 1))
        await first

    with_plain_server(scenario)


def with_plain_client(folder: Path, scenario: Callable[[Service, Plain], Awaitable[None]]) -> None:
    async def scene() -> None:
        address = f"unix://{folder}/socket"
        service = Service(folder)
        server = await transport_for(address).serve(address, service)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{folder}/socket")
            try:
                await scenario(service, Plain(sock))
            finally:
                service.release.set()
                await server.close()
                service.close()

    play(scene)


def test_a_push_to_a_client_that_does_not_read_ends_when_it_cancels(tmp_path: Path) -> None:
    async def scenario(service: Service, client: Plain) -> None:
        await client.send(request_frame(1, HANG, b"", (), (32 * MIB,), 0))
        await service.hanging.wait()
        service.release.set()
        await client.receive(HEAD_BYTES)  # the push has begun, and gets no further
        assert not service.outcome.done()
        await client.send(frame(CANCEL, 1))
        assert "given up" in await service.outcome
        await client.send(request_frame(2, ECHO, b"", (), (), 0))
        rest = bytearray()
        while not rest.endswith(frame(REPLY, 2)):
            rest += await client.receive_some()
            assert len(rest) < 8 * MIB

    with_plain_client(tmp_path, scenario)


def test_bytes_of_a_pull_that_was_given_up_are_dropped(tmp_path: Path) -> None:
    async def scenario(service: Service, client: Plain) -> None:
        service.pull_timeout_seconds = 0.0
        await client.send(request_frame(1, PULL_AND_WAIT, b"go on", (LARGE,), (), 0))
        assert await client.receive(HEAD_BYTES) == frame(PULL, 1, offset=1)
        assert "CancelledError" in await service.outcome
        data = frame(DATA, 1, payload_length=MIB)
        await client.send(data + bytes(MIB))  # while the handler runs on
        await client.send(request_frame(2, FETCH, b"seen", (), (), 0))
        assert await client.receive(HEAD_BYTES + 4) == frame(REPLY, 2, header=b"seen")
        service.release.set()
        assert await client.receive(HEAD_BYTES + 5) == frame(REPLY, 1, header=b"go on")
        await client.send(frame(DATA, 1, payload_length=MIB, offset=MIB) + bytes(MIB))  # and after
        await client.send(request_frame(3, FETCH, b"seen", (), (), 0))
        assert await client.receive(HEAD_BYTES + 4) == frame(REPLY, 3, header=b"seen")

    with_plain_client(tmp_path, scenario)


def test_memory_that_was_lent_is_known_to_be_until_the_server_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        pulled, release = asyncio.Event(), asyncio.Event()

        async def handler(request: IncomingRequest) -> Answer:
            if request.method == STORE:
                await request.pull(0, memoryview(bytearray(MIB)))
                pulled.set()
                await release.wait()
            return Answer(b"")

        address = f"unix://{tmp_path}/socket"
        server = await transport_for(address).serve(address, handler)
        connection = await transport_for(address).connect(address)
        memory = LendableMemory(MIB)
        call = asyncio.create_task(connection.call(STORE, b"", send=[memoryview(memory)]))
        async with asyncio.timeout(10):
            await pulled.wait()
            assert memory.lent == 1
            call.cancel()
            await asyncio.wait([call])
            assert memory.lent == 1  # the server need not have heard of it
            release.set()
            while memory.lent:
                await connection.call(ECHO, b"")
        await connection.close()
        await server.close()

    asyncio.run(scenario())
