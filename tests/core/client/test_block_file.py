"""What is written past the page cache is what readers of the cache find."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from craqen.core.chunks.direct import ALIGNMENT_BYTES, DIRECT_BYTES_MIN
from craqen.core.client.block_file import BlockFile
from craqen.core.limits import MIB

FILE_BYTES = 4 * MIB


@pytest.fixture
def buffer() -> memoryview:
    """Random bytes in whole pages of memory."""
    view = memoryview(mmap.mmap(-1, 2 * MIB))
    view[:] = os.urandom(len(view))
    return view


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BlockFile]:
    """A block file whose pages are all in the cache, filled with 0xEE."""
    descriptor = os.open(tmp_path / "blocks", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(descriptor, b"\xee" * FILE_BYTES, 0)
    found = BlockFile(descriptor)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("start", "length", "offset"),
    [
        (0, 2 * MIB, 0),
        (0, 2 * MIB, ALIGNMENT_BYTES),
        (0, DIRECT_BYTES_MIN, MIB),
        (0, DIRECT_BYTES_MIN - 1, MIB),
        (0, MIB + 1, 0),
        (0, MIB + ALIGNMENT_BYTES - 1, ALIGNMENT_BYTES),
        (1, MIB, 0),
        (512, MIB, 0),
        (0, MIB, 1),
        (0, MIB, 512),
        (7, 100, 3),
        (0, 0, 0),
    ],
)
def test_every_byte_lands_and_no_other_changes(
    file: BlockFile, buffer: memoryview, start: int, length: int, offset: int
) -> None:
    data = buffer[start : start + length]
    file.write(data, offset)
    os.fdatasync(file.descriptor)
    found = os.pread(file.descriptor, FILE_BYTES, 0)
    assert found[:offset] == b"\xee" * offset
    assert found[offset : offset + length] == data
    assert found[offset + length :] == b"\xee" * (FILE_BYTES - offset - length)


def test_bytes_that_cannot_be_changed_are_written_too(file: BlockFile) -> None:
    data = os.urandom(MIB)
    file.write(memoryview(data), 0)
    assert os.pread(file.descriptor, MIB, 0) == data


def test_a_file_without_such_a_way_is_written_all_the_same(buffer: memoryview) -> None:
    reader, writer = os.pipe()  # what no O_DIRECT can be had for: not even an offset
    os.close(reader)
    pipe = BlockFile(writer)
    with pytest.raises(OSError):
        pipe.write(buffer, 0)
    pipe.close()
    memory = BlockFile(os.memfd_create("blocks"))
    memory.write(buffer, 0)
    assert os.pread(memory.descriptor, len(buffer), 0) == buffer
    memory.close()


def test_closing_frees_both_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = BlockFile(os.open(tmp_path / "blocks", os.O_RDWR | os.O_CREAT, 0o600))
    file.close()
    assert len(os.listdir("/proc/self/fd")) == before
