"""DRIVER: the serving side of stream connections."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import CraqenError, ProtocolError, UnavailableError
from ..limits import FRAME_HEADER_BYTES_MAX
from ..wire.codec import encode_error
from ..wire.framing import CANCEL, DATA, ERROR, LENT, REPLY, REQUEST, Frame, frame
from .endpoint import DESCRIPTORS_MAX, SMALL_BYTES_MAX, Endpoint
from .flow import CLOSE_TIMEOUT_SECONDS, Window, eager_length
from .lending import check_borrowed
from .port import Handler, PeerGone
from .stream_request import StreamRequest

BACKLOG: Final = 256
CONNECTIONS_MAX: Final = 4096
ACCEPT_PAUSE_SECONDS: Final = 0.5  # when the process is out of descriptors
STRAGGLERS_MAX: Final = 1024  # ended calls whose pulled bytes may still be coming

_log = logging.getLogger("craqen.transport")


class StreamPeer(Endpoint):
    """One accepted connection."""

    def __init__(self, sock: socket.socket, server: StreamServer, peer_id: int) -> None:
        self.peer_id = peer_id
        self._server = server
        self.requests: dict[int, StreamRequest] = {}
        self._last_call_id = 0
        self._window = Window()
        self._arriving: memoryview | None = None
        self._stragglers: deque[int] = deque(maxlen=STRAGGLERS_MAX)
        super().__init__(sock, takes_descriptors=True)

    # Frames from the client

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take the client's frame."""
        if frame.kind == REQUEST:
            return self._begin(frame)
        request = self.requests.get(frame.call_id)
        if frame.kind == DATA:
            if request is not None:
                return request.destination(frame)
            if frame.call_id in self._stragglers:
                return None
        elif frame.kind == LENT:
            self._lent(frame, request)
            return None
        elif frame.kind == CANCEL:
            if request is not None:
                self._give_up(request)
                return None
            if frame.call_id <= self._last_call_id:
                return None  # crossed its answer
        raise ProtocolError(f"a frame of kind {frame.kind} for call {frame.call_id}")

    def on_payload(self, frame: Frame) -> None:
        """Offered bytes have come."""
        if frame.kind == REQUEST:
            eager, self._arriving = self._arriving, None
            self._start(frame, eager)
            return
        request = self.requests.get(frame.call_id)
        if request is not None:
            request.arrived(frame)

    def _begin(self, frame: Frame) -> memoryview | None:
        if frame.call_id != self._last_call_id + 1:
            raise ProtocolError(f"call {frame.call_id} after call {self._last_call_id}")
        if frame.send_lengths and frame.payload_length != eager_length(frame.send_lengths):
            raise ProtocolError(
                f"a request with {frame.payload_length} bytes of {sum(frame.send_lengths)} offered"
            )
        request_bytes = len(frame.header) + frame.payload_length
        if not self._window.take(request_bytes):
            raise ProtocolError("more calls in flight than the limit")
        self._last_call_id = frame.call_id
        if frame.payload_length:
            self._arriving = memoryview(bytearray(frame.payload_length))
            return self._arriving
        self._start(frame, None)
        return None

    def _start(self, frame: Frame, eager: memoryview | None) -> None:
        request = StreamRequest(self, frame, eager)
        self.requests[frame.call_id] = request
        request.task = self._loop.create_task(self._serve(request))

    def _lent(self, frame: Frame, request: StreamRequest | None) -> None:
        """A pulled buffer lies in memory that came along."""
        (descriptor,) = self.take_descriptors(1)
        try:
            check_borrowed(descriptor)
            if request is not None:
                taken = request.lent(frame, descriptor)
            elif frame.call_id in self._stragglers:
                taken = False
            else:
                raise ProtocolError(f"memory lent for call {frame.call_id}, not under way")
        except ProtocolError:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)

    def _give_up(self, request: StreamRequest) -> None:
        """The caller has cancelled: its handler runs on, without buffers."""
        request.end("the caller has given up")
        self.fail_transfers(request, UnavailableError("the caller has given up"))

    # Answers

    async def _serve(self, request: StreamRequest) -> None:
        descriptors: tuple[int, ...] = ()
        kind = ERROR
        try:
            answer = await self._server.handler(request)
            header = answer.header
            assert len(header) <= FRAME_HEADER_BYTES_MAX, "an answer's header is too long"
            if answer.descriptors:
                descriptors = self._duplicate(answer.descriptors)
            kind = REPLY
        except CraqenError as error:
            header = encode_error(error)
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, asyncio.CancelledError):
                _log.exception("request of method %d failed", request.method)
            header = encode_error(UnavailableError("internal error; see the server's log"))
        try:
            if self.outbox.small_bytes > SMALL_BYTES_MAX and self.lost is None:
                await self.room()
        except (UnavailableError, asyncio.CancelledError):
            pass  # nobody reads the answer any more
        finally:
            self._end(request)
        self._answer(kind, request.call_id, header, descriptors)

    def _answer(self, kind: int, call_id: int, header: bytes, descriptors: tuple[int, ...]) -> None:
        if self.lost is not None:
            for number in descriptors:
                os.close(number)
            return
        data = frame(kind, call_id, number=len(descriptors), header=header)
        if descriptors:
            self.outbox.add_with_descriptors(data, descriptors)
        else:
            self.outbox.add(data)
        self.send_soon(now=not self.requests)

    def _duplicate(self, descriptors: Sequence[int]) -> tuple[int, ...]:
        """An answer's descriptors stay their owner's; they may have to wait for their turn."""
        assert self.shares_files, "this connection cannot pass descriptors"
        assert len(descriptors) <= DESCRIPTORS_MAX
        found: list[int] = []
        try:
            found.extend(os.dup(number) for number in descriptors)
        except BaseException:
            for number in found:
                os.close(number)
            raise
        return tuple(found)

    def _end(self, request: StreamRequest) -> None:
        del self.requests[request.call_id]
        self._window.give(request.request_bytes)
        if request.dropped:
            self._stragglers.append(request.call_id)
        if self.lost is not None and not self.requests:
            self._server.gone(self)

    def on_lost(self, error: Exception) -> None:
        """Tell the handlers; when the last one has ended the peer is gone."""
        if isinstance(error, ProtocolError):
            self._server.refused += 1
            _log.warning("connection %d closed: %s", self.peer_id, error)
        for request in self.requests.values():
            request.end(str(error))
        if not self.requests:
            self._server.gone(self)


