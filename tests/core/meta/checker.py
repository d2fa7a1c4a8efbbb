"""Reads a whole store and says what does not fit together: the invariants of the namespace."""

from __future__ import annotations

from collections import Counter, defaultdict

from craqen.core.ids import ROOT_INODE_ID
from craqen.core.kv.store import KeyValueStore, ReadTransaction
from craqen.core.meta.records import Bucket, Extent, Inode, InodeType, Versioning
from craqen.core.meta.schema import (
    ENTRY_EXPLICIT,
    bucket_key,
    decode_bucket,
    decode_entry,
    decode_extents,
    decode_inode,
    decode_part,
    decode_removal,
    decode_segment,
    decode_version,
    extents_range,
    segment_key,
    usage_range,
    version_name,
)

EVERYTHING = (b"\x00", b"\xff")


async def problems(kv: KeyValueStore) -> list[str]:
    """What is wrong, in words; empty if all is well."""

    async def read(tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
        return await tx.get_range(*EVERYTHING)

    return _Checker(await kv.read(read)).run()


class _Checker:
    def __init__(self, rows: list[tuple[bytes, bytes]]) -> None:
        self.rows = dict(rows)
        self.found: list[str] = []
        self.inodes = {
            int.from_bytes(key[1:], "big"): decode_inode(value) for key, value in self._of(b"i")
        }
        self.queued = {
            decode_removal(value).inode_id
            for _, value in self._of(b"q")
            if decode_removal(value).inode_id
        }
        self.entries = [
            (int.from_bytes(key[1:9], "big"), key[9:], decode_entry(value))
            for key, value in self._of(b"d")
        ]
        self.versions = [
            (int.from_bytes(key[1:9], "big"), *version_name(key), decode_version(value))
            for key, value in sorted(self._of(b"w"))
        ]

    @property
    def versioning(self) -> dict[int, Versioning]:
        """By bucket."""
        buckets = [decode_bucket(value) for _, value in self._of(b"b")]
        return {bucket.inode_id: bucket.versioning for bucket in buckets}

    def _of(self, letter: bytes) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key, value in self.rows.items() if key[:1] == letter]

    def _say(self, text: str) -> None:
        self.found.append(text)

    def run(self) -> list[str]:
        self._tree()
        self._hidden()
        self._versions()
        self._nulls()
        self._links()
        self._segments()
        self._usage()
        self._leftovers()
        return self.found

    def _tree(self) -> None:
        children = Counter(parent for parent, _, _ in self.entries)
        for parent, name, entry in self.entries:
            where = f"{parent}/{name!r}"
            above = self._parent(parent)
            if above is None:
                self._say(f"{where}: its folder is gone")
            elif above.noncurrent:
                self._say(f"{where}: its folder is hidden")
            inode = self.inodes.get(entry.inode_id)
            if inode is None:
                self._say(f"{where}: its inode is gone")
                continue
            if inode.type != entry.type:
                self._say(f"{where}: has another type than its inode")
            if inode.type != InodeType.DIRECTORY:
                continue
            if not name.endswith(b"/") or (inode.parent_id, inode.name) != (parent, name[:-1]):
                self._say(f"{where}: the folder thinks it is {inode.parent_id}/{inode.name!r}")
            if inode.explicit != bool(entry.flags & ENTRY_EXPLICIT):
                self._say(f"{where}: entry and inode differ on being explicit")
            if not inode.explicit and not children[inode.inode_id]:
                self._say(f"{where}: is implicit and empty")

    def _hidden(self) -> None:
        """Folders that hold nothing current, and versions below them."""
        names = {(parent, name) for parent, name, _ in self.entries}
        holds = {parent for parent, _, _, _ in self.versions}
        for parent, name, sequence, record in self.versions:
            where = f"{parent}/{name!r}, hidden"
            if self._parent(parent) is None:
                self._say(f"{where}: its folder is gone")
            if sequence is not None:
                continue
            inode = self.inodes.get(record.inode_id)
            if inode is None or inode.type != InodeType.DIRECTORY:
                self._say(f"{where}: is no folder")
                continue
            if (inode.parent_id, inode.name + b"/") != (parent, name):
                self._say(f"{where}: thinks it is {inode.parent_id}/{inode.name!r}")
            if not inode.noncurrent or inode.explicit:
                self._say(f"{where}: the inode does not say so")
            if (parent, name) in names:
                self._say(f"{where}: and there is a visible one")
            if inode.inode_id not in holds:
                self._say(f"{where}: holds nothing at all")

    def _versions(self) -> None:
        """Versions of each name: older than the entry, and without one deleted."""
        current = {(parent, name): entry for parent, name, entry in self.entries}
        newest: dict[tuple[int, bytes], int] = {}
        for parent, name, sequence, record in self.versions:
            if sequence is None:
                continue
            where = f"{parent}/{name!r} version {sequence}"
            folder = self._parent(parent)
            bucket_id = 0 if folder is None else folder.bucket_id or folder.inode_id
            if self.versioning.get(bucket_id, Versioning.NEVER) == Versioning.NEVER:
                self._say(f"{where}: in a bucket that was never versioned")
            entry = current.get((parent, name))
            if (parent, name) not in newest and entry is None and record.inode_id:
                self._say(f"{where}: is newest, but neither current nor a marker")
            if entry is not None and entry.sequence <= sequence:
                self._say(f"{where}: is not older than the current one")
            newest.setdefault((parent, name), sequence)
            inode = self.inodes.get(record.inode_id)
            if record.inode_id == 0:
                continue
            if inode is None or inode.type != record.type:
                self._say(f"{where}: its inode is gone, or of another type")
            elif not inode.noncurrent or inode.nlink:
                self._say(f"{where}: its inode does not say that it is noncurrent")

    def _nulls(self) -> None:
        """One null version per name at most, and found by its name."""
        nulls = Counter((parent, name) for parent, name, entry in self.entries if entry.is_null)
        told = {
            (int.from_bytes(key[1:9], "big"), key[9:]): int.from_bytes(value, "big")
            for key, value in self._of(b"z")
        }
        for parent, name, sequence, record in self.versions:
            if sequence is not None and record.is_null:
                nulls[parent, name] += 1
                if told.pop((parent, name), None) != sequence:
                    self._say(f"{parent}/{name!r}: its null version is not found by name")
        self.found += [f"{where}: {count} null versions" for where, count in nulls.items() if
                       count > 1]  # fmt: skip
        self.found += [f"{where}: a null version is told of, and not there" for where in told]

    def _parent(self, inode_id: int) -> Inode | None:
        inode = self.inodes.get(inode_id)
        return inode if inode is not None and inode.type == InodeType.DIRECTORY else None

    def _links(self) -> None:
        names = Counter(entry.inode_id for _, _, entry in self.entries)
        held = Counter(record.inode_id for _, _, _, record in self.versions)
        for number, inode in self.inodes.items():
            if number == ROOT_INODE_ID:
                continue
            if held[number] != inode.noncurrent:
                self._say(f"inode {number}: noncurrent {inode.noncurrent}, {held[number]} records")
            if inode.type == InodeType.DIRECTORY:
                if names[number] + held[number] != 1:
                    self._say(f"folder {number}: has {names[number]} names")
            elif names[number] != inode.nlink:
                self._say(f"inode {number}: nlink {inode.nlink}, names {names[number]}")
            elif not inode.lives and number not in self.queued:
                self._say(f"inode {number}: has no name and is not queued for removal")
            if inode.inline and inode.extents:
                self._say(f"inode {number}: is inline and has extents")
            self._extents(inode)

    def _extents_of(self, inode: Inode) -> tuple[Extent, ...]:
        if not inode.extent_pages:
            return inode.extents
        begin, end = extents_range(inode.inode_id)
        pages = [decode_extents(v) for key, v in sorted(self.rows.items()) if begin <= key < end]
        if len(pages) != inode.extent_pages:
            self._say(f"inode {inode.inode_id}: {inode.extent_pages} pages, {len(pages)} found")
        return tuple(one for page in pages for one in page)

    def _extents(self, inode: Inode) -> None:
        position = 0
        for extent in self._extents_of(inode):
            if extent.file_offset < position or extent.length_bytes <= 0:
                self._say(f"inode {inode.inode_id}: extents overlap or are out of order")
            position = extent.file_offset + extent.length_bytes

    def _segments(self) -> None:
        wanted: Counter[int] = Counter()
        for inode in self.inodes.values():
            wanted.update({extent.segment_id for extent in self._extents_of(inode)})
        for _, value in self._of(b"p"):
            wanted.update({extent.segment_id for extent in decode_part(value).extents})
        counted = {
            int.from_bytes(key[1:], "big"): decode_segment(value).references
            for key, value in self._of(b"s")
        }
        queued = {decode_removal(value).segment_id for _, value in self._of(b"q")}
        for number in wanted.keys() | counted.keys():
            if wanted[number] != counted.get(number, -1):
                self._say(f"segment {number}: {wanted[number]} refer to it, {counted.get(number)}")
            if not wanted[number] and number not in queued:
                self._say(f"segment {number}: nobody's, and not queued for removal")
        assert all(segment_key(number) in self.rows for number in counted)

    def _usage(self) -> None:
        sizes: Counter[int] = Counter()
        objects: Counter[int] = Counter()
        for inode in self.inodes.values():
            if inode.type != InodeType.DIRECTORY and (inode.nlink or inode.noncurrent):
                sizes[inode.bucket_id] += inode.size
                objects[inode.bucket_id] += 1
        for bucket in self._buckets():
            begin, end = usage_range(bucket.inode_id)
            totals: dict[bytes, int] = defaultdict(int)
            for key, value in self.rows.items():
                if begin <= key < end:
                    totals[key[-1:]] += int.from_bytes(value, "little", signed=True)
            told = (totals[b"b"], totals[b"o"])
            real = (sizes.pop(bucket.inode_id, 0), objects.pop(bucket.inode_id, 0))
            if told != real:
                self._say(f"bucket {bucket.name}: usage says {told}, there is {real}")
        for number in sizes:
            self._say(f"files are counted for bucket {number}, which does not exist")

    def _buckets(self) -> list[Bucket]:
        buckets = [decode_bucket(value) for _, value in self._of(b"b")]
        names = {name for parent, name, _ in self.entries if parent == ROOT_INODE_ID}
        if names != {bucket.name.encode() + b"/" for bucket in buckets}:
            self._say(f"the root holds {names}, the buckets are {buckets}")
        for bucket in buckets:
            assert bucket_key(bucket.name) in self.rows
        return buckets

    def _leftovers(self) -> None:
        """Whatever belongs to an inode goes with it."""
        for letter, what in ((b"l", "inline bytes"), (b"a", "attributes"), (b"t", "a time"),
                             (b"o", "part sizes")):  # fmt: skip
            for key, _ in self._of(letter):
                if int.from_bytes(key[1:9], "big") not in self.inodes:
                    self._say(f"{what} of inode {int.from_bytes(key[1:9], 'big')}, which is gone")
