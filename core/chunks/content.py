"""DRIVER: makes the bytes of a chunk's next version: in a new block, or behind the present end of
the same one.

Blocking functions over file descriptors; large ones are run in a worker thread. Old bytes are
verified before they are copied, so that damage is never sealed under a fresh checksum. What is not
touched keeps its page checksums.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from ..checksum import Buffer, combine_page_checksums, crc32c, page_checksums
from ..ids import ChunkId
from ..limits import CHECKSUM_PAGE_BYTES
from .integrity import BlockContent
from .store import Block, ChunkStore, ChunkVersion


@dataclass(frozen=True, slots=True)
class NewContent:
    """The bytes of a version that is not in the index yet."""

    block: Block
    length_bytes: int
    crc32c: int
    page_crcs: bytes
    fresh_block: bool
    """Whether ``block`` was reserved for it (and is released if it comes to nothing)."""


def present_content(store: ChunkStore, chunk_id: ChunkId, version: ChunkVersion) -> BlockContent:
    """The bytes of *version*, for verified reading."""
    block = version.block
    return BlockContent(
        chunk_id,
        store.open_file(block.file_id),
        block.offset_bytes,
        version.length_bytes,
        version.page_crcs,
        version.crc32c,
    )


def replaced(store: ChunkStore, data: memoryview) -> NewContent:
    """Content that is *data* alone. Raises NoSpaceError."""
    block = store.reserve(max(1, data.nbytes))
    try:
        _write(store, block, 0, data)
    except BaseException:
        store.release(block)
        raise
    pages = page_checksums(data)
    return NewContent(block, data.nbytes, crc32c(data), pages, True)


def can_append(present: ChunkVersion, offset: int, length: int) -> bool:
    """Whether bytes at *offset* go behind the present end, in the same block."""
    end = offset + length
    return present.length_bytes <= offset and end <= present.block.capacity_bytes


def appended(store: ChunkStore, present: ChunkVersion, offset: int, data: memoryview) -> NewContent:
    """Content with *data* at *offset*, at or behind the present end, zeros in between; nothing is
    read.

    Readers of the present version are not disturbed: its bytes and their checksums stay as they
    are.
    """
    gap = offset - present.length_bytes
    assert gap >= 0
    old_length = present.length_bytes
    tail_bytes = old_length % CHECKSUM_PAGE_BYTES
    pieces: list[Buffer] = [memoryview(bytes(gap)), data] if gap else [data]
    position = old_length
    crc = present.crc32c
    page_crcs = bytearray(present.page_crcs)
    last_page = 0
    if tail_bytes:
        last_page = struct.unpack_from("<I", page_crcs, len(page_crcs) - 4)[0]
        del page_crcs[-4:]
    for piece in pieces:
        view = memoryview(piece)
        _write(store, present.block, position, view)
        crc = crc32c(view, crc)
        position += view.nbytes
        while view.nbytes:
            part = view[: CHECKSUM_PAGE_BYTES - tail_bytes]
            last_page = crc32c(part, last_page)
            tail_bytes += part.nbytes
            view = view[part.nbytes :]
            if tail_bytes == CHECKSUM_PAGE_BYTES:
                page_crcs += struct.pack("<I", last_page)
                tail_bytes = last_page = 0
    if tail_bytes:
        page_crcs += struct.pack("<I", last_page)
    return NewContent(present.block, position, crc, bytes(page_crcs), False)


def overlaid(
    store: ChunkStore,
    chunk_id: ChunkId,
    present: ChunkVersion | None,
    offset: int,
    data: memoryview,
) -> NewContent:
    """Content with *data* at *offset* over the present one, in a new block (copy on write).

    Raises NoSpaceError, DataLossError if old bytes that are kept are damaged.
    """
    old_length = 0 if present is None else present.length_bytes
    end = offset + data.nbytes
    length = max(old_length, end)
    whole = memoryview(bytearray(length))
    if present is not None:
        _read_kept(store, chunk_id, present, offset, end, whole)
    whole[offset:end] = data
    block = store.reserve(max(1, length))
    try:
        _write(store, block, 0, whole)
    except BaseException:
        store.release(block)
        raise
    first = min(offset, old_length) // CHECKSUM_PAGE_BYTES
    last = -(-end // CHECKSUM_PAGE_BYTES)
    old_pages = b"" if present is None else present.page_crcs
    changed = page_checksums(whole[first * CHECKSUM_PAGE_BYTES : last * CHECKSUM_PAGE_BYTES])
    page_crcs = old_pages[: 4 * first] + changed + old_pages[4 * last :]
    return NewContent(block, length, combine_page_checksums(page_crcs, length), page_crcs, True)


def truncated(
    store: ChunkStore, chunk_id: ChunkId, present: ChunkVersion | None, length: int
) -> NewContent:
    """Content cut to *length*, or extended to it by zeros. A cut goes to a new block: behind the
    end of a
    shared one, bytes that readers of the longer version still want would be overwritten by an
    append."""
    old_length = 0 if present is None else present.length_bytes
    if present is not None and length > old_length and can_append(present, length, 0):
        return appended(store, present, length, memoryview(b""))
    whole = memoryview(bytearray(length))
    if present is not None and old_length and length:
        kept = min(length, old_length)
        present_content(store, chunk_id, present).read_into(0, whole[:kept])
    return replaced(store, whole)


def _read_kept(
    store: ChunkStore,
    chunk_id: ChunkId,
    present: ChunkVersion,
    offset: int,
    end: int,
    whole: memoryview,
) -> None:
    """Read the pages of the present content that are not replaced altogether."""
    content = present_content(store, chunk_id, present)
    head_end = min(present.length_bytes, -(-offset // CHECKSUM_PAGE_BYTES) * CHECKSUM_PAGE_BYTES)
    if head_end:
        content.read_into(0, whole[:head_end])
    tail_start = max(head_end, end - end % CHECKSUM_PAGE_BYTES)
    if tail_start < present.length_bytes:
        content.read_into(tail_start, whole[tail_start : present.length_bytes])


def _write(store: ChunkStore, block: Block, position: int, data: memoryview) -> None:
    assert position + data.nbytes <= block.capacity_bytes
    descriptor = store.open_file(block.file_id)
    done = 0
    while done < data.nbytes:
        done += os.pwrite(descriptor, data[done:], block.offset_bytes + position + done)
