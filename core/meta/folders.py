"""Folders inside a transaction: following and making them, and what becomes of one that holds
nothing current any more.

A folder made by S3 vanishes with its last object. In a versioned bucket it may still hold
noncurrent versions and delete markers: then it is *hidden*. Its entry moves to the versions of its
parent (letter ``w``), where neither listings nor the mount meet it and the listing of versions
finds it in its place; it comes back, as the same inode, with the next name in it.

Concurrency: who hides a folder or brings it back writes its inode, and who adds a name to it has
read that or its entry: so one of the two conflicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ..kv.store import ReadTransaction, Transaction
from .accounts import Account, clear_limits
from .accounts import Kind as AccountKind
from .context import MetaContext
from .inheritance import inherited
from .records import Bucket, Inode, InodeType, Owner, Versioning
from .schema import (
    ENTRY_EXPLICIT,
    Entry,
    VersionRecord,
    decode_entry,
    decode_version,
    directory_prefix,
    directory_time_key,
    encode,
    hidden_folder_key,
    inode_key,
    versions_end,
    versions_prefix,
    xattr_range,
)
from .tree import (
    find_entry,
    find_inode,
    is_empty,
    new_inode,
    put_entry,
    put_inode,
    remove_entry,
)


async def find_directory(
    tx: ReadTransaction, bucket_id: int, directories: Sequence[bytes]
) -> int | None:
    """The directory's inode id, following *directories* from the bucket; None if it does not
    exist, or holds nothing current."""
    directory_id = bucket_id
    for name in directories:
        value = await tx.get(directory_prefix(directory_id) + name + b"/")
        if value is None:
            return None
        directory_id = decode_entry(value).inode_id
    return directory_id


async def find_hidden(tx: ReadTransaction, directory_id: int, name: bytes) -> int | None:
    """The inode id of the hidden folder *name* (without slash)."""
    value = await tx.get(hidden_folder_key(directory_id, name))
    return None if value is None else decode_version(value).inode_id


async def find_any_directory(
    tx: ReadTransaction, bucket_id: int, directories: Sequence[bytes]
) -> int | None:
    """As ``find_directory``, hidden ones included."""
    directory_id = bucket_id
    for name in directories:
        entry = await find_entry(tx, directory_id, name + b"/")
        found = await find_hidden(tx, directory_id, name) if entry is None else entry.inode_id
        if found is None:
            return None
        directory_id = found
    return directory_id


async def has_versions(tx: ReadTransaction, directory_id: int) -> bool:
    """Whether the directory holds noncurrent versions, markers or hidden folders; conflicts with
    whoever adds one."""
    own, end = versions_prefix(directory_id), versions_end(directory_id)
    return bool(await tx.get_range(own, end, limit=1))


async def _new_directory(
    context: MetaContext,
    tx: ReadTransaction,
    bucket_id: int,
    parent_id: int,
    name: bytes,
    owner: Owner,
) -> Inode:
    parent = await find_inode(tx, parent_id)
    gets = inherited(parent, InodeType.DIRECTORY, owner.directory_mode, owner.gid)
    return new_inode(
        context,
        InodeType.DIRECTORY,
        mode=gets.mode,
        uid=owner.uid,
        gid=gets.gid,
        bucket_id=bucket_id,
        parent_id=parent_id,
        name=name,
        explicit=False,
        quota_ids=parent.quota_ids,
        access_acl=gets.access_acl,
        default_acl=gets.default_acl,
    )


async def make_directories(
    context: MetaContext,
    tx: Transaction,
    bucket_id: int,
    directories: Sequence[bytes],
    owner: Owner,
    *,
    versioned: bool,
) -> int:
    """Follow *directories*, making those that are missing as implicit ones; return the last one's
    inode id. *versioned*: the bucket was versioned once, so hidden ones come back."""
    directory_id = bucket_id
    for name in directories:
        entry = await find_entry(tx, directory_id, name + b"/")
        if entry is None:
            hidden = await find_hidden(tx, directory_id, name) if versioned else None
            if hidden is None:
                inode = await _new_directory(context, tx, bucket_id, directory_id, name, owner)
                _enter(context, tx, inode)
            else:
                inode = await find_inode(tx, hidden)
                show(context, tx, inode)
            directory_id = inode.inode_id
        else:
            directory_id = entry.inode_id
    return directory_id


async def make_any_directories(
    context: MetaContext, tx: Transaction, bucket_id: int, directories: Sequence[bytes]
) -> int:
    """Follow *directories*, making those that are missing as hidden ones: for a delete marker of a
    key that never was."""
    directory_id = bucket_id
    for name in directories:
        found = await find_any_directory(tx, directory_id, [name])
        if found is None:
            inode = await _new_directory(context, tx, bucket_id, directory_id, name, Owner())
            _hide(context, tx, inode)
            found = inode.inode_id
        directory_id = found
    return directory_id


def _enter(context: MetaContext, tx: Transaction, directory: Inode) -> None:
    """Write an implicit directory and its entry."""
    put_inode(tx, directory)
    entry = Entry(directory.inode_id, InodeType.DIRECTORY, 0)
    put_entry(tx, directory.parent_id, directory.name + b"/", entry)
    context.touch_directory(tx, directory.parent_id)
    context.tell_entry(tx, directory.parent_id, directory.name, directory.inode_id)


def show(context: MetaContext, tx: Transaction, directory: Inode) -> Inode:
    """Bring a hidden folder back, for a name that is added to it in this transaction."""
    tx.clear(hidden_folder_key(directory.parent_id, directory.name))
    directory = msgspec.structs.replace(directory, noncurrent=False)
    _enter(context, tx, directory)
    return directory


async def show_all(context: MetaContext, tx: Transaction, directory_id: int) -> None:
    """Bring a folder and those above it back, as far as they are hidden."""
    directory = await find_inode(tx, directory_id)
    while directory.noncurrent:
        show(context, tx, directory)
        directory = await find_inode(tx, directory.parent_id)


def _hide(context: MetaContext, tx: Transaction, directory: Inode) -> None:
    put_inode(tx, msgspec.structs.replace(directory, noncurrent=True, explicit=False))
    record = VersionRecord(directory.inode_id, InodeType.DIRECTORY, False, context.now_ns())
    tx.set(hidden_folder_key(directory.parent_id, directory.name), encode(record))


async def leave_directory(
    context: MetaContext, tx: Transaction, directory: Inode, *, versioned: bool
) -> None:
    """A directory without entries gives up its name: it is gone, or hidden while it holds
    versions."""
    if versioned and await has_versions(tx, directory.inode_id):
        _hide(context, tx, directory)
    else:
        clear_directory(tx, directory.inode_id, directory.quota_ids)
    await remove_entry(tx, directory.parent_id, directory.name + b"/")
    context.touch_directory(tx, directory.parent_id)
    context.tell_entry(tx, directory.parent_id, directory.name, directory.inode_id)


def clear_directory(tx: Transaction, directory_id: int, quota_ids: tuple[int, ...] = ()) -> None:
    """Forget an empty directory's inode, and its quota if it has one (*quota_ids* are its own)."""
    if quota_ids[:1] == (directory_id,):
        clear_limits(tx, Account(AccountKind.DIRECTORY, directory_id))
    tx.clear_range(*xattr_range(directory_id))
    tx.clear(inode_key(directory_id))
    tx.clear(directory_time_key(directory_id))


