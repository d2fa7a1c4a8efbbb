"""DRIVER: do names and inodes fit together? Every page is judged in one snapshot, so that a store
in use raises no false alarm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from ..errors import DataLossError
from ..ids import ROOT_INODE_ID
from ..kv.store import ReadTransaction, Transaction
from ..limits import NAME_BYTES_MAX
from ..meta.folders import show_all
from ..meta.names import digest_of
from ..meta.records import Inode, InodeType
from ..meta.schema import (
    ENTRY_EXPLICIT,
    Entry,
    bucket_key,
    decode_bucket,
    decode_entry,
    decode_inode,
    directory_prefix,
    encode_entry,
    inode_key,
    long_name_key,
)
from ..meta.tree import put_inode
from .findings import Finding, Repair, Safety
from .lost_found import adopt
from .scan import Check, Rows, decoded, letter_range, number_of, pages

ENTRY_KINDS = {
    "entry-without-folder": ("its folder is gone", "run with --repair to give it a new place"),
    "entry-without-inode": (
        "the file or folder that it names is gone",
        "restore it from a backup of the metadata; else run with --repair --accept-loss to remove "
        "the name",
    ),
    "entry-hidden": ("its folder is hidden, so nobody sees it", "run with --repair to show it"),
    "entry-type": ("it says another type than its inode", "run with --repair"),
    "entry-form": (
        "a name with a slash at its end is a folder's, and only a folder's; this one is not so",
        "keep a copy of the metadata, and ask for help",
    ),
    "entry-flag": ("entry and folder differ on whether it stays when empty", "run with --repair"),
    "folder-place": ("the folder itself says that it is elsewhere", "run with --repair"),
    "folder-two-names": (
        "the folder has another name as well",
        "move what it holds to a new folder by one of the names; then remove both",
    ),
    "long-name": ("its escaped form in the mount is not known", "run with --repair"),
    "bucket-record": (
        "there is no bucket record for this name at the root",
        "make a bucket of another name and move the content there by the mount",
    ),
}


class Seen(NamedTuple):
    """Something wrong with an entry."""

    kind: str
    key: bytes
    value: bytes

    @property
    def parent_id(self) -> int:
        return number_of(self.key)

    @property
    def name(self) -> bytes:
        return self.key[9:]


async def read_inodes(tx: ReadTransaction, numbers: list[int]) -> dict[int, Inode | None]:
    """Readable inodes by number; unreadable ones are left out (told of where inodes are walked)."""
    found: dict[int, Inode | None] = {}
    values = await tx.get_many([inode_key(number) for number in numbers])
    for number, value in zip(numbers, values, strict=True):
        try:
            found[number] = None if value is None else decode_inode(value)
        except DataLossError:
            continue
    return found


async def judge_entries(tx: ReadTransaction, rows: Rows) -> list[Seen]:
    """What is wrong with entries, as *tx* shows them."""
    entries: list[tuple[bytes, bytes, Entry]] = []
    for key, value in rows:
        try:
            entries.append((key, value, decode_entry(value)))
        except DataLossError:
            continue  # told of by the caller
    numbers = {number_of(key) for key, _, _ in entries}
    numbers |= {entry.inode_id for _, _, entry in entries}
    inodes = await read_inodes(tx, sorted(numbers))
    seen: list[Seen] = []
    for key, value, entry in entries:
        parent_id, name = number_of(key), key[9:]
        if parent_id in inodes:
            parent = inodes[parent_id]
            if parent is None or parent.type != InodeType.DIRECTORY:
                seen.append(Seen("entry-without-folder", key, value))
            elif parent.noncurrent:
                seen.append(Seen("entry-hidden", key, value))
        if entry.inode_id in inodes:
            inode = inodes[entry.inode_id]
            if inode is None:
                seen.append(Seen("entry-without-inode", key, value))
            else:
                kinds = await _fit(tx, parent_id, name, entry, inode)
                seen += [Seen(kind, key, value) for kind in kinds]
        bare = name.removesuffix(b"/")
        if len(bare) > NAME_BYTES_MAX // 4:
            if await tx.get(long_name_key(parent_id, digest_of(bare))) != bare:
                seen.append(Seen("long-name", key, value))
    return seen


async def _fit(
    tx: ReadTransaction, parent_id: int, name: bytes, entry: Entry, inode: Inode
) -> list[str]:
    """In what an entry and its inode differ."""
    directory = inode.type == InodeType.DIRECTORY
    if directory != name.endswith(b"/"):
        return ["entry-form"]
    kinds = [] if inode.type == entry.type else ["entry-type"]
    if not directory:
        return kinds
    if inode.explicit != bool(entry.flags & ENTRY_EXPLICIT):
        kinds.append("entry-flag")
    if (inode.parent_id, inode.name) != (parent_id, name[:-1]):
        other = await tx.get(directory_prefix(inode.parent_id) + inode.name + b"/")
        two = other is not None and decode_entry(other).inode_id == entry.inode_id
        kinds.append("folder-two-names" if two else "folder-place")
    if parent_id == ROOT_INODE_ID:
        record = await tx.get(bucket_key(name[:-1].decode("utf-8", "surrogateescape")))
        if record is None or decode_bucket(record).inode_id != entry.inode_id:
            kinds.append("bucket-record")
    return kinds


class EntryCheck:
    """Walks all names."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.misplaced: set[int] = set()
        """Folders that have a name, elsewhere than they think."""

    async def run(self, count: Callable[[int], None]) -> None:
        """Check every entry; *count* is given the inode of each."""
        check = self._check
        check.progress.stage("names")
        async for rows, seen in pages(check.kv, *letter_range(b"d"), judge_entries):
            for key, value in rows:
                entry = decoded(check.findings, key, value, decode_entry)
                if entry is not None:
                    count(entry.inode_id)
            for one in seen:
                self._tell(one)
            check.progress.advance(len(rows))

    def _tell(self, seen: Seen) -> None:
        text, advice = ENTRY_KINDS[seen.kind]
        entry = decode_entry(seen.value)
        if seen.kind == "folder-place":
            self.misplaced.add(entry.inode_id)
        name = seen.name.decode(errors="backslashreplace")
        gone = seen.kind in ("entry-without-inode", "entry-without-folder")
        self._check.findings.add(
            Finding(
                seen.kind,
                f"name {name} in folder {seen.parent_id:x}",
                f"{text} (inode {entry.inode_id:x})",
                advice,
                repair=self._repair(seen, entry),
                safety=Safety.GIVES_UP if seen.kind == "entry-without-inode" else Safety.SAFE,
                lost_metadata=gone,
                owners={entry.inode_id},
            )
        )

    def _repair(self, seen: Seen, entry: Entry) -> Repair | None:
        if seen.kind == "entry-without-folder":
            return lambda: self._rehome(seen, entry)
        changes: dict[str, tuple[Callable[[Transaction], Awaitable[None]], str]] = {}

        async def remove(tx: Transaction) -> None:
            tx.clear(seen.key)

        async def take_type(tx: Transaction) -> None:
            inode = decode_inode(await _needed(tx, inode_key(entry.inode_id)))
            tx.set(seen.key, encode_entry(entry._replace(type=inode.type)))

        async def take_flag(tx: Transaction) -> None:
            inode = decode_inode(await _needed(tx, inode_key(entry.inode_id)))
            flags = ENTRY_EXPLICIT if inode.explicit else 0
            tx.set(seen.key, encode_entry(entry._replace(flags=flags)))

        async def take_place(tx: Transaction) -> None:
            inode = decode_inode(await _needed(tx, inode_key(entry.inode_id)))
            put_inode(
                tx,
                msgspec.structs.replace(inode, parent_id=seen.parent_id, name=seen.name[:-1]),
            )

        async def add_digest(tx: Transaction) -> None:
            bare = seen.name.removesuffix(b"/")
            tx.set(long_name_key(seen.parent_id, digest_of(bare)), bare)

        changes["entry-without-inode"] = (
            remove,
            "name removed: it led to nothing, and you accepted the loss",
        )

        async def show(tx: Transaction) -> None:
            await show_all(self._check.context, tx, seen.parent_id)

        changes["entry-hidden"] = (show, "the folder is shown again: it holds something current")
        changes["entry-type"] = (take_type, "the entry has its inode's type: that is what is used")
        changes["entry-flag"] = (take_flag, "the entry has its folder's flag: nothing else changes")
        changes["folder-place"] = (
            take_place,
            "the folder says where its name is: by that name it was found all along",
        )
        changes["long-name"] = (add_digest, "the escaped form is known again: it was only missing")
        change = changes.get(seen.kind)
        return None if change is None else lambda: self._change(seen, *change)

    async def _change(
        self, seen: Seen, change: Callable[[Transaction], Awaitable[None]], done: str
    ) -> str | None:
        """Make *change*, if the entry is unchanged and still as wrong as it was."""
        context = self._check.context

        async def work(tx: Transaction) -> bool:
            if not await _still(tx, seen):
                return False
            await change(tx)
            bare = seen.name.removesuffix(b"/")
            context.tell_entry(tx, seen.parent_id, bare, decode_entry(seen.value).inode_id)
            return True

        return done if await self._check.kv.transact(work) else None

    async def _rehome(self, seen: Seen, entry: Entry) -> str | None:
        async def read(tx: ReadTransaction) -> bytes | None:
            return await tx.get(inode_key(entry.inode_id)) if await _still(tx, seen) else None

        value = await self._check.kv.read(read)
        if value is None:
            return None
        return await adopt(self._check, entry.inode_id, value, seen.key)


async def _still(tx: ReadTransaction, seen: Seen) -> bool:
    if await tx.get(seen.key) != seen.value:
        return False
    return seen in await judge_entries(tx, [(seen.key, seen.value)])


async def _needed(tx: ReadTransaction, key: bytes) -> bytes:
    value = await tx.get(key)
    assert value is not None, "the judgement in this transaction has read it"
    return value
