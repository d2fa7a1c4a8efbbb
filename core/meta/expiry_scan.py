"""What of a bucket has ended by its rules: pages of its keys, or of all its versions, in order.

Rows are looked at raw. Of an inode only its times are decoded, unless a rule may end it; inodes of
noncurrent versions that no rule can end yet are not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from ..errors import UNREADABLE, DataLossError
from ..kv.store import ReadTransaction
from ..lifecycle.plan import Plan, Subject
from .listing import KeyWalk
from .locks import is_locked
from .records import Bucket, Inode, InodeType, Record, Versioning
from .schema import (
    FORMAT_VERSION,
    decode_inode,
    decode_inodes,
    directory_time_key,
    inode_key,
    unpack_number,
)
from .tree import is_empty
from .version_listing import Line, VersionWalk

_DIRECTORY = int(InodeType.DIRECTORY)
_FORMAT = bytes([FORMAT_VERSION])
_CLOCK_PLACES = 1 << 63
"""Sequences from here on are no times (of a folder without content, which has no age)."""


class Kind(IntEnum):
    """What ends."""

    OBJECT = 1
    """A current object: it gives way to a delete marker in a versioned bucket."""
    VERSION = 2
    """A noncurrent version, or a delete marker that is one."""
    MARKER = 3
    """A delete marker with nothing behind it."""


class Due(NamedTuple):
    """Something that has ended by a rule."""

    kind: Kind
    key: bytes
    inode_id: int
    """0: a delete marker."""
    sequence: int
    is_null: bool
    size: int
    rule_id: str
    generation: int = 0
    """Of the inode, when it was looked at."""


class Cursor(NamedTuple):
    """Where a scan goes on, and what it knows of the key it stopped in."""

    key: bytes = b""
    """The last one looked at."""
    sequence: int | None = None
    """The last version looked at; None: there are no others of the key."""
    newer: int = 0
    """How many noncurrent versions of the key were met, delete markers not counted."""
    made_ns: int = 0
    """When the last version was made."""


START = Cursor()


class Page(NamedTuple):
    """A piece of a scan."""

    due: list[Due]
    scanned: int
    next: Cursor | None
    """None: that was the last one."""


class _Times(Record, frozen=True):
    """The first fields of an Inode."""

    inode_id: int
    type: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int


_times = msgspec.msgpack.Decoder(_Times).decode


def began_ns(inode: Inode) -> int:
    """Since when a current object is what it is. Files may bring older times with them from where
    they were before: here they are no older than their birth."""
    return max(inode.mtime_ns, inode.birth_ns)


def subject_of(key: bytes, inode: Inode) -> Subject:
    """An object as filters see it."""
    attributes = inode.object
    size = 0 if inode.type == InodeType.DIRECTORY else inode.size
    return Subject(key, size, {} if attributes is None else attributes.tags)


async def scan_page(
    tx: ReadTransaction, bucket: Bucket, plan: Plan, prefix: bytes, cursor: Cursor, limit: int
) -> Page:
    """The next *limit* keys (or versions) with *prefix* behind *cursor*, and what of them ended."""
    if bucket.versioning == Versioning.NEVER:
        return await _scan_keys(tx, bucket, plan, prefix, cursor, limit)
    return await _VersionScan(tx, plan, cursor).run(bucket, prefix, limit)


async def _scan_keys(
    tx: ReadTransaction, bucket: Bucket, plan: Plan, prefix: bytes, cursor: Cursor, limit: int
) -> Page:
    walk = KeyWalk(tx, prefix, b"")
    await walk.start(bucket.inode_id, cursor.key, limit)
    found = await walk.take(limit)
    values = await tx.get_many([inode_key(number or 0) for _, number in found], snapshot=True)
    old = _old_ones(plan, [key for key, _ in found], values)
    due = [
        Due(Kind.OBJECT, key, inode.inode_id, 0, True, size, rule_id, inode.generation)
        for key, inode, rule_id, size in await _judge_objects(tx, plan, old)
    ]
    return Page(due, len(found), Cursor(found[-1][0]) if len(found) == limit else None)


def _old_ones(
    plan: Plan, keys: Sequence[bytes], values: Sequence[bytes | None]
) -> list[tuple[bytes, bytes]]:
    """Those of *keys*, with their inodes *values*, that may have ended."""
    before_ns = plan.objects_before_ns
    old: list[tuple[bytes, bytes]] = []
    for key, value in zip(keys, values, strict=True):
        if value is None or value[:1] != _FORMAT:
            continue  # damaged: fsck tells of it
        try:
            times = _times(value[1:])
        except UNREADABLE:
            continue
        if times.mtime_ns < before_ns and times.birth_ns < before_ns:
            old.append((key, value))
    return old


def _whole(values: Sequence[bytes | None]) -> list[Inode | None]:
    """The inodes; None for what is gone or damaged, which fsck tells of."""
    try:
        return decode_inodes(values)
    except DataLossError:
        found: list[Inode | None] = []
        for value in values:
            try:
                found.append(None if value is None else decode_inode(value))
            except DataLossError:
                found.append(None)
        return found


async def _judge_objects(
    tx: ReadTransaction, plan: Plan, old: Sequence[tuple[bytes, bytes]]
) -> list[tuple[bytes, Inode, str, int]]:
    """(key, inode, rule, size) of those of *old* that have ended."""
    ended: list[tuple[bytes, Inode, str, int]] = []
    for (key, _), inode in zip(old, _whole([value for _, value in old]), strict=True):
        if inode is None:
            continue
        if inode.type == _DIRECTORY:
            found = await judge_object(tx, plan, key, inode)
        else:
            found = _judge(plan, key, inode, began_ns(inode))
        if found is not None:
            ended.append((key, inode, *found))
    return ended


async def judge_object(
    tx: ReadTransaction, plan: Plan, key: bytes, inode: Inode
) -> tuple[str, int] | None:
    """Rule and size of a current object, if it has ended. A folder without content ends when it is
    empty, so many days after its last change."""
    began = began_ns(inode)
    if inode.type == InodeType.DIRECTORY:
        time = await tx.get(directory_time_key(inode.inode_id), snapshot=True)
        began = began if time is None else max(began, unpack_number(time))
        if not await is_empty(tx, inode.inode_id):
            return None
    return _judge(plan, key, inode, began)


def _judge(plan: Plan, key: bytes, inode: Inode, began: int) -> tuple[str, int] | None:
    subject = subject_of(key, inode)
    rule_id = plan.object_rule(subject, began)
    return None if rule_id is None else (rule_id, subject.size)


class _VersionScan:
    """One page of versions."""

    def __init__(self, tx: ReadTransaction, plan: Plan, cursor: Cursor) -> None:
        self._tx = tx
        self._plan = plan
        self._cursor = cursor
        self._due: list[Due] = []
        self._old: list[tuple[Line, int]] = []
        """Versions that are noncurrent for long enough, and how many newer ones there are."""
        self._alone: Line | None = None
        """A marker that is the newest of its key, while nothing behind it was met."""

    async def run(self, bucket: Bucket, prefix: bytes, limit: int) -> Page:
        cursor = self._cursor
        walk = VersionWalk(self._tx, prefix, b"")
        # One more: whether a marker at the end of the page has versions behind it.
        if cursor.sequence is None:
            await walk.start(bucket.inode_id, cursor.key, limit + 1)
        else:
            await walk.start_within(bucket.inode_id, cursor.key, cursor.sequence, limit + 1)
        lines = await walk.take(limit + 1)
        more = len(lines) > limit
        await self._judge_current([line for line in lines[:limit] if _is_current(line)])
        key, newer, made_ns = cursor.key, cursor.newer, cursor.made_ns
        for line in lines[:limit]:
            if line.is_latest or line.key != key:
                self._marker_ends()
                key, newer, made_ns = line.key, 0, 0
                if not line.inode_id:
                    self._alone = line
            else:
                self._alone = None
                self._look_at_old(line, newer, made_ns)
                newer += bool(line.inode_id)
            made_ns = line.sequence
        if more and lines[limit].key == key:
            self._alone = None
        self._marker_ends()
        await self._judge_old()
        if not more:
            return Page(self._due, len(lines), None)
        last = lines[limit - 1]
        return Page(self._due, limit, Cursor(last.key, last.sequence, newer, made_ns))

    async def _judge_current(self, lines: list[Line]) -> None:
        keys = [inode_key(line.inode_id or 0) for line in lines]
        values = await self._tx.get_many(keys, snapshot=True)
        old = _old_ones(self._plan, [line.key for line in lines], values)
        if not old:
            return
        of_key = {line.key: line for line in lines}
        for key, inode, rule_id, size in await _judge_objects(self._tx, self._plan, old):
            self._add(Kind.OBJECT, of_key[key], rule_id, size, inode.generation)

    def _look_at_old(self, line: Line, newer: int, made_ns: int) -> None:
        """A line behind another one of its key, which was made at *made_ns*."""
        plan = self._plan
        if line.inode_id:
            if line.since_ns < plan.versions_before_ns:
                self._old.append((line, newer))
            return
        since_ns = marker_since_ns(made_ns)
        if since_ns is not None and since_ns < plan.versions_before_ns:
            rule_id = plan.old_marker_rule(line.key, since_ns, newer)
            if rule_id is not None:
                self._add(Kind.VERSION, line, rule_id, 0)

    async def _judge_old(self) -> None:
        plan = self._plan
        keys = [inode_key(line.inode_id or 0) for line, _ in self._old]
        values = await self._tx.get_many(keys, snapshot=True)
        for (line, newer), inode in zip(self._old, _whole(values), strict=True):
            if inode is None:
                continue
            locked = is_locked(inode, plan.now_ns)
            subject = subject_of(line.key, inode)
            rule_id = plan.version_rule(subject, line.since_ns, newer, is_locked=locked)
            if rule_id is not None:
                self._add(Kind.VERSION, line, rule_id, inode.size)

    def _marker_ends(self) -> None:
        """What ``_alone`` holds has nothing behind it."""
        line, self._alone = self._alone, None
        if line is not None:
            rule_id = self._plan.marker_rule(line.key, line.since_ns)
            if rule_id is not None:
                self._add(Kind.MARKER, line, rule_id, 0)

    def _add(self, kind: Kind, line: Line, rule_id: str, size: int, generation: int = 0) -> None:
        number, sequence = line.inode_id or 0, line.sequence
        self._due.append(
            Due(kind, line.key, number, sequence, line.is_null, size, rule_id, generation)
        )


def marker_since_ns(made_ns: int) -> int | None:
    """Since when a marker is noncurrent whose successor has the sequence *made_ns*, which is a
    time; None: that cannot be told."""
    return made_ns if 0 < made_ns < _CLOCK_PLACES else None


def _is_current(line: Line) -> bool:
    return line.is_latest and bool(line.inode_id)
