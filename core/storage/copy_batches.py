"""DRIVER: copies of small chunks on their way to a replica that is being filled: those that are
ready at the same time go in one call, so that they share its cost, and the successor's flush."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ..errors import CraqenError, UnavailableError
from ..limits import KIB
from ..transport.flow import EAGER_BYTES_MAX
from ..wire.messages import Method, Update, UpdateReply, UpdateRequest, UpdateResult
from .peer_calls import PeerCalls

COPY_BATCHED_BYTES_MAX: Final = 16 * KIB
"""Larger contents go by themselves: the call is the lesser part of their cost."""

BATCH_COPIES_MAX: Final = 256  # removals, and contents of a few bytes
BATCH_BYTES_MAX: Final = EAGER_BYTES_MAX  # such calls carry their bytes with the request


@dataclass(slots=True)
class _Waiting:
    update: Update
    data: memoryview | None
    answer: asyncio.Future[UpdateResult]


@dataclass(slots=True)
class _Batch:
    items: list[_Waiting] = field(default_factory=list)
    bytes: int = 0


class CopyBatches:
    """Of one target. Touched by one event loop only."""

    def __init__(self, peers: PeerCalls) -> None:
        self._peers = peers
        self._open: dict[int, _Batch] = {}
        """By successor: what goes when the loop has run what is ready to run."""
        self._calls: set[asyncio.Task[None]] = set()

    async def send(self, target_id: int, update: Update, data: memoryview | None) -> UpdateResult:
        """Send a copy; *data* is the caller's again on return. Raises UnavailableError, and what
        the successor answers to the call as a whole."""
        loop = asyncio.get_running_loop()
        length = 0 if data is None else data.nbytes
        batch = self._open.get(target_id)
        if batch is not None and (
            batch.bytes + length > BATCH_BYTES_MAX or len(batch.items) >= BATCH_COPIES_MAX
        ):
            self._go(target_id, batch)
            batch = None
        if batch is None:
            batch = self._open[target_id] = _Batch()
            loop.call_soon(self._go, target_id, batch)
        waiting = _Waiting(update, data, loop.create_future())
        batch.items.append(waiting)
        batch.bytes += length
        return await waiting.answer

    def _go(self, target_id: int, batch: _Batch) -> None:
        if self._open.get(target_id) is not batch:
            return  # full, and gone already
        del self._open[target_id]
        task = asyncio.get_running_loop().create_task(self._call(target_id, batch))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, target_id: int, batch: _Batch) -> None:
        items = [one for one in batch.items if not one.answer.done()]
        buffers: list[memoryview] = []
        updates: list[Update] = []
        for one in items:
            updates.append(replace(one.update, buffer=-1 if one.data is None else len(buffers)))
            if one.data is not None:
                buffers.append(one.data)
        if not items:
            return
        try:
            reply = await self._peers.call(
                target_id, Method.UPDATE, UpdateRequest(tuple(updates)), UpdateReply, send=buffers
            )
            if len(reply.results) != len(items):
                raise UnavailableError(f"target {target_id} answered another request")
        except CraqenError as error:
            for one in items:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, result in zip(items, reply.results, strict=True):
            if not one.answer.done():
                one.answer.set_result(result)
