"""MACHINE: which blocks are free, reserved, used, or in quarantine. No I/O; time is passed in.

RULES
1. A block belongs to one size class; the blocks of a class are numbered from 0 and lie side by side
   in block files. Block files grow in bounded steps; they never shrink or move.
2. A block on disk is exactly one of: free, reserved, used, in quarantine, withheld.
3. A used block that is freed was visible to readers: it is given out again only after the
   quarantine, counted from when its freeing is on stable storage. A reservation that nobody else
   saw is free again at once.
4. Nothing here is stored. At open the index says which blocks are used; every other block on disk
   starts in quarantine, since readers from before a crash may still hold it.
5. While a chunk's index record is damaged nobody knows which blocks are its own. Then those that
   look free at open are withheld until no such record is left.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InvalidArgumentError
from ..limits import CHUNK_CLASS_BYTES_MAX, CHUNK_CLASS_BYTES_MIN, GIB, MIB
from .store import Block

BLOCK_FILE_BYTES = 16 * GIB  # few files: their descriptors are passed to readers once, and kept
FILES_PER_CLASS_MAX = 1 << 16
GROWTH_BYTES = 8 * MIB  # one call gives the space of many small blocks; little lies idle

CLASS_SIZES = tuple(
    CHUNK_CLASS_BYTES_MIN << shift
    for shift in range((CHUNK_CLASS_BYTES_MAX // CHUNK_CLASS_BYTES_MIN).bit_length())
)

_CLASS_MIN_BITS = (CHUNK_CLASS_BYTES_MIN - 1).bit_length()
_FREE, _RESERVED, _USED, _QUARANTINED, _WITHHELD = range(5)


def class_of(length_bytes: int) -> int:
    """The number of the smallest class that holds *length_bytes*. Raises InvalidArgumentError."""
    if not 1 <= length_bytes <= CHUNK_CLASS_BYTES_MAX:
        raise InvalidArgumentError(
            f"a block of {length_bytes} bytes: expected 1 to {CHUNK_CLASS_BYTES_MAX}"
        )
    return max(0, (length_bytes - 1).bit_length() - _CLASS_MIN_BITS)


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


def is_block(block: Block) -> bool:
    """Whether *block*, read from somewhere, is one that ``block_of`` could have given."""
    class_number = block.file_id // FILES_PER_CLASS_MAX
    return (
        0 <= class_number < len(CLASS_SIZES)
        and block.capacity_bytes == CLASS_SIZES[class_number]
        and 0 <= block.offset_bytes < BLOCK_FILE_BYTES
        and block.offset_bytes % block.capacity_bytes == 0
    )


@dataclass(frozen=True, slots=True)
class Growth:
    """The next piece of a block file to allocate on disk."""

    file_id: int
    offset_bytes: int
    length_bytes: int


class _ClassState:
    """The blocks of one class: a state for each on disk, and those free in the order of use."""

    __slots__ = ("free", "quarantine", "quarantined", "reserved", "states", "used")

    def __init__(self) -> None:
        self.states = bytearray()
        self.free = array("q")
        self.quarantine: deque[tuple[float, Sequence[int]]] = deque()
        self.reserved = 0
        self.used = 0
        self.quarantined = 0


class Allocator:
    """All blocks of one target."""

    def __init__(self, quarantine_seconds: float) -> None:
        self._quarantine_seconds = quarantine_seconds
        self._classes = [_ClassState() for _ in CLASS_SIZES]

    # Opening

    def load(self, blocks_on_disk: Sequence[int]) -> None:
        """Begin with so many blocks on disk per class; ``mark_used`` and ``loaded`` follow."""
        for state, count in zip(self._classes, blocks_on_disk, strict=True):
            state.states = bytearray(count)

    def mark_used(self, block: Block) -> bool:
        """Note a block that the index refers to; False if another chunk refers to it too."""
        class_number, number = number_of(block)
        state = self._classes[class_number]
        if number >= len(state.states):  # its file was cut short; no other chunk may get the place
            state.states.extend(bytes(number + 1 - len(state.states)))
        if state.states[number] == _USED:
            return False
        state.states[number] = _USED
        state.used += 1
        return True

    def loaded(self, now: float, *, withhold: bool) -> None:
        """Put what the index does not refer to in quarantine, or withhold it (rule 5)."""
        for state in self._classes:
            numbers = [number for number, kind in enumerate(state.states) if kind == _FREE]
            if withhold:
                for number in numbers:
                    state.states[number] = _WITHHELD
            else:
                self._quarantine(state, array("q", numbers), now)

    def end_withholding(self, now: float) -> None:
        """No damaged index record is left: what was withheld goes to quarantine."""
        for state in self._classes:
            numbers = [number for number, kind in enumerate(state.states) if kind == _WITHHELD]
            self._quarantine(state, array("q", numbers), now)

    # Giving out

    def reserve(self, length_bytes: int) -> Block | None:
        """Reserve a block of the smallest class for *length_bytes*; None: the class must grow.

        Raises InvalidArgumentError.
        """
        return self._reserve(class_of(length_bytes))

    def borrow(self, length_bytes: int) -> Block | None:
        """Reserve a free block of any larger class, when there is no room to grow the right one."""
        for class_number in range(class_of(length_bytes) + 1, len(CLASS_SIZES)):
            block = self._reserve(class_number)
            if block is not None:
                return block
        return None

    def growth(self, length_bytes: int, bytes_max: int = GROWTH_BYTES) -> Growth:
        """What to allocate next for the class of *length_bytes*: at least one block, up to
        *bytes_max*."""
        class_number = class_of(length_bytes)
        size = CLASS_SIZES[class_number]
        first = block_of(class_number, len(self._classes[class_number].states))
        room = BLOCK_FILE_BYTES - first.offset_bytes
        return Growth(first.file_id, first.offset_bytes, min(max(bytes_max, size), room))

    def grown(self, growth: Growth) -> None:
        """Take *growth*, now allocated on disk, as free blocks."""
        class_number = growth.file_id // FILES_PER_CLASS_MAX
        state = self._classes[class_number]
        start = len(state.states)
        assert block_of(class_number, start).offset_bytes == growth.offset_bytes
        count = growth.length_bytes // CLASS_SIZES[class_number]
        state.states.extend(bytes(count))
        state.free.extend(range(start + count - 1, start - 1, -1))

    # Changing hands

    def is_reserved(self, block: Block) -> bool:
        """Whether the block is reserved now."""
        class_number, number = number_of(block)
        states = self._classes[class_number].states
        return number < len(states) and states[number] == _RESERVED

    def adopt(self, block: Block) -> None:
        """A reserved block now belongs to a chunk."""
        state, number = self._find(block, _RESERVED)
        state.states[number] = _USED
        state.reserved -= 1
        state.used += 1

    def release(self, block: Block) -> None:
        """A reservation that nobody else saw is free at once."""
        state, number = self._find(block, _RESERVED)
        state.states[number] = _FREE
        state.reserved -= 1
        state.free.append(number)

    def release_seen(self, block: Block, now: float) -> None:
        """A reservation that somebody may still write to goes to quarantine."""
        state, number = self._find(block, _RESERVED)
        state.reserved -= 1
        self._quarantine(state, (number,), now)

    def free(self, block: Block, now: float) -> None:
        """A used block belongs to no chunk any more (and that is on stable storage)."""
        state, number = self._find(block, _USED)
        state.used -= 1
        self._quarantine(state, (number,), now)

    def tick(self, now: float) -> None:
        """Let go of blocks whose quarantine is over."""
        for state in self._classes:
            while state.quarantine and state.quarantine[0][0] <= now:
                numbers = state.quarantine.popleft()[1]
                for number in numbers:
                    state.states[number] = _FREE
                state.quarantined -= len(numbers)
                state.free.extend(numbers)

    # Counting

    def counts(self) -> tuple[int, int, int]:
        """(used, reserved, in quarantine or withheld) blocks."""
        used = sum(state.used for state in self._classes)
        reserved = sum(state.reserved for state in self._classes)
        on_disk = sum(len(state.states) for state in self._classes)
        free = sum(len(state.free) for state in self._classes)
        return used, reserved, on_disk - used - reserved - free

    def used_bytes(self) -> int:
        """Bytes of used blocks."""
        return sum(
            state.used * size for state, size in zip(self._classes, CLASS_SIZES, strict=True)
        )

    def free_bytes(self) -> int:
        """Bytes of blocks on disk that are free now or when their quarantine is over."""
        return sum(
            (len(state.free) + state.quarantined) * size
            for state, size in zip(self._classes, CLASS_SIZES, strict=True)
        )

    def disk_bytes(self) -> int:
        """Bytes of all blocks on disk."""
        return sum(
            len(state.states) * size for state, size in zip(self._classes, CLASS_SIZES, strict=True)
        )

    def _reserve(self, class_number: int) -> Block | None:
        state = self._classes[class_number]
        if not state.free:
            return None
        number = state.free.pop()
        state.states[number] = _RESERVED
        state.reserved += 1
        return block_of(class_number, number)

    def _find(self, block: Block, expected: int) -> tuple[_ClassState, int]:
        class_number, number = number_of(block)
        state = self._classes[class_number]
        assert state.states[number] == expected, f"{block} is in state {state.states[number]}"
        return state, number

    def _quarantine(self, state: _ClassState, numbers: Sequence[int], now: float) -> None:
        if not numbers:
            return
        for number in numbers:
            state.states[number] = _QUARANTINED
        state.quarantined += len(numbers)
        state.quarantine.append((now + self._quarantine_seconds, numbers))
