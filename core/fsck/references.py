"""DRIVER: are segments counted as often as they are referred to?

References are counted in windows of ids, so that memory is bounded however many there are. A count
that does not fit is only a suspicion: the store was in use meanwhile. Suspects are then watched: if
the segment's record and all its holders are unchanged from before a walk to after it, the walk has
seen every holder, and what it counted is the truth.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence

from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from ..meta.records import Extent, Layout
from ..meta.schema import (
    REMOVAL_PREFIX,
    RemovalRecord,
    SegmentRecord,
    decode_removal,
    decode_segment,
    encode,
    segment_key,
)
from .findings import Finding, Safety
from .holders import Held, Holder, read_holder, walk_holders
from .scan import SETTLE_ROUNDS, Check, decoded, number_of, plain_pages, read_row

WINDOW_IDS = 4 << 20  # 16 MiB of counters
SUSPECTS_MAX = 20_000  # then they are looked at before the walk goes on
HOLDERS_MAX = 10_000  # of one suspect


class Counter:
    """References to the segments of one window of ids."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.counts = array("I", bytes(4 * (high - low)))

    def take(self, extents: Sequence[Extent]) -> None:
        """A holder refers to these: each segment once, however often it names it."""
        low, high = self.low, self.high
        for number in {extent.segment_id for extent in extents}:
            if low <= number < high:
                self.counts[number - low] += 1


