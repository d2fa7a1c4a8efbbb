"""From file ranges to chunk spans: every byte exactly once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from craqen.core.client.plan import ChunkSpan, HoleSpan, plan_range
from craqen.core.meta.records import Extent, Layout

LAYOUT = Layout(chunk_size_bytes=100, table_id=1, stripe_seed=0)


@st.composite
def extent_lists(draw: st.DrawFn) -> list[Extent]:
    position, extents = 0, []
    for number in range(draw(st.integers(0, 5))):
        position += draw(st.integers(0, 250))
        length = draw(st.integers(1, 450))
        start = draw(st.integers(0, 350))
        extents.append(Extent(position, length, number + 1, start, LAYOUT, draw(st.booleans())))
        position += length
    return extents


@given(extent_lists(), st.integers(0, 2000), st.integers(0, 1500))
def test_spans_are_what_the_extents_say(extents: list[Extent], offset: int, length: int) -> None:
    byte_at: dict[int, tuple[int, int]] = {}
    for extent in extents:
        for step in range(extent.length_bytes):
            byte_at[extent.file_offset + step] = (extent.segment_id, extent.segment_offset + step)
    position = offset
    for span in plan_range(extents, offset, length):
        assert span.file_offset == position
        assert span.length > 0
        for step in range(span.length):
            if isinstance(span, HoleSpan):
                assert position + step not in byte_at
            else:
                assert isinstance(span, ChunkSpan)
                at = span.chunk_id.index * 100 + span.chunk_offset + step
                assert byte_at[position + step] == (span.chunk_id.segment_id, at)
                assert span.chunk_offset + span.length <= 100
        position += span.length
    assert position == offset + length
