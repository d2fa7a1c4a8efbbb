"""Clients and their leases, open sessions, the removal queue, the change feed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from ..errors import StaleHandleError
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .context import MetaContext
from .file_locks import locks_range
from .file_names import names_range
from .records import FeedEvent, RemovalItem
from .schema import (
    CLIENT_PREFIX,
    FEED_PREFIX,
    FEED_WATCH_KEY,
    REMOVAL_PREFIX,
    ClientRecord,
    RemovalRecord,
    client_key,
    client_of,
    completed_key,
    decode_client,
    decode_extents,
    decode_feed,
    decode_inode,
    decode_removal,
    decode_segment,
    encode,
    extents_range,
    id_block_of,
    id_block_range,
    inline_key,
    inode_key,
    part_sizes_range,
    planned_range,
    removals_until,
    segment_key,
    session_key,
    session_of,
    session_range,
    xattr_range,
)
from .segments import References

FEED_PAGE = 1000
TRIM_PAGE = 2000
POSTPONE_NS = 10_000_000_000  # an inode that a session holds is looked at again after this
REMOVALS_PER_TRANSACTION = 32
PAGES_PER_TRANSACTION = 4  # of extents: some 4,000 segments, each with its record and queue entry
PURGES_PER_CALL = 64  # transactions of one due_removals: the caller frees segments in between
COMPLETED_KEPT_NS = 24 * 3600 * 1_000_000_000  # how long a completion may be repeated


class Life:
    """``LifeStore`` (core/meta/life_store.py)."""

    _context: MetaContext

    @property
    def client_id(self) -> int:
        """This client's id."""
        return self._context.client_id

    async def register_client(self, *, description: str, lease_seconds: float) -> int:
        """Draw an id and a lease."""
        context = self._context
        client_id = random.getrandbits(62) | 1
        lease_ns = int(lease_seconds * 1e9)
        record = ClientRecord(description, context.now_ns() + lease_ns, lease_ns=lease_ns)

        async def register(tx: Transaction) -> None:
            tx.set(client_key(client_id), encode(record))

        await context.kv.transact(register)
        context.client_id = client_id
        context.client_lease_ns = lease_ns
        return client_id

    async def renew_client(self) -> None:
        """Extend the lease."""
        context = self._context

        async def renew(tx: Transaction) -> None:
            value = await context.need_alive(tx)
            record = decode_client(value)
            # Whoever watches wants to see a change, also while this host's clock is set back.
            expires = max(context.now_ns() + context.client_lease_ns, record.expires_ns + 1)
            renewed = msgspec.structs.replace(record, expires_ns=expires)
            tx.set(client_key(context.client_id), encode(renewed))

        await context.kv.transact(renew)

    async def unregister_client(self) -> None:
        """End the lease now: what the client left behind is cleaned up at once."""
        context = self._context

        async def unregister(tx: Transaction) -> None:
            value = await tx.get(client_key(context.client_id))
            if value is not None:
                record = decode_client(value)
                ended = ClientRecord(record.description, 0, declared_dead=True)
                tx.set(client_key(context.client_id), encode(ended))

        await context.kv.transact(unregister)

    async def open_session(self, inode_id: int, handle: int, *, write: bool) -> None:
        """Hold an inode."""
        context = self._context

        async def hold(tx: Transaction) -> None:
            if await tx.get(inode_key(inode_id)) is None:
                raise StaleHandleError(f"inode {inode_id:x}: is gone")
            await context.need_alive(tx)
            key = session_key(inode_id, context.client_id, handle)
            tx.set(key, b"w" if write else b"r")

        await context.kv.transact(hold)

    async def close_session(self, inode_id: int, handle: int) -> None:
        """Let an inode go."""
        key = session_key(inode_id, self._context.client_id, handle)

        async def release(tx: Transaction) -> None:
            tx.clear(key)

        await self._context.kv.transact(release)

    def new_segment_id(self) -> int:
        """A fresh segment id."""
        return self._context.draw_id()

    async def ensure_ids(self, count: int) -> None:
        """Have ids in stock."""
        await self._context.ensure_ids(count)

    # Removal

    async def due_removals(self, *, limit: int) -> list[RemovalItem]:
        """Turn due inodes into due segments, then return due segments."""
        for _ in range(PURGES_PER_CALL):
            if not await self._purge_some():
                break
        now = self._context.now_ns()

        async def read(tx: ReadTransaction) -> list[RemovalItem]:
            rows = await tx.get_range(REMOVAL_PREFIX, removals_until(now), limit=limit)
            items: list[RemovalItem] = []
            for key, value in rows:
                record = decode_removal(value)
                if record.inode_id == 0 and record.layout is not None:
                    items.append(
                        RemovalItem(key, record.segment_id, record.layout, record.first_chunk)
                    )
            return items

        return await self._context.kv.read(read)

    async def _purge_some(self) -> bool:
        """Purge inodes whose time has come, in one transaction; return whether more may be due."""
        context = self._context

        async def purge(tx: Transaction) -> bool:
            now = context.now_ns()
            rows = await tx.get_range(
                REMOVAL_PREFIX, removals_until(now), limit=8 * REMOVALS_PER_TRANSACTION
            )
            done = 0
            for key, value in rows:
                record = decode_removal(value)
                if record.inode_id == 0:
                    continue
                paged = await self._purge(tx, record.inode_id, now)
                if not paged or await self._purge_pages(tx, record.inode_id, now):
                    tx.clear(key)
                done += 1
                if paged or done == REMOVALS_PER_TRANSACTION:
                    return True
            return False

        return await context.kv.transact(purge)

    async def _purge(self, tx: Transaction, inode_id: int, now: int) -> bool:
        """Forget an inode that has no names, unless a session holds it: then ask again later.

        Returns whether there are pages of extents to purge.
        """
        context = self._context
        value = await tx.get(inode_key(inode_id))
        if value is None:
            return True  # an earlier transaction began with its pages
        inode = decode_inode(value)
        if inode.lives:
            return False  # it was linked again while it was open
        if await tx.get_range(*session_range(inode_id), limit=1):
            record = RemovalRecord(inode_id, 0, None, 0)
            tx.set(context.next_removal_key(now + POSTPONE_NS), encode(record))
            return False
        await References().lose(inode.extents).apply(context, tx, due_ns=now)
        tx.clear(inode_key(inode_id))
        tx.clear(inline_key(inode_id))
        tx.clear_range(*xattr_range(inode_id))
        tx.clear_range(*planned_range(inode_id))
        tx.clear_range(*part_sizes_range(inode_id))
        tx.clear_range(*names_range(inode_id))
        tx.clear_range(*locks_range(inode_id))
        return inode.extent_pages > 0

    async def _purge_pages(self, tx: Transaction, inode_id: int, now: int) -> bool:
        """Drop the last pages of extents of an inode that is gone, as many as fit one transaction;
        return whether none are left."""
        pages = await tx.get_range(*extents_range(inode_id))
        if not pages:
            return True
        extents = [decode_extents(value) for _, value in pages]
        references = References().lose([one for page in extents for one in page])
        references.gain([one for page in extents[:-PAGES_PER_TRANSACTION] for one in page])
        await references.apply(self._context, tx, due_ns=now)
        first_key = pages[-PAGES_PER_TRANSACTION:][0][0]
        tx.clear_range(first_key, extents_range(inode_id)[1])
        return len(pages) <= PAGES_PER_TRANSACTION

    async def finish_removal(self, items: Sequence[RemovalItem]) -> None:
        """Forget queue entries whose chunks are gone, and the records of whole segments."""

        async def finish(tx: Transaction) -> None:
            for item in items:
                tx.clear(item.queue_key)
                value = await tx.get(segment_key(item.segment_id))
                if value is not None and decode_segment(value).references == 0:
                    tx.clear(segment_key(item.segment_id))

        await self._context.kv.transact(finish)

    # Dead clients

    async def dead_clients(self) -> list[int]:
        """Clients whose records this process has seen unchanged for their whole lease, by its own
        monotonic clock: hosts' wall clocks may differ, and jump. They are dead from now on, also if
        they should wake: each of their transactions that needs the lease has either committed
        before this, or fails."""
        context = self._context
        now_seconds = context.clock.monotonic_seconds()

        async def declare(tx: Transaction) -> tuple[list[int], dict[int, tuple[int, float]]]:
            dead: list[int] = []
            seen: dict[int, tuple[int, float]] = {}
            for key, value in await tx.get_range(CLIENT_PREFIX, prefix_end(CLIENT_PREFIX)):
                client_id, record = client_of(key), decode_client(value)
                if not record.declared_dead:
                    renewal, since_seconds = context.renewals_seen.get(client_id, (-1, now_seconds))
                    if renewal != record.expires_ns:
                        since_seconds = now_seconds
                    lease_ns = record.lease_ns or context.client_lease_ns
                    if (now_seconds - since_seconds) * 1e9 < lease_ns:
                        seen[client_id] = record.expires_ns, since_seconds
                        continue
                    tx.set(key, encode(msgspec.structs.replace(record, declared_dead=True)))
                dead.append(client_id)
            return dead, seen

        dead, context.renewals_seen = await context.kv.transact(declare)
        return dead

    async def id_ranges(self, client_id: int) -> list[tuple[int, int]]:
        """A client's id blocks."""

        async def read(tx: ReadTransaction) -> list[tuple[int, int]]:
            rows = await tx.get_range(*id_block_range(client_id))
            return [id_block_of(key, value) for key, value in rows]

        return await self._context.kv.read(read)

    async def referenced_segments(self, segment_ids: Sequence[int]) -> set[int]:
        """Segments that have a record."""

        async def read(tx: ReadTransaction) -> set[int]:
            values = await tx.get_many([segment_key(number) for number in segment_ids])
            return {
                number
                for number, value in zip(segment_ids, values, strict=True)
                if value is not None
            }

        return await self._context.kv.read(read)

    async def forget_client(self, client_id: int) -> None:
        """Drop what is left of a client, if it was declared dead."""

        async def sessions(tx: ReadTransaction) -> list[bytes]:
            rows = await tx.get_range(b"e", b"f")
            return [key for key, _ in rows if session_of(key)[1] == client_id]

        held = await self._context.kv.read(sessions)

        async def forget(tx: Transaction) -> None:
            value = await tx.get(client_key(client_id))
            if value is None or not decode_client(value).declared_dead:
                return
            for key in held:
                tx.clear(key)
            tx.clear(client_key(client_id))
            tx.clear_range(*id_block_range(client_id))

        await self._context.kv.transact(forget)

    # Feed

    async def feed(self, after: bytes | None) -> tuple[list[FeedEvent], bytes]:
        """A page of changes."""

        async def read(tx: ReadTransaction) -> tuple[list[FeedEvent], bytes]:
            end = prefix_end(FEED_PREFIX)
            if after is None:
                last = await tx.get_range(FEED_PREFIX, end, limit=1, reverse=True)
                return [], last[0][0] if last else FEED_PREFIX
            rows = await tx.get_range(after + b"\0", end, limit=FEED_PAGE)
            events = []
            for _, value in rows:
                record = decode_feed(value)
                events.append(
                    FeedEvent(
                        record.kind,
                        record.inode_id,
                        record.parent_id,
                        record.name,
                        record.client_id,
                    )
                )
            return events, rows[-1][0] if rows else after

        return await self._context.kv.read(read)

    async def wait_feed(self, after: bytes) -> None:
        """Wait for news."""
        while True:

            async def arm(tx: Transaction) -> asyncio.Future[None] | None:
                news = await tx.get_range(after + b"\0", prefix_end(FEED_PREFIX), limit=1)
                return None if news else tx.watch(FEED_WATCH_KEY)

            watch = await self._context.kv.transact(arm)
            if watch is None:
                return
            try:
                await watch
            finally:
                watch.cancel()

    async def trim_feed(self) -> None:
        """Drop old feed entries and old memories of completed uploads."""
        context = self._context
        oldest = context.now_ns() - context.feed_retention_ns

        async def trim(tx: Transaction) -> bool:
            rows = await tx.get_range(FEED_PREFIX, prefix_end(FEED_PREFIX), limit=TRIM_PAGE)
            old = 0
            for key, value in rows:
                if decode_feed(value).time_ns >= oldest:
                    break
                old += 1
                last = key
            if old:
                tx.clear_range(FEED_PREFIX, last + b"\0")
            return old == TRIM_PAGE

        while await context.kv.transact(trim):
            pass

        async def trim_completed(tx: Transaction) -> None:
            limit = f"{max(0, context.now_ns() - COMPLETED_KEPT_NS):016x}"
            tx.clear_range(completed_key(""), completed_key(limit))

        await context.kv.transact(trim_completed)
