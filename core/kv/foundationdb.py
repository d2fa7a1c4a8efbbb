"""The scale-out backend: FoundationDB through its Python binding, bridged to asyncio.

The binding's futures call back from its network thread; the callback wakes the waiting coroutine
through the event loop, so no call takes a thread of its own. ``fdb`` is imported when a store is
opened, for it needs the C library libfdb_c, which few hosts have.

FoundationDB may answer a commit with "result unknown". Each transaction therefore leaves a small
mark that is read back in that case, so that nothing is applied twice. All keys are below
``prefix + 01``; the marks, a few for each process, below ``prefix + 02``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from ..errors import (
    ConflictError,
    CraqenError,
    DiskError,
    InvalidArgumentError,
    LimitExceededError,
    MissingDependencyError,
    OperatorError,
    TransactionTooOldError,
    UnavailableError,
)
from ..limits import KV_KEY_BYTES_MAX, KV_RETRIES_MAX
from .checks import check_key, check_range, check_transaction_size, check_value
from .store import VERSIONSTAMP_BYTES, KeyValue, ReadTransaction, Transaction

T = TypeVar("T")

API_VERSION: Final = 730
"""The oldest release whose behaviour this module relies on."""

ATTEMPT_TIMEOUT_MILLISECONDS: Final = 20_000
"""How long one transaction may wait for the cluster before it counts as out of reach."""

_DATA: Final = b"\x01"
_MARKS: Final = b"\x02"
_COMMIT_UNKNOWN_RESULT: Final = 1021
_STAMP_PLACE: Final = bytes(VERSIONSTAMP_BYTES)

_ERRORS: Final[dict[int, type[CraqenError]]] = {
    1007: TransactionTooOldError,
    1009: UnavailableError,  # future version
    1020: ConflictError,
    _COMMIT_UNKNOWN_RESULT: UnavailableError,
    1025: UnavailableError,  # transaction cancelled
    1031: UnavailableError,  # timed out
    1032: LimitExceededError,  # too many watches
    1036: InvalidArgumentError,  # read of a versionstamp to come
    1037: UnavailableError,  # process behind
    1038: UnavailableError,  # database locked
    1039: UnavailableError,  # cluster version changed
    1042: UnavailableError,  # commit proxies out of memory
    1051: UnavailableError,  # throttled
    1101: UnavailableError,  # operation cancelled
    1213: UnavailableError,  # throttled by tag
    1510: DiskError,
    2004: InvalidArgumentError,  # key outside the legal range
    2005: InvalidArgumentError,  # inverted range
    2101: LimitExceededError,
    2102: LimitExceededError,
    2103: LimitExceededError,
}


def translate(error: Any) -> CraqenError:
    """Return our error for an ``fdb.FDBError``."""
    kind = _ERRORS.get(error.code, OperatorError)
    return kind(f"FoundationDB: error {error.code} ({error})")


def load_fdb() -> Any:
    """Import and prepare the binding.

    Raises MissingDependencyError naming what to install, OperatorError for versions that clash.
    """
    try:
        import fdb
    except ImportError as error:
        raise MissingDependencyError(
            "the FoundationDB binding is not installed: pip install 'craqen[fdb]'"
        ) from error
    try:
        fdb.api_version(API_VERSION)
    except RuntimeError as error:
        raise OperatorError(f"FoundationDB API {API_VERSION} cannot be used: {error}") from error
    except Exception as error:  # The binding raises plain Exception when the library is missing.
        raise MissingDependencyError(
            "the FoundationDB client library libfdb_c.so is not installed: install the package "
            f"foundationdb-clients, release 7.3 or later ({error})"
        ) from error
    return fdb


async def _when_ready(future: Any) -> None:
    """Wait until the binding's *future* has its result or error."""
    if future.is_ready():
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def on_ready(_: Any) -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # The loop is closed: nobody waits any more.
            pass

    future.on_ready(on_ready)
    try:
        await waiter
    except asyncio.CancelledError:
        future.cancel()
        raise


