"""Steps inside a transaction: entries, paths, inodes, and what goes with making and losing them.

Concurrency: whoever adds an entry to a directory has read that directory's own entry; whoever
removes a directory has read its whole range as empty. So one of two such transactions conflicts,
and nothing is ever added to a directory that is gone. Adding entries to one directory at once
conflicts only for the same name.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import (
    BucketNotFoundError,
    LimitExceededError,
    NameTooLongError,
    StaleHandleError,
)
from ..kv.store import ReadTransaction, Transaction
from ..limits import EXTENTS_INLINE_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX
from .charges import count_file
from .context import MetaContext
from .names import digest_of
from .records import Bucket, Extent, Inode, InodeType, NewContent, ObjectAttributes, Owner
from .schema import (
    Entry,
    RemovalRecord,
    bucket_key,
    decode_bucket,
    decode_entry,
    decode_extents,
    decode_inode,
    decode_inodes,
    directory_end,
    directory_prefix,
    directory_time_key,
    encode,
    encode_entry,
    extents_key,
    extents_range,
    inline_key,
    inode_key,
    long_name_key,
    unpack_number,
)
from .segments import References

LONG_NAME_BYTES = NAME_BYTES_MAX // 4  # escapes may triple a name: whatever could need a digest
EXTENTS_PER_PAGE = 1000  # about 40 bytes each: well under the limit of a value


async def find_bucket(tx: ReadTransaction, name: str) -> Bucket:
    """The bucket. Raises BucketNotFoundError."""
    value = await tx.get(bucket_key(name))
    if value is None:
        raise BucketNotFoundError(f"bucket {name}: does not exist")
    return decode_bucket(value)


async def find_inode(tx: ReadTransaction, inode_id: int) -> Inode:
    """The inode, a directory's times merged in. Raises StaleHandleError."""
    value = await tx.get(inode_key(inode_id))
    if value is None:
        raise StaleHandleError(f"inode {inode_id:x}: is gone")
    inode = decode_inode(value)
    if inode.type == InodeType.DIRECTORY:
        return with_directory_time(inode, await tx.get(directory_time_key(inode_id), snapshot=True))
    return inode


def with_directory_time(inode: Inode, value: bytes | None) -> Inode:
    """A directory's inode with the time of its last change of entries."""
    if value is None:
        return inode
    time_ns = unpack_number(value)
    return msgspec.structs.replace(inode, mtime_ns=time_ns, ctime_ns=max(inode.ctime_ns, time_ns))


async def find_entry(tx: ReadTransaction, directory_id: int, stored_name: bytes) -> Entry | None:
    """The entry of *stored_name* (with a directory's slash)."""
    value = await tx.get(directory_prefix(directory_id) + stored_name)
    return None if value is None else decode_entry(value)


def put_entry(tx: Transaction, directory_id: int, stored_name: bytes, entry: Entry) -> None:
    """Write an entry, and for a long name the way back from its digest."""
    tx.set(directory_prefix(directory_id) + stored_name, encode_entry(entry))
    name = stored_name.removesuffix(b"/")
    if len(name) > LONG_NAME_BYTES:
        tx.set(long_name_key(directory_id, digest_of(name)), name)


async def remove_entry(tx: Transaction, directory_id: int, stored_name: bytes) -> None:
    """Clear an entry, and a long name's digest unless the name's other form still needs it."""
    tx.clear(directory_prefix(directory_id) + stored_name)
    name = stored_name.removesuffix(b"/")
    if len(name) > LONG_NAME_BYTES:
        other = name if stored_name.endswith(b"/") else name + b"/"
        if await find_entry(tx, directory_id, other) is None:
            tx.clear(long_name_key(directory_id, digest_of(name)))


def split_key(key: bytes) -> tuple[Sequence[bytes], bytes]:
    """(directory names, last name) of an object key. Raises NameTooLongError."""
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise NameTooLongError(f"a key of {len(key)} bytes; expected 1 to {KEY_BYTES_MAX}")
    *directories, last = key.split(b"/")
    return directories, last


def new_inode(
    context: MetaContext,
    kind: InodeType,
    *,
    mode: int,
    uid: int,
    gid: int,
    bucket_id: int,
    size: int = 0,
    parent_id: int = 0,
    name: bytes = b"",
    explicit: bool = True,
    quota_ids: tuple[int, ...] = (),
    access_acl: bytes = b"",
    default_acl: bytes = b"",
) -> Inode:
    """A new inode with a fresh id and the present time."""
    now = context.now_ns()
    return Inode(
        context.draw_id(),
        kind,
        mode & 0o7777,
        uid,
        gid,
        1,
        size,
        now,
        now,
        now,
        now,
        parent_id=parent_id,
        name=name,
        explicit=explicit,
        bucket_id=bucket_id,
        quota_ids=quota_ids,
        access_acl=access_acl,
        default_acl=default_acl,
    )


def put_inode(tx: Transaction, inode: Inode) -> None:
    """Write an inode record."""
    tx.set(inode_key(inode.inode_id), encode(inode))


