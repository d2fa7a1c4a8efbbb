"""Deletions inside a transaction: of a current object, or of a version for good."""

from __future__ import annotations

from ..errors import NotFoundError
from ..kv.store import ReadTransaction, Transaction
from .conditions import check_conditions
from .context import MetaContext
from .folders import (
    find_any_directory,
    find_directory,
    make_any_directories,
    make_explicit,
    prune,
)
from .happenings import teller_of
from .object_lookup import find_version
from .records import NO_CONDITIONS, Bucket, DeleteOutcome, Deletion, Inode, Versioning
from .tree import drop_link, find_entry, find_inode, remove_entry, split_key
from .version_ids import NULL, parse_version_id
from .versions import Slot, mark_deleted, remove_version


async def remove_object(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    deletion: Deletion,
    touched: set[int] | None = None,
) -> DeleteOutcome:
    """Carry *deletion* out inside *tx*, and tell of it. *touched* takes the folder, which the
    caller prunes after many deletions; None: it is pruned here. Raises PreconditionFailedError,
    NotFoundError (a condition asks for presence), ObjectLockedError, before anything is written for
    the key."""
    outcome = await _remove(context, tx, bucket, deletion, touched)
    teller = await teller_of(context, tx, bucket)
    if teller is not None:
        await teller.tell_outcome(deletion.key, outcome, named=bool(deletion.version_id))
    return outcome


async def _remove(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    deletion: Deletion,
    touched: set[int] | None,
) -> DeleteOutcome:
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
        found = await find_version(tx, bucket, deletion.key, deletion.version_id)
        present = found.inode
    except NotFoundError:
        pass
    what = f"object {bucket.name}/{deletion.key.decode(errors='replace')}"
    check_conditions(deletion.conditions, present, what)
