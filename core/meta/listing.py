"""Listings in S3's order: a depth-first walk of the tree, resumed anywhere, reading no more than
the page.

An entry's stored name (directories with their slash) sorts among its siblings exactly as the keys
below it do, so nothing is ever sorted or buffered. All bounds are *inclusive lower bounds* on keys:
"behind k" is ``k + b"\\0"``, "behind everything that starts with p" is the first key after that
prefix. The walk keeps its own stack: a key may be a thousand folders deep.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..errors import DataLossError
from ..kv.keys import prefix_end
from ..kv.store import KeyValue, ReadTransaction
from .context import MetaContext
from .records import InodeType, ListEntry, Listing
from .schema import (
    ENTRY_EXPLICIT,
    Entry,
    decode_entry,
    directory_end,
    directory_prefix,
    encode_entry,
    entry_fields,
)
from .tree import find_bucket, find_entry, inodes_of

SCAN_ROWS_MAX = 1001  # a page of 1,000 keys in one folder is one range read
CHILD_ROWS = 64  # the first read of a folder below; the next ones grow
SEEK_ROWS = 16  # the first read after a jump: often only one row is wanted
GROWTH = 4

_DIRECTORY = int(InodeType.DIRECTORY)  # compared for each row: a plain number is quicker

Found = tuple[bytes, int | None]
"""A key and its inode id, or a common prefix and None."""


class Listings:
    """``list_objects`` of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        """One page."""

        async def read(tx: ReadTransaction) -> Listing:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            if limit <= 0:
                return Listing([], None)
            walk = KeyWalk(tx, prefix, delimiter)
            await walk.start(bucket_id, after, limit + 1)
            return await _page(tx, await walk.take(limit + 1), limit)

        return await self._context.kv.read(read)


async def _page(tx: ReadTransaction, found: list[Found], limit: int) -> Listing:
    """The first *limit* of *found*, with their inodes."""
    more = len(found) > limit
    found = found[:limit]
    numbers = [number for _, number in found if number is not None]
    inodes = await inodes_of(tx, numbers)
    if len(numbers) == len(found):
        entries = [ListEntry(item[0], inode) for item, inode in zip(found, inodes, strict=True)]
    else:
        of_key = iter(inodes)
        entries = [
            ListEntry(key, None if number is None else next(of_key)) for key, number in found
        ]
    if None in inodes:  # one snapshot has an inode for every entry
        raise DataLossError("an entry of this listing leads to no inode: run craqen fsck")
    return Listing(entries, found[-1][0] if more else None)


class _Folder:
    """A folder on the way down, and its entries as far as they were read."""

    __slots__ = ("_end", "_next", "_rows_wanted", "at_end", "base", "own", "position", "rows")

    def __init__(self, directory_id: int, base: bytes, partial: bytes, rows_wanted: int) -> None:
        self.base = base
        """What all keys below start with."""
        self.own = directory_prefix(directory_id)
        self.rows: list[KeyValue] = []
        self.position = 0
        self.at_end = False
        self._next = self.own + partial
        self._end = prefix_end(self._next) if partial else directory_end(directory_id)
        self._rows_wanted = rows_wanted

    async def fill(self, tx: ReadTransaction) -> None:
        """Read on behind the rows, all of which were used."""
        limit = self._rows_wanted
        self._rows_wanted = min(limit * GROWTH, SCAN_ROWS_MAX)
        self.position = 0
        self.rows = (
            await tx.get_range(self._next, self._end, limit=limit) if self._next < self._end else []
        )
        if len(self.rows) < limit:
            self.at_end = True
        else:
            self._next = self.rows[-1][0] + b"\0"

    async def fill_own(self, tx: ReadTransaction, directory_id: int) -> None:
        """The first read of an explicit folder: without an entry of its own it is a key itself."""
        await self.fill(tx)
        if not self.rows or self.rows[0][0] != self.own:
            self.rows.insert(0, (self.own, encode_entry(Entry(directory_id, InodeType.FILE, 0))))

    def skip_to(self, key: bytes, rows_wanted: int) -> None:
        """Leave out the rows before *key*; if they must be read first, *rows_wanted* at first."""
        self.position = bisect_left(self.rows, (key,), self.position)
        if self.position == len(self.rows) and not self.at_end and key > self._next:
            self._next = key
            self._rows_wanted = rows_wanted


