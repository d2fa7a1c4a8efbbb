"""Reading block bytes through a descriptor, and holding them against the page checksums.

Every byte that leaves this module as data was checked against the checksum its writer stated.
Blocking calls: small ones run on the event loop, large ones in a worker thread (they release the
interpreter lock).
"""

from __future__ import annotations

import os
import struct
import threading

from ..checksum import crc32c
from ..errors import DataLossError, DiskError
from ..ids import ChunkId
from ..limits import CHECKSUM_PAGE_BYTES
from .direct import fits, is_cached, read_pages

SCRATCH_BYTES = 4 * CHECKSUM_PAGE_BYTES  # stays in a core's own cache while it is summed
assert SCRATCH_BYTES % CHECKSUM_PAGE_BYTES == 0

_scratch = threading.local()


def _scratch_buffer() -> memoryview:
    buffer: memoryview | None = getattr(_scratch, "buffer", None)
    if buffer is None:
        buffer = _scratch.buffer = memoryview(bytearray(SCRATCH_BYTES))
    return buffer


class BlockContent:
    """The bytes of one committed chunk version in a block file, and their checksums."""

    __slots__ = (
        "_direct",
        "chunk_id",
        "crc32c",
        "descriptor",
        "length_bytes",
        "offset_bytes",
        "page_crcs",
    )

    def __init__(
        self,
        chunk_id: ChunkId,
        descriptor: int,
        offset_bytes: int,
        length_bytes: int,
        page_crcs: bytes,
        crc: int,
        direct: int = -1,
    ) -> None:
        """*direct*: a descriptor of the same file for large reads past the page cache, or -1."""
        self.chunk_id = chunk_id
        self.descriptor = descriptor
        self.offset_bytes = offset_bytes
        self.length_bytes = length_bytes
        self.page_crcs = page_crcs
        self.crc32c = crc
        self._direct = direct

    def read_into(self, chunk_offset: int, into: memoryview) -> None:
        """Fill *into* with verified bytes from *chunk_offset*; the range lies inside the chunk.

        Raises DataLossError naming chunk and page, DiskError.
        """
        end = chunk_offset + len(into)
        assert end <= self.length_bytes
        if len(into) == self.length_bytes:
            self._pread(0, into)
            self._check_whole(into)
            return
        position = chunk_offset
        while position < end:
            page_start = position - position % CHECKSUM_PAGE_BYTES
            page_end = min(page_start + CHECKSUM_PAGE_BYTES, self.length_bytes)
            if position == page_start and end >= page_end:
                # Whole pages go straight to the caller's buffer.
                run_end = end if end == self.length_bytes else end - end % CHECKSUM_PAGE_BYTES
                target = into[position - chunk_offset : run_end - chunk_offset]
                # Piece by piece, each summed while it is in the core's own cache.
                for start in range(0, len(target), SCRATCH_BYTES):
                    piece = target[start : start + SCRATCH_BYTES]
                    self._pread(position + start, piece)
                    self._check(position + start, piece)
                position = run_end
            else:
                scratch = _scratch_buffer()[: page_end - page_start]
                self._pread(page_start, scratch)
                self._check(page_start, scratch)
                stop = min(end, page_end)
                into[position - chunk_offset : stop - chunk_offset] = scratch[
                    position - page_start : stop - page_start
                ]
                position = stop

    def read_unverified(self, into: memoryview) -> None:
        """Fill *into* with the whole content, whatever its bytes are: for a copy that must be as
        damaged as this one. Raises DataLossError if the block file ends before, DiskError."""
        assert len(into) == self.length_bytes
        self._pread(0, into)

    def read_cached(self, chunk_offset: int, into: memoryview) -> bool:
        """As ``read_into`` for whole pages that the system has in memory; else return False,
        without waiting for the disk. Raises DataLossError."""
        end = chunk_offset + len(into)
        if chunk_offset % CHECKSUM_PAGE_BYTES or end > self.length_bytes:
            return False
        if end % CHECKSUM_PAGE_BYTES and end != self.length_bytes:
            return False
        try:
            place = self.offset_bytes + chunk_offset
            count = os.preadv(self.descriptor, [into], place, os.RWF_NOWAIT)
        except OSError:
            return False  # not in memory, or a file system that cannot tell
        if count != len(into):
            return False
        if count == self.length_bytes:
            self._check_whole(into)
        else:
            self._check(chunk_offset, into)
        return True

    def verify(self, chunk_offset: int, length: int) -> None:
        """Check every page that the range touches, without keeping the bytes. Raises
        DataLossError, DiskError."""
        start = chunk_offset - chunk_offset % CHECKSUM_PAGE_BYTES
        end = min(self.length_bytes, chunk_offset + length + CHECKSUM_PAGE_BYTES - 1)
        if end < self.length_bytes:
            end -= end % CHECKSUM_PAGE_BYTES
        scratch = _scratch_buffer()
        whole = start == 0 and end == self.length_bytes
        running = 0
        for position in range(start, end, SCRATCH_BYTES):
            piece = scratch[: min(SCRATCH_BYTES, end - position)]
            self._pread(position, piece)
            if whole:
                running = crc32c(piece, running)
            else:
                self._check(position, piece)
        if whole and running != self.crc32c:
            raise DataLossError(
                f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: damaged on this replica"
            )

    def _check_whole(self, data: memoryview) -> None:
        """Hold all of the chunk's bytes against its checksum: one call, where page by page each
        would let go of the interpreter lock and ask for it again."""
        if crc32c(data) != self.crc32c:
            self._check(0, data)
            raise DataLossError(
                f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: its checksum and "
                "those of its pages do not agree on this replica"
            )

    def _check(self, position: int, data: memoryview) -> None:
        """Hold *data*, which starts on a page boundary at *position*, against the page
        checksums."""
        page = position // CHECKSUM_PAGE_BYTES
        for start in range(0, len(data), CHECKSUM_PAGE_BYTES):
            stated = _PAGE_CRC.unpack_from(self.page_crcs, 4 * page)[0]
            if crc32c(data[start : start + CHECKSUM_PAGE_BYTES]) != stated:
                raise DataLossError(
                    f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: page {page} is "
                    f"damaged on this replica"
                )
            page += 1

    def _read_pages(self, position: int, into: memoryview) -> int:
        try:
            return read_pages(self._direct, into, self.offset_bytes + position)
        except OSError as error:
            raise DiskError(
                f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: byte {position} "
                f"cannot be read: {error.strerror}"
            ) from error

    def _pread(self, position: int, into: memoryview) -> None:
        done = 0
        start = self.offset_bytes + position
        if (
            self._direct >= 0
            and fits(into, start)
            and not is_cached(self.descriptor, start, len(into))
        ):
            done = self._read_pages(position, into)
        while done < len(into):
            target = into[done:] if done else into
            try:
                count = os.preadv(self.descriptor, (target,), start + done)
            except OSError as error:
                raise DiskError(
                    f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: byte "
                    f"{position + done} cannot be read: {error.strerror}"
                ) from error
            if count == 0:
                raise DataLossError(
                    f"chunk {self.chunk_id.segment_id:x}.{self.chunk_id.index}: its block file "
                    f"ends before byte {position + done} of the chunk"
                )
            done += count


