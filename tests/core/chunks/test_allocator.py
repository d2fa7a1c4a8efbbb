"""The allocator: no block twice, every block counted once, quarantine kept."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from craqen.core.chunks.allocator import (
    BLOCK_FILE_BYTES,
    CLASS_SIZES,
    GROWTH_BYTES,
    Allocator,
    block_of,
    class_of,
    is_block,
    number_of,
)
from craqen.core.chunks.store import Block
from craqen.core.errors import InvalidArgumentError
from craqen.core.limits import KIB, MIB

QUARANTINE_SECONDS = 10.0
LENGTHS = st.sampled_from([1, 64 * KIB, 64 * KIB + 1, MIB, 5 * MIB, 64 * MIB])


class AllocatorMachine(RuleBasedStateMachine):
    """Every block has one owner in the model: free, reserved, used, or quarantined until a time."""

    reserved = Bundle("reserved")
    used = Bundle("used")

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(QUARANTINE_SECONDS)
        self.now = 0.0
        self.live: set[Block] = set()
        self.adopted: set[Block] = set()
        self.resting: dict[Block, float] = {}
        self.on_disk = 0

    @rule(target=reserved, length=LENGTHS)
    def reserve(self, length: int) -> Block:
        block = self.allocator.reserve(length)
        if block is None:
            growth = self.allocator.growth(length)
            assert growth.length_bytes <= max(GROWTH_BYTES, CLASS_SIZES[class_of(length)])
            assert growth.offset_bytes + growth.length_bytes <= BLOCK_FILE_BYTES
            self.allocator.grown(growth)
            self.on_disk += growth.length_bytes
            block = self.allocator.reserve(length)
        assert block is not None
        assert block.capacity_bytes == CLASS_SIZES[class_of(length)]
        self.give(block)
        return block

    @rule(target=reserved, length=LENGTHS)
    def reserve_or_borrow(self, length: int) -> Block:
        block = self.allocator.reserve(length) or self.allocator.borrow(length)
        if block is None:
            growth = self.allocator.growth(length, bytes_max=1)
            assert growth.length_bytes == CLASS_SIZES[class_of(length)]
            self.allocator.grown(growth)
            self.on_disk += growth.length_bytes
            block = self.allocator.reserve(length)
        assert block is not None
        assert block.capacity_bytes >= length
        self.give(block)
        return block

    def give(self, block: Block) -> None:
        assert is_block(block)
        assert block not in self.live
        assert self.resting.pop(block, 0.0) <= self.now, "given out in quarantine"
        assert self.allocator.is_reserved(block)
        self.live.add(block)

    @rule(block=consumes(reserved))
    def release(self, block: Block) -> None:
        self.allocator.release(block)
        self.live.remove(block)

    @rule(block=consumes(reserved))
    def release_seen(self, block: Block) -> None:
        self.allocator.release_seen(block, self.now)
        self.live.remove(block)
        self.resting[block] = self.now + QUARANTINE_SECONDS

    @rule(target=used, block=consumes(reserved))
    def adopt(self, block: Block) -> Block:
        self.allocator.adopt(block)
        self.adopted.add(block)
        return block

    @rule(block=consumes(used))
    def free(self, block: Block) -> None:
        self.allocator.free(block, self.now)
        self.live.remove(block)
        self.adopted.remove(block)
        self.resting[block] = self.now + QUARANTINE_SECONDS

    @rule(seconds=st.floats(0, 15))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.allocator.tick(self.now)
        self.resting = {block: end for block, end in self.resting.items() if end > self.now}

    @invariant()
    def counts_add_up(self) -> None:
        used, reserved, resting = self.allocator.counts()
        assert used == len(self.adopted)
        assert reserved == len(self.live) - len(self.adopted)
        assert resting == len(self.resting)
        live_bytes = sum(block.capacity_bytes for block in self.live)
        assert self.allocator.used_bytes() == sum(block.capacity_bytes for block in self.adopted)
        assert self.allocator.disk_bytes() == self.on_disk
        assert self.allocator.free_bytes() == self.on_disk - live_bytes


AllocatorMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestAllocator = AllocatorMachine.TestCase


def test_classes() -> None:
    for number, size in enumerate(CLASS_SIZES):
        assert class_of(size) == number
        assert class_of(size // 2 + 1) == number
    assert (CLASS_SIZES[0], CLASS_SIZES[-1], len(CLASS_SIZES)) == (64 * KIB, 64 * MIB, 11)
    for wrong in (0, -5, 64 * MIB + 1):
        with pytest.raises(InvalidArgumentError):
            class_of(wrong)


def test_places() -> None:
    for class_number, size in enumerate(CLASS_SIZES):
        per_file = BLOCK_FILE_BYTES // size
        for number in (0, 1, per_file - 1, per_file, 5 * per_file + 3):
            block = block_of(class_number, number)
            assert is_block(block)
            assert number_of(block) == (class_number, number)
    for block in (
        Block(0, 1, 64 * KIB),
        Block(0, 0, 128 * KIB),
        Block(0, BLOCK_FILE_BYTES, 64 * KIB),
        Block(0, -64 * KIB, 64 * KIB),
        Block(11 << 16, 0, 64 * KIB),
        Block(-1, 0, 64 * MIB),
    ):
        assert not is_block(block)


def test_growth_does_not_cross_files() -> None:
    allocator = Allocator(QUARANTINE_SECONDS)
    per_file = BLOCK_FILE_BYTES // MIB
    on_disk = [0] * len(CLASS_SIZES)
    on_disk[4] = per_file - 3
    allocator.load(on_disk)
    allocator.loaded(0, withhold=False)
    growth = allocator.growth(MIB)
    assert (growth.length_bytes, growth.file_id) == (3 * MIB, 4 << 16)
    allocator.grown(growth)
    following = allocator.growth(MIB)
    assert (following.offset_bytes, following.file_id) == (0, (4 << 16) + 1)
    assert allocator.growth(MIB, bytes_max=1).length_bytes == MIB


def test_loading() -> None:
    allocator = Allocator(QUARANTINE_SECONDS)
    on_disk = [0] * len(CLASS_SIZES)
    on_disk[0] = 5
    allocator.load(on_disk)
    assert allocator.mark_used(block_of(0, 2))
    assert not allocator.mark_used(block_of(0, 2))
    assert allocator.mark_used(block_of(0, 7))  # beyond what is on disk: never given out
    allocator.loaded(100.0, withhold=False)
    assert allocator.counts() == (2, 0, 6)
    allocator.tick(109.9)
    assert allocator.reserve(1) is None
    allocator.tick(110.0)
    given = {allocator.reserve(1) for _ in range(6)}
    assert given == {block_of(0, number) for number in (0, 1, 3, 4, 5, 6)}
    assert allocator.growth(1).offset_bytes == 8 * 64 * KIB


def test_withholding() -> None:
    allocator = Allocator(QUARANTINE_SECONDS)
    on_disk = [0] * len(CLASS_SIZES)
    on_disk[0] = 3
    allocator.load(on_disk)
    allocator.mark_used(block_of(0, 0))
    allocator.loaded(0.0, withhold=True)
    allocator.free(block_of(0, 0), 5.0)
    allocator.tick(1000.0)
    assert allocator.counts() == (0, 0, 2)
    assert allocator.reserve(1) == block_of(0, 0)
    assert allocator.reserve(1) is None
    allocator.end_withholding(2000.0)
    allocator.tick(2000.0)
    assert allocator.reserve(1) is None
    allocator.tick(2010.0)
    assert {allocator.reserve(1), allocator.reserve(1)} == {block_of(0, 1), block_of(0, 2)}
