"""Renames by key: an object, or all below a prefix that ends in a slash, in one transaction.

A prefix is a folder, so that its rename is that of one entry. What S3 made implicitly above the old
name vanishes with it, as with a deletion; a mount sees a rename.
"""

from __future__ import annotations

import hashlib

from ..errors import InvalidArgumentError, TokenReusedError
from ..events.records import CREATED_COPY, REMOVED
from ..kv.store import ReadTransaction, Transaction
from .conditions import check_conditions
from .context import MetaContext
from .folders import find_directory, make_directories, prune
from .happenings import tell_name_gone, teller_of
from .object_lookup import missing
from .objects import find_place
from .records import (
    NO_CONDITIONS,
    Bucket,
    Inode,
    InodeType,
    Owner,
    Versioning,
    WriteConditions,
)
from .renames import Renames
from .schema import CompletedRecord, Entry, completed_key, decode_completed, encode
from .tree import find_bucket, find_entry, find_inode, remove_entry, split_key
from .versions import Slot, moved_away

TOKEN_WINDOW_NS = 3600 * 1_000_000_000  # a token counts in its hour and the next one


class KeyRenames(Renames):
    """``rename_object`` of ``ObjectStore`` (core/meta/store.py)."""

    async def rename_object(
        self,
        bucket: str,
        source: bytes,
        target: bytes,
        owner: Owner,
        *,
        source_conditions: WriteConditions = NO_CONDITIONS,
        conditions: WriteConditions = NO_CONDITIONS,
        token: str = "",
    ) -> None:
        """Give an object, or a prefix, another key."""
        if source.endswith(b"/") != target.endswith(b"/"):
            raise InvalidArgumentError("both names end in a slash (all below them moves), or none")
        context = self._context
        what = f"object {bucket}/{target.decode(errors='replace')}"
        digest = hashlib.sha256(len(source).to_bytes(2, "big") + source + target).digest()

        async def move(tx: Transaction) -> None:
            found = await find_bucket(tx, bucket)
            if token and await _was_done(context, tx, found, token, digest):
                return
            rename = self._rename_prefix if source.endswith(b"/") else self._rename_key
            inode = await rename(tx, found, source, target, owner, source_conditions, conditions)
            if token:
                record = CompletedRecord(inode.inode_id, bucket, digest, False)
                tx.set(_token_key(context.now_ns(), found, token), encode(record))

        try:
            await context.transact(move, ids=target.count(b"/") + 3)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{what}: {error}") from error

    async def _rename_key(
        self,
        tx: Transaction,
        bucket: Bucket,
        source: bytes,
        target: bytes,
        owner: Owner,
        source_conditions: WriteConditions,
        conditions: WriteConditions,
    ) -> Inode:
        context = self._context
        directories, name = split_key(source)
        folder_id = await find_directory(tx, bucket.inode_id, directories)
        entry = None if folder_id is None else await find_entry(tx, folder_id, name)
        if folder_id is None or entry is None:
            raise missing(bucket.name, source)
        present = await find_inode(tx, entry.inode_id)
        check_conditions(source_conditions, present, f"object {bucket.name}/{source!r}")
        what = f"object {bucket.name}/{target.decode(errors='replace')}"
        place = await find_place(context, tx, bucket, target, owner, conditions, what)
        slot = place.slot
        if place.entry is not None and place.entry.inode_id == entry.inode_id:
            if source == target:
                return present
            raise InvalidArgumentError("both keys are names of one file already")
        inode = await self._movable(tx, entry, folder_id, slot.directory_id)
        await remove_entry(tx, folder_id, name)
        left = Slot(bucket.versioning, folder_id, name)
        marker = await moved_away(context, tx, left, entry)
        await self._place(tx, inode, slot.directory_id, slot.name, place.entry)
        await tell_name_gone(context, tx, bucket, folder_id, name, marker)
        self._tell_moved(tx, entry, (folder_id, name), (slot.directory_id, slot.name))
        versioned = bucket.versioning != Versioning.NEVER
        await prune(context, tx, folder_id, bucket.inode_id, versioned=versioned)
        return inode

    async def _rename_prefix(
        self,
        tx: Transaction,
        bucket: Bucket,
        source: bytes,
        target: bytes,
        owner: Owner,
        source_conditions: WriteConditions,
        conditions: WriteConditions,
    ) -> Inode:
        context = self._context
        versioned = bucket.versioning != Versioning.NEVER
        *above, name = split_key(source)[0]
        *target_above, new_name = split_key(target)[0]
        parent_id = await find_directory(tx, bucket.inode_id, above)
        entry = None if parent_id is None else await find_entry(tx, parent_id, name + b"/")
        if parent_id is None or entry is None:
            raise missing(bucket.name, source)
        check_conditions(
            source_conditions, await find_inode(tx, entry.inode_id), f"prefix {source!r}"
        )
        new_parent_id = await make_directories(
            context, tx, bucket.inode_id, target_above, owner, versioned=versioned
        )
        old = await find_entry(tx, new_parent_id, new_name + b"/")
        present = None if old is None else await find_inode(tx, old.inode_id)
        check_conditions(conditions, present, f"prefix {target!r}")
        if present is not None and present.inode_id == entry.inode_id:
            return present
        inode = await self._movable(tx, entry, parent_id, new_parent_id)
        assert inode.type == InodeType.DIRECTORY
        await self._free_folder_name(tx, new_parent_id, new_name, old, entry)
        await remove_entry(tx, parent_id, name + b"/")
        await self._place(tx, inode, new_parent_id, new_name + b"/", None)
        teller = await teller_of(context, tx, bucket)
        if teller is not None:
            await teller.tell_below(REMOVED, inode, source)
            await teller.tell_below(CREATED_COPY, inode, target)
        self._tell_moved(tx, entry, (parent_id, name), (new_parent_id, new_name))
        await prune(context, tx, parent_id, bucket.inode_id, versioned=versioned)
        return inode

    def _tell_moved(
        self, tx: Transaction, entry: Entry, source: tuple[int, bytes], target: tuple[int, bytes]
    ) -> None:
        context = self._context
        for folder_id, name in (source, target):
            context.touch_directory(tx, folder_id)
            context.tell_entry(tx, folder_id, name, entry.inode_id)


async def _was_done(
    context: MetaContext, tx: ReadTransaction, bucket: Bucket, token: str, digest: bytes
) -> bool:
    """Whether the rename with *token* was made before. Raises TokenReusedError if that was
    another."""
    now = context.now_ns()
    times = (now, now - TOKEN_WINDOW_NS)
    for value in await tx.get_many([_token_key(time, bucket, token) for time in times]):
        if value is not None:
            if decode_completed(value).key != digest:
                raise TokenReusedError("the client token was used for another rename")
            return True
    return False


def _token_key(now_ns: int, bucket: Bucket, token: str) -> bytes:
    """Beside completed uploads, by time as they are: both are forgotten by and by."""
    hour = now_ns - now_ns % TOKEN_WINDOW_NS
    return completed_key(f"{hour:016x}-{bucket.inode_id:x}-{token}")
