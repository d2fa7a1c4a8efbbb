"""The reference chunk store: the same rules in memory, for tests and simulation. Block files are
anonymous memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..clock import Clock
from ..errors import NoSpaceError
from ..ids import ChunkId
from .allocator import BLOCK_FILE_BYTES, Allocator
from .changes import apply_change, blocks_of
from .store import Block, ChunkRecord, IndexChange, SpaceInfo, TokenOutcome


class MemoryChunkStore:
    """``ChunkStore`` (core/chunks/store.py) that is gone with the process."""

    def __init__(
        self, clock: Clock, *, quarantine_seconds: float, capacity_bytes: int = BLOCK_FILE_BYTES
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

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome."""
        return self._outcomes.get((client_id, channel))

    def forget_client(self, client_id: int) -> None:
        """Drop the client's outcomes."""
        for key in [key for key in self._outcomes if key[0] == client_id]:
            del self._outcomes[key]

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block. Raises NoSpaceError."""
        block, fresh = self._allocator.reserve(length_bytes)
        if self.space().free_bytes < 0:
            (self._allocator.withdraw if fresh else self._allocator.release)(block)
            raise NoSpaceError("the store in memory is full")
        return block

    def release(self, block: Block) -> None:
        """Give back a reserved block."""
        self._allocator.release(block)

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that a client may still be writing to."""
        self._allocator.release_seen(block, self._clock.monotonic_seconds())

    def open_file(self, file_id: int) -> int:
        """The descriptor of an anonymous file."""
        if file_id not in self._files:
            descriptor = os.memfd_create(f"blocks-{file_id}")
            os.ftruncate(descriptor, BLOCK_FILE_BYTES)
            self._files[file_id] = descriptor
        return self._files[file_id]

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Carry out *changes*."""
        for change in changes:
            old = self._records.get(change.chunk_id)
            new, outcome = apply_change(old, change)
            before, after = blocks_of(old), blocks_of(new)
            for block in after - before:
                self._allocator.adopt(block)
            for block in before - after:
                self._allocator.free(block, self._clock.monotonic_seconds())
            if new is None:
                self._records.pop(change.chunk_id, None)
            else:
                self._records[change.chunk_id] = new
            if outcome is not None:
                self._outcomes[outcome.token.client_id, outcome.token.channel] = outcome

    def tick(self) -> None:
        """Let go of blocks whose quarantine is over."""
        self._allocator.tick(self._clock.monotonic_seconds())

    def space(self) -> SpaceInfo:
        """How full the store is."""
        used, reserved, quarantined = self._allocator.counts()
        used_bytes, _ = self._allocator.bytes_by_state()
        free = self._capacity_bytes - used_bytes - self._allocator.reserved_bytes()
        return SpaceInfo(
            self._capacity_bytes, free, len(self._records), used, reserved, quarantined, used_bytes
        )

    async def close(self) -> None:
        """Release the memory."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