def set_extents(tx: Transaction, inode: Inode, extents: Sequence[Extent]) -> Inode:
    """*inode* with *extents*, in its record or in pages beside it; the caller writes the record."""
    if inode.extent_pages:
        tx.clear_range(*extents_range(inode.inode_id))
    if len(extents) <= EXTENTS_INLINE_MAX:
        return msgspec.structs.replace(inode, extents=tuple(extents), extent_pages=0, inline=False)
    pages = 0
    for start in range(0, len(extents), EXTENTS_PER_PAGE):
        page = tuple(extents[start : start + EXTENTS_PER_PAGE])
        tx.set(extents_key(inode.inode_id, pages), encode(page))
        pages += 1
    return msgspec.structs.replace(inode, extents=(), extent_pages=pages, inline=False)


async def all_extents(tx: ReadTransaction, inode: Inode) -> tuple[Extent, ...]:
    """All extents of *inode*."""
    if not inode.extent_pages:
        return inode.extents
    pages = await tx.get_range(*extents_range(inode.inode_id))
    if len(pages) != inode.extent_pages:
        raise StaleHandleError(f"inode {inode.inode_id:x}: its extents have changed")
    return tuple(extent for _, value in pages for extent in decode_extents(value))


async def make_object_inode(
    context: MetaContext,
    tx: Transaction,
    bucket_id: int,
    content: NewContent,
    attributes: ObjectAttributes,
    owner: Owner,
    *,
    folder_id: int,
    name: bytes,
    quota_ids: tuple[int, ...] = (),
    holders: Sequence[Sequence[Extent]] = (),
) -> Inode:
    """Write a new file inode with *content*, counting one more reference to its segments. It is to
    have the stored *name* in a folder.

    *holders*: extents of parts that give way to the inode; their references end.
    """
    inode = new_inode(
        context,
        InodeType.FILE,
        mode=owner.file_mode,
        uid=owner.uid,
        gid=owner.gid,
        bucket_id=bucket_id,
        size=content.size,
        quota_ids=quota_ids,
        access_acl=owner.file_acl,
    )
    inode = msgspec.structs.replace(
        inode,
        object=msgspec.structs.replace(attributes, etag_generation=0),
        folder_id=folder_id,
        file_name=name,
    )
    if content.inline_data is not None:
        assert attributes.encryption or content.size >= len(content.inline_data)
        inode = msgspec.structs.replace(inode, inline=True)
        tx.set(inline_key(inode.inode_id), content.inline_data)
    elif content.extents:
        inode = set_extents(tx, inode, content.extents)
    references = References().gain(content.extents)
    for extents in holders:
        references.lose(extents)
    await references.apply(context, tx)
    put_inode(tx, inode)
    return inode


async def is_empty(tx: ReadTransaction, directory_id: int) -> bool:
    """Whether the directory has no entries; conflicts with whoever adds one."""
    found = await tx.get_range(directory_prefix(directory_id), directory_end(directory_id), limit=1)
    return not found


async def drop_link(context: MetaContext, tx: Transaction, inode: Inode) -> Inode:
    """A name of a file is gone: lower its count, and with the last one put it in the removal
    queue."""
    inode = msgspec.structs.replace(inode, nlink=inode.nlink - 1)
    return forget(context, tx, inode) if inode.nlink == 0 else changed(context, tx, inode)


def changed(context: MetaContext, tx: Transaction, inode: Inode) -> Inode:
    """Write *inode* with the present time as that of its last change."""
    inode = msgspec.structs.replace(inode, ctime_ns=context.now_ns())
    put_inode(tx, inode)
    context.tell_inode(tx, inode.inode_id)
    return inode


def forget(context: MetaContext, tx: Transaction, inode: Inode) -> Inode:
    """Nothing leads to *inode* any more: queue it for removal."""
    due = context.now_ns() + context.removal_grace_ns
    tx.set(context.next_removal_key(due), encode(RemovalRecord(inode.inode_id, 0, None, 0)))
    count_file(tx, inode, -inode.size, -1)
    return changed(context, tx, inode)


async def inodes_of(tx: ReadTransaction, inode_ids: Sequence[int]) -> list[Inode | None]:
    """The inodes, in order; None for one that is gone."""
    inodes = decode_inodes(await tx.get_many([inode_key(number) for number in inode_ids]))
    folders = [
        position
        for position, inode in enumerate(inodes)
        if inode is not None and inode.type is InodeType.DIRECTORY
    ]
    if folders:
        times = await tx.get_many(
            [directory_time_key(inode_ids[position]) for position in folders], snapshot=True
        )
        for position, time in zip(folders, times, strict=True):
            inode = inodes[position]
            assert inode is not None
            inodes[position] = with_directory_time(inode, time)
    return inodes


def check_size(size: int, limit: int) -> None:
    """Raise LimitExceededError if a file would be larger than *limit*."""
    if size > limit:
        raise LimitExceededError(f"a file of {size} bytes; the limit is {limit}")
