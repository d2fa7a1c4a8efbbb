"""The default backend: LMDB in one folder, shared by any number of processes of one host.

Reads run on an LMDB snapshot in the caller's thread and never wait, so their coroutines do not
suspend. Writes are buffered; commits go to one thread per process that gathers them (committer.py).
docs/decisions/0001-embedded-kv.md has the reasons.

A store belongs to one event loop and to the process that opened it: open it after forking.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

import lmdb

from ..errors import ConflictError, CraqenError, TransactionTooOldError, UnavailableError
from ..limits import KV_RETRIES_MAX, KV_TRANSACTION_SECONDS_MAX
from .checks import retry_delay_seconds
from .committer import CommitJob, Committer
from .embedded_transaction import EmbeddedSnapshot, EmbeddedTransaction
from .lmdb_environment import MAP_BYTES_DEFAULT, LmdbEnvironment, translate
from .scratch import DURABILITY_FLUSH, DURABILITY_INTERVAL, IntervalFlusher
from .store import ReadTransaction, Transaction
from .watches import WatchTable

T = TypeVar("T")

COMMITS_WAITING_MAX: Final = 16_384
"""Transactions of one process that wait for the disk; more are refused (UnavailableError)."""

SNAPSHOT_CHECKS: Final = 8
"""How often within a transaction's lifetime old snapshots are looked for."""

END_POLL_SECONDS: Final = 0.001
"""How often a store that is closed asks whether its committer has ended."""

_SNAPSHOTS_LOST_MAX: Final = 8
"""Times one call starts again because the map was replaced below it."""


