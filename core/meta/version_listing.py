"""Listings of versions in S3's order: the walk of core/meta/listing.py over two ordered scans.

Each folder is read from its entries (current objects, folders) and from its versions (noncurrent
ones, delete markers, hidden folders), merged by name; the entry of a name comes before its
versions, which are newest first. Nothing beyond the page is read but the rest of the last batches.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import NamedTuple

from ..errors import DataLossError
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction
from .context import MetaContext
from .folders import find_any_directory
from .listing import CHILD_ROWS, GROWTH, SCAN_ROWS_MAX, SEEK_ROWS, behind
from .records import InodeType, VersionEntry, Versioning, VersionListing
from .schema import (
    ENTRY_EXPLICIT,
    NAME_END,
    SEQUENCE_MAX,
    Entry,
    decode_entry,
    decode_version,
    directory_end,
    directory_prefix,
    escape_name,
    pack_number,
    sequence_of,
    unescape_name,
    versions_end,
    versions_prefix,
)
from .tree import find_bucket, find_entry, find_inode, inodes_of
from .version_ids import parse_version_id, sequence_id, version_id
from .versions import Slot, find_row

_SEQUENCE_BYTES = 8
_PREFIX_BYTES = 9  # a letter and a directory
_DIRECTORY = int(InodeType.DIRECTORY)  # compared for each row: a plain number is quicker
_FIRST = SEQUENCE_MAX  # the place of a folder without content, before all versions of its key

Item = tuple[bytes, bytes, bool]
"""(place in the folder, value, from the versions). The place is the name, escaped and ended, and
for a version its age."""


class Line(NamedTuple):
    """A line to be: a version, a marker (inode id 0), or a common prefix (inode id None)."""

    key: bytes
    inode_id: int | None
    sequence: int
    is_null: bool
    is_latest: bool
    since_ns: int


class VersionListings:
    """``list_object_versions`` of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def list_object_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionListing:
        """One page."""
        sequence = parse_version_id(after_version) if after_version else 0

        async def read(tx: ReadTransaction) -> VersionListing:
            found = await find_bucket(tx, bucket)
            if limit <= 0:
                return VersionListing([], None, "")
            walk = VersionWalk(tx, prefix, delimiter)
            if after_version:
                await walk.start_within(found.inode_id, after_key, sequence, limit + 1)
            else:
                await walk.start(found.inode_id, after_key, limit + 1)
            lines = await walk.take(limit + 1)
            return await _page(tx, lines, limit, found.versioning)

        return await self._context.kv.read(read)


async def _page(
    tx: ReadTransaction, lines: list[Line], limit: int, versioning: Versioning
) -> VersionListing:
    more = len(lines) > limit
    lines = lines[:limit]
    inodes = iter(await inodes_of(tx, [line.inode_id for line in lines if line.inode_id]))
    entries: list[VersionEntry] = []
    for key, inode_id, sequence, is_null, is_latest, since_ns in lines:
        if inode_id is None:
            entries.append(VersionEntry(key, "", None, False, 0))
            continue
        inode = next(inodes) if inode_id else None
        if inode is None and inode_id:  # one snapshot has an inode for every version
            raise DataLossError(f"inode {inode_id:x} of a version is gone: run craqen fsck")
        name = version_id(sequence, is_null=is_null)
        if inode is None:
            entries.append(VersionEntry(key, name, None, is_latest, since_ns))
        else:
            entries.append(VersionEntry(key, name, inode, is_latest, inode.mtime_ns, since_ns))
    if not more:
        return VersionListing(entries, None, "")
    last = lines[-1]
    if last.inode_id is None:
        return VersionListing(entries, last.key, "")
    # Not "null": the place is found again also if the null version is gone by then.
    return VersionListing(entries, last.key, sequence_id(last.sequence))


class Source:
    """The rows of one letter of a folder, from a place on."""

    __slots__ = ("_end", "_next", "_own", "at_end", "is_versions", "items")

    def __init__(self, own: bytes, start: bytes, end: bytes, *, is_versions: bool) -> None:
        self._own = own
        self._next = own + start
        self._end = end
        self.is_versions = is_versions
        self.items: list[Item] = []
        """Read, and not merged yet."""
        self.at_end = False

    async def fill(self, tx: ReadTransaction, limit: int) -> None:
        """Read on, if nothing is left."""
        if self.items or self.at_end:
            return
        rows = (
            await tx.get_range(self._next, self._end, limit=limit) if self._next < self._end else []
        )
        if len(rows) < limit:
            self.at_end = True
        else:
            self._next = rows[-1][0] + b"\0"
        if self.is_versions:
            self.items = [(key[_PREFIX_BYTES:], value, True) for key, value in rows]
        else:
            self.items = [
                (escape_name(key[_PREFIX_BYTES:]) + NAME_END, value, False) for key, value in rows
            ]

    def skip_to(self, place: bytes, start: bytes) -> None:
        """Leave out what is before *place*; read on from *start* at the least."""
        del self.items[: bisect_left(self.items, place, key=itemgetter(0))]
        if not self.items and not self.at_end:
            self._next = max(self._next, self._own + start)


