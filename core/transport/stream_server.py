"""DRIVER: the serving side of stream connections."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence

from ..errors import CraqenError, ProtocolError, UnavailableError
from ..wire.codec import encode_error
from ..wire.framing import Frame, FrameKind, frame_head
from .endpoint import Endpoint
from .port import Answer, Handler, PeerGone
from .requests import CALLS_IN_FLIGHT_MAX, RequestHead, decode_head

CLOSE_TIMEOUT_SECONDS = 10.0
PUSH_FILE_PIECE_BYTES = 1 << 20
BACKLOG = 256

_log = logging.getLogger("craqen.transport")


class StreamRequest:
    """``IncomingRequest`` (core/transport/port.py) on a stream."""

    __slots__ = (
        "_eager",
        "_head",
        "_peer",
        "_pulls",
        "call_id",
        "header",
        "method",
        "receive_lengths",
        "send_lengths",
    )

    def __init__(self, peer: StreamPeer, call_id: int, head: RequestHead) -> None:
        self._peer = peer
        self.call_id = call_id
        self.method = head.method
        self.header = head.header
        self.send_lengths: Sequence[int] = head.send_lengths
        self.receive_lengths: Sequence[int] = head.receive_lengths
        self._eager: list[bytearray | None] | None = None
        if head.send_lengths and head.eager:
            self._eager = [None] * len(head.send_lengths)
        self._pulls: dict[int, tuple[memoryview, asyncio.Future[None]]] = {}

    @property
    def peer_id(self) -> int:
        return self._peer.peer_id

    @property
    def shares_files(self) -> bool:
        return self._peer.shares_files

    async def pull(self, number: int, into: memoryview) -> None:
        """Fill *into* with offered buffer *number*."""
        assert into.nbytes == self.send_lengths[number]
        if self._eager is not None:
            arrived = self._eager[number]
            if arrived is not None:
                into[:] = arrived
                return
        arrival = self._peer.expect()
        self._pulls[number] = (into, arrival)
        if self._eager is None:
            self._peer.send([frame_head(FrameKind.PULL, self.call_id, number=number)])
        try:
            await arrival
        finally:
            self._pulls.pop(number, None)
            self._peer.redirect_payload([into])

    async def push(self, number: int, source: memoryview) -> None:
        """Put *source* into wanted buffer *number*."""
        self._check_push(number, source.nbytes)
        head = frame_head(FrameKind.DATA, self.call_id, number=number, payload=source.nbytes)
        self._peer.send([head, source])
        try:
            await self._peer.sent()
        finally:
            self._peer.detach_queued([source])

    async def push_file(self, number: int, descriptor: int, offset: int, length: int) -> None:
        """As ``push``, from a file, piece by piece."""
        self._check_push(number, length)
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(min(PUSH_FILE_PIECE_BYTES, length)))
        end = offset + length
        while offset < end:
            piece = buffer[: min(len(buffer), end - offset)]
            count = await loop.run_in_executor(None, os.preadv, descriptor, [piece], offset)
            if count == 0:
                raise UnavailableError(f"the file ends {end - offset} bytes early")
            await self.push(number, piece[:count])
            offset += count

    def destination(self, frame: Frame) -> memoryview:
        """Where the payload of a DATA frame from the client goes. Raises ProtocolError."""
        number = frame.number
        if number >= len(self.send_lengths) or frame.payload_length != self.send_lengths[number]:
            raise ProtocolError(
                f"{frame.payload_length} bytes for buffer {number}, which was not offered so"
            )
        waiting = self._pulls.get(number)
        if waiting is not None:
            return waiting[0]
        if self._eager is None or self._eager[number] is not None:
            raise ProtocolError(f"buffer {number} was sent without having been pulled")
        # Still arriving: not readable by ``pull`` until ``arrived``.
        buffer = bytearray(frame.payload_length)
        self._peer.arriving[(self.call_id, number)] = buffer
        return memoryview(buffer)

    def arrived(self, number: int) -> None:
        """The payload of buffer *number* is complete."""
        buffer = self._peer.arriving.pop((self.call_id, number), None)
        waiting = self._pulls.get(number)
        if buffer is not None and self._eager is not None:
            self._eager[number] = buffer
            if waiting is not None:
                waiting[0][:] = buffer
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(None)

    def refused(self, number: int) -> None:
        """The caller has given up: what was pulled will not come."""
        waiting = self._pulls.get(number)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_exception(UnavailableError("the caller has given up"))

    def end(self, error: Exception) -> None:
        """The connection is lost: nothing more will come."""
        for _, arrival in self._pulls.values():
            if not arrival.done():
                arrival.set_exception(UnavailableError(str(error)))

    def _check_push(self, number: int, length: int) -> None:
        assert number < len(self.receive_lengths)
        assert length <= self.receive_lengths[number]


class StreamPeer(Endpoint):
    """One accepted connection."""

    def __init__(self, sock: socket.socket, server: StreamServer, peer_id: int) -> None:
        self.peer_id = peer_id
        self._server = server
        self._requests: dict[int, StreamRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.arriving: dict[tuple[int, int], bytearray] = {}
        super().__init__(sock)

    def expect(self) -> asyncio.Future[None]:
        """A future for something that the peer shall send."""
        self._raise_if_lost()
        return self._loop.create_future()

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take the client's frame."""
        if frame.kind == FrameKind.REQUEST:
            if len(self._requests) >= CALLS_IN_FLIGHT_MAX or frame.call_id in self._requests:
                raise ProtocolError("too many calls at once, or one id used twice")
            request = StreamRequest(self, frame.call_id, decode_head(frame.header))
            self._requests[frame.call_id] = request
            task = self._loop.create_task(self._serve(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        known = self._requests.get(frame.call_id)
        if frame.kind == FrameKind.DATA:
            return None if known is None else known.destination(frame)
        if frame.kind == FrameKind.ERROR:
            if known is not None:
                known.refused(frame.number)
            return None
        raise ProtocolError(f"a client sent a frame of kind {frame.kind.name}")

    def on_payload(self, frame: Frame) -> None:
        """A buffer of the client is complete."""
        request = self._requests.get(frame.call_id)
        if request is not None:
            request.arrived(frame.number)

    async def _serve(self, request: StreamRequest) -> None:
        answer: Answer | None = None
        try:
            answer = await self._server.handler(request)
        except CraqenError as error:
            self._answer_error(request, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("request of method %d failed", request.method)
            self._answer_error(request, UnavailableError("internal error; see the server's log"))
        finally:
            self._requests.pop(request.call_id, None)
        if answer is not None:
            descriptors = tuple(os.dup(number) for number in answer.descriptors)
            assert not descriptors or self.shares_files
            head = frame_head(
                FrameKind.REPLY,
                request.call_id,
                number=len(descriptors),
                header_length=len(answer.header),
            )
            self.send([head + answer.header], descriptors)

    def _answer_error(self, request: StreamRequest, error: CraqenError) -> None:
        encoded = encode_error(error)
        head = frame_head(FrameKind.ERROR, request.call_id, header_length=len(encoded))
        self.send([head + encoded])

    def on_lost(self, error: Exception) -> None:
        """Tell the handlers, let them end, then report the peer as gone."""
        if isinstance(error, ProtocolError):
            _log.warning("connection %d closed: %s", self.peer_id, error)
        for request in list(self._requests.values()):
            request.end(error)
        self._server.lost(self, self._loop.create_task(self._after_handlers()))

    async def _after_handlers(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._server.peer_gone is not None:
            self._server.peer_gone(self.peer_id)


class StreamServer:
    """``Server`` (core/transport/port.py) on one listening socket."""

    def __init__(
        self, listener: socket.socket, address: str, handler: Handler, peer_gone: PeerGone | None
    ) -> None:
        self.address = address
        self.handler = handler
        self.peer_gone = peer_gone
        self._listener = listener
        listener.setblocking(False)
        self._peers: dict[int, StreamPeer] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._next_peer_id = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                _log.error("a connection could not be accepted: %s", error.strerror)
                return
            self._next_peer_id += 1
            self._peers[self._next_peer_id] = StreamPeer(sock, self, self._next_peer_id)

    def lost(self, peer: StreamPeer, ending: asyncio.Task[None]) -> None:
        """*peer* is gone; *ending* finishes its business."""
        self._peers.pop(peer.peer_id, None)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """Stop accepting, end all connections, wait for handlers (CLOSE_TIMEOUT_SECONDS)."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for peer in list(self._peers.values()):
            peer.lose(UnavailableError("the server stops"))
        if self._endings:
            await asyncio.wait(self._endings, timeout=CLOSE_TIMEOUT_SECONDS)
