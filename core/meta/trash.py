"""The trash of a bucket, inside a transaction: what file calls remove is kept for a while, under
the path that it had. Rules: docs/decisions/0015-trash.md.

``.trash/<hour>/<path>`` are ordinary folders of the bucket, made when they are needed, for the
superuser alone. What is in them is brought back by a rename.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..kv.store import ReadTransaction, Transaction
from .accounts import holder_of
from .charges import count_elsewhere
from .context import MetaContext
from .file_names import key_of, with_name
from .folders import make_directories
from .locks import check_unlocked
from .records import Bucket, Inode, Owner, Versioning
from .schema import Entry
from .trash_names import FOLDER, PREFIX, another_name, hour_of
from .tree import find_entry, find_inode, put_entry, put_inode, remove_entry

OWNER = Owner(0, 0, 0o600, 0o700)
"""Of the folders: what was removed may have been private."""
DEPTH_MAX = 100
"""Folders of a path that are kept: the last ones, of a path that has more."""
IDS_MAX = DEPTH_MAX + 2
"""How many ids keeping one thing may draw."""


async def keep_file(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    parent_id: int,
    stored: bytes,
    inode: Inode,
) -> Inode | None:
    """Move a file, which a call takes its only name *stored* from, into the trash. Returns None if
    it is not kept: the bucket has no trash, or versions instead; the file is there already, or has
    other names. Raises ObjectLockedError."""
    if not bucket.trash_seconds or bucket.versioning != Versioning.NEVER or inode.nlink != 1:
        return None
    key = await key_of(tx, bucket.inode_id, parent_id, stored)
    if key.startswith(PREFIX):
        return None
    check_unlocked(inode, context.now_ns())
    *folders, name = key.split(b"/")
    folder_id = await make_trash(context, tx, bucket, hour_of(context.now_ns()), folders)
    name = await free_name(tx, folder_id, name, inode.inode_id)
    quota_ids = (await find_inode(tx, folder_id)).quota_ids
    if quota_ids != inode.quota_ids:
        holder = holder_of(inode)._replace(quota_ids=quota_ids)
        inode = await count_elsewhere(context, tx, inode, holder, checked=False)
    await remove_entry(tx, parent_id, stored)
    inode = msgspec.structs.replace(inode, ctime_ns=context.now_ns())
    inode = with_name(tx, inode, folder_id, name)
    put_inode(tx, inode)
    put_entry(tx, folder_id, name, Entry(inode.inode_id, inode.type, 0))
    context.touch_directory(tx, folder_id)
    context.tell_entry(tx, folder_id, name, inode.inode_id)
    context.tell_inode(tx, inode.inode_id)
    return inode


async def make_trash(
    context: MetaContext, tx: Transaction, bucket: Bucket, period: bytes, folders: Sequence[bytes]
) -> int:
    """The folder of the trash for what is removed from *folders*. Draws at most IDS_MAX ids."""
    path = [FOLDER, period, *folders[-DEPTH_MAX:]]
    versioned = bucket.versioning != Versioning.NEVER
    return await make_directories(context, tx, bucket.inode_id, path, OWNER, versioned=versioned)


async def free_name(tx: ReadTransaction, folder_id: int, stored: bytes, inode_id: int) -> bytes:
    """*stored*, or what stands for it if that is taken: the same path was removed before in the
    same hour."""
    if await find_entry(tx, folder_id, stored) is None:
        return stored
    return another_name(stored, inode_id)
