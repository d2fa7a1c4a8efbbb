"""Reference counts of segments: how many inodes and parts name one. A segment without a record is
nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from ..kv.store import Transaction
from .context import MetaContext
from .records import Extent, Layout
from .schema import RemovalRecord, SegmentRecord, decode_segment, encode, segment_key


class References:
    """What one transaction changes in the counts, gathered first and written once: a segment that
    one holder gives up and another takes over costs nothing. A holder counts a segment once,
    however many of its extents name it."""

    __slots__ = ("_changes", "_layouts")

    def __init__(self) -> None:
        self._changes: dict[int, int] = {}
        self._layouts: dict[int, Layout] = {}

    def gain(self, extents: Sequence[Extent]) -> References:
        """A holder refers to the segments of *extents*."""
        return self._change(extents, 1)

    def lose(self, extents: Sequence[Extent]) -> References:
        """A holder no longer refers to the segments of *extents*."""
        return self._change(extents, -1)

    def _change(self, extents: Sequence[Extent], delta: int) -> References:
        layouts = {extent.segment_id: extent.layout for extent in extents}
        self._layouts.update(layouts)
        changes = self._changes
        for segment_id in layouts:
            changes[segment_id] = changes.get(segment_id, 0) + delta
        return self

    async def apply(
        self, context: MetaContext, tx: Transaction, *, due_ns: int | None = None
    ) -> None:
        """Write the counts. Segments that nobody holds any more go to the removal queue, to be
        freed at *due_ns* (default: after the grace).

        Raises StaleHandleError if a segment is new and this client was declared dead: its chunks
        may be gone.
        """
        changed = [segment_id for segment_id, delta in self._changes.items() if delta]
        if not changed:
            return
        if due_ns is None:
            due_ns = context.now_ns() + context.removal_grace_ns
        values = await tx.get_many([segment_key(segment_id) for segment_id in changed])
        if None in values:
            await context.need_alive(tx)
        for segment_id, value in zip(changed, values, strict=True):
            layout = self._layouts[segment_id]
            known = 0 if value is None else decode_segment(value).references
            references = known + self._changes[segment_id]
            assert references >= 0, f"segment {segment_id:x} was referred to without being counted"
            tx.set(segment_key(segment_id), encode(SegmentRecord(references, layout)))
            if references == 0:
                record = RemovalRecord(0, segment_id, layout, 0)
                tx.set(context.next_removal_key(due_ns), encode(record))


async def shared_segments(tx: Transaction, extents: Sequence[Extent]) -> set[int]:
    """Which segments of *extents* somebody else refers to as well."""
    numbers = list({extent.segment_id for extent in extents})
    values = await tx.get_many([segment_key(segment_id) for segment_id in numbers])
    return {
        segment_id
        for segment_id, value in zip(numbers, values, strict=True)
        if value is not None and decode_segment(value).references > 1
    }
