"""Removal of what ended by a bucket's rules.

A scan is a snapshot of the past. Whatever it names is read again in the transaction that removes
it, and judged again: an object that was put anew, written, tagged or locked since then stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import ObjectLockedError
from ..events.origin import LIFECYCLE, origin
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from ..lifecycle.plan import Plan
from ..lifecycle.records import ASPECT
from .bulk_deletes import BulkDeletion
from .context import MetaContext
from .expiry_scan import (
    Cursor,
    Due,
    Kind,
    Page,
    judge_object,
    marker_since_ns,
    scan_page,
    subject_of,
)
from .folders import find_any_directory, find_directory, prune_all
from .locks import is_locked
from .multipart import drop_upload
from .object_removal import remove_object
from .objects import ids_of_put
from .records import Bucket, DeleteOutcome, Deletion, Upload, Versioning
from .schema import (
    BUCKET_PREFIX,
    bucket_key,
    decode_bucket,
    decode_inode,
    decode_version,
    inode_key,
    sequence_of,
    setting_key,
    upload_key,
    version_key,
    versions_prefix,
)
from .tree import find_entry, split_key
from .version_ids import version_id
from .versions import Slot

BUCKETS_PER_PAGE = 1000
NEWER_ROWS_PAGE = 256


class Expiry:
    """``ExpiryStore`` (core/meta/expiry_store.py)."""

    _context: MetaContext

    async def lifecycle_buckets(self) -> list[tuple[Bucket, bytes]]:
        """All buckets with rules."""
        found: list[tuple[Bucket, bytes]] = []
        after = BUCKET_PREFIX
        while True:
            pairs, last = await self._context.kv.read(partial(_settings, after=after))
            found += pairs
            if last is None:
                return found
            after = last + b"\0"

    async def scan_expiry(
        self, bucket: Bucket, plan: Plan, prefix: bytes, cursor: Cursor, *, limit: int
    ) -> Page:
        """A page of keys or versions, and what of them ended."""

        async def read(tx: ReadTransaction) -> Page:
            return await scan_page(tx, bucket, plan, prefix, cursor, limit)

        return await self._context.kv.read(read)

    async def expire(
        self, bucket: Bucket, setting: bytes, plan: Plan, due: Sequence[Due]
    ) -> list[bool] | None:
        """Remove what still is what the scan saw."""

        async def remove(tx: Transaction) -> list[bool] | None:
            record = await _unchanged(tx, bucket, setting)
            if record is None:
                return None
            return await _Removal(self._context, tx, record, plan).run(due)

        token = origin.set(LIFECYCLE)
        try:
            ids = sum(ids_of_put(one.key) for one in due)
            return await self._context.transact(remove, ids=ids)
        finally:
            origin.reset(token)

    async def expire_upload(self, bucket: Bucket, setting: bytes, upload: Upload) -> bool:
        """Abort an upload."""
        context = self._context

        async def abort(tx: Transaction) -> bool:
            if await _unchanged(tx, bucket, setting) is None:
                return False
            if await tx.get(upload_key(bucket.inode_id, upload.key, upload.upload_id)) is None:
                return False
            await drop_upload(context, tx, bucket.inode_id, upload)
            return True

        return await context.kv.transact(abort)


async def _settings(
    tx: ReadTransaction, after: bytes
) -> tuple[list[tuple[Bucket, bytes]], bytes | None]:
    """A page of buckets with rules, and the key of the last one looked at if there may be more."""
    rows = await tx.get_range(after, prefix_end(BUCKET_PREFIX), limit=BUCKETS_PER_PAGE)
    buckets = [decode_bucket(value) for _, value in rows]
    values = await tx.get_many([setting_key(bucket.inode_id, ASPECT) for bucket in buckets])
    pairs = [
        (bucket, value) for bucket, value in zip(buckets, values, strict=True) if value is not None
    ]
    return pairs, rows[-1][0] if len(rows) == BUCKETS_PER_PAGE else None


async def _unchanged(tx: ReadTransaction, bucket: Bucket, setting: bytes) -> Bucket | None:
    """The bucket's record; None if it was made anew, or its versioning or rules changed."""
    value = await tx.get(bucket_key(bucket.name))
    if value is None:
        return None
    record = decode_bucket(value)
    if (record.inode_id, record.versioning) != (bucket.inode_id, bucket.versioning):
        return None
    return record if await tx.get(setting_key(record.inode_id, ASPECT)) == setting else None


