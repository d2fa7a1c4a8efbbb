"""Group commit: one thread that turns queued transactions into durable LMDB transactions.

Whatever is queued when the cross-process write lock is ours becomes one LMDB transaction: each job
is validated against the store as the jobs before it left it, applied, and answered after the one
flush. A job that lost a race does not disturb the others.

Validation is by value: when nothing was committed since the job's snapshot it is skipped, else what
the job read is read again and compared. Equal values mean that the job, run now, would do the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from itertools import zip_longest
from queue import Empty, SimpleQueue
from typing import Final

import lmdb

from ..errors import UnavailableError
from ..limits import MIB
from . import conflict_log, lmdb_rows
from .checks import add_to_counter
from .lmdb_environment import LmdbEnvironment, translate
from .lmdb_rows import DIRECT_KEY_BYTES
from .store import KeyValue
from .write_buffer import Range, WriteBuffer

BATCH_JOBS_MAX: Final = 4096  # a versionstamp has 16 bits for the order inside a batch
BATCH_BYTES_MAX: Final = 32 * MIB  # bounds the dirty pages of one LMDB transaction

STAMP_COUNTER_ROW: Final = b"\xffv"

Txn = lmdb.Transaction


class RangeRead:
    """What a range held, less what the transaction had written there itself."""

    __slots__ = ("begin", "buffer_cleared", "buffer_keys", "end", "pairs")

    def __init__(
        self,
        begin: bytes,
        end: bytes,
        pairs: list[KeyValue],
        buffer_keys: frozenset[bytes] = frozenset(),
        buffer_cleared: tuple[Range, ...] = (),
    ) -> None:
        self.begin = begin
        self.end = end
        self.pairs = pairs
        self.buffer_keys = buffer_keys
        self.buffer_cleared = buffer_cleared

    def covers(self, key: bytes) -> bool:
        """Tell whether the transaction knew *key* by its own writes."""
        return key in self.buffer_keys or any(
            begin <= key < end for begin, end in self.buffer_cleared
        )


class CommitJob:
    """One transaction on its way: what it read, what it writes, who waits.

    ATTRIBUTES ``snapshot`` is kept open only for ``explicit`` read conflict ranges; None when it
    was lost. ``committed`` and ``error`` are the outcome.
    """

    __slots__ = (
        "buffer",
        "committed",
        "error",
        "explicit",
        "future",
        "point_reads",
        "range_reads",
        "snapshot",
        "snapshot_id",
    )

    def __init__(
        self,
        future: asyncio.Future[bool],
        snapshot_id: int,
        point_reads: dict[bytes, bytes | None],
        range_reads: list[RangeRead],
        explicit: list[Range],
        buffer: WriteBuffer,
    ) -> None:
        self.future = future
        self.snapshot_id = snapshot_id
        self.point_reads = point_reads
        self.range_reads = range_reads
        self.explicit = explicit
        self.buffer = buffer
        self.snapshot: lmdb.Transaction[bytes] | None = None
        self.committed = False
        self.error: Exception | None = None


class Committer:
    """The thread. ``submit`` and ``stop`` are called by the event loop."""

    def __init__(
        self,
        environment: LmdbEnvironment,
        *,
        exclusively: Callable[[Callable[[], None]], None],
        resolve: Callable[[list[CommitJob]], None],
    ) -> None:
        """*exclusively* runs a function while no snapshot is open; *resolve* hands back jobs.

        Both are called in the committer's thread.
        """
        self._environment = environment
        self._exclusively = exclusively
        self._resolve = resolve
        self._queue: SimpleQueue[list[CommitJob] | None] = SimpleQueue()
        self._backlog: deque[CommitJob] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="craqen-kv-commit", daemon=True)
        self._thread.start()

    def submit(self, jobs: list[CommitJob]) -> None:
        """Queue *jobs*, in order."""
        self._queue.put(jobs)

    def stop(self) -> None:
        """Commit what is queued, then end. Does not wait."""
        self._queue.put(None)

    def has_ended(self) -> bool:
        """Whether the thread is gone, however it ended."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping or self._backlog:
            if not self._backlog:
                self._accept(self._queue.get())
            if not self._backlog:
                continue
            batch: list[CommitJob] = []
            try:
                self._commit(batch)
            except (
                Exception
            ) as error:  # Also a defect of ours: it goes to those who wait, not lost.
                for job in batch:
                    job.committed = False
                    job.error = job.error or error
            try:
                self._resolve(batch)
            except RuntimeError:  # The event loop is closed: nobody waits any more.
                return

    def _accept(self, jobs: list[CommitJob] | None) -> None:
        if jobs is None:
            self._stopping = True
        else:
            self._backlog.extend(jobs)

    def _take(self, batch: list[CommitJob]) -> None:
        """Move what is queued by now to *batch*, up to the limits."""
        try:
            while True:
                self._accept(self._queue.get_nowait())
        except Empty:
            pass
        size_bytes = 0
        while self._backlog and len(batch) < BATCH_JOBS_MAX and size_bytes < BATCH_BYTES_MAX:
            job = self._backlog.popleft()
            size_bytes += job.buffer.size_bytes
            batch.append(job)

    def _commit(self, batch: list[CommitJob]) -> None:
        """Fill *batch* and decide each of its jobs. Raises the CraqenError that fails them all."""
        error = self._attempt(batch)
        if error is None:
            return
        if len(batch) == 1:
            raise self._environment.explain(error) from error
        # The disk refused them together: find out which of them it takes alone.
        for job in batch:
            error = self._attempt([job])
            if error is not None:
                job.committed = False
                job.error = self._environment.explain(error)

    def _attempt(self, batch: list[CommitJob]) -> lmdb.Error | None:
        """Commit *batch* as one LMDB transaction (an empty one is filled first).

        Mends the map and tries again where that helps. Returns the error that stopped it.
        """
        environment = self._environment
        for _ in range(_MENDS_MAX):
            try:
                with environment.lock:
                    environment.check_readers()
                    self._commit_once(batch)
                return None
            except lmdb.MapFullError:
                self._mend(environment.grow, batch)
            except lmdb.MapResizedError:
                self._mend(environment.adopt_size, batch)
            except lmdb.PanicError:
                self._mend(environment.reopen, batch)
            except lmdb.Error as error:
                return error
        raise UnavailableError(f"{environment.folder}: the map does not come to rest")

    def _mend(self, action: Callable[[], None], batch: list[CommitJob]) -> None:
        if not batch:
            self._take(batch)
        try:
            self._exclusively(action)
        except lmdb.Error as error:
            raise translate(error, self._environment.folder) from error

    def _commit_once(self, batch: list[CommitJob]) -> None:
        txn = self._environment.env.begin(write=True)
        try:
            if not batch:
                self._take(batch)  # After the wait for the lock: more may have come.
            if _apply_all(txn, batch):
                txn.commit()
        finally:
            txn.abort()


