"""Verified reads of block files: right bytes, or an error that names the page."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from craqen.core.checksum import crc32c, page_checksums
from craqen.core.chunks.integrity import BlockContent, PageSummer
from craqen.core.errors import DataLossError
from craqen.core.ids import ChunkId

LENGTH = 300_001
OFFSET = 4096


@pytest.fixture
def block(tmp_path: Path) -> tuple[BlockContent, bytes, Path]:
    data = random.Random(1).randbytes(LENGTH)
    path = tmp_path / "block"
    path.write_bytes(bytes(OFFSET) + data + b"beyond the chunk")
    descriptor = os.open(path, os.O_RDONLY)
    content = BlockContent(
        ChunkId(7, 3), descriptor, OFFSET, LENGTH, page_checksums(data), crc32c(data)
    )
    return content, data, path


def test_any_range(block: tuple[BlockContent, bytes, Path]) -> None:
    content, data, _ = block
    chooser = random.Random(2)
    ranges = [(chooser.randrange(LENGTH), chooser.randrange(LENGTH)) for _ in range(200)]
    ranges += [(0, LENGTH), (65536, 65536), (65535, 2), (LENGTH - 1, 1), (131072, LENGTH)]
    for start, length in ranges:
        stop = min(LENGTH, start + length)
        into = bytearray(stop - start)
        content.read_into(start, memoryview(into))
        assert into == data[start:stop]
        content.verify(start, stop - start)


@pytest.mark.parametrize("position", [0, 65535, 65536, 200_000, LENGTH - 1])
def test_a_flipped_bit_is_an_error_wherever_its_page_is_touched(
    block: tuple[BlockContent, bytes, Path], position: int
) -> None:
    content, data, path = block
    with path.open("r+b") as file:
        file.seek(OFFSET + position)
        file.write(bytes([data[position] ^ 1]))
    page = position // 65536
    for start, stop in ((0, LENGTH), (position, position + 1), (page * 65536, position + 1)):
        with pytest.raises(DataLossError, match=r"7\.3"):
            content.read_into(start, memoryview(bytearray(stop - start)))
        with pytest.raises(DataLossError, match=r"7\.3"):
            content.verify(start, stop - start)
    if page != 1:
        into = bytearray(65536)
        content.read_into(65536, memoryview(into))
        assert into == data[65536:131072]


def test_a_shortened_file_is_an_error(block: tuple[BlockContent, bytes, Path]) -> None:
    content, _, path = block
    os.truncate(path, OFFSET + 100_000)
    with pytest.raises(DataLossError, match="ends before"):
        content.read_into(0, memoryview(bytearray(LENGTH)))


def test_summing_in_pieces_is_summing_at_once() -> None:
    chooser = random.Random(3)
    data = chooser.randbytes(400_000)
    summer = PageSummer()
    position = 0
    while position < len(data):
        size = chooser.choice([1, 100, 65536, 70_000])
        summer.update(memoryview(data)[position : position + size])
        position += size
    assert summer.page_crcs() == page_checksums(data)
    assert summer.whole == crc32c(data)
    assert summer.length_bytes == len(data)


def test_what_is_in_memory_is_read_without_waiting_and_verified(
    block: tuple[BlockContent, bytes, Path],
) -> None:
    content, data, path = block
    path.read_bytes()  # in memory now
    into = bytearray(LENGTH)
    if not content.read_cached(0, memoryview(into)):
        pytest.skip("this file system cannot tell what is in memory")
    assert into == data
    into = bytearray(LENGTH - 65536)
    assert content.read_cached(65536, memoryview(into))
    assert into == data[65536:]
    assert content.read_cached(65536, memoryview(into)[:65536])
    assert not content.read_cached(1, memoryview(into)[:65536]), "not whole pages"
    assert not content.read_cached(0, memoryview(into)[:65537]), "not whole pages"
    assert not content.read_cached(65536, memoryview(bytearray(LENGTH))), "beyond the chunk"
    with path.open("r+b") as file:
        file.seek(OFFSET + 70_000)
        file.write(bytes([data[70_000] ^ 1]))
    for start, length in ((0, LENGTH), (65536, 65536)):
        with pytest.raises(DataLossError, match="page 1"):
            content.read_cached(start, memoryview(bytearray(length)))
