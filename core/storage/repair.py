"""DRIVER: mends damaged chunks: keeps a list of those that reads, updates and the scrubber found,
and has each one fetched from another replica (core/craq/repairs.py)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ..craq.refusals import chunk_name
from ..errors import CraqenError, DataLossError
from ..ids import ChunkId
from .target import Target

DAMAGED_MAX = 4096  # kept in mind; what is found beyond that is found again by the next scrub
REPAIRS_MAX = 4  # under way at a time
RETRY_SECONDS = (0.1, 1.0, 5.0, 30.0, 300.0)
LOSSES_MAX = 2  # all replicas said so often that they have lost it: waiting is of no use

_log = logging.getLogger("craqen.storage")


@dataclass(slots=True)
class _Damage:
    """A chunk to be mended."""

    target: Target
    chunk_id: ChunkId
    version: int
    attempts: int = 0
    losses: int = 0
    found_again: bool = False
    """While a repair was under way."""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class RepairCounts:
    """Of one target, in this life of the process."""

    found: int = 0
    repaired: int = 0
    failures: int = 0
    """Attempts that came to nothing."""


class Repairer:
    """The damaged chunks of this node's targets (``DamageSink`` of core/storage/target.py). Touched
    by one event loop only."""

    def __init__(self) -> None:
        self._damages: dict[tuple[int, ChunkId], _Damage] = {}
        self._counts: dict[int, RepairCounts] = {}
        self._turns = asyncio.Semaphore(REPAIRS_MAX)
        self._closed = False

    def noted(self, target: Target, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version were found damaged, or (0) the chunk's index record: mend it."""
        damage = self._damages.get((target.target_id, chunk_id))
        if damage is not None:
            damage.found_again = damage.found_again or version != damage.version
            damage.version = version
            return
        if self._closed or len(self._damages) >= DAMAGED_MAX:
            return
        self.counts(target.target_id).found += 1
        damage = _Damage(target, chunk_id, version)
        self._damages[target.target_id, chunk_id] = damage
        damage.task = asyncio.get_running_loop().create_task(self._mend(damage))

    def may_mend(self, target: Target, chunk_id: ChunkId) -> bool:
        """Whether another replica may have the chunk, and it is being fetched."""
        damage = self._damages.get((target.target_id, chunk_id))
        if damage is None or len(target.replica.view.serving) < 2:
            return False
        return damage.losses < LOSSES_MAX

    def counts(self, target_id: int) -> RepairCounts:
        """What was found and mended of a target."""
        return self._counts.setdefault(target_id, RepairCounts())

    def damaged(self, target_id: int) -> int:
        """How many chunks of a target are known to be damaged now."""
        return sum(1 for known, _ in self._damages if known == target_id)

    async def close(self) -> None:
        """Mend no more."""
        self._closed = True
        tasks = [damage.task for damage in self._damages.values() if damage.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _mend(self, damage: _Damage) -> None:
        while True:
            damage.found_again = False
            async with self._turns:
                mended = await self._attempt(damage)
            if mended and not damage.found_again:
                del self._damages[damage.target.target_id, damage.chunk_id]
                return
            if not mended:
                number = min(damage.attempts, len(RETRY_SECONDS)) - 1
                await asyncio.sleep(RETRY_SECONDS[number])

    async def _attempt(self, damage: _Damage) -> bool:
        """Whether the chunk is whole now."""
        target, chunk_id = damage.target, damage.chunk_id
        counts = self.counts(target.target_id)
        damage.attempts += 1
        try:
            reply = await target.repair(chunk_id, damage.version)
        except CraqenError as error:
            counts.failures += 1
            if isinstance(error, DataLossError):
                damage.losses += 1
            _log.warning(
                "target %d: chunk %s is damaged and cannot be repaired now: %s",
                target.target_id,
                chunk_name(chunk_id),
                error,
            )
            return False
        if reply.sent:
            counts.repaired += 1
            _log.warning(
                "target %d: chunk %s was damaged; repaired from the chain",
                target.target_id,
                chunk_name(chunk_id),
            )
        return True
