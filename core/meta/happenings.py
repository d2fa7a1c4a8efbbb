"""What happens to objects, told by the transaction that does it: events for the outbox
(core/events/outbox.py), of both doors alike.

Where nobody is told of anything this costs the calls of the S3 door nothing (``Bucket.notifies``),
and a write through a mount one read.
"""

from __future__ import annotations

import msgspec

from ..errors import UNREADABLE, DataLossError
from ..events.origin import Origin, origin
from ..events.outbox import WATCH_KEY, Event, Queue, encode_event, waiting_of
from ..events.records import (
    ASPECT,
    CREATED_PUT,
    EXPIRED,
    EXPIRED_MARKER,
    REMOVED,
    REMOVED_MARKER,
    TEST_EVENT,
    Notification,
    decode_notification,
)
from ..events.rules import Rules
from ..kv.store import ReadTransaction, Transaction
from .context import MetaContext
from .file_names import key_of, names_of
from .listing import KeyWalk
from .records import Bucket, DeleteOutcome, Inode, InodeType, Versioning
from .schema import Entry, setting_key
from .trash_names import PREFIX
from .tree import inodes_of
from .versions import Row, bucket_by_id, entry_version_id

WAITING_MAX = 100_000
"""Events that may wait for one destination of one bucket; what comes then is counted as lost."""
RENAMED_AT_ONCE = 1000
"""Objects below a folder whose rename is told by the transaction itself; of more, by a walk
afterwards."""


class Teller:
    """Writes the events of one bucket inside one transaction."""

    def __init__(self, context: MetaContext, tx: Transaction, bucket: Bucket, rules: Rules) -> None:
        self._context = context
        self._tx = tx
        self.bucket = bucket
        self._rules = rules
        self._origin: Origin = origin.get()
        self._waiting: dict[Queue, int] = {}

    async def tell(
        self, name: str, key: bytes, inode: Inode | None = None, version_id: str = ""
    ) -> None:
        """Tell of the event *name* of the object *key*; *inode*: what it is now. What is in the
        trash was told of when it was removed."""
        if key.startswith(PREFIX):
            return
        for told in self._rules.told(name, key):
            await self._put(
                told.destination, self._event(name, key, told.rule_id, inode, version_id)
            )

    async def tell_removed(
        self, key: bytes, version_id: str = "", *, is_marker: bool = False
    ) -> None:
        """An object was removed, or hidden behind a delete marker."""
        if self._origin.expires:
            name = EXPIRED_MARKER if is_marker else EXPIRED
        else:
            name = REMOVED_MARKER if is_marker else REMOVED
        await self.tell(name, key, None, version_id)

    async def tell_outcome(self, key: bytes, outcome: DeleteOutcome, *, named: bool) -> None:
        """What a deletion did. *named*: it was of a version."""
        is_marker = outcome.delete_marker and not named
        if is_marker or outcome.removed:
            await self.tell_removed(key, outcome.version_id, is_marker=is_marker)

    async def tell_below(self, event: str, folder: Inode, prefix: bytes) -> None:
        """*event* happened to all below *folder*, whose keys begin, or began, with *prefix*."""
        if not self._rules.wants(event) or prefix.startswith(PREFIX):
            return
        found = await keys_below(self._tx, folder, b"", RENAMED_AT_ONCE + 1)
        if len(found) <= RENAMED_AT_ONCE:
            for relative, inode in found:
                await self.tell(event, prefix + relative, inode if event != REMOVED else None)
            return
        for destination in self._rules.destinations:
            one = self._event(event, prefix, "", None, "")
            await self._put(destination, msgspec.structs.replace(one, folder_id=folder.inode_id))

    async def test(self, destination: str) -> None:
        """Tell *destination* that it will be told."""
        await self._put(destination, self._event(TEST_EVENT, b"", "", None, ""))

    def _event(
        self, name: str, key: bytes, rule_id: str, inode: Inode | None, version_id: str
    ) -> Event:
        bucket, made_by = self.bucket, self._origin
        is_folder = inode is not None and inode.type is InodeType.DIRECTORY
        principal = made_by.principal or ("mount" if inode is None else f"uid:{inode.uid}")
        return Event(
            name,
            rule_id,
            bucket.name,
            bucket.owner,
            bucket.region,
            key,
            self._context.now_ns(),
            None if inode is None else 0 if is_folder else inode.size,
            "" if inode is None or is_folder else inode.effective_etag(),
            version_id,
            principal,
            made_by.address,
            made_by.request_id,
        )

    async def _put(self, destination: str, event: Event) -> None:
        tx = self._tx
        queue = Queue(self.bucket.inode_id, destination)
        waiting = self._waiting.get(queue)
        if waiting is None:
            # A snapshot: writers do not wait for each other, and may pass the limit by a few.
            waiting = waiting_of(await tx.get(queue.count_key, snapshot=True))
        if waiting >= WAITING_MAX:
            tx.add(queue.lost_key, 1)
            return
        self._waiting[queue] = waiting + 1
        number = self._context.next_event_number().to_bytes(8, "big")
        tx.set_versionstamped_key(queue.prefix, number, encode_event(event))
        tx.set_versionstamped_value(WATCH_KEY, b"")
        tx.add(queue.count_key, 1)


