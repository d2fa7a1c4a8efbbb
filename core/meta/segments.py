"""Reference counts of segments: how many inodes and parts name one. A segment without a record is
nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from ..kv.store import Transaction
from .context import MetaContext
from .records import Extent, Layout
from .schema import RemovalRecord, SegmentRecord, decode_segment, encode, segment_key


def _layouts(extents: Sequence[Extent]) -> dict[int, Layout]:
    """Each segment of *extents* once."""
    return {extent.segment_id: extent.layout for extent in extents}


async def add_references(tx: Transaction, extents: Sequence[Extent], count: int) -> None:
    """One file's (or part's) extents: each of their segments gets *count* more references."""
    layouts = _layouts(extents)
    keys = [segment_key(segment_id) for segment_id in layouts]
    values = await tx.get_many(keys)
    for (segment_id, layout), value in zip(layouts.items(), values, strict=True):
        known = 0 if value is None else decode_segment(value).references
        tx.set(segment_key(segment_id), encode(SegmentRecord(known + count, layout)))


async def drop_references(
    context: MetaContext, tx: Transaction, extents: Sequence[Extent], *, due_ns: int | None = None
) -> None:
    """One file's (or part's) extents are no longer referred to: unshared segments go to the removal
    queue, to be freed at *due_ns* (default: after the grace)."""
    if due_ns is None:
        due_ns = context.now_ns() + context.removal_grace_ns
    layouts = _layouts(extents)
    values = await tx.get_many([segment_key(segment_id) for segment_id in layouts])
    for (segment_id, layout), value in zip(layouts.items(), values, strict=True):
        assert value is not None, f"segment {segment_id:x} is referred to without a record"
        references = decode_segment(value).references - 1
        tx.set(segment_key(segment_id), encode(SegmentRecord(references, layout)))
        if references == 0:
            record = RemovalRecord(0, segment_id, layout, 0)
            tx.set(context.next_removal_key(due_ns), encode(record))


async def change_references(
    context: MetaContext, tx: Transaction, before: Sequence[Extent], after: Sequence[Extent]
) -> None:
    """A file's extents changed: segments that it names anew or no longer are counted."""
    old, new = _layouts(before), _layouts(after)
    await add_references(tx, [extent for extent in after if extent.segment_id not in old], 1)
    gone = [extent for extent in before if extent.segment_id not in new]
    await drop_references(context, tx, gone)


async def shared_segments(tx: Transaction, extents: Sequence[Extent]) -> set[int]:
    """Which segments of *extents* somebody else refers to as well."""
    layouts = list(_layouts(extents))
    values = await tx.get_many([segment_key(segment_id) for segment_id in layouts])
    return {
        segment_id
        for segment_id, value in zip(layouts, values, strict=True)
        if value is not None and decode_segment(value).references > 1
    }
