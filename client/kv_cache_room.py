"""Making room in a cache: what expired, what is over the bound, and what processes that died left.

Room is made free by batches, the oldest first: of those examined, values that were asked for since
they were put are put anew, the most recently asked for first, up to half of what is examined. So
for each byte that is made free at most one is written.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ..core.clock import Clock
from ..core.errors import LimitExceededError
from ..core.kv.store import KeyValue, ReadTransaction, Transaction
from ..core.limits import MIB
from ..core.meta.schema import inode_key
from .async_store import AsyncStore
from .kv_cache_packs import Packs
from .kv_cache_rows import (
    BATCH_BYTES,
    PREFIX,
    Batch,
    Keys,
    batch_of_file,
    decode_batch,
    decode_counter,
    decode_number,
    decode_value,
    encode_number,
    folder_of,
    made_ns,
)

LOW_SHARE = 0.95  # of the bound: what making room leaves
SLACK_SHARE = 1.125  # of the bound: above it a put waits for who makes room
EXAMINED_BYTES_MAX = 256 * MIB  # in one step
EXAMINED_BATCHES_MAX = 256
LEASE_SECONDS = 30.0
POLL_SECONDS = 0.02
SWEEP_SECONDS = 30.0
TIDY_SECONDS = 3600.0
ORPHAN_SECONDS = 600.0  # older than any put that is under way
LISTED_AT_ONCE = 1000

Rewrite = Callable[[Mapping[bytes, bytes]], Awaitable[None]]


class Room:
    """What the processes of a cache do about its size; one at a time."""

    def __init__(
        self, store: AsyncStore, packs: Packs, keys: Keys, rewrite: Rewrite, clock: Clock
    ) -> None:
        """*rewrite* puts values anew, given their rows."""
        self._kv = store.client.kv
        self._meta = store.client.meta
        self._packs = packs
        self._keys = keys
        self._rewrite = rewrite
        self._clock = clock
        self._me = os.urandom(16)
        self._sweep_seconds = clock.monotonic_seconds() + SWEEP_SECONDS
        self._lock = asyncio.Lock()

    async def size_bytes(self) -> int:
        """What all batches take."""
        return decode_counter(await self._get(self._keys.bytes))

    async def _get(self, key: bytes) -> bytes | None:
        return await self._kv.read(lambda tx: tx.get(key))

    async def _rows(
        self, begin: bytes, end: bytes, limit: int = EXAMINED_BATCHES_MAX
    ) -> list[KeyValue]:
        return await self._kv.read(lambda tx: tx.get_range(begin, end, limit=limit))

    async def keep_below(self, bytes_max: int) -> None:
        """After a put: make room if there is too much, or wait while another process does."""
        now = self._clock.monotonic_seconds()
        if now > self._sweep_seconds:
            self._sweep_seconds = now + SWEEP_SECONDS
            await self.drop_expired()
        size = await self.size_bytes()
        deadline = now + LEASE_SECONDS
        while size > bytes_max:
            if await self._make_room(bytes_max):
                return
            if size <= bytes_max * SLACK_SHARE:
                return
            if self._clock.monotonic_seconds() > deadline:
                raise LimitExceededError(
                    f"a cache of {size} bytes, bound {bytes_max}: no process makes room"
                )
            await asyncio.sleep(POLL_SECONDS)
            size = await self.size_bytes()

    async def _make_room(self, bytes_max: int) -> bool:
        """Come below the bound, unless another does."""
        async with self._lock:
            if not await self._take_lease():
                return False
            try:
                low = int(bytes_max * LOW_SHARE)
                while (size := await self.size_bytes()) > low:
                    if not await self._step(size - low) or not await self._take_lease():
                        break
            finally:
                await self._end_lease()
        return True

    async def _take_lease(self) -> bool:
        keys, now = self._keys, self._clock.wall_ns()
        mine = encode_number(now + int(LEASE_SECONDS * 1e9)) + self._me

        async def take(tx: Transaction) -> bool:
            row = await tx.get(keys.lease)
            if row is not None and row[8:] != self._me and decode_number(row[:8]) > now:
                return False
            tx.set(keys.lease, mine)
            return True

        return await self._kv.transact(take)

    async def _end_lease(self) -> None:
        async def end(tx: Transaction) -> None:
            row = await tx.get(self._keys.lease)
            if row is not None and row[8:] == self._me:
                tx.clear(self._keys.lease)

        await self._kv.transact(end)

    async def _step(self, need_bytes: int) -> bool:
        """Make about *need_bytes* free, if that is not much; False: there is nothing left."""
        batches = await self._oldest(min(2 * need_bytes, EXAMINED_BYTES_MAX))
        if not batches:
            return False
        examined = sum(batch.size_bytes for _, batch in batches)
        used: list[tuple[int, bytes, bytes]] = []
        for name, batch in batches:
            used += await self._used(name, batch)
        used.sort(reverse=True)
        kept: dict[bytes, bytes] = {}
        room = examined // 2
        for _, digest, row in used:
            value = decode_value(row)
            assert value is not None
            room -= value.length
            if room < 0:
                break
            kept[digest] = row
        if kept:
            await self._rewrite(kept)
        for name, _ in batches:
            await self._drop(name)
        return True

    async def _oldest(self, bytes_min: int) -> list[tuple[bytes, Batch]]:
        """The oldest batches that hold so much together, or fewer."""
        begin, end = self._keys.batches()
        rows = await self._rows(begin, end)
        found: list[tuple[bytes, Batch]] = []
        total = 0
        for key, row in rows:
            batch = decode_batch(row)
            found.append((key[len(begin) :], batch))
            total += batch.size_bytes
            if total >= bytes_min:
                break
        return found

    async def _used(self, name: bytes, batch: Batch) -> list[tuple[int, bytes, bytes]]:
        """Of values that are still in the batch and were asked for: when, the digest, the row."""
        keys, now = self._keys, self._clock.wall_ns()

        async def read(tx: ReadTransaction) -> list[tuple[int, bytes, bytes]]:
            times = await tx.get_many([keys.used(digest) for digest in batch.digests])
            marked = [
                (decode_number(time), digest)
                for time, digest in zip(times, batch.digests, strict=True)
                if time is not None
            ]
            rows = await tx.get_many([keys.value(digest) for _, digest in marked])
            found = []
            for (time, digest), row in zip(marked, rows, strict=True):
                value = None if row is None else decode_value(row)
                if row is None or value is None or value.batch != name or value.is_expired(now):
                    continue
                if time > made_ns(name):
                    found.append((time, digest, row))
            return found

        return await self._kv.read(read)

    async def _drop(self, name: bytes) -> None:
        """Remove a batch, with all values that are still in it."""
        keys = self._keys

        async def drop(tx: Transaction) -> Batch | None:
            record = await tx.get(keys.batch(name))
            if record is None:
                return None
            batch = decode_batch(record)
            rows = await tx.get_many([keys.value(digest) for digest in batch.digests])
            for digest, row in zip(batch.digests, rows, strict=True):
                value = None if row is None else decode_value(row)
                if value is not None and value.batch == name:
                    tx.clear(keys.value(digest))
                    tx.clear(keys.used(digest))
            tx.clear(keys.batch(name))
            tx.add(keys.bytes, -batch.size_bytes)
            if batch.expires_ns:
                tx.clear(keys.expiry(batch.expires_ns, name))
            return batch

        batch = await self._kv.transact(drop)
        if batch is not None and batch.has_file:
            await self._packs.remove(name)

    async def drop_expired(self) -> None:
        """Remove batches all of whose values expired."""
        await self._drop_in(*self._keys.expired(self._clock.wall_ns()))

    async def drop_all(self) -> None:
        """Remove all batches that are there now."""
        await self._drop_in(*self._keys.batches())

    async def _drop_in(self, begin: bytes, end: bytes) -> None:
        """Remove the batches that the keys of a range end with."""
        while True:
            rows = await self._rows(begin, end)
            for key, _ in rows:
                await self._drop(key[-BATCH_BYTES:])
            if len(rows) < EXAMINED_BATCHES_MAX:
                return
            begin = rows[-1][0] + b"\0"

    # What was left behind

    async def tidy(self) -> None:
        """Now and then: remove files without a batch, and rows of caches whose folder is gone."""
        keys, now = self._keys, self._clock.wall_ns()

        async def due(tx: Transaction) -> bool:
            if decode_number(await tx.get(keys.tidied)) + int(TIDY_SECONDS * 1e9) > now:
                return False
            tx.set(keys.tidied, encode_number(now))
            return True

        if await self._kv.transact(due):
            await self._remove_orphans(now - int(ORPHAN_SECONDS * 1e9))
            await self._remove_dead_caches()

    async def _remove_orphans(self, before_ns: int) -> None:
        after = b""
        while True:
            entries = await self._meta.read_directory(
                self._packs.folder_id, after=after, limit=LISTED_AT_ONCE
            )
            names = [batch_of_file(os.fsdecode(entry.name)) for entry in entries]
            old = [name for name in names if name is not None and made_ns(name) < before_ns]
            for name, row in zip(old, await self._batch_rows(old), strict=True):
                if row is None:
                    await self._packs.remove(name)
            if len(entries) < LISTED_AT_ONCE:
                return
            after = entries[-1].cursor

    async def _batch_rows(self, names: Sequence[bytes]) -> list[bytes | None]:
        keys = [self._keys.batch(name) for name in names]
        return await self._kv.read(lambda tx: tx.get_many(keys))

    async def _remove_dead_caches(self) -> None:
        begin = PREFIX
        while True:
            rows = await self._rows(begin, PREFIX + b"\xff" * 9, limit=1)
            if not rows:
                return
            folder_id = folder_of(rows[0][0])
            dead = Keys(folder_id)

            async def remove(
                tx: Transaction, folder_id: int = folder_id, dead: Keys = dead
            ) -> None:
                if await tx.get(inode_key(folder_id)) is None:
                    tx.clear_range(*dead.all())

            await self._kv.transact(remove)
            begin = dead.all()[1]
