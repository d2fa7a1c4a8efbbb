"""DRIVER: pieces of an object into one connection: by sendfile past the transport where it is
plain, else through the transport, never more than the client takes."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence

from ..core.client.port import FilePiece, MemoryPiece, Piece
from ..core.limits import MIB
from .protocol import STALL_TIMEOUT_SECONDS, Connection

COPY_BYTES = 256 * 1024  # through the transport at a time
SENDFILE_BYTES = 4 * MIB  # in one system call
TOGETHER_BYTES_MAX = 64 * 1024  # so small a piece goes with the head in one write
SLOW_SECONDS = 2.0  # a client that has not taken a step by then is slow

_LINGER_NOT = struct.pack("ii", 1, 0)
_ZEROS = memoryview(bytes(COPY_BYTES))


class PieceSender:
    """Sends pieces over one connection. ``close`` it."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._by_sendfile = transport.get_extra_info("ssl_object") is None
        self._ahead_bytes = 0

    async def send_head(self, head: bytes, pieces: Sequence[Piece]) -> None:
        """Send *head*, ahead of *pieces*; a single small piece goes along with it."""
        if len(pieces) == 1 and isinstance(pieces[0], FilePiece):
            descriptor, offset, length = pieces[0]
            if length <= TOGETHER_BYTES_MAX:
                data = os.pread(descriptor, length, offset)
                if len(data) == length:
                    self._ahead_bytes = length
                    head += data
        self._transport.write(head)

    async def send(self, pieces: Sequence[Piece], deadline: float) -> int:
        """Send *pieces* until *deadline* (by the loop's clock), when their places are no longer
        sure; return how many bytes went.

        Raises ConnectionError and other OSError if the client is gone, takes nothing, or a block
        file ends early.
        """
        sent = self._ahead_bytes
        self._ahead_bytes = 0
        if sent:
            return sent
        slow_from = self._loop.time() + SLOW_SECONDS
        for piece in pieces:
            if isinstance(piece, FilePiece):
                count = await self._send_file(piece, deadline, slow_from)
                sent += count
                if count < piece.length:
                    break
            elif isinstance(piece, MemoryPiece):
                await self._write(piece.data)
                sent += len(piece.data)
            else:
                await self._send_zeros(piece.length)
                sent += piece.length
        return sent

    async def _send_file(self, piece: FilePiece, deadline: float, slow_from: float) -> int:
        """Send what the deadline allows; return how much."""
        position, end = piece.offset, piece.offset + piece.length
        if self._by_sendfile:
            await self._flushed()
        while position < end:
            now = self._loop.time()
            if now > deadline:
                break
            if self._by_sendfile and now > slow_from:
                # What sendfile queues are pages of the block file, not copies: they must not wait
                # for this client until the block is used for something else.
                self._by_sendfile = False
            if self._by_sendfile:
                position += await self._sendfile_once(piece.descriptor, position, end)
            else:
                data = os.pread(piece.descriptor, min(COPY_BYTES, end - position), position)
                if not data:
                    raise OSError("a block file ended early")
                await self._write(data)
                position += len(data)
        return position - piece.offset

    async def _sendfile_once(self, descriptor: int, position: int, end: int) -> int:
        target = self._target().fileno()
        try:
            sent = os.sendfile(target, descriptor, position, min(SENDFILE_BYTES, end - position))
        except BlockingIOError:
            await self._writable(target)
            return 0
        if sent == 0:
            raise OSError("a block file ended early")
        return sent

    async def _send_zeros(self, length: int) -> None:
        while length:
            count = min(length, COPY_BYTES)
            await self._write(_ZEROS[:count])
            length -= count

    async def _write(self, data: bytes | memoryview) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._connection.drained()

    async def _flushed(self) -> None:
        """Return once the transport has handed everything to the kernel: what sendfile sends comes
        after it. Raises ConnectionError."""
        transport = self._transport
        if not transport.get_write_buffer_size():
            return
        transport.set_write_buffer_limits(0)  # pauses writing until the buffer is empty
        try:
            while transport.get_write_buffer_size():
                if transport.is_closing():
                    raise ConnectionResetError("the client is gone")
                await self._connection.drained()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    def _target(self) -> socket.socket:
        """A descriptor of the connection of our own: the loop watches the original for its
        transport. Raises ConnectionResetError."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if self._socket is None:
            original = self._transport.get_extra_info("socket")
            if original is None:
                raise ConnectionResetError("the client is gone")
            self._socket = socket.socket(
                original.family, original.type, original.proto, os.dup(original.fileno())
            )
        return self._socket

    def reset(self) -> None:
        """Have the connection end at once when it is closed: what it has queued is dropped. Raises
        ConnectionResetError."""
        self._target().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)

    async def _writable(self, target: int) -> None:
        """Return when the client has taken something. Raises TimeoutError if it does not."""
        waiter = self._loop.create_future()
        self._loop.add_writer(target, _wake, waiter)
        try:
            async with asyncio.timeout(STALL_TIMEOUT_SECONDS):
                await waiter
        finally:
            self._loop.remove_writer(target)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._socket is not None:
            self._socket.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
