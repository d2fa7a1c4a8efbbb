"""Transactions of the embedded backend: reads on an LMDB snapshot, writes in a buffer.

What a transaction read is kept, not only where: commits are validated by value (committer.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import lmdb

from ..errors import TransactionTooOldError
from . import lmdb_rows
from .checks import RESERVED, check_key, check_range
from .committer import CommitJob, RangeRead
from .lmdb_rows import DIRECT_KEY_BYTES
from .store import KeyValue
from .write_buffer import Range, WriteBuffer

if TYPE_CHECKING:
    Watch = tuple[bytes, bytes | None, asyncio.Future[None]]


class EmbeddedSnapshot:
    """Reads on one LMDB snapshot, which the store opened and the store ends.

    ATTRIBUTES ``was_lost``: the store had to end the snapshot for a reason of its own.
    """

    __slots__ = ("_get", "_txn", "started_seconds", "was_lost")

    def __init__(self, txn: lmdb.Transaction[bytes], started_seconds: float) -> None:
        self._txn = txn
        self._get = txn.get
        self.started_seconds = started_seconds
        self.was_lost = False

    async def get(self, key: bytes, *, snapshot: bool = False) -> bytes | None:
        """See the port."""
        return self._stored(key)

    async def get_many(
        self, keys: Sequence[bytes], *, snapshot: bool = False
    ) -> list[bytes | None]:
        """See the port."""
        stored = self._stored
        return [stored(key) for key in keys]

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
        return self._stored_range(begin, end, limit, reverse)

    def end(self) -> None:
        """End the snapshot, unless it is ended."""
        self._txn.abort()

    def expire(self) -> None:
        """End the snapshot because of its age: reads raise TransactionTooOldError from now on."""
        self._txn.abort()

    def lose(self) -> None:
        """End the snapshot for the store's sake: the caller is to start again."""
        self.was_lost = True
        self._txn.abort()

    def _stored(self, key: bytes) -> bytes | None:
        try:
            if 0 < len(key) <= DIRECT_KEY_BYTES and key < RESERVED:
                return self._get(key)
            check_key(key)
            return lmdb_rows.get(self._txn, key)
        except lmdb.Error as error:
            raise _ended(error) from error

    def _stored_range(self, begin: bytes, end: bytes, limit: int, reverse: bool) -> list[KeyValue]:
        if begin >= end:
            return []
        try:
            return lmdb_rows.scan(self._txn, begin, end, limit=max(limit, 0), reverse=reverse)
        except lmdb.Error as error:
            raise _ended(error) from error


