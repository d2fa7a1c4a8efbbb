"""DRIVER: stores dirty ranges of one file: inline while it is small, else in place in chunks.

Holds nothing between calls. The caller sees to it that only one call runs for a file at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConflictError
from ..limits import FILE_CHUNK_BYTES, INLINE_BYTES_MAX, MIB
from ..meta.records import CopyOut, Inode
from ..meta.store import FileStore
from .dirty import DirtyRanges
from .port import DataStore

GAP_BYTES_MAX = 4 * MIB  # ranges this near to each other share a plan: one transaction for all
GROUP_BYTES_MAX = 64 * MIB  # what one plan spans at most: it bounds what a retry repeats
ATTEMPTS_MAX = 16  # a file whose extents change under every attempt is being fought over
INLINE_RANGES_MAX = 4  # up to here each range of a small file goes by itself

Group = list[tuple[int, memoryview]]


class WriteBack:
    """Puts ranges where they belong. Raises what the stores raise; then nothing is lost of the
    ranges, and storing them again is harmless."""

    def __init__(self, meta: FileStore, data: DataStore) -> None:
        self._meta = meta
        self._data = data

    async def store_inline(self, inode: Inode, ranges: DirtyRanges) -> Inode | None:
        """Store *ranges* as inline content and commit them; None (nothing done) if the file is no
        longer small."""
        if inode.extents or inode.extent_pages or max(ranges.end, inode.size) > INLINE_BYTES_MAX:
            return None
        pieces = ranges.by_unit(INLINE_BYTES_MAX)
        if len(pieces) > INLINE_RANGES_MAX:
            present, content = await self._meta.read_inline(inode.inode_id)
            if present.size > INLINE_BYTES_MAX or not (present.inline or present.size == 0):
                return None
            whole = bytearray((content or b"").ljust(max(present.size, ranges.end), b"\0"))
            for offset, data in pieces:
                whole[offset : offset + len(data)] = data
            pieces = [(0, memoryview(whole))]
        stored: Inode | None = inode
        for offset, data in pieces:
            stored = await self._meta.write_inline(inode.inode_id, offset, bytes(data))
            if stored is None:
                return None  # it grew meanwhile: what was stored so far is stored again in chunks
        return stored

    async def store_in_place(self, inode: Inode, ranges: DirtyRanges) -> Inode:
        """Write *ranges* into the file's chunks, durably, without committing the new size; returns
        the inode with its extents as they are now."""
        for group in _groups(ranges.by_unit(FILE_CHUNK_BYTES)):
            inode = await self._store_group(inode.inode_id, group, ranges)
        return inode

    async def _store_group(self, inode_id: int, group: Group, ranges: DirtyRanges) -> Inode:
        start = group[0][0]
        length = group[-1][0] + len(group[-1][1]) - start
        for attempt in range(ATTEMPTS_MAX):
            plan = await self._meta.plan_write(inode_id, start, length)
            for copy in plan.copies:
                if not _overwritten(copy, plan.inode.size, ranges):
                    await self._data.copy(copy.source, copy.target, copy.inline_data)
            # The targets are nobody's yet: written first, they come into the file complete.
            await self._data.write_many(plan.extents, group)
            if not plan.copies:
                return plan.inode
            try:
                return await self._meta.install_copies(inode_id, plan.copies)
            except ConflictError:
                if attempt + 1 == ATTEMPTS_MAX:
                    raise
        raise AssertionError("the last attempt returns or raises")


def _overwritten(copy: CopyOut, size: int, ranges: DirtyRanges) -> bool:
    """Whether all that *copy* would bring is about to be replaced by *ranges*."""
    start = copy.target.file_offset
    if copy.source is None:
        return ranges.covers(0, len(copy.inline_data))
    end = min(start + copy.source.length_bytes, size)
    return end <= start or ranges.covers(start, end - start)


def _groups(pieces: Sequence[tuple[int, memoryview]]) -> list[Group]:
    """*pieces*, those near each other together."""
    groups: list[Group] = []
    begin = end = 0
    for offset, data in pieces:
        near = offset - end <= GAP_BYTES_MAX and offset + len(data) - begin <= GROUP_BYTES_MAX
        if not groups or not near:
            groups.append([])
            begin = offset
        groups[-1].append((offset, data))
        end = offset + len(data)
    return groups
