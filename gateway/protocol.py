"""DRIVER: connections: aiohttp's protocol with S3 errors for malformed requests, a bound on
connections, clients that stop sending but still listen, and bodies that are received past it.

Small requests go through aiohttp's parser and stream reader untouched. Of a large body, what the
stream reader has is taken out; then a ``BodyReceiver`` stands in as the transport's protocol and
has the kernel write the rest straight into the caller's buffers, never a byte beyond the body, so
that a pipelined request behind it stays where it is. After the body a fresh parser goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiohttp import StreamReader
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web import RequestHandler, Server

from .errors import S3Error
from .reply import Sent, ServerHead, error_reply, new_request_id

HEADER_BYTES_MAX = 32 * 1024  # presigned URLs with session tokens and 2 KiB of metadata
READ_BUFFER_BYTES = 64 * 1024  # per connection; large bodies do not pass through it
KEEPALIVE_SECONDS = 75.0  # also for the head of a request to arrive in
LINGER_SECONDS = 5.0  # for a body that nobody wants, before the connection is closed
CUT_SECONDS = 0.5  # for a cancelled handler to let go of what it holds
CONNECTIONS_MAX = 4096  # per worker
HEAD_BYTES_MAX = 128 * 1024  # all header lines of a request
TAKEN_BYTES_MIN = 64 * 1024  # below this the stream reader is cheaper than the change of hands
IDLE_TIMEOUT_SECONDS = 60.0  # a client that sends nothing of its body for so long is gone
SLOW_SECONDS = 10.0  # for which nobody is called slow
SLOW_BYTES_PER_SECOND = 4096  # a body that comes slower gives way where others wait for room
STALL_TIMEOUT_SECONDS = 120.0  # a client that takes nothing of its answer for so long is gone

_SCRATCH = memoryview(bytearray(64 * 1024))  # what nobody wants; many may write over it


class Incoming:
    """One parsed request: what the handler and aiohttp's protocol need of it, and no more."""

    __slots__ = ("_task", "content", "message", "protocol")

    def __init__(
        self, message: RawRequestMessage, content: StreamReader, protocol: Connection
    ) -> None:
        self.message = message
        self.content = content
        self.protocol = protocol
        self._task: object = None  # set to None again by aiohttp

    @property
    def transport(self) -> asyncio.Transport:
        """The connection. Raises ConnectionResetError if the client is gone."""
        transport = self.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        return transport

    @property
    def is_last(self) -> bool:
        """Whether the connection has to end with the answer: the client wants it so, or cannot send
        more, or a body is still to come that nobody will read."""
        return self.message.should_close or self.protocol.ends or not self.content.is_eof()

    def _finish(self) -> None:
        """Called by aiohttp at the end of the request."""

    def _cancel(self, error: BaseException) -> None:
        """Called by aiohttp when the connection ends before the request does."""
        self.content.set_exception(error)


class Endpoint(Protocol):
    """What answers the requests of a connection."""

    async def handle(self, request: Incoming) -> Sent: ...

    @property
    def head(self) -> ServerHead: ...


