"""DRIVER: reading the namespace page by page, each page in a snapshot of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..client.connections import NodeConnections
from ..cluster.routing import RoutingSource
from ..errors import DataLossError
from ..kv.keys import prefix_end
from ..kv.store import KeyValue, KeyValueStore, ReadTransaction
from ..meta.context import FIRST_FREE_ID, MetaContext
from ..meta.schema import NEXT_ID_KEY, unpack_number
from ..meta.store import MetaStore
from .findings import Finding, Findings, Progress

PAGE_ROWS = 1000  # small rows: far less than a transaction's time and memory
LARGE_PAGE_ROWS = 64  # rows of up to 100,000 bytes
SETTLE_ROUNDS = 4  # how often what is in use is looked at again before it is left alone

T = TypeVar("T")
Rows = list[KeyValue]


@dataclass(slots=True)
class Check:
    """What all parts of a check share."""

    kv: KeyValueStore
    meta: MetaStore
    context: MetaContext
    """Of the process that checks: its clock, its grace, its client id."""
    routing: RoutingSource
    connections: NodeConnections
    findings: Findings
    progress: Progress
    verify_data: bool = False
    """Read every byte of every replica."""

    async def next_id(self) -> int:
        """No inode and no segment has this id or a higher one (yet)."""

        async def read(tx: ReadTransaction) -> int:
            value = await tx.get(NEXT_ID_KEY)
            return FIRST_FREE_ID if value is None else unpack_number(value)

        return await self.kv.read(read)


async def pages(
    kv: KeyValueStore,
    begin: bytes,
    end: bytes,
    look: Callable[[ReadTransaction, Rows], Awaitable[T]],
    *,
    limit: int = 0,
) -> AsyncIterator[tuple[Rows, T]]:
    """All rows with ``begin <= key < end``, a page at a time, each with what *look* told of it in
    the page's own snapshot. *look* has no effects: it may run again. A page has *limit* rows (0:
    PAGE_ROWS)."""
    limit = limit or PAGE_ROWS
    while True:

        async def read(tx: ReadTransaction, start: bytes = begin) -> tuple[Rows, T]:
            rows = await tx.get_range(start, end, limit=limit)
            return rows, await look(tx, rows)

        rows, told = await kv.read(read)
        if rows:
            yield rows, told
        if len(rows) < limit:
            return
        begin = rows[-1][0] + b"\0"


async def plain_pages(
    kv: KeyValueStore, begin: bytes, end: bytes, *, limit: int = 0
) -> AsyncIterator[Rows]:
    """All rows with ``begin <= key < end``, a page (of *limit* rows) at a time."""

    async def nothing(tx: ReadTransaction, rows: Rows) -> None:
        return None

    async for rows, _ in pages(kv, begin, end, nothing, limit=limit):
        yield rows


async def read_row(kv: KeyValueStore, key: bytes) -> bytes | None:
    """One value, as it is now."""

    async def read(tx: ReadTransaction) -> bytes | None:
        return await tx.get(key)

    return await kv.read(read)


async def read_range(kv: KeyValueStore, begin: bytes, end: bytes, *, limit: int = 0) -> Rows:
    """A few rows, as they are now."""

    async def read(tx: ReadTransaction) -> Rows:
        return await tx.get_range(begin, end, limit=limit)

    return await kv.read(read)


def letter_range(letter: bytes) -> tuple[bytes, bytes]:
    """All keys of one letter of the schema."""
    return letter, prefix_end(letter)


def number_of(key: bytes) -> int:
    """The number behind a key's letter."""
    return int.from_bytes(key[1:9], "big")


def decoded(findings: Findings, key: bytes, value: bytes, decode: Callable[[bytes], T]) -> T | None:
    """*value* decoded; None, and a finding, if it cannot be."""
    try:
        return decode(value)
    except DataLossError as error:
        findings.add(
            Finding(
                "record-unreadable",
                f"record {key.hex()}",
                str(error),
                "restore the metadata from a backup, or run the program version that wrote it",
                lost_metadata=True,
            )
        )
        return None
