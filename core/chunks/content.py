"""DRIVER: makes the bytes of a chunk's next version: in a new block, or behind the present end of
the same one.

Two steps. ``plan_…`` runs on the event loop: it chooses the place and reserves a block if one is
needed. ``Draft.write`` blocks and touches no store, so that large ones can run in a worker thread;
it needs one small buffer, whatever the chunk's size. Old bytes are verified before they are copied,
so that damage is never sealed under a fresh checksum. Pages that are not touched keep theirs.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ..checksum import combine_page_checksums, page_checksums
from ..errors import DiskError, NoSpaceError
from ..ids import ChunkId, UpdateToken
from ..limits import CHECKSUM_PAGE_BYTES
from .direct import fits, write_pages
from .integrity import BlockContent, PageSummer
from .store import Block, ChunkStore, ChunkVersion

PIECE_BYTES = 4 * CHECKSUM_PAGE_BYTES  # copied at a time: stays in a core's own cache
_ZEROS = memoryview(bytes(PIECE_BYTES))
_scratch = threading.local()


@dataclass(frozen=True, slots=True)
class NewContent:
    """The bytes of a version that is not in the index yet."""

    block: Block
    length_bytes: int
    crc32c: int
    page_crcs: bytes

    def version(self, number: int, chain_version: int, token: UpdateToken) -> ChunkVersion:
        """The chunk version to stage or install."""
        return ChunkVersion(
            number,
            chain_version,
            self.length_bytes,
            self.crc32c,
            self.page_crcs,
            self.block,
            token,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A version in the making."""

    block: Block
    fresh_block: bool
    """Whether ``block`` was reserved for it. If so and it comes to nothing, the planner's caller
    gives it back with ``ChunkStore.release``, after ``write`` has ended."""
    work_bytes: int
    """How much ``write`` reads and writes, for whoever chooses between loop and worker thread."""
    write: Callable[[], NewContent]
    """Blocking: make the content. Raises DataLossError if old bytes that are kept are damaged,
    DiskError, NoSpaceError."""


def content_of(store: ChunkStore, chunk_id: ChunkId, version: ChunkVersion) -> BlockContent:
    """The bytes of *version*, for verified reading (also by another thread, until the block's
    quarantine is over). Raises DataLossError, DiskError."""
    block = version.block
    return BlockContent(
        chunk_id,
        store.open_file(block.file_id),
        block.offset_bytes,
        version.length_bytes,
        version.page_crcs,
        version.crc32c,
        store.open_direct(block.file_id),
    )


def read_verified(
    store: ChunkStore, chunk_id: ChunkId, version: ChunkVersion, offset: int, into: memoryview
) -> None:
    """Blocking: fill *into* with verified bytes of *version* from *offset* on.

    The range lies inside the version. Raises DataLossError naming chunk and page, DiskError.
    """
    content_of(store, chunk_id, version).read_into(offset, into)


def plan_replace(store: ChunkStore, data: memoryview, sums: PageSummer | None = None) -> Draft:
    """Content that is *data* alone, of which *sums* have been made already; nothing is read.
    Raises NoSpaceError, DiskError, InvalidArgumentError."""
    block = store.reserve(max(1, data.nbytes))
    descriptor = _descriptor(store, block)
    direct = store.open_direct(block.file_id)
    return Draft(block, True, data.nbytes, lambda: _replace(descriptor, direct, block, data, sums))


def plan_write(
    store: ChunkStore,
    chunk_id: ChunkId,
    present: ChunkVersion | None,
    offset: int,
    data: memoryview,
) -> Draft:
    """Content with *data* at *offset* over *present*; between the old end and *offset*, zeros.

    Behind the old end it stays in the same block if there is room; readers of *present* are not
    disturbed. Raises NoSpaceError, DiskError, InvalidArgumentError, DataLossError.
    """
    end = offset + data.nbytes
    if present is None:
        if offset == 0:
            return plan_replace(store, data)
    elif present.length_bytes <= offset and end <= present.block.capacity_bytes:
        return _plan_append(store, present, offset, data)
    elif offset == 0 and end >= present.length_bytes:
        return plan_replace(store, data)
    old = None if present is None else content_of(store, chunk_id, present)
    length = end if old is None else max(old.length_bytes, end)
    block = store.reserve(length)
    descriptor = _descriptor(store, block)
    return Draft(
        block, True, 2 * length, lambda: _overlay(descriptor, block, old, offset, data, length)
    )


def plan_truncate(
    store: ChunkStore, chunk_id: ChunkId, present: ChunkVersion | None, length: int
) -> Draft:
    """Content cut to *length*, or extended to it by zeros.

    A cut goes to a new block: in the old one a later append would overwrite bytes that readers of
    the longer version still want. Raises as ``plan_write``.
    """
    nothing = memoryview(b"")
    if present is None or length >= present.length_bytes:
        return plan_write(store, chunk_id, present, length, nothing)
    if length == 0:
        return plan_replace(store, nothing)
    old = content_of(store, chunk_id, present)
    block = store.reserve(length)
    descriptor = _descriptor(store, block)
    return Draft(block, True, 2 * length, lambda: _cut(descriptor, block, old, length))


def _plan_append(store: ChunkStore, present: ChunkVersion, offset: int, data: memoryview) -> Draft:
    descriptor = store.open_file(present.block.file_id)
    work_bytes = offset - present.length_bytes + data.nbytes
    return Draft(
        present.block, False, work_bytes, lambda: _append(descriptor, present, offset, data)
    )