class Connection(RequestHandler):
    """One connection of a client."""

    def __init__(self, server: GatewayServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            # A body with "Content-Encoding: gzip" is an object that is stored as it came.
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BUFFER_BYTES,
        )
        self._server = server
        self._endpoint = server.endpoint
        self.half_closed = False
        """Whether the client has stopped sending."""
        self._is_stopping = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One connection too many is told so and closed."""
        if len(self._server._connections) >= self._server.connections_max:
            self._turn_away(cast(asyncio.Transport, transport), S3Error("SlowDown"))
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bounds what a request's head may come to in all."""
        super().data_received(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX and self.transport is not None:
            self._turn_away(self.transport, S3Error("RequestHeaderSectionTooLarge"))

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that stops sending may still wait for answers to what it sent whole."""
        transport = self.transport
        if self._is_idle or not self._request_count or transport is None:
            return None
        if transport.get_extra_info("ssl_object") is not None:
            return None  # a TLS connection ends with its incoming half
        self.half_closed = True
        self._lingering_time = 0.0
        request = self._current_request
        if isinstance(request, Incoming) and not request.content.is_eof():
            request.content.set_exception(EOFError("the body ended early"))
        if not self._messages:
            self.close()  # behind the answer under way, even if that has said otherwise already
        return True

    @property
    def _is_idle(self) -> bool:
        return self._waiter is not None and not self._waiter.done() and not self._messages

    @property
    def ends(self) -> bool:
        """Whether the answer under way is the last."""
        return self._is_stopping or (self.half_closed and not self._messages)

    def finish(self) -> asyncio.Task[None] | None:
        """Close now, or behind the answer under way; return what ends when that is done."""
        self._is_stopping = True
        if self._is_idle or not self._request_count:
            self.force_close()
        return self._task_handler

    def close_without_lingering(self) -> None:
        """Close right behind the answer: the client has not begun to send its body."""
        self._lingering_time = 0.0

    async def drained(self) -> None:
        """Return when the client has taken enough of its answer for more to be written.

        Raises ConnectionError if it is gone, TimeoutError if it takes nothing for long.
        """
        if self._paused:
            async with asyncio.timeout(STALL_TIMEOUT_SECONDS):
                await self._drain_helper()

    def take_body(self, content: StreamReader, length_bytes: int) -> BodyReceiver | None:
        """Receive the rest of a body of *length_bytes* past the stream reader, which must be
        empty; None if too little is missing, or the client is gone."""
        remaining = length_bytes - content.total_bytes
        transport = self.transport
        if remaining < TAKEN_BYTES_MIN or self._reading_paused or self.half_closed:
            return None
        if transport is None or transport.is_closing():
            return None
        return BodyReceiver(self, transport, content, remaining)

    def body_taken(self, transport: asyncio.Transport, content: StreamReader) -> None:
        """A receiver has all of its body: the parser's place is behind it."""
        self._parser = HttpRequestParser(
            self,
            self._loop,
            READ_BUFFER_BYTES,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=self.max_headers,
            payload_exception=ConnectionResetError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )
        transport.set_protocol(self)
        content.feed_eof()  # lets the transport read again

    def _make_error_handler(self, error: Any) -> Callable[[Any], Awaitable[Any]]:
        """Called by aiohttp for what is no HTTP request."""

        async def refuse(request: Incoming) -> Sent:
            return self._refuse(request.transport, _malformed(error.exc))

        return refuse

    def _refuse(self, transport: asyncio.Transport, error: S3Error) -> Sent:
        request_id = new_request_id()
        head = self._endpoint.head
        reply = error_reply(error, "", request_id, head)
        reply.keep_alive = False
        transport.write(reply.head(head, request_id) + reply.body)
        return Sent(reply.status, keep_alive=False)

    def _turn_away(self, transport: asyncio.Transport, error: S3Error) -> None:
        """Refuse ahead of any request."""
        self._refuse(transport, error)
        self.force_close()
        transport.close()


def _malformed(error: BaseException) -> S3Error:
    if isinstance(error, LineTooLong):
        return S3Error("RequestHeaderSectionTooLarge")
    if isinstance(error, InvalidURLError):
        return S3Error("InvalidURI")
    if isinstance(error, HttpProcessingError):
        return S3Error("BadRequest", "An error occurred when parsing the HTTP request.")
    return S3Error("InternalError")


def is_slow(count: int, began: float, others_wait: Callable[[], bool]) -> bool:
    """Whether *count* bytes since *began*, by the loop's clock, are too few while others wait."""
    elapsed = asyncio.get_running_loop().time() - began
    slow = elapsed > SLOW_SECONDS and count < elapsed * SLOW_BYTES_PER_SECOND
    return slow and others_wait()


class BodyReceiver(asyncio.BufferedProtocol):
    """Stands in as the transport's protocol while the rest of one body arrives."""

    def __init__(
        self,
        connection: Connection,
        transport: asyncio.Transport,
        content: StreamReader,
        remaining_bytes: int,
    ) -> None:
        self.remaining_bytes = remaining_bytes
        """What has not been received yet."""
        self._connection = connection
        self._transport = transport
        self._content = content
        self._target = _SCRATCH[:0]
        self._filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._gone: BaseException | None = None
        transport.pause_reading()
        transport.set_protocol(self)

    async def fill(self, target: memoryview, others_wait: Callable[[], bool]) -> int:
        """Receive into *target* until it is full or the body has ended; return how much.

        Raises ConnectionError or EOFError if the client goes away, TimeoutError if it sends nothing
        for long, or next to nothing while others wait for what it holds.
        """
        began = asyncio.get_running_loop().time()
        self._target = target[: self.remaining_bytes]
        self._filled = 0
        try:
            while self._filled < len(self._target):
                await self._receive()
                if self._filled < len(self._target) and is_slow(self._filled, began, others_wait):
                    raise TimeoutError
        finally:
            filled = self._filled
            self._stop()
        if not self.remaining_bytes:
            self._connection.body_taken(self._transport, self._content)
        return filled

    async def discard(self) -> None:
        """The rest is not wanted, and the connection is about to close: take it off the client's
        hands for a while, so that it sees the answer."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LINGER_SECONDS
        try:
            while self.remaining_bytes:
                async with asyncio.timeout_at(end):
                    self._target = _SCRATCH[: self.remaining_bytes]
                    self._filled = 0
                    await self._receive()
        except (TimeoutError, ConnectionError, EOFError):
            pass  # it had its chance
        finally:
            self._stop()
            self._connection.close()  # whatever comes now falls on the floor
            self._transport.set_protocol(self._connection)
            self._content.feed_eof()

    async def _receive(self) -> None:
        """Wait for the target to be filled; return early if a while has passed with progress."""
        if self._gone is not None:
            raise self._gone
        before = self._filled
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                await self._waiter
        except TimeoutError:
            if self._filled == before:
                raise
        finally:
            self._waiter = None

    def _stop(self) -> None:
        """No byte may go into the caller's buffer any more."""
        if self._gone is None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._target = _SCRATCH[:0]

    def _wake(self, error: BaseException | None) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def get_buffer(self, size_hint: int) -> memoryview:
        """Called by the transport: where the next bytes go."""
        return self._target[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Called by the transport: *count* bytes are there."""
        self._filled += count
        self.remaining_bytes -= count
        if self._filled == len(self._target):
            self._transport.pause_reading()  # until there is a buffer again
            self._wake(None)

    def eof_received(self) -> bool | None:
        """Called by the transport: the client stopped sending in mid-body."""
        self._gone = EOFError("the body ended early")
        self._wake(self._gone)
        return self._connection.eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        """Called by the transport."""
        self._gone = ConnectionResetError("the client is gone")
        self._wake(self._gone)
        self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        """Called by the transport."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._connection.resume_writing()


class GatewayServer(Server):
    """Makes connections and knows them."""

    def __init__(self, endpoint: Endpoint, *, connections_max: int = CONNECTIONS_MAX) -> None:
        super().__init__(endpoint.handle, request_factory=_incoming)  # type: ignore[arg-type]
        self.endpoint = endpoint
        self.connections_max = connections_max

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    async def stop(self, drain_seconds: float) -> None:
        """Close all connections, those with a request under way behind its answer, but not later
        than *drain_seconds* from now."""
        ends = [cast(Connection, connection).finish() for connection in self.connections]
        tasks = [task for task in ends if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        await self.shutdown(CUT_SECONDS)


def _incoming(
    message: RawRequestMessage, content: StreamReader, protocol: Connection, *_: object
) -> Incoming:
    return Incoming(message, content, protocol)