class EmbeddedTransaction(EmbeddedSnapshot):
    """One attempt of a read-write transaction.

    ATTRIBUTES ``buffer`` is None until something is written; ``watches`` are armed by the store.
    """

    __slots__ = ("_explicit", "_owns_snapshot", "_point_reads", "_range_reads", "buffer", "watches")

    def __init__(self, txn: lmdb.Transaction[bytes], started_seconds: float) -> None:
        self._txn = txn
        self._get = txn.get
        self.started_seconds = started_seconds
        self.was_lost = False
        self._owns_snapshot = True
        self._point_reads: dict[bytes, bytes | None] = {}
        self._range_reads: list[RangeRead] = []
        self._explicit: list[Range] = []
        self.buffer: WriteBuffer | None = None
        self.watches: list[Watch] = []

    # Reads

    async def get(self, key: bytes, *, snapshot: bool = False) -> bytes | None:
        """See the port."""
        if self.buffer is not None:
            return self._merged(key, snapshot)
        value = self._stored(key)
        if not snapshot:
            self._point_reads[key] = value
        return value

    async def get_many(
        self, keys: Sequence[bytes], *, snapshot: bool = False
    ) -> list[bytes | None]:
        """See the port."""
        if self.buffer is not None:
            return [self._merged(key, snapshot) for key in keys]
        stored = self._stored
        values = [stored(key) for key in keys]
        if not snapshot:
            self._point_reads.update(zip(keys, values, strict=True))
        return values

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
        buffer = self.buffer
        if buffer is not None:
            buffer.check_readable(begin, end)
            if buffer.touches(begin, end):
                return self._merged_range(buffer, begin, end, limit, reverse, snapshot)
        pairs = self._stored_range(begin, end, limit, reverse)
        if not snapshot:
            begin, end = _range_read(begin, end, pairs, limit, reverse)
            forward = pairs[::-1] if reverse else pairs.copy()
            self._range_reads.append(RangeRead(begin, end, forward))
        return pairs

    def _merged(self, key: bytes, snapshot: bool) -> bytes | None:
        buffer = self.buffer
        assert buffer is not None
        if buffer.stamped_keys or buffer.stamped_values:
            buffer.check_readable(key, key + b"\x00")
        if buffer.covers(key):
            if self._txn_is_ended():
                raise _too_old()
            return buffer.read(key, None)
        stored = self._stored(key)
        if not snapshot:
            self._point_reads[key] = stored
        return buffer.read(key, stored)

    def _merged_range(
        self,
        buffer: WriteBuffer,
        begin: bytes,
        end: bytes,
        limit: int,
        reverse: bool,
        snapshot: bool,
    ) -> list[KeyValue]:
        consumed: list[KeyValue] = []
        pairs: list[KeyValue] = []
        try:
            stored = lmdb_rows.iterate(self._txn, begin, end, reverse=reverse)
            kept = _keeping(stored, consumed)
            for pair in buffer.merge(kept, begin, end, reverse=reverse):
                pairs.append(pair)
                if len(pairs) == limit:
                    break
        except lmdb.Error as error:
            raise _ended(error) from error
        if not snapshot:
            begin, end = _range_read(begin, end, pairs, limit, reverse)
            read = RangeRead(
                begin,
                end,
                [],
                frozenset(key for key in buffer.keys_in(begin, end) if buffer.covers(key)),
                tuple(buffer.cleared),
            )
            if reverse:
                consumed.reverse()
            read.pairs = [
                pair for pair in consumed if begin <= pair[0] < end and not read.covers(pair[0])
            ]
            self._range_reads.append(read)
        return pairs

    def _txn_is_ended(self) -> bool:
        try:
            self._txn.id()
        except lmdb.Error:
            return True
        return False

    # Writes

    def set(self, key: bytes, value: bytes) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).set(key, value)

    def clear(self, key: bytes) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).clear(key)

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).clear_range(begin, end)

    def add(self, key: bytes, delta: int) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).add(key, delta)

    def set_versionstamped_key(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).set_versionstamped_key(prefix, suffix, value)

    def set_versionstamped_value(self, key: bytes, prefix: bytes, suffix: bytes = b"") -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).set_versionstamped_value(key, prefix, suffix)

    def add_read_conflict_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        check_range(begin, end)
        if begin < end:
            self._explicit.append((begin, end))

    def add_write_conflict_range(self, begin: bytes, end: bytes) -> None:
        """See the port."""
        (self.buffer or self._new_buffer()).add_conflict_range(begin, end)

    def watch(self, key: bytes) -> asyncio.Future[None]:
        """See the port."""
        if self.buffer is None:
            seen = self._stored(key)
        else:
            seen = self._merged(key, True)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watches.append((key, seen, future))
        return future

    def _new_buffer(self) -> WriteBuffer:
        self.buffer = WriteBuffer()
        return self.buffer

    # For the store

    def job(self, future: asyncio.Future[bool]) -> CommitJob:
        """Return what the committer needs.

        The job owns the snapshot from now on, if it has one. Raises LimitExceededError.
        """
        buffer = self.buffer
        assert buffer is not None
        buffer.grow(self._conflict_bytes())
        try:
            snapshot_id = self._txn.id()
        except lmdb.Error as error:
            raise _ended(error) from error
        job = CommitJob(
            future, snapshot_id, self._point_reads, self._range_reads, self._explicit, buffer
        )
        if self._explicit:
            job.snapshot = self._txn
            self._owns_snapshot = False
        return job

    def end(self) -> None:
        """End the snapshot, unless it is ended or the committer's."""
        if self._owns_snapshot:
            self._txn.abort()

    def cancel_watches(self) -> None:
        """Cancel what was never armed."""
        for _, _, future in self.watches:
            future.cancel()

    def _conflict_bytes(self) -> int:
        size_bytes = sum(map(len, self._point_reads))
        for read in self._range_reads:
            size_bytes += len(read.begin) + len(read.end)
        for begin, end in self._explicit:
            size_bytes += len(begin) + len(end)
        return size_bytes


def _range_read(
    begin: bytes, end: bytes, pairs: list[KeyValue], limit: int, reverse: bool
) -> Range:
    """Return the part of ``[begin, end)`` that a read which returned *pairs* has looked at."""
    if limit <= 0 or len(pairs) < limit:
        return begin, end
    last = pairs[-1][0]
    return (last, end) if reverse else (begin, last + b"\x00")


def _keeping(pairs: Iterable[KeyValue], kept: list[KeyValue]) -> Iterator[KeyValue]:
    for pair in pairs:
        kept.append(pair)
        yield pair


def _too_old() -> TransactionTooOldError:
    return TransactionTooOldError("the transaction outlived its snapshot: start again")


def _ended(error: lmdb.Error) -> Exception:
    """Return the error for a read that LMDB refused."""
    if "closed" in str(error):
        return _too_old()
    return error