class ReferenceCheck:
    """Compares counts with holders."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._suspects: set[int] = set()
        self._layouts: dict[int, Layout] = {}
        self._unqueued: set[int] = set()
        self.uncounted: set[int] = set()
        """Segments that are referred to and have no record."""

    async def _suspect(self, number: int) -> None:
        if len(self._suspects) >= SUSPECTS_MAX:
            await self._round()
        if len(self._suspects) < SUSPECTS_MAX:
            self._suspects.add(number)
        else:
            self._check.findings.note_incomplete(
                f"more than {SUSPECTS_MAX} segment counts change all the time: check again later"
            )

    async def compare(self, counter: Counter) -> None:
        """Hold the records of a window against what was counted; what differs is a suspect."""
        begin, end = segment_key(counter.low), segment_key(counter.high)
        counts, low = counter.counts, counter.low
        async for rows in plain_pages(self._check.kv, begin, end):
            for key, value in rows:
                record = decoded(self._check.findings, key, value, decode_segment)
                place = number_of(key) - low
                if record is not None and counts[place] != record.references:
                    await self._suspect(place + low)
                elif record is not None and record.references == 0:
                    self._unqueued.add(place + low)
                    if len(self._unqueued) >= SUSPECTS_MAX:
                        await self._strike_queued()
                counts[place] = 0
        for place, count in enumerate(counts):
            if count:
                await self._suspect(place + low)

    async def _strike_queued(self) -> None:
        """Forget which of the segments without references are in the removal queue. They were put
        there when their count fell to nothing, and entries only ever move to the queue's end."""
        end = prefix_end(REMOVAL_PREFIX)
        async for rows in plain_pages(self._check.kv, REMOVAL_PREFIX, end):
            for _, value in rows:
                record = decode_removal(value)
                if record.first_chunk == 0:
                    self._unqueued.discard(record.segment_id)
        for number in sorted(self._unqueued):
            found = await read_row(self._check.kv, segment_key(number))
            if found is not None and decode_segment(found).references == 0:
                self._tell_unqueued(number, found)
        self._unqueued.clear()

    def _tell_unqueued(self, number: int, value: bytes) -> None:
        async def repair() -> str | None:
            if not await self._set(number, value, (), 0):
                return None
            return "queued for removal: its own count says that nobody refers to it"

        self._check.findings.add(
            Finding(
                "segment-unqueued",
                f"segment {number:x}",
                "nobody refers to it, but it is not queued for removal: its space is lost",
                "run with --repair to free it",
                repair=repair,
                safety=Safety.FREES,
            )
        )

    async def settle(self) -> None:
        """Watch the suspects until each is known to be right or wrong, or has changed in every
        round."""
        await self._strike_queued()
        for _ in range(SETTLE_ROUNDS):
            if not self._suspects:
                return
            self._check.progress.stage(f"a second look at {len(self._suspects)} segment counts")
            await self._round()
        for number in sorted(self._suspects):
            self._check.findings.note_unsettled(
                f"segment {number:x}: its references changed each time they were counted"
            )

    async def _records(self, numbers: Sequence[int]) -> dict[int, bytes | None]:
        found: dict[int, bytes | None] = {}
        for number in numbers:
            found[number] = await read_row(self._check.kv, segment_key(number))
        return found

    async def _round(self) -> None:
        numbers = sorted(self._suspects)
        before = await self._records(numbers)
        holders: defaultdict[int, dict[Holder, None]] = defaultdict(dict)
        async for held in walk_holders(self._check.kv, self._check.findings):
            self._check.progress.advance(1)
            for extent in held.extents:
                number = extent.segment_id
                if number in self._suspects and len(holders[number]) < HOLDERS_MAX:
                    holders[number][held.holder] = None
                    self._layouts[number] = extent.layout
        for number in numbers:
            await self._judge(number, before[number], list(holders[number]))

    async def _judge(self, number: int, before: bytes | None, holders: list[Holder]) -> None:
        if len(holders) >= HOLDERS_MAX:
            self._suspects.discard(number)
            self._check.findings.note_incomplete(
                f"segment {number:x}: has at least {HOLDERS_MAX} holders; they were not counted"
            )
            return
        if not await self._check.kv.read(lambda tx: unchanged(tx, number, before, holders)):
            return  # another round
        self._suspects.discard(number)
        recorded = 0 if before is None else decode_segment(before).references
        actual = len(holders)
        if before is None and actual:
            self.uncounted.add(number)
        if recorded != actual:
            self._tell(number, before, recorded, holders)

    def _tell(
        self, number: int, before: bytes | None, recorded: int, holders: list[Holder]
    ) -> None:
        actual = len(holders)
        subject = f"segment {number:x}"
        owners = {holder.inode_id for holder in holders[:8]} - {0}
        if actual > recorded:
            kind, safety = "segment-undercounted", Safety.SAFE
            text = f"{actual} files and parts refer to it, its count says {recorded}: it may be "
            text += "freed while it is in use"
            advice = "run with --repair at once, before more names of these files are removed"
            done = "count raised to what refers to it: nothing is freed by that"
        elif actual:
            kind, safety = "segment-overcounted", Safety.SAFE
            text = f"{actual} files and parts refer to it, its count says {recorded}: its space "
            text += "would never be freed"
            advice = "run with --repair"
            done = "count lowered to what refers to it: it stays until the last of these is gone"
            owners = set()
        else:
            kind, safety = "segment-unheld", Safety.GIVES_UP
            text = f"its count says {recorded}, but no file or part refers to it"
            advice = (
                "its bytes may be those of a file whose record is lost: look for one in a backup "
                "of the metadata; else run with --repair --accept-loss to free them"
            )
            done = "queued for removal: nothing refers to it, and you accepted the loss"

        async def repair() -> str | None:
            return done if await self._set(number, before, holders, actual) else None

        finding = Finding(kind, subject, text, advice, repair, safety, owners=owners)
        finding.lost_metadata = kind != "segment-overcounted"
        self._check.findings.add(finding)

    async def _set(
        self,
        number: int,
        before: bytes | None,
        holders: Sequence[Holder],
        actual: int,
    ) -> bool:
        """Write the true count, if all is still as it was; nothing otherwise."""
        check = self._check
        queued = await self._queue_keys(number) if actual else []

        async def write(tx: Transaction) -> bool:
            if not await unchanged(tx, number, before, holders):
                return False
            layout = self._layouts.get(number)
            if before is not None:
                layout = decode_segment(before).layout
            assert layout is not None
            tx.set(segment_key(number), encode(SegmentRecord(actual, layout)))
            for key in queued:
                tx.clear(key)
            if not actual:
                due = check.context.now_ns() + check.context.removal_grace_ns
                record = RemovalRecord(0, number, layout, 0)
                tx.set(check.context.next_removal_key(due), encode(record))
            return True

        return await check.kv.transact(write)

    async def _queue_keys(self, number: int) -> list[bytes]:
        """Entries of the removal queue that would free the whole segment."""
        keys: list[bytes] = []
        end = prefix_end(REMOVAL_PREFIX)
        async for rows in plain_pages(self._check.kv, REMOVAL_PREFIX, end):
            for key, value in rows:
                record = decode_removal(value)
                if record.segment_id == number and record.first_chunk == 0:
                    keys.append(key)
        return keys


async def unchanged(
    tx: ReadTransaction, number: int, before: bytes | None, holders: Sequence[Holder]
) -> bool:
    """Whether the segment's record is as it was, and all *holders* still refer to it."""
    if await tx.get(segment_key(number)) != before:
        return False
    for holder in holders:
        held: Held = await read_holder(tx, holder)
        if all(extent.segment_id != number for extent in held.extents):
            return False
    return True
