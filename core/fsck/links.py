"""DRIVER: has every file as many names as it says?

Names are counted in windows of inode ids, so that memory is bounded. A count that does not fit is a
suspicion: it is settled by a walk over all names during which the inode did not change, since
whoever gives or takes a name writes the inode.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import msgspec

from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from ..meta.charges import count_file
from ..meta.records import Inode, InodeType
from ..meta.schema import (
    REMOVAL_PREFIX,
    RemovalRecord,
    decode_entry,
    decode_inode,
    decode_removal,
    decode_version,
    encode,
    inode_key,
)
from ..meta.tree import put_inode
from .findings import Finding, Safety
from .lost_found import adopt
from .scan import SETTLE_ROUNDS, Check, decoded, letter_range, number_of, plain_pages, read_row

WINDOW_IDS = 4 << 20  # 16 MiB of counters
SUSPECTS_MAX = 20_000  # then they are looked at before the walk goes on


class LinkCounter:
    """Names of the inodes of one window of ids."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.counts = array("I", bytes(4 * (high - low)))
        self.versions = bytearray(high - low)

    def take_version(self, inode_id: int) -> None:
        """A version record tells of the inode."""
        if self.low <= inode_id < self.high:
            self.versions[inode_id - self.low] = 1

    def take(self, inode_id: int) -> None:
        """One more name."""
        if self.low <= inode_id < self.high:
            self.counts[inode_id - self.low] += 1


