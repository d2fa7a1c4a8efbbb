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
import logging
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..clock import Clock
from ..errors import DataLossError, DiskError, NoSpaceError
from ..ids import ChunkId, TargetId
from .allocator import Allocator
from .changes import Step, blocks_of, is_outdated, plan_changes
from .folder import TargetFolder
from .index import ChunkIndex, check_record, decode_record
from .store import Block, ChunkRecord, ChunkStore, IndexChange, SpaceInfo, TokenOutcome

LAZY_FLUSH_SECONDS = 0.05  # changes that nobody waits for gather for this long

_logger = logging.getLogger("craqen.chunks")


@dataclass(slots=True)
class _Round:
    """Changes that will be made durable together."""

    records: dict[ChunkId, ChunkRecord | None] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)
    files: set[int] = field(default_factory=set)
    freed: list[Block] = field(default_factory=list)
    repaired: set[ChunkId] = field(default_factory=set)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class FileChunkStore(ChunkStore):
    """``ChunkStore`` (core/chunks/store.py) on a folder of one disk."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        target_id: TargetId,
        cluster_id: str,
        quarantine_seconds: float,
    ) -> None:
        """Open or create the store, inside a running event loop. Reads the whole index once.

        Raises OperatorError (in use, or another target's folder), DataLossError (the index as a
        whole is unusable), DiskError, NoSpaceError.
        """
        self._path = folder
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._allocator = Allocator(quarantine_seconds)
        self._damaged: set[ChunkId] = set()
        with contextlib.ExitStack() as undo:
            self._folder = TargetFolder(folder, target_id=target_id, cluster_id=cluster_id)
            undo.callback(self._folder.close)
            self._index = ChunkIndex(self._folder.index)
            undo.callback(self._index.close)
            self._folder.complete()
            self._load()
            undo.pop_all()
        self._unrepaired = set(self._damaged)
        self._overlay: dict[ChunkId, ChunkRecord | None] = {}
        self._outcomes: dict[tuple[int, int], TokenOutcome] = {}
        self._round = _Round()
        self._in_flight = _Round()
        self._flushing: asyncio.Task[None] | None = None
        self._lazy: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._closed = False
        self._chunks = self._index.count()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chunk-flush")

    # Reading

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The chunk's record as of every change made so far. Raises DataLossError, DiskError."""
        if chunk_id in self._overlay:
            return self._overlay[chunk_id]
        if self._damaged and chunk_id in self._damaged:
            raise DataLossError(
                f"chunk {chunk_id.segment_id:x}.{chunk_id.index}: its index record is damaged"
            )
        try:
            return self._index.get(chunk_id)
        except DataLossError:
            self._damaged.add(chunk_id)
            raise

    def scan(self, begin: ChunkId, limit: int) -> list[ChunkRecord]:
        """Records from *begin* on; damaged ones are left out. Raises DiskError."""
        found: list[ChunkRecord] = []
        overlay = self._overlay
        added = sorted(
            record.chunk_id
            for record in overlay.values()
            if record is not None and record.chunk_id >= begin
        )
        position = 0
        with contextlib.closing(self._stored(begin)) as stored:
            following = next(stored, None)
            while len(found) < limit:
                if position < len(added) and (
                    following is None or added[position] < following.chunk_id
                ):
                    record = overlay[added[position]]
                    assert record is not None
                    found.append(record)
                    position += 1
                elif following is not None:
                    found.append(following)
                    following = next(stored, None)
                else:
                    break
        return found

    def damaged(self) -> frozenset[ChunkId]:
        """Chunks whose index records were found damaged."""
        return frozenset(self._damaged)

    def failure(self) -> Exception | None:
        """The error after which the store takes no more writes."""
        return self._failure

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome of the client's last update on the channel. Raises DataLossError,
        DiskError."""
        outcome = self._outcomes.get((client_id, channel))
        if outcome is not None:
            return outcome
        if client_id in self._round.forgotten or client_id in self._in_flight.forgotten:
            return None
        return self._index.outcome(client_id, channel)

    def forget_client(self, client_id: int) -> None:
        """Drop the client's outcomes."""
        for outcomes in (self._outcomes, self._round.outcomes):
            for key in [key for key in outcomes if key[0] == client_id]:
                del outcomes[key]
        self._round.forgotten.add(client_id)
        self._flush_later()

    def scan_outcomes(self, begin: tuple[int, int], limit: int) -> list[TokenOutcome]:
        """Outcomes from *begin* on; damaged ones are left out. Raises DiskError."""
        found = {key: one for key, one in self._outcomes.items() if key >= begin}
        forgotten = self._round.forgotten | self._in_flight.forgotten
        stored = 0
        with contextlib.closing(self._index.outcomes(begin)) as outcomes:
            for outcome in outcomes:
                key = (outcome.token.client_id, outcome.token.channel)
                if key[0] not in forgotten:
                    found.setdefault(key, outcome)
                    stored += 1
                    if stored == limit:
                        break
        return [found[key] for key in sorted(found)[:limit]]

    async def put_outcomes(self, outcomes: Sequence[TokenOutcome]) -> None:
        """Remember *outcomes* durably where nothing newer is known. Raises DiskError,
        NoSpaceError."""
        if self._failure is not None:
            raise self._refusal()
        for outcome in outcomes:
            if not is_outdated(outcome, self.outcome):
                key = (outcome.token.client_id, outcome.token.channel)
                self._outcomes[key] = self._round.outcomes[key] = outcome
        await self._durable()

    # Blocks

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block, its space allocated on disk. Raises NoSpaceError, DiskError,
        InvalidArgumentError."""
        if self._failure is not None:
            raise self._refusal()
        block = self._allocator.reserve(length_bytes)
        return self._reserve_more(length_bytes) if block is None else block

    def release(self, block: Block) -> None:
        """Give back a reserved block that nobody else saw."""
        self._allocator.release(block)

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that somebody may still be writing to."""
        self._allocator.release_seen(block, self._clock.monotonic_seconds())

    def open_file(self, file_id: int) -> int:
        """The block file's descriptor. Raises DataLossError if it is gone, DiskError."""
        return self._folder.open_file(file_id)

    def open_direct(self, file_id: int) -> int:
        """The block file's descriptor past the page cache, or -1. Raises as ``open_file``."""
        return self._folder.open_direct(file_id)

    def _reserve_more(self, length_bytes: int) -> Block:
        """No block of the class is free: end quarantines, grow a block file, or borrow."""
        self.tick()
        block = self._allocator.reserve(length_bytes)
        if block is None:
            try:
                self._grow(length_bytes)
            except NoSpaceError:
                block = self._allocator.borrow(length_bytes)
                if block is None:
                    raise
                return block
            except DiskError as error:
                self._fail(error)
                raise
            block = self._allocator.reserve(length_bytes)
            assert block is not None
        return block

    def _grow(self, length_bytes: int) -> None:
        """Allocate more blocks: several, or where there is no room for that, one."""
        if not self._index.ensure_room():
            raise NoSpaceError(f"{self._path}: the disk is full: free some space")
        growth = self._allocator.growth(length_bytes)
        try:
            self._folder.allocate(growth)
        except NoSpaceError:
            smaller = self._allocator.growth(length_bytes, bytes_max=length_bytes)
            if smaller == growth:
                raise
            growth = smaller
            self._folder.allocate(growth)
        self._allocator.grown(growth)

    # Changing

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Carry out *changes* atomically; with ``durable`` return when they are on stable storage.

        Raises DiskError, NoSpaceError (either way the store takes no more writes), DataLossError
        (nothing was changed: the record of one of the chunks is damaged).
        """
        if self._failure is not None:
            raise self._refusal()
        for step in plan_changes(changes, self.get, self._allocator.is_reserved, self.outcome):
            self._carry_out(step)
        if not durable:
            self._flush_later()
            return
        await self._durable()

    async def _durable(self) -> None:
        """Return when every change made so far is on stable storage."""
        waiter = self._loop.create_future()
        self._round.waiters.append(waiter)
        self._start_flush()
        await waiter

    def _carry_out(self, step: Step) -> None:
        current = self._round
        chunk_id, new, outcome = step.chunk_id, step.new, step.outcome
        for block in step.taken:
            self._allocator.adopt(block)
        current.freed += step.freed
        if step.written_file_id is not None:
            current.files.add(step.written_file_id)
        self._chunks += (new is not None) - (step.old is not None or step.repairs)
        self._overlay[chunk_id] = current.records[chunk_id] = new
        if outcome is not None:
            key = (outcome.token.client_id, outcome.token.channel)
            self._outcomes[key] = current.outcomes[key] = outcome
        if step.repairs:
            current.repaired.add(chunk_id)
            self._damaged.discard(chunk_id)

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
                # Callers whom the last round woke come back in this turn of the loop: let them
                # join, or rounds fall apart into a large and a small one in turns.
                await asyncio.sleep(0)
                current = self._round
                if not (current.records or current.waiters or current.forgotten):
                    return
                self._round, self._in_flight = _Round(), current
                await self._flush(current)
                self._in_flight = _Round()
        finally:
            self._flushing = None

    async def _flush(self, current: _Round) -> None:
        try:
            descriptors = [self._folder.open_file(file_id) for file_id in current.files]
            await self._loop.run_in_executor(
                self._thread, self._flush_blocking, current, descriptors
            )
            self._index.refresh()
        except Exception as error:
            # Whatever it was: what was to be durable is not, and nobody may be told that it is.
            self._fail(error)
            for waiter in [*current.waiters, *self._round.waiters]:
                if not waiter.done():
                    waiter.set_exception(_told(self._path, error))
            return
        self._settle(current)
        for waiter in current.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _flush_blocking(self, current: _Round, descriptors: Sequence[int]) -> None:
        """Bytes first, then the index that refers to them."""
        for descriptor in descriptors:
            os.fdatasync(descriptor)
        self._index.write(current.records.items(), current.outcomes.values(), current.forgotten)

    def _settle(self, current: _Round) -> None:
        """*current* is durable: the index shows it, and its freed blocks begin their quarantine."""
        following = self._round.records
        for chunk_id in current.records:
            if chunk_id not in following:
                del self._overlay[chunk_id]
        for key, outcome in current.outcomes.items():
            if self._outcomes.get(key) is outcome:
                del self._outcomes[key]
        now = self._clock.monotonic_seconds()
        for block in current.freed:
            self._allocator.free(block, now)
        if current.repaired & self._unrepaired:
            self._unrepaired -= current.repaired
            if not self._unrepaired:
                self._allocator.end_withholding(now)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            _logger.error("%s: takes no more writes: %s", self._path, error)

    def _refusal(self) -> DiskError:
        return DiskError(
            f"{self._path}: takes no writes since a disk operation failed: {self._failure}"
        )

    # Upkeep

    def tick(self) -> None:
        """Let go of blocks whose quarantine is over."""
        self._allocator.tick(self._clock.monotonic_seconds())

    def space(self) -> SpaceInfo:
        """How full the store is. Free: what the disk has, and free blocks on it. Raises
        DiskError."""
        try:
            status = os.statvfs(self._path)
        except OSError as error:
            raise DiskError(f"{self._path}: {error.strerror}: look at the kernel log") from error
        blocks_used, blocks_reserved, blocks_quarantined = self._allocator.counts()
        return SpaceInfo(
            status.f_blocks * status.f_frsize,
            self._allocator.free_bytes() + status.f_bavail * status.f_frsize,
            self._chunks,
            blocks_used,
            blocks_reserved,
            blocks_quarantined,
            self._allocator.used_bytes(),
        )

    async def close(self) -> None:
        """Flush what is left and release the folder.

        Raises DiskError, NoSpaceError if that flush failed (a failure from before was told then).
        """
        if self._closed:
            return
        self._closed = True
        told_before = self._failure
        if told_before is None:
            self._start_flush()
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._lazy is not None:
            self._lazy.cancel()
        failure = self._failure
        self._failure = failure or DiskError("the store is closed")
        self._thread.shutdown()
        self._index.close()
        self._folder.close()
        if failure is not None and told_before is None:
            raise _told(self._path, failure)

    def _stored(self, begin: ChunkId) -> Generator[ChunkRecord, None, None]:
        """Records in the index that no change on its way replaces."""
        with contextlib.closing(self._index.items(begin)) as items:
            for chunk_id, key, value in items:
                if chunk_id in self._overlay or chunk_id in self._damaged:
                    continue
                try:
                    yield decode_record(chunk_id, key, value)
                except DataLossError:
                    self._damaged.add(chunk_id)

    def _load(self) -> None:
        """Blocks in use from the index, blocks on disk from the block files."""
        self._allocator.load(self._folder.blocks_on_disk())
        for chunk_id, key, value in self._index.items(ChunkId(0, 0)):
            try:
                record = decode_record(chunk_id, key, value)
                check_record(record)
            except DataLossError as error:
                _logger.error("%s: %s", self._path, error)
                self._damaged.add(chunk_id)
                continue
            for block in blocks_of(record):
                if not self._allocator.mark_used(block):
                    raise DataLossError(
                        f"{self._path}: the index gives {block} to two chunks, one of them "
                        f"{chunk_id.segment_id:x}.{chunk_id.index}: clear the target's folder and "
                        f"let the chain fill it again"
                    )
        self._allocator.loaded(self._clock.monotonic_seconds(), withhold=bool(self._damaged))


def _told(path: Path, error: Exception) -> DiskError | NoSpaceError:
    """What those are told whose changes did not become durable."""
    kind = NoSpaceError if isinstance(error, NoSpaceError) else DiskError
    return kind(f"{path}: cannot be flushed: {error}")
