"""The reference chunk store: the same rules in memory, for tests and simulation. Block files are
anonymous memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..clock import Clock
from ..errors import DataLossError, NoSpaceError
from ..ids import ChunkId
from ..limits import GIB
from .allocator import BLOCK_FILE_BYTES, Allocator
from .changes import is_outdated, plan_changes
from .store import Block, ChunkRecord, ChunkStore, IndexChange, SpaceInfo, TokenOutcome

CAPACITY_BYTES = GIB


class MemoryChunkStore(ChunkStore):
    """``ChunkStore`` (core/chunks/store.py) that is gone with the process."""

    def __init__(
        self, clock: Clock, *, quarantine_seconds: float, capacity_bytes: int = CAPACITY_BYTES
    ) -> None:
        self._clock = clock
        self._capacity_bytes = capacity_bytes
        self._allocator = Allocator(quarantine_seconds)
        self._records: dict[ChunkId, ChunkRecord] = {}
        self._outcomes: dict[tuple[int, int], TokenOutcome] = {}
        self._files: dict[int, int] = {}

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The chunk's record."""
        return self._records.get(chunk_id)

    def scan(self, begin: ChunkId, limit: int) -> list[ChunkRecord]:
        """Records from *begin* on."""
        ids = sorted(chunk_id for chunk_id in self._records if chunk_id >= begin)
        return [self._records[chunk_id] for chunk_id in ids[:limit]]

    def damaged(self) -> frozenset[ChunkId]:
        """None: memory does not decay here."""
        return frozenset()

    def failure(self) -> Exception | None:
        """None: there is no disk to fail."""
        return None

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome."""
        return self._outcomes.get((client_id, channel))

    def forget_client(self, client_id: int) -> None:
        """Drop the client's outcomes."""
        for key in [key for key in self._outcomes if key[0] == client_id]:
            del self._outcomes[key]

    def scan_outcomes(self, begin: tuple[int, int], limit: int) -> list[TokenOutcome]:
        """Outcomes from *begin* on."""
        keys = sorted(key for key in self._outcomes if key >= begin)
        return [self._outcomes[key] for key in keys[:limit]]

    async def put_outcomes(self, outcomes: Sequence[TokenOutcome]) -> None:
        """Remember *outcomes* where nothing newer is known."""
        for outcome in outcomes:
            if not is_outdated(outcome, self.outcome):
                self._outcomes[outcome.token.client_id, outcome.token.channel] = outcome

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block. Raises NoSpaceError, InvalidArgumentError."""
        block = self._allocator.reserve(length_bytes)
        if block is not None:
            return block
        self.tick()
        block = self._allocator.reserve(length_bytes)
        if block is not None:
            return block
        growth = self._allocator.growth(length_bytes, bytes_max=length_bytes)
        if self._allocator.disk_bytes() + growth.length_bytes <= self._capacity_bytes:
            if growth.file_id not in self._files:
                descriptor = os.memfd_create(f"blocks-{growth.file_id}", os.MFD_CLOEXEC)
                os.ftruncate(descriptor, BLOCK_FILE_BYTES)
                self._files[growth.file_id] = descriptor
            self._allocator.grown(growth)
            block = self._allocator.reserve(length_bytes)
        else:
            block = self._allocator.borrow(length_bytes)
        if block is None:
            raise NoSpaceError("the store in memory is full")
        return block

    def release(self, block: Block) -> None:
        """Give back a reserved block."""
        self._allocator.release(block)

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that a client may still be writing to."""
        self._allocator.release_seen(block, self._clock.monotonic_seconds())

    def open_file(self, file_id: int) -> int:
        """The descriptor of an anonymous file. Raises DataLossError if there is none."""
        descriptor = self._files.get(file_id)
        if descriptor is None:
            raise DataLossError(f"block file {file_id}: there is none")
        return descriptor

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Carry out *changes*."""
        now = self._clock.monotonic_seconds()
        for step in plan_changes(changes, self.get, self._allocator.is_reserved, self.outcome):
            for block in step.taken:
                self._allocator.adopt(block)
            for block in step.freed:
                self._allocator.free(block, now)
            if step.new is None:
                self._records.pop(step.chunk_id, None)
            else:
                self._records[step.chunk_id] = step.new
            if step.outcome is not None:
                token = step.outcome.token
                self._outcomes[token.client_id, token.channel] = step.outcome

    def tick(self) -> None:
        """Let go of blocks whose quarantine is over."""
        self._allocator.tick(self._clock.monotonic_seconds())

    def space(self) -> SpaceInfo:
        """How full the store is."""
        used, reserved, quarantined = self._allocator.counts()
        free = self._allocator.free_bytes() + self._capacity_bytes - self._allocator.disk_bytes()
        used_bytes = self._allocator.used_bytes()
        return SpaceInfo(
            self._capacity_bytes, free, len(self._records), used, reserved, quarantined, used_bytes
        )

    async def close(self) -> None:
        """Release the memory."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
