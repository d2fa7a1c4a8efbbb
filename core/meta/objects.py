"""Objects by key: read, put, copy, delete. Rules in docs/architecture.md and
docs/decisions/0004-namespace.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..errors import (
    CallerError,
    ConflictError,
    DeleteMarkerError,
    NotFoundError,
    VersionNotFoundError,
)
from ..kv.store import ReadTransaction, Transaction
from .bulk_deletes import BulkDeletion
from .conditions import check_conditions
from .context import MetaContext
from .folders import (
    find_any_directory,
    find_directory,
    make_any_directories,
    make_directories,
    make_explicit,
    prune,
    prune_all,
)
from .records import (
    NO_CONDITIONS,
    Bucket,
    DeleteOutcome,
    Deletion,
    Inode,
    NewContent,
    ObjectAttributes,
    ObjectView,
    Owner,
    PartSize,
    PutResult,
    Versioning,
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
    drop_link,
    find_bucket,
    find_entry,
    find_inode,
    make_object_inode,
    put_inode,
    remove_entry,
    split_key,
)
from .version_ids import NULL, parse_version_id
from .versions import (
    Slot,
    content_of,
    enter,
    entry_version_id,
    find_row,
    is_version,
    mark_deleted,
    newest_row,
    remove_version,
)

BULK_DELETES_PER_TRANSACTION = 1000
DELETES_PER_TRANSACTION = 250


def missing(bucket: str, key: bytes) -> NotFoundError:
    """The error for an absent object."""
    return NotFoundError(f"object {bucket}/{key.decode(errors='replace')}: does not exist")


class Found(NamedTuple):
    """A version of an object."""

    inode: Inode
    version_id: str
    """Empty if the bucket was never versioned."""


async def find_object(
    tx: ReadTransaction, bucket_name: str, key: bytes, version_id: str = ""
) -> Found:
    """The object's current version, or the one named; for ``dir/`` of an explicit directory without
    content, the directory.

    Raises BucketNotFoundError, NotFoundError, VersionNotFoundError, DeleteMarkerError,
    InvalidArgumentError.
    """
    directories, name = split_key(key)
    bucket = await find_bucket(tx, bucket_name)
    if version_id:
        return await _find_version(tx, bucket, key, version_id)
    directory_id = await find_directory(tx, bucket.inode_id, directories)
    versioned = bucket.versioning != Versioning.NEVER
    if directory_id is not None:
        value = await tx.get(directory_prefix(directory_id) + name)
        if value is not None:
            entry = decode_entry(value)
            record = await tx.get(inode_key(entry.inode_id))
            if record is None:
                raise missing(bucket_name, key)
            return Found(decode_inode(record), entry_version_id(entry) if versioned else "")
        if name == b"" and directories:
            directory = await find_inode(tx, directory_id)
            if directory.explicit:
                return Found(directory, NULL if versioned else "")
    if versioned:
        await _refuse_marker(tx, bucket, key)
    raise missing(bucket_name, key)


async def _refuse_marker(tx: ReadTransaction, bucket: Bucket, key: bytes) -> None:
    """Raise DeleteMarkerError if that is why *key* has no entry."""
    directories, name = split_key(key)
    directory_id = await find_any_directory(tx, bucket.inode_id, directories)
    if directory_id is None:
        return
    row = await newest_row(tx, Slot(bucket.versioning, directory_id, name))
    if row is not None:
        raise DeleteMarkerError(
            f"object {bucket.name}/{key.decode(errors='replace')}: is deleted",
            version_id=row.version_id,
            modified_ns=row.record.since_ns,
            named=False,
        )


async def _find_version(tx: ReadTransaction, bucket: Bucket, key: bytes, version_id: str) -> Found:
    """A version by its id; the null version of a bucket that was never versioned is the object."""
    sequence = parse_version_id(version_id)
    directories, name = split_key(key)
    directory_id = await find_any_directory(tx, bucket.inode_id, directories)
    if directory_id is not None:
        entry = await find_entry(tx, directory_id, name)
        if entry is not None and is_version(entry, sequence):
            return Found(await find_inode(tx, entry.inode_id), version_id)
        row = await find_row(tx, Slot(bucket.versioning, directory_id, name), sequence)
        if row is not None and row.is_marker:
            raise DeleteMarkerError(
                f"version {version_id}: is a delete marker",
                version_id=version_id,
                modified_ns=row.record.since_ns,
                named=True,
            )
        if row is not None:
            return Found(await find_inode(tx, row.record.inode_id), version_id)
        if entry is None and sequence is None and name == b"" and directories:
            directory = await find_inode(tx, directory_id)
            if directory.explicit:
                return Found(directory, version_id)
    raise VersionNotFoundError(
        f"object {bucket.name}/{key.decode(errors='replace')}: has no version {version_id}",
        version_id=version_id,
    )


class Place(NamedTuple):
    """Where an object is about to be put."""

    slot: Slot
    in_folder: bool
    entry: Entry | None
    """What is there now."""
    old: Inode | None


async def find_place(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    key: bytes,
    owner: Owner,
    conditions: WriteConditions,
    what: str,
) -> Place:
    """The place of *key*, its folders made, the conditions checked: before anything else is
    written, since reads are cheaper then. Raises PreconditionFailedError, NotFoundError."""
    directories, name = split_key(key)
    versioned = bucket.versioning != Versioning.NEVER
    directory_id = await make_directories(
        context, tx, bucket.inode_id, directories, owner, versioned=versioned
    )
    entry = await find_entry(tx, directory_id, name)
    old = None if entry is None else await find_inode(tx, entry.inode_id)
    present = old
    in_folder = bool(directories)
    if old is None and name == b"" and in_folder:
        directory = await find_inode(tx, directory_id)
        present = directory if directory.explicit else None
    if conditions is not NO_CONDITIONS:
        check_conditions(conditions, present, what)
    return Place(Slot(bucket.versioning, directory_id, name), in_folder, entry, old)


async def swap_object(
    context: MetaContext, tx: Transaction, place: Place, inode: Inode
) -> PutResult:
    """Put *inode* (already written) at *place*; what was there becomes a noncurrent version, or is
    gone. Draws at most one id."""
    slot = place.slot
    entry = await enter(context, tx, slot, inode, place.entry, place.old)
    if slot.name == b"" and place.in_folder:
        await make_explicit(tx, await find_inode(tx, slot.directory_id))
    context.count(tx, inode.bucket_id, inode.size, 1)
    context.touch_directory(tx, slot.directory_id)
    context.tell_entry(tx, slot.directory_id, slot.name, inode.inode_id)
    version_id = "" if slot.versioning == Versioning.NEVER else entry_version_id(entry)
    return PutResult(inode, place.entry is not None, version_id)


def ids_of_put(key: bytes) -> int:
    """How many ids putting or deleting *key* may draw: the folders, the object, and a copy of what
    it replaces."""
    return key.count(b"/") + 2


async def remove_object(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    deletion: Deletion,
    touched: set[int] | None = None,
) -> DeleteOutcome:
    """Carry *deletion* out inside *tx*. *touched* takes the folder, which the caller prunes after
    many deletions; None: it is pruned here. Raises PreconditionFailedError, NotFoundError (a
    condition asks for presence), ObjectLockedError, before anything is written for the key."""
    if deletion.version_id and deletion.version_id != NULL:
        parse_version_id(deletion.version_id)
    if bucket.versioning == Versioning.NEVER:
        if deletion.version_id not in ("", NULL):
            return DeleteOutcome(False, deletion.version_id)
    elif deletion.version_id:
        return await _remove_named(context, tx, bucket, deletion, touched)
    key = deletion.key
    directories, name = split_key(key)
    directory_id = await find_directory(tx, bucket.inode_id, directories)
    entry = None if directory_id is None else await find_entry(tx, directory_id, name)
    old = None if entry is None else await find_inode(tx, entry.inode_id)
    directory = None
    if directory_id is not None and name == b"" and directories:
        directory = await find_inode(tx, directory_id)
        if old is None and not directory.explicit:
            directory = None
    what = f"object {bucket.name}/{key.decode(errors='replace')}"
    check_conditions(deletion.conditions, old or directory, what)
    outcome = DeleteOutcome(old is not None or directory is not None, deletion.version_id)
    versioned = bucket.versioning != Versioning.NEVER
    if versioned:
        if directory_id is None:
            directory_id = await make_any_directories(context, tx, bucket.inode_id, directories)
        slot = Slot(bucket.versioning, directory_id, name)
        row = await mark_deleted(context, tx, slot, entry, old)
        outcome = DeleteOutcome(outcome.removed, row.version_id, True)
    elif directory_id is None or not outcome.removed:
        return outcome
    elif old is not None:
        await drop_link(context, tx, old)
    if directory is not None:
        await make_explicit(tx, directory, explicit=False)
    if old is not None:
        await remove_entry(tx, directory_id, name)
        context.touch_directory(tx, directory_id)
        context.tell_entry(tx, directory_id, name, old.inode_id)
    if touched is None:
        await prune(context, tx, directory_id, bucket.inode_id, versioned=versioned)
    else:
        touched.add(directory_id)
    return outcome


async def _remove_named(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    deletion: Deletion,
    touched: set[int] | None,
) -> DeleteOutcome:
    """Remove a version of an object of a versioned bucket for good; absent is no error."""
    sequence = parse_version_id(deletion.version_id)
    directories, name = split_key(deletion.key)
    if deletion.conditions is not NO_CONDITIONS:
        await _check_version(tx, bucket, deletion)
    nothing = DeleteOutcome(False, deletion.version_id)
    directory_id = await find_any_directory(tx, bucket.inode_id, directories)
    if directory_id is None:
        return nothing
    before = await find_entry(tx, directory_id, name)
    outcome = await remove_version(
        context,
        tx,
        Slot(bucket.versioning, directory_id, name),
        sequence,
        bypass_governance=deletion.bypass_governance,
    )
    if name == b"" and directories:
        # ``dir/``: the folder is explicit while that is current; one made by mkdir is its own null
        # version, while it has no content.
        directory = await find_inode(tx, directory_id)
        entry = await find_entry(tx, directory_id, name)
        if entry is None and directory.explicit and (sequence is None or before is not None):
            await make_explicit(tx, directory, explicit=False)
            outcome = outcome or DeleteOutcome(True, deletion.version_id)
        elif entry is not None and entry != before:
            await make_explicit(tx, directory)
    if outcome is None:
        return nothing
    if touched is None:
        await prune(context, tx, directory_id, bucket.inode_id, versioned=True)
    else:
        touched.add(directory_id)
    return outcome


async def _check_version(tx: ReadTransaction, bucket: Bucket, deletion: Deletion) -> None:
    """Check the conditions against the version named."""
    present: Inode | None = None
    try:
        found = await _find_version(tx, bucket, deletion.key, deletion.version_id)
        present = found.inode
    except NotFoundError:
        pass
    what = f"object {bucket.name}/{deletion.key.decode(errors='replace')}"
    check_conditions(deletion.conditions, present, what)


class Objects:
    """The object calls of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def get_object(
        self, bucket: str, key: bytes, *, version_id: str = "", with_data: bool = True
    ) -> ObjectView:
        """Inode and inline bytes."""

        async def read(tx: ReadTransaction) -> ObjectView:
            inode, found_id = await find_object(tx, bucket, key, version_id)
            data = None
            if with_data and inode.inline:
                data = await tx.get(inline_key(inode.inode_id))
            return ObjectView(key, inode, data, found_id)

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
        what = f"object {bucket}/{key.decode(errors='replace')}"

        async def put(tx: Transaction) -> PutResult:
            found = await find_bucket(tx, bucket)
            place = await find_place(context, tx, found, key, owner, conditions, what)
            inode = await make_object_inode(context, tx, found.inode_id, content, attributes, owner)
            return await swap_object(context, tx, place, inode)

        return await context.transact(put, ids=ids_of_put(key))

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
        source_version: str = "",
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Copy by reference."""
        context = self._context
        what = f"object {bucket}/{key.decode(errors='replace')}"

        async def copy(tx: Transaction) -> PutResult:
            source, _ = await find_object(tx, source_bucket, source_key, source_version)
            if source_generation not in (None, (source.inode_id, source.generation)):
                raise ConflictError(f"{source_bucket}/{source_key!r}: changed while it was copied")
            found = await find_bucket(tx, bucket)
            place = await find_place(context, tx, found, key, owner, conditions, what)
            content = await content_of(tx, source)
            given = _copied_attributes(source, attributes)
            inode = await make_object_inode(context, tx, found.inode_id, content, given, owner)
            if inode.object is not None and inode.object.part_count:
                for number, value in await tx.get_range(*part_sizes_range(source.inode_id)):
                    page = int.from_bytes(number[-4:], "big")
                    tx.set(part_sizes_key(inode.inode_id, page), value)
            return await swap_object(context, tx, place, inode)

        return await context.transact(copy, ids=ids_of_put(key))

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str = "",
        bypass_governance: bool = False,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> DeleteOutcome:
        """Remove a key, or a version."""
        context = self._context
        deletion = Deletion(key, conditions, version_id, bypass_governance)

        async def delete(tx: Transaction) -> DeleteOutcome:
            return await remove_object(context, tx, await find_bucket(tx, bucket), deletion)

        return await context.transact(delete, ids=ids_of_put(key))

    async def delete_objects(
        self, bucket: str, deletions: Sequence[Deletion]
    ) -> list[DeleteOutcome | Exception]:
        """Remove many, DELETES_PER_TRANSACTION at a time, or more where nothing is kept."""
        context = self._context
        outcomes: list[DeleteOutcome | Exception] = []
        present = await context.kv.read(lambda tx: find_bucket(tx, bucket))
        bulk = present.versioning == Versioning.NEVER
        at_once = BULK_DELETES_PER_TRANSACTION if bulk else DELETES_PER_TRANSACTION

        for start in range(0, len(deletions), at_once):
            group = deletions[start : start + at_once]

            async def delete(
                tx: Transaction, group: Sequence[Deletion] = group
            ) -> list[DeleteOutcome | Exception]:
                record = await find_bucket(tx, bucket)
                done: Sequence[DeleteOutcome | Exception | None] = [None] * len(group)
                if record.versioning == Versioning.NEVER:
                    done = await BulkDeletion(context, tx, record, group).run()
                found: list[DeleteOutcome | Exception] = []
                touched: set[int] = set()
                for deletion, outcome in zip(group, done, strict=True):
                    if outcome is not None:
                        found.append(outcome)
                        continue
                    try:
                        found.append(await remove_object(context, tx, record, deletion, touched))
                    except CallerError as error:
                        # Conditions and locks are checked before anything is written for the key;
                        # other errors are the transaction's, not the key's.
                        found.append(error)
                await prune_all(context, tx, touched, record)
                return found

            # Nothing is made where nothing is kept.
            ids = 0 if bulk else sum(ids_of_put(deletion.key) for deletion in group)
            outcomes += await context.transact(delete, ids=ids)
        return outcomes

    async def set_object_attributes(
        self,
        bucket: str,
        key: bytes,
        inode_id: int,
        attributes: ObjectAttributes,
        *,
        version_id: str = "",
    ) -> Inode:
        """Replace an object's attributes; its content, etag, lock and times stay."""
        context = self._context

        async def change(tx: Transaction) -> Inode:
            inode, _ = await find_object(tx, bucket, key, version_id)
            if inode.inode_id != inode_id:
                raise ConflictError(f"object {bucket}/{key!r}: was replaced meanwhile")
            lock = None if inode.object is None else inode.object.lock
            given = msgspec.structs.replace(attributes, lock=lock)
            inode = msgspec.structs.replace(inode, object=given, ctime_ns=context.now_ns())
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


def _copied_attributes(source: Inode, given: ObjectAttributes | None) -> ObjectAttributes:
    """The attributes of a copy: etag and checksums of the source only while they describe its
    content."""
    kept = msgspec.structs.replace(source.object or ObjectAttributes(), lock=None)
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
        lock=given.lock,
        encryption=given.encryption,
        acl=given.acl,
    )
