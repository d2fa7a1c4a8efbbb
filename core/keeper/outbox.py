"""The outbox as the duty ``events`` reads it: whose events wait, which come next, and what is done
with them (core/events/outbox.py says how they are stored)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ..errors import UNREADABLE, StaleHandleError
from ..events.outbox import (
    WATCH_KEY,
    Event,
    Queue,
    counts_range,
    decode_event,
    encode_event,
    events_range,
    lost_range,
    queue_of,
    sequencer_of,
    waiting_of,
)
from ..events.records import ASPECT, REMOVED
from ..events.rules import KnownRules
from ..kv.store import KeyValueStore, ReadTransaction, Transaction
from ..meta.happenings import keys_below
from ..meta.schema import setting_key
from ..meta.tree import find_inode

PAGE = 100
"""Events of a queue that are read at once."""


class Waiting(msgspec.Struct, frozen=True):
    """An event that waits."""

    key: bytes
    """In the KV."""
    event: Event | None
    """None: it cannot be read."""

    @property
    def sequencer(self) -> str:
        """See ``sequencer_of``."""
        return sequencer_of(self.key)


class Standing(msgspec.Struct, frozen=True):
    """How it is with a queue."""

    queue: Queue
    waiting: int
    lost: int


class Outbox:
    """What waits, in one store."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv
        self._rules = KnownRules()

    async def standings(self) -> list[Standing]:
        """All queues that have, or had, events."""
        return await self._kv.read(_standings)

    async def watch(self) -> tuple[list[Standing], asyncio.Future[None]]:
        """The queues, and a future that is done when an event comes after that."""

        async def read(tx: Transaction) -> tuple[list[Standing], asyncio.Future[None]]:
            return await _standings(tx), tx.watch(WATCH_KEY)

        return await self._kv.transact(read)

    async def page(self, queue: Queue) -> list[Waiting]:
        """The next events; one whose folder is still to be walked stands alone."""
        begin, end = events_range(queue)
        rows = await self._kv.read(lambda tx: tx.get_range(begin, end, limit=PAGE))
        found: list[Waiting] = []
        for key, value in rows:
            try:
                event = decode_event(value)
            except UNREADABLE:
                found.append(Waiting(key, None))
                continue
            if event.folder_id and found:
                break
            found.append(Waiting(key, event))
            if event.folder_id:
                break
        return found

    async def finish(self, queue: Queue, done: Sequence[Waiting], *, lost: int = 0) -> None:
        """Forget events; *lost* of them were not told."""

        async def forget(tx: Transaction) -> None:
            keys = [one.key for one in done]
            present = sum(value is not None for value in await tx.get_many(keys))
            for key in keys:
                tx.clear(key)
            if lost:
                tx.add(queue.lost_key, min(lost, present))
            if await tx.get_range(*events_range(queue), limit=1):
                tx.add(queue.count_key, -present)
            else:
                tx.clear(queue.count_key)

        await self._kv.transact(forget)

    async def walk(self, queue: Queue, one: Waiting) -> tuple[list[Event], bytes | None]:
        """The next events of a folder that is to be walked, as far as they are told to the queue's
        destination, and where to go on behind them; None: at the end."""
        record = one.event
        assert record is not None
        assert record.folder_id

        async def read(tx: ReadTransaction) -> tuple[list[Event], bytes | None]:
            value = await tx.get(setting_key(queue.bucket_id, ASPECT))
            try:
                folder = await find_inode(tx, record.folder_id)
            except StaleHandleError:
                return [], None  # it was removed, and with it all that was below
            if value is None:
                return [], None  # nobody is told any more
            rules = self._rules.of(value)
            found = await keys_below(tx, folder, record.after, PAGE)
            events = []
            for relative, inode in found:
                key = record.key + relative
                for told in rules.told(record.name, key):
                    if told.destination == queue.destination:
                        is_gone = record.name == REMOVED
                        event = msgspec.structs.replace(
                            record,
                            key=key,
                            rule_id=told.rule_id,
                            size=None if is_gone else inode.size,
                            etag="" if is_gone else inode.effective_etag(),
                            folder_id=0,
                            after=b"",
                        )
                        events.append(event)
            return events, found[-1][0] if len(found) == PAGE else None

        return await self._kv.read(read)

    async def count_lost(self, queue: Queue, number: int) -> None:
        """So many events of a walk were not told."""

        async def count(tx: Transaction) -> None:
            tx.add(queue.lost_key, number)

        await self._kv.transact(count)

    async def walked(self, one: Waiting, after: bytes) -> None:
        """Go on behind *after* the next time."""
        assert one.event is not None
        value = encode_event(msgspec.structs.replace(one.event, after=after))

        async def write(tx: Transaction) -> None:
            if await tx.get(one.key) is not None:
                tx.set(one.key, value)

        await self._kv.transact(write)

    async def oldest_ns(self, queue: Queue) -> int | None:
        """When the event happened that waits longest; None: nothing waits, or it is unreadable."""
        page = await self.page(queue)
        return page[0].event.time_ns if page and page[0].event is not None else None


async def _standings(tx: ReadTransaction) -> list[Standing]:
    waiting = {
        queue_of(key): waiting_of(value) for key, value in await tx.get_range(*counts_range())
    }
    lost = {queue_of(key): waiting_of(value) for key, value in await tx.get_range(*lost_range())}
    return [
        Standing(queue, waiting.get(queue, 0), lost.get(queue, 0))
        for queue in sorted(waiting.keys() | lost.keys())
    ]
