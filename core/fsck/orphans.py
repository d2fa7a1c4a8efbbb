"""DRIVER: chunks of segments that nobody refers to.

A segment is somebody's while it has a count (files, parts and the removal queue see to it that it
has), and while its id is from a block of a client that is not forgotten: then a write may be under
way, or the reclaimer is about to free what a dead client left. Only what is neither is an orphan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from ..cluster.routing import Routing
from ..errors import RetryableError, UnavailableError
from ..ids import ChunkId
from ..kv.store import ReadTransaction, Transaction
from ..meta.context import FIRST_FREE_ID
from ..meta.schema import (
    NEXT_ID_KEY,
    RemovalRecord,
    SegmentRecord,
    client_of,
    decode_removal,
    decode_segment,
    encode,
    id_block_of,
    id_block_range,
    segment_key,
    unpack_number,
)
from ..wire.messages import ChunkSummary
from .findings import Finding, Safety
from .inventory import Inventories
from .scan import Check, letter_range, plain_pages

ORPHANS_MAX = 100_000  # more are found by the next check, once these are gone
JUDGED_AT_ONCE = 256


@dataclass(slots=True)
class Orphan:
    """A segment that seems to be nobody's."""

    chunks: int = 0
    bytes: int = 0
    sample: tuple[int, ChunkId] = (0, ChunkId(0, 0))
    """One of its chunks, and the chain that has it."""
    tables: set[int] = field(default_factory=set)
    """Tables that put each of its chunks where it was found."""


class Judgement(msgspec.Struct, frozen=True):
    """What one snapshot of the metadata says of segments."""

    unowned: frozenset[int]
    beyond: frozenset[int]
    """Ids that were never given out."""
    layouts: dict[int, SegmentRecord]


async def judge(tx: ReadTransaction, segment_ids: Collection[int]) -> Judgement:
    """Whose are these segments? Read in *tx*, so that a change of the answer conflicts."""
    numbers = list(segment_ids)
    values = await tx.get_many([segment_key(number) for number in numbers])
    layouts = {
        number: decode_segment(value)
        for number, value in zip(numbers, values, strict=True)
        if value is not None
    }
    unknown = [number for number in numbers if number not in layouts]
    if not unknown:
        return Judgement(frozenset(), frozenset(), layouts)
    value = await tx.get(NEXT_ID_KEY, snapshot=True)
    next_id = FIRST_FREE_ID if value is None else unpack_number(value)
    clients = [client_of(key) for key, _ in await tx.get_range(*letter_range(b"g"), snapshot=True)]
    unowned = set()
    for number in unknown:
        if number < next_id and not await _in_block(tx, clients, number):
            unowned.add(number)
    beyond = frozenset(number for number in unknown if number >= next_id)
    return Judgement(frozenset(unowned), beyond, layouts)


async def _in_block(tx: ReadTransaction, clients: list[int], number: int) -> bool:
    """Whether a client that is not forgotten drew the id."""
    for client_id in clients:
        begin, _ = id_block_range(client_id)
        end = begin + (number + 1).to_bytes(8, "big")
        rows = await tx.get_range(begin, end, limit=1, reverse=True, snapshot=True)
        if rows and id_block_of(*rows[0])[1] >= number:
            return True
    return False


