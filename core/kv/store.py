"""PORT: an ordered, transactional key-value store, modelled on FoundationDB.

Promises, the same for every backend (one conformance suite, tests/core/kv):

* Transactions are serializable and optimistic: reads see one snapshot plus the transaction's own
  writes; commit fails with ConflictError when a key or range it read (not by ``snapshot=True``) was
  written by a transaction that committed after the snapshot was taken.
  A backend may let pass a write that left what was read as it was: the outcome is the same.
* When ``transact`` returns, the writes are durable and visible to every process.
* A transaction cannot read a versionstamped key or value that it wrote itself: it gets
  InvalidArgumentError.
* Keys are ordered as unsigned bytes. Limits are in core/limits.py (KV_*), enforced by every backend
  with LimitExceededError. Keys from b"\\xff" up are reserved.
* A transaction function may run several times: it must have no effects but on its transaction.

A backend must not need a thread hop or a lock to read: coroutines that need not wait do not
suspend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

KeyValue = tuple[bytes, bytes]

VERSIONSTAMP_BYTES = 10
"""Length of a versionstamp: 8 bytes commit version, 2 bytes order inside the commit batch."""


class ReadTransaction(Protocol):
    """Reads from one snapshot."""

    async def get(self, key: bytes, *, snapshot: bool = False) -> bytes | None:
        """Return the value of *key*, or None. ``snapshot=True`` adds no read conflict."""
        ...

    async def get_many(
        self, keys: Sequence[bytes], *, snapshot: bool = False
    ) -> list[bytes | None]:
        """Return the values of *keys*, in their order."""
        ...

    async def get_range(
        self,
        begin: bytes,
        end: bytes,
        *,
        limit: int = 0,
        reverse: bool = False,
        snapshot: bool = False,
    ) -> list[KeyValue]:
        """Return the pairs with ``begin <= key < end`` in key order (or reversed).

        At most *limit* pairs when it is positive. Conflicts cover only what was really read: with a
        limit reached, the range up to and including the last pair returned.
        """
        ...


class Transaction(ReadTransaction, Protocol):
    """One attempt of a read-write transaction."""

    def set(self, key: bytes, value: bytes) -> None:
        """Set *key* to *value*."""
        ...

    def clear(self, key: bytes) -> None:
        """Remove *key*; nothing happens if it is absent."""
        ...

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """Remove every key with ``begin <= key < end``."""
        ...

    def add(self, key: bytes, delta: int) -> None:
        """Add *delta* to the 8-byte little-endian signed counter at *key* (absent is 0).

        Causes no read conflict: concurrent adds never make each other retry.
        """
        ...

    def set_versionstamped_key(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        """Set ``prefix + versionstamp + suffix``; the stamp is unique and ordered as commits
        are."""
        ...

    def set_versionstamped_value(self, key: bytes, prefix: bytes, suffix: bytes = b"") -> None:
        """Set *key* to ``prefix + versionstamp + suffix``."""
        ...

    def add_read_conflict_range(self, begin: bytes, end: bytes) -> None:
        """Conflict as if ``[begin, end)`` had been read."""
        ...

    def add_write_conflict_range(self, begin: bytes, end: bytes) -> None:
        """Make readers of ``[begin, end)`` conflict as if it had been written."""
        ...

    def watch(self, key: bytes) -> asyncio.Future[None]:
        """Return a future, done once *key* has another value than this transaction saw.

        Armed when the transaction commits (also when it wrote nothing); cancelled if it fails. May
        complete spuriously; never misses a lasting change. Cancel it to stop watching.
        """
        ...


class KeyValueStore(Protocol):
    """A connection to one store. Safe for any number of coroutines of one event loop."""

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run *function* in a transaction and commit; return its result once durable.

        Retries on conflicts with bounded, jittered delays, at most KV_RETRIES_MAX times. Whatever
        else
        *function* raises abandons the transaction and is passed on. A transaction without writes
        costs no commit. Raises ConflictError when retries run out, LimitExceededError,
        TransactionTooOldError, UnavailableError (backend out of reach), NoSpaceError (disk full).
        """
        ...

    async def read(self, function: Callable[[ReadTransaction], Awaitable[T]]) -> T:
        """Run *function* on one snapshot that sees every commit acknowledged before this call."""
        ...

    async def close(self) -> None:
        """Release everything; pending watches are cancelled."""
        ...
