"""rename(2) in one transaction, however much is below a folder."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import (
    AlreadyExistsError,
    CrossDeviceError,
    InvalidArgumentError,
    IsDirectoryError,
    NotDirectoryError,
    NotEmptyError,
    PermissionDeniedError,
)
from ..events.records import CREATED_COPY, REMOVED
from ..ids import ROOT_INODE_ID
from ..kv.store import ReadTransaction, Transaction
from .accounts import holder_of
from .bucket_names import is_bucket_name
from .charges import count_elsewhere
from .context import MetaContext
from .file_names import with_name
from .files import bucket_of, find_name, need_directory, need_name, new_stored_name
from .folders import (
    clear_directory,
    find_hidden,
    has_versions,
    keep_if_emptied,
)
from .happenings import tell_below, tell_name, tell_name_gone
from .locks import check_unlocked
from .records import Inode, InodeType
from .schema import ENTRY_EXPLICIT, Entry, bucket_key, decode_bucket, encode
from .trash import IDS_MAX, keep_file
from .tree import (
    find_inode,
    is_empty,
    put_entry,
    put_inode,
    remove_entry,
)
from .versions import Slot, bucket_by_id, enter, moved_away


class Renames:
    """``rename`` of ``FileStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def rename(
        self,
        parent_id: int,
        name: bytes,
        new_parent_id: int,
        new_name: bytes,
        *,
        no_replace: bool = False,
        exchange: bool = False,
    ) -> None:
        """Move a name."""
        context = self._context

        async def move(tx: Transaction) -> None:
            stored, entry = await need_name(tx, parent_id, name)
            target = await find_name(tx, new_parent_id, new_name)
            if ROOT_INODE_ID in (parent_id, new_parent_id):
                if exchange or parent_id != new_parent_id or target is not None:
                    raise PermissionDeniedError(
                        "the root holds buckets only: a bucket can take a free name there"
                    )
                await _rename_bucket(context, tx, name, entry, new_name)
                return
            if exchange:
                if target is None:
                    await need_name(tx, new_parent_id, new_name)
                assert target is not None
                await self._exchange(
                    tx, (parent_id, stored, entry), (new_parent_id, *target), (name, new_name)
                )
                return
            if target is not None:
                if no_replace:
                    raise AlreadyExistsError(f"{new_name!r}: exists")
                if target[1].inode_id == entry.inode_id:
                    return
            source_bucket = bucket_of(await need_directory(tx, parent_id))
            inode = await self._movable(tx, entry, parent_id, new_parent_id)
            directory = entry.type == InodeType.DIRECTORY
            if target is not None:
                await self._make_way(tx, new_parent_id, target, entry)
                new_stored = target[0]
            else:
                new_stored = new_stored_name(new_name, directory=directory)
            if directory:
                await _refuse_hidden(tx, new_parent_id, new_stored)
            elif target is not None and await self._keep(tx, new_parent_id, *target):
                target = None
            await remove_entry(tx, parent_id, stored)
            source = await bucket_by_id(tx, source_bucket)
            marker = None
            if not directory:
                slot = Slot(source.versioning, parent_id, stored)
                marker = await moved_away(context, tx, slot, entry)
            await self._place(tx, inode, new_parent_id, new_stored, target and target[1])
            if directory:
                await tell_below(context, tx, source, REMOVED, inode, parent_id, stored)
                names = new_parent_id, new_stored
                await tell_below(context, tx, source, CREATED_COPY, inode, *names)
            else:
                await tell_name_gone(context, tx, source, parent_id, stored, marker)
            await keep_if_emptied(tx, parent_id)
            for folder in {parent_id, new_parent_id}:
                context.touch_directory(tx, folder)
            context.tell_entry(tx, parent_id, name, entry.inode_id)
            context.tell_entry(tx, new_parent_id, new_name, entry.inode_id)

        await context.transact(move, ids=2 + IDS_MAX)

    async def _keep(self, tx: Transaction, parent_id: int, stored: bytes, entry: Entry) -> bool:
        """Whether the file that a rename replaces was moved into the trash."""
        inode = await find_inode(tx, entry.inode_id)
        bucket = await bucket_by_id(tx, inode.bucket_id)
        kept = await keep_file(self._context, tx, bucket, parent_id, stored, inode)
        return kept is not None

    async def _movable(
        self, tx: Transaction, entry: Entry, parent_id: int, new_parent_id: int
    ) -> Inode:
        """The inode to move, accounted for its new bucket. Raises InvalidArgumentError,
        CrossDeviceError, ObjectLockedError, PermissionDeniedError."""
        inode = await find_inode(tx, entry.inode_id)
        new_parent = await need_directory(tx, new_parent_id)
        if entry.type == InodeType.DIRECTORY:
            if parent_id != new_parent_id:
                await _refuse_cycle(tx, entry.inode_id, new_parent)
            if bucket_of(new_parent) != inode.bucket_id:
                raise CrossDeviceError("a folder cannot be renamed into another bucket")
            await _refuse_lockable(tx, inode)
            return await _below(tx, inode, new_parent)
        check_unlocked(inode, self._context.now_ns())
        holder = holder_of(inode)._replace(
            bucket_id=bucket_of(new_parent), quota_ids=new_parent.quota_ids
        )
        if holder != holder_of(inode):
            if inode.nlink > 1:
                raise CrossDeviceError(
                    "a file with several links stays in its bucket and quota: copy it"
                )
            inode = await count_elsewhere(self._context, tx, inode, holder)
        return inode

    async def _make_way(
        self, tx: Transaction, parent_id: int, target: tuple[bytes, Entry], entry: Entry
    ) -> None:
        """Remove a folder that the moved name replaces; a file gives way when that is placed.
        Raises IsDirectoryError, NotDirectoryError, NotEmptyError, CrossDeviceError."""
        stored, old = target
        if old.type != InodeType.DIRECTORY:
            if entry.type == InodeType.DIRECTORY:
                raise NotDirectoryError("a file is not replaced by a folder")
            return
        if entry.type != InodeType.DIRECTORY:
            raise IsDirectoryError("a folder is not replaced by a file")
        if not await is_empty(tx, old.inode_id):
            raise NotEmptyError("the folder to be replaced is not empty")
        if await has_versions(tx, old.inode_id):
            raise CrossDeviceError("the folder to be replaced holds versions: copy what is moved")
        clear_directory(tx, old.inode_id, (await find_inode(tx, old.inode_id)).quota_ids)
        await remove_entry(tx, parent_id, stored)

    async def _free_folder_name(
        self, tx: Transaction, parent_id: int, name: bytes, old: Entry | None, entry: Entry
    ) -> None:
        """Make way for the folder *entry*, where *old* is now. Raises as ``_make_way``."""
        stored = name + b"/"
        if old is not None:
            await self._make_way(tx, parent_id, (stored, old), entry)
        await _refuse_hidden(tx, parent_id, stored)

    async def _place(
        self,
        tx: Transaction,
        inode: Inode,
        parent_id: int,
        stored: bytes,
        old: Entry | None,
        *,
        replaces: bool = True,
    ) -> None:
        """Put *inode* under its new name, in place of *old*, and tell of it if it is no folder."""
        context = self._context
        inode = msgspec.structs.replace(inode, ctime_ns=context.now_ns())
        if inode.type == InodeType.DIRECTORY:
            inode = msgspec.structs.replace(
                inode, parent_id=parent_id, name=stored.removesuffix(b"/")
            )
            put_inode(tx, inode)
            flags = ENTRY_EXPLICIT if inode.explicit else 0
            put_entry(tx, parent_id, stored, Entry(inode.inode_id, inode.type, flags))
        else:
            inode = with_name(tx, inode, parent_id, stored)
            put_inode(tx, inode)
            bucket = await bucket_by_id(tx, inode.bucket_id)
            slot = Slot(bucket.versioning, parent_id, stored)
            entry = await enter(context, tx, slot, inode, old, replaces=replaces)
            await tell_name(context, tx, bucket, CREATED_COPY, parent_id, stored, inode, entry)
        context.tell_inode(tx, inode.inode_id)

    async def _exchange(
        self,
        tx: Transaction,
        first: tuple[int, bytes, Entry],
        second: tuple[int, bytes, Entry],
        names: tuple[bytes, bytes],
    ) -> None:
        """RENAME_EXCHANGE: both names stay, with each other's inode."""
        inodes = [
            await self._movable(tx, first[2], first[0], second[0]),
            await self._movable(tx, second[2], second[0], first[0]),
        ]
        if first[2].inode_id == second[2].inode_id:
            return
        await remove_entry(tx, first[0], first[1])
        await remove_entry(tx, second[0], second[1])
        for inode, (parent_id, stored, entry) in zip(inodes, (second, first), strict=True):
            bare = stored.removesuffix(b"/")
            directory = inode.type == InodeType.DIRECTORY
            new_stored = bare + b"/" if directory else bare
            if new_stored == stored:
                await self._place(tx, inode, parent_id, stored, entry, replaces=False)
                continue
            if directory:
                await _refuse_hidden(tx, parent_id, new_stored)
                bucket = await bucket_by_id(tx, inode.bucket_id)
                left = Slot(bucket.versioning, parent_id, stored)
                marker = await moved_away(self._context, tx, left, entry)
                await tell_name_gone(self._context, tx, bucket, parent_id, stored, marker)
            await self._place(tx, inode, parent_id, new_stored, None)
        await self._tell_exchanged(tx, inodes, (first, second))
        for (parent_id, _, entry), name in zip((first, second), names, strict=True):
            self._context.touch_directory(tx, parent_id)
            self._context.tell_entry(tx, parent_id, name, entry.inode_id)

    async def _tell_exchanged(
        self,
        tx: Transaction,
        inodes: Sequence[Inode],
        places: tuple[tuple[int, bytes, Entry], tuple[int, bytes, Entry]],
    ) -> None:
        """Tell of what is below folders that were exchanged; *places*: where they were before. What
        goes is told first: it may be what comes, by name."""
        folders = [inode for inode in inodes if inode.type == InodeType.DIRECTORY]
        olds = [place for place in places if place[2].type == InodeType.DIRECTORY]
        news = [
            (parent_id, stored.removesuffix(b"/") + b"/")
            for (parent_id, stored, _), inode in zip(reversed(places), inodes, strict=True)
            if inode.type == InodeType.DIRECTORY
        ]
        for folder, (parent_id, stored, _) in zip(folders, olds, strict=True):
            bucket = await bucket_by_id(tx, folder.bucket_id)
            await tell_below(self._context, tx, bucket, REMOVED, folder, parent_id, stored)
        for folder, (parent_id, stored) in zip(folders, news, strict=True):
            bucket = await bucket_by_id(tx, folder.bucket_id)
            await tell_below(self._context, tx, bucket, CREATED_COPY, folder, parent_id, stored)


