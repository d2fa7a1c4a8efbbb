"""Pure: cutting and joining lists of extents (sorted, disjoint)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .records import OPEN_ENDED, Extent, Layout


def end_of(extent: Extent) -> int:
    """The first file offset behind *extent*."""
    return extent.file_offset + extent.length_bytes


def cut_range(extents: Sequence[Extent], start: int, end: int) -> tuple[Extent, ...]:
    """The parts of *extents* inside ``[start, end)``, at their file offsets."""
    found: list[Extent] = []
    for extent in extents:
        first, last = max(start, extent.file_offset), min(end, end_of(extent))
        if first < last:
            found.append(
                msgspec.structs.replace(
                    extent,
                    file_offset=first,
                    length_bytes=last - first,
                    segment_offset=extent.segment_offset + first - extent.file_offset,
                )
            )
    return tuple(found)


def without_range(extents: Sequence[Extent], start: int, end: int) -> tuple[Extent, ...]:
    """*extents* with a hole at ``[start, end)``."""
    return cut_range(extents, 0, start) + cut_range(extents, end, OPEN_ENDED)


def with_extent(extents: Sequence[Extent], new: Extent) -> tuple[Extent, ...]:
    """*extents* with *new* in place of what it covers; runs that continue each other are joined."""
    kept = without_range(extents, new.file_offset, end_of(new))
    merged: list[Extent] = []
    for extent in sorted([*kept, new], key=lambda item: item.file_offset):
        if merged and _continues(merged[-1], extent):
            merged[-1] = msgspec.structs.replace(
                merged[-1], length_bytes=merged[-1].length_bytes + extent.length_bytes
            )
        else:
            merged.append(extent)
    return tuple(merged)


def _continues(first: Extent, second: Extent) -> bool:
    return (
        first.segment_id == second.segment_id
        and first.dense == second.dense
        and end_of(first) == second.file_offset
        and first.segment_offset + first.length_bytes == second.segment_offset
    )


def holes(extents: Sequence[Extent], start: int, end: int) -> list[tuple[int, int]]:
    """Ranges inside ``[start, end)`` that no extent covers."""
    found: list[tuple[int, int]] = []
    position = start
    for extent in cut_range(extents, start, end):
        if extent.file_offset > position:
            found.append((position, extent.file_offset))
        position = end_of(extent)
    if position < end:
        found.append((position, end))
    return found


def gap_around(extents: Sequence[Extent], position: int) -> tuple[int, int]:
    """The largest uncovered range around *position*; it ends at OPEN_ENDED behind the last
    extent."""
    start, end = 0, OPEN_ENDED
    for extent in extents:
        if end_of(extent) <= position:
            start = max(start, end_of(extent))
        elif extent.file_offset > position:
            end = min(end, extent.file_offset)
    return start, end


def home_extent(segment_id: int, layout: Layout, start: int, end: int) -> Extent:
    """A sparse extent of a segment of its own, whose offsets equal the file's: chunks stay
    aligned."""
    return Extent(start, end - start, segment_id, start, layout, dense=False)


def aligned(start: int, end: int, chunk_size: int) -> tuple[int, int]:
    """``[start, end)`` widened to chunk boundaries."""
    return start - start % chunk_size, -(-end // chunk_size) * chunk_size