class Orphans:
    """Gathers candidates while the chains are walked, and confirms them at the end."""

    def __init__(self, check: Check, inventories: Inventories) -> None:
        self._check = check
        self._inventories = inventories
        self._candidates: dict[int, Orphan] = {}

    async def look_at(self, chain_id: int, chunks: Mapping[ChunkId, ChunkSummary]) -> None:
        """Judge the segments of a page of *chunks* that chain *chain_id* holds."""
        numbers = sorted({chunk_id.segment_id for chunk_id in chunks})
        unowned: set[int] = set()
        for start in range(0, len(numbers), JUDGED_AT_ONCE):
            group = numbers[start : start + JUDGED_AT_ONCE]
            told = await self._check.kv.read(partial(judge, segment_ids=group))
            unowned |= told.unowned
            self._tell_beyond(told.beyond)
            for chunk_id in chunks:
                record = told.layouts.get(chunk_id.segment_id)
                if record is not None:
                    self._tell_misplaced(chain_id, chunk_id, record)
        if unowned:
            for chunk_id, summary in chunks.items():
                if chunk_id.segment_id in unowned:
                    self._note(chain_id, chunk_id, summary)

    def _tell_beyond(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self._check.findings.add(
                Finding(
                    "segment-unknown",
                    f"segment {number:x}",
                    "the metadata never gave out this id: the metadata is older than the chunks",
                    "stop writing at once: new files would take ids that are in use; restore the "
                    "newest metadata",
                    lost_metadata=True,
                )
            )

    def _tell_misplaced(self, chain_id: int, chunk_id: ChunkId, record: SegmentRecord) -> None:
        if chain_id in _right_chains(self._check.routing.routing, chunk_id, record.layout.table_id,
                                     record.layout.stripe_seed):  # fmt: skip
            return
        self._check.findings.add(
            Finding(
                "chunk-misplaced",
                f"chunk {chunk_id.segment_id:x}.{chunk_id.index} on chain {chain_id}",
                f"its layout (table {record.layout.table_id}) does not put it on this chain: "
                "nobody reads it here",
                "if the chain tables were changed by hand, change them back",
            )
        )

    def _note(self, chain_id: int, chunk_id: ChunkId, summary: ChunkSummary) -> None:
        routing = self._check.routing.routing
        number = chunk_id.segment_id
        orphan = self._candidates.get(number)
        if orphan is None:
            if len(self._candidates) == ORPHANS_MAX:
                self._check.findings.note_incomplete(
                    f"more than {ORPHANS_MAX} orphans: check again once these are freed"
                )
                return
            tables = {table.table_id for table in routing.table.tables}
            orphan = self._candidates[number] = Orphan(sample=(chain_id, chunk_id), tables=tables)
        seed = self._check.meta.layout_of(number, in_place=False).stripe_seed
        orphan.tables = {
            table_id
            for table_id in orphan.tables
            if chain_id in _right_chains(routing, chunk_id, table_id, seed)
        }
        orphan.chunks += 1
        orphan.bytes += summary.length_bytes

    async def tell(self, held: Collection[int]) -> None:
        """Report what is an orphan for certain. *held*: segments that files refer to although they
        have no count; they are not."""
        self._check.progress.stage("orphans")
        if self._candidates:
            await self._strike_queued()
        for number, orphan in self._candidates.items():
            if number in held or not await self._still(number, orphan):
                continue
            movable = bool(orphan.tables)
            self._check.findings.add(
                Finding(
                    "orphan",
                    f"segment {number:x}",
                    f"nobody refers to its {orphan.chunks} chunks ({orphan.bytes} bytes)",
                    "run with --repair to free them"
                    if movable
                    else "no chain table puts its chunks where they are; they can stay",
                    repair=self._repair(number, orphan) if movable else None,
                    safety=Safety.FREES,
                )
            )
            self._check.progress.advance(1)

    async def _strike_queued(self) -> None:
        """Forget candidates that the removal queue has: their space comes back by itself. What is
        taken from the queue meanwhile has no chunks any more."""
        begin, end = letter_range(b"q")
        async for rows in plain_pages(self._check.kv, begin, end):
            for _, value in rows:
                self._candidates.pop(decode_removal(value).segment_id, None)

    async def _still(self, number: int, orphan: Orphan) -> bool:
        """Whether the segment is nobody's, and its chunk was there after that was read."""
        told = await self._check.kv.read(partial(judge, segment_ids=[number]))
        if number not in told.unowned:
            return False
        try:
            replicas = await self._inventories.retried(
                lambda: self._inventories.everywhere(*orphan.sample)
            )
        except RetryableError as error:
            self._check.findings.note_incomplete(f"segment {number:x}: {error}")
            return False
        return any(replica is not None for replica in replicas.values())

    def _repair(self, number: int, orphan: Orphan) -> Repairing:
        return Repairing(self._check, number, min(orphan.tables))


class Repairing:
    """Gives an orphan to the reclaimer by way of the removal queue."""

    def __init__(self, check: Check, number: int, table_id: int) -> None:
        self._check = check
        self._number = number
        self._table_id = table_id

    async def __call__(self) -> str | None:
        """``Repair``."""
        check, number = self._check, self._number
        layout = msgspec.structs.replace(
            check.meta.layout_of(number, in_place=False), table_id=self._table_id
        )
        grace_ns = check.context.removal_grace_ns

        async def queue(tx: Transaction) -> bool:
            if number not in (await judge(tx, [number])).unowned:
                return False
            due = check.context.now_ns() + grace_ns
            tx.set(segment_key(number), encode(SegmentRecord(0, layout)))
            record = RemovalRecord(0, number, layout, 0)
            tx.set(check.context.next_removal_key(due), encode(record))
            return True

        if not await check.kv.transact(queue):
            return None
        return (
            f"queued for removal in {grace_ns / 1e9:g} s: no file or part refers to it, and the "
            "client that drew its id is gone for good, so nobody ever will"
        )


def _right_chains(routing: Routing, chunk_id: ChunkId, table_id: int, seed: int) -> set[int]:
    """The chain that the table puts the chunk on, if the table is known."""
    try:
        return {routing.chain_for(table_id, seed, chunk_id.index).chain_id}
    except UnavailableError:
        return set()
