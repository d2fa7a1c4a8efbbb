"""DRIVER: reads the change feed, and tells what others changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ..clock import Clock
from ..errors import CraqenError
from ..meta.records import FeedEvent
from ..meta.store import MetaStore

POLL_SECONDS = 30.0  # the feed is looked at this often even if nothing wakes us
RETRY_SECONDS = 1.0
GATHER_SECONDS = 0.02  # changes that come together are read together: own ones wake us as well

_log = logging.getLogger("craqen.client")


class FeedFollower:
    """Reads the change feed until it is cancelled."""

    def __init__(
        self,
        meta: MetaStore,
        clock: Clock,
        *,
        retention_seconds: float,
        changed: Callable[[Sequence[FeedEvent]], Awaitable[None]],
        lost: Callable[[], None],
    ) -> None:
        """*changed* gets the changes made by others; *lost* is called when changes may have been
        missed."""
        self._meta = meta
        self._clock = clock
        self._lost_ns = int(retention_seconds * 1e9) // 2
        self._changed = changed
        self._lost = lost
        self._cursor: bytes | None = None
        self._read_ns = 0

    async def start(self) -> None:
        """Take note of where the feed is now: everything later will be told."""
        _, self._cursor = await self._meta.feed(None)
        self._read_ns = self._clock.wall_ns()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._round()
            except CraqenError as error:
                _log.warning("changes made elsewhere are not seen for now: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _round(self) -> None:
        assert self._cursor is not None
        now = self._clock.wall_ns()
        if now - self._read_ns > self._lost_ns:
            # Asleep or cut off for so long that the feed may have been trimmed under us.
            await self.start()
            self._lost()
            return
        events, self._cursor = await self._meta.feed(self._cursor)
        self._read_ns = now
        if events:
            own = self._meta.client_id
            foreign = [event for event in events if event.client_id != own]
            if foreign:
                await self._changed(foreign)
            return
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._meta.wait_feed(self._cursor)
        except TimeoutError:
            return
        await asyncio.sleep(GATHER_SECONDS)
