"""DRIVER: ``inproc://name``: calls inside one process, for tests and stores of one process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from ..errors import CraqenError, DeadlineExceededError, OperatorError, UnavailableError
from .port import Answer, Handler, PeerGone, Reply

_log = logging.getLogger("craqen.transport")
_servers: dict[str, InprocessServer] = {}


class InprocessRequest:
    """``IncomingRequest`` by copies between memoryviews."""

    shares_files = True

    def __init__(
        self,
        peer_id: int,
        method: int,
        header: bytes,
        send: Sequence[memoryview],
        receive: Sequence[memoryview],
    ) -> None:
        self.peer_id = peer_id
        self.method = method
        self.header = header
        self._send = send
        self._receive = receive
        self._filled = [0] * len(receive)
        self.abandoned = False

    @property
    def send_lengths(self) -> Sequence[int]:
        return [view.nbytes for view in self._send]

    @property
    def receive_lengths(self) -> Sequence[int]:
        return [view.nbytes for view in self._receive]

    async def pull(self, number: int, into: memoryview) -> None:
        """Fill *into* with offered buffer *number*."""
        self._raise_if_abandoned()
        into[:] = self._send[number]

    async def push(self, number: int, source: memoryview) -> None:
        """Put *source* into wanted buffer *number*."""
        self._raise_if_abandoned()
        start = self._filled[number]
        self._receive[number][start : start + source.nbytes] = source
        self._filled[number] = start + source.nbytes

    async def push_file(self, number: int, descriptor: int, offset: int, length: int) -> None:
        """As ``push``, from a file."""
        buffer = memoryview(bytearray(length))
        done = 0
        while done < length:
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise UnavailableError(f"the file ends {length - done} bytes early")
            done += count
        await self.push(number, buffer)

    def _raise_if_abandoned(self) -> None:
        if self.abandoned:
            raise UnavailableError("the caller has given up")


class InprocessConnection:
    """A connection to a server of this process."""

    shares_files = True

    def __init__(self, server: InprocessServer, peer_id: int) -> None:
        self._server = server
        self._peer_id = peer_id
        self._calls: set[asyncio.Task[Answer]] = set()
        self.closed = False

    async def call(
        self,
        method: int,
        header: bytes,
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Make one call (see the port)."""
        if self.closed:
            raise UnavailableError("connection closed")
        request = InprocessRequest(self._peer_id, method, header, send, receive)
        task = asyncio.create_task(_run_handler(self._server.handler, request))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait([task], timeout=timeout_seconds)
            if not task.done():
                raise DeadlineExceededError(
                    f"call {method}: no answer within {timeout_seconds:g} s"
                )
            if self.closed:
                raise UnavailableError("connection closed")
            answer = task.result()
        finally:
            request.abandoned = True
        return Reply(answer.header, tuple(os.dup(number) for number in answer.descriptors))

    async def close(self) -> None:
        """End the connection; the server hears of it once its handlers are done."""
        if self.closed:
            return
        self.closed = True
        if self._calls:
            await asyncio.wait(self._calls)
        self._server.connections.discard(self)
        if self._server.peer_gone is not None:
            self._server.peer_gone(self._peer_id)


class InprocessServer:
    """A server of this process."""

    def __init__(self, address: str, handler: Handler, peer_gone: PeerGone | None) -> None:
        self.address = address
        self.handler = handler
        self.peer_gone = peer_gone
        self.connections: set[InprocessConnection] = set()
        self.next_peer_id = 0

    async def close(self) -> None:
        """Stop serving."""
        _servers.pop(self.address, None)
        for connection in list(self.connections):
            await connection.close()


class InprocessTransport:
    """Connects by name."""

    async def connect(self, address: str) -> InprocessConnection:
        """Raises UnavailableError if nobody serves *address*."""
        server = _servers.get(address)
        if server is None:
            raise UnavailableError(f"{address}: nobody serves it")
        server.next_peer_id += 1
        connection = InprocessConnection(server, server.next_peer_id)
        server.connections.add(connection)
        return connection

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> InprocessServer:
        """Raises OperatorError if the name is taken."""
        if address in _servers:
            raise OperatorError(f"{address}: is served already")
        server = _servers[address] = InprocessServer(address, handler, peer_gone)
        return server


async def _run_handler(handler: Handler, request: InprocessRequest) -> Answer:
    try:
        return await handler(request)
    except CraqenError:
        raise
    except Exception as error:
        _log.exception("request of method %d failed", request.method)
        raise UnavailableError("internal error; see the server's log") from error
