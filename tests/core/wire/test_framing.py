"""Frames: any fragmentation gives the same frames, and nothing but frames is accepted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craqen.core.errors import ProtocolError
from craqen.core.wire.framing import HEAD_BYTES, Frame, FrameKind, FrameReader, frame_head

frames = st.tuples(
    st.sampled_from([FrameKind.REQUEST, FrameKind.REPLY, FrameKind.ERROR, FrameKind.PULL]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=200),
)


def _read(data: bytes, cuts: list[int]) -> list[Frame]:
    reader, found = FrameReader(), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        piece = memoryview(data)[start:stop]
        while piece.nbytes:
            used, frame = reader.feed(piece)
            piece = piece[used:]
            if frame is not None:
                found.append(frame)
    return found


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 1200), max_size=8))
def test_any_fragmentation(sent: list[tuple[FrameKind, int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(
        frame_head(kind, call_id, number=number, header_length=len(header)) + header
        for kind, call_id, number, header in sent
    )
    assert _read(data, cuts) == [Frame(*one, 0) for one in sent]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_wait_for_more(data: bytes) -> None:
    try:
        _read(data, [])
    except ProtocolError:
        return
    assert len(data) < HEAD_BYTES or data[:2] == b"CQ"


@given(st.integers(0, HEAD_BYTES * 8 - 1))
def test_every_flipped_bit_of_a_head_is_noticed(bit: int) -> None:
    head = bytearray(frame_head(FrameKind.DATA, 77, number=3, payload=1000))
    head[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        FrameReader().feed(memoryview(head))


def test_limits() -> None:
    for head in (
        frame_head(FrameKind.DATA, 1, payload=(64 << 20) + 1),
        frame_head(FrameKind.REQUEST, 1, header_length=(4 << 20) + 1),
        frame_head(FrameKind.REPLY, 1, payload=1),
    ):
        with pytest.raises(ProtocolError):
            FrameReader().feed(memoryview(head))
