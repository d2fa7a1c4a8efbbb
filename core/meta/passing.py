"""Which buckets have folders that pass something on (inheritance.py)."""

from __future__ import annotations

import msgspec

from ..kv.store import Transaction
from .inheritance import passes_on
from .records import Inode, InodeType
from .schema import bucket_key, encode
from .versions import bucket_by_id


async def note_passing(tx: Transaction, inode: Inode) -> None:
    """If *inode* is a folder that passes something on, have its bucket's record say so: else those
    who put objects do not look at folders."""
    if inode.type != InodeType.DIRECTORY or not passes_on(inode) or not inode.parent_id:
        return
    bucket = await bucket_by_id(tx, inode.bucket_id or inode.inode_id)
    if not bucket.folders_pass_on:
        marked = msgspec.structs.replace(bucket, folders_pass_on=True)
        tx.set(bucket_key(bucket.name), encode(marked))
