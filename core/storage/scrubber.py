"""DRIVER: reads every committed chunk of this node's targets in the background, at a set rate, and
holds it against its checksum. Damage goes to the repairer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..chunks.content import content_of
from ..chunks.store import ChunkRecord
from ..clock import Clock
from ..craq.resync import FIRST, following
from ..errors import CraqenError, DataLossError, DiskError
from ..ids import ChunkId
from .target import Target
from .throttle import Throttle

PAGE_CHUNKS = 64
REST_SECONDS = 60.0  # between two passes over a target that holds little
CHUNK_COST_BYTES = 4096  # what looking at a chunk costs besides its bytes: small ones count too
YIELD_SECONDS = 0.02
YIELDS_MAX = 100  # a busy target is scrubbed all the same, more slowly

_log = logging.getLogger("craqen.storage")


@dataclass(slots=True)
class ScrubCounts:
    """Of one target, in this life of the process."""

    position: ChunkId = FIRST
    """Where the present pass is."""
    chunks: int = 0
    bytes: int = 0
    damaged: int = 0
    passes: int = 0
    last_pass_ended_wall_seconds: float = 0.0
    """0: no pass has ended yet."""


class Scrubber:
    """One pass after the other over all targets, one target at a time. At a rate of 0 it rests."""

    def __init__(
        self, targets: Callable[[], Collection[Target]], throttle: Throttle, clock: Clock
    ) -> None:
        self._targets = targets
        self._throttle = throttle
        self._clock = clock
        # A thread of its own: what clients wait for is never behind a scrub.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scrub")
        self._counts: dict[int, ScrubCounts] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def counts(self, target_id: int) -> ScrubCounts:
        """What was read of a target."""
        return self._counts.setdefault(target_id, ScrubCounts())

    async def close(self) -> None:
        """End; what is being read is read to its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            for target in list(self._targets()):
                try:
                    await self.scrub(target)
                except Exception:
                    _log.exception("target %d: scrubbing failed", target.target_id)
            await asyncio.sleep(REST_SECONDS)

    async def scrub(self, target: Target) -> None:
        """One pass over a target, from where the last one was left. A target that is offline or
        does not serve is left out."""
        counts = self.counts(target.target_id)
        while target.offline is None and target.replica.view.is_serving:
            if self._throttle.mebibytes_per_second <= 0:
                return
            records = target.store.scan(counts.position, PAGE_CHUNKS)
            for record in records:
                await self._scrub_chunk(target, record, counts)
                counts.position = following(record.chunk_id)
            if len(records) < PAGE_CHUNKS:
                counts.position = FIRST
                counts.passes += 1
                counts.last_pass_ended_wall_seconds = self._clock.wall_ns() / 1e9
                for chunk_id in target.store.damaged():
                    target.found_damaged(chunk_id, 0)
                return

    async def _scrub_chunk(self, target: Target, record: ChunkRecord, counts: ScrubCounts) -> None:
        committed = record.committed
        length = 0 if committed is None else committed.length_bytes
        await self._throttle.take(length + CHUNK_COST_BYTES)
        for _ in range(YIELDS_MAX):
            if not target.is_busy:
                break
            await asyncio.sleep(YIELD_SECONDS)
        chunk_id = record.chunk_id
        version = 0
        try:
            # As it is by now: the block of an older version may be another chunk's.
            present = target.store.get(chunk_id)
            content = None if present is None else present.committed
            if present is None or content is None or present.lost:
                return
            version = content.version
            source = content_of(target.store, chunk_id, content)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, source.verify, 0, content.length_bytes)
        except DataLossError as error:
            counts.damaged += 1
            _log.error("target %d: %s", target.target_id, error)
            target.found_damaged(chunk_id, version)
        except DiskError as error:
            target.disk_failed(error)
        except CraqenError as error:
            _log.warning("target %d: scrub: %s", target.target_id, error)
        else:
            counts.chunks += 1
            counts.bytes += content.length_bytes
