"""DRIVER: do versions fit to names and inodes? Every page is judged in one snapshot.

The rules are those of core/meta/versions.py: what is newest is current or a delete marker, all
others are older; a noncurrent version has an inode that says so; a hidden folder holds something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from ..errors import DataLossError
from ..kv.store import ReadTransaction, Transaction
from ..meta.charges import count_file
from ..meta.folders import has_versions, prune
from ..meta.records import Inode, InodeType, Versioning
from ..meta.schema import (
    VersionRecord,
    decode_inode,
    decode_version,
    inode_key,
    null_version_key,
    pack_number,
    unpack_number,
    version_name,
)
from ..meta.tree import find_entry, put_inode
from ..meta.version_ids import version_id
from ..meta.versions import Slot, find_row, newest_row, promote
from .entries import read_inodes
from .findings import Finding, Repair, Safety
from .lost_found import adopt
from .scan import Check, Rows, decoded, letter_range, number_of, pages

_GONE = (
    "restore it from a backup of the metadata; else run with --repair --accept-loss to remove the "
    "record"
)

VERSION_KINDS = {
    "version-without-folder": ("its folder is gone", "run with --repair to give it a new place"),
    "version-without-inode": ("the version or folder that it tells of is gone", _GONE),
    "version-inode": (
        "its inode does not say that it is noncurrent",
        "run with --repair",
    ),
    "version-newest": (
        "it is the newest of its key, but neither is it current nor is the key deleted",
        "run with --repair to make it current",
    ),
    "version-order": (
        "it is not older than what is current",
        "copy it to another key, and remove it by its version id",
    ),
    "version-null": ("it is the null version, and is not found as such", "run with --repair"),
    "hidden-folder": (
        "a folder is hidden here that also has a name, or thinks that it is elsewhere",
        "run with --repair to forget it here",
    ),
    "hidden-empty": (
        "a folder is hidden here that holds nothing at all",
        "run with --repair to remove it",
    ),
}


class Seen(NamedTuple):
    """Something wrong with a version's record."""

    kind: str
    key: bytes
    value: bytes

    @property
    def record(self) -> VersionRecord:
        return decode_version(self.value)

    @property
    def parent_id(self) -> int:
        return number_of(self.key)

    def slot(self) -> Slot:
        return Slot(Versioning.ENABLED, self.parent_id, version_name(self.key)[0])


async def judge_versions(tx: ReadTransaction, rows: Rows) -> list[Seen]:
    """What is wrong with version records, as *tx* shows them."""
    records = [(key, value, decode_version(value)) for key, value in rows]
    numbers = {number_of(key) for key, _, _ in records}
    numbers |= {record.inode_id for _, _, record in records if record.inode_id}
    inodes = await read_inodes(tx, sorted(numbers))
    seen: list[Seen] = []
    for key, value, record in records:
        name, sequence = version_name(key)
        parent_id = number_of(key)
        if parent_id in inodes:
            parent = inodes[parent_id]
            if parent is None or parent.type != InodeType.DIRECTORY:
                seen.append(Seen("version-without-folder", key, value))
                continue
        if record.inode_id and record.inode_id not in inodes:
            continue  # unreadable: told of where inodes are walked
        inode = inodes.get(record.inode_id)
        if record.inode_id and inode is None:
            seen.append(Seen("version-without-inode", key, value))
        elif sequence is None:
            kind = "" if inode is None else await _folder(tx, parent_id, name, inode)
            if kind:
                seen.append(Seen(kind, key, value))
        else:
            kinds = await _version(tx, Slot(Versioning.ENABLED, parent_id, name), record, sequence)
            if inode is not None and (not inode.noncurrent or inode.nlink):
                kinds.append("version-inode")
            seen += [Seen(kind, key, value) for kind in kinds]
    return seen


async def _folder(tx: ReadTransaction, parent_id: int, name: bytes, inode: Inode) -> str:
    """What is wrong with a hidden folder; empty if nothing is."""
    if inode.type != InodeType.DIRECTORY or not inode.noncurrent:
        return "hidden-folder"
    if (inode.parent_id, inode.name + b"/") != (parent_id, name):
        return "hidden-folder"
    return "" if await has_versions(tx, inode.inode_id) else "hidden-empty"


async def _version(
    tx: ReadTransaction, slot: Slot, record: VersionRecord, sequence: int
) -> list[str]:
    """What is wrong with the place of a version among those of its key."""
    kinds: list[str] = []
    entry = await find_entry(tx, slot.directory_id, slot.name)
    if entry is not None and entry.sequence <= sequence:
        kinds.append("version-order")
    if entry is None and record.inode_id:
        newest = await newest_row(tx, slot)
        if newest is not None and newest.sequence == sequence:
            kinds.append("version-newest")
    if record.is_null:
        found = await find_row(tx, slot, None)
        if found is None or found.sequence != sequence:
            kinds.append("version-null")
    return kinds


