"""Objects by key: read, put, copy, delete. Rules in docs/architecture.md and
docs/decisions/0004-namespace.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..errors import CallerError, ConflictError, NotFoundError
from ..kv.store import ReadTransaction, Transaction
from .conditions import check_conditions
from .context import MetaContext
from .records import (
    NO_CONDITIONS,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    ObjectView,
    Owner,
    PartSize,
    PutResult,
    WriteConditions,
)
from .schema import (
    Entry,
    decode_entry,
    decode_inode,
    decode_part_sizes,
    directory_prefix,
    inline_key,
    inode_key,
    part_sizes_key,
    part_sizes_range,
)
from .tree import (
    all_extents,
    drop_link,
    find_bucket,
    find_directory,
    find_entry,
    find_inode,
    make_directories,
    make_explicit,
    make_object_inode,
    prune,
    put_entry,
    put_inode,
    remove_entry,
    split_key,
)

DELETES_PER_TRANSACTION = 250  # each writes a handful of keys: far from the transaction's limits


def missing(bucket: str, key: bytes) -> NotFoundError:
    """The error for an absent object."""
    return NotFoundError(f"object {bucket}/{key.decode(errors='replace')}: does not exist")


async def find_object(tx: ReadTransaction, bucket: str, key: bytes) -> Inode:
    """The object's inode; for ``dir/`` of an explicit directory without content, the directory's.

    Raises BucketNotFoundError, NotFoundError.
    """
    directories, name = split_key(key)
    bucket_id = (await find_bucket(tx, bucket)).inode_id
    directory_id = await find_directory(tx, bucket_id, directories)
    if directory_id is None:
        raise missing(bucket, key)
    value = await tx.get(directory_prefix(directory_id) + name)
    if value is None:
        if name == b"" and directories:
            directory = await find_inode(tx, directory_id)
            if directory.explicit:
                return directory
        raise missing(bucket, key)
    record = await tx.get(inode_key(decode_entry(value).inode_id))
    if record is None:
        raise missing(bucket, key)
    return decode_inode(record)


class Place(NamedTuple):
    """Where an object is about to be put."""

    bucket_id: int
    directory_id: int
    name: bytes
    in_folder: bool
    old: Inode | None
    """What is there now, if it has an entry."""


async def find_place(
    context: MetaContext,
    tx: Transaction,
    bucket_id: int,
    key: bytes,
    owner: Owner,
    conditions: WriteConditions,
    what: str,
) -> Place:
    """The place of *key*, its folders made, the conditions checked: before anything else is
    written, since reads are cheaper then. Raises PreconditionFailedError, NotFoundError."""
    directories, name = split_key(key)
    directory_id = await make_directories(context, tx, bucket_id, directories, owner)
    entry = await find_entry(tx, directory_id, name)
    old = None if entry is None else await find_inode(tx, entry.inode_id)
    present = old
    in_folder = bool(directories)
    if old is None and name == b"" and in_folder:
        directory = await find_inode(tx, directory_id)
        present = directory if directory.explicit else None
    if conditions is not NO_CONDITIONS:
        check_conditions(conditions, present, what)
    return Place(bucket_id, directory_id, name, in_folder, old)


async def swap_object(context: MetaContext, tx: Transaction, place: Place, inode: Inode) -> bool:
    """Put *inode* (already written) at *place*; return whether it replaced another."""
    put_entry(tx, place.directory_id, place.name, Entry(inode.inode_id, inode.type, 0))
    if place.name == b"" and place.in_folder:
        await make_explicit(tx, await find_inode(tx, place.directory_id))
    if place.old is not None:
        await drop_link(context, tx, place.old)
    context.count(tx, place.bucket_id, inode.size, 1)
    context.touch_directory(tx, place.directory_id)
    context.tell_entry(tx, place.directory_id, place.name, inode.inode_id)
    return place.old is not None


async def remove_object(
    context: MetaContext,
    tx: Transaction,
    bucket: str,
    bucket_id: int,
    key: bytes,
    conditions: WriteConditions,
) -> bool:
    """Remove *key* inside *tx*; return whether there was one."""
    what = f"object {bucket}/{key.decode(errors='replace')}"
    directories, name = split_key(key)
    directory_id = await find_directory(tx, bucket_id, directories)
    entry = None if directory_id is None else await find_entry(tx, directory_id, name)
    old = None if entry is None else await find_inode(tx, entry.inode_id)
    directory = None
    if directory_id is not None and name == b"" and directories:
        directory = await find_inode(tx, directory_id)
        if old is None and not directory.explicit:
            directory = None
    check_conditions(conditions, old or directory, what)
    if directory_id is None or (old is None and directory is None):
        return False
    if directory is not None:
        await make_explicit(tx, directory, explicit=False)
    if old is not None:
        await remove_entry(tx, directory_id, name)
        await drop_link(context, tx, old)
        context.touch_directory(tx, directory_id)
        context.tell_entry(tx, directory_id, name, old.inode_id)
    await prune(context, tx, directory_id, bucket_id)
    return True


class Objects:
    """The object calls of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def get_object(self, bucket: str, key: bytes, *, with_data: bool = True) -> ObjectView:
        """Inode and inline bytes."""

        async def read(tx: ReadTransaction) -> ObjectView:
            inode = await find_object(tx, bucket, key)
            data = None
            if with_data and inode.inline:
                data = await tx.get(inline_key(inode.inode_id))
            return ObjectView(key, inode, data)

        return await self._context.kv.read(read)

    async def put_object(
        self,
        bucket: str,
        key: bytes,
        content: NewContent,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Make an inode and swap it under the key."""
        context = self._context
        ids = key.count(b"/") + 1
        what = f"object {bucket}/{key.decode(errors='replace')}"

        async def put(tx: Transaction) -> PutResult:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            place = await find_place(context, tx, bucket_id, key, owner, conditions, what)
            inode = await make_object_inode(context, tx, bucket_id, content, attributes, owner)
            replaced = await swap_object(context, tx, place, inode)
            return PutResult(inode, replaced)

        return await context.transact(put, ids=ids)

    async def copy_object(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        owner: Owner,
        *,
        attributes: ObjectAttributes | None,
        source_generation: tuple[int, int] | None,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Copy by reference."""
        context = self._context
        ids = key.count(b"/") + 1
        what = f"object {bucket}/{key.decode(errors='replace')}"

        async def copy(tx: Transaction) -> PutResult:
            source = await find_object(tx, source_bucket, source_key)
            if source_generation not in (None, (source.inode_id, source.generation)):
                raise ConflictError(f"{source_bucket}/{source_key!r}: changed while it was copied")
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            place = await find_place(context, tx, bucket_id, key, owner, conditions, what)
            content = await _content_of(tx, source)
            inode = await make_object_inode(
                context, tx, bucket_id, content, _copied_attributes(source, attributes), owner
            )
            if inode.object is not None and inode.object.part_count:
                for number, value in await tx.get_range(*part_sizes_range(source.inode_id)):
                    page = int.from_bytes(number[-4:], "big")
                    tx.set(part_sizes_key(inode.inode_id, page), value)
            replaced = await swap_object(context, tx, place, inode)
            return PutResult(inode, replaced)

        return await context.transact(copy, ids=ids)

    async def delete_object(
        self, bucket: str, key: bytes, *, conditions: WriteConditions = NO_CONDITIONS
    ) -> bool:
        """Remove a key."""
        context = self._context

        async def delete(tx: Transaction) -> bool:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            return await remove_object(context, tx, bucket, bucket_id, key, conditions)

        return await context.kv.transact(delete)

    async def delete_objects(
        self, bucket: str, keys: Sequence[tuple[bytes, WriteConditions]]
    ) -> list[Exception | None]:
        """Remove many keys, DELETES_PER_TRANSACTION at a time."""
        context = self._context
        outcomes: list[Exception | None] = []

        for start in range(0, max(1, len(keys)), DELETES_PER_TRANSACTION):
            group = keys[start : start + DELETES_PER_TRANSACTION]

            async def delete(
                tx: Transaction, group: Sequence[tuple[bytes, WriteConditions]] = group
            ) -> list[Exception | None]:
                bucket_id = (await find_bucket(tx, bucket)).inode_id
                found: list[Exception | None] = []
                for key, conditions in group:
                    try:
                        await remove_object(context, tx, bucket, bucket_id, key, conditions)
                        found.append(None)
                    except CallerError as error:
                        # Conditions are checked before anything is written for the key; other
                        # errors are the transaction's, not the key's.
                        found.append(error)
                return found

            outcomes += await context.kv.transact(delete)
        return outcomes

    async def set_object_attributes(
        self, bucket: str, key: bytes, inode_id: int, attributes: ObjectAttributes
    ) -> Inode:
        """Replace an object's attributes; its content, etag and times stay."""
        context = self._context

        async def change(tx: Transaction) -> Inode:
            inode = await find_object(tx, bucket, key)
            if inode.inode_id != inode_id:
                raise ConflictError(f"object {bucket}/{key!r}: was replaced meanwhile")
            inode = msgspec.structs.replace(inode, object=attributes, ctime_ns=context.now_ns())
            put_inode(tx, inode)
            context.tell_inode(tx, inode_id)
            return inode

        return await context.kv.transact(change)

    async def object_parts(self, inode: Inode) -> tuple[PartSize, ...]:
        """Part sizes of a multipart object whose content is still the uploaded one."""
        attributes = inode.object
        if attributes is None or attributes.etag_generation != inode.generation:
            return ()
        if not attributes.part_count:
            return ()

        async def read(tx: ReadTransaction) -> tuple[PartSize, ...]:
            rows = await tx.get_range(*part_sizes_range(inode.inode_id))
            return tuple(part for _, value in rows for part in decode_part_sizes(value))

        return await self._context.kv.read(read)


async def _content_of(tx: ReadTransaction, source: Inode) -> NewContent:
    if source.type != InodeType.FILE:
        return NewContent(0, b"")
    if source.inline:
        data = await tx.get(inline_key(source.inode_id))
        return NewContent(source.size, data or b"")
    return NewContent(source.size, None, await all_extents(tx, source))


def _copied_attributes(source: Inode, given: ObjectAttributes | None) -> ObjectAttributes:
    """The attributes of a copy: etag and checksums of the source only while they describe its
    content."""
    kept = source.object or ObjectAttributes()
    if kept.etag_generation != source.generation:
        kept = msgspec.structs.replace(kept, etag="", checksums={}, checksum_type="", part_count=0)
    if given is None:
        return kept
    if given.etag or given.checksums:
        return given
    return msgspec.structs.replace(
        kept,
        headers=given.headers,
        metadata=given.metadata,
        tags=given.tags,
        storage_class=given.storage_class,
    )
