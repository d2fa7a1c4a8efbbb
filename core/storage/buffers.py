"""Memory for the bytes of updates and copies, used again and again.

Fresh memory costs a page fault per 4 KiB when it is filled, more than the bytes' copy itself; and
only memory that begins on a page boundary can be written and read past the page cache
(core/chunks/direct.py). It is memory that can be lent to a successor on the same host.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from typing import Final

from ..limits import KIB, MIB
from ..transport.lending import LendableMemory

POOLED_BYTES_MIN: Final = 128 * KIB  # below it the allocator reuses memory by itself
IDLE_BYTES_MAX: Final = 64 * MIB
"""Kept for the next ones: what a few 8 MiB updates at a time need."""

LENDABLE_BYTES_MIN: Final = MIB
"""Smaller ones would need too many of the process's descriptors: two each, and hundreds may be in
use."""

_UNUSED_REFERENCES: Final = 2  # the pool's own name for it, and the question's argument


class Buffer:
    """Memory for one update. ``view`` is as long as was asked for."""

    __slots__ = ("_memory", "_pool", "view")

    def __init__(self, pool: BufferPool, memory: mmap.mmap | None, length_bytes: int) -> None:
        self._pool = pool
        self._memory = memory
        if memory is None:
            self.view = memoryview(bytearray(length_bytes))
        else:
            self.view = memoryview(memory)[:length_bytes]

    def give_back(self) -> None:
        """The bytes are not needed any more. Memory that somebody still refers to (a transfer that
        was given up is sent to its end, or may be read by whom it was lent to) is left to him, and
        not used again."""
        memory, self._memory = self._memory, None
        del self.view
        if memory is None or (isinstance(memory, LendableMemory) and memory.lent):
            return
        if sys.getrefcount(memory) == _UNUSED_REFERENCES:
            self._pool.keep(memory)


class BufferPool:
    """Of one process. Touched by one event loop only. How much is out at a time is bounded by the
    rooms that their users enter (rooms.py)."""

    def __init__(self, idle_bytes_max: int = IDLE_BYTES_MAX) -> None:
        self._idle: dict[int, list[mmap.mmap]] = {}
        self._idle_bytes_max = idle_bytes_max
        self.idle_bytes = 0

    def take(self, length_bytes: int) -> Buffer:
        """Memory for *length_bytes*; what is in it is not said."""
        if length_bytes < POOLED_BYTES_MIN:
            return Buffer(self, None, length_bytes)
        size = 1 << (length_bytes - 1).bit_length()
        idle = self._idle.get(size)
        if idle:
            self.idle_bytes -= size
            return Buffer(self, idle.pop(), length_bytes)
        return Buffer(self, _new(size), length_bytes)

    def keep(self, memory: mmap.mmap) -> None:
        """Use it again. Beyond the bound it is given back to the system."""
        size = len(memory)
        if self.idle_bytes + size <= self._idle_bytes_max:
            self.idle_bytes += size
            self._idle.setdefault(size, []).append(memory)


def _new(size: int) -> mmap.mmap:
    if size >= LENDABLE_BYTES_MIN:
        with contextlib.suppress(OSError):  # no descriptor is left: it is sent, then
            return LendableMemory(size)
    return mmap.mmap(-1, size)
