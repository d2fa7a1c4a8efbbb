"""DRIVER: do the counters of each bucket say what its files add up to?

Counters that changed during the walk cannot be compared; those that stood still were true for all
of it. A difference must show twice, in two walks.
"""

from __future__ import annotations

from collections import Counter

from ..kv.store import ReadTransaction, Transaction
from ..meta.records import Inode, InodeType
from ..meta.schema import decode_bucket, decode_inode, inode_key, usage_key, usage_range
from .findings import Finding
from .scan import Check, decoded, letter_range, plain_pages, read_range

CONFIRMING_ROUNDS = 2
KINDS = (b"b", b"o")
"""Bytes and objects, as the keys of the counters end."""

Rows = tuple[tuple[bytes, bytes], ...]


class Sums:
    """What the files of each bucket add up to."""

    def __init__(self) -> None:
        self.sizes: Counter[int] = Counter()
        self.objects: Counter[int] = Counter()

    def take(self, inode: Inode) -> None:
        """Count an inode as the namespace does: folders and what has no name do not count."""
        if inode.type != InodeType.DIRECTORY and inode.lives:
            self.sizes[inode.bucket_id] += inode.size
            self.objects[inode.bucket_id] += 1

    def of(self, bucket_id: int) -> tuple[int, int]:
        """Bytes and objects."""
        return self.sizes[bucket_id], self.objects[bucket_id]


class UsageCheck:
    """Compares counters with sums. ``begin``, walk the inodes, ``end``."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._before: dict[int, Rows] = {}
        self._names: dict[int, str] = {}
        self.sums = Sums()

    async def begin(self) -> None:
        """Read the counters; from now on ``sums`` takes the inodes."""
        self.sums = Sums()
        self._before = await self._counters()

    async def end(self) -> None:
        """Compare; what differs is walked again."""
        differences = await self._compare()
        for _ in range(CONFIRMING_ROUNDS - 1):
            if not differences:
                return
            self._check.progress.stage("usage of buckets, again")
            await self.begin()
            async for rows in plain_pages(self._check.kv, *letter_range(b"i")):
                for key, value in rows:
                    inode = decoded(self._check.findings, key, value, decode_inode)
                    if inode is not None:
                        self.sums.take(inode)
                self._check.progress.advance(len(rows))
            again = await self._compare()
            differences = {
                bucket_id: found
                for bucket_id, found in differences.items()
                if again.get(bucket_id) == found
            }
        for bucket_id, found in differences.items():
            self._tell(bucket_id, found)

    async def _counters(self) -> dict[int, Rows]:
        counters: dict[int, Rows] = {}
        async for rows in plain_pages(self._check.kv, *letter_range(b"b")):
            for key, value in rows:
                bucket = decoded(self._check.findings, key, value, decode_bucket)
                if bucket is None:
                    continue
                begin, end = usage_range(bucket.inode_id)
                counters[bucket.inode_id] = tuple(await read_range(self._check.kv, begin, end))
                self._names[bucket.inode_id] = bucket.name
        return counters

    async def _compare(self) -> dict[int, tuple[int, int]]:
        """By bucket, what must be added to its counters."""
        now = await self._counters()
        differences: dict[int, tuple[int, int]] = {}
        for bucket_id, rows in self._before.items():
            if now.get(bucket_id) != rows:
                continue  # changed meanwhile
            told = _totals(rows)
            real = self.sums.of(bucket_id)
            if told != real:
                differences[bucket_id] = (real[0] - told[0], real[1] - told[1])
        return differences

    def _tell(self, bucket_id: int, difference: tuple[int, int]) -> None:
        check = self._check
        size, objects = difference

        async def repair() -> str | None:
            async def work(tx: Transaction) -> bool:
                if not await _bucket_exists(tx, bucket_id):
                    return False
                for kind, delta in zip(KINDS, difference, strict=True):
                    if delta:
                        tx.add(usage_key(bucket_id, 0, kind), delta)
                return True

            if not await check.kv.transact(work):
                return None
            return "the difference is added: what is written meanwhile is counted beside it"

        check.findings.add(
            Finding(
                "usage",
                f"bucket {self._names[bucket_id]}",
                f"its counters are off by {-size} bytes and {-objects} objects",
                "run with --repair",
                repair,
            )
        )


def _totals(rows: Rows) -> tuple[int, int]:
    """Bytes and objects that counters say."""
    totals = {b"b": 0, b"o": 0}
    for key, value in rows:
        totals[key[-1:]] += int.from_bytes(value, "little", signed=True)
    return totals[b"b"], totals[b"o"]


async def _bucket_exists(tx: ReadTransaction, bucket_id: int) -> bool:
    """Whether the bucket exists."""
    return await tx.get(inode_key(bucket_id)) is not None
