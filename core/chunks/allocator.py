"""MACHINE: which blocks are free, reserved, used, or in quarantine. No I/O; time is passed in.

RULES
1. A block belongs to one size class; blocks of a class are numbered from 0 and lie side by side in
block files. 2. A block is exactly one of: never given out (at or above the high-water mark), free,
reserved, used, in quarantine. 3. A used block that is freed was visible to readers: it is reused
only after QUARANTINE, counted from when its freeing
   is on stable storage. A reservation that nobody else saw is free again at once.
4. Nothing here is stored. At open the index says which blocks are used; every other block below the
high-water
   mark starts in quarantine, since readers from before a crash may still hold it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..errors import InvalidArgumentError
from ..limits import CHUNK_CLASS_BYTES_MAX, CHUNK_CLASS_BYTES_MIN, GIB
from .store import Block

BLOCK_FILE_BYTES = GIB  # few files, so that their descriptors can be passed once and kept
FILES_PER_CLASS_MAX = 1 << 16

CLASS_SIZES = tuple(
    CHUNK_CLASS_BYTES_MIN << shift
    for shift in range((CHUNK_CLASS_BYTES_MAX // CHUNK_CLASS_BYTES_MIN).bit_length())
)


def class_of(length_bytes: int) -> int:
    """The number of the smallest class that holds *length_bytes*. Raises InvalidArgumentError."""
    if not 1 <= length_bytes <= CHUNK_CLASS_BYTES_MAX:
        raise InvalidArgumentError(
            f"a block of {length_bytes} bytes: expected 1 to {CHUNK_CLASS_BYTES_MAX}"
        )
    return max(0, (length_bytes - 1).bit_length() - (CHUNK_CLASS_BYTES_MIN - 1).bit_length())


def block_of(class_number: int, number: int) -> Block:
    """Where block *number* of a class lies."""
    size = CLASS_SIZES[class_number]
    file_number, position = divmod(number, BLOCK_FILE_BYTES // size)
    return Block(class_number * FILES_PER_CLASS_MAX + file_number, position * size, size)


def number_of(block: Block) -> tuple[int, int]:
    """(class, number) of *block*: the inverse of ``block_of``."""
    class_number, file_number = divmod(block.file_id, FILES_PER_CLASS_MAX)
    size = CLASS_SIZES[class_number]
    assert block.capacity_bytes == size
    return class_number, file_number * (BLOCK_FILE_BYTES // size) + block.offset_bytes // size


class _ClassState:
    """The blocks of one class."""

    __slots__ = ("free", "high_water", "quarantine", "reserved", "used")

    def __init__(self) -> None:
        self.free: list[int] = []
        self.reserved: set[int] = set()
        self.used: set[int] = set()
        self.quarantine: deque[tuple[float, int]] = deque()
        self.high_water = 0


class Allocator:
    """All blocks of one target."""

    def __init__(self, quarantine_seconds: float) -> None:
        self._quarantine_seconds = quarantine_seconds
        self._classes = [_ClassState() for _ in CLASS_SIZES]

    def load(self, used: Iterable[Block], high_water: Iterable[int], now: float) -> None:
        """Take over the state at open: blocks that the index refers to, and blocks on disk per
        class.

        Raises AssertionError if one block is referred to twice: such an index must not be served.
        """
        for state, mark in zip(self._classes, high_water, strict=True):
            state.high_water = mark
        for block in used:
            class_number, number = number_of(block)
            state = self._classes[class_number]
            assert number not in state.used, f"block {block} belongs to two chunks"
            state.used.add(number)
            state.high_water = max(state.high_water, number + 1)
        ready = now + self._quarantine_seconds
        for state in self._classes:
            for number in range(state.high_water):
                if number not in state.used:
                    state.quarantine.append((ready, number))

    def reserve(self, length_bytes: int) -> tuple[Block, bool]:
        """Reserve a block for *length_bytes*; also whether it is beyond what was ever on disk.

        Raises InvalidArgumentError.
        """
        class_number = class_of(length_bytes)
        state = self._classes[class_number]
        fresh = not state.free
        if fresh:
            number = state.high_water
            state.high_water += 1
        else:
            number = state.free.pop()
        state.reserved.add(number)
        return block_of(class_number, number), fresh

    def withdraw(self, block: Block) -> None:
        """Undo the ``reserve`` just made of a block beyond the high-water mark: it has no space on
        disk."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        assert number == state.high_water - 1
        state.reserved.remove(number)
        state.high_water = number

    def is_reserved(self, block: Block) -> bool:
        """Whether the block is reserved now."""
        class_number, number = number_of(block)
        return number in self._classes[class_number].reserved

    def adopt(self, block: Block) -> None:
        """A reserved block now belongs to a chunk."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        state.reserved.remove(number)
        state.used.add(number)

    def release(self, block: Block) -> None:
        """A reservation that nobody else saw is free at once."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        state.reserved.remove(number)
        state.free.append(number)

    def release_seen(self, block: Block, now: float) -> None:
        """A reservation that somebody may still write to goes to quarantine."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        state.reserved.remove(number)
        state.quarantine.append((now + self._quarantine_seconds, number))

    def free(self, block: Block, now: float) -> None:
        """A used block belongs to no chunk any more (and that is on stable storage)."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        state.used.remove(number)
        state.quarantine.append((now + self._quarantine_seconds, number))

    def tick(self, now: float) -> None:
        """Let go of blocks whose quarantine is over."""
        for state in self._classes:
            while state.quarantine and state.quarantine[0][0] <= now:
                state.free.append(state.quarantine.popleft()[1])

    def counts(self) -> tuple[int, int, int]:
        """(used, reserved, in quarantine) blocks."""
        return (
            sum(len(state.used) for state in self._classes),
            sum(len(state.reserved) for state in self._classes),
            sum(len(state.quarantine) for state in self._classes),
        )

    def reserved_bytes(self) -> int:
        """Bytes of reserved blocks."""
        return sum(
            len(state.reserved) * size
            for state, size in zip(self._classes, CLASS_SIZES, strict=True)
        )

    def bytes_by_state(self) -> tuple[int, int]:
        """(bytes of used blocks, bytes of free blocks that are on disk already)."""
        used = free = 0
        for state, size in zip(self._classes, CLASS_SIZES, strict=True):
            used += len(state.used) * size
            free += (len(state.free) + len(state.quarantine)) * size
        return used, free
