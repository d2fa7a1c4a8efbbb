"""Many deletions in one transaction of a bucket that was never versioned: everything is read first,
many keys at a time, and then written. Deletions one by one would read among their own writes, which
costs the square of their number.

Rules are those of ``object_removal.remove_object``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..errors import CallerError, DataLossError
from ..kv.store import Transaction
from .charges import Counts
from .conditions import check_conditions
from .context import MetaContext
from .happenings import teller_of
from .names import digest_of
from .records import NO_CONDITIONS, Bucket, DeleteOutcome, Deletion, FeedEvent, Inode, InodeType
from .schema import (
    Entry,
    RemovalRecord,
    decode_entry,
    directory_end,
    directory_prefix,
    directory_time_key,
    encode,
    inode_key,
    long_name_key,
    xattr_range,
)
from .tree import LONG_NAME_BYTES, inodes_of, put_inode, split_key
from .version_ids import NULL

Outcome = DeleteOutcome | Exception
Path = tuple[bytes, ...]


class BulkDeletion:
    """One group of deletions; use ``run`` once."""

    def __init__(
        self, context: MetaContext, tx: Transaction, bucket: Bucket, deletions: Sequence[Deletion]
    ) -> None:
        self._context = context
        self._tx = tx
        self._bucket = bucket
        self._deletions = deletions
        self._outcomes: list[Outcome | None] = [None] * len(deletions)
        self._folder_ids: dict[Path, int] = {(): bucket.inode_id}
        self._removed: dict[int, dict[bytes, Entry]] = {}
        """What each folder loses: by stored name."""
        self._twins: set[bytes] = set()
        """Keys of entries with a long name that has another form: its digest is for both."""
        self._inodes: dict[int, Inode] = {}
        self._with_xattrs: list[int] = []
        """Of the folders that vanish: a range is cleared only where there is something."""

    async def run(self) -> list[Outcome | None]:
        """Carry the deletions out, and tell of them; None for those that are left to
        ``remove_object``: of folders with content of their own."""
        places = self._places()
        await self._find_folders({path for path, _ in places.values()})
        await self._find_objects(places)
        emptied = await self._emptied_folders()
        for folder in emptied:
            if await self._tx.get_range(*xattr_range(folder.inode_id), limit=1):
                self._with_xattrs.append(folder.inode_id)
        self._write(emptied)
        await self._tell()
        return self._outcomes

    async def _tell(self) -> None:
        teller = await teller_of(self._context, self._tx, self._bucket)
        if teller is not None:
            for deletion, outcome in zip(self._deletions, self._outcomes, strict=True):
                if isinstance(outcome, DeleteOutcome):
                    await teller.tell_outcome(deletion.key, outcome, named=True)

    def _places(self) -> dict[int, tuple[Path, bytes]]:
        """Folder and name of the objects to remove, by the number of the deletion."""
        places = {}
        for number, deletion in enumerate(self._deletions):
            if deletion.version_id not in ("", NULL):
                continue
            try:
                directories, name = split_key(deletion.key)
            except CallerError as error:
                self._outcomes[number] = error
                continue
            if name or not directories:
                places[number] = tuple(directories), name
        return places

    async def _find_folders(self, paths: set[Path]) -> None:
        """Follow all paths at once, a level at a time."""
        for depth in range(max(map(len, paths), default=0)):
            level = {path[: depth + 1] for path in paths if len(path) > depth}
            wanted = [path for path in level if path[:-1] in self._folder_ids]
            keys = [
                directory_prefix(self._folder_ids[path[:-1]]) + path[-1] + b"/" for path in wanted
            ]
            for path, value in zip(wanted, await self._tx.get_many(keys), strict=True):
                if value is not None:
                    self._folder_ids[path] = decode_entry(value).inode_id

    async def _find_objects(self, places: dict[int, tuple[Path, bytes]]) -> None:
        """Read entries and inodes, and check what may be removed."""
        found: dict[int, tuple[int, bytes]] = {}
        for number, (path, name) in places.items():
            folder_id = self._folder_ids.get(path)
            if folder_id is not None:
                found[number] = folder_id, name
        keys = [directory_prefix(folder_id) + name for folder_id, name in found.values()]
        entries: dict[int, Entry] = {}
        for number, value in zip(found, await self._tx.get_many(keys), strict=True):
            if value is not None:
                entries[number] = decode_entry(value)
        await self._read_inodes({entry.inode_id for entry in entries.values()})
        await self._find_twins(keys)
        for number in places:
            entry = entries.get(number)
            removed = self._removed.setdefault(found[number][0], {}) if number in found else {}
            name = places[number][1]
            if entry is not None and name in removed:
                entry = None  # it was named twice
            present = None if entry is None else self._inodes[entry.inode_id]
            self._outcomes[number] = self._check(self._deletions[number], present)
            if entry is not None and isinstance(self._outcomes[number], DeleteOutcome):
                removed[name] = entry

    def _check(self, deletion: Deletion, present: Inode | None) -> Outcome:
        what = f"object {self._bucket.name}/{deletion.key.decode(errors='replace')}"
        try:
            if deletion.conditions is not NO_CONDITIONS:
                check_conditions(deletion.conditions, present, what)
        except CallerError as error:
            return error
        return DeleteOutcome(present is not None, deletion.version_id)

    async def _read_inodes(self, numbers: set[int]) -> None:
        wanted = [number for number in numbers if number not in self._inodes]
        for number, inode in zip(wanted, await inodes_of(self._tx, wanted), strict=True):
            if inode is None:
                raise DataLossError(f"inode {number:x} has a name and is gone: run craqen fsck")
            self._inodes[number] = inode

    async def _find_twins(self, keys: Sequence[bytes]) -> None:
        """Which of *keys* of entries have long names, and a folder or file of the same name."""
        long = [key for key in keys if len(key) > LONG_NAME_BYTES + len(directory_prefix(0))]
        values = await self._tx.get_many([_other_form(key) for key in long])
        self._twins |= {key for key, value in zip(long, values, strict=True) if value is not None}

    async def _emptied_folders(self) -> list[Inode]:
        """Implicit folders that hold nothing else, the deepest first."""
        emptied: list[Inode] = []
        by_depth = sorted(self._folder_ids.items(), key=lambda item: len(item[0]), reverse=True)
        await self._read_inodes(set(self._folder_ids.values()))
        for path, folder_id in by_depth:
            removed = self._removed.get(folder_id)
            folder = self._inodes[folder_id]
            if not path or not removed or folder.explicit:
                continue
            own = directory_prefix(folder_id)
            rows = await self._tx.get_range(own, directory_end(folder_id), limit=len(removed) + 1)
            if all(key[len(own) :] in removed for key, _ in rows):
                emptied.append(folder)
                above = self._removed.setdefault(folder.parent_id, {})
                above[folder.name + b"/"] = Entry(folder_id, InodeType.DIRECTORY, 0)
        await self._find_twins(
            [directory_prefix(folder.parent_id) + folder.name + b"/" for folder in emptied]
        )
        return emptied

    def _write(self, emptied: Sequence[Inode]) -> None:
        context, tx = self._context, self._tx
        gone = {folder.inode_id for folder in emptied}
        due = context.now_ns() + context.removal_grace_ns
        now = context.now_ns()
        counts = Counts()
        events: list[FeedEvent] = []
        own_id = context.client_id
        for folder_id, removed in self._removed.items():
            own = directory_prefix(folder_id)
            if removed and folder_id not in gone:
                context.touch_directory(tx, folder_id)
            for stored, entry in removed.items():
                self._clear_entry(own + stored, folder_id, stored, removed)
                name = stored.removesuffix(b"/")
                events.append(FeedEvent("entry", entry.inode_id, folder_id, name, own_id))
                if entry.type == InodeType.DIRECTORY:
                    continue
                inode = self._inodes[entry.inode_id]
                inode = msgspec.structs.replace(inode, nlink=inode.nlink - 1, ctime_ns=now)
                self._inodes[entry.inode_id] = inode
                put_inode(tx, inode)
                events.append(FeedEvent("inode", entry.inode_id, 0, b"", own_id))
                if inode.nlink == 0:
                    record = RemovalRecord(inode.inode_id, 0, None, 0)
                    tx.set(context.next_removal_key(due), encode(record))
                    counts.lose(inode)
        for folder in emptied:
            tx.clear(inode_key(folder.inode_id))
            tx.clear(directory_time_key(folder.inode_id))
        for inode_id in self._with_xattrs:
            tx.clear_range(*xattr_range(inode_id))
        context.tell_all(tx, events)
        counts.apply(tx)

    def _clear_entry(
        self, key: bytes, folder_id: int, stored: bytes, removed: Mapping[bytes, Entry]
    ) -> None:
        self._tx.clear(key)
        name = stored.removesuffix(b"/")
        if len(name) <= LONG_NAME_BYTES:
            return
        if key not in self._twins or _other_form(stored) in removed:
            self._tx.clear(long_name_key(folder_id, digest_of(name)))


def _other_form(stored: bytes) -> bytes:
    """The entry of a folder for that of a file of the same name, and the other way round."""
    return stored[:-1] if stored.endswith(b"/") else stored + b"/"
