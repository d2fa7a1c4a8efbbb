"""One target's disk: the production index rules and allocator on memory, with a line between what
is flushed and what is not.

Flushes go in rounds, as the production engine's do. A crash loses every round that is not on
stable storage (the one under way by chance) and garbles bytes that were not flushed; a failed disk
takes no writes until it is opened anew; rot changes bytes at rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from craqen.core.chunks.allocator import (
    BLOCK_FILE_BYTES,
    CLASS_SIZES,
    FILES_PER_CLASS_MAX,
    Allocator,
)
from craqen.core.chunks.changes import Step, blocks_of, is_outdated, plan_changes
from craqen.core.chunks.store import Block, ChunkRecord, IndexChange, SpaceInfo, TokenOutcome
from craqen.core.errors import CraqenError, DataLossError, DiskError, NoSpaceError
from craqen.core.ids import ChunkId

from .ghost import Ghost
from .world import Process, Violation

LAZY_FLUSH_SECONDS = 0.05


@dataclass(slots=True)
class _Round:
    """Changes that become durable together."""

    steps: list[Step] = field(default_factory=list)
    outcomes: list[TokenOutcome] = field(default_factory=list)
    """In the order of changing, those of the steps among them."""
    waiters: list[Callable[[CraqenError | None], None]] = field(default_factory=list)


class Ledger:
    """What the simulator itself knows of a target's blocks: who may still read which."""

    def __init__(self) -> None:
        self.readable_until: dict[Block, float] = {}
        """Global time until which some reader may use the block."""


class SimulatedDisk:
    """What outlives the process: durable records, outcomes, bytes."""

    def __init__(self, name: str, ghost: Ghost, flush_seconds: float) -> None:
        self.name = name
        self.flush_seconds = flush_seconds
        """About what a flush takes."""
        self.on_flush: Callable[[], None] | None = None
        """Told once when the next flush begins: a fault waits for it."""
        self._ghost = ghost
        self.records: dict[ChunkId, ChunkRecord] = {}
        self.outcomes: dict[tuple[int, int], TokenOutcome] = {}
        self.files: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.failing = False
        self.full = False
        """Whether writes fail from now on."""
        self.damaged_records: set[ChunkId] = set()
        self.rotten: set[Block] = set()
        """Blocks whose bytes were changed at rest."""
        self.ledger = Ledger()

    def carry_out(self, steps: Sequence[Step], outcomes: Sequence[TokenOutcome]) -> None:
        """Both are durable."""
        self._ghost.stored(self.name, steps)
        for step in steps:
            if step.new is None:
                self.records.pop(step.chunk_id, None)
            else:
                self.records[step.chunk_id] = step.new
            self.damaged_records.discard(step.chunk_id)
        for outcome in outcomes:
            self.outcomes[outcome.token.client_id, outcome.token.channel] = outcome

    def close(self) -> None:
        """Let go of the memory."""
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files.clear()


