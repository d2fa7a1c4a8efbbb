"""DRIVER: gives what has no name any more a name in the folder ``lost+found`` of its bucket."""

from __future__ import annotations

import msgspec

from ..kv.store import Transaction
from ..meta.records import InodeType
from ..meta.schema import ENTRY_EXPLICIT, Entry, decode_inode, inode_key
from ..meta.tree import find_entry, put_entry, put_inode
from .scan import Check

FOLDER = b"lost+found"
FOLDER_MODE = 0o700


async def adopt(check: Check, inode_id: int, before: bytes, old_key: bytes | None) -> str | None:
    """Name the inode, if its record is still *before*; *old_key*, an entry that leads to it from
    nowhere, goes.

    Returns what was done, for ``Repair``. Raises CallerError if its bucket is gone.
    """
    inode = decode_inode(before)
    folder = await check.meta.create(
        inode.bucket_id,
        FOLDER,
        InodeType.DIRECTORY,
        mode=FOLDER_MODE,
        uid=0,
        gid=0,
        exclusive=False,
    )
    directory = inode.type == InodeType.DIRECTORY
    name = f"inode-{inode_id:x}".encode()
    stored = name + b"/" if directory else name

    async def place(tx: Transaction) -> bool:
        if await tx.get(inode_key(inode_id)) != before:
            return False
        if await find_entry(tx, folder.inode_id, stored) is not None:
            return False
        if old_key is not None:
            tx.clear(old_key)
        if directory:
            place = msgspec.structs.replace(
                inode, parent_id=folder.inode_id, name=name, noncurrent=False
            )
            put_inode(tx, place)
        else:
            put_inode(tx, msgspec.structs.replace(inode, nlink=1, noncurrent=False))
        flags = ENTRY_EXPLICIT if directory and inode.explicit else 0
        put_entry(tx, folder.inode_id, stored, Entry(inode_id, inode.type, flags))
        check.context.touch_directory(tx, folder.inode_id)
        check.context.tell_entry(tx, folder.inode_id, name, inode_id)
        check.context.tell_inode(tx, inode_id)
        return True

    if not await check.kv.transact(place):
        return None
    return (
        f"named {FOLDER.decode()}/{name.decode()} in its bucket: it had no name, so nobody could "
        "reach it, and nothing else is changed"
    )
