"""Encrypted segments: what goes in comes out, by any range, and nothing else ever does."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craqen.core.crypt.pages import (
    PAGE_OVERHEAD_BYTES,
    PLAIN_PAGE_BYTES,
    STORED_PAGE_BYTES,
    SegmentCipher,
    open_record,
    seal_record,
    stored_length,
    stored_range,
)
from craqen.core.errors import DataLossError

KEY = bytes(range(32))
LENGTHS = [1, 100, PLAIN_PAGE_BYTES - 1, PLAIN_PAGE_BYTES, PLAIN_PAGE_BYTES + 1, 200_000]


def sealed(plain: bytes, segment_id: int = 7) -> bytes:
    cipher = SegmentCipher(KEY, segment_id)
    out = bytearray()
    for page, start in enumerate(range(0, len(plain), PLAIN_PAGE_BYTES)):
        room = memoryview(bytearray(STORED_PAGE_BYTES))
        size = cipher.seal(plain[start : start + PLAIN_PAGE_BYTES], page, room)
        out += room[:size]
    return bytes(out)


def read(stored: bytes, offset: int, length: int, plain_length: int, segment_id: int = 7) -> bytes:
    where = stored_range(offset, length, plain_length)
    into = memoryview(bytearray(length))
    piece = memoryview(stored)[where.offset : where.offset + where.length]
    SegmentCipher(KEY, segment_id).open_range(piece, where, into)
    return bytes(into)


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int) -> None:
    stored = sealed(os.urandom(length))
    assert len(stored) == stored_length(length)
    assert stored_length(PLAIN_PAGE_BYTES * 3) == STORED_PAGE_BYTES * 3


@given(st.data())
def test_any_range_comes_back(data: st.DataObject) -> None:
    length = data.draw(st.sampled_from(LENGTHS))
    plain = os.urandom(length)
    stored = sealed(plain)
    offset = data.draw(st.integers(0, length - 1))
    count = data.draw(st.integers(1, length - offset))
    assert read(stored, offset, count, length) == plain[offset : offset + count]


@given(st.integers(0, stored_length(200_000) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_by_every_read_of_its_page(position: int, change: int) -> None:
    stored = bytearray(sealed(bytes(200_000)))
    stored[position] ^= change
    page = position // STORED_PAGE_BYTES
    start = page * PLAIN_PAGE_BYTES
    with pytest.raises(DataLossError):
        read(bytes(stored), start, 1, 200_000)


def test_pages_do_not_decrypt_elsewhere() -> None:
    stored = sealed(bytes(3 * PLAIN_PAGE_BYTES))
    first, second = stored[:STORED_PAGE_BYTES], stored[STORED_PAGE_BYTES : 2 * STORED_PAGE_BYTES]
    length = 3 * PLAIN_PAGE_BYTES
    with pytest.raises(DataLossError):
        read(second + first + stored[2 * STORED_PAGE_BYTES :], 0, 10, length)
    with pytest.raises(DataLossError):
        read(stored, 0, 10, length, segment_id=8)
    assert stored[:STORED_PAGE_BYTES] != sealed(bytes(PLAIN_PAGE_BYTES))  # nonces are never reused


def test_records() -> None:
    for plain in (b"", b"x", os.urandom(70_000)):
        stored = seal_record(KEY, plain)
        assert len(stored) == len(plain) + PAGE_OVERHEAD_BYTES
        assert open_record(KEY, stored) == plain
        with pytest.raises(DataLossError):
            open_record(os.urandom(32), stored)
        with pytest.raises(DataLossError):
            open_record(KEY, stored[:-1])
    with pytest.raises(DataLossError):
        open_record(KEY, b"short")