class VersionCheck:
    """Walks all version records."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def run(self, count: Callable[[int], None]) -> None:
        """Check every record; *count* is given the inode of each."""
        check = self._check
        check.progress.stage("versions")

        async def readable(tx: ReadTransaction, rows: Rows) -> list[Seen]:
            return await judge_versions(tx, _readable(rows))

        async for rows, seen in pages(check.kv, *letter_range(b"w"), readable):
            for key, value in rows:
                record = decoded(check.findings, key, value, decode_version)
                if record is not None and record.inode_id:
                    count(record.inode_id)
            for one in seen:
                self._tell(one)
            check.progress.advance(len(rows))
        await self._null_index()

    async def _null_index(self) -> None:
        """Records of null versions that are not there."""

        async def wrong(tx: ReadTransaction, rows: Rows) -> Rows:
            found: Rows = []
            for key, value in rows:
                row = await find_row(tx, _indexed(key), None)
                if row is None or not row.record.is_null:
                    found.append((key, value))
            return found

        async for rows, odd in pages(self._check.kv, *letter_range(b"z"), wrong):
            for key, value in odd:
                self._tell_index(key, value)
            self._check.progress.advance(len(rows))

    def _tell_index(self, key: bytes, value: bytes) -> None:
        async def repair() -> str | None:
            async def work(tx: Transaction) -> bool:
                if await tx.get(key) != value or await find_row(tx, _indexed(key), None):
                    return False
                tx.clear(key)
                return True

            if not await self._check.kv.transact(work):
                return None
            return "removed: it led to no null version"

        self._check.findings.add(
            Finding(
                "null-leftover",
                f"null version of {_shown(key[9:])} in folder {number_of(key):x}",
                f"sequence {unpack_number(value):x} is no null version",
                "run with --repair",
                repair=repair,
            )
        )

    def _tell(self, seen: Seen) -> None:
        text, advice = VERSION_KINDS[seen.kind]
        name, sequence = version_name(seen.key)
        record = seen.record
        what = "" if sequence is None else version_id(sequence, is_null=record.is_null) + " of "
        gone = seen.kind in ("version-without-folder", "version-without-inode")
        self._check.findings.add(
            Finding(
                seen.kind,
                f"version {what}{_shown(name)} in folder {seen.parent_id:x}",
                f"{text} (inode {record.inode_id:x})",
                advice,
                repair=self._repair(seen),
                safety=Safety.GIVES_UP if seen.kind == "version-without-inode" else Safety.SAFE,
                lost_metadata=gone and bool(record.inode_id),
                owners={record.inode_id} - {0},
            )
        )

    def _repair(self, seen: Seen) -> Repair | None:
        context, record = self._check.context, seen.record
        if seen.kind == "version-without-folder" and record.inode_id:
            return lambda: self._rehome(seen)

        async def remove(tx: Transaction) -> None:
            tx.clear(seen.key)
            if record.is_null:
                slot = seen.slot()
                tx.clear(null_version_key(slot.directory_id, slot.name))

        async def mark(tx: Transaction) -> None:
            value = await tx.get(inode_key(record.inode_id))
            assert value is not None, "the judgement in this transaction has read it"
            inode = decode_inode(value)
            if not inode.lives:
                count_file(tx, inode, inode.size, 1)
            put_inode(tx, msgspec.structs.replace(inode, noncurrent=True))

        async def make_current(tx: Transaction) -> None:
            await promote(context, tx, seen.slot())

        async def index(tx: Transaction) -> None:
            slot, sequence = seen.slot(), version_name(seen.key)[1]
            assert sequence is not None
            tx.set(null_version_key(slot.directory_id, slot.name), pack_number(sequence))

        async def drop_folder(tx: Transaction) -> None:
            bucket_id = decode_inode(await tx.get(inode_key(record.inode_id)) or b"").bucket_id
            await prune(context, tx, record.inode_id, bucket_id, versioned=True)

        changes: dict[str, tuple[Callable[[Transaction], Awaitable[None]], str]] = {
            "version-without-folder": (remove, "removed: a delete marker of nothing"),
            "version-without-inode": (remove, "removed: it led to nothing; you accepted the loss"),
            "version-inode": (mark, "the inode says that it is a noncurrent version"),
            "version-newest": (make_current, "made current: nothing newer says it was deleted"),
            "version-null": (index, "found by its name again: it was only not told of"),
            "hidden-folder": (remove, "forgotten here: the folder itself is elsewhere"),
            "hidden-empty": (drop_folder, "removed: nothing was in it"),
        }
        change = changes.get(seen.kind)
        return None if change is None else lambda: self._change(seen, *change)

    async def _change(
        self, seen: Seen, change: Callable[[Transaction], Awaitable[None]], done: str
    ) -> str | None:
        """Make *change*, if the record is unchanged and still as wrong as it was."""

        async def work(tx: Transaction) -> bool:
            if not await _still(tx, seen):
                return False
            await change(tx)
            return True

        return done if await self._check.kv.transact(work) else None

    async def _rehome(self, seen: Seen) -> str | None:
        key = inode_key(seen.record.inode_id)

        async def read(tx: ReadTransaction) -> bytes | None:
            return await tx.get(key) if await _still(tx, seen) else None

        value = await self._check.kv.read(read)
        if value is None:
            return None
        return await adopt(self._check, seen.record.inode_id, value, seen.key)


def _readable(rows: Rows) -> Rows:
    """Rows that can be decoded; the others are told of where they are counted."""
    found: Rows = []
    for key, value in rows:
        try:
            decode_version(value)
        except DataLossError:
            continue
        found.append((key, value))
    return found


def _indexed(key: bytes) -> Slot:
    return Slot(Versioning.ENABLED, number_of(key), key[9:])


def _shown(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


async def _still(tx: ReadTransaction, seen: Seen) -> bool:
    if await tx.get(seen.key) != seen.value:
        return False
    return seen in await judge_versions(tx, [(seen.key, seen.value)])
