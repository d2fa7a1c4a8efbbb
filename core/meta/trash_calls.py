"""Removing whole trees in one step: the calls of ``TrashStore`` (core/meta/trash_store.py)."""

from __future__ import annotations

import msgspec

from ..errors import CrossDeviceError, NotDirectoryError
from ..events.records import REMOVED as EVENT
from ..ids import ROOT_INODE_ID
from ..kv.store import Transaction
from .buckets import put_changed
from .context import MetaContext
from .file_names import key_of
from .files import bucket_of, need_directory, need_name
from .folders import keep_if_emptied
from .happenings import tell_below
from .records import InodeType, Versioning
from .schema import ENTRY_EXPLICIT, Entry
from .trash import IDS_MAX, free_name, make_trash
from .trash_names import PREFIX, REMOVED, hour_of
from .tree import find_bucket, find_inode, put_entry, put_inode, remove_entry
from .versions import bucket_by_id


class TrashCalls:
    """``TrashStore``."""

    _context: MetaContext

    async def set_trash(self, bucket: str, seconds: int) -> None:
        """Keep what is removed from now on."""

        async def write(tx: Transaction) -> None:
            found = await find_bucket(tx, bucket)
            put_changed(tx, msgspec.structs.replace(found, trash_seconds=seconds))

        await self._context.kv.transact(write)

    async def remove_tree(self, parent_id: int, name: bytes) -> bool:
        """Remove a folder with all that is below it."""
        context = self._context

        async def move(tx: Transaction) -> bool:
            stored, entry = await need_name(tx, parent_id, name)
            if entry.type != InodeType.DIRECTORY:
                raise NotDirectoryError(f"{name!r}: is not a folder")
            if parent_id == ROOT_INODE_ID:
                return False  # a bucket
            bucket = await bucket_by_id(tx, bucket_of(await need_directory(tx, parent_id)))
            key = await key_of(tx, bucket.inode_id, parent_id, stored)
            done = PREFIX + REMOVED + b"/"
            if bucket.versioning != Versioning.NEVER or key == PREFIX or key.startswith(done):
                return False
            keeps = bucket.trash_seconds and not key.startswith(PREFIX)
            period = hour_of(context.now_ns()) if keeps else REMOVED
            *folders, _, _ = key.split(b"/")
            folder = await find_inode(tx, entry.inode_id)
            folder_id = await make_trash(context, tx, bucket, period, folders)
            if folder.quota_ids != (await find_inode(tx, folder_id)).quota_ids:
                raise CrossDeviceError(f"{name!r}: counts for a quota that the trash does not")
            await tell_below(context, tx, bucket, EVENT, folder, parent_id, stored)
            new_stored = await free_name(tx, folder_id, stored, folder.inode_id)
            await remove_entry(tx, parent_id, stored)
            folder = msgspec.structs.replace(
                folder,
                parent_id=folder_id,
                name=new_stored.removesuffix(b"/"),
                ctime_ns=context.now_ns(),
            )
            put_inode(tx, folder)
            flags = ENTRY_EXPLICIT if folder.explicit else 0
            put_entry(tx, folder_id, new_stored, Entry(folder.inode_id, folder.type, flags))
            await keep_if_emptied(tx, parent_id)
            for number in (parent_id, folder_id):
                context.touch_directory(tx, number)
            context.tell_entry(tx, parent_id, name, folder.inode_id)
            context.tell_entry(tx, folder_id, folder.name, folder.inode_id)
            context.tell_inode(tx, folder.inode_id)
            return True

        try:
            return await context.transact(move, ids=IDS_MAX)
        except CrossDeviceError:
            return False