class KeyWalk:
    """Keys of one bucket, and common prefixes, in order."""

    def __init__(self, tx: ReadTransaction, prefix: bytes, delimiter: bytes) -> None:
        self._tx = tx
        self._prefix = prefix
        self._delimiter = delimiter
        self._folders: list[_Folder] = []

    async def start(self, bucket_id: int, after: bytes, rows_wanted: int) -> None:
        """Go to the first key that has the prefix and is behind *after*."""
        prefix, delimiter = self._prefix, self._delimiter
        base_end = prefix.rfind(b"/") + 1
        base, partial = prefix[:base_end], prefix[base_end:]
        entry = await _find_folder(self._tx, bucket_id, base[:-1].split(b"/") if base else ())
        if entry is None:
            return
        lower = max(prefix, after + b"\0" if after else b"")
        if delimiter and after.startswith(prefix):
            at = after.find(delimiter, len(prefix))
            if at >= 0:
                lower = max(lower, behind(after[: at + len(delimiter)]))
        rows_wanted = min(rows_wanted, SCAN_ROWS_MAX)
        folder = _Folder(entry.inode_id, base, partial, rows_wanted)
        if base == lower and entry.flags & ENTRY_EXPLICIT:
            await folder.fill_own(self._tx, entry.inode_id)
        self._folders.append(folder)
        await self._seek(lower, rows_wanted)

    async def take(self, limit: int) -> list[Found]:
        """The next *limit* keys and common prefixes; fewer at the end."""
        found: list[Found] = []
        folders = self._folders
        while folders and len(found) < limit:
            folder = folders[-1]
            if folder.position == len(folder.rows):
                if folder.at_end:
                    folders.pop()
                else:
                    await folder.fill(self._tx)
                continue
            jump = self._take_rows(folder, found, limit)
            if isinstance(jump, bytes):
                await self._seek(jump, SEEK_ROWS)
            elif jump is not None:
                await self._descend(found.pop()[0], jump)
        return found

    def _take_rows(self, folder: _Folder, found: list[Found], limit: int) -> Entry | bytes | None:
        """Add the folder's rows to *found* until it is full, they are used up (None), a folder is
        to be entered (its entry; its key is the last of *found*), or the walk must go on from a
        certain key."""
        delimiter, skip = self._delimiter, len(self._prefix)
        descends = delimiter != b"/"
        base, own = folder.base, len(folder.own)
        room = folder.position + limit - len(found)
        for row, value in folder.rows[folder.position : room]:
            folder.position += 1
            key = base + row[own:]
            _, inode_id, kind, flags = entry_fields(value)
            if kind == _DIRECTORY:
                found.append((key, None))
                if descends:
                    return Entry(inode_id, kind, flags)
            elif not delimiter or (at := key.find(delimiter, skip)) < 0:
                found.append((key, inode_id))
            else:
                common = key[: at + len(delimiter)]
                found.append((common, None))
                return behind(common)
        return None

    async def _descend(self, base: bytes, entry: Entry) -> None:
        folder = _Folder(entry.inode_id, base, b"", CHILD_ROWS)
        if any(above.own == folder.own for above in self._folders):
            raise DataLossError(f"folder {entry.inode_id:x} is inside itself: run craqen fsck")
        if entry.flags & ENTRY_EXPLICIT:
            await folder.fill_own(self._tx, entry.inode_id)
        self._folders.append(folder)

    async def _seek(self, lower: bytes, rows_wanted: int) -> None:
        """Go forward to the first key from *lower* on."""
        folders = self._folders
        while folders:
            folder = folders[-1]
            if not lower.startswith(folder.base):
                if lower < folder.base:
                    return
                folders.pop()
                continue
            relative = lower[len(folder.base) :]
            slash = relative.find(b"/") + 1
            target = folder.own + (relative[:slash] if slash else relative)
            folder.skip_to(target, rows_wanted)
            if not slash:
                return
            if folder.position == len(folder.rows) and not folder.at_end:
                await folder.fill(self._tx)
            if folder.position == len(folder.rows) or folder.rows[folder.position][0] != target:
                return
            if slash == len(relative):
                return  # all of the folder, its own key included
            # Some of what is below it: never its own key.
            entry = decode_entry(folder.rows[folder.position][1])
            folder.position += 1
            base = folder.base + relative[:slash]
            folders.append(_Folder(entry.inode_id, base, b"", rows_wanted))


async def _find_folder(
    tx: ReadTransaction, bucket_id: int, directories: Sequence[bytes]
) -> Entry | None:
    """The entry of the folder, following *directories* from the bucket; None if there is none."""
    entry = Entry(bucket_id, InodeType.DIRECTORY, 0)
    for name in directories:
        found = await find_entry(tx, entry.inode_id, name + b"/")
        if found is None:
            return None
        entry = found
    return entry


def behind(prefix: bytes) -> bytes:
    """The first key behind all that start with *prefix*."""
    try:
        return prefix_end(prefix)
    except ValueError:  # all bytes 0xff, which no UTF-8 has: nothing can come after it
        return prefix + b"\xff"
