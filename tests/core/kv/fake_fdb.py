"""A stand-in for the ``fdb`` binding: one cluster in memory, answers from another thread.

It has just what core/kv/foundationdb.py calls, with the binding's names, and fails on demand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

RETRYABLE = {1007, 1009, 1020, 1021, 1037}


class FDBError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"fake ({code})")
        self.code = code


class Row(NamedTuple):
    key: bytes
    value: bytes


class Selector(NamedTuple):
    key: bytes
    after: bool


class KeySelector:
    @staticmethod
    def first_greater_or_equal(key: bytes) -> Selector:
        return Selector(key, False)

    @staticmethod
    def first_greater_than(key: bytes) -> Selector:
        return Selector(key, True)


class StreamingMode:
    exact = 1
    want_all = -1


class Future:
    """Done by the network thread, which also calls back."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Any], None]] = []
        self._result: Any = None
        self._error: FDBError | None = None

    def settle(self, result: Any = None, error: FDBError | None = None) -> None:
        with self._lock:
            if self._done.is_set():
                return
            self._result, self._error = result, error
            self._done.set()
        for callback in self._callbacks:
            callback(self)

    def is_ready(self) -> bool:
        return self._done.is_set()

    def on_ready(self, callback: Callable[[Any], None]) -> None:
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def cancel(self) -> None:
        self.settle(error=FDBError(1101))

    def wait(self) -> Any:
        assert self._done.is_set(), "the backend blocked the event loop"
        if self._error is not None:
            raise self._error
        return self._result

    value = property(wait)


class Options:
    def __init__(self) -> None:
        self.timeouts: list[int] = []

    def set_timeout(self, milliseconds: int) -> None:
        self.timeouts.append(milliseconds)


class Reads:
    def __init__(self, transaction: Transaction, snapshot: bool) -> None:
        self._transaction = transaction
        self._snapshot = snapshot

    def get(self, key: bytes) -> Future:
        transaction = self._transaction

        def work() -> bytes | None:
            transaction.database.maybe_fail("get")
            if not self._snapshot:
                transaction.read_ranges.append((key, key + b"\x00"))
            return transaction.view().get(key)

        return transaction.database.run(work)

    def _get_range(
        self, low: Selector, high: Selector, limit: int, mode: int, iteration: int, reverse: bool
    ) -> Future:
        transaction = self._transaction

        def work() -> tuple[list[Row], int, bool]:
            transaction.database.maybe_fail("get_range")
            assert iteration >= 1
            assert mode == (StreamingMode.exact if limit else StreamingMode.want_all)
            begin = low.key + b"\x00" if low.after else low.key
            rows = [Row(*pair) for pair in sorted(transaction.view().items())]
            rows = [row for row in rows if begin <= row.key < high.key]
            if reverse:
                rows.reverse()
            page = rows[: min(limit or 3, 3)]
            if not self._snapshot:
                transaction.read_ranges.append((begin, high.key))
            return page, len(page), len(page) < len(rows)

        return transaction.database.run(work)


