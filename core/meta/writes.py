"""Writing files in place: inline content, home segments, copies of what is shared, truncation,
attributes.

A file written in place gets a *home segment*: a sparse extent whose segment offsets equal the
file's offsets. Content that others share (copies, multipart objects) is moved to one chunk by
chunk, when it is first written to. A truncation cuts extents; what lies behind the cut is never
covered again (growing back makes a new home segment), so no chunk needs to be cut for zeros to be
read there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..access.acl import with_mode
from ..crypt.pages import stored_range
from ..errors import ConflictError, InvalidArgumentError, IsDirectoryError
from ..kv.store import ReadTransaction, Transaction
from ..limits import (
    BATCH_ITEMS_MAX,
    FILE_BYTES_MAX,
    FILE_CHUNK_BYTES,
    INLINE_BYTES_MAX,
    OBJECT_CHUNK_BYTES,
)
from .accounts import holder_of
from .charges import charge, count_elsewhere, need_room
from .context import MetaContext
from .extents import (
    aligned,
    cut_range,
    end_of,
    gap_around,
    holes,
    home_extent,
    with_extent,
)
from .happenings import tell_content
from .locks import check_unlocked
from .passing import note_passing
from .records import (
    OPEN_ENDED,
    CopyOut,
    Extent,
    Inode,
    InodeType,
    Layout,
    SetAttributes,
    WritePlan,
)
from .schema import (
    RemovalRecord,
    directory_time_key,
    encode,
    extents_range,
    inline_key,
    pack_number,
    planned_key,
    session_key,
)
from .segments import References, shared_segments
from .tree import all_extents, check_size, find_inode, inodes_of, put_inode, set_extents
from .versions import bucket_by_id

SEED_BITS = 0xFFFF_FFFF
PLAN_IDS = 2  # a segment for the copies, and one for all holes


async def need_file(context: MetaContext, tx: ReadTransaction, inode_id: int) -> Inode:
    """The file, to be written. Raises IsDirectoryError, InvalidArgumentError, ObjectLockedError,
    StaleHandleError."""
    inode = await find_inode(tx, inode_id)
    check_unlocked(inode, context.now_ns())
    if inode.type == InodeType.DIRECTORY:
        raise IsDirectoryError(f"inode {inode_id:x}: is a folder")
    if inode.type != InodeType.FILE:
        raise InvalidArgumentError(f"inode {inode_id:x}: has no content")
    return inode


async def changed_content(context: MetaContext, tx: Transaction, inode: Inode, size: int) -> Inode:
    """Write *inode*, whose content changed and is now *size* bytes. Raises QuotaExceededError."""
    now = context.now_ns()
    if inode.lives:
        await charge(context, tx, inode, size - inode.size, 0)
    elif size > inode.size:
        # It counts for nobody, and yet may not grow over what there is room for.
        await need_room(context, tx, holder_of(inode), size, 0, ahead=True)
    inode = msgspec.structs.replace(
        inode,
        size=size,
        mtime_ns=now,
        ctime_ns=now,
        generation=inode.generation + 1,
    )
    put_inode(tx, inode)
    context.tell_inode(tx, inode.inode_id)
    await tell_content(context, tx, inode)
    return inode


def check_plain(inode: Inode) -> None:
    """Raise InvalidArgumentError for a change in place of an encrypted file: it is written by
    ``store_sealed``."""
    if inode.encryption is not None:
        raise InvalidArgumentError(f"inode {inode.inode_id:x}: is encrypted, and sealed anew")


class Writes:
    """Content and attribute calls of ``FileStore`` (core/meta/store.py)."""

    _context: MetaContext

    def default_layout(self, *, in_place: bool) -> Layout:
        """The layout of new segments."""
        size = FILE_CHUNK_BYTES if in_place else OBJECT_CHUNK_BYTES
        return Layout(size, self._context.table_id, 0)

    def layout_of(self, segment_id: int, *, in_place: bool) -> Layout:
        """The layout of a certain new segment: its stripe starts at a chain of its own."""
        layout = self.default_layout(in_place=in_place)
        return msgspec.structs.replace(layout, stripe_seed=segment_id & SEED_BITS)

    async def read_inline(self, inode_id: int) -> tuple[Inode, bytes | None]:
        """The inode and its inline content, from one snapshot."""

        async def read(tx: ReadTransaction) -> tuple[Inode, bytes | None]:
            inode = await find_inode(tx, inode_id)
            if not inode.inline:
                return inode, None
            return inode, await tx.get(inline_key(inode_id))

        return await self._context.kv.read(read)

    async def read_inline_many(
        self, inode_ids: Sequence[int]
    ) -> list[tuple[Inode, bytes | None] | None]:
        """Inodes of files and their inline content, from one snapshot."""
        assert len(inode_ids) <= BATCH_ITEMS_MAX

        async def read(tx: ReadTransaction) -> list[tuple[Inode, bytes | None] | None]:
            inodes = await inodes_of(tx, inode_ids)
            small = [inode.inode_id for inode in inodes if inode is not None and inode.inline]
            contents = await tx.get_many([inline_key(number) for number in small])
            content_of = dict(zip(small, contents, strict=True))
            return [
                None if inode is None else (inode, content_of.get(inode.inode_id))
                for inode in inodes
            ]

        return await self._context.kv.read(read)

    async def write_inline(
        self, inode_id: int, offset: int, data: bytes, *, close_session: int | None = None
    ) -> Inode | None:
        """Overlay bytes on small content."""

        async def write(tx: Transaction) -> Inode | None:
            inode = await need_file(self._context, tx, inode_id)
            check_plain(inode)
            size = max(inode.size, offset + len(data))
            if size > INLINE_BYTES_MAX or inode.extents or inode.extent_pages:
                return None
            old = (await tx.get(inline_key(inode_id)) if inode.inline else None) or b""
            old = old.ljust(inode.size, b"\0")
            if offset == 0 and len(data) >= len(old):
                content = data
            else:
                content = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
            tx.set(inline_key(inode_id), content)
            inode = await changed_content(
                self._context, tx, msgspec.structs.replace(inode, inline=True), size
            )
            self._close(tx, inode_id, close_session)
            return inode

        return await self._context.kv.transact(write)

    async def plan_write(self, inode_id: int, offset: int, length: int) -> WritePlan:
        """Make a range writable in place."""
        context = self._context
        check_size(offset + length, FILE_BYTES_MAX)

        async def plan(tx: Transaction) -> WritePlan:
            inode = await need_file(self._context, tx, inode_id)
            if (await bucket_by_id(tx, inode.bucket_id)).object_lock:
                # Until the commit nobody may lock what is being written.
                tx.set(planned_key(inode_id, context.client_id), pack_number(context.now_ns()))
            check_plain(inode)
            extents = await all_extents(tx, inode)
            end = offset + length
            growth = end - inode.size
            await need_room(context, tx, holder_of(inode), growth, 0, ahead=True)
            if inode.inline:
                data = (await tx.get(inline_key(inode_id))) or b""
                target = self._home(context.draw_id(), 0, OPEN_ENDED)
                return WritePlan(inode, (target,), (CopyOut(None, target, data),))
            shared = await shared_segments(tx, cut_range(extents, offset, end))
            copies = self._copies(extents, shared, offset, end, inode.size)
            before = extents
            home_id = 0
            for start, _ in holes(extents, offset, end):
                if not holes(extents, start, start + 1):
                    continue  # an extent made for an earlier hole covers this one
                home_id = home_id or context.draw_id()
                gap = gap_around(extents, start)
                extents = with_extent(extents, self._home(home_id, *gap))
            if extents != before:
                await References().lose(before).gain(extents).apply(context, tx)
                inode = set_extents(tx, inode, extents)
                put_inode(tx, inode)
            for copy in copies:
                extents = with_extent(extents, copy.target)
            return WritePlan(inode, cut_range(extents, offset, end), tuple(copies))

        return await context.transact(plan, ids=PLAN_IDS)

    def _home(self, segment_id: int, start: int, end: int) -> Extent:
        return home_extent(segment_id, self.layout_of(segment_id, in_place=True), start, end)

    def _copies(
        self, extents: Sequence[Extent], shared: set[int], offset: int, end: int, size: int
    ) -> list[CopyOut]:
        """What must be copied before ``[offset, end)`` is written: shared or dense pieces, widened
        to the chunk
        boundaries of their new place, as far as their extent goes."""
        copies: list[CopyOut] = []
        segment_id = 0
        for extent in extents:
            if end_of(extent) <= offset or extent.file_offset >= end:
                continue
            if extent.segment_id not in shared and not extent.dense:
                continue
            if not segment_id:
                segment_id = self._context.draw_id()
            layout = self.layout_of(segment_id, in_place=True)
            start, stop = aligned(
                max(offset, extent.file_offset),
                min(end, end_of(extent)),
                layout.chunk_size_bytes,
            )
            start, stop = max(start, extent.file_offset), min(stop, end_of(extent))
            source = cut_range([extent], start, stop)[0]
            target = home_extent(segment_id, layout, start, stop)
            if start < size:
                readable = min(stop, size) - start
                source = msgspec.structs.replace(source, length_bytes=min(readable, stop - start))
            copies.append(CopyOut(source, target))
        return copies

    async def install_copies(self, inode_id: int, copies: Sequence[CopyOut]) -> Inode:
        """Swap copied ranges in."""
        context = self._context

        async def install(tx: Transaction) -> Inode:
            inode = await need_file(self._context, tx, inode_id)
            check_plain(inode)
            before = await all_extents(tx, inode)
            extents = before
            for copy in copies:
                target = copy.target
                if copy.source is None:
                    data = (await tx.get(inline_key(inode_id)) or b"") if inode.inline else None
                    if data != copy.inline_data:
                        raise ConflictError(f"inode {inode_id:x}: changed while it was copied")
                    tx.clear(inline_key(inode_id))
                    extents = (target,)
                    continue
                source = copy.source
                covered = cut_range(extents, source.file_offset, end_of(source))
                if covered != (source,):
                    raise ConflictError(f"inode {inode_id:x}: changed while it was copied")
                extents = with_extent(extents, target)
            await References().lose(before).gain(extents).apply(context, tx)
            inode = set_extents(tx, inode, extents)
            put_inode(tx, inode)
            return inode

        return await context.kv.transact(install)

    async def commit_write(
        self, inode_id: int, end_offset: int, *, close_session: int | None = None
    ) -> Inode:
        """Tell of bytes written in place."""

        async def commit(tx: Transaction) -> Inode:
            inode = await need_file(self._context, tx, inode_id)
            check_plain(inode)
            inode = await changed_content(self._context, tx, inode, max(inode.size, end_offset))
            tx.clear(planned_key(inode_id, self._context.client_id))
            self._close(tx, inode_id, close_session)
            return inode

        return await self._context.kv.transact(commit)

    def _close(self, tx: Transaction, inode_id: int, handle: int | None) -> None:
        if handle is not None:
            tx.clear(session_key(inode_id, self._context.client_id, handle))

    async def set_attributes(self, inode_id: int, changes: SetAttributes) -> Inode:
        """chmod, chown, utimens, truncate."""
        context = self._context
        if changes.size is not None:
            check_size(changes.size, FILE_BYTES_MAX)

        async def change(tx: Transaction) -> Inode:
            inode = await find_inode(tx, inode_id)
            if changes.size is not None:
                inode = await need_file(context, tx, inode_id)
                inode = await self._truncate(tx, inode, changes.size)
            elif changes.mtime_ns is not None:
                check_unlocked(inode, context.now_ns())
            fields: dict[str, int] = {}
            for name in ("mode", "uid", "gid", "atime_ns", "mtime_ns"):
                value = getattr(changes, name)
                if value is not None:
                    fields[name] = value
            if fields or changes.size is None:
                fields["ctime_ns"] = context.now_ns()
            if changes.uid is not None and inode.lives and inode.type != InodeType.DIRECTORY:
                holder = holder_of(inode)._replace(uid=changes.uid)
                inode = await count_elsewhere(context, tx, inode, holder)
            inode = msgspec.structs.replace(inode, **fields)
            if changes.mode is not None:
                if inode.access_acl:
                    acl = with_mode(inode.access_acl, changes.mode)
                    inode = msgspec.structs.replace(inode, access_acl=acl)
                await note_passing(tx, inode)
            put_inode(tx, inode)
            if inode.type == InodeType.DIRECTORY and changes.mtime_ns is not None:
                # A folder's time has a key of its own, which the next change of entries writes
                # again.
                tx.set(directory_time_key(inode_id), pack_number(changes.mtime_ns))
            context.tell_inode(tx, inode_id)
            return inode

        return await context.kv.transact(change)

    async def _truncate(self, tx: Transaction, inode: Inode, size: int) -> Inode:
        context = self._context
        if size < inode.size and inode.inline and inode.encryption is not None:
            if size:
                check_plain(inode)
            tx.clear(inline_key(inode.inode_id))
            inode = msgspec.structs.replace(inode, inline=False)
        elif size < inode.size and inode.inline:
            data = (await tx.get(inline_key(inode.inode_id))) or b""
            tx.set(inline_key(inode.inode_id), data[:size])
        elif size < inode.size or (size == 0 and (inode.extents or inode.extent_pages)):
            before = await all_extents(tx, inode)
            after = cut_range(before, 0, size)
            shared = await shared_segments(tx, before)
            self._trim(tx, before, after, shared)
            await References().lose(before).gain(after).apply(context, tx)
            inode = set_extents(tx, inode, after)
            if not after:
                tx.clear_range(*extents_range(inode.inode_id))
        return await changed_content(context, tx, inode, size)

    def _trim(
        self,
        tx: Transaction,
        before: Sequence[Extent],
        after: Sequence[Extent],
        shared: set[int],
    ) -> None:
        """Queue the chunks behind the cut of segments that stay, and are this file's alone."""
        kept: dict[int, int] = {}
        for extent in after:
            last = extent.segment_offset + extent.length_bytes
            if extent.encrypted_bytes:
                where = stored_range(
                    extent.segment_offset, extent.length_bytes, extent.encrypted_bytes
                )
                last = where.offset + where.length
            kept[extent.segment_id] = max(kept.get(extent.segment_id, 0), last)
        layouts = {extent.segment_id: extent.layout for extent in before}
        due = self._context.now_ns() + self._context.removal_grace_ns
        for segment_id, last in kept.items():
            if segment_id in shared or _still_whole(before, after, segment_id):
                continue
            layout = layouts[segment_id]
            record = RemovalRecord(0, segment_id, layout, -(-last // layout.chunk_size_bytes))
            tx.set(self._context.next_removal_key(due), encode(record))

    async def extents(self, inode: Inode, offset: int, length: int) -> tuple[Extent, ...]:
        """Extents that touch a range."""
        if not inode.extent_pages:
            return inode.extents
        found = await self._context.kv.read(lambda tx: all_extents(tx, inode))
        end = offset + length
        return tuple(one for one in found if one.file_offset < end and end_of(one) > offset)


def _still_whole(before: Sequence[Extent], after: Sequence[Extent], segment_id: int) -> bool:
    ours = [extent for extent in before if extent.segment_id == segment_id]
    return ours == [extent for extent in after if extent.segment_id == segment_id]
