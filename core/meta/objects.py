"""Objects by key: read, put, copy, delete. Rules in docs/architecture.md and
docs/decisions/0004-namespace.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..errors import (
    CallerError,
    ConflictError,
)
from ..events.origin import origin
from ..events.records import ACL_PUT, CREATED_COPY, CREATED_PUT, TAGS_DELETED, TAGS_PUT
from ..kv.store import ReadTransaction, Transaction
from .bulk_deletes import BulkDeletion
from .charges import charge
from .conditions import check_conditions
from .context import MetaContext
from .folders import (
    make_directories,
    make_explicit,
    prune_all,
)
from .happenings import teller_of
from .inheritance import owner_in
from .object_lookup import find_object
from .object_removal import remove_object
from .records import (
    NO_CONDITIONS,
    Bucket,
    DeleteOutcome,
    Deletion,
    Extent,
    Inode,
    InodeType,
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
    decode_part_sizes,
    inline_key,
    part_sizes_key,
    part_sizes_range,
)
from .tree import (
    find_bucket,
    find_entry,
    find_inode,
    make_object_inode,
    put_inode,
    split_key,
)
from .versions import (
    Slot,
    content_of,
    enter,
    entry_version_id,
)

BULK_DELETES_PER_TRANSACTION = 1000
DELETES_PER_TRANSACTION = 250


class Place(NamedTuple):
    """Where an object is about to be put."""

    bucket: Bucket
    key: bytes
    slot: Slot
    in_folder: bool
    entry: Entry | None
    """What is there now."""
    old: Inode | None
    owner: Owner
    """Of what is put there, and the folders with a quota that it counts for."""
    quota_ids: tuple[int, ...] = ()


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
    slot = Slot(bucket.versioning, directory_id, name)
    if not (bucket.has_quota_folders or bucket.folders_pass_on):
        return Place(bucket, key, slot, in_folder, entry, old, owner)
    parent = await find_inode(tx, directory_id)
    owner = owner_in(parent, owner)
    return Place(bucket, key, slot, in_folder, entry, old, owner, parent.quota_ids)


async def make_placed(
    context: MetaContext,
    tx: Transaction,
    place: Place,
    content: NewContent,
    attributes: ObjectAttributes,
    *,
    holders: Sequence[Sequence[Extent]] = (),
) -> Inode:
    """Write the inode that ``swap_object`` is to put at *place*; *holders* as
    ``make_object_inode``."""
    return await make_object_inode(
        context,
        tx,
        place.bucket.inode_id,
        content,
        attributes,
        place.owner,
        folder_id=place.slot.directory_id,
        name=place.slot.name,
        quota_ids=place.quota_ids,
        holders=holders,
    )


async def swap_object(
    context: MetaContext, tx: Transaction, place: Place, inode: Inode, event: str
) -> PutResult:
    """Put *inode* (already written) at *place*; what was there becomes a noncurrent version, or is
    gone. *event*: the name of what is told of that. Draws at most one id. Raises
    QuotaExceededError."""
    slot = place.slot
    replaced = place.old if slot.versioning == Versioning.NEVER else None
    if replaced is not None and replaced.nlink > 1:
        replaced = None
    entry = await enter(context, tx, slot, inode, place.entry, place.old)
    if slot.name == b"" and place.in_folder:
        await make_explicit(tx, await find_inode(tx, slot.directory_id))
    await charge(context, tx, inode, inode.size, 1, replaced=replaced)
    context.touch_directory(tx, slot.directory_id)
    context.tell_entry(tx, slot.directory_id, slot.name, inode.inode_id)
    version_id = "" if slot.versioning == Versioning.NEVER else entry_version_id(entry)
    teller = await teller_of(context, tx, place.bucket)
    if teller is not None:
        await teller.tell(origin.get().created or event, place.key, inode, version_id)
    return PutResult(inode, place.entry is not None, version_id)


def ids_of_put(key: bytes) -> int:
    """How many ids putting or deleting *key* may draw: the folders, the object, and a copy of what
    it replaces."""
    return key.count(b"/") + 2


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
            if with_data:
                if inode.inline:
                    data = await tx.get(inline_key(inode.inode_id))
                elif inode.type is InodeType.SYMLINK:
                    data = inode.symlink_target  # it is never followed here
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
            inode = await make_placed(context, tx, place, content, attributes)
            return await swap_object(context, tx, place, inode, CREATED_PUT)

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
            inode = await make_placed(context, tx, place, content, given)
            if inode.object is not None and inode.object.part_count:
                for number, value in await tx.get_range(*part_sizes_range(source.inode_id)):
                    page = int.from_bytes(number[-4:], "big")
                    tx.set(part_sizes_key(inode.inode_id, page), value)
            return await swap_object(context, tx, place, inode, CREATED_COPY)

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
            inode, found_id = await find_object(tx, bucket, key, version_id)
            if inode.inode_id != inode_id:
                raise ConflictError(f"object {bucket}/{key!r}: was replaced meanwhile")
            before = inode.object or ObjectAttributes()
            given = msgspec.structs.replace(attributes, lock=before.lock)
            inode = msgspec.structs.replace(inode, object=given, ctime_ns=context.now_ns())
            put_inode(tx, inode)
            context.tell_inode(tx, inode_id)
            event = _event_of_attributes(before, given)
            if event:
                teller = await teller_of(context, tx, await find_bucket(tx, bucket))
                if teller is not None:
                    await teller.tell(event, key, inode, found_id)
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


def _event_of_attributes(before: ObjectAttributes, after: ObjectAttributes) -> str:
    """What the change from *before* to *after* is called; empty: nobody is told of it."""
    if before.tags != after.tags:
        return TAGS_PUT if after.tags else TAGS_DELETED
    return ACL_PUT if before.acl != after.acl else ""


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