class _Removal:
    """One transaction; use ``run`` once."""

    def __init__(self, context: MetaContext, tx: Transaction, bucket: Bucket, plan: Plan) -> None:
        self._context = context
        self._tx = tx
        self._bucket = bucket
        self._plan = plan
        self._folders: dict[tuple[bytes, ...], int | None] = {}

    async def run(self, due: Sequence[Due]) -> list[bool]:
        """Read all, then write."""
        ended = [await self._still_ends(one) for one in due]
        chosen = [one for one, ends in zip(due, ended, strict=True) if ends]
        removed = iter(await self._remove([_deletion(one) for one in chosen]))
        return [ends and next(removed) for ends in ended]

    async def _remove(self, deletions: Sequence[Deletion]) -> list[bool]:
        context, tx, bucket = self._context, self._tx, self._bucket
        done: Sequence[DeleteOutcome | Exception | None] = [None] * len(deletions)
        if bucket.versioning == Versioning.NEVER:
            done = await BulkDeletion(context, tx, bucket, deletions).run()
        touched: set[int] = set()
        removed = []
        for deletion, outcome in zip(deletions, done, strict=True):
            if outcome is None:
                try:
                    outcome = await remove_object(context, tx, bucket, deletion, touched)
                except ObjectLockedError as error:  # raised before anything is written
                    outcome = error
            removed.append(isinstance(outcome, DeleteOutcome))
        await prune_all(context, tx, touched, bucket)
        return removed

    async def _still_ends(self, due: Due) -> bool:
        directories, name = split_key(due.key)
        folder_id = await self._folder(tuple(directories), current=due.kind == Kind.OBJECT)
        if folder_id is None:
            return False
        if due.kind == Kind.OBJECT:
            return await self._object_ends(due, folder_id, name, in_folder=bool(directories))
        slot = Slot(self._bucket.versioning, folder_id, name)
        value = await self._tx.get(version_key(folder_id, name, due.sequence))
        if value is None:
            return False
        record = decode_version(value)
        if (record.inode_id, record.is_null) != (due.inode_id, due.is_null):
            return False
        if due.kind == Kind.MARKER:
            return await self._marker_ends(due, slot, record.since_ns)
        return await self._version_ends(due, slot, record.since_ns)

    async def _folder(self, path: tuple[bytes, ...], *, current: bool) -> int | None:
        if path not in self._folders:
            find = find_directory if current else find_any_directory
            self._folders[path] = await find(self._tx, self._bucket.inode_id, path)
        return self._folders[path]

    async def _object_ends(self, due: Due, folder_id: int, name: bytes, *, in_folder: bool) -> bool:
        tx = self._tx
        entry = await find_entry(tx, folder_id, name)
        number = entry.inode_id if entry is not None else 0
        if entry is None and name == b"" and in_folder:
            number = folder_id
        if number != due.inode_id:
            return False
        value = await tx.get(inode_key(number))
        if value is None:
            return False
        inode = decode_inode(value)
        if inode.generation != due.generation or (entry is None and not inode.explicit):
            return False
        return await judge_object(tx, self._plan, due.key, inode) is not None

    async def _marker_ends(self, due: Due, slot: Slot, made_ns: int) -> bool:
        """Whether the marker is all that there is of its key, and old enough."""
        tx = self._tx
        own = versions_prefix(slot.directory_id, slot.name)
        rows = await tx.get_range(own, prefix_end(own), limit=2)
        if len(rows) > 1 or await find_entry(tx, slot.directory_id, slot.name) is not None:
            return False
        return self._plan.marker_rule(due.key, made_ns) is not None

    async def _version_ends(self, due: Due, slot: Slot, since_ns: int) -> bool:
        successor_ns, newer = await self._newer(slot, due.sequence)
        plan = self._plan
        if successor_ns is None:
            return False  # it is the newest by now
        if due.inode_id == 0:
            marker_since = marker_since_ns(successor_ns)
            if marker_since is None:
                return False
            return plan.old_marker_rule(due.key, marker_since, newer) is not None
        value = await self._tx.get(inode_key(due.inode_id))
        if value is None:
            return False
        inode = decode_inode(value)
        locked = is_locked(inode, self._context.now_ns())  # whatever moment the plan is for
        subject = subject_of(due.key, inode)
        return plan.version_rule(subject, since_ns, newer, is_locked=locked) is not None

    async def _newer(self, slot: Slot, sequence: int) -> tuple[int | None, int]:
        """The sequence of the next newer version (None: there is none), and how many noncurrent
        ones that are no markers are newer, as far as it matters."""
        tx, wanted = self._tx, self._plan.newer_kept_max
        own = versions_prefix(slot.directory_id, slot.name)
        end = version_key(slot.directory_id, slot.name, sequence)
        rows = await tx.get_range(own, end, limit=1, reverse=True)
        entry = await find_entry(tx, slot.directory_id, slot.name)
        if rows:
            successor = sequence_of(rows[0][0])
        elif entry is not None:
            successor = entry.sequence
        else:
            return None, 0
        newer = 0
        while rows and newer < wanted:
            rows = await tx.get_range(own, end, limit=NEWER_ROWS_PAGE, reverse=True)
            newer += sum(decode_version(value).inode_id != 0 for _, value in rows)
            end = rows[-1][0] if rows else own
        return successor, newer


def _deletion(due: Due) -> Deletion:
    if due.kind == Kind.OBJECT:
        return Deletion(due.key)
    return Deletion(due.key, version_id=version_id(due.sequence, is_null=due.is_null))
