"""DRIVER: frames over one non-blocking socket, unix or TCP, in both directions.

Sockets are driven directly, by readiness: that gives descriptors over unix sockets (no stream
transport of asyncio or uvloop passes them), sendfile (uvloop has none), and payload received
straight into its destination. Everything runs on one event loop.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from typing import Final

from ..errors import ProtocolError, UnavailableError
from ..wire.framing import Frame, FrameReader
from .outbox import Outbox, Piece, Transfer

DESCRIPTORS_MAX: Final = 64  # in one message; the kernel's own limit is 253
READS_PER_WAKE: Final = 16  # then other connections get their turn
SENDS_PER_WAKE: Final = 16
DISCARD_BYTES: Final = 64 * 1024
SMALL_BYTES_MAX: Final = 8 << 20  # replies wait while a peer has this much to read
UNIX_SEND_BUFFER_BYTES: Final = 1 << 20
"""Bulk costs about a fifth less CPU than with the default of 208 KiB (the system may allow less).
TCP finds its own size."""

KEEPALIVE_IDLE_SECONDS: Final = 10  # a TCP peer that vanished without a word is noticed within
KEEPALIVE_INTERVAL_SECONDS: Final = 5  # 10 + 4 * 5 seconds
KEEPALIVE_PROBES: Final = 4
UNANSWERED_MILLISECONDS_MAX: Final = 30_000

_TRUNCATED: Final = int(socket.MSG_CTRUNC)
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_MORE: Final = int(socket.MSG_MORE)
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)

_log = logging.getLogger("craqen.transport")


class Endpoint:
    """One socket. Subclasses take frames (``on_frame``), name payload destinations, and hear of the
    end (``on_lost``)."""

    def __init__(self, sock: socket.socket, *, takes_descriptors: bool) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._descriptor = sock.fileno()
        self.shares_files = sock.family == socket.AF_UNIX
        if self.shares_files:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER_BYTES)
        else:
            _prepare_tcp(sock)
        self._takes_descriptors = takes_descriptors and self.shares_files
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._payload: memoryview | None = None
        self._payload_left = 0
        self._payload_frame: Frame | None = None
        self.payload_owner: object = None
        """Whose buffer ``on_frame`` named last; see ``forget``."""
        self._received: deque[int] = deque()
        self.outbox = Outbox()
        self._writing = False
        self._flush_scheduled = False
        self._room: list[asyncio.Future[None]] = []
        self.lost: Exception | None = None
        self._loop.add_reader(self._descriptor, self._on_readable)

    # What subclasses provide

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take a frame. For one with a payload return where it goes (exactly as long) and set
        ``payload_owner``, or return None to discard it.

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

    def send_soon(self, *, now: bool) -> None:
        """Send what the outbox holds: at once if *now*, else when the loop has run what is ready to
        run, so that the frames of many calls share a system call."""
        if self._writing or self._flush_scheduled or self.lost is not None:
            return
        if now:
            self._flush()
        else:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_scheduled_now)

    async def send_transfer(self, transfer: Transfer) -> None:
        """Send *transfer*; its source is free on return. Raises UnavailableError."""
        self.raise_if_lost()
        self.outbox.add_transfer(transfer)
        if not self._writing:
            self._flush()
        if transfer.finished:
            return
        self.raise_if_lost()
        transfer.waiter = self._loop.create_future()
        try:
            await transfer.waiter
        except BaseException:
            self.forget(transfer)
            raise

    async def room(self) -> None:
        """Return once the peer has read enough of what it was sent. Raises UnavailableError."""
        while self.outbox.small_bytes > SMALL_BYTES_MAX and self.lost is None:
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter
        self.raise_if_lost()

    def forget(self, owner: object) -> None:
        """Stop touching the buffers of *owner*: a frame that was begun is completed from a copy,
        the rest is dropped, and what arrives for it is discarded."""
        if self._payload_left and self.payload_owner is owner:
            self._payload = None
        for piece in self.outbox.forget(owner):
            if piece.descriptor < 0:
                piece.replace(bytes(piece.view))
                continue
            data = os.pread(piece.descriptor, piece.length, piece.file_offset)
            if len(data) != piece.length:
                self.lose(UnavailableError("a file became shorter while it was sent"))
                return
            piece.replace(data)

    def fail_transfers(self, owner: object, error: Exception) -> None:
        """As ``forget``; those who wait for transfers of *owner* get *error*."""
        for transfer in self.outbox.transfers_of(owner):
            if transfer.waiter is not None and not transfer.waiter.done():
                transfer.waiter.set_exception(error)
        self.forget(owner)

    def _flush_scheduled_now(self) -> None:
        self._flush_scheduled = False
        if self.lost is None and not self._writing:
            self._flush()

    def _flush(self) -> None:
        try:
            blocked = self._send_until_blocked()
        except OSError as error:
            self.lose(UnavailableError(f"connection lost: {error.strerror}"))
            return
        if self.lost is not None:
            return
        if blocked and not self._writing:
            self._writing = True
            self._loop.add_writer(self._descriptor, self._flush)
        elif not blocked and self._writing:
            self._writing = False
            self._loop.remove_writer(self._descriptor)
        if self.outbox.finished:
            self._wake_finished()
        if self._room and self.outbox.small_bytes <= SMALL_BYTES_MAX:
            self._wake_room()

    def _send_until_blocked(self) -> bool:
        """Send; whether something is left (or it was enough for now)."""
        outbox = self.outbox
        for _ in range(SENDS_PER_WAKE):
            first = outbox.first()
            if first is None:
                return False
            try:
                if type(first) is not bytes and isinstance(first, Piece) and (
                    first.descriptor >= 0 or first.descriptors
                ):  # fmt: skip
                    asked, sent = first.length, self._send_piece(first)
                else:
                    buffers, asked, more = outbox.gather()
                    flags = _MORE if more else 0
                    if len(buffers) == 1:
                        sent = self._socket.send(buffers[0], flags)
                    else:
                        sent = self._socket.sendmsg(buffers, (), flags)
            except (BlockingIOError, InterruptedError):
                return True
            if self.lost is not None:
                return False
            outbox.advance(sent)
            if sent < asked:
                return True
        return bool(outbox)

    def _send_piece(self, piece: Piece) -> int:
        """Send from a file, or with descriptors."""
        if piece.descriptors:
            numbers = array.array("i", piece.descriptors)
            sent = self._socket.sendmsg(
                [piece.view], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
            )
            for number in piece.descriptors:
                os.close(number)
            piece.descriptors = ()
            return sent
        sent = os.sendfile(self._descriptor, piece.descriptor, piece.file_offset, piece.length)
        if sent == 0:
            self.lose(UnavailableError("a file became shorter while it was sent"))
        return sent

    def _wake_finished(self) -> None:
        for transfer in self.outbox.finished:
            if transfer.waiter is not None and not transfer.waiter.done():
                transfer.waiter.set_result(None)
        self.outbox.finished.clear()

    def _wake_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Receiving

    def take_descriptors(self, count: int) -> tuple[int, ...]:
        """The next *count* descriptors that came. Raises ProtocolError if there are not as many."""
        if count > len(self._received):
            raise ProtocolError(f"{count} descriptors announced, {len(self._received)} received")
        return tuple([self._received.popleft() for _ in range(count)])

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
        except Exception:
            # Between two frames nothing may be left half done.
            _log.exception("a frame could not be handled")
            self.lose(UnavailableError("internal error; see the log of this process"))

    def _receive_some(self) -> bool:
        """One receive call; False when nothing more may come now."""
        left = self._payload_left
        if not left:
            target = self._reader.space()
        elif self._payload is not None:
            target = self._payload
        else:
            target = memoryview(bytearray(min(left, DISCARD_BYTES)))
        if self._takes_descriptors:
            count = self._receive_message(target)
        else:
            # A descriptor that a client sends along is closed by the kernel.
            count = self._socket.recv_into(target)
        if count == 0:
            self.lose(UnavailableError("connection closed by the peer"))
            return False
        if left:
            self._payload_left = left - count
            if self._payload is not None:
                self._payload = self._payload[count:]
            if left == count:
                self._end_payload()
        else:
            self._reader.received(count)
            self._take_frames()
        if self._received and not self._reader.pending and self.lost is None:
            raise ProtocolError("descriptors came that no frame announced")
        return self.lost is None and count == target.nbytes

    def _receive_message(self, target: memoryview) -> int:
        count, ancillary, flags, _ = self._socket.recvmsg_into(
            [target], _ANCILLARY_BYTES, _CLOSE_ON_EXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self._received.extend(numbers)
        if flags & _TRUNCATED or len(self._received) > DESCRIPTORS_MAX:
            raise ProtocolError("more descriptors than a message may carry")
        return count

    def _take_frames(self) -> None:
        reader = self._reader
        while self.lost is None:
            frame = reader.next()
            if frame is None:
                return
            destination = self.on_frame(frame)
            left = frame.payload_length
            if not left or self.lost is not None:
                continue
            self._payload_frame = frame
            if destination is None:
                self._payload = None
                left -= reader.skip(left)
            else:
                assert destination.nbytes == left
                taken = reader.take(destination)
                self._payload = destination[taken:]
                left -= taken
            self._payload_left = left
            if left:
                return
            self._end_payload()

    def _end_payload(self) -> None:
        frame, self._payload_frame, self._payload = self._payload_frame, None, None
        self.payload_owner = None
        assert frame is not None
        self.on_payload(frame)

    # The end

    def lose(self, error: Exception) -> None:
        """End the connection because of *error*; idempotent."""
        if self.lost is not None:
            return
        self.lost = error
        self._loop.remove_reader(self._descriptor)
        if self._writing:
            self._loop.remove_writer(self._descriptor)
        transfers, descriptors = self.outbox.clear()
        for number in (*descriptors, *self._received):
            os.close(number)
        self._received.clear()
        self._payload = None
        self._payload_left = 0
        self._wake_finished()
        for transfer in transfers:
            if transfer.waiter is not None and not transfer.waiter.done():
                transfer.waiter.set_exception(UnavailableError(str(error)))
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._wake_room()
        self.on_lost(error)

    def raise_if_lost(self) -> None:
        """Raises UnavailableError once the connection is over."""
        if self.lost is not None:
            raise UnavailableError(str(self.lost))


def _prepare_tcp(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS),
        (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS),
        (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        (socket.TCP_USER_TIMEOUT, UNANSWERED_MILLISECONDS_MAX),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
