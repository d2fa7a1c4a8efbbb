"""Streamed answers: pieces of an object, from block files by sendfile where the connection is
plain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket

from ..core.client.port import FilePiece, MemoryPiece, Piece
from ..core.errors import CraqenError
from ..core.limits import MIB
from ..core.meta.records import Extent, Inode
from .exchange import Exchange
from .reply import Reply, Sent

STEP_BYTES = 8 * MIB  # located ahead of what is being sent
COPY_BYTES = 256 * 1024
SENDFILE_BYTES = 4 * MIB
STALL_TIMEOUT_SECONDS = 120.0  # a client that takes nothing for so long is gone
PLAIN_SEND_BYTES_MAX = 64 * 1024  # small pieces go with the head in one write

_log = logging.getLogger("craqen.gateway")
_handles = itertools.count(1)


async def send_object(
    exchange: Exchange, reply: Reply, inode: Inode, offset: int, length: int
) -> Sent:
    """Send *reply*'s head and then the object's bytes ``[offset, offset + length)``.

    Raises CraqenError as long as nothing was sent; later the connection is cut, never padded.
    """
    services = exchange.services
    extents = await services.meta.extents(inode, offset, length)
    first = await _locate(exchange, inode, extents, offset, length)
    transport = exchange.request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    head = reply.head(services.head, exchange.id)
    hold = _Hold(exchange, inode)
    sender = _Sender(exchange, transport)
    try:
        await sender.send(head, first)
        position, end = offset + min(length, STEP_BYTES), offset + length
        while position < end:
            await hold.keep()
            step = min(STEP_BYTES, end - position)
            await sender.send(b"", await _locate(exchange, inode, extents, position, step))
            position += step
    except (CraqenError, OSError) as error:
        if isinstance(error, CraqenError):
            _log.error(
                "GET %s/%s: cut off in mid-body: %s",
                exchange.bucket,
                exchange.key.decode(errors="replace"),
                error,
            )
        transport.abort()
        raise ConnectionResetError("cut off") from error
    finally:
        sender.close()
        await hold.end()
    return Sent(reply.status, reply.keep_alive)


async def _locate(
    exchange: Exchange, inode: Inode, extents: tuple[Extent, ...], offset: int, length: int
) -> list[Piece]:
    return await exchange.services.data.locate(
        extents, offset, min(length, STEP_BYTES), generation=inode.generation
    )


class _Hold:
    """A session on the object once its sending takes long: an overwritten object is then sent to
    its end."""

    def __init__(self, exchange: Exchange, inode: Inode) -> None:
        self._exchange = exchange
        self._inode = inode
        loop = asyncio.get_running_loop()
        self._due = loop.time() + exchange.services.removal_grace_seconds / 2
        self._handle = 0

    async def keep(self) -> None:
        """Called between steps."""
        if self._handle or asyncio.get_running_loop().time() < self._due:
            return
        self._handle = next(_handles)
        await self._exchange.services.meta.open_session(
            self._inode.inode_id, self._handle, write=False
        )

    async def end(self) -> None:
        if self._handle:
            with contextlib.suppress(CraqenError):
                await self._exchange.services.meta.close_session(self._inode.inode_id, self._handle)


class _Sender:
    """Writes to one connection: through the transport, or past it by sendfile when it is empty."""

    def __init__(self, exchange: Exchange, transport: asyncio.Transport) -> None:
        self._exchange = exchange
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        secured = transport.get_extra_info("ssl_object") is not None
        self._plain = not secured

    async def send(self, head: bytes, pieces: list[Piece]) -> None:
        """Send *head* and *pieces*, in order; return when the kernel or the transport has them."""
        first = pieces[0]
        if head and len(pieces) == 1 and isinstance(first, FilePiece):
            if first.length <= PLAIN_SEND_BYTES_MAX:
                self._transport.write(head + os.pread(first.descriptor, first.length, first.offset))
                return
        if head:
            self._transport.write(head)
        for piece in pieces:
            if isinstance(piece, FilePiece):
                if self._plain:
                    await self._send_file(piece)
                else:
                    await self._copy_file(piece)
            elif isinstance(piece, MemoryPiece):
                await self._write(piece.data)
            else:
                zeros = memoryview(bytes(min(COPY_BYTES, piece.length)))
                left = piece.length
                while left:
                    await self._write(zeros[: min(left, len(zeros))])
                    left -= min(left, len(zeros))

    async def _write(self, data: memoryview | bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        async with asyncio.timeout(STALL_TIMEOUT_SECONDS):
            await self._exchange.request.protocol._drain_helper()

    async def _copy_file(self, piece: FilePiece) -> None:
        position, end = piece.offset, piece.offset + piece.length
        while position < end:
            data = os.pread(piece.descriptor, min(COPY_BYTES, end - position), position)
            if not data:
                raise OSError("a block file ended early")
            await self._write(data)
            position += len(data)

    async def _send_file(self, piece: FilePiece) -> None:
        await self._drained()
        target = self._target()
        position, end = piece.offset, piece.offset + piece.length
        while position < end:
            try:
                sent = os.sendfile(
                    target, piece.descriptor, position, min(SENDFILE_BYTES, end - position)
                )
            except BlockingIOError:
                await self._writable(target)
                continue
            if sent == 0:
                raise OSError("a block file ended early")
            position += sent

    async def _drained(self) -> None:
        """Return once the transport has handed everything to the kernel: what sendfile sends comes
        after it."""
        if self._transport.get_write_buffer_size() == 0:
            return
        self._transport.set_write_buffer_limits(0)
        try:
            async with asyncio.timeout(STALL_TIMEOUT_SECONDS):
                while self._transport.get_write_buffer_size():
                    if self._transport.is_closing():
                        raise ConnectionResetError("the client is gone")
                    await self._exchange.request.protocol._drain_helper()
                    await asyncio.sleep(0)
        finally:
            self._transport.set_write_buffer_limits()

    def _target(self) -> int:
        """A descriptor of the connection of our own: the loop watches the original for its
        transport."""
        if self._socket is None:
            original = self._transport.get_extra_info("socket")
            if original is None:
                raise ConnectionResetError("the client is gone")
            self._socket = socket.socket(fileno=os.dup(original.fileno()))
            self._socket.setblocking(False)
        return self._socket.fileno()

    async def _writable(self, target: int) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        waiter = self._loop.create_future()
        self._loop.add_writer(target, _wake, waiter)
        try:
            async with asyncio.timeout(STALL_TIMEOUT_SECONDS):
                await waiter
        finally:
            self._loop.remove_writer(target)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
