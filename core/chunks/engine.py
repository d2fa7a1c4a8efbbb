"""DRIVER: the chunk store of one target on a folder: block files, the index, group commit.

Concurrency: everything but the flushing runs on the event loop without an await in between, so that
is what makes it atomic. ``apply`` changes the in-memory overlay at once and joins a round; one
round at a time is flushed by a worker thread: block files first, then the index in one durable
transaction; then the round's callers go on.

After a failed flush nothing more is accepted: what the kernel dropped cannot be told from what it
kept, so the store says DiskError until it is opened anew, and reads go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..clock import Clock
from ..errors import DataLossError, DiskError, NoSpaceError, OperatorError
from ..ids import ChunkId
from ..limits import MIB
from .allocator import CLASS_SIZES, FILES_PER_CLASS_MAX, Allocator, number_of
from .changes import apply_change, blocks_of
from .index import ChunkIndex
from .store import Block, ChunkRecord, IndexChange, SpaceInfo, TokenOutcome

LAZY_FLUSH_SECONDS = 0.05  # changes that nobody waits for gather for this long
HEADROOM_BYTES = 32 * MIB  # kept free for the index, so that only reserving ever meets a full disk
_BLOCK_FILE = re.compile(r"blocks-(\d+)-(\d+)")


@dataclass(slots=True)
class _Round:
    """Changes that will be made durable together."""

    records: dict[ChunkId, ChunkRecord | None] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)
    files: set[int] = field(default_factory=set)
    freed: list[Block] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class FileChunkStore:
    """``ChunkStore`` (core/chunks/store.py) on a folder of one disk."""

    def __init__(self, folder: Path, clock: Clock, *, quarantine_seconds: float) -> None:
        """Open or create the store. Raises OperatorError if it is in use or not a chunk store."""
        self._folder = folder
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock_folder(folder)
        (folder / "blocks").mkdir(exist_ok=True)
        (folder / "index").mkdir(exist_ok=True)
        self._index = ChunkIndex(folder / "index")
        self._files: dict[int, int] = {}
        self._allocator = Allocator(quarantine_seconds)
        self._damaged: set[ChunkId] = set()
        self._load()
        self._overlay: dict[ChunkId, ChunkRecord | None] = {}
        self._outcomes: dict[tuple[int, int], TokenOutcome] = {}
        self._round = _Round()
        self._flushing: asyncio.Task[None] | None = None
        self._lazy: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._chunks = self._index.count()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chunk-flush")

    # Reading

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The chunk's record as of every change made so far. Raises DataLossError."""
        if chunk_id in self._overlay:
            return self._overlay[chunk_id]
        return self._index.get(chunk_id)

    def scan(self, begin: ChunkId, limit: int) -> list[ChunkRecord]:
        """Records from *begin* on; damaged ones are left out (``damaged`` names them)."""
        added = sorted(key for key, value in self._overlay.items() if key >= begin and value)
        found: list[ChunkRecord] = []
        stored = self._index.scan_ids(begin)
        next_stored = next(stored, None)
        position = 0
        while len(found) < limit:
            next_added = added[position] if position < len(added) else None
            if next_stored is None and next_added is None:
                break
            if next_stored is None or (next_added is not None and next_added < next_stored):
                assert next_added is not None
                chunk_id = next_added
            else:
                chunk_id = next_stored
            if chunk_id == next_stored:
                next_stored = next(stored, None)
            if chunk_id == next_added:
                position += 1
            with contextlib.suppress(DataLossError):
                record = self.get(chunk_id)
                if record is not None:
                    found.append(record)
        return found

    def damaged(self) -> frozenset[ChunkId]:
        """Chunks whose index records were found damaged at open."""
        return frozenset(self._damaged)

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome of the client's last update on the channel."""
        return self._outcomes.get((client_id, channel)) or self._index.outcome(client_id, channel)

    def forget_client(self, client_id: int) -> None:
        """Drop the client's outcomes."""
        for key in [key for key in self._outcomes if key[0] == client_id]:
            del self._outcomes[key]
        for key in [key for key in self._round.outcomes if key[0] == client_id]:
            del self._round.outcomes[key]
        self._round.forgotten.add(client_id)
        self._flush_later()

    # Blocks

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block, its space allocated on disk. Raises NoSpaceError,
        InvalidArgumentError."""
        self._raise_if_failed()
        block, fresh = self._allocator.reserve(length_bytes)
        if fresh:
            try:
                self._allocate_on_disk(block)
            except BaseException:
                self._allocator.withdraw(block)
                raise
        return block

    def release(self, block: Block) -> None:
        """Give back a reserved block that nobody else saw."""
        self._allocator.release(block)

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that somebody may still be writing to."""
        self._allocator.release_seen(block, self._clock.monotonic_seconds())

    def open_file(self, file_id: int) -> int:
        """The block file's descriptor."""
        descriptor = self._files.get(file_id)
        if descriptor is None:
            class_number, number = divmod(file_id, FILES_PER_CLASS_MAX)
            path = self._folder / "blocks" / f"blocks-{class_number}-{number}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._files[file_id] = descriptor
        return descriptor

    def _allocate_on_disk(self, block: Block) -> None:
        descriptor = self.open_file(block.file_id)
        end = block.offset_bytes + block.capacity_bytes
        if os.fstat(descriptor).st_size >= end:
            return
        try:
            space = os.fstatvfs(descriptor)
            if space.f_bavail * space.f_frsize < block.capacity_bytes + HEADROOM_BYTES:
                raise NoSpaceError(f"{self._folder}: the disk is full")
            os.posix_fallocate(descriptor, block.offset_bytes, block.capacity_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"{self._folder}: the disk is full") from error
            self._fail(error)
            raise DiskError(f"{self._folder}: cannot allocate: {error.strerror}") from error

    # Changing

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Carry out *changes* atomically; with ``durable`` return when they are on stable
        storage."""
        self._raise_if_failed()
        for change in changes:
            self._change(change)
        if not durable:
            self._flush_later()
            return
        waiter = self._loop.create_future()
        self._round.waiters.append(waiter)
        self._start_flush()
        await waiter

    def _change(self, change: IndexChange) -> None:
        chunk_id = change.chunk_id
        old = self.get(chunk_id)
        new, outcome = apply_change(old, change)
        before, after = blocks_of(old), blocks_of(new)
        current = self._round
        for block in after - before:
            self._allocator.adopt(block)
        current.freed += before - after
        # An append in place changes a block that the record had before.
        current.files.update(block.file_id for block in after)
        self._chunks += (new is not None) - (old is not None)
        self._overlay[chunk_id] = current.records[chunk_id] = new
        if outcome is not None:
            key = (outcome.token.client_id, outcome.token.channel)
            self._outcomes[key] = current.outcomes[key] = outcome

    def _flush_later(self) -> None:
        if self._lazy is None and self._flushing is None:
            self._lazy = self._loop.call_later(LAZY_FLUSH_SECONDS, self._start_flush)

    def _start_flush(self) -> None:
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        if self._flushing is None:
            self._flushing = self._loop.create_task(self._flush_rounds())

    async def _flush_rounds(self) -> None:
        """Flush rounds until one is empty. Only one task does this at a time."""
        try:
            while self._failure is None:
                current = self._round
                if not (current.records or current.waiters or current.forgotten):
                    return
                self._round = _Round()
                await self._flush(current)
        finally:
            self._flushing = None

    async def _flush(self, current: _Round) -> None:
        descriptors = [self._files[file_id] for file_id in current.files if file_id in self._files]
        try:
            await self._loop.run_in_executor(
                self._thread, self._flush_blocking, current, descriptors
            )
        except Exception as error:
            # Whatever it was: what was to be durable is not, and nobody may be told that it is.
            self._fail(error)
            problem = DiskError(f"{self._folder}: cannot be flushed: {error}")
            for waiter in [*current.waiters, *self._round.waiters]:
                if not waiter.done():
                    waiter.set_exception(problem)
            return
        self._index.refresh()
        for chunk_id, record in current.records.items():
            if chunk_id not in self._round.records and self._overlay.get(chunk_id) is record:
                del self._overlay[chunk_id]
        for key, outcome in current.outcomes.items():
            if self._outcomes.get(key) is outcome:
                del self._outcomes[key]
        now = self._clock.monotonic_seconds()
        for block in current.freed:
            self._allocator.free(block, now)
        for waiter in current.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _flush_blocking(self, current: _Round, descriptors: Sequence[int]) -> None:
        """Bytes first, then the index that refers to them."""
        for descriptor in descriptors:
            os.fdatasync(descriptor)
        self._index.write(current.records.items(), current.outcomes.values(), current.forgotten)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise DiskError(
                f"{self._folder}: takes no writes since a disk operation failed: {self._failure}"
            )

    # Upkeep

    def tick(self) -> None:
        """Let go of blocks whose quarantine is over."""
        self._allocator.tick(self._clock.monotonic_seconds())

    def space(self) -> SpaceInfo:
        """How full the store is. Free: what the disk has, and free blocks on it."""
        status = os.statvfs(self._folder)
        used, free = self._allocator.bytes_by_state()
        blocks_used, blocks_reserved, blocks_quarantined = self._allocator.counts()
        free += max(0, status.f_bavail * status.f_frsize - HEADROOM_BYTES)
        return SpaceInfo(
            status.f_blocks * status.f_frsize,
            free,
            self._chunks,
            blocks_used,
            blocks_reserved,
            blocks_quarantined,
            used,
        )

    async def close(self) -> None:
        """Flush what is left and release the folder."""
        if self._failure is None:
            self._start_flush()
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._thread.shutdown()
        self._index.close()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        os.close(self._lock)

    def _load(self) -> None:
        """Blocks in use from the index, blocks on disk from the block files."""
        high_water = [0] * len(CLASS_SIZES)
        for path in (self._folder / "blocks").iterdir():
            match = _BLOCK_FILE.fullmatch(path.name)
            if match is None:
                continue
            class_number, number = int(match[1]), int(match[2])
            blocks = path.stat().st_size // CLASS_SIZES[class_number]
            if blocks:
                file_id = class_number * FILES_PER_CLASS_MAX + number
                last = Block(
                    file_id, (blocks - 1) * CLASS_SIZES[class_number], CLASS_SIZES[class_number]
                )
                high_water[class_number] = max(high_water[class_number], number_of(last)[1] + 1)
        used: list[Block] = []
        for chunk_id in self._index.scan_ids(ChunkId(0, 0)):
            try:
                used += blocks_of(self._index.get(chunk_id))
            except DataLossError:
                self._damaged.add(chunk_id)
        # A damaged record hides which blocks its chunk has: then none that looks free is given out
        # again.
        now = self._clock.monotonic_seconds() if not self._damaged else float("inf")
        self._allocator.load(used, high_water, now)


def _lock_folder(folder: Path) -> int:
    """Lock the store for this process. Raises OperatorError if another has it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OperatorError(f"{folder}: another process has this chunk store open") from error
    return descriptor