class StreamServer:
    """``Server`` (core/transport/port.py) on one listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        address: str,
        handler: Handler,
        peer_gone: PeerGone | None,
        clean_up: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self.handler = handler
        self.refused = 0
        self._peer_gone = peer_gone
        self._clean_up = clean_up
        self._listener = listener
        listener.setblocking(False)
        self._peers: dict[int, StreamPeer] = {}
        """All whose handlers have not ended, also when their connection has."""
        self._next_peer_id = 0
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("%s: cannot accept a connection: %s", self.address, error.strerror)
                self._loop.remove_reader(self._listener.fileno())
                self._pause = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)
                return
            if len(self._peers) >= CONNECTIONS_MAX:
                _log.error("%s: more than %d connections", self.address, CONNECTIONS_MAX)
                sock.close()
                continue
            self._next_peer_id += 1
            try:
                peer = StreamPeer(sock, self, self._next_peer_id)
            except OSError:
                sock.close()  # gone before it could be set up
                continue
            self._peers[self._next_peer_id] = peer

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def gone(self, peer: StreamPeer) -> None:
        """*peer* is lost and its handlers have ended."""
        self._peers.pop(peer.peer_id, None)
        if self._peer_gone is not None:
            try:
                self._peer_gone(peer.peer_id)
            except Exception:
                _log.exception("what belonged to connection %d was not released", peer.peer_id)

    async def close(self) -> None:
        """Stop accepting, end all connections, and wait for handlers; those that take longer than
        CLOSE_TIMEOUT_SECONDS are cancelled."""
        if self._listener.fileno() >= 0:
            if self._pause is not None:
                self._pause.cancel()
            self._loop.remove_reader(self._listener.fileno())
            if self._clean_up is not None:
                self._clean_up()
            self._listener.close()
        for peer in list(self._peers.values()):
            peer.lose(UnavailableError("the server stops"))
        tasks = self._tasks()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSE_TIMEOUT_SECONDS)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [
            request.task
            for peer in self._peers.values()
            for request in peer.requests.values()
            if request.task is not None
        ]
