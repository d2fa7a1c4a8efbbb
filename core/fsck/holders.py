"""DRIVER: walks everything that holds segments: parts, inodes, and what is left of removed inodes.

The order matters, since the store is in use: references move from parts to inodes (completion) and
from an inode's record to its pages (removal of large files), never back. So a walk in that order
sees each reference at least once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from functools import partial
from typing import NamedTuple

from ..kv.store import KeyValueStore, ReadTransaction
from ..meta.records import Extent, Inode, Part
from ..meta.schema import (
    decode_extents,
    decode_inode,
    decode_part,
    extents_range,
    inode_key,
)
from .findings import Findings
from .scan import LARGE_PAGE_ROWS, Rows, decoded, letter_range, number_of, pages, plain_pages


class Holder(NamedTuple):
    """Who refers to segments: a part (by its key) or an inode, with its pages."""

    letter: bytes
    key: bytes
    """Of the part's or the inode's record."""

    @property
    def inode_id(self) -> int:
        """The inode; 0 for a part."""
        return number_of(self.key) if self.letter == b"i" else 0

    def describe(self) -> str:
        """In words."""
        if self.letter == b"i":
            return f"inode {self.inode_id:x}"
        upload_id = self.key[1:-2].decode(errors="replace")
        return f"part {int.from_bytes(self.key[-2:], 'big')} of upload {upload_id}"


class Held(NamedTuple):
    """A holder as one snapshot showed it."""

    holder: Holder
    inode: Inode | None
    part: Part | None
    extents: tuple[Extent, ...]
    pages: int = 0
    """How many pages of extents there were."""


def inode_holder(inode_id: int) -> Holder:
    """The holder that an inode is."""
    return Holder(b"i", inode_key(inode_id))


async def read_holder(tx: ReadTransaction, holder: Holder) -> Held:
    """The holder as it is now; no extents if it is gone."""
    value = await tx.get(holder.key)
    if holder.letter == b"p":
        part = None if value is None else decode_part(value)
        return Held(holder, None, part, () if part is None else part.extents)
    inode = None if value is None else decode_inode(value)
    extents = () if inode is None else inode.extents
    rows = await tx.get_range(*extents_range(holder.inode_id))
    paged = [one for _, page in rows for one in decode_extents(page)]
    return Held(holder, inode, None, extents + tuple(paged), len(rows))


async def walk_holders(kv: KeyValueStore, findings: Findings) -> AsyncIterator[Held]:
    """Every holder, also those without extents; unreadable records are findings."""
    async for rows in plain_pages(kv, *letter_range(b"p"), limit=LARGE_PAGE_ROWS):
        for key, value in rows:
            part = decoded(findings, key, value, decode_part)
            if part is not None:
                yield Held(Holder(b"p", key), None, part, part.extents)
    async for rows in plain_pages(kv, *letter_range(b"i")):
        for key, value in rows:
            inode = decoded(findings, key, value, decode_inode)
            if inode is None:
                continue
            holder = Holder(b"i", key)
            if not inode.extent_pages:
                yield Held(holder, inode, None, inode.extents)
                continue
            held = await kv.read(partial(read_holder, holder=holder))
            if held.inode is not None:
                yield held
    async for held in _leftover_pages(kv):
        yield held


async def _leftover_pages(kv: KeyValueStore) -> AsyncIterator[Held]:
    """Pages of extents whose inode is gone: their removal is under way."""

    async def gone(tx: ReadTransaction, rows: Rows) -> Collection[int]:
        numbers = sorted({number_of(key) for key, _ in rows})
        values = await tx.get_many([inode_key(number) for number in numbers])
        return [number for number, value in zip(numbers, values, strict=True) if value is None]

    told = -1
    async for _, numbers in pages(kv, *letter_range(b"x"), gone, limit=LARGE_PAGE_ROWS):
        for number in numbers:
            if number > told:
                told = number
                yield await kv.read(partial(read_holder, holder=inode_holder(number)))
