"""Dirty ranges against a dictionary of bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.client import dirty
from craqen.core.client.dirty import DirtyRanges

UNIT = 16
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 120), st.binary(max_size=50)),
        st.tuples(st.just("cut"), st.integers(0, 150), st.just(b"")),
        st.tuples(st.just("take"), st.just(0), st.just(b"")),
        st.tuples(st.just("take back"), st.integers(0, 120), st.binary(max_size=20)),
    ),
    max_size=25,
)


def contents(ranges: DirtyRanges) -> dict[int, int]:
    """Every byte held, by offset."""
    found = ranges.overlapping(0, 1000)
    return {at + index: value for at, data in found for index, value in enumerate(data)}


def check(ranges: DirtyRanges, model: dict[int, int]) -> None:
    assert contents(ranges) == model
    assert ranges.size_bytes == len(model)
    assert ranges.end == max(model, default=-1) + 1
    assert bool(ranges) == bool(model)
    for start in range(0, 180, 7):
        for length in (1, 5, 30):
            covered = all(at in model for at in range(start, start + length))
            assert ranges.covers(start, length) == covered
    pieces = ranges.by_unit(UNIT)
    by_unit = {at + index: value for at, data in pieces for index, value in enumerate(data)}
    assert by_unit == model
    for offset, data in pieces:
        assert offset // UNIT == (offset + len(data) - 1) // UNIT, "inside one unit"
    ends = {offset + len(data) for offset, data in pieces}
    assert not any(offset in ends and offset % UNIT for offset, _ in pieces), "joined in a unit"


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, keep_whole=st.sampled_from([1, 8, 64]), grow=st.sampled_from([8, 40]))
def test_behaves_as_a_dictionary_of_bytes(
    steps: list[tuple[str, int, bytes]], keep_whole: int, grow: int
) -> None:
    before = dirty.KEEP_WHOLE_BYTES, dirty.GROW_BYTES_MAX
    dirty.KEEP_WHOLE_BYTES, dirty.GROW_BYTES_MAX = keep_whole, grow
    try:
        ranges, model = DirtyRanges(), dict[int, int]()
        for kind, offset, data in steps:
            if kind == "write":
                ranges.write(offset, data)
                model.update(enumerate(data, offset))
            elif kind == "cut":
                ranges.cut(offset)
                model = {at: value for at, value in model.items() if at < offset}
            elif kind == "take":
                taken = ranges.take_whole_units(UNIT)
                whole = {
                    at
                    for at in model
                    if all(near in model for near in range(at - at % UNIT, at - at % UNIT + UNIT))
                }
                check(taken, {at: model.pop(at) for at in sorted(whole)})
            else:
                older = ranges
                ranges = DirtyRanges()
                ranges.write(offset, data)
                ranges.put_below(older)
                assert not older
                model.update(enumerate(data, offset))
            check(ranges, model)
    finally:
        dirty.KEEP_WHOLE_BYTES, dirty.GROW_BYTES_MAX = before


def test_a_looked_at_buffer_is_not_grown() -> None:
    ranges = DirtyRanges()
    ranges.write(0, b"abc")
    [(_, view)] = ranges.by_unit(UNIT)
    ranges.write(3, b"def")
    assert bytes(view) == b"abc"
    assert ranges.overlapping(0, 10) == [(0, b"abc"), (3, b"def")]
