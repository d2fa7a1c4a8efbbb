"""Versions inside a transaction: what becomes of an object that is replaced or deleted.

The rules (docs/decisions/0008-versions.md):

* The current object of a name is its directory entry. Noncurrent versions and delete markers are
  records of letter ``w``, newest first; all are older than the entry.
* A name without an entry has records only if the newest is a delete marker. So whoever takes the
  entry away leaves a marker or brings the newest version back.
* A noncurrent version has an inode of its own (``Inode.noncurrent``): of a file with several names
  the version of the name that goes is a copy by reference.
* At most one version of a name is the null version; if it is a record, letter ``z`` knows it.
* A bucket that was never versioned has no records, and nobody looks for any.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .accounts import holder_of
from .charges import count_file, need_room
from .context import MetaContext
from .folders import show_all
from .locks import check_unlocked
from .records import Bucket, DeleteOutcome, Inode, InodeType, NewContent, Versioning
from .schema import (
    ENTRY_NULL,
    Entry,
    VersionRecord,
    bucket_key,
    decode_bucket,
    decode_inode,
    decode_version,
    encode,
    inline_key,
    inode_key,
    null_version_key,
    pack_number,
    part_sizes_range,
    sequence_of,
    unpack_number,
    version_key,
    versions_prefix,
    xattr_range,
)
from .segments import References
from .tree import (
    all_extents,
    changed,
    drop_link,
    find_entry,
    find_inode,
    forget,
    put_entry,
    put_inode,
    remove_entry,
    set_extents,
)
from .version_ids import version_id


class Slot(NamedTuple):
    """A name of objects in a directory."""

    versioning: Versioning
    directory_id: int
    name: bytes
    """As stored: no slash."""


class Row(NamedTuple):
    """A noncurrent version or delete marker of a slot."""

    sequence: int
    record: VersionRecord

    @property
    def is_marker(self) -> bool:
        return self.record.inode_id == 0

    @property
    def version_id(self) -> str:
        return version_id(self.sequence, is_null=self.record.is_null)


async def bucket_by_id(tx: ReadTransaction, bucket_id: int) -> Bucket:
    """The record of a bucket, by its inode."""
    value = await tx.get(inode_key(bucket_id))
    assert value is not None, f"bucket {bucket_id:x} has inodes"
    record = await tx.get(bucket_key(decode_inode(value).name.decode()))
    assert record is not None, f"bucket {bucket_id:x} has a name"
    return decode_bucket(record)


async def versioning_of(tx: ReadTransaction, bucket_id: int) -> Versioning:
    """Whether a bucket keeps versions now."""
    return (await bucket_by_id(tx, bucket_id)).versioning


def entry_version_id(entry: Entry) -> str:
    """The version id of a current object."""
    return version_id(entry.sequence, is_null=entry.is_null)


async def newest_row(tx: ReadTransaction, slot: Slot) -> Row | None:
    """The newest record of the slot."""
    own = versions_prefix(slot.directory_id, slot.name)
    rows = await tx.get_range(own, prefix_end(own), limit=1)
    return Row(sequence_of(rows[0][0]), decode_version(rows[0][1])) if rows else None


async def find_row(tx: ReadTransaction, slot: Slot, sequence: int | None) -> Row | None:
    """The record of a sequence, or of the null version (None)."""
    wants_null = sequence is None
    if sequence is None:
        value = await tx.get(null_version_key(slot.directory_id, slot.name))
        if value is None:
            return None
        sequence = unpack_number(value)
    value = await tx.get(version_key(slot.directory_id, slot.name, sequence))
    if value is None:
        return None
    row = Row(sequence, decode_version(value))
    return row if row.record.is_null == wants_null else None


def is_version(entry: Entry, sequence: int | None) -> bool:
    """Whether the entry is the version of *sequence*, or the null version (None)."""
    return entry.is_null if sequence is None else entry.sequence == sequence and not entry.is_null


async def next_sequence(
    context: MetaContext, tx: ReadTransaction, slot: Slot, old: Entry | None
) -> int:
    """A sequence above all of the slot's; *old* is its entry. By the clock, so that a name that is
    removed for good and made again has new ids."""
    if old is not None:
        newest = old.sequence
    else:
        row = await newest_row(tx, slot)
        newest = 0 if row is None else row.sequence
    return max(context.now_ns(), newest + 1)


def _put_row(tx: Transaction, slot: Slot, row: Row) -> None:
    tx.set(version_key(slot.directory_id, slot.name, row.sequence), encode(row.record))
    if row.record.is_null:
        tx.set(null_version_key(slot.directory_id, slot.name), pack_number(row.sequence))


def _clear_row(tx: Transaction, slot: Slot, row: Row) -> None:
    tx.clear(version_key(slot.directory_id, slot.name, row.sequence))
    if row.record.is_null:
        tx.clear(null_version_key(slot.directory_id, slot.name))


def discard(context: MetaContext, tx: Transaction, inode: Inode) -> None:
    """A noncurrent version is removed for good."""
    forget(context, tx, msgspec.structs.replace(inode, noncurrent=False))


async def _keep(
    context: MetaContext, tx: Transaction, slot: Slot, entry: Entry, inode: Inode
) -> None:
    """The current version becomes a noncurrent one."""
    if inode.nlink > 1:
        kept = await _copied(context, tx, inode)
        await drop_link(context, tx, inode)
    else:
        kept = changed(context, tx, msgspec.structs.replace(inode, nlink=0, noncurrent=True))
    record = VersionRecord(kept.inode_id, kept.type, entry.is_null, context.now_ns())
    _put_row(tx, slot, Row(entry.sequence, record))


async def _copied(context: MetaContext, tx: Transaction, inode: Inode) -> Inode:
    """A noncurrent copy of a file that goes on under other names."""
    copy = msgspec.structs.replace(
        inode, inode_id=context.draw_id(), nlink=0, noncurrent=True, extent_pages=0
    )
    for own, others in ((part_sizes_range, b"o"), (xattr_range, b"a")):
        for key, value in await tx.get_range(*own(inode.inode_id)):
            tx.set(others + pack_number(copy.inode_id) + key[9:], value)
    content = await content_of(tx, inode)
    if content.extents:
        copy = set_extents(tx, copy, content.extents)
        await References().gain(content.extents).apply(context, tx)
    elif content.inline_data is not None and inode.inline:
        tx.set(inline_key(copy.inode_id), content.inline_data)
    put_inode(tx, copy)
    count_file(tx, copy, copy.size, 1)
    return copy


async def content_of(tx: ReadTransaction, source: Inode) -> NewContent:
    """What a copy of *source* refers to."""
    if source.type is InodeType.SYMLINK:
        return NewContent(source.size, source.symlink_target)
    if source.type != InodeType.FILE:
        return NewContent(0, b"")
    if source.inline:
        data = await tx.get(inline_key(source.inode_id))
        return NewContent(source.size, data or b"")
    return NewContent(source.size, None, await all_extents(tx, source))


async def supersede(
    context: MetaContext,
    tx: Transaction,
    slot: Slot,
    entry: Entry | None,
    inode: Inode | None = None,
) -> None:
    """*entry* (of *inode*, if that was read), the slot's current version, gives way to a new one or
    a marker, which the caller writes: it is kept, or dropped if it is replaced. Draws at most one
    id.

    Raises ObjectLockedError before anything is written.
    """
    if slot.versioning == Versioning.SUSPENDED:
        # The new one is the null version: it replaces the old null version, wherever that is.
        row = await find_row(tx, slot, None)
        if row is not None:
            await _remove_row(context, tx, slot, row)
    if entry is None:
        return
    if inode is None:
        inode = await find_inode(tx, entry.inode_id)
    if slot.versioning == Versioning.ENABLED or (
        slot.versioning == Versioning.SUSPENDED and not entry.is_null
    ):
        await _keep(context, tx, slot, entry, inode)
        return
    check_unlocked(inode, context.now_ns())
    await drop_link(context, tx, inode)


async def _remove_row(
    context: MetaContext, tx: Transaction, slot: Slot, row: Row, *, bypass_governance: bool = False
) -> None:
    if not row.is_marker:
        inode = await find_inode(tx, row.record.inode_id)
        check_unlocked(inode, context.now_ns(), bypass_governance=bypass_governance)
        discard(context, tx, inode)
    _clear_row(tx, slot, row)


async def enter(
    context: MetaContext,
    tx: Transaction,
    slot: Slot,
    inode: Inode,
    old: Entry | None,
    old_inode: Inode | None = None,
    *,
    replaces: bool = True,
) -> Entry:
    """Make *inode* the current version of the slot, in place of *old* (the entry there now).

    *replaces* False: *old* moves elsewhere. Draws at most one id. Raises ObjectLockedError.
    """
    sequence = flags = 0
    if slot.versioning != Versioning.NEVER:
        sequence = await next_sequence(context, tx, slot, old)
        flags = ENTRY_NULL if slot.versioning == Versioning.SUSPENDED else 0
    await supersede(context, tx, slot, old if replaces else None, old_inode)
    entry = Entry(inode.inode_id, inode.type, flags, sequence)
    put_entry(tx, slot.directory_id, slot.name, entry)
    return entry


async def renew(
    context: MetaContext, tx: Transaction, slot: Slot, entry: Entry, inode: Inode
) -> Entry:
    """The current object, *inode*, is about to grow by S3: what it is now is kept as a noncurrent
    version, a copy by reference, and it becomes a new version. Draws at most one id.

    Raises ObjectLockedError where nothing is kept.
    """
    if slot.versioning == Versioning.NEVER or (
        slot.versioning == Versioning.SUSPENDED and entry.is_null
    ):
        check_unlocked(inode, context.now_ns())
        return entry
    sequence = await next_sequence(context, tx, slot, entry)
    await supersede(context, tx, slot, None)
    kept = await _copied(context, tx, inode)
    await need_room(context, tx, holder_of(kept), kept.size, 1)
    record = VersionRecord(kept.inode_id, kept.type, entry.is_null, context.now_ns())
    _put_row(tx, slot, Row(entry.sequence, record))
    flags = ENTRY_NULL if slot.versioning == Versioning.SUSPENDED else 0
    entry = Entry(inode.inode_id, inode.type, flags, sequence)
    put_entry(tx, slot.directory_id, slot.name, entry)
    return entry


async def mark_deleted(
    context: MetaContext,
    tx: Transaction,
    slot: Slot,
    entry: Entry | None,
    inode: Inode | None = None,
) -> Row:
    """Put a delete marker in front of a slot of a versioned bucket, whose current version was
    *entry*. The caller removes the entry itself."""
    sequence = await next_sequence(context, tx, slot, entry)
    await supersede(context, tx, slot, entry, inode)
    is_null = slot.versioning == Versioning.SUSPENDED
    row = Row(sequence, VersionRecord(0, 0, is_null, context.now_ns()))
    _put_row(tx, slot, row)
    return row


async def moved_away(context: MetaContext, tx: Transaction, slot: Slot, entry: Entry) -> Row | None:
    """The current version took another name: what stays behind is deleted, not current. Returns the
    delete marker; None: nothing stays behind."""
    if slot.versioning == Versioning.NEVER or await newest_row(tx, slot) is None:
        return None
    sequence = await next_sequence(context, tx, slot, entry)
    await supersede(context, tx, slot, None)
    is_null = slot.versioning == Versioning.SUSPENDED
    row = Row(sequence, VersionRecord(0, 0, is_null, context.now_ns()))
    _put_row(tx, slot, row)
    return row


async def remove_version(
    context: MetaContext,
    tx: Transaction,
    slot: Slot,
    sequence: int | None,
    *,
    bypass_governance: bool = False,
) -> DeleteOutcome | None:
    """Remove a version for good; the next one becomes current, if it is not a marker. None if there
    is no such version. Raises ObjectLockedError."""
    entry = await find_entry(tx, slot.directory_id, slot.name)
    if entry is not None and is_version(entry, sequence):
        inode = await find_inode(tx, entry.inode_id)
        check_unlocked(inode, context.now_ns(), bypass_governance=bypass_governance)
        await drop_link(context, tx, inode)
        await remove_entry(tx, slot.directory_id, slot.name)
        _told(context, tx, slot, entry.inode_id)
        await promote(context, tx, slot)
        return DeleteOutcome(True, entry_version_id(entry))
    row = await find_row(tx, slot, sequence)
    if row is None:
        return None
    await _remove_row(context, tx, slot, row, bypass_governance=bypass_governance)
    if entry is None and row.is_marker:
        await promote(context, tx, slot)
    return DeleteOutcome(True, row.version_id, row.is_marker)


async def promote(context: MetaContext, tx: Transaction, slot: Slot) -> None:
    """The slot has no entry: its newest version becomes current, unless a marker is newest."""
    row = await newest_row(tx, slot)
    if row is None or row.is_marker:
        return
    _clear_row(tx, slot, row)
    inode = await find_inode(tx, row.record.inode_id)
    inode = msgspec.structs.replace(
        inode, nlink=1, noncurrent=False, folder_id=slot.directory_id, file_name=slot.name
    )
    changed(context, tx, inode)
    flags = ENTRY_NULL if row.record.is_null and row.sequence else 0
    await show_all(context, tx, slot.directory_id)
    entry = Entry(inode.inode_id, inode.type, flags, row.sequence)
    put_entry(tx, slot.directory_id, slot.name, entry)
    _told(context, tx, slot, inode.inode_id)


def _told(context: MetaContext, tx: Transaction, slot: Slot, inode_id: int) -> None:
    context.touch_directory(tx, slot.directory_id)
    context.tell_entry(tx, slot.directory_id, slot.name, inode_id)