class _Reader:
    """Reads of one transaction; ``reads(snapshot)`` chooses the binding's object."""

    def __init__(self, store: FoundationDbStore, transaction: Any) -> None:
        self._store = store
        self._fdb = store._fdb
        self._prefix = store._data_prefix
        self._transaction = transaction
        self.failure: Any = None
        """The FDBError that a read met: the retry loop decides by it."""

    def reads(self, snapshot: bool) -> Any:
        """Return what to read through. Here: never any conflict."""
        return self._transaction.snapshot

    async def get(self, key: bytes, *, snapshot: bool = False) -> bytes | None:
        """See the port."""
        check_key(key)
        return await self._value(self.reads(snapshot).get(self._prefix + key))

    async def get_many(
        self, keys: Sequence[bytes], *, snapshot: bool = False
    ) -> list[bytes | None]:
        """See the port. The reads are under way together."""
        for key in keys:
            check_key(key)
        reads = self.reads(snapshot)
        futures = [reads.get(self._prefix + key) for key in keys]
        return [await self._value(future) for future in futures]

    async def get_range(
        self,
        begin: bytes,
        end: bytes,
        *,
        limit: int = 0,
        reverse: bool = False,
        snapshot: bool = False,
    ) -> list[KeyValue]:
        """See the port."""
        check_range(begin, end)
        if begin >= end:
            return []
        selector = self._fdb.KeySelector
        modes = self._fdb.StreamingMode
        low = selector.first_greater_or_equal(self._prefix + begin)
        high = selector.first_greater_or_equal(self._prefix + end)
        mode = modes.exact if limit > 0 else modes.want_all
        reads = self.reads(snapshot)
        skip = len(self._prefix)
        pairs: list[KeyValue] = []
        iteration = 1
        while True:
            left = limit - len(pairs) if limit > 0 else 0
            future = reads._get_range(low, high, left, mode, iteration, reverse)
            await _when_ready(future)
            try:
                rows, count, more = future.wait()
            except self._fdb.FDBError as error:
                raise self._failed(error) from error
            pairs += [(row.key[skip:], row.value) for row in rows]
            if not more or not count or (limit > 0 and len(pairs) >= limit):
                return pairs
            iteration += 1
            if reverse:
                high = selector.first_greater_or_equal(rows[-1].key)
            else:
                low = selector.first_greater_than(rows[-1].key)

    async def _value(self, future: Any) -> bytes | None:
        await _when_ready(future)
        try:
            value: bytes | None = future.value
        except self._fdb.FDBError as error:
            raise self._failed(error) from error
        return value

    def _failed(self, error: Any) -> CraqenError:
        self.failure = error
        return translate(error)