class EmbeddedStore:
    """A store in *folder*. See the port for what it promises.

    ``durability="flush"``: a commit that returned is on stable storage; it survives a power cut.

    ``durability="interval"`` is for scratch data that can be made anew. A commit returns once the
    kernel has it, and is flushed within *flush_interval_seconds*. The death of any process loses
    nothing. A power cut or kernel crash may cost **everything in the store**, not only the last
    moments: without a flush in each commit pages reach the disk in any order, and the file may be
    left inconsistent. The next open then refuses with OperatorError rather than serve damaged data.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: str = DURABILITY_FLUSH,
        flush_interval_seconds: float = 0.1,
        map_bytes: int = MAP_BYTES_DEFAULT,
        transaction_seconds_max: float = KV_TRANSACTION_SECONDS_MAX,
    ) -> None:
        """Open or create the store.

        *map_bytes* is address space, grown when needed. Raises OperatorError (the folder is open in
        this process already, cannot be used, or holds something else), NoSpaceError, DiskError,
        DataLossError.
        """
        assert durability in (DURABILITY_FLUSH, DURABILITY_INTERVAL)
        self._flusher: IntervalFlusher | None = None
        if durability == DURABILITY_INTERVAL:
            self._flusher = IntervalFlusher(folder, flush_interval_seconds)
        else:
            IntervalFlusher.refuse_damaged(folder)
        try:
            self._environment = LmdbEnvironment(
                folder, map_bytes=map_bytes, sync=self._flusher is None
            )
        except BaseException:
            if self._flusher is not None:
                self._flusher.abandon()
            raise
        if self._flusher is not None:
            self._flusher.start(self._environment)
        self._random = random.Random()
        self._transaction_seconds_max = transaction_seconds_max
        self._open: set[EmbeddedSnapshot] = set()
        self._held: set[CommitJob] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._submitting: list[CommitJob] = []
        self._waiting = 0
        self._closed = False
        self._watches = WatchTable(self._begin)
        self._committer = Committer(
            self._environment, exclusively=self._exclusively, resolve=self._resolve_from_thread
        )

    # Reading

    async def read(self, function: Callable[[ReadTransaction], Awaitable[T]]) -> T:
        """See the port. Raises TransactionTooOldError when *function* takes too long."""
        for _ in range(_SNAPSHOTS_LOST_MAX):
            txn = self._begin()
            snapshot = EmbeddedSnapshot(txn, monotonic())
            self._open.add(snapshot)
            try:
                return await function(snapshot)
            except TransactionTooOldError:
                if not snapshot.was_lost:
                    raise
            finally:
                self._open.discard(snapshot)
                txn.abort()
        raise UnavailableError(f"{self._environment.folder}: the map does not come to rest")

    def _begin(self) -> lmdb.Transaction[bytes]:
        """Open a snapshot of everything committed by now. The caller must end it."""
        if self._reaper is None:
            self._bind()
        try:
            return self._environment.env.begin()
        except lmdb.Error as error:
            return self._begin_after(error)

    def _begin_after(self, error: lmdb.Error) -> lmdb.Transaction[bytes]:
        """Open a snapshot after the first try failed with *error*, having mended what can be."""
        environment = self._environment
        try:
            if isinstance(error, lmdb.MapResizedError):
                self._with_no_snapshot(environment.adopt_size)
            elif isinstance(error, lmdb.ReadersFullError):
                environment.env.reader_check()
            else:
                raise error
            return environment.env.begin()
        except lmdb.Error as again:
            raise translate(again, environment.folder) from again

    # Writing

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port.

        Cancelled while the commit is under way, it may or may not take place.
        """
        lost_snapshots = 0
        attempt = 0
        while True:
            txn = self._begin()
            transaction = EmbeddedTransaction(txn, monotonic())
            self._open.add(transaction)
            done = False
            try:
                result = await function(transaction)
                done = transaction.buffer is None or await self._commit(transaction)
                if done:
                    if transaction.watches:
                        self._watches.arm(transaction.watches)
                    return result
            except TransactionTooOldError:
                lost_snapshots += 1
                if not transaction.was_lost or lost_snapshots > _SNAPSHOTS_LOST_MAX:
                    raise
                continue
            finally:
                self._open.discard(transaction)
                transaction.end()
                if not done and transaction.watches:
                    transaction.cancel_watches()
            if attempt == KV_RETRIES_MAX:
                raise ConflictError(f"the transaction lost {attempt + 1} races in a row")
            await asyncio.sleep(retry_delay_seconds(attempt, self._random.random()))
            attempt += 1

    async def _commit(self, transaction: EmbeddedTransaction) -> bool:
        """Hand *transaction* to the committer; return False when it lost a race."""
        age_seconds = monotonic() - transaction.started_seconds
        if age_seconds > self._transaction_seconds_max:
            raise TransactionTooOldError(f"the transaction is {age_seconds:.1f} s old: start again")
        if self._closed:
            raise UnavailableError("the key-value store is closed")
        if self._flusher is not None and self._flusher.failure is not None:
            raise self._flusher.failure
        if self._waiting >= COMMITS_WAITING_MAX:
            raise UnavailableError(f"{self._waiting} transactions wait for the disk already")
        loop = self._loop
        assert loop is not None
        job = transaction.job(loop.create_future())
        # From here on the committer may use the snapshot, so nothing else may end it.
        self._open.discard(transaction)
        if job.snapshot is None:
            transaction.end()
        else:
            self._held.add(job)
        if not self._submitting:
            # After this turn of the loop: transactions that became ready together commit together.
            loop.call_soon(self._submit)
        self._submitting.append(job)
        self._waiting += 1
        return await job.future

    def _submit(self) -> None:
        jobs, self._submitting = self._submitting, []
        self._committer.submit(jobs)

    def _resolve_from_thread(self, jobs: list[CommitJob]) -> None:
        loop = self._loop
        assert loop is not None
        loop.call_soon_threadsafe(self._resolve, jobs)

    def _resolve(self, jobs: list[CommitJob]) -> None:
        self._waiting -= len(jobs)
        for job in jobs:
            if job.explicit:
                self._held.discard(job)
                if job.snapshot is not None:
                    job.snapshot.abort()
            future = job.future
            if future.done():
                continue
            if job.error is None:
                future.set_result(job.committed)
            else:
                future.set_exception(job.error)

    # Snapshots and their end

    def _bind(self) -> None:
        """Before the first snapshot, and whenever the last look for old ones found none."""
        if self._closed:
            raise UnavailableError("the key-value store is closed")
        self._loop = asyncio.get_running_loop()
        self._arm_reaper()

    def _arm_reaper(self) -> None:
        assert self._loop is not None
        delay_seconds = self._transaction_seconds_max / SNAPSHOT_CHECKS
        self._reaper = self._loop.call_later(delay_seconds, self._reap)

    def _reap(self) -> None:
        """End snapshots past their time: they keep LMDB from reusing the pages they see."""
        started_before = monotonic() - self._transaction_seconds_max
        for snapshot in [one for one in self._open if one.started_seconds < started_before]:
            snapshot.expire()
            self._open.discard(snapshot)
        self._reaper = None
        if self._open:
            self._arm_reaper()

    def _with_no_snapshot(self, action: Callable[[], None]) -> None:
        """Run *action* while nothing is open; what was open starts again. In the event loop."""
        with self._environment.lock:
            for snapshot in self._open:
                snapshot.lose()
            self._open.clear()
            for job in self._held:
                if job.snapshot is not None:
                    job.snapshot.abort()
                    job.snapshot = None
            action()

    def _exclusively(self, action: Callable[[], None]) -> None:
        """Have the event loop run ``_with_no_snapshot``; wait for it. In the committer's thread."""
        loop = self._loop
        assert loop is not None
        done = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self._with_no_snapshot(action)
            except (CraqenError, lmdb.Error) as error:
                failures.append(error)
            finally:
                done.set()

        loop.call_soon_threadsafe(run)
        done.wait()
        if failures:
            raise failures[0]

    async def close(self) -> None:
        """See the port. Transactions that were handed to the committer are still committed."""
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        if self._submitting:
            self._submit()
        self._committer.stop()
        # Asked again and again: the last batch may need this loop, and while the interpreter ends
        # no thread can be started to wait in.
        while not self._committer.has_ended():
            await asyncio.sleep(END_POLL_SECONDS)
        self._with_no_snapshot(lambda: None)
        if self._flusher is not None:
            self._flusher.close()
        self._environment.close()
