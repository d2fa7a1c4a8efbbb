"""What all parts of the local namespace share: the KV, the clock, this client's identity and its id
blocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..clock import Clock
from ..errors import StaleHandleError, UnavailableError
from ..events.rules import KnownRules
from ..kv.store import KeyValueStore, Transaction
from ..limits import INODE_ID_BLOCK
from .accounts import LimitTable
from .records import FeedEvent
from .schema import (
    FEED_PREFIX,
    FEED_WATCH_KEY,
    NEXT_ID_KEY,
    client_key,
    decode_client,
    directory_time_key,
    feed_value,
    id_block_key,
    pack_number,
    removal_key,
    unpack_number,
)

FIRST_FREE_ID = 1024  # below: the root, and room for what a later version may need
USAGE_SHARDS = 16  # concurrent writers add to different counters
DEFAULT_TABLE_ID = 1
DRAW_ATTEMPTS_MAX = 16  # others may take the ids between their arrival and their use

T = TypeVar("T")


class OutOfIdsError(UnavailableError):
    """No id is in stock: ``ensure_ids`` was not awaited, or others were quicker."""


class MetaContext:
    """Shared state. Ids are drawn and returned without an await in between, so no lock guards
    them."""

    def __init__(
        self,
        kv: KeyValueStore,
        clock: Clock,
        *,
        removal_grace_seconds: float,
        feed_retention_seconds: float,
        client_lease_seconds: float,
        table_id: int = DEFAULT_TABLE_ID,
    ) -> None:
        self.kv = kv
        self.clock = clock
        self.removal_grace_ns = int(removal_grace_seconds * 1e9)
        self.feed_retention_ns = int(feed_retention_seconds * 1e9)
        self.client_lease_ns = int(client_lease_seconds * 1e9)
        self.table_id = table_id
        self.client_id = 0
        self.limits = LimitTable()
        self.event_rules = KnownRules()
        self.renewals_seen: dict[int, tuple[int, float]] = {}
        """Of other clients: the last renewal, and since when (monotonic) it has been the last."""
        self._ids: list[tuple[int, int]] = []
        self._refill: asyncio.Task[None] | None = None
        self._events = 0
        self._queue_number = random.getrandbits(48) << 15

    def now_ns(self) -> int:
        """The wall clock."""
        return self.clock.wall_ns()

    def ids_in_stock(self) -> int:
        """How many ids can be drawn without waiting."""
        return sum(last - first + 1 for first, last in self._ids)

    def draw_id(self) -> int:
        """A fresh id. Raises OutOfIdsError: await ``ensure_ids`` before."""
        if not self._ids:
            raise OutOfIdsError("no id is in stock: they must be ensured before they are drawn")
        first, last = self._ids[0]
        if first == last:
            self._ids.pop(0)
        else:
            self._ids[0] = (first + 1, last)
        return first

    async def ensure_ids(self, count: int) -> None:
        """Return once *count* ids are in stock; draws blocks in a transaction of their own."""
        while self.ids_in_stock() < count:
            if self._refill is None or self._refill.done():
                self._start_refill(max(INODE_ID_BLOCK, count))
            assert self._refill is not None
            await asyncio.shield(self._refill)
        if self.ids_in_stock() < INODE_ID_BLOCK // 4 and (
            self._refill is None or self._refill.done()
        ):
            self._start_refill(INODE_ID_BLOCK)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]], *, ids: int) -> T:
        """``kv.transact`` of a function that draws at most *ids* ids in an attempt."""
        for _ in range(DRAW_ATTEMPTS_MAX):
            await self.ensure_ids(ids)
            try:
                return await self.kv.transact(function)
            except OutOfIdsError:
                continue
        raise UnavailableError(f"{ids} inode ids could not be had: too much is made at once")

    async def need_alive(self, tx: Transaction) -> bytes:
        """Make *tx* fail if this client was, or is now, declared dead; return its record's value.
        Raises StaleHandleError."""
        value = await tx.get(client_key(self.client_id))
        if value is None or decode_client(value).declared_dead:
            raise StaleHandleError(
                "this client was declared dead: its lease ran out; start it again"
            )
        return value

    def _start_refill(self, size: int) -> None:
        self._refill = asyncio.create_task(self._draw_block(size))
        # Who needs the ids asks again and is told; a refill ahead of need has nobody to tell.
        self._refill.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _draw_block(self, size: int) -> None:
        async def draw(tx: Transaction) -> int:
            await self.need_alive(tx)
            value = await tx.get(NEXT_ID_KEY)
            first = FIRST_FREE_ID if value is None else unpack_number(value)
            tx.set(NEXT_ID_KEY, pack_number(first + size))
            tx.set(id_block_key(self.client_id, first), pack_number(first + size - 1))
            return first

        first = await self.kv.transact(draw)
        self._ids.append((first, first + size - 1))

    async def settle(self) -> None:
        """Wait for a refill that is under way, before closing."""
        if self._refill is not None:
            await asyncio.gather(self._refill, return_exceptions=True)

    def next_event_number(self) -> int:
        """What tells the events of one transaction apart, and orders them."""
        self._events += 1
        return self._events

    def tell(self, tx: Transaction, event: FeedEvent) -> None:
        """Add *event* to the change feed, and wake those who wait for it."""
        # One transaction may tell of several changes.
        suffix = self.next_event_number().to_bytes(8, "big")
        tx.set_versionstamped_key(FEED_PREFIX, suffix, feed_value(event, self.now_ns()))
        tx.set_versionstamped_value(FEED_WATCH_KEY, b"")

    def tell_all(self, tx: Transaction, events: Sequence[FeedEvent]) -> None:
        """As ``tell`` for many: one time, one wake-up."""
        now = self.now_ns()
        for event in events:
            suffix = self.next_event_number().to_bytes(8, "big")
            tx.set_versionstamped_key(FEED_PREFIX, suffix, feed_value(event, now))
        if events:
            tx.set_versionstamped_value(FEED_WATCH_KEY, b"")

    def tell_entry(self, tx: Transaction, parent_id: int, name: bytes, inode_id: int) -> None:
        """A name came, went, or means another inode now."""
        self.tell(tx, FeedEvent("entry", inode_id, parent_id, name, self.client_id))

    def tell_inode(self, tx: Transaction, inode_id: int) -> None:
        """An inode's content or attributes changed."""
        self.tell(tx, FeedEvent("inode", inode_id, 0, b"", self.client_id))

    def touch_directory(self, tx: Transaction, inode_id: int) -> None:
        """Set a directory's modification time, without a read: concurrent creates do not
        conflict."""
        tx.set(directory_time_key(inode_id), pack_number(self.now_ns()))

    def next_removal_key(self, due_ns: int) -> bytes:
        """A key in the removal queue; unique by a random start and a counter."""
        self._queue_number = (self._queue_number + 1) & 0x7FFF_FFFF_FFFF_FFFF
        return removal_key(due_ns, self._queue_number)