class _Folder:
    """A folder on the way down, its entries and versions merged as far as they were read."""

    __slots__ = ("_rows_wanted", "_sources", "base", "directory_id", "items", "last", "position")

    def __init__(self, directory_id: int, base: bytes, partial: bytes, rows_wanted: int) -> None:
        self.directory_id = directory_id
        self.base = base
        self.items: list[Item] = []
        self.position = 0
        self.last = b""
        """The place (without age) of the name that came last: what follows is not its latest."""
        entries, versions = directory_prefix(directory_id), versions_prefix(directory_id)
        escaped = escape_name(partial)
        ends = (
            (prefix_end(entries + partial), prefix_end(versions + escaped))
            if partial
            else (directory_end(directory_id), versions_end(directory_id))
        )
        self._sources = (
            Source(entries, partial, ends[0], is_versions=False),
            Source(versions, escaped, ends[1], is_versions=True),
        )
        self._rows_wanted = rows_wanted

    @property
    def at_end(self) -> bool:
        """Whether no more can be read."""
        return all(source.at_end and not source.items for source in self._sources)

    async def fill(self, tx: ReadTransaction) -> None:
        """Read on behind the items, all of which were used."""
        limit = self._rows_wanted
        self._rows_wanted = min(limit * GROWTH, SCAN_ROWS_MAX)
        entries, versions = self._sources
        await entries.fill(tx, limit)
        await versions.fill(tx, limit)
        self.position = 0
        # What lies behind the last row of a source with more to come must wait for that.
        bounds = [one.items[-1][0] for one in self._sources if not one.at_end]
        if not bounds:
            self.items = entries.items + versions.items
            entries.items, versions.items = [], []
        else:
            bound = min(bounds)
            self.items = []
            for source in self._sources:
                at = bisect_left(source.items, bound + b"\0", key=itemgetter(0))
                self.items += source.items[:at]
                source.items = source.items[at:]
        self.items.sort(key=itemgetter(0))

    async def fill_own(self, tx: ReadTransaction, directory_id: int) -> None:
        """The first read of an explicit folder: without content it is a key itself."""
        await self.fill(tx)
        if not self.items or self.items[0][0] != NAME_END:
            self.items.insert(0, (NAME_END, pack_number(directory_id), False))

    def skip_to(self, name: bytes, rows_wanted: int, *, place: bytes = b"") -> None:
        """Leave out the items of names before *name* (or before *place* in its versions)."""
        escaped = escape_name(name)
        wanted = place or escaped
        self.position = bisect_left(self.items, wanted, self.position, key=itemgetter(0))
        if self.position == len(self.items):
            self._rows_wanted = rows_wanted
            entries, versions = self._sources
            entries.skip_to(wanted, name + b"\0" if place else name)
            versions.skip_to(wanted, wanted)