_MENDS_MAX: Final = 64
"""Doublings of the map, and the like, that one batch may take: more than any address space has."""


def _apply_all(txn: Txn[bytes], batch: list[CommitJob]) -> bool:
    """Decide every job and apply those that won; tell whether anything changed."""
    version = txn.id()
    latest = version - 1
    stamp: bytes | None = None
    changed = False
    for order, job in enumerate(batch):
        job.committed = (not changed and job.snapshot_id == latest) or _is_valid(txn, job)
        if not job.committed:
            continue
        buffer = job.buffer
        if buffer.stamped_keys or buffer.stamped_values:
            stamp = stamp or _next_stamp(txn)
        _apply(txn, buffer, (stamp or b"") + order.to_bytes(2, "big"))
        if buffer.conflicts:
            conflict_log.append(txn, version, buffer.conflicts)
        changed = True
    return changed


def _is_valid(txn: Txn[bytes], job: CommitJob) -> bool:
    """Tell whether everything that *job* read is as it was."""
    stored = txn.get
    for key, value in job.point_reads.items():
        if 0 < len(key) <= DIRECT_KEY_BYTES:
            if stored(key) != value:
                return False
        elif lmdb_rows.get(txn, key) != value:
            return False
    for read in job.range_reads:
        if not _is_unchanged(txn, read):
            return False
    if not job.point_reads and not job.range_reads and not job.explicit:
        return True
    for begin, end in job.explicit:
        if job.snapshot is None or not _is_same(txn, job.snapshot, begin, end):
            return False
    return not _is_conflict_logged(txn, job)


def _is_unchanged(txn: Txn[bytes], read: RangeRead) -> bool:
    if not read.buffer_keys and not read.buffer_cleared:
        limit = len(read.pairs) + 1
        return lmdb_rows.scan(txn, read.begin, read.end, limit=limit) == read.pairs
    present = (
        pair
        for pair in lmdb_rows.iterate(txn, read.begin, read.end, reverse=False)
        if not read.covers(pair[0])
    )
    return all(now == then for now, then in zip_longest(present, read.pairs))


def _is_same(txn: Txn[bytes], snapshot: Txn[bytes], begin: bytes, end: bytes) -> bool:
    now = lmdb_rows.iterate(txn, begin, end, reverse=False)
    then = lmdb_rows.iterate(snapshot, begin, end, reverse=False)
    return all(one == other for one, other in zip_longest(now, then))


def _is_conflict_logged(txn: Txn[bytes], job: CommitJob) -> bool:
    logged = conflict_log.ranges_since(txn, job.snapshot_id)
    if logged is None:
        return True
    return any(
        any(begin <= key < end for key in job.point_reads)
        or any(begin < read.end and read.begin < end for read in job.range_reads)
        or any(begin < high and low < end for low, high in job.explicit)
        for begin, end in logged
    )


def _apply(txn: Txn[bytes], buffer: WriteBuffer, stamp: bytes) -> None:
    for begin, end in buffer.cleared:
        lmdb_rows.delete_range(txn, begin, end)
    put = txn.put
    for key, known in buffer.values.items():
        if type(known) is bytes:
            if 0 < len(key) <= DIRECT_KEY_BYTES:
                put(key, known)
            else:
                lmdb_rows.put(txn, key, known)
        elif isinstance(known, int):
            lmdb_rows.put(txn, key, add_to_counter(lmdb_rows.get(txn, key), known))
        else:
            lmdb_rows.delete(txn, key)
    for key, (prefix, suffix) in buffer.stamped_values.items():
        lmdb_rows.put(txn, key, prefix + stamp + suffix)
    for prefix, suffix, value in buffer.stamped_keys:
        lmdb_rows.put(txn, prefix + stamp + suffix, value)


def _next_stamp(txn: Txn[bytes]) -> bytes:
    """Return the commit version of this batch: one more than the last one stored.

    LMDB's own transaction number would not do: it starts again in a compacted copy.
    """
    last = txn.get(STAMP_COUNTER_ROW)
    stamp = ((int.from_bytes(last, "big") if last else 0) + 1).to_bytes(8, "big")
    txn.put(STAMP_COUNTER_ROW, stamp)
    return stamp