async def _refuse_hidden(tx: ReadTransaction, parent_id: int, stored: bytes) -> None:
    """Raise CrossDeviceError if a folder that still holds versions has the name that a folder is to
    take: the two cannot be one. Who moves then copies, and the versions stay with their keys."""
    if await find_hidden(tx, parent_id, stored.removesuffix(b"/")) is not None:
        raise CrossDeviceError("a folder of that name still holds versions: copy what is moved")


async def _refuse_lockable(tx: ReadTransaction, directory: Inode) -> None:
    """Raise PermissionDeniedError if a rename of *directory* would give other keys to what may be
    locked."""
    if not (await bucket_by_id(tx, directory.bucket_id)).object_lock:
        return
    if await is_empty(tx, directory.inode_id) and not await has_versions(tx, directory.inode_id):
        return
    raise PermissionDeniedError("in a bucket with object lock only empty folders are renamed")


async def _below(tx: ReadTransaction, directory: Inode, new_parent: Inode) -> Inode:
    """*directory* with the quotas above *new_parent*. Raises CrossDeviceError if others are above
    it now and it holds something, which would have to be counted anew."""
    own = directory.quota_ids[:1] if directory.quota_ids[:1] == (directory.inode_id,) else ()
    quota_ids = own + new_parent.quota_ids
    if quota_ids == directory.quota_ids:
        return directory
    if not await is_empty(tx, directory.inode_id) or await has_versions(tx, directory.inode_id):
        raise CrossDeviceError("a folder cannot be renamed to where another quota counts: copy it")
    return msgspec.structs.replace(directory, quota_ids=quota_ids)