class Transaction(Reads):
    def __init__(self, database: Database) -> None:
        super().__init__(self, False)
        self.database = database
        self.options = Options()
        self.snapshot = Reads(self, True)
        self.reset()

    def reset(self) -> None:
        self.base = dict(self.database.data)
        self.version = self.database.version
        self.operations: list[Callable[[dict[bytes, bytes]], None]] = []
        self.read_ranges: list[tuple[bytes, bytes]] = []
        self.write_ranges: list[tuple[bytes, bytes]] = []
        self.watched: list[tuple[bytes, Future]] = []

    def view(self) -> dict[bytes, bytes]:
        data = dict(self.base)
        for operation in self.operations:
            operation(data)
        return data

    def _do(
        self, begin: bytes, end: bytes, operation: Callable[[dict[bytes, bytes]], None]
    ) -> None:
        self.operations.append(operation)
        self.write_ranges.append((begin, end))

    def set(self, key: bytes, value: bytes) -> None:
        self._do(key, key + b"\x00", lambda data: data.__setitem__(key, value))

    def clear(self, key: bytes) -> None:
        self.clear_range(key, key + b"\x00")

    def clear_range(self, begin: bytes, end: bytes) -> None:
        def operation(data: dict[bytes, bytes]) -> None:
            for key in [key for key in data if begin <= key < end]:
                del data[key]

        self._do(begin, end, operation)

    def add(self, key: bytes, operand: bytes) -> None:
        def operation(data: dict[bytes, bytes]) -> None:
            total = int.from_bytes(data.get(key, b"")[:8], "little")
            total += int.from_bytes(operand, "little")
            data[key] = (total % (1 << 64)).to_bytes(8, "little")

        self._do(key, key + b"\x00", operation)

    def _stamped(self, raw: bytes) -> bytes:
        place = int.from_bytes(raw[-4:], "little")
        stamp = (self.database.version + 1).to_bytes(8, "big") + b"\x00\x00"
        assert raw[place : place + 10] == bytes(10)
        return raw[:place] + stamp + raw[place + 10 : -4]

    def set_versionstamped_key(self, raw: bytes, value: bytes) -> None:
        self._do(b"", b"", lambda data: data.__setitem__(self._stamped(raw), value))

    def set_versionstamped_value(self, key: bytes, raw: bytes) -> None:
        self._do(key, key + b"\x00", lambda data: data.__setitem__(key, self._stamped(raw)))

    def add_read_conflict_range(self, begin: bytes, end: bytes) -> None:
        self.read_ranges.append((begin, end))

    def add_write_conflict_range(self, begin: bytes, end: bytes) -> None:
        self.write_ranges.append((begin, end))

    def watch(self, key: bytes) -> Future:
        future = Future()
        self.watched.append((key, future))
        return future

    def commit(self) -> Future:
        return self.database.run(self._commit)

    def _commit(self) -> None:
        database = self.database
        for version, writes in database.history:
            for begin, end in writes if version > self.version else ():
                for low, high in self.read_ranges if self.write_ranges else ():
                    if begin < high and low < end:
                        raise FDBError(1020)
        unknown = database.failing("commit")
        if unknown != "not applied":
            before = self.view()
            for operation in self.operations:
                operation(database.data)
            if self.write_ranges:
                database.version += 1
                database.history.append((database.version, self.write_ranges))
            database.watches += [(key, before.get(key), future) for key, future in self.watched]
            database.fire()
        if unknown:
            raise FDBError(1021)

    def on_error(self, error: FDBError) -> Future:
        def work() -> None:
            if error.code not in RETRYABLE:
                raise error
            self.reset()

        return self.database.run(work)


class Database:
    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.version = 0
        self.history: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.watches: list[tuple[bytes, bytes | None, Future]] = []
        self.failures: dict[str, list[Any]] = {}
        self._network = ThreadPoolExecutor(max_workers=1)

    def create_transaction(self) -> Transaction:
        # In the network thread, like everything that looks at the data.
        return self._network.submit(Transaction, self).result()

    def failing(self, what: str) -> Any:
        planned = self.failures.get(what)
        return planned.pop(0) if planned else None

    def maybe_fail(self, what: str) -> None:
        code = self.failing(what)
        if code is not None:
            raise FDBError(code)

    def run(self, work: Callable[[], Any]) -> Future:
        future = Future()

        def settle() -> None:
            try:
                future.settle(work())
            except FDBError as error:
                future.settle(error=error)

        self._network.submit(settle)
        return future

    def fire(self) -> None:
        remaining = []
        for key, seen, future in self.watches:
            if self.data.get(key) != seen:
                future.settle()
            else:
                remaining.append((key, seen, future))
        self.watches = remaining

    def stop(self) -> None:
        self._network.shutdown()


class Module:
    """What ``import fdb`` gives."""

    FDBError = FDBError
    KeySelector = KeySelector
    StreamingMode = StreamingMode

    def __init__(self) -> None:
        self.database = Database()
        self.opened: list[str | None] = []

    def open(self, cluster_file: str | None) -> Database:
        self.opened.append(cluster_file)
        return self.database
