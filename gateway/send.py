"""Streamed answers: an object's bytes step by step, the next step located while one is sent.

An error before the first byte is answered as such; afterwards the connection is cut, never padded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math

from ..core.client.encrypted import read_encrypted
from ..core.client.port import MemoryPiece, Piece
from ..core.errors import CraqenError
from ..core.limits import MIB
from ..core.meta.records import Extent, Inode
from .exchange import Exchange
from .reply import Reply, Sent
from .sendfile import PieceSender

STEP_BYTES = 8 * MIB  # located at a time
DECRYPTED_STEP_BYTES = MIB  # in memory, twice for each answer under way

_log = logging.getLogger("craqen.gateway")
_handles = itertools.count(1)


async def send_object(
    exchange: Exchange,
    reply: Reply,
    inode: Inode,
    offset: int,
    length: int,
    data_key: bytes | None = None,
) -> Sent:
    """Send *reply*'s head and then the object's bytes ``[offset, offset + length)``, decrypted with
    *data_key* if they are encrypted.

    Raises CraqenError as long as nothing was sent, ConnectionError once the connection is cut.
    """
    extents = await exchange.services.meta.extents(inode, offset, length)
    steps = _Steps(exchange, inode, extents, offset, length, data_key)
    pieces = await steps.first()
    request = exchange.request
    if request.is_last:
        reply.keep_alive = False
    transport = request.transport
    hold = _Hold(exchange, inode)
    sender = PieceSender(request.protocol, transport)
    try:
        await sender.send_head(exchange.head_of(reply), pieces)
        while pieces:
            sent = await sender.send(pieces, steps.deadline)
            pieces = await steps.next(sent)
    except (CraqenError, OSError) as error:
        if isinstance(error, CraqenError):
            _log.error(
                "GET %s/%s: cut off in mid-body: %s",
                exchange.bucket,
                exchange.key.decode(errors="replace"),
                error,
            )
        if isinstance(error, TimeoutError):
            # What it has not taken is not kept for it: those may be pages of block files.
            with contextlib.suppress(ConnectionResetError):
                sender.reset()
        transport.abort()
        raise ConnectionResetError("cut off") from error
    finally:
        steps.close()
        sender.close()
        await hold.end()
    return Sent(
        reply.status,
        keep_alive=reply.keep_alive,
        finish=request.protocol.drained,
        body_bytes=length,
    )


class _Steps:
    """Where the bytes lie, a step at a time and one step ahead."""

    def __init__(
        self,
        exchange: Exchange,
        inode: Inode,
        extents: tuple[Extent, ...],
        offset: int,
        length: int,
        data_key: bytes | None,
    ) -> None:
        self._data = exchange.services.data
        self._executor = exchange.services.executor
        self._data_key = data_key
        self._step_bytes = STEP_BYTES if data_key is None else DECRYPTED_STEP_BYTES
        self._inode = inode
        self._extents = extents
        self._position = offset
        self._end = offset + length
        self._loop = asyncio.get_running_loop()
        self._step_end = offset
        self._ahead: asyncio.Task[tuple[list[Piece], float]] | None = None
        self.deadline = 0.0
        """Until when, by the loop's clock, the pieces last given may be used."""

    async def first(self) -> list[Piece]:
        """The first pieces. Raises CraqenError."""
        return await self.next(0)

    async def next(self, sent_bytes: int) -> list[Piece]:
        """The pieces behind the *sent_bytes* that were sent of those last given; none at the end.

        Raises CraqenError.
        """
        self._position += sent_bytes
        if self._position >= self._end:
            return []
        ahead, self._ahead = self._ahead, None
        located: tuple[list[Piece], float] | None = None
        if ahead is not None:
            if self._position == self._step_end:
                located = await ahead
                if located[1] < self._loop.time():
                    located = None  # so slow was the client
            else:
                _drop(ahead)
        self._step_end = min(self._position + self._step_bytes, self._end)
        pieces, self.deadline = located or await self._locate(self._position, self._step_end)
        if self._step_end < self._end:
            behind = min(self._step_end + self._step_bytes, self._end)
            self._ahead = asyncio.create_task(self._locate(self._step_end, behind))
        return pieces

    async def _locate(self, start: int, end: int) -> tuple[list[Piece], float]:
        if self._data_key is not None:
            plain = memoryview(bytearray(end - start))
            await read_encrypted(
                self._data, self._executor, self._data_key, self._extents, start, plain
            )
            return [MemoryPiece(plain)], math.inf
        asked = self._loop.time()
        pieces = await self._data.locate(
            self._extents, start, end - start, generation=self._inode.generation
        )
        return pieces, asked + self._data.lease_seconds

    def close(self) -> None:
        """No more is wanted."""
        if self._ahead is not None:
            _drop(self._ahead)


def _drop(task: asyncio.Task[tuple[list[Piece], float]]) -> None:
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    task.cancel()


class _Hold:
    """A session on the object once its sending takes long: an overwritten object is then sent to
    its end."""

    def __init__(self, exchange: Exchange, inode: Inode) -> None:
        self._meta = exchange.services.meta
        self._inode_id = inode.inode_id
        self._handle = 0
        self._opening: asyncio.Task[None] | None = None
        half_grace_seconds = exchange.services.removal_grace_seconds / 2
        self._timer = asyncio.get_running_loop().call_later(half_grace_seconds, self._begin)

    def _begin(self) -> None:
        self._handle = next(_handles)
        self._opening = asyncio.create_task(
            self._meta.open_session(self._inode_id, self._handle, write=False)
        )

    async def end(self) -> None:
        """Let go of the object."""
        self._timer.cancel()
        if self._opening is not None:
            # Whether it could be opened or not, nothing more is to be done about it.
            with contextlib.suppress(CraqenError):
                await self._opening
                await self._meta.close_session(self._inode_id, self._handle)