class VersionWalk:
    """Versions of one bucket, and common prefixes, in order."""

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
        directories = base[:-1].split(b"/") if base else ()
        directory_id = await find_any_directory(self._tx, bucket_id, directories)
        if directory_id is None:
            return
        lower = max(prefix, after + b"\0" if after else b"")
        if delimiter and after.startswith(prefix):
            at = after.find(delimiter, len(prefix))
            if at >= 0:
                lower = max(lower, behind(after[: at + len(delimiter)]))
        rows_wanted = min(rows_wanted, SCAN_ROWS_MAX)
        folder = _Folder(directory_id, base, partial, rows_wanted)
        if base and base == lower and (await find_inode(self._tx, directory_id)).explicit:
            await folder.fill_own(self._tx, directory_id)
        self._folders.append(folder)
        await self._seek(lower, rows_wanted)

    async def start_within(
        self, bucket_id: int, key: bytes, sequence: int | None, rows_wanted: int
    ) -> None:
        """Go to the first version of *key* that is older than *sequence* (None: than its null
        version, or to the first if that is gone)."""
        await self.start(bucket_id, key, rows_wanted)
        delimiter, skip = self._delimiter, len(self._prefix)
        rolled_up = delimiter and key.find(delimiter, skip) >= 0
        if not key.startswith(self._prefix) or rolled_up:
            return
        *directories, name = key.split(b"/")
        directory_id = await find_any_directory(self._tx, bucket_id, directories)
        if directory_id is None:
            return
        slot = Slot(Versioning.ENABLED, directory_id, name)
        if sequence is None:
            entry = await find_entry(self._tx, directory_id, name)
            row = await find_row(self._tx, slot, None)
            if entry is not None and entry.is_null:
                sequence = entry.sequence
            else:
                sequence = SEQUENCE_MAX if row is None else row.sequence
        await self._enter_name(directory_id, key, name, sequence, rows_wanted)

    async def _enter_name(
        self, directory_id: int, key: bytes, name: bytes, sequence: int, rows_wanted: int
    ) -> None:
        """Take the walk, which is behind *key*, back into its versions."""
        place = escape_name(name) + NAME_END
        floor = place + pack_number(SEQUENCE_MAX - sequence) + b"\0"
        own = versions_prefix(directory_id)
        older = await self._tx.get_range(own + floor, prefix_end(own + place), limit=1)
        if not older:
            return
        newer = await self._tx.get_range(own + place, own + floor, limit=1)
        current = await find_entry(self._tx, directory_id, name)
        base = key[: len(key) - len(name)]
        while self._folders and self._folders[-1].base.startswith(base):
            self._folders.pop()
        partial = self._prefix[len(base) :] if len(self._prefix) > len(base) else b""
        folder = _Folder(directory_id, base, partial, rows_wanted)
        folder.skip_to(name, min(rows_wanted, SCAN_ROWS_MAX), place=floor)
        folder.last = place if newer or current is not None else b""
        self._folders.append(folder)

    async def take(self, limit: int) -> list[Line]:
        """The next *limit* lines; fewer at the end."""
        lines: list[Line] = []
        folders = self._folders
        while folders and len(lines) < limit:
            folder = folders[-1]
            if folder.position == len(folder.items):
                if folder.at_end:
                    folders.pop()
                else:
                    await folder.fill(self._tx)
                continue
            jump = self._take_items(folder, lines, limit)
            if isinstance(jump, bytes):
                await self._seek(jump, SEEK_ROWS)
            elif jump is not None:
                await self._descend(lines.pop().key, jump)
        return lines

    def _take_items(self, folder: _Folder, lines: list[Line], limit: int) -> Entry | bytes | None:
        """Add the folder's items to *lines* until it is full, they are used up (None), a folder is
        to be entered (its entry; its key is that of the last line), or the walk must go on from a
        certain key."""
        delimiter, skip = self._delimiter, len(self._prefix)
        room = folder.position + limit - len(lines)
        for place, value, is_version in folder.items[folder.position : room]:
            folder.position += 1
            since_ns = sequence = 0
            if not is_version:
                end = len(place) - len(NAME_END)
                entry = decode_entry(value) if len(value) > _SEQUENCE_BYTES else _own_entry(value)
                is_folder = entry.type == _DIRECTORY
                sequence, is_null, is_latest = entry.sequence, entry.is_null, True
            else:
                record = decode_version(value)
                is_folder = record.type == _DIRECTORY
                end = len(place) - len(NAME_END) - (0 if is_folder else _SEQUENCE_BYTES)
                entry = Entry(record.inode_id, record.type, 0)
                sequence = 0 if is_folder else sequence_of(place)
                is_null, since_ns = record.is_null, record.since_ns
                is_latest = folder.last != place[: end + len(NAME_END)]
            key = folder.base + unescape_name(place[:end])
            if delimiter and (at := key.find(delimiter, skip)) >= 0:
                common = key[: at + len(delimiter)]
                lines.append(Line(common, None, 0, False, False, 0))
                return behind(common)
            lines.append(Line(key, entry.inode_id, sequence, is_null, is_latest, since_ns))
            if is_folder:
                return entry
            folder.last = place[: end + len(NAME_END)]
        return None

    async def _descend(self, base: bytes, entry: Entry) -> None:
        if any(above.directory_id == entry.inode_id for above in self._folders):
            raise DataLossError(f"folder {entry.inode_id:x} is inside itself: run craqen fsck")
        folder = _Folder(entry.inode_id, base, b"", CHILD_ROWS)
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
            target = relative[:slash] if slash else relative
            folder.skip_to(target, rows_wanted)
            if not slash:
                return
            while folder.position == len(folder.items) and not folder.at_end:
                await folder.fill(self._tx)
            place = escape_name(target) + NAME_END
            if folder.position == len(folder.items) or folder.items[folder.position][0] != place:
                return
            if slash == len(relative):
                return  # all of the folder, its own key included
            # Some of what is below it: never its own key.
            _, value, is_version = folder.items[folder.position]
            folder.position += 1
            found = decode_version(value) if is_version else decode_entry(value)
            base = folder.base + target
            folders.append(_Folder(found.inode_id, base, b"", rows_wanted))


def _own_entry(value: bytes) -> Entry:
    """The entry that stands for an explicit folder without content."""
    return Entry(int.from_bytes(value, "big"), InodeType.FILE, 2, _FIRST)