class _Writer(_Reader):
    """One attempt of a read-write transaction."""

    def __init__(self, store: FoundationDbStore, transaction: Any) -> None:
        super().__init__(store, transaction)
        self.has_writes = False
        self.watches: list[asyncio.Future[None]] = []
        self._size_bytes = 0

    def reads(self, snapshot: bool) -> Any:
        """Return what to read through."""
        return self._transaction.snapshot if snapshot else self._transaction

    def set(self, key: bytes, value: bytes) -> None:
        """See the port."""
        check_value(value)
        self._transaction.set(self._write_key(key, len(value)), value)

    def clear(self, key: bytes) -> None:
        """See the port."""
        self._transaction.clear(self._write_key(key, 0))

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        check_range(begin, end)
        if begin < end:
            self._count(len(begin) + len(end))
            self._transaction.clear_range(self._prefix + begin, self._prefix + end)

    def add(self, key: bytes, delta: int) -> None:
        """See the port."""
        operand = (delta & ((1 << 64) - 1)).to_bytes(8, "little")
        self._transaction.add(self._write_key(key, len(operand)), operand)

    def set_versionstamped_key(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        """See the port."""
        check_value(value)
        key = self._write_key(prefix + _STAMP_PLACE + suffix, len(value))
        place = len(self._prefix) + len(prefix)
        self._transaction.set_versionstamped_key(key + place.to_bytes(4, "little"), value)

    def set_versionstamped_value(self, key: bytes, prefix: bytes, suffix: bytes = b"") -> None:
        """See the port."""
        value = prefix + _STAMP_PLACE + suffix
        check_value(value)
        operand = value + len(prefix).to_bytes(4, "little")
        self._transaction.set_versionstamped_value(self._write_key(key, len(value)), operand)

    def add_read_conflict_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        check_range(begin, end)
        if begin < end:
            self._transaction.add_read_conflict_range(self._prefix + begin, self._prefix + end)

    def add_write_conflict_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        check_range(begin, end)
        if begin < end:
            self._count(len(begin) + len(end))
            self._transaction.add_write_conflict_range(self._prefix + begin, self._prefix + end)

    def watch(self, key: bytes) -> asyncio.Future[None]:
        """See the port."""
        check_key(key)
        # A watch outlives its transaction, which the transaction's time limit would cut short.
        self._transaction.options.set_timeout(0)
        watched = self._transaction.watch(self._prefix + key)
        future = self._store._bridge_watch(watched)
        self.watches.append(future)
        return future

    def _write_key(self, key: bytes, value_bytes: int) -> bytes:
        check_key(key)
        full = self._prefix + key
        if len(full) > KV_KEY_BYTES_MAX:
            raise LimitExceededError(
                f"a key of {len(key)} bytes with its prefix of {len(self._prefix)} is over "
                f"{KV_KEY_BYTES_MAX}"
            )
        self._count(len(key) + value_bytes)
        return full

    def _count(self, size_bytes: int) -> None:
        self.has_writes = True
        self._size_bytes += size_bytes
        check_transaction_size(self._size_bytes)


class FoundationDbStore:
    """A key range of a FoundationDB cluster. See the port for what it promises."""

    def __init__(self, cluster_file: str | None = None, *, prefix: bytes = b"") -> None:
        """Open the cluster of *cluster_file* (None: the host's default one).

        All keys lie below *prefix*. Raises MissingDependencyError, OperatorError.
        """
        if prefix >= b"\xff":
            raise InvalidArgumentError("a prefix from 0xff up is FoundationDB's own")
        self._fdb = load_fdb()
        try:
            self._database = self._fdb.open(cluster_file)
        except self._fdb.FDBError as error:
            raise OperatorError(
                f"FoundationDB: cannot open the cluster file {cluster_file or '(default)'}: {error}"
            ) from error
        self._data_prefix = prefix + _DATA
        # One mark for each transaction in flight, used again and again.
        self._mark_prefix = prefix + _MARKS + os.urandom(16)
        self._free_slots: list[int] = []
        self._slots_made = 0
        self._marks_made = 0
        self._watches: set[asyncio.Future[None]] = set()
        self._closed = False

    async def read(self, function: Callable[[ReadTransaction], Awaitable[T]]) -> T:
        """See the port."""
        transaction = self._begin()
        for _ in range(KV_RETRIES_MAX + 1):
            reader = _Reader(self, transaction)
            try:
                return await function(reader)
            except CraqenError:
                if reader.failure is None:
                    raise
            await self._back_off(transaction, reader.failure)
        raise UnavailableError(f"FoundationDB: {KV_RETRIES_MAX + 1} reads in a row failed")

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port. A commit that times out may or may not take place (UnavailableError)."""
        transaction = self._begin()
        slot = self._take_slot()
        try:
            for _ in range(KV_RETRIES_MAX + 1):
                writer = _Writer(self, transaction)
                done = False
                try:
                    result = await function(writer)
                    done = await self._commit(writer, transaction, slot)
                    if done:
                        return result
                except CraqenError:
                    if writer.failure is None:
                        raise
                finally:
                    if not done:
                        for future in writer.watches:
                            future.cancel()
                await self._back_off(transaction, writer.failure)
        finally:
            self._free_slots.append(slot)
        raise ConflictError(f"the transaction lost {KV_RETRIES_MAX + 1} races in a row")

    async def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        for future in list(self._watches):
            future.cancel()
        if self._slots_made:
            transaction = self._begin()
            transaction.clear_range(self._mark_prefix, self._mark_prefix + b"\xff")
            future = transaction.commit()
            await _when_ready(future)
            try:
                future.wait()
            except self._fdb.FDBError as error:
                # A few forgotten bytes in the cluster do no harm; failing to close would.
                del error
        self._closed = True

    def _begin(self) -> Any:
        if self._closed:
            raise UnavailableError("the key-value store is closed")
        transaction = self._database.create_transaction()
        transaction.options.set_timeout(ATTEMPT_TIMEOUT_MILLISECONDS)
        return transaction

    async def _commit(self, writer: _Writer, transaction: Any, slot: int) -> bool:
        """Commit; return False, with ``writer.failure`` set, when it has to be tried again."""
        if not writer.has_writes and not writer.watches:
            return True
        mark = None
        if writer.has_writes:
            self._marks_made += 1
            mark = self._marks_made.to_bytes(8, "big")
            transaction.set(self._mark_key(slot), mark)
        future = transaction.commit()
        await _when_ready(future)
        try:
            future.wait()
        except self._fdb.FDBError as error:
            if error.code == _COMMIT_UNKNOWN_RESULT and mark is not None:
                if await self._is_marked(slot, mark):
                    return True
            writer.failure = error
            return False
        return True

    async def _is_marked(self, slot: int, mark: bytes) -> bool:
        """Tell whether the commit that set *mark* took place; it is no longer under way."""
        transaction = self._begin()
        for _ in range(KV_RETRIES_MAX + 1):
            future = transaction.get(self._mark_key(slot))
            await _when_ready(future)
            try:
                found: bytes | None = future.value
            except self._fdb.FDBError as error:
                await self._back_off(transaction, error)
                continue
            return found == mark
        raise UnavailableError("FoundationDB: it cannot be learned whether a commit took place")

    async def _back_off(self, transaction: Any, error: Any) -> None:
        """Wait as the binding advises and reset. Raises our error when *error* is final."""
        future = transaction.on_error(error)
        await _when_ready(future)
        try:
            future.wait()
        except self._fdb.FDBError as final:
            raise translate(final) from final

    def _take_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots_made += 1
        return self._slots_made

    def _mark_key(self, slot: int) -> bytes:
        return self._mark_prefix + slot.to_bytes(4, "big")

    def _bridge_watch(self, watched: Any) -> asyncio.Future[None]:
        """Return a future that is done when the binding's *watched* is."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._watches.add(future)

        def on_done(_: asyncio.Future[None]) -> None:
            self._watches.discard(future)
            watched.cancel()

        def finish() -> None:
            # An error is a reason to look again, as a change is: completing spuriously is allowed.
            if not future.done():
                future.set_result(None)

        def on_ready(_: Any) -> None:
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:  # The loop is closed: nobody waits any more.
                pass

        future.add_done_callback(on_done)
        watched.on_ready(on_ready)
        return future
