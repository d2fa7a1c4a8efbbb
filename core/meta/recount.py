"""DRIVER: do the counters say what files and parts of uploads add up to?

The store is in use meanwhile: a counter that changed during a walk over all files cannot be
compared; one that stood still was true for all of it. So a difference must show in two walks, and
what always changes is told as such. What is wrong is mended by adding the difference, whatever is
counted beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import DataLossError
from ..kv.keys import prefix_end
from ..kv.store import KeyValue, KeyValueStore, ReadTransaction, Transaction
from .accounts import (
    COUNTERS_PREFIX,
    OBJECTS,
    PARTS,
    SIZE,
    Account,
    Holder,
    Kind,
    account_of,
    accounts_of,
    counter_key,
    holder_of,
    limits_key,
    sum_of,
)
from .records import Inode, InodeType, Usage
from .schema import decode_inode, decode_part, decode_upload, inode_key

PAGE_ROWS = 1000
LARGE_PAGE_ROWS = 64  # rows of up to 100,000 bytes
ROUNDS = 2

Rows = tuple[KeyValue, ...]


class Difference(NamedTuple):
    """What must be added to an account's counters."""

    size_bytes: int
    objects: int
    part_bytes: int


NONE = Difference(0, 0, 0)


class Sums:
    """What files and parts add up to."""

    def __init__(self) -> None:
        self._sizes: Counter[Account] = Counter()
        self._objects: Counter[Account] = Counter()
        self._parts: Counter[Account] = Counter()

    def take(self, inode: Inode) -> None:
        """Count an inode as the namespace does: folders and what has no name do not count."""
        if inode.type != InodeType.DIRECTORY and inode.lives:
            for account in accounts_of(holder_of(inode)):
                self._sizes[account] += inode.size
                self._objects[account] += 1

    def take_part(self, holder: Holder, size: int) -> None:
        """Count a part of an unfinished upload."""
        for account in accounts_of(holder):
            self._parts[account] += size

    def accounts(self) -> set[Account]:
        """All that anything counts for."""
        return set(self._objects) | set(self._parts)

    def of(self, account: Account) -> Usage:
        """What an account holds."""
        return Usage(self._sizes[account], self._objects[account], self._parts[account])


class Comparison:
    """Counters beside sums: ``begin``, have ``sums`` take all parts and then all inodes, and
    ``end``."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv
        self._before: dict[Account, Rows] = {}
        self._uploads: dict[str, Holder] = {}
        self.sums = Sums()
        self.unstable: set[Account] = set()
        """Those whose counters changed during the last comparison."""
        self.unreadable = 0
        """Damaged records that the last walk came upon: who has bytes in them cannot be told."""

    async def begin(self) -> None:
        """Read the counters and the uploads."""
        self.sums = Sums()
        self._before = await _counters(self._kv)
        self._uploads = {}
        async for rows in _pages(self._kv, b"m", limit=LARGE_PAGE_ROWS):
            for key, value in rows:
                with self._noted():
                    upload = decode_upload(value)
                    bucket_id = int.from_bytes(key[1:9], "big")
                    self._uploads[upload.upload_id] = Holder(bucket_id, upload.uid)

    def take_part(self, key: bytes, size: int) -> None:
        """A part, by its key; one of an upload that came later changes its counters too."""
        holder = self._uploads.get(key[1:-2].decode(errors="replace"))
        if holder is not None:
            self.sums.take_part(holder, size)

    async def end(self) -> dict[Account, Difference]:
        """The accounts that stood still and whose counters are wrong."""
        now = await _counters(self._kv)
        differences: dict[Account, Difference] = {}
        self.unstable = set()
        for account in self._before.keys() | now.keys() | self.sums.accounts():
            rows = now.get(account, ())
            if self._before.get(account, ()) != rows:
                self.unstable.add(account)
                continue
            told, real = sum_of(list(rows)), self.sums.of(account)
            difference = Difference(
                real.size_bytes - told.size_bytes,
                real.objects - told.objects,
                real.part_bytes - told.part_bytes,
            )
            if difference != NONE and await self._exists(account):
                differences[account] = difference
        return differences

    async def walk(self, told: Callable[[int], None]) -> None:
        """Have the sums take everything that can be read."""
        self.unreadable = 0
        async for rows in _pages(self._kv, b"p", limit=LARGE_PAGE_ROWS):
            for key, value in rows:
                with self._noted():
                    self.take_part(key, decode_part(value).size)
            told(len(rows))
        async for rows in _pages(self._kv, b"i"):
            for _, value in rows:
                with self._noted():
                    self.sums.take(decode_inode(value))
            told(len(rows))

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except DataLossError:
            self.unreadable += 1

    async def _exists(self, account: Account) -> bool:
        async def look(tx: ReadTransaction) -> bool:
            return await _is_there(tx, account)

        return await self._kv.read(look)


async def find_differences(
    kv: KeyValueStore, told: Callable[[int], None]
) -> tuple[dict[Account, Difference], set[Account]]:
    """Differences that two walks found, and accounts that could not be compared. *told* gets the
    numbers of rows that were read. Raises DataLossError if there are records that cannot be
    read."""
    comparison = Comparison(kv)
    found: dict[Account, Difference] | None = None
    unstable: set[Account] = set()
    for _ in range(ROUNDS):
        await comparison.begin()
        await comparison.walk(told)
        if comparison.unreadable:
            raise DataLossError(
                f"{comparison.unreadable} records cannot be read: run craqen fsck first"
            )
        again = await comparison.end()
        unstable |= comparison.unstable
        if found is not None:
            again = {key: value for key, value in again.items() if found.get(key) == value}
        found = again
        if not found:
            break
    return found or {}, unstable


async def mend(kv: KeyValueStore, account: Account, difference: Difference) -> bool:
    """Add what is missing; False if the account is gone."""

    async def work(tx: Transaction) -> bool:
        if not await _is_there(tx, account):
            return False
        for what, delta in zip((SIZE, OBJECTS, PARTS), difference, strict=True):
            if delta:
                tx.add(counter_key(account, 0, what), delta)
        return True

    return await kv.transact(work)


async def _is_there(tx: ReadTransaction, account: Account) -> bool:
    """Whether the bucket exists, or the folder has a quota. (A file with several names may go on
    counting for a folder whose quota was removed, in which it has no name any more.)"""
    if account.kind is Kind.USER:
        return True
    is_bucket = account.kind is Kind.BUCKET
    key = inode_key(account.number) if is_bucket else limits_key(account)
    return await tx.get(key) is not None


async def _counters(kv: KeyValueStore) -> dict[Account, Rows]:
    found: dict[Account, list[KeyValue]] = {}
    async for rows in _pages(kv, b"r"):
        for key, value in rows:
            account = Account(Kind.BUCKET, int.from_bytes(key[1:9], "big"))
            found.setdefault(account, []).append((key, value))
    async for rows in _pages(kv, COUNTERS_PREFIX):
        for key, value in rows:
            found.setdefault(account_of(key), []).append((key, value))
    return {account: tuple(rows) for account, rows in found.items()}


async def _pages(
    kv: KeyValueStore, prefix: bytes, *, limit: int = PAGE_ROWS
) -> AsyncIterator[list[KeyValue]]:
    """All rows of a prefix, each page as one snapshot shows it."""
    begin, end = prefix, prefix_end(prefix)
    while True:

        async def read(tx: ReadTransaction, start: bytes = begin) -> list[KeyValue]:
            return await tx.get_range(start, end, limit=limit)

        rows = await kv.read(read)
        if rows:
            yield rows
        if len(rows) < limit:
            return
        begin = rows[-1][0] + b"\0"