def _descriptor(store: ChunkStore, block: Block) -> int:
    """The descriptor for a block reserved just now."""
    try:
        return store.open_file(block.file_id)
    except BaseException:
        store.release(block)
        raise


def _replace(
    descriptor: int, direct: int, block: Block, data: memoryview, sums: PageSummer | None
) -> NewContent:
    _write(descriptor, block, 0, data, direct)
    if sums is not None:
        assert sums.length_bytes == data.nbytes
        return NewContent(block, data.nbytes, sums.whole, sums.page_crcs())
    pages = page_checksums(data)
    return NewContent(block, data.nbytes, combine_page_checksums(pages, data.nbytes), pages)


def _append(descriptor: int, present: ChunkVersion, offset: int, data: memoryview) -> NewContent:
    """Nothing is read: the checksums go on from where they ended."""
    block = present.block
    sums = PageSummer.resumed(present.page_crcs, present.length_bytes, present.crc32c)
    while sums.length_bytes < offset:
        zeros = _ZEROS[: offset - sums.length_bytes]
        _write(descriptor, block, sums.length_bytes, zeros)
        sums.update(zeros)
    _write(descriptor, block, offset, data)
    sums.update(data)
    return NewContent(block, sums.length_bytes, sums.whole, sums.page_crcs())


def _overlay(
    descriptor: int,
    block: Block,
    old: BlockContent | None,
    offset: int,
    data: memoryview,
    length: int,
) -> NewContent:
    """Copy on write, piece by piece."""
    old_length = 0 if old is None else old.length_bytes
    end = offset + data.nbytes
    pages = bytearray(b"" if old is None else old.page_crcs)
    pages.extend(bytes(4 * -(-length // CHECKSUM_PAGE_BYTES) - len(pages)))
    touched_from = _page_floor(min(offset, old_length))
    touched_to = _page_ceiling(end)
    for start in range(0, length, PIECE_BYTES):
        stop = min(start + PIECE_BYTES, length)
        if offset <= start and stop <= end:
            piece = data[start - offset : stop - offset]
        else:
            piece = _scratch_buffer()[: stop - start]
            if old is not None:
                _read_kept(old, offset, end, start, piece)
            if stop > old_length:
                blank = max(start, old_length)
                piece[blank - start :] = _ZEROS[: stop - blank]
            first, last = max(start, offset), min(stop, end)
            if first < last:
                piece[first - start : last - start] = data[first - offset : last - offset]
        summed_from, summed_to = max(start, touched_from), min(stop, touched_to)
        if summed_from < summed_to:
            sums = page_checksums(piece[summed_from - start : summed_to - start])
            at = 4 * (summed_from // CHECKSUM_PAGE_BYTES)
            pages[at : at + len(sums)] = sums
        _write(descriptor, block, start, piece)
    page_crcs = bytes(pages)
    return NewContent(block, length, combine_page_checksums(page_crcs, length), page_crcs)


def _read_kept(old: BlockContent, offset: int, end: int, start: int, piece: memoryview) -> None:
    """Read into *piece* those pages of the old content that are not overwritten as a whole."""
    limit = min(start + piece.nbytes, old.length_bytes)
    covered_from = _page_ceiling(offset)
    covered_to = limit if end >= old.length_bytes else _page_floor(end)
    if covered_from >= covered_to:
        runs = [(start, limit)]
    else:
        runs = [(start, min(limit, covered_from)), (max(start, covered_to), limit)]
    for run_start, run_stop in runs:
        if run_start < run_stop:
            old.read_into(run_start, piece[run_start - start : run_stop - start])


def _cut(descriptor: int, block: Block, old: BlockContent, length: int) -> NewContent:
    whole_pages = length // CHECKSUM_PAGE_BYTES
    page_crcs = old.page_crcs[: 4 * whole_pages]
    for start in range(0, length, PIECE_BYTES):
        piece = _scratch_buffer()[: min(PIECE_BYTES, length - start)]
        old.read_into(start, piece)
        if start + piece.nbytes == length:
            page_crcs += page_checksums(piece[whole_pages * CHECKSUM_PAGE_BYTES - start :])
        _write(descriptor, block, start, piece)
    return NewContent(block, length, combine_page_checksums(page_crcs, length), page_crcs)


def _page_floor(position: int) -> int:
    return position - position % CHECKSUM_PAGE_BYTES


def _page_ceiling(position: int) -> int:
    return position + -position % CHECKSUM_PAGE_BYTES


def _scratch_buffer() -> memoryview:
    buffer: memoryview | None = getattr(_scratch, "buffer", None)
    if buffer is None:
        buffer = _scratch.buffer = memoryview(bytearray(PIECE_BYTES))
    return buffer


def _write(
    descriptor: int, block: Block, position: int, data: memoryview, direct: int = -1
) -> None:
    assert position + data.nbytes <= block.capacity_bytes
    done = 0
    try:
        if direct >= 0 and fits(data, block.offset_bytes + position):
            done = write_pages(direct, data, block.offset_bytes + position)
        while done < data.nbytes:
            done += os.pwrite(descriptor, data[done:], block.offset_bytes + position + done)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"block file {block.file_id}: the disk is full") from error
        raise DiskError(f"block file {block.file_id}: {error.strerror}") from error
