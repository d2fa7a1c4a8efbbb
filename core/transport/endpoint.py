"""DRIVER: frames over one non-blocking socket, in both directions, with descriptors where it is a
unix socket.

Sending is a queue of pieces handed to ``sendmsg`` as they are, several at a time; receiving goes to
a staging buffer for frame heads and straight into its destination for payload. All of it runs on
one event loop.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence

from ..errors import ProtocolError, UnavailableError
from ..wire.framing import Frame, FrameReader

STAGING_BYTES = 64 * 1024
DISCARD_BYTES = 64 * 1024
DESCRIPTORS_MAX = 64  # in one message; the kernel's own limit is 253
PIECES_PER_SEND = 64  # well under IOV_MAX
READS_PER_WAKE = 16  # then other connections get their turn
SEND_QUEUE_BYTES_MAX = 64 << 20  # writers wait beyond this

_DESCRIPTOR_BYTES = array.array("i").itemsize


class Endpoint:
    """One socket. Subclasses take frames (``on_frame``), name payload destinations, and hear of the
    end (``on_lost``)."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._descriptor = sock.fileno()
        self.shares_files = sock.family == socket.AF_UNIX
        if not self.shares_files:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._staging = memoryview(bytearray(STAGING_BYTES))
        self._staged: memoryview = self._staging[:0]
        self._payload: memoryview | None = None
        self._payload_left = 0
        self._payload_frame: Frame | None = None
        self._received: deque[int] = deque()
        self._queue: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued_bytes = 0
        self._writing = False
        self._room: list[asyncio.Future[None]] = []
        self.lost: Exception | None = None
        self._loop.add_reader(self._descriptor, self._on_readable)

    # What subclasses provide

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take a frame. For one with a payload return where it goes (exactly as long), or None to
        discard it.

        Raises ProtocolError to end the connection.
        """
        raise NotImplementedError

    def on_payload(self, frame: Frame) -> None:
        """The payload of *frame* has been received (or discarded)."""
        raise NotImplementedError

    def on_lost(self, error: Exception) -> None:
        """The connection is over; called once."""
        raise NotImplementedError

    # Sending

    def send(self, pieces: Sequence[bytes | memoryview], descriptors: tuple[int, ...] = ()) -> None:
        """Queue *pieces* as they are (they must not change until sent); descriptors go with the
        first.

        Descriptors are closed once sent, or when the connection ends.
        """
        if self.lost is not None:
            for number in descriptors:
                os.close(number)
            return
        for piece in pieces:
            view = memoryview(piece)
            if view.nbytes:
                self._queue.append((view, descriptors))
                self._queued_bytes += view.nbytes
                descriptors = ()
        if not self._writing:
            self._flush()

    async def room(self) -> None:
        """Return once the send queue is short. Raises UnavailableError if the connection ends."""
        while self._queued_bytes > SEND_QUEUE_BYTES_MAX and self.lost is None:
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter
        self._raise_if_lost()

    async def sent(self) -> None:
        """Return once everything queued was handed to the kernel. Raises UnavailableError."""
        while self._queue and self.lost is None:
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter
        self._raise_if_lost()

    def detach_queued(self, buffers: Sequence[memoryview]) -> None:
        """Replace what is still queued of *buffers* by copies: their owner wants them back."""
        owners = {id(buffer.obj) for buffer in buffers}
        for position, (view, descriptors) in enumerate(self._queue):
            if id(view.obj) in owners:
                self._queue[position] = (memoryview(bytes(view)), descriptors)

    def _flush(self) -> None:
        try:
            while self._queue:
                sent = self._send_some()
                self._queued_bytes -= sent
                self._drop_sent(sent)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.lose(UnavailableError(f"connection lost: {error.strerror}"))
            return
        if self._queue and not self._writing:
            self._writing = True
            self._loop.add_writer(self._descriptor, self._on_writable)
        elif not self._queue and self._writing:
            self._writing = False
            self._loop.remove_writer(self._descriptor)
        if self._room and (not self._queue or self._queued_bytes <= SEND_QUEUE_BYTES_MAX):
            self._wake_room()

    def _on_writable(self) -> None:
        self._flush()

    def _send_some(self) -> int:
        view, descriptors = self._queue[0]
        if descriptors:
            numbers = array.array("i", descriptors)
            sent = self._socket.sendmsg([view], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            self._queue[0] = (view, ())
            for number in descriptors:
                os.close(number)
            return sent
        if len(self._queue) == 1:
            return self._socket.send(view)
        pieces: list[memoryview] = []
        for piece, with_descriptors in self._queue:
            if with_descriptors or len(pieces) == PIECES_PER_SEND:
                break
            pieces.append(piece)
        return self._socket.sendmsg(pieces)

    def _drop_sent(self, sent: int) -> None:
        while sent:
            view, descriptors = self._queue[0]
            if sent < view.nbytes:
                self._queue[0] = (view[sent:], descriptors)
                return
            sent -= view.nbytes
            self._queue.popleft()

    def _wake_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Receiving

    def redirect_payload(self, buffers: Sequence[memoryview]) -> None:
        """If payload is arriving into one of *buffers*, let the rest of it be discarded."""
        payload = self._payload
        if payload is not None and any(payload.obj is buffer.obj for buffer in buffers):
            self._payload = None

    def take_descriptors(self, count: int) -> tuple[int, ...]:
        """The next *count* descriptors that came. Raises ProtocolError if there are not as many."""
        if count > len(self._received):
            raise ProtocolError(f"{count} descriptors announced, {len(self._received)} received")
        return tuple(self._received.popleft() for _ in range(count))

    def _on_readable(self) -> None:
        try:
            for _ in range(READS_PER_WAKE):
                if not self._receive_some():
                    return
        except (BlockingIOError, InterruptedError):
            return
        except ProtocolError as error:
            self.lose(error)
        except OSError as error:
            self.lose(UnavailableError(f"connection lost: {error.strerror}"))

    def _receive_some(self) -> bool:
        """One receive call; False when nothing more may come now."""
        target = self._staging
        if self._payload_left and self._payload is not None:
            target = self._payload
        elif self._payload_left:
            target = self._staging[: min(self._payload_left, DISCARD_BYTES)]
        if self.shares_files:
            count = self._receive_message(target)
        else:
            count = self._socket.recv_into(target)
        if count == 0:
            self.lose(UnavailableError("connection closed by the peer"))
            return False
        if self._payload_left:
            self._advance_payload(count)
        else:
            self._consume(self._staging[:count])
        return self.lost is None and count == target.nbytes

    def _receive_message(self, target: memoryview) -> int:
        count, ancillary, flags, _ = self._socket.recvmsg_into(
            [target], socket.CMSG_SPACE(DESCRIPTORS_MAX * _DESCRIPTOR_BYTES)
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self._received.extend(numbers)
        if flags & socket.MSG_CTRUNC or len(self._received) > DESCRIPTORS_MAX:
            raise ProtocolError("more descriptors than a message may carry")
        return count

    def _advance_payload(self, count: int) -> None:
        self._payload_left -= count
        if self._payload is not None:
            self._payload = self._payload[count:]
        if self._payload_left == 0:
            frame, self._payload_frame, self._payload = self._payload_frame, None, None
            assert frame is not None
            self.on_payload(frame)

    def _consume(self, data: memoryview) -> None:
        """Frames and the beginnings of payloads from the staging buffer."""
        while data.nbytes and self.lost is None:
            used, frame = self._reader.feed(data)
            data = data[used:]
            if frame is None:
                continue
            destination = self.on_frame(frame)
            if frame.payload_length == 0:
                if frame.kind == 5:  # an empty DATA frame is complete
                    self.on_payload(frame)
                continue
            self._payload_frame = frame
            self._payload = destination
            self._payload_left = frame.payload_length
            here = min(data.nbytes, frame.payload_length)
            if here:
                if destination is not None:
                    destination[:here] = data[:here]
                data = data[here:]
                self._advance_payload(here)

    # The end

    def lose(self, error: Exception) -> None:
        """End the connection because of *error*; idempotent."""
        if self.lost is not None:
            return
        self.lost = error
        self._loop.remove_reader(self._descriptor)
        if self._writing:
            self._loop.remove_writer(self._descriptor)
        for _, descriptors in self._queue:
            for number in descriptors:
                os.close(number)
        self._queue.clear()
        while self._received:
            os.close(self._received.popleft())
        self._payload = None
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._wake_room()
        self.on_lost(error)

    def _raise_if_lost(self) -> None:
        if self.lost is not None:
            raise UnavailableError(str(self.lost))
