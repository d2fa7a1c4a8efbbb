"""DRIVER: a bound on bytes per second, shared by whoever takes from it. First come, first
served."""

from __future__ import annotations

import asyncio

from ..limits import MIB


class Throttle:
    """Lets through ``mebibytes_per_second`` (0: everything); it may be changed at any time. Touched
    by one event loop only."""

    def __init__(self, mebibytes_per_second: float) -> None:
        self.mebibytes_per_second = mebibytes_per_second
        self._free_at = 0.0

    async def take(self, length_bytes: int) -> None:
        """Return when *length_bytes* may pass."""
        rate = self.mebibytes_per_second * MIB
        if rate <= 0:
            return
        now = asyncio.get_running_loop().time()
        turn = max(now, self._free_at)
        self._free_at = turn + length_bytes / rate
        if turn > now:
            await asyncio.sleep(turn - now)