class SimulatedStore:
    """``ChunkStore`` on a SimulatedDisk, except that ``persist`` calls back instead of being
    awaited."""

    def __init__(self, process: Process, disk: SimulatedDisk, quarantine_seconds: float) -> None:
        self._process = process
        self.disk = disk
        self._allocator = Allocator(quarantine_seconds)
        self._records = dict(disk.records)
        self._damaged = set(disk.damaged_records)
        self._unrepaired = set(self._damaged)
        self._outcomes = dict(disk.outcomes)
        self._round = _Round()
        self._in_flight: _Round | None = None
        self._lazy = False
        self._failure: DiskError | None = None
        self._dirty: dict[Block, int] = {}
        """Blocks with bytes that are not flushed, and where these begin."""
        self._flushing_dirty: dict[Block, int] = {}
        self._ownerless: set[Block] = set()
        """Of lost records: nobody knows that they are free until the store is opened anew."""
        self._load()

    def _load(self) -> None:
        counts = [0] * len(CLASS_SIZES)
        for file_id, size in self.disk.sizes.items():
            counts[file_id // FILES_PER_CLASS_MAX] = size
        self._allocator.load(counts)
        for chunk_id, record in self._records.items():
            if chunk_id in self._damaged:
                continue
            for block in blocks_of(record):
                if not self._allocator.mark_used(block):
                    raise Violation(f"{self.disk.name}: {block} belongs to two chunks")
        self._allocator.loaded(self._process.clock(), withhold=bool(self._damaged))

    # ChunkStore

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The chunk's record."""
        if chunk_id in self._damaged:
            raise DataLossError(f"chunk {chunk_id}: its index record is damaged")
        return self._records.get(chunk_id)

    def scan(self, begin: ChunkId, limit: int) -> list[ChunkRecord]:
        """Records from *begin* on."""
        ids = sorted(one for one in self._records if one >= begin and one not in self._damaged)
        return [self._records[chunk_id] for chunk_id in ids[:limit]]

    def damaged(self) -> frozenset[ChunkId]:
        """Chunks whose records are damaged."""
        return frozenset(self._damaged)

    def failure(self) -> Exception | None:
        """Why no writes are taken."""
        return self._failure

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome."""
        return self._outcomes.get((client_id, channel))

    def forget_client(self, client_id: int) -> None:
        """Drop the client's outcomes."""
        for key in [key for key in self._outcomes if key[0] == client_id]:
            del self._outcomes[key]

    def scan_outcomes(self, begin: tuple[int, int], limit: int) -> list[TokenOutcome]:
        """Remembered outcomes from *begin* on."""
        keys = sorted(key for key in self._outcomes if key >= begin)
        return [self._outcomes[key] for key in keys[:limit]]

    async def put_outcomes(self, outcomes: Sequence[TokenOutcome]) -> None:
        """Use ``persist_outcomes``."""
        raise NotImplementedError

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block. Raises DiskError, NoSpaceError."""
        if self._failure is not None:
            raise self._failure
        if self.disk.full:
            raise NoSpaceError(f"{self.disk.name}: is full")
        block = self._allocator.reserve(length_bytes)
        if block is None:
            self.tick()
            block = self._allocator.reserve(length_bytes)
        if block is None:
            growth = self._allocator.growth(length_bytes, bytes_max=length_bytes)
            if growth.file_id not in self.disk.files:
                descriptor = os.memfd_create(f"{self.disk.name}-{growth.file_id}", os.MFD_CLOEXEC)
                os.ftruncate(descriptor, BLOCK_FILE_BYTES)
                self.disk.files[growth.file_id] = descriptor
            self._allocator.grown(growth)
            self.disk.sizes[growth.file_id] = self.disk.sizes.get(growth.file_id, 0) + 1
            block = self._allocator.reserve(length_bytes)
        assert block is not None
        if self.disk.ledger.readable_until.get(block, 0.0) > self._process.world.now:
            raise Violation(f"{self.disk.name}: {block} is given out while a reader may use it")
        self._dirty[block] = 0
        self.disk.rotten.discard(block)
        return block

    def release(self, block: Block) -> None:
        """Give back a reserved block that nobody saw."""
        self._allocator.release(block)

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that a client may be writing to."""
        self._allocator.release_seen(block, self._process.clock())

    def open_direct(self, file_id: int) -> int:
        """Memory has no page cache before it."""
        return -1

    def open_file(self, file_id: int) -> int:
        """The descriptor of a block file."""
        return self.disk.files[file_id]

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Use ``persist``."""
        raise NotImplementedError

    def tick(self) -> None:
        """Let go of blocks whose quarantine is over."""
        self._allocator.tick(self._process.clock())

    def space(self) -> SpaceInfo:
        """How full the store is."""
        used, reserved, quarantined = self._allocator.counts()
        return SpaceInfo(
            1 << 30,
            1 << 30,
            len(self._records),
            used,
            reserved,
            quarantined,
            self._allocator.used_bytes(),
        )

    async def close(self) -> None:
        """Nothing is held."""

    # Writing

    def touched(self, block: Block, from_byte: int) -> None:
        """Bytes of the block from *from_byte* on were written."""
        self._dirty[block] = min(from_byte, self._dirty.get(block, from_byte))

    def persist(
        self,
        changes: Sequence[IndexChange],
        durable: bool,
        done: Callable[[CraqenError | None], None],
    ) -> None:
        """As ``apply``; *done* is called with the error or None. Raises what ``apply`` raises
        before it changes anything."""
        if self._failure is not None:
            raise self._failure
        steps = plan_changes(changes, self.get, self._allocator.is_reserved, self.outcome)
        for step in steps:
            for block in step.taken:
                self._allocator.adopt(block)
            if step.new is None:
                self._records.pop(step.chunk_id, None)
            else:
                self._records[step.chunk_id] = step.new
            if step.outcome is not None:
                self._remember(step.outcome)
            if step.repairs:
                self._damaged.discard(step.chunk_id)
        self._round.steps += steps
        if durable:
            self._round.waiters.append(done)
            self._flush()
        else:
            self._process.after(0.0, done, None)
            if not self._lazy:
                self._lazy = True
                self._process.after(LAZY_FLUSH_SECONDS, self._lazy_flush)

    def persist_outcomes(
        self, outcomes: Sequence[TokenOutcome], done: Callable[[CraqenError | None], None]
    ) -> None:
        """As ``put_outcomes``. Raises DiskError."""
        if self._failure is not None:
            raise self._failure
        for outcome in outcomes:
            if not is_outdated(outcome, self.outcome):
                self._remember(outcome)
        self._round.waiters.append(done)
        self._flush()

    def _remember(self, outcome: TokenOutcome) -> None:
        self._outcomes[outcome.token.client_id, outcome.token.channel] = outcome
        self._round.outcomes.append(outcome)

    def _lazy_flush(self) -> None:
        self._lazy = False
        self._flush()

    def _flush(self) -> None:
        if self._in_flight is not None or not (self._round.steps or self._round.waiters):
            return
        self._in_flight, self._round = self._round, _Round()
        self._flushing_dirty, self._dirty = self._dirty, {}
        seconds = self.disk.flush_seconds * (0.1 + self._process.world.random.random())
        self._process.after(seconds, self._flushed)
        on_flush, self.disk.on_flush = self.disk.on_flush, None
        if on_flush is not None:
            on_flush()

    def _flushed(self) -> None:
        current = self._in_flight
        assert current is not None
        self._in_flight = None
        if self.disk.failing:
            self._failure = DiskError(f"{self.disk.name}: the disk failed")
            # What was under way may have reached the disk all the same.
            if self._process.world.random.random() < 0.5:
                self._flushing_dirty = {}
                self.disk.carry_out(current.steps, current.outcomes)
            for waiter in [*current.waiters, *self._round.waiters]:
                waiter(self._failure)
            self._round = _Round()
            return
        self._flushing_dirty = {}
        self.disk.carry_out(current.steps, current.outcomes)
        now = self._process.clock()
        for step in current.steps:
            for block in step.freed:
                self._allocator.free(block, now)
            if step.repairs:
                self._unrepaired.discard(step.chunk_id)
                if not self._unrepaired:
                    self._allocator.end_withholding(now)
        for waiter in current.waiters:
            waiter(None)
        self._flush()

    def crash(self) -> None:
        """The machine stops: what was not flushed is lost, or lies there as garbage."""
        chance = self._process.world.random
        if self._in_flight is not None and self._failure is None and chance.random() < 0.5:
            # The bytes are flushed before the index that refers to them is written.
            self._flushing_dirty = {}
            self.disk.carry_out(self._in_flight.steps, self._in_flight.outcomes)
        for dirty in (self._flushing_dirty, self._dirty):
            for block, start in dirty.items():
                if chance.random() < 0.5:
                    descriptor = self.disk.files[block.file_id]
                    os.pwrite(descriptor, b"\xde\xad" * 16, block.offset_bytes + start)

    # Damage

    def rot(self, chunk_id: ChunkId) -> bool:
        """Change a committed byte at rest; whether there was one."""
        record = self._records.get(chunk_id)
        if record is None or record.committed is None or record.committed.length_bytes == 0:
            return False
        block = record.committed.block
        descriptor = self.disk.files[block.file_id]
        (byte,) = os.pread(descriptor, 1, block.offset_bytes)
        os.pwrite(descriptor, bytes([byte ^ 0x55]), block.offset_bytes)
        self.disk.rotten.add(block)
        return True

    def lose_record(self, chunk_id: ChunkId) -> bool:
        """Damage the index record of a chunk; whether there was one, at rest."""
        busy = [*self._round.steps, *(self._in_flight.steps if self._in_flight else ())]
        if chunk_id not in self._records or any(step.chunk_id == chunk_id for step in busy):
            return False
        self._damaged.add(chunk_id)
        self._unrepaired.add(chunk_id)
        self._ownerless.update(blocks_of(self._records[chunk_id]))
        self.disk.damaged_records.add(chunk_id)
        return True

    def reader_until(self, block: Block, time: float) -> None:
        """A reader may use the block until then (global time)."""
        readable = self.disk.ledger.readable_until
        readable[block] = max(time, readable.get(block, 0.0))

    def check_blocks(self) -> None:
        """Every used block belongs to one chunk, and no reservation is left. Raises Violation."""
        used, reserved, _ = self._allocator.counts()
        used -= len(self._ownerless)
        owned: set[Block] = set()
        for record in self._records.values():
            for block in blocks_of(record):
                if block in owned:
                    raise Violation(f"{self.disk.name}: {block} belongs to two chunks")
                owned.add(block)
        if (used, reserved) != (len(owned), 0):
            raise Violation(
                f"{self.disk.name}: {len(owned)} blocks belong to chunks, but {used} are in use "
                f"and {reserved} reserved"
            )
