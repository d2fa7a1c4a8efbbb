"""DRIVER: sends chunk updates to the heads of their chains until they are acknowledged, or time
runs out.

An update keeps its token over all attempts, so a lost answer never makes it apply twice. Tokens are
(client, channel, sequence): one update at a time uses a channel, so that the storage side needs to
remember one outcome per channel.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ChunkBusyError, CraqenError, RetryableError
from ..ids import ChunkId, UpdateToken
from ..meta.records import Layout
from ..wire.codec import exception_from_status
from ..wire.messages import (
    Method,
    Update,
    UpdateKind,
    UpdateReply,
    UpdateRequest,
    UpdateResult,
)
from .connections import NodeConnection
from .routes import Routes

CHANNELS_MAX = 1024  # updates in flight per client process; more wait their turn
DEADLINE_SECONDS = 30.0  # longer than a lease: a chain that lost a target has moved on by then
RETRY_DELAY_SECONDS = (0.01, 0.05, 0.2, 0.5, 1.0)
BATCH_UPDATES_MAX = 256
BATCH_BYTES_MAX = 16 << 20  # what one call may carry: bounds the buffers at the storage node


@dataclass(slots=True)
class ChunkUpdate:
    """One update to make. ``data`` goes with it, unless the bytes are in the reserved block."""

    chunk_id: ChunkId
    layout: Layout
    kind: UpdateKind
    offset_bytes: int = 0
    length_bytes: int = 0
    crc32c: int = 0
    page_crcs: bytes = b""
    data: memoryview | None = None
    reservation_id: int = 0
    reserved_on: NodeConnection | None = None


class Updater:
    """Makes updates. Channels are taken and returned without an await in between: no lock is
    needed."""

    def __init__(self, routes: Routes, client_id: int) -> None:
        self._routes = routes
        self._client_id = client_id
        self._sequences: list[int] = [0] * CHANNELS_MAX
        self._free = deque(range(CHANNELS_MAX))
        self._available = asyncio.Semaphore(CHANNELS_MAX)
        self._unheard: set[asyncio.Task[list[UpdateResult | CraqenError]]] = set()
        """What nobody waits for any more."""

    async def make_for(self, updates: Sequence[ChunkUpdate], seconds: float) -> None:
        """As ``make``, but return after *seconds* at the latest: the rest goes on by itself. Nobody
        is told how it ends."""
        task = asyncio.get_running_loop().create_task(self.make(updates))
        self._unheard.add(task)
        task.add_done_callback(self._unheard_ended)
        await asyncio.wait({task}, timeout=seconds)

    def _unheard_ended(self, task: asyncio.Task[list[UpdateResult | CraqenError]]) -> None:
        self._unheard.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, so that nobody complains that nobody did

    async def make(self, updates: Sequence[ChunkUpdate]) -> list[UpdateResult | CraqenError]:
        """Carry out *updates* of different chunks; one result or final error each.

        Updates whose bytes are in a reserved block are tried on that connection only: its loss is
        their
        final UnavailableError (the writer then fills another block).
        """
        results: list[UpdateResult | CraqenError | None] = [None] * len(updates)
        tokens: list[UpdateToken] = []
        try:
            for _ in updates:
                tokens.append(await self._take_token())
            await self._until_done(updates, tokens, results)
        finally:
            for token, result in zip(tokens, results, strict=False):
                if isinstance(result, UpdateResult):
                    self._free.append(token.channel)
                else:
                    # It may still be under way: its channel is the last to be used again.
                    self._free.appendleft(token.channel)
                self._available.release()
        return [result for result in results if result is not None]

    async def make_one(self, update: ChunkUpdate) -> UpdateResult:
        """As ``make`` for one update; raises its error."""
        (result,) = await self.make([update])
        if isinstance(result, CraqenError):
            raise result
        return result

    async def _take_token(self) -> UpdateToken:
        await self._available.acquire()
        channel = self._free.pop()
        self._sequences[channel] += 1
        return UpdateToken(self._client_id, channel, self._sequences[channel])

    async def _until_done(
        self,
        updates: Sequence[ChunkUpdate],
        tokens: Sequence[UpdateToken],
        results: list[UpdateResult | CraqenError | None],
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_SECONDS
        waiting = list(range(len(updates)))
        attempt = 0
        while True:
            stale = await self._attempt(updates, tokens, waiting, results)
            waiting = [
                number
                for number in waiting
                if isinstance(results[number], RetryableError)
                and updates[number].reserved_on is None
            ]
            if not waiting or loop.time() > deadline:
                return
            if stale:
                await self._routes.refresh()
            delay = RETRY_DELAY_SECONDS[min(attempt, len(RETRY_DELAY_SECONDS) - 1)]
            await asyncio.sleep(delay * (0.5 + random.random()))
            attempt += 1

    async def _attempt(
        self,
        updates: Sequence[ChunkUpdate],
        tokens: Sequence[UpdateToken],
        waiting: Sequence[int],
        results: list[UpdateResult | CraqenError | None],
    ) -> bool:
        """Send everything in *waiting* once, by node; return whether routing looks old."""
        by_connection: dict[NodeConnection, list[int]] = {}
        stale = False
        for number in waiting:
            update = updates[number]
            try:
                connection = update.reserved_on or await self._routes.head_connection(
                    update.layout, update.chunk_id.index
                )
            except CraqenError as error:
                results[number] = error
                stale = True
                continue
            by_connection.setdefault(connection, []).append(number)
        batches = [
            (connection, batch)
            for connection, numbers in by_connection.items()
            for batch in _batches(numbers, updates)
        ]
        await asyncio.gather(
            *(
                self._send(connection, batch, updates, tokens, results)
                for connection, batch in batches
            )
        )
        return stale or any(
            isinstance(results[number], RetryableError)
            and not isinstance(results[number], ChunkBusyError)
            for number in waiting
        )

    async def _send(
        self,
        connection: NodeConnection,
        batch: Sequence[int],
        updates: Sequence[ChunkUpdate],
        tokens: Sequence[UpdateToken],
        results: list[UpdateResult | CraqenError | None],
    ) -> None:
        buffers: list[memoryview] = []
        messages: list[Update] = []
        for number in batch:
            messages.append(self._message(updates[number], tokens[number], len(buffers)))
            data = updates[number].data
            if data is not None:
                buffers.append(data)
        try:
            reply = await connection.call(
                Method.UPDATE, UpdateRequest(tuple(messages)), UpdateReply, send=buffers
            )
        except CraqenError as error:
            for number in batch:
                results[number] = error
            return
        for number, message, result in zip(batch, messages, reply.results, strict=True):
            failure = exception_from_status(result.status, chain_id=message.chain_id)
            results[number] = failure or result

    def _message(self, update: ChunkUpdate, token: UpdateToken, buffer: int) -> Update:
        chain = self._routes.chain(update.layout, update.chunk_id.index)
        return Update(
            update.chunk_id.segment_id,
            update.chunk_id.index,
            chain.chain_id,
            chain.version,
            update.kind,
            update.offset_bytes,
            update.length_bytes,
            update.crc32c,
            *token,
            buffer=-1 if update.data is None else buffer,
            reservation_id=update.reservation_id,
            page_crcs=update.page_crcs,
        )


def _batches(numbers: Sequence[int], updates: Sequence[ChunkUpdate]) -> list[list[int]]:
    """Split *numbers* so that no call carries too many updates or bytes."""
    batches: list[list[int]] = []
    size = 0
    for number in numbers:
        data = updates[number].data
        length = 0 if data is None else len(data)
        if (
            not batches
            or len(batches[-1]) >= BATCH_UPDATES_MAX
            or (size + length > BATCH_BYTES_MAX and size > 0)
        ):
            batches.append([])
            size = 0
        batches[-1].append(number)
        size += length
    return batches