class LinkCheck:
    """Compares link counts with names."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._suspects: set[int] = set()
        self._unqueued: set[int] = set()

    async def count(self, counter: LinkCounter) -> None:
        """Walk all names for a window."""
        self._check.progress.stage(f"names of inodes from {counter.low:x} on")
        async for rows in plain_pages(self._check.kv, *letter_range(b"d")):
            for key, value in rows:
                entry = decoded(self._check.findings, key, value, decode_entry)
                if entry is not None:
                    counter.take(entry.inode_id)
            self._check.progress.advance(len(rows))
        async for rows in plain_pages(self._check.kv, *letter_range(b"w")):
            for key, value in rows:
                record = decoded(self._check.findings, key, value, decode_version)
                if record is not None:
                    counter.take_version(record.inode_id)
            self._check.progress.advance(len(rows))

    async def compare(self, counter: LinkCounter) -> None:
        """Hold the window's inodes against what was counted; what differs is a suspect."""
        begin, end = inode_key(counter.low), inode_key(counter.high)
        async for rows in plain_pages(self._check.kv, begin, end):
            for key, value in rows:
                inode = decoded(self._check.findings, key, value, decode_inode)
                if inode is None or inode.type == InodeType.DIRECTORY:
                    continue
                number = number_of(key)
                place = number - counter.low
                unheld = inode.noncurrent and not counter.versions[place]
                if counter.counts[place] != inode.nlink or unheld:
                    await self._suspect(number)
                elif not inode.lives:
                    self._unqueued.add(number)
                    if len(self._unqueued) >= SUSPECTS_MAX:
                        await self._strike_queued()

    async def _suspect(self, number: int) -> None:
        if len(self._suspects) >= SUSPECTS_MAX:
            await self._round()
        if len(self._suspects) < SUSPECTS_MAX:
            self._suspects.add(number)
        else:
            self._check.findings.note_incomplete(
                f"more than {SUSPECTS_MAX} link counts change all the time: check again later"
            )

    async def _strike_queued(self) -> None:
        """Forget which of the inodes without names are in the removal queue: they were put there
        with their last name's end, and entries only ever move to the queue's end."""
        end = prefix_end(REMOVAL_PREFIX)
        async for rows in plain_pages(self._check.kv, REMOVAL_PREFIX, end):
            for _, value in rows:
                self._unqueued.discard(decode_removal(value).inode_id)
        for number in sorted(self._unqueued):
            record = await read_row(self._check.kv, inode_key(number))
            if record is not None and not decode_inode(record).lives:
                self._tell_unqueued(number)
        self._unqueued.clear()

    def _tell_unqueued(self, number: int) -> None:
        check = self._check

        async def repair() -> str | None:
            async def queue(tx: Transaction) -> bool:
                value = await tx.get(inode_key(number))
                if value is None or decode_inode(value).lives:
                    return False
                due = check.context.now_ns() + check.context.removal_grace_ns
                record = RemovalRecord(number, 0, None, 0)
                tx.set(check.context.next_removal_key(due), encode(record))
                return True

            if not await check.kv.transact(queue):
                return None
            return (
                "queued for removal: its last name was removed by its user, and open sessions "
                "still keep it until they end"
            )

        check.findings.add(
            Finding(
                "inode-unqueued",
                f"inode {number:x}",
                "has no name, and is not queued for removal: its space is lost",
                "run with --repair to free it",
                repair=repair,
                safety=Safety.FREES,
            )
        )

    async def settle(self) -> None:
        """Look at the suspects until each is known to be right or wrong, or has changed in every
        round."""
        await self._strike_queued()
        for _ in range(SETTLE_ROUNDS):
            if not self._suspects:
                return
            self._check.progress.stage(f"a second look at {len(self._suspects)} link counts")
            await self._round()
        for number in sorted(self._suspects):
            self._check.findings.note_unsettled(
                f"inode {number:x}: changed each time its names were counted"
            )

    async def _round(self) -> None:
        check = self._check
        before: dict[int, bytes] = {}
        for number in sorted(self._suspects):
            value = await read_row(check.kv, inode_key(number))
            if value is None:
                self._suspects.discard(number)  # removed meanwhile
            else:
                before[number] = value
        names: defaultdict[int, list[bytes]] = defaultdict(list)
        async for rows in plain_pages(check.kv, *letter_range(b"d")):
            for key, value in rows:
                entry = decoded(check.findings, key, value, decode_entry)
                if entry is not None and entry.inode_id in before:
                    names[entry.inode_id].append(key)
            check.progress.advance(len(rows))
        async for rows in plain_pages(check.kv, *letter_range(b"w")):
            for key, value in rows:
                record = decoded(check.findings, key, value, decode_version)
                if record is not None and record.inode_id in before:
                    names[record.inode_id].append(key)
            check.progress.advance(len(rows))
        for number, value in before.items():
            found = names[number]
            same = partial(_unchanged, number=number, before=value, names=found)
            if not await check.kv.read(same):
                continue  # another round
            self._suspects.discard(number)
            inode = decode_inode(value)
            entries = [key for key in found if key.startswith(b"d")]
            unheld = inode.noncurrent and len(entries) == len(found)
            if inode.nlink != len(entries) or unheld:
                self._tell(inode, value, entries)

    def _tell(self, inode: Inode, before: bytes, names: list[bytes]) -> None:
        check, number = self._check, inode.inode_id

        async def repair() -> str | None:
            if not names:
                return await adopt(check, number, before, None)
            if not await check.kv.transact(lambda tx: self._set(tx, inode, before, names)):
                return None
            return "the count is that of its names: it is removed with the last of them, not before"

        if names:
            kind = "link-count"
            text = f"says that it has {inode.nlink} names, and has {len(names)}"
            advice = "run with --repair, before any of its names is removed"
        else:
            kind = "inode-without-name"
            what = "is a noncurrent version" if inode.noncurrent else f"has {inode.nlink} names"
            text = f"says that it {what}, but nothing leads to it: nobody can reach it"
            advice = "run with --repair to find it in lost+found of its bucket"
        check.findings.add(
            Finding(
                kind,
                f"inode {number:x}",
                text,
                advice,
                repair,
                lost_metadata=not names,
                owners={number},
            )
        )

    async def _set(
        self, tx: Transaction, inode: Inode, before: bytes, names: Sequence[bytes]
    ) -> bool:
        if not await _unchanged(tx, inode.inode_id, before, names):
            return False
        put_inode(tx, msgspec.structs.replace(inode, nlink=len(names), noncurrent=False))
        if not inode.lives:
            count_file(tx, inode, inode.size, 1)
        self._check.context.tell_inode(tx, inode.inode_id)
        return True


async def _unchanged(
    tx: ReadTransaction, number: int, before: bytes, names: Sequence[bytes]
) -> bool:
    """Whether the inode's record is as it was, and all *names* still name it."""
    if await tx.get(inode_key(number)) != before:
        return False
    values = await tx.get_many(list(names))
    for key, value in zip(names, values, strict=True):
        if value is None:
            return False
        record = decode_entry(value) if key.startswith(b"d") else decode_version(value)
        if record.inode_id != number:
            return False
    return True
