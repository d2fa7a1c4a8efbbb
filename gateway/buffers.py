"""The buffers that large bodies are received into: so many in a process, however many clients."""

from __future__ import annotations

import asyncio
import mmap
from collections import deque

from ..core.limits import MIB

BUFFER_BYTES = 2 * MIB
BUFFERS_MAX = 32  # per worker; beside them a worker holds little


class BufferPool:
    """Buffers of ``BUFFER_BYTES``, made when first needed and used again."""

    def __init__(self, count: int = BUFFERS_MAX) -> None:
        self._unmade = count
        self._free: list[memoryview] = []
        self._waiting: deque[asyncio.Future[memoryview]] = deque()

    async def take(self) -> memoryview:
        """A buffer of the caller's own until ``give``; whoever waits longest is served first."""
        buffer = self.take_now()
        if buffer is not None:
            return buffer
        future: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(future.result())
            raise

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for a buffer."""
        return bool(self._waiting)

    def take_now(self) -> memoryview | None:
        """A buffer if one is to be had without waiting."""
        if self._free:
            return self._free.pop()
        if self._unmade:
            self._unmade -= 1
            # Whole pages of their own: what a disk takes without a copy.
            return memoryview(mmap.mmap(-1, BUFFER_BYTES))
        return None

    def give(self, buffer: memoryview) -> None:
        """Hand a buffer back; nobody may use it any more."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(buffer)
                return
        self._free.append(buffer)