async def teller_of(context: MetaContext, tx: Transaction, bucket: Bucket) -> Teller | None:
    """Who tells of what happens in *bucket*; None: nobody is told of anything."""
    return await _teller(context, tx, bucket, bucket.inode_id) if bucket.notifies else None


async def _teller(
    context: MetaContext, tx: Transaction, bucket: Bucket | None, bucket_id: int
) -> Teller | None:
    value = await tx.get(setting_key(bucket_id, ASPECT))
    if value is None:
        return None
    rules = context.event_rules.of(value)
    if bucket is None:
        bucket = await bucket_by_id(tx, bucket_id)
    return Teller(context, tx, bucket, rules)


async def tell_content(context: MetaContext, tx: Transaction, inode: Inode) -> None:
    """The content of *inode* was changed in place, under whatever names it has."""
    if inode.nlink == 0:
        return
    teller = await _teller(context, tx, None, inode.bucket_id)
    if teller is None:
        return
    for named in await names_of(tx, inode):
        key = await key_of(tx, inode.bucket_id, named.folder_id, named.name)
        await teller.tell(CREATED_PUT, key, inode, _version_id(teller.bucket, named.entry))


async def tell_name(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    event: str,
    folder_id: int,
    stored: bytes,
    inode: Inode,
    entry: Entry | None = None,
) -> None:
    """A file call made the name *stored* (a folder's with its slash) mean *inode*, by *entry*."""
    teller = await teller_of(context, tx, bucket)
    if teller is not None:
        key = await key_of(tx, bucket.inode_id, folder_id, stored)
        version_id = "" if entry is None else _version_id(bucket, entry)
        await teller.tell(event, key, inode, version_id)


async def tell_name_gone(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    folder_id: int,
    stored: bytes,
    marker: Row | None = None,
) -> None:
    """A file call took the name *stored* away; *marker*: the delete marker that it left."""
    teller = await teller_of(context, tx, bucket)
    if teller is not None:
        key = await key_of(tx, bucket.inode_id, folder_id, stored)
        marker_id = "" if marker is None else marker.version_id
        await teller.tell_removed(key, marker_id, is_marker=marker is not None)


async def tell_below(
    context: MetaContext,
    tx: Transaction,
    bucket: Bucket,
    event: str,
    folder: Inode,
    parent_id: int,
    stored: bytes,
) -> None:
    """*event* happened to all below *folder*, whose name is, or was, *stored* in a folder."""
    teller = await teller_of(context, tx, bucket)
    if teller is not None:
        prefix = await key_of(tx, bucket.inode_id, parent_id, stored)
        await teller.tell_below(event, folder, prefix)


async def tell_configured(
    context: MetaContext, tx: Transaction, bucket: Bucket, before: bytes | None, after: bytes | None
) -> bool:
    """The bucket's configuration was changed: tell those that it names and did not name before.
    Returns whether it names anybody."""
    new = Notification() if after is None else decode_notification(after)
    old: tuple[str, ...] = ()
    if before is not None:
        try:
            old = decode_notification(before).targets
        except UNREADABLE:  # it is replaced: that mends it
            pass
    teller = Teller(context, tx, bucket, Rules(new))
    for destination in new.targets:
        if destination not in old:
            await teller.test(destination)
    return bool(new.targets)


async def keys_below(
    tx: ReadTransaction, folder: Inode, after: bytes, limit: int
) -> list[tuple[bytes, Inode]]:
    """At most *limit* objects below *folder*, behind the relative key *after*: relative keys (that
    of the folder itself is empty) and inodes."""
    walk = KeyWalk(tx, b"", b"")
    await walk.start(folder.inode_id, after, limit)
    rows = [(key, number) for key, number in await walk.take(limit) if number is not None]
    inodes = await inodes_of(tx, [number for _, number in rows])
    found: list[tuple[bytes, Inode]] = []
    for (key, number), inode in zip(rows, inodes, strict=True):
        if inode is None:
            raise DataLossError(f"inode {number:x} has a name and is gone: run craqen fsck")
        found.append((key, inode))
    if not after and folder.explicit and not (found and found[0][0] == b""):
        found.insert(0, (b"", folder))
    return found[:limit]


def _version_id(bucket: Bucket, entry: Entry) -> str:
    return "" if bucket.versioning == Versioning.NEVER else entry_version_id(entry)