_PAGE_CRC = struct.Struct("<I")


class PageSummer:
    """Page and whole checksums of bytes that arrive in order, in pieces of any size."""

    __slots__ = ("_in_page", "_page", "_pages", "length_bytes", "whole")

    def __init__(self) -> None:
        self._pages: list[int] = []
        self._page = 0
        self._in_page = 0
        self.whole = 0
        self.length_bytes = 0

    @classmethod
    def resumed(cls, page_crcs: bytes, length_bytes: int, whole: int) -> PageSummer:
        """A summer that goes on behind *length_bytes* bytes whose checksums are given."""
        summer = cls()
        pages = list(struct.unpack(f"<{len(page_crcs) // 4}I", page_crcs))
        summer._in_page = length_bytes % CHECKSUM_PAGE_BYTES
        if summer._in_page:
            summer._page = pages.pop()
        summer._pages = pages
        summer.whole = whole
        summer.length_bytes = length_bytes
        return summer

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        position = 0
        while position < len(data):
            size = min(CHECKSUM_PAGE_BYTES - self._in_page, len(data) - position)
            self._page = crc32c(data[position : position + size], self._page)
            self._in_page += size
            position += size
            if self._in_page == CHECKSUM_PAGE_BYTES:
                self._pages.append(self._page)
                self._page = self._in_page = 0
        self.whole = crc32c(data, self.whole)
        self.length_bytes += len(data)

    def page_crcs(self) -> bytes:
        """Packed checksums of all pages so far, the last one perhaps short."""
        pages = [*self._pages, self._page] if self._in_page else self._pages
        return struct.pack(f"<{len(pages)}I", *pages)