async def prune(
    context: MetaContext, tx: Transaction, directory_id: int, bucket_id: int, *, versioned: bool
) -> None:
    """Remove *directory_id* and those above it as long as they are implicit and empty; hide those
    that still hold versions."""
    while directory_id != bucket_id:
        directory = await find_inode(tx, directory_id)
        if directory.explicit or not await is_empty(tx, directory_id):
            return
        if not directory.noncurrent:
            await leave_directory(context, tx, directory, versioned=versioned)
        elif await has_versions(tx, directory_id):
            return
        else:
            tx.clear(hidden_folder_key(directory.parent_id, directory.name))
            clear_directory(tx, directory_id, directory.quota_ids)
        directory_id = directory.parent_id


async def prune_all(
    context: MetaContext, tx: Transaction, directory_ids: Iterable[int], bucket: Bucket
) -> None:
    """``prune`` for many folders, after all that was to be removed from them is."""
    versioned = bucket.versioning is not Versioning.NEVER
    for directory_id in directory_ids:
        if await tx.get(inode_key(directory_id)) is not None:  # else it went with one below it
            await prune(context, tx, directory_id, bucket.inode_id, versioned=versioned)


async def make_explicit(tx: Transaction, directory: Inode, *, explicit: bool = True) -> None:
    """Change whether a directory persists when it is empty."""
    if directory.explicit == explicit or directory.parent_id == 0:
        return
    put_inode(tx, msgspec.structs.replace(directory, explicit=explicit))
    flags = ENTRY_EXPLICIT if explicit else 0
    put_entry(
        tx,
        directory.parent_id,
        directory.name + b"/",
        Entry(directory.inode_id, InodeType.DIRECTORY, flags),
    )


async def keep_if_emptied(tx: Transaction, directory_id: int) -> None:
    """A POSIX call took a name from the directory: if that was the last, it is explicit from now
    on, so that it neither vanishes nor is a common prefix without a key."""
    directory = await find_inode(tx, directory_id)
    if not directory.explicit and await is_empty(tx, directory_id):
        await make_explicit(tx, directory)
