"""Bytes behind an object's last one, in one transaction and without rewriting what is there.

New bytes come in a segment of their own. So that many small appends do not make as many extents,
the last ones are taken along: an end of less than APPEND_TAIL_BYTES is written again with the new
bytes, and a run of MERGE_RUN small extents becomes one. A byte is written at most three times on
the whole, however small the appends are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import ConflictError, WriteOffsetError
from ..events.records import CREATED_PUT
from ..kv.store import ReadTransaction, Transaction
from ..limits import CHUNK_CLASS_BYTES_MIN, EXTENTS_INLINE_MAX, FILE_BYTES_MAX, MIB
from .charges import charge
from .conditions import check_conditions
from .context import MetaContext
from .extents import cut_range, end_of
from .folders import find_directory
from .happenings import teller_of
from .object_lookup import find_object, missing
from .objects import find_place, ids_of_put, make_placed, swap_object
from .records import (
    NO_CONDITIONS,
    AppendPoint,
    Extent,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    PutResult,
    Versioning,
    WriteConditions,
)
from .schema import (
    decode_extents,
    encode,
    extents_key,
    extents_range,
    inline_key,
    part_sizes_range,
)
from .segments import References
from .tree import (
    EXTENTS_PER_PAGE,
    all_extents,
    check_size,
    find_bucket,
    find_entry,
    put_inode,
    set_extents,
    split_key,
)
from .versions import Slot, entry_version_id, renew

APPEND_TAIL_BYTES = CHUNK_CLASS_BYTES_MIN  # a chunk takes as much space, however little it holds
SMALL_EXTENT_BYTES = MIB
MERGE_RUN = 16  # of tails make an extent that is not small; at most 16 MiB are written again


def rewrite_from(extents: Sequence[Extent], size: int) -> int:
    """From which offset on the bytes of a file of *size* bytes are better written again together
    with those that are appended; *size* if none are. Pure."""
    if not extents or end_of(extents[-1]) != size or not extents[-1].dense:
        return size
    start, run = size, 0
    for extent in reversed(extents):
        if not extent.dense or end_of(extent) != start or extent.length_bytes >= SMALL_EXTENT_BYTES:
            break
        run += 1
        start = extent.file_offset
        if run == MERGE_RUN:
            return start
    last = extents[-1]
    return last.file_offset if last.length_bytes < APPEND_TAIL_BYTES else size


class Appends:
    """The append calls of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def append_point(self, bucket: str, key: bytes) -> AppendPoint:
        """Where an append to an object begins."""

        async def read(tx: ReadTransaction) -> AppendPoint:
            inode, _ = await find_object(tx, bucket, key)
            if inode.type != InodeType.FILE:
                return AppendPoint(None)
            if inode.inline:
                data = (await tx.get(inline_key(inode.inode_id))) or b""
                if inode.encryption is None:
                    data = data.ljust(inode.size, b"\0")
                return AppendPoint(inode, data)
            extents = await all_extents(tx, inode)
            start = rewrite_from(extents, inode.size)
            return AppendPoint(inode, None, start, cut_range(extents, start, inode.size))

        return await self._context.kv.read(read)

    async def append_object(
        self,
        bucket: str,
        key: bytes,
        point: AppendPoint,
        content: NewContent,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Make an object longer."""
        context = self._context
        what = f"object {bucket}/{key.decode(errors='replace')}"

        async def create(tx: Transaction) -> PutResult:
            found = await find_bucket(tx, bucket)
            place = await find_place(context, tx, found, key, owner, conditions, what)
            if place.old is not None:
                raise _moved_on(what, place.old)
            inode = await make_placed(context, tx, place, content, attributes)
            return await swap_object(context, tx, place, inode, CREATED_PUT)

        async def grow(tx: Transaction) -> PutResult:
            inode, _ = await find_object(tx, bucket, key)
            check_conditions(conditions, inode, what)
            assert point.inode is not None
            if inode.size != point.inode.size:
                raise _moved_on(what, inode)
            if (inode.inode_id, inode.generation) != (point.inode.inode_id, point.inode.generation):
                raise ConflictError(f"{what}: changed while it was appended to")
            found = await find_bucket(tx, bucket)
            directories, name = split_key(key)
            folder_id = await find_directory(tx, found.inode_id, directories)
            entry = None if folder_id is None else await find_entry(tx, folder_id, name)
            if folder_id is None or entry is None:
                raise missing(bucket, key)
            slot = Slot(found.versioning, folder_id, name)
            renewed = await renew(context, tx, slot, entry, inode)
            inode = await _grow(context, tx, inode, point, content, attributes)
            versioned = found.versioning != Versioning.NEVER
            version_id = entry_version_id(renewed) if versioned else ""
            teller = await teller_of(context, tx, found)
            if teller is not None:
                await teller.tell(CREATED_PUT, key, inode, version_id)
            return PutResult(inode, True, version_id)

        if point.inode is None:
            return await context.transact(create, ids=ids_of_put(key))
        return await context.transact(grow, ids=1)


def _moved_on(what: str, inode: Inode) -> WriteOffsetError:
    return WriteOffsetError(f"{what}: has {inode.size} bytes now", size_bytes=inode.size)


async def _grow(
    context: MetaContext,
    tx: Transaction,
    inode: Inode,
    point: AppendPoint,
    content: NewContent,
    attributes: ObjectAttributes,
) -> Inode:
    """Put *content* behind *point* and write the inode."""
    old_size = inode.size
    if content.inline_data is not None:
        data = (point.inline_data or b"") + content.inline_data
        tx.set(inline_key(inode.inode_id), data)
        size = old_size + content.size
        inode = msgspec.structs.replace(inode, inline=True)
    elif content.size == 0:
        size = old_size
    else:
        size = point.rewrite_from + content.size
        check_size(size, FILE_BYTES_MAX)
        if inode.inline:
            tx.clear(inline_key(inode.inode_id))
        inode = await _swap_tail(context, tx, inode, point.rewrite_from, content.extents)
    now = context.now_ns()
    await charge(context, tx, inode, size - old_size, 0)
    kept = inode.object or ObjectAttributes()
    if kept.part_count:
        tx.clear_range(*part_sizes_range(inode.inode_id))
    generation = inode.generation + 1
    inode = msgspec.structs.replace(
        inode,
        size=size,
        generation=generation,
        mtime_ns=now,
        ctime_ns=now,
        object=msgspec.structs.replace(
            kept,
            etag=attributes.etag,
            etag_generation=generation,
            checksums=attributes.checksums,
            checksum_type=attributes.checksum_type,
            part_count=0,
            lock=attributes.lock,
        ),
    )
    put_inode(tx, inode)
    context.tell_inode(tx, inode.inode_id)
    return inode


async def _swap_tail(
    context: MetaContext, tx: Transaction, inode: Inode, start: int, content: Sequence[Extent]
) -> Inode:
    """*inode* with *content* (from offset 0 on) from *start* on. Of extents in pages only those
    pages are written that change."""
    new = tuple(
        msgspec.structs.replace(extent, file_offset=extent.file_offset + start)
        for extent in content
    )
    rows = await tx.get_range(*extents_range(inode.inode_id)) if inode.extent_pages else []
    pages = [decode_extents(value) for _, value in rows]
    before = tuple(extent for page in pages for extent in page) if pages else inode.extents
    after = cut_range(before, 0, start) + new
    await References().lose(before).gain(after).apply(context, tx)
    if not pages or len(after) <= EXTENTS_INLINE_MAX:
        return set_extents(tx, inode, after)
    first = len(pages) - 1
    while first and end_of(pages[first - 1][-1]) > start:
        first -= 1
    tail = after[sum(len(page) for page in pages[:first]) :]
    tx.clear_range(extents_key(inode.inode_id, first), extents_range(inode.inode_id)[1])
    count = first
    for position in range(0, len(tail), EXTENTS_PER_PAGE):
        page = tail[position : position + EXTENTS_PER_PAGE]
        tx.set(extents_key(inode.inode_id, count), encode(page))
        count += 1
    return msgspec.structs.replace(inode, extents=(), extent_pages=count, inline=False)
