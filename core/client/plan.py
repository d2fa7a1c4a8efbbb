"""Pure: which bytes of which chunks make up a range of a file?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..ids import ChunkId
from ..meta.records import Extent, Layout


class ChunkSpan(NamedTuple):
    """Bytes of one chunk that stand for bytes of a file."""

    chunk_id: ChunkId
    layout: Layout
    chunk_offset: int
    length: int
    file_offset: int
    dense: bool


class HoleSpan(NamedTuple):
    """Bytes that no extent covers."""

    length: int
    file_offset: int


Span = ChunkSpan | HoleSpan


def plan_range(extents: Sequence[Extent], offset: int, length: int) -> list[Span]:
    """Spans that cover exactly ``[offset, offset + length)`` in order; *extents* sorted,
    disjoint."""
    spans: list[Span] = []
    position, end = offset, offset + length
    for extent in extents:
        if extent.file_offset >= end:
            break
        extent_end = extent.file_offset + extent.length_bytes
        if extent_end <= position:
            continue
        if extent.file_offset > position:
            spans.append(HoleSpan(extent.file_offset - position, position))
            position = extent.file_offset
        stop = min(end, extent_end)
        _split(spans, extent, position, stop)
        position = stop
    if position < end:
        spans.append(HoleSpan(end - position, position))
    return spans


def _split(spans: list[Span], extent: Extent, start: int, stop: int) -> None:
    """Append the chunk spans of file range ``[start, stop)``, all of it inside *extent*."""
    chunk_size = extent.layout.chunk_size_bytes
    at = extent.segment_offset + (start - extent.file_offset)
    while start < stop:
        index, chunk_offset = divmod(at, chunk_size)
        size = min(chunk_size - chunk_offset, stop - start)
        spans.append(
            ChunkSpan(
                ChunkId(extent.segment_id, index),
                extent.layout,
                chunk_offset,
                size,
                start,
                extent.dense,
            )
        )
        start += size
        at += size
