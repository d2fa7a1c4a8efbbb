"""Reads that need not wait for anybody: from verified pages in memory, and from blocks on this host
whose place is known. They run in the caller's thread.

Every byte was held against its checksum after it came from the disk: a page that is kept in memory
once, a larger read each time.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ..core.client.data import ClusterDataStore
from ..core.client.files import FileState
from ..core.client.plan import ChunkSpan, plan_range
from ..core.errors import DataLossError, DiskError
from ..core.limits import CHECKSUM_PAGE_BYTES
from ..core.meta.records import Extent
from .pages import VerifiedPages

PAGE_BITS = CHECKSUM_PAGE_BYTES.bit_length() - 1
PAGE_MASK = CHECKSUM_PAGE_BYTES - 1
assert 1 << PAGE_BITS == CHECKSUM_PAGE_BYTES


class FastReads:
    """See the module."""

    __slots__ = ("_data", "_pages")

    def __init__(self, data: ClusterDataStore, pages: VerifiedPages) -> None:
        self._data = data
        self._pages = pages

    def read(self, state: FileState, offset: int, into: memoryview) -> int | None:
        """Fill *into* (bytes) from *offset* to its end or the file's; return how many bytes that
        are. None: it cannot be done here, ask the store. Raises OSError for an offset below 0."""
        inode = state.inode
        if inode is None or state.stale or state.changed:
            return None
        extents = inode.extents
        if len(extents) == 1 and inode.encryption is None:
            # Most files are one segment, and most small reads are of a page in memory.
            extent = extents[0]
            start, length = offset - extent.file_offset, len(into)
            at = start + extent.segment_offset
            generation = 0 if extent.dense else inode.generation
            page = self._pages.young.get((extent.segment_id, at >> PAGE_BITS, generation))
            if page is not None and 0 <= start and start + length <= extent.length_bytes:
                in_page = at & PAGE_MASK
                if in_page + length <= len(page) and offset + length <= inode.size:
                    into[:] = page[in_page : in_page + length]
                    return length
        if offset < 0:
            raise OSError(errno.EINVAL, f"offset {offset}: before the beginning of the file")
        length = inode.size - offset
        if length >= len(into):
            length = len(into)
        elif length <= 0:
            return 0
        else:
            into = into[:length]
        if inode.inline:
            data = state.inline_data
            if data is None:
                return None
            piece = data[offset : offset + length]
            into[: len(piece)] = piece
            if len(piece) < length:
                into[len(piece) :] = bytes(length - len(piece))
            return length
        if inode.extent_pages or inode.encryption is not None:
            return None
        if length <= CHECKSUM_PAGE_BYTES and self._from_page(
            extents, offset, into, length, inode.generation
        ):
            return length
        return length if self._from_blocks(extents, offset, into, inode.generation) else None

    def read_extent(self, extent: Extent, into: memoryview) -> bool:
        """Fill *into* with the *extent* of a segment that never changes, as long as that is.
        False: it cannot be done here, ask the store."""
        length = len(into)
        if length <= CHECKSUM_PAGE_BYTES and self._from_page(
            (extent,), extent.file_offset, into, length, 0
        ):
            return True
        return self._from_blocks((extent,), extent.file_offset, into, 0)

    def _from_page(
        self,
        extents: Sequence[Extent],
        offset: int,
        into: memoryview,
        length: int,
        generation: int,
    ) -> bool:
        """From one page; False if it spans two, or its place is not known."""
        for extent in extents:
            start = offset - extent.file_offset
            if 0 <= start and start + length <= extent.length_bytes:
                break
        else:
            return False
        at = extent.segment_offset + start
        in_page = at & PAGE_MASK
        if in_page + length > CHECKSUM_PAGE_BYTES:
            return False
        key = extent.segment_id, at >> PAGE_BITS, 0 if extent.dense else generation
        page = self._pages.young.get(key) or self._pages.old(key) or self._fetch(extent, at, key)
        if page is None or in_page + length > len(page):
            return False
        into[:] = page[in_page : in_page + length]
        return True

    def _fetch(self, extent: Extent, at: int, key: tuple[int, int, int]) -> memoryview | None:
        """The page with byte *at* of the segment, from its block."""
        start = at - (at & PAGE_MASK)
        first = extent.file_offset + start - extent.segment_offset
        span = plan_range((extent,), max(first, extent.file_offset), 1)[0]
        assert isinstance(span, ChunkSpan)
        content = self._data.content_now(span, key[2])
        if content is None:
            return None
        chunk_offset = start % extent.layout.chunk_size_bytes
        size = min(CHECKSUM_PAGE_BYTES, content.length_bytes - chunk_offset)
        if size <= 0:
            return None
        page = memoryview(bytearray(size))
        try:
            content.read_into(chunk_offset, page)
        except (DataLossError, DiskError):
            return None  # the ordinary way tries the other replicas
        self._pages.keep(key, page)
        return page

    def _from_blocks(
        self, extents: Sequence[Extent], offset: int, into: memoryview, generation: int
    ) -> bool:
        for span in plan_range(extents, offset, len(into)):
            target = into[span.file_offset - offset : span.file_offset - offset + span.length]
            if not isinstance(span, ChunkSpan):
                target[:] = bytes(span.length)
                continue
            content = self._data.content_now(span, generation)
            if content is None or span.chunk_offset + span.length > content.length_bytes:
                return False
            try:
                content.read_into(span.chunk_offset, target)
            except (DataLossError, DiskError):
                return False
        return True
