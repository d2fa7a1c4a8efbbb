"""DRIVER: encrypted content over a ``DataStore`` that stores what it is given.

Extents count plaintext, as everything outside does; only here are they turned into the stored pages
(core/crypt/pages.py). Extents of one object share its data key.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TypeVar

from ..crypt.pages import (
    PAGE_OVERHEAD_BYTES,
    PLAIN_PAGE_BYTES,
    STORED_PAGE_BYTES,
    SegmentCipher,
    stored_range,
)
from ..limits import MIB
from ..meta.records import Extent, Layout
from .port import DataStore, SegmentWriter

PAGES_AT_ONCE = 16
"""Sealed before they are written: a MiB, which a disk takes without a copy."""
READ_BYTES_MAX = 8 * MIB  # stored bytes in memory for one read at a time

T = TypeVar("T")


class EncryptedSegmentWriter:
    """A ``SegmentWriter`` that encrypts what another one then writes."""

    def __init__(
        self,
        writer: SegmentWriter,
        data_key: bytes,
        executor: Executor,
        segment_id: int,
        layout: Layout,
    ) -> None:
        self._writer = writer
        self._cipher = SegmentCipher(data_key, segment_id)
        self._executor = executor
        self._segment_id = segment_id
        self._layout = layout
        self._plain = memoryview(bytearray(PLAIN_PAGE_BYTES))
        self._filled = 0
        self._sealed = memoryview(mmap.mmap(-1, PAGES_AT_ONCE * STORED_PAGE_BYTES))
        self._pages_sealed = 0
        self._pages = 0
        self._written_bytes = 0

    async def write(self, data: memoryview) -> None:
        """Append *data*."""
        position = 0
        loop = asyncio.get_running_loop()
        while position < len(data):
            job = loop.run_in_executor(self._executor, self._seal, data[position:])
            position += await _settled(job)
            if self._pages_sealed == PAGES_AT_ONCE:
                await self._flush(PAGES_AT_ONCE * STORED_PAGE_BYTES)
        self._written_bytes += len(data)

    def _seal(self, data: memoryview) -> int:
        """Seal whole pages until there is no room, and keep the rest of *data*; return how much of
        it was taken."""
        taken = 0
        while taken < len(data) and self._pages_sealed < PAGES_AT_ONCE:
            wanted = min(PLAIN_PAGE_BYTES - self._filled, len(data) - taken)
            if wanted == PLAIN_PAGE_BYTES:
                self._seal_page(data[taken : taken + wanted])
            else:
                self._plain[self._filled : self._filled + wanted] = data[taken : taken + wanted]
                self._filled += wanted
                if self._filled == PLAIN_PAGE_BYTES:
                    self._seal_page(self._plain)
                    self._filled = 0
            taken += wanted
        return taken

    def _seal_page(self, plain: memoryview) -> int:
        start = self._pages_sealed * STORED_PAGE_BYTES
        size = self._cipher.seal(plain, self._pages, self._sealed[start:])
        self._pages += 1
        self._pages_sealed += 1
        return size

    async def _flush(self, size: int) -> None:
        self._pages_sealed = 0
        await self._writer.write(self._sealed[:size])

    async def finish(self) -> tuple[Extent, ...]:
        """Make all of it durable; return the extents, in plaintext."""
        size = self._pages_sealed * STORED_PAGE_BYTES
        if self._filled:
            self._seal_page(self._plain[: self._filled])
            size += self._filled + PAGE_OVERHEAD_BYTES
        if size:
            await self._flush(size)
        await self._writer.finish()
        length = self._written_bytes
        if not length:
            return ()
        return (Extent(0, length, self._segment_id, 0, self._layout, True, length),)

    async def abort(self) -> None:
        """Free everything."""
        await self._writer.abort()


async def read_encrypted(
    data: DataStore,
    executor: Executor,
    data_key: bytes,
    extents: Sequence[Extent],
    offset: int,
    into: memoryview,
) -> None:
    """Fill *into* with the plaintext from file offset *offset*; what no extent covers is zeros.

    Raises DataLossError (also for what does not decrypt), UnavailableError.
    """
    position, end = offset, offset + len(into)
    for extent in extents:
        first = max(position, extent.file_offset)
        last = min(end, extent.file_offset + extent.length_bytes)
        if first >= last:
            continue
        into[position - offset : first - offset] = bytes(first - position)
        while first < last:
            piece = into[first - offset : min(last - first, READ_BYTES_MAX) + first - offset]
            await _read_piece(data, executor, data_key, extent, first, piece)
            first += len(piece)
        position = last
    into[position - offset :] = bytes(end - position)


async def _read_piece(
    data: DataStore,
    executor: Executor,
    data_key: bytes,
    extent: Extent,
    position: int,
    into: memoryview,
) -> None:
    start = extent.segment_offset + position - extent.file_offset
    where = stored_range(start, len(into), extent.encrypted_bytes)
    stored = memoryview(bytearray(where.length))
    pages = Extent(0, where.length, extent.segment_id, where.offset, extent.layout, True)
    await data.read([pages], 0, stored)
    cipher = SegmentCipher(data_key, extent.segment_id)
    loop = asyncio.get_running_loop()
    await _settled(loop.run_in_executor(executor, cipher.open_range, stored, where, into))


async def _settled(future: asyncio.Future[T]) -> T:
    """Await a thread's work; if cancelled, still wait until the thread lets go of the buffers."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
