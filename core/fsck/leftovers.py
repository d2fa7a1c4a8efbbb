"""DRIVER: records that belong to something that is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from ..kv.store import ReadTransaction, Transaction
from ..meta.schema import (
    RemovalRecord,
    client_key,
    decode_removal,
    directory_prefix,
    encode,
    inode_key,
    session_of,
)
from .findings import Finding, Safety
from .scan import (
    LARGE_PAGE_ROWS,
    Check,
    Rows,
    letter_range,
    number_of,
    pages,
    plain_pages,
)

SUSPECTS_MAX = 20_000

Look = Callable[[ReadTransaction, Rows], Awaitable[list[bytes]]]
"""Which of these rows' keys are leftovers."""


class Sort(NamedTuple):
    """One letter of the schema, and what its rows need to make sense."""

    letter: bytes
    kind: str
    what: str
    of: str
    """What the rows belong to, and is gone."""
    safety: Safety
    done: str
    page_rows: int = 0


_NEVER_AGAIN = "removed: nobody reads it, and the number is never used again"
_GIVEN_UP = "removed: nobody reads it, and you accepted the loss"
_NO_CLIENT = "removed: its client is not registered any more and can use it no longer"

SORTS = (
    Sort(b"l", "inline-leftover", "content", "inode", Safety.GIVES_UP, _GIVEN_UP, LARGE_PAGE_ROWS),
    Sort(b"a", "attribute-leftover", "extended attributes", "inode", Safety.GIVES_UP, _GIVEN_UP,
         LARGE_PAGE_ROWS),
    Sort(b"o", "sizes-leftover", "part sizes", "inode", Safety.GIVES_UP, _GIVEN_UP,
         LARGE_PAGE_ROWS),
    Sort(b"y", "planned-leftover", "a planned write", "inode", Safety.SAFE, _NEVER_AGAIN),
    Sort(b"t", "time-leftover", "a time", "folder", Safety.SAFE, _NEVER_AGAIN),
    Sort(b"h", "digest-leftover", "an escaped name", "entry in folder", Safety.SAFE,
         "removed: the name that it stands for does not exist"),
    Sort(b"e", "session-leftover", "a session", "client", Safety.SAFE, _NO_CLIENT),
    Sort(b"j", "ids-leftover", "a block of ids", "client", Safety.SAFE, _NO_CLIENT),
    Sort(b"r", "usage-leftover", "usage", "bucket", Safety.SAFE, _NEVER_AGAIN),
    Sort(b"k", "setting-leftover", "settings", "bucket", Safety.GIVES_UP, _GIVEN_UP),
)  # fmt: skip


async def _without(
    tx: ReadTransaction, rows: Rows, needed: Callable[[bytes], bytes]
) -> list[bytes]:
    """Keys of rows without the record of which *needed* gives the key."""
    keys = sorted({needed(key) for key, _ in rows})
    values = await tx.get_many(keys)
    gone = {key for key, value in zip(keys, values, strict=True) if value is None}
    return [key for key, _ in rows if needed(key) in gone]


async def _digests(tx: ReadTransaction, rows: Rows) -> list[bytes]:
    found: list[bytes] = []
    for key, name in rows:
        own = directory_prefix(number_of(key))
        if await tx.get_many([own + name, own + name + b"/"]) == [None, None]:
            found.append(key)
    return found


def _owner(letter: bytes, key: bytes) -> int:
    """The number of what the row belongs to."""
    return session_of(key)[1] if letter == b"e" else number_of(key)


def _look(letter: bytes) -> Look:
    if letter == b"h":
        return _digests
    if letter in b"ej":
        return lambda tx, rows: _without(tx, rows, lambda key: client_key(_owner(letter, key)))
    return lambda tx, rows: _without(tx, rows, lambda key: inode_key(number_of(key)))


class LeftoverCheck:
    """Walks the letters that other checks do not."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def run(self) -> None:
        """Check everything that belongs to something else."""
        self._check.progress.stage("records of inodes, clients and buckets")
        for sort in SORTS:
            walk = pages(
                self._check.kv,
                *letter_range(sort.letter),
                _look(sort.letter),
                limit=sort.page_rows,
            )
            async for rows, keys in walk:
                for key in keys:
                    self._tell(sort, key, dict(rows)[key])
                self._check.progress.advance(len(rows))
        await self._extent_pages()

    def _tell(self, sort: Sort, key: bytes, value: bytes) -> None:
        number = _owner(sort.letter, key)

        async def repair() -> str | None:
            async def work(tx: Transaction) -> bool:
                if await tx.get(key) is None or not await _look(sort.letter)(tx, [(key, value)]):
                    return False
                tx.clear(key)
                return True

            return sort.done if await self._check.kv.transact(work) else None

        trace = sort.safety is Safety.GIVES_UP
        self._check.findings.add(
            Finding(
                sort.kind,
                f"{sort.of} {number:x}, record {key.hex()}",
                f"{sort.what} of a {sort.of} that is gone",
                "look for it in a backup of the metadata; else run with --repair --accept-loss"
                if trace
                else "run with --repair",
                repair,
                sort.safety,
                lost_metadata=trace,
            )
        )

    async def _extent_pages(self) -> None:
        """Pages of extents without an inode, unless the removal queue is working on them."""
        suspects: set[int] = set()

        async def gone(tx: ReadTransaction, rows: Rows) -> list[bytes]:
            return await _without(tx, rows, lambda key: inode_key(number_of(key)))

        walk = pages(self._check.kv, *letter_range(b"x"), gone, limit=LARGE_PAGE_ROWS)
        async for _, keys in walk:
            for key in keys:
                if len(suspects) < SUSPECTS_MAX:
                    suspects.add(number_of(key))
        if not suspects:
            return
        async for rows in plain_pages(self._check.kv, *letter_range(b"q")):
            for _, value in rows:
                suspects.discard(decode_removal(value).inode_id)
        for number in sorted(suspects):
            if await self._check.kv.read(partial(_has_pages, number=number)):
                self._tell_pages(number)

    def _tell_pages(self, number: int) -> None:
        check = self._check

        async def repair() -> str | None:
            async def work(tx: Transaction) -> bool:
                if not await _has_pages(tx, number):
                    return False
                due = check.context.now_ns() + check.context.removal_grace_ns
                record = RemovalRecord(number, 0, None, 0)
                tx.set(check.context.next_removal_key(due), encode(record))
                return True

            return _GIVEN_UP if await check.kv.transact(work) else None

        check.findings.add(
            Finding(
                "extents-leftover",
                f"inode {number:x}, pages of extents",
                "the inode is gone, and its extents are not queued for removal",
                "look for the inode in a backup of the metadata; else run with --repair "
                "--accept-loss to free its bytes",
                repair,
                Safety.GIVES_UP,
                lost_metadata=True,
            )
        )


async def _has_pages(tx: ReadTransaction, number: int) -> bool:
    """Whether there are pages of extents and no inode."""
    begin = b"x" + number.to_bytes(8, "big")
    end = b"x" + (number + 1).to_bytes(8, "big")
    rows = await tx.get_range(begin, end, limit=1)
    return bool(rows) and await tx.get(inode_key(number)) is None
