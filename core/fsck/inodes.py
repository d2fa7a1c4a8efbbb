"""DRIVER: is each inode sound by itself, and each folder where it says it is? Every page is judged
in one snapshot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from ..errors import DataLossError
from ..ids import ROOT_INODE_ID
from ..kv.store import ReadTransaction, Transaction
from ..meta.folders import find_hidden, prune
from ..meta.records import Inode, InodeType
from ..meta.schema import (
    ENTRY_EXPLICIT,
    Entry,
    bucket_key,
    decode_bucket,
    decode_entry,
    decode_inode,
    directory_prefix,
    inline_key,
    inode_key,
)
from ..meta.tree import find_entry, is_empty, put_entry, put_inode
from .findings import Finding, Repair
from .holders import Held
from .lost_found import adopt
from .scan import Check, Rows, decoded, letter_range, pages

INODES_PER_PAGE = 256  # with their inline content at most 8 MiB
SAFE_FOLDERS_MAX = 100_000  # folders known to hang under the root
DEPTH_MAX = 100_000

INODE_KINDS = {
    "inline-missing": (
        "its content is gone: it should be stored with its record",
        "restore the file from a backup, or remove it",
    ),
    "folder-without-name": (
        "no name leads to this folder, nor to what is in it",
        "run with --repair to give it its name back",
    ),
    "folder-cycle": (
        "it lies below itself: nobody can reach it from the root",
        "run with --repair to find it in lost+found of its bucket",
    ),
    "folder-empty": (
        "it was made for an object's key, and is empty: it should have gone with the object",
        "run with --repair to remove it",
    ),
}


class Odd(NamedTuple):
    """Something wrong with an inode."""

    kind: str
    inode: Inode
    value: bytes


class InodeCheck:
    """Walks all inodes."""

    def __init__(self, check: Check, misplaced: Collection[int]) -> None:
        self._check = check
        self._misplaced = misplaced
        self._rooted: OrderedDict[int, None] = OrderedDict({int(ROOT_INODE_ID): None})

    async def run(self) -> None:
        """Check every inode."""
        check = self._check
        check.progress.stage("inodes")
        walk = pages(check.kv, *letter_range(b"i"), self.judge, limit=INODES_PER_PAGE)
        async for rows, odd in walk:
            for key, value in rows:
                decoded(check.findings, key, value, decode_inode)
            for one in odd:
                self._tell(one)
            check.progress.advance(len(rows))

    async def judge(self, tx: ReadTransaction, rows: Rows) -> list[Odd]:
        """What is wrong with inodes, as *tx* shows them."""
        odd: list[Odd] = []
        inline: list[tuple[Inode, bytes]] = []
        for _, value in rows:
            try:
                inode = decode_inode(value)
            except DataLossError:
                continue
            if inode.inline and inode.size:
                inline.append((inode, value))
            if inode.type == InodeType.DIRECTORY and inode.inode_id != ROOT_INODE_ID:
                kind = await self._folder(tx, inode)
                if kind:
                    odd.append(Odd(kind, inode, value))
        contents = await tx.get_many([inline_key(inode.inode_id) for inode, _ in inline])
        for (inode, value), content in zip(inline, contents, strict=True):
            if content is None:
                odd.append(Odd("inline-missing", inode, value))
        return odd

    async def _folder(self, tx: ReadTransaction, inode: Inode) -> str:
        """What is wrong with a folder; empty if nothing is."""
        if inode.noncurrent:
            named = await find_hidden(tx, inode.parent_id, inode.name) == inode.inode_id
            if named:
                return "" if await self._is_rooted(tx, inode) else "folder-cycle"
        value = await tx.get(directory_prefix(inode.parent_id) + inode.name + b"/")
        if value is None or decode_entry(value).inode_id != inode.inode_id:
            return "" if inode.inode_id in self._misplaced else "folder-without-name"
        if not await self._is_rooted(tx, inode):
            return "folder-cycle"
        if not inode.explicit and await is_empty(tx, inode.inode_id):
            return "folder-empty"
        return ""

    async def _is_rooted(self, tx: ReadTransaction, inode: Inode) -> bool:
        """Whether the way up does not come back to where it began. A way that ends without the root
        is told of by the folder where it ends."""
        way = [inode.inode_id]
        above = inode.parent_id
        while above not in self._rooted:
            if above in way[:1] or len(way) > DEPTH_MAX:
                return False
            value = await tx.get(inode_key(above))
            if value is None:
                break
            if above in way:
                break  # a cycle further up: told of by those in it
            way.append(above)
            above = decode_inode(value).parent_id
        else:
            for number in way:
                self._rooted[number] = None
            while len(self._rooted) > SAFE_FOLDERS_MAX:
                self._rooted.popitem(last=True)
        return True

    def _tell(self, odd: Odd) -> None:
        text, advice = INODE_KINDS[odd.kind]
        self._check.findings.add(
            Finding(
                odd.kind,
                f"inode {odd.inode.inode_id:x}",
                text,
                advice,
                repair=self._repair(odd),
                lost_metadata=odd.kind in ("inline-missing", "folder-without-name"),
                owners={odd.inode.inode_id},
            )
        )

    def _repair(self, odd: Odd) -> Repair | None:
        if odd.kind == "folder-empty":
            return lambda: self._prune(odd)
        if odd.kind == "folder-without-name":
            return lambda: self._name_again(odd)
        if odd.kind == "folder-cycle":
            return lambda: self._cut_cycle(odd)
        return None

    async def _still(self, tx: ReadTransaction, odd: Odd) -> bool:
        key = inode_key(odd.inode.inode_id)
        if await tx.get(key) != odd.value:
            return False
        return odd in await self.judge(tx, [(key, odd.value)])

    async def _prune(self, odd: Odd) -> str | None:
        context, inode = self._check.context, odd.inode

        async def work(tx: Transaction) -> bool:
            if not await self._still(tx, odd):
                return False
            await prune(context, tx, inode.inode_id, inode.bucket_id, versioned=True)
            return True

        if not await self._check.kv.transact(work):
            return None
        return "removed: it is empty, nobody made it by itself, and a new object makes it again"

    async def _name_again(self, odd: Odd) -> str | None:
        """Put the folder back under the name that it says it has, or if that is not to be, in
        lost+found."""
        inode, context = odd.inode, self._check.context

        async def work(tx: Transaction) -> bool | None:
            if not await self._still(tx, odd):
                return None
            stored = inode.name + b"/"
            parent = await tx.get(inode_key(inode.parent_id))
            taken = await find_entry(tx, inode.parent_id, stored) is not None
            if taken or parent is None or decode_inode(parent).type != InodeType.DIRECTORY:
                return False
            if inode.parent_id == ROOT_INODE_ID:
                record = await tx.get(bucket_key(inode.name.decode()))
                if record is None or decode_bucket(record).inode_id != inode.inode_id:
                    return False
            flags = ENTRY_EXPLICIT if inode.explicit else 0
            put_inode(tx, msgspec.structs.replace(inode, noncurrent=False))
            put_entry(
                tx, inode.parent_id, stored, Entry(inode.inode_id, InodeType.DIRECTORY, flags)
            )
            context.touch_directory(tx, inode.parent_id)
            context.tell_entry(tx, inode.parent_id, inode.name, inode.inode_id)
            return True

        named = await self._check.kv.transact(work)
        if named is None:
            return None
        if not named:
            return await adopt(self._check, inode.inode_id, odd.value, None)
        return "its name leads to it again: the folder itself knew it, and it was free"

    async def _cut_cycle(self, odd: Odd) -> str | None:
        inode = odd.inode
        if not await self._check.kv.read(lambda tx: self._still(tx, odd)):
            return None
        old_key = directory_prefix(inode.parent_id) + inode.name + b"/"
        return await adopt(self._check, inode.inode_id, odd.value, old_key)


def check_extents(check: Check, held: Held) -> None:
    """Report extents that do not fit together, as one snapshot showed them."""
    inode = held.inode
    if inode is None:
        return
    problem = ""
    if inode.extent_pages != held.pages:
        problem = f"it says that it has {inode.extent_pages} pages of extents; {held.pages} exist"
    elif inode.inline and held.extents:
        problem = "its content is both with its record and in chunks"
    position = 0
    for extent in held.extents:
        if extent.file_offset < position or extent.length_bytes <= 0:
            problem = f"its extents overlap or are out of order at byte {extent.file_offset}"
            break
        position = extent.file_offset + extent.length_bytes
    if problem:
        check.findings.add(
            Finding(
                "extents",
                f"inode {inode.inode_id:x}",
                problem,
                "copy what can be read of it to a new file, and remove this one",
                lost_metadata=inode.extent_pages > held.pages,
                owners={inode.inode_id},
            )
        )
