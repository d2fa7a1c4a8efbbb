"""The plain model: a dict and a sorted list in one process, nothing durable.

It is the reference of the conformance suite, so it favours being plainly right over being fast: a
transaction that writes works on its own copy of the data, and its operations are replayed on the
current state when it commits. It shares no reading or merging code with the embedded backend.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..clock import Clock, SystemClock
from ..errors import ConflictError, LimitExceededError, TransactionTooOldError, UnavailableError
from ..limits import KV_RETRIES_MAX, KV_TRANSACTION_SECONDS_MAX
from .checks import (
    WATCHES_MAX,
    add_to_counter,
    check_key,
    check_range,
    check_transaction_size,
    check_value,
    retry_delay_seconds,
    stamped_key_bounds,
    unreadable_error,
)
from .store import KeyValue, ReadTransaction, Transaction

T = TypeVar("T")
Range = tuple[bytes, bytes]


@dataclass(slots=True)
class _State:
    """The data as of one version. Copied before a change while a transaction looks at it."""

    data: dict[bytes, bytes] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    viewers: int = 0

    def copy(self) -> _State:
        return _State(dict(self.data), list(self.keys))

    def set(self, key: bytes, value: bytes) -> None:
        if key not in self.data:
            insort(self.keys, key)
        self.data[key] = value

    def clear_range(self, begin: bytes, end: bytes) -> None:
        low, high = bisect_left(self.keys, begin), bisect_left(self.keys, end)
        for key in self.keys[low:high]:
            del self.data[key]
        if high > low:
            del self.keys[low:high]

    def rows(self, begin: bytes, end: bytes) -> list[KeyValue]:
        low, high = bisect_left(self.keys, begin), bisect_left(self.keys, end)
        return [(key, self.data[key]) for key in self.keys[low:high]]


@dataclass(slots=True)
class _Read:
    """A range that was read, less what the transaction itself had written there by then."""

    begin: bytes
    end: bytes
    own: tuple[Range, ...] = ()

    def hit_by(self, begin: bytes, end: bytes) -> bool:
        """Tell whether a write of ``[begin, end)`` touches what was read."""
        pieces = [(max(begin, self.begin), min(end, self.end))]
        for own_begin, own_end in self.own:
            pieces = [
                piece
                for low, high in pieces
                for piece in ((low, min(high, own_begin)), (max(low, own_end), high))
            ]
            pieces = [(low, high) for low, high in pieces if low < high]
        return any(low < high for low, high in pieces)


def _after(key: bytes) -> bytes:
    return key + b"\x00"


class _MemoryTransaction:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._base = store._state
        self._base.viewers += 1
        self.version = store._version
        self._own: _State | None = None
        self._started_seconds = store._clock.monotonic_seconds()
        self._size_bytes = 0
        self.operations: list[Callable[[_State], None]] = []
        self.stamped_keys: list[tuple[bytes, bytes, bytes]] = []
        self.stamped_values: dict[bytes, tuple[bytes, bytes]] = {}
        self._known: list[Range] = []
        self.reads: list[_Read] = []
        self.writes: list[Range] = []
        self.watches: list[tuple[bytes, bytes | None, asyncio.Future[None]]] = []

    def close(self) -> None:
        self._base.viewers -= 1

    def check_age(self) -> None:
        age_seconds = self._store._clock.monotonic_seconds() - self._started_seconds
        if age_seconds > self._store._transaction_seconds_max:
            raise TransactionTooOldError(f"the transaction is {age_seconds:.1f} s old: start again")

    # Reads

    async def get(self, key: bytes, *, snapshot: bool = False) -> bytes | None:
        check_key(key)
        self._check_readable(key, _after(key))
        if not snapshot:
            self.reads.append(_Read(key, _after(key), tuple(self._known)))
        return self._view().data.get(key)

    async def get_many(
        self, keys: Sequence[bytes], *, snapshot: bool = False
    ) -> list[bytes | None]:
        return [await self.get(key, snapshot=snapshot) for key in keys]

    async def get_range(
        self,
        begin: bytes,
        end: bytes,
        *,
        limit: int = 0,
        reverse: bool = False,
        snapshot: bool = False,
    ) -> list[KeyValue]:
        check_range(begin, end)
        if begin >= end:
            return []
        self._check_readable(begin, end)
        rows = self._view().rows(begin, end)
        if reverse:
            rows.reverse()
        if limit > 0 and len(rows) >= limit:
            rows = rows[:limit]
            begin, end = (rows[-1][0], end) if reverse else (begin, _after(rows[-1][0]))
        if not snapshot:
            self.reads.append(_Read(begin, end, tuple(self._known)))
        return rows

    def _view(self) -> _State:
        self.check_age()
        return self._own or self._base

    def _check_readable(self, begin: bytes, end: bytes) -> None:
        hidden = [stamped_key_bounds(prefix, suffix) for prefix, suffix, _ in self.stamped_keys]
        hidden += [(key, _after(key)) for key in self.stamped_values]
        if any(begin < high and low < end for low, high in hidden):
            raise unreadable_error()

    # Writes

    def set(self, key: bytes, value: bytes) -> None:
        check_key(key)
        check_value(value)
        self._grow(len(key) + len(value))
        self.stamped_values.pop(key, None)
        self._known.append((key, _after(key)))
        self._do(lambda state: state.set(key, value), key, _after(key))

    def clear(self, key: bytes) -> None:
        check_key(key)
        self._grow(len(key))
        self.stamped_values.pop(key, None)
        self._known.append((key, _after(key)))
        self._do(lambda state: state.clear_range(key, _after(key)), key, _after(key))

    def clear_range(self, begin: bytes, end: bytes) -> None:
        check_range(begin, end)
        if begin >= end:
            return
        self._grow(len(begin) + len(end))
        for key in [key for key in self.stamped_values if begin <= key < end]:
            del self.stamped_values[key]
        self.stamped_keys = [
            stamped
            for stamped in self.stamped_keys
            if not begin <= stamped_key_bounds(stamped[0], stamped[1])[0] < end
        ]
        self._known.append((begin, end))
        self._do(lambda state: state.clear_range(begin, end), begin, end)

    def add(self, key: bytes, delta: int) -> None:
        check_key(key)
        if key in self.stamped_values:
            raise unreadable_error()
        self._grow(len(key) + 8)
        self._do(
            lambda state: state.set(key, add_to_counter(state.data.get(key), delta)),
            key,
            _after(key),
        )

    def set_versionstamped_key(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        low = stamped_key_bounds(prefix, suffix)[0]
        check_key(low)
        check_value(value)
        self._grow(len(low) + len(value))
        self.stamped_keys.append((prefix, suffix, value))

    def set_versionstamped_value(self, key: bytes, prefix: bytes, suffix: bytes = b"") -> None:
        check_key(key)
        stamped = stamped_key_bounds(prefix, suffix)[0]
        check_value(stamped)
        self._grow(len(key) + len(stamped))
        self.stamped_values[key] = (prefix, suffix)
        self.writes.append((key, _after(key)))

    def add_read_conflict_range(self, begin: bytes, end: bytes) -> None:
        check_range(begin, end)
        if begin < end:
            self._grow(len(begin) + len(end))
            self.reads.append(_Read(begin, end))

    def add_write_conflict_range(self, begin: bytes, end: bytes) -> None:
        check_range(begin, end)
        if begin < end:
            self._grow(len(begin) + len(end))
            self.writes.append((begin, end))

    def watch(self, key: bytes) -> asyncio.Future[None]:
        check_key(key)
        self._check_readable(key, _after(key))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watches.append((key, self._view().data.get(key), future))
        return future

    def _do(self, operation: Callable[[_State], None], begin: bytes, end: bytes) -> None:
        if self._own is None:
            self._own = self._base.copy()
        operation(self._own)
        self.operations.append(operation)
        self.writes.append((begin, end))

    def _grow(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        check_transaction_size(self._size_bytes)


class MemoryStore:
    """A store in this process's memory, gone with it. See the port for what it promises."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        transaction_seconds_max: float = KV_TRANSACTION_SECONDS_MAX,
    ) -> None:
        self._clock = clock or SystemClock()
        self._transaction_seconds_max = transaction_seconds_max
        self._random = random.Random()
        self._state = _State()
        self._version = 0
        self._history: list[tuple[int, list[Range]]] = []
        self._open_versions: list[int] = []
        self._watches: list[tuple[bytes, bytes | None, asyncio.Future[None]]] = []
        self._closed = False

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port."""
        for attempt in range(KV_RETRIES_MAX + 1):
            transaction = self._begin()
            committed = False
            try:
                result = await function(transaction)
                committed = self._commit(transaction)
                if committed:
                    return result
            finally:
                self._end(transaction)
                if not committed:
                    _cancel(transaction.watches)
            await asyncio.sleep(retry_delay_seconds(attempt, self._random.random()))
        raise ConflictError(f"the transaction lost {KV_RETRIES_MAX + 1} races in a row")

    async def read(self, function: Callable[[ReadTransaction], Awaitable[T]]) -> T:
        """See the port."""
        transaction = self._begin()
        try:
            return await function(transaction)
        finally:
            self._end(transaction)

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        _cancel(self._watches)
        self._watches.clear()

    def _begin(self) -> _MemoryTransaction:
        if self._closed:
            raise UnavailableError("the key-value store is closed")
        self._open_versions.append(self._version)
        return _MemoryTransaction(self)

    def _end(self, transaction: _MemoryTransaction) -> None:
        transaction.close()
        self._open_versions.remove(transaction.version)
        oldest = min(self._open_versions, default=self._version)
        self._history = [entry for entry in self._history if entry[0] > oldest]

    def _commit(self, transaction: _MemoryTransaction) -> bool:
        """Apply *transaction* and return True, or return False when it lost a race."""
        if self._closed:
            raise UnavailableError("the key-value store is closed")
        if len(self._watches) + len(transaction.watches) > WATCHES_MAX:
            raise LimitExceededError(f"more than {WATCHES_MAX} watches")
        if transaction.writes or transaction.stamped_keys:
            transaction.check_age()
            if self._conflicts(transaction):
                return False
            self._apply(transaction)
        self._watches += transaction.watches
        self._fire_watches()
        return True

    def _conflicts(self, transaction: _MemoryTransaction) -> bool:
        return any(
            read.hit_by(begin, end)
            for version, writes in self._history
            if version > transaction.version
            for begin, end in writes
            for read in transaction.reads
        )

    def _apply(self, transaction: _MemoryTransaction) -> None:
        state = self._state
        if state.viewers - (transaction._base is state):
            state = state.copy()  # Others look at the present one.
        self._version += 1
        stamp = self._version.to_bytes(8, "big") + b"\x00\x00"
        for operation in transaction.operations:
            operation(state)
        writes = list(transaction.writes)
        for key, (prefix, suffix) in transaction.stamped_values.items():
            state.set(key, prefix + stamp + suffix)
        for prefix, suffix, value in transaction.stamped_keys:
            key = prefix + stamp + suffix
            state.set(key, value)
            writes.append((key, _after(key)))
        self._state = state
        self._history.append((self._version, writes))

    def _fire_watches(self) -> None:
        remaining = []
        for key, seen, future in self._watches:
            if future.done():
                continue
            if self._state.data.get(key) != seen:
                future.set_result(None)
            else:
                remaining.append((key, seen, future))
        self._watches = remaining


def _cancel(watches: list[tuple[bytes, bytes | None, asyncio.Future[None]]]) -> None:
    for _, _, future in watches:
        future.cancel()