async def _refuse_cycle(tx: ReadTransaction, inode_id: int, new_parent: Inode) -> None:
    """Raise InvalidArgumentError if *new_parent* lies below *inode_id*, walking up to the root."""
    above = new_parent
    while above.inode_id != ROOT_INODE_ID:
        if above.inode_id == inode_id:
            raise InvalidArgumentError("a folder cannot be moved into itself")
        above = await find_inode(tx, above.parent_id)


async def _rename_bucket(
    context: MetaContext, tx: Transaction, name: bytes, entry: Entry, new_name: bytes
) -> None:
    text, new_text = name.decode(), new_name.decode("utf-8", "surrogateescape")
    if not is_bucket_name(new_text):
        raise InvalidArgumentError(f"{new_text!r}: is not a bucket name that S3 allows")
    value = await tx.get(bucket_key(text))
    assert value is not None
    tx.clear(bucket_key(text))
    record = msgspec.structs.replace(decode_bucket(value), name=new_text)
    if record.object_lock:
        raise PermissionDeniedError("a bucket with object lock keeps its name")
    tx.set(bucket_key(new_text), encode(record))
    inode = await find_inode(tx, entry.inode_id)
    put_inode(tx, msgspec.structs.replace(inode, name=new_name, ctime_ns=context.now_ns()))
    await remove_entry(tx, ROOT_INODE_ID, name + b"/")
    put_entry(tx, ROOT_INODE_ID, new_name + b"/", entry)
    context.touch_directory(tx, ROOT_INODE_ID)
    context.tell_entry(tx, ROOT_INODE_ID, name, entry.inode_id)
    context.tell_entry(tx, ROOT_INODE_ID, new_name, entry.inode_id)
