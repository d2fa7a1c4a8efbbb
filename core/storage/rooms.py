"""Bounds on the bytes that requests hold in a storage process. First come, first served.

An update that is forwarded holds its bytes while the successor works, and that may wait for room of
its own there. Were that the same room for all, two nodes that forward to each other could wait for
good. So an update takes room by how many targets it still passes: each kind of room waits only for
kinds with fewer, and those of the tail wait for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ..limits import MIB
from .buffers import BufferPool

RECEIVED_BYTES_MAX: Final = 128 * MIB  # of updates under way, per number of targets still to pass
READ_BACK_BYTES_MAX: Final = 128 * MIB  # contents read from our blocks to be forwarded, the same
COPIED_BYTES_MAX: Final = 64 * MIB  # whole chunks on their way to replicas that are being filled
FETCHED_BYTES_MAX: Final = 64 * MIB  # whole chunks fetched for repair
READ_BYTES_MAX: Final = 128 * MIB  # answers to reads, until the readers have them
SUCCESSORS_TOLD_APART_MAX: Final = 8  # no chain is longer than nine


class Room:
    """Room for a number of bytes. Touched by one event loop only."""

    __slots__ = ("_free", "_size", "_waiting")

    def __init__(self, size_bytes: int) -> None:
        self._size = self._free = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        """What is not taken."""
        return self._free

    def try_enter(self, amount: int) -> bool:
        """Take *amount* if it is there and nobody waits; one that is larger than the whole room
        gets an empty one."""
        if self._waiting or amount > self._free < self._size:
            return False
        self._free -= amount
        return True

    async def enter(self, amount: int) -> None:
        """Take *amount*, after everybody who waits already."""
        if self.try_enter(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(amount)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            raise

    def leave(self, amount: int) -> None:
        """Give *amount* back."""
        self._free += amount
        assert self._free <= self._size, "more was given back than taken"
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if amount > self._free < self._size:
                return
            self._waiting.popleft()
            if not turn.done():
                self._free -= amount
                turn.set_result(None)


class Rooms:
    """The rooms of one process."""

    def __init__(self) -> None:
        kinds = range(SUCCESSORS_TOLD_APART_MAX + 1)
        self._received = [Room(RECEIVED_BYTES_MAX) for _ in kinds]
        self._read_back = [Room(READ_BACK_BYTES_MAX) for _ in kinds]
        self.buffers = BufferPool()
        """Where the bytes themselves lie."""
        self.read = Room(READ_BYTES_MAX)
        self.copied = Room(COPIED_BYTES_MAX)
        """A replica that is being filled is the last of its chain: it waits for nobody."""
        self.fetched = Room(FETCHED_BYTES_MAX)

    def received(self, successors: int) -> Room:
        """For the bytes of an update that still passes that many targets."""
        return self._received[min(successors, SUCCESSORS_TOLD_APART_MAX)]

    def read_back(self, successors: int) -> Room:
        """For a content that is read from its block to be forwarded."""
        return self._read_back[min(successors, SUCCESSORS_TOLD_APART_MAX)]
