"""DRIVER: gives back the space of what nobody refers to any more. Run by the manager, one at a
time.

Two sources: the removal queue (files whose last name and last session are gone and whose grace is
over), and orphans: segments that a process wrote before it died, without ever making them part of a
file.
"""

from __future__ import annotations

import asyncio
import logging

from ..errors import CraqenError
from ..meta.store import MetaStore
from .port import DataStore

REMOVALS_PER_ROUND = 256
IDLE_SECONDS = 1.0
ORPHAN_HUNT_SECONDS = 15.0
CHECK_SEGMENTS_MAX = 1000

_log = logging.getLogger("craqen.reclaim")


class Reclaimer:
    """The loop that frees chunks."""

    def __init__(self, meta: MetaStore, data: DataStore) -> None:
        self._meta = meta
        self._data = data

    async def run(self) -> None:
        """Work until cancelled. A failure is logged and tried again later."""
        loop = asyncio.get_running_loop()
        next_hunt = loop.time()
        while True:
            try:
                freed = await self.free_due()
                if loop.time() >= next_hunt:
                    await self.free_orphans()
                    await self._meta.trim_feed()
                    next_hunt = loop.time() + ORPHAN_HUNT_SECONDS
            except CraqenError as error:
                _log.warning("space is not reclaimed for now: %s", error)
                freed = 0
            if freed < REMOVALS_PER_ROUND:
                await asyncio.sleep(IDLE_SECONDS)

    async def free_due(self) -> int:
        """Free what the removal queue has due, at most REMOVALS_PER_ROUND items; return how
        many."""
        items = await self._meta.due_removals(limit=REMOVALS_PER_ROUND)
        for item in items:
            await self._data.remove_chunks(item.segment_id, item.layout, item.first_chunk)
        if items:
            await self._meta.finish_removal(items)
        return len(items)

    async def free_orphans(self) -> int:
        """Remove the unreferenced segments of dead clients, then forget those; return how many
        segments."""
        freed = 0
        for client_id in await self._meta.dead_clients():
            for first, last in await self._meta.id_ranges(client_id):
                present = sorted(await self._data.list_segment_ids(first, last))
                for start in range(0, len(present), CHECK_SEGMENTS_MAX):
                    group = present[start : start + CHECK_SEGMENTS_MAX]
                    referenced = await self._meta.referenced_segments(group)
                    for segment_id in group:
                        if segment_id not in referenced:
                            layout = self._meta.layout_of(segment_id, in_place=False)
                            await self._data.remove_chunks(segment_id, layout, 0)
                            freed += 1
            await self._meta.forget_client(client_id)
            _log.info("client %x is gone: freed %d unfinished segments", client_id, freed)
        return freed
