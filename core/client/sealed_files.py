"""DRIVER: encrypted files as the mount reads and writes them.

What is written becomes new encrypted segments that are laid over the file, each as large as the
written range, widened to SEALED_UNIT_BYTES so that a file does not fall into crumbs. The change is
made known only if the file is still as it was when the widening was read; else it is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import msgspec

from ..crypt.envelope import Encryption
from ..crypt.pages import PLAIN_PAGE_BYTES, open_record, seal_record, stored_length
from ..errors import ConflictError
from ..limits import INLINE_BYTES_MAX, MIB
from ..meta.records import Extent, Inode
from ..meta.store import MetaStore
from .dirty import DirtyRanges
from .encrypted import EncryptedSegmentWriter, read_encrypted
from .port import DataStore

SEALED_UNIT_BYTES = PLAIN_PAGE_BYTES
PIECE_BYTES = MIB
ATTEMPTS_MAX = 16


class ContentKey(NamedTuple):
    """How a file is encrypted, and its data key."""

    encryption: Encryption
    data_key: bytes


class ContentKeys(Protocol):
    """Who unwraps and makes the data keys of files."""

    async def open(self, encryption: Encryption) -> bytes:
        """The data key. Raises PermissionDeniedError (a client holds the outer key, or it is
        disabled), NotFoundError, DataLossError, UnavailableError."""
        ...

    async def encrypts(self, bucket_id: int) -> bool:
        """Whether new files of the bucket are to be encrypted."""
        ...

    async def default(self, bucket_id: int) -> ContentKey | None:
        """A new key for a file of a bucket that encrypts by default; None for other buckets."""
        ...


class SealedFiles:
    """Reads and writes encrypted files."""

    def __init__(
        self, meta: MetaStore, data: DataStore, executor: Executor, keys: ContentKeys
    ) -> None:
        self._meta = meta
        self._data = data
        self._executor = executor
        self._keys = keys

    async def data_key(self, inode: Inode) -> bytes | None:
        """The key of a file's content; None if it is not encrypted. Raises PermissionDeniedError
        and the like."""
        encryption = inode.encryption
        return None if encryption is None else await self._keys.open(encryption)

    async def begins_sealed(self, inode: Inode) -> bool:
        """Whether what is written to *inode* is to be encrypted."""
        if inode.encryption is not None:
            return True
        if inode.inline or inode.extents or inode.extent_pages:
            return False  # begun in the clear: its bucket's default came later
        return await self._keys.encrypts(inode.bucket_id)

    async def read(
        self,
        inode: Inode,
        extents: Sequence[Extent],
        data_key: bytes,
        offset: int,
        into: memoryview,
    ) -> None:
        """Fill *into* with plaintext that is not kept in a record. Raises CraqenError."""
        await read_encrypted(self._data, self._executor, data_key, extents, offset, into)

    async def store(self, inode_id: int, ranges: DirtyRanges) -> Inode:
        """Write *ranges*, durably and known to all. Raises CraqenError."""
        for attempt in range(ATTEMPTS_MAX):
            inode, sealed = await self._meta.read_inline(inode_id)
            try:
                return await self._store_once(inode, sealed, ranges)
            except ConflictError:
                if attempt + 1 == ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def cut_record(self, inode_id: int, size: int) -> None:
        """Cut the file to *size* if it is encrypted, kept in a record and longer: what the
        namespace cannot do by itself. Raises CraqenError."""
        for attempt in range(ATTEMPTS_MAX):
            inode, sealed = await self._meta.read_inline(inode_id)
            if inode.encryption is None or sealed is None or size >= inode.size:
                return
            key = await self._key(inode)
            plain = open_record(key.data_key, sealed)[:size].ljust(size, b"\0")
            try:
                await self._meta.store_sealed(
                    inode_id,
                    inode.generation,
                    key.encryption,
                    size=size,
                    inline=seal_record(key.data_key, plain),
                )
                return
            except ConflictError:
                if attempt + 1 == ATTEMPTS_MAX:
                    raise

    async def _key(self, inode: Inode) -> ContentKey:
        encryption = inode.encryption
        if encryption is not None:
            return ContentKey(encryption, await self._keys.open(encryption))
        fresh = await self._keys.default(inode.bucket_id)
        if fresh is None:
            raise ConflictError(f"inode {inode.inode_id:x}: its bucket encrypts no more")
        return fresh

    async def _store_once(self, inode: Inode, sealed: bytes | None, ranges: DirtyRanges) -> Inode:
        key = await self._key(inode)
        size = max(inode.size, ranges.end)
        old = b""
        if sealed is not None:
            old = open_record(key.data_key, sealed).ljust(inode.size, b"\0")
        if size <= INLINE_BYTES_MAX and not inode.extents and not inode.extent_pages:
            plain = bytearray(old.ljust(size, b"\0"))
            for start, data in ranges.overlapping(0, size):
                plain[start : start + len(data)] = data
            return await self._meta.store_sealed(
                inode.inode_id,
                inode.generation,
                key.encryption,
                size=size,
                inline=seal_record(key.data_key, bytes(plain)),
            )
        windows = _windows(ranges, size, len(old))
        await self._meta.ensure_ids(len(windows))
        made: list[Extent] = []
        writers: list[EncryptedSegmentWriter] = []
        try:
            for start, end in windows:
                writer = self._writer(key, end - start)
                writers.append(writer)
                await self._write_window(writer, inode, key, old, ranges, start, end)
                for extent in await writer.finish():
                    made.append(msgspec.structs.replace(extent, file_offset=start))
            return await self._meta.store_sealed(
                inode.inode_id, inode.generation, key.encryption, size=size, extents=made
            )
        except BaseException:
            for writer in writers:
                await asyncio.shield(writer.abort())
            raise

    def _writer(self, key: ContentKey, length: int) -> EncryptedSegmentWriter:
        segment_id = self._meta.new_segment_id()
        layout = self._meta.layout_of(segment_id, in_place=False)
        writer = self._data.new_segment(segment_id, layout, length_bytes=stored_length(length))
        return EncryptedSegmentWriter(writer, key.data_key, self._executor, segment_id, layout)

    async def _write_window(
        self,
        writer: EncryptedSegmentWriter,
        inode: Inode,
        key: ContentKey,
        old: bytes,
        ranges: DirtyRanges,
        start: int,
        end: int,
    ) -> None:
        """Write ``[start, end)``: what is there, and *ranges* over it."""
        while start < end:
            piece = memoryview(bytearray(min(PIECE_BYTES, end - start)))
            overlays = ranges.overlapping(start, len(piece))
            whole = len(overlays) == 1 and len(overlays[0][1]) == len(piece)
            stored = max(0, min(len(piece), inode.size - start))
            if stored and not whole:
                if old:
                    part = old[start : start + stored]
                    piece[: len(part)] = part
                else:
                    extents = await self._meta.extents(inode, start, stored)
                    await self.read(inode, extents, key.data_key, start, piece[:stored])
            for offset, data in overlays:
                piece[offset - start : offset - start + len(data)] = data
            await writer.write(piece)
            start += len(piece)


def _windows(ranges: DirtyRanges, size: int, inline_bytes: int) -> list[tuple[int, int]]:
    """The ranges to be written anew: widened, disjoint, in order. A record's bytes move along."""
    found: list[list[int]] = [[0, inline_bytes]] if inline_bytes else []
    for offset, data in ranges.overlapping(0, size):
        start = offset - offset % SEALED_UNIT_BYTES
        end = min(size, -(-(offset + len(data)) // SEALED_UNIT_BYTES) * SEALED_UNIT_BYTES)
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return [(start, end) for start, end in found]
