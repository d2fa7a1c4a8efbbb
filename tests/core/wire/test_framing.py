"""Frames: any fragmentation gives the same frames, and nothing but frames is accepted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.errors import ProtocolError
from craqen.core.limits import FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX
from craqen.core.wire.framing import (
    HEAD_BYTES,
    RECEIVE_BUFFER_BYTES,
    Frame,
    FrameKind,
    FrameReader,
    frame,
    request_frame,
)
from craqen.core.wire.messages import BATCH_BUFFERS_MAX

Sent = tuple[Frame, bytes]
"""A frame and its payload."""

lengths = st.lists(st.integers(0, FRAME_PAYLOAD_BYTES_MAX), max_size=4).map(tuple)
call_ids = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**16 - 1)
headers = st.binary(max_size=200)


@st.composite
def frames(draw: st.DrawFn) -> Sent:
    kind = draw(st.sampled_from(FrameKind))
    payload = b""
    if kind == FrameKind.DATA:
        payload = draw(st.binary(min_size=1, max_size=300))
    elif kind == FrameKind.REQUEST:
        payload = draw(st.binary(max_size=300))
    request = kind == FrameKind.REQUEST
    return Frame(
        kind,
        draw(call_ids),
        draw(numbers),
        draw(lengths) if request else (),
        draw(lengths) if request else (),
        draw(headers),
        len(payload),
        0 if request else draw(st.integers(0, FRAME_PAYLOAD_BYTES_MAX)),
    ), payload


def encode(sent: Sent) -> bytes:
    one, payload = sent
    if one.kind == FrameKind.REQUEST:
        head = request_frame(
            one.call_id,
            one.number,
            one.header,
            one.send_lengths,
            one.receive_lengths,
            one.payload_length,
        )
    else:
        head = frame(
            one.kind,
            one.call_id,
            number=one.number,
            header=one.header,
            payload_length=one.payload_length,
            offset=one.offset,
        )
    return head + payload


def read(data: bytes, cuts: list[int]) -> list[Sent]:
    """What a driver would receive if *data* came in pieces that end at *cuts*."""
    reader = FrameReader()
    found: list[Sent] = []
    current: Frame | None = None
    payload = bytearray()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        piece = data[start:stop]
        while piece:
            if current is not None:
                missing = current.payload_length - len(payload)
                payload += piece[:missing]
                piece = piece[missing:]
            else:
                space = reader.space()
                count = min(len(piece), space.nbytes)
                space[:count] = piece[:count]
                piece = piece[count:]
                reader.received(count)
            while True:
                if current is None:
                    current = reader.next()
                    if current is None:
                        break
                    payload = bytearray(current.payload_length)
                    del payload[reader.take(memoryview(payload)) :]
                if len(payload) < current.payload_length:
                    break
                found.append((current, bytes(payload)))
                current = None
    return found


@settings(deadline=None)
@given(st.lists(frames(), max_size=5), st.lists(st.integers(0, 2500), max_size=8))
def test_any_fragmentation(sent: list[Sent], cuts: list[int]) -> None:
    assert read(b"".join(map(encode, sent)), cuts) == sent


def test_headers_longer_than_the_buffer_and_many_frames_in_one_receive() -> None:
    long = (Frame(FrameKind.REPLY, 5, 0, (), (), bytes(range(256)) * 8192, 0, 0), b"")
    short = (Frame(FrameKind.ERROR, 6, 0, (), (), b"x" * 100, 0, 0), b"")
    sent = [short, long, *[short] * 2000, long]
    data = b"".join(map(encode, sent))
    assert read(data, list(range(0, len(data), RECEIVE_BUFFER_BYTES))) == sent


def test_the_buffer_grows_only_as_bytes_arrive_and_shrinks_again() -> None:
    reader = FrameReader()
    data = encode((Frame(FrameKind.REPLY, 5, 0, (), (), bytes(FRAME_HEADER_BYTES_MAX), 0, 0), b""))
    sent = 0
    while sent < len(data):
        space = reader.space()
        assert space.nbytes <= max(RECEIVE_BUFFER_BYTES, 2 * sent)
        count = min(space.nbytes, len(data) - sent)
        space[:count] = data[sent : sent + count]
        reader.received(count)
        sent += count
    found = reader.next()
    assert found is not None
    assert len(found.header) == FRAME_HEADER_BYTES_MAX
    assert reader.space().nbytes == RECEIVE_BUFFER_BYTES


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_wait_for_more(data: bytes) -> None:
    try:
        found = read(data, [])
    except ProtocolError:
        assert len(data) >= HEAD_BYTES
        return
    assert found == []
    assert len(data) < HEAD_BYTES


@settings(deadline=None)
@given(frames(), st.data())
def test_a_truncated_frame_waits_for_more(sent: Sent, data: st.DataObject) -> None:
    encoded = encode(sent)
    assert read(encoded[: data.draw(st.integers(0, len(encoded) - 1))], []) == []


@settings(deadline=None)
@given(frames(), st.data())
def test_a_changed_bit_of_head_or_header_never_passes(sent: Sent, data: st.DataObject) -> None:
    encoded = bytearray(encode(sent))
    bit = data.draw(st.integers(0, (len(encoded) - sent[0].payload_length) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        found = read(bytes(encoded), [])
    except ProtocolError:
        return
    assert found == []  # a longer length: it waits for bytes that do not come


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(FrameKind.DATA, 1, payload_length=FRAME_PAYLOAD_BYTES_MAX + 1), "limit"),
        (
            frame(FrameKind.DATA, 1, payload_length=1, offset=FRAME_PAYLOAD_BYTES_MAX + 1),
            "limit",
        ),
        (frame(FrameKind.REPLY, 1, header=bytes(FRAME_HEADER_BYTES_MAX + 1)), "header of"),
        (request_frame(1, 1, b"", [0] * (BATCH_BUFFERS_MAX + 1), [], 0), "1025 buffers"),
        (request_frame(1, 1, b"", [], [0] * (BATCH_BUFFERS_MAX + 1), 0), "1025 buffers"),
        (request_frame(1, 1, b"", [FRAME_PAYLOAD_BYTES_MAX + 1], [], 0), "a buffer of"),
        (frame(FrameKind.REPLY, 1, payload_length=1), "REPLY with 1 payload"),
        (frame(FrameKind.DATA, 1), "DATA with 0 payload"),
        (frame(8, 1), "unknown kind 8"),
        (frame(0, 1), "unknown kind 0"),
        (bytes(HEAD_BYTES), "not a Craqen frame"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read(data[:RECEIVE_BUFFER_BYTES], [])


def test_another_version_is_named() -> None:
    data = bytearray(frame(FrameKind.PULL, 1))
    data[6] = 9
    with pytest.raises(ProtocolError, match="version 9"):
        read(bytes(data), [])
