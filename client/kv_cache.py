"""A cache of values by key, for inference: KV-cache blocks of prompts, embeddings, whatever can be
made again. docs/kv-cache.md; docs/decisions/0014-kv-cache.md says why it is built like this."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from ..core.clock import Clock, SystemClock
from ..core.errors import StaleHandleError
from ..core.kv.store import ReadTransaction, Transaction
from ..core.limits import KIB, MIB
from ..core.meta.schema import inode_key
from .async_store import AsyncStore
from .batches import bytes_of
from .errors import as_os_errors
from .kv_cache_packs import Packs
from .kv_cache_room import Room
from .kv_cache_rows import (
    Batch,
    Keys,
    Value,
    batch_name,
    decode_value,
    digest_of,
    encode_batch,
    encode_inline,
    encode_number,
    encode_packed,
    made_ns,
    runs,
)
from .paths import Path, text_of

VALUE_BYTES_MAX = 64 * MIB
INLINE_VALUE_BYTES = 16 * KIB  # up to here a value lies in its row: no chunk, one transaction less
INLINE_BATCH_BYTES_MAX = 2 * MIB  # of values in rows, in one transaction
PACK_BYTES_MAX = 32 * MIB
BATCH_VALUES_MAX = 1024
READ_ROWS_MAX = 512  # of one snapshot: others that wait for the loop get their turn
ATTEMPTS_MAX = 3  # a value replaced under every attempt of a read
MARK_SECONDS = 60.0  # uses are noted at most this often for a value …
MARKS_WAIT_SECONDS = 5.0  # … and together with others of so long
MARKS_MAX = 4096  # or so many
MARKED_MAX = 1 << 18  # values that are known to be marked

Key = bytes | str
Values = Mapping[str, Any] | Mapping[bytes, Any] | Iterable[tuple[Key, Any]]
"""Values (whatever has the buffer protocol) by key, or pairs."""
T = TypeVar("T")
RoomFor = Callable[[int, int], memoryview | None]
"""A buffer for value number so, of so many bytes; None: it is not wanted."""
Have = Callable[[int, bytes | None], None]
"""Value number so is there: its bytes, or None if they are in its buffer."""

_log = logging.getLogger("craqen.client")


class KvCacheUsage(NamedTuple):
    """What a cache takes."""

    size_bytes: int
    """With what was replaced or deleted and is not freed yet."""
    size_bytes_max: int


class AsyncKvCache:
    """A cache in a folder of the store, for any number of processes at once. Get it from ``open``.

    A value is there as it was put, whole, or it is not there. Every call raises OSError.
    """

    def __init__(self, store: AsyncStore, packs: Packs, size_bytes_max: int, clock: Clock) -> None:
        self._kv = store.client.kv
        self._packs = packs
        self._keys = Keys(packs.folder_id)
        self._size_bytes_max = size_bytes_max
        self._room = Room(store, packs, self._keys, self._rewrite, clock)
        self._clock_ns = clock.wall_ns
        self._marked: dict[bytes, int] = {}
        self._to_mark: set[bytes] = set()
        self._marks_due_ns = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, store: AsyncStore, folder: Path, *, size_bytes_max: int, clock: Clock | None = None
    ) -> AsyncKvCache:
        """The cache in *folder*, which is made if need be and holds nothing else. It may grow to
        about *size_bytes_max*: all processes should say the same."""
        if size_bytes_max < 1:
            raise ValueError(f"size_bytes_max {size_bytes_max}: at least 1")
        await store.make_directory(folder, parents=True, exist_ok=True)
        with as_os_errors(text_of(folder)):
            packs = await Packs.open(store.client, store.fast, folder)
        cache = cls(store, packs, size_bytes_max, clock or SystemClock())
        cache._begin(cache._room.tidy())
        return cache

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* beside; its errors are logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("cache: what goes on beside failed: %s", task.exception())

    async def close(self) -> None:
        """End what goes on beside. The store stays open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> AsyncKvCache:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # Getting

    async def get(self, key: Key) -> bytes | None:
        """The value of *key*; None: it is not there."""
        (value,) = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The values of *keys*, in their order; None for what is not there."""
        digests = [digest_of(key) for key in keys]
        found: list[bytes | None] = [None] * len(keys)

        def room(number: int, length: int) -> memoryview:
            buffer = buffers[number] = bytearray(length)
            return memoryview(buffer)

        buffers: dict[int, bytearray] = {}

        def have(number: int, data: bytes | None) -> None:
            found[number] = bytes(buffers.pop(number)) if data is None else data

        await self._get(digests, room, have)
        return found

    async def get_into(self, reads: Iterable[tuple[Key, Any]]) -> list[int | None]:
        """Read values into the caller's buffers, which may be longer: pairs of a key and whatever
        has the buffer protocol. Return the lengths of the values; None for what is not there. Of a
        value that is longer than its buffer the length tells so, and nothing is read."""
        pairs = [(digest_of(key), bytes_of(buffer)) for key, buffer in reads]
        lengths: list[int | None] = [None] * len(pairs)
        sizes = [0] * len(pairs)

        def room(number: int, length: int) -> memoryview | None:
            sizes[number] = length
            view = pairs[number][1]
            if length > len(view):
                lengths[number] = length
                return None
            return view[:length]

        def have(number: int, data: bytes | None) -> None:
            if data is None:
                lengths[number] = sizes[number]
                return
            lengths[number] = len(data)
            view = pairs[number][1]
            if len(data) <= len(view):
                view[: len(data)] = data

        await self._get([digest for digest, _ in pairs], room, have)
        return lengths

    async def _get(self, digests: Sequence[bytes], room: RoomFor, have: Have) -> None:
        """Look all up; ask *room* for a buffer for each that is in a file, tell *have* what is
        there."""
        gone: dict[int, bytes] = {}
        for attempt in range(ATTEMPTS_MAX):
            numbers = list(gone) if attempt else range(len(digests))
            gone = await self._get_once(digests, numbers, room, have)
            if not gone:
                return
        await self._forget({digests[number]: row for number, row in gone.items()})

    async def _get_once(
        self, digests: Sequence[bytes], numbers: Sequence[int], room: RoomFor, have: Have
    ) -> dict[int, bytes]:
        """One attempt; return the rows of those whose bytes were gone."""
        now_ns = self._clock_ns()
        rows = await self._rows([digests[number] for number in numbers])
        packed: list[tuple[int, bytes, Value, memoryview]] = []
        for number, row in zip(numbers, rows, strict=True):
            value = None if row is None else decode_value(row)
            if row is None or value is None or value.is_expired(now_ns):
                continue
            self._note_use(digests[number], value, now_ns)
            if value.extent is None:
                have(number, value.data)
                continue
            buffer = room(number, value.length)
            if buffer is not None:
                packed.append((number, row, value, buffer))
        missing: dict[int, bytes] = {}
        if packed:
            with as_os_errors():
                outcomes = await self._packs.read(
                    [value.extent for _, _, value, _ in packed if value.extent is not None],
                    [buffer for _, _, _, buffer in packed],
                )
            for (number, row, _, _), whole in zip(packed, outcomes, strict=True):
                if whole:
                    have(number, None)
                else:
                    missing[number] = row
        self._mark_uses(now_ns)
        return missing

    async def _rows(self, digests: Sequence[bytes]) -> list[bytes | None]:
        keys = [self._keys.value(digest) for digest in digests]
        found: list[bytes | None] = []
        with as_os_errors():
            for start in range(0, len(keys), READ_ROWS_MAX):
                some = keys[start : start + READ_ROWS_MAX]

                async def read(tx: ReadTransaction, some: list[bytes] = some) -> list[bytes | None]:
                    return await tx.get_many(some)

                found += await self._kv.read(read)
        return found

    async def _forget(self, rows: Mapping[bytes, bytes]) -> None:
        """Values whose bytes are lost are not there, as long as their rows are these."""
        keys = self._keys

        async def forget(tx: Transaction) -> None:
            present = await tx.get_many([keys.value(digest) for digest in rows])
            for (digest, row), now in zip(rows.items(), present, strict=True):
                if now == row:
                    tx.clear(keys.value(digest))
                    tx.clear(keys.used(digest))

        _log.warning("cache: %d values are lost or damaged: dropped", len(rows))
        with as_os_errors():
            await self._kv.transact(forget)

    async def exists(self, key: Key) -> bool:
        """Whether the value of *key* is there."""
        (there,) = await self.exists_many([key])
        return there

    async def exists_many(self, keys: Sequence[Key]) -> list[bool]:
        """Whether the values of *keys* are there."""
        now_ns = self._clock_ns()
        there = []
        for row in await self._rows([digest_of(key) for key in keys]):
            value = None if row is None else decode_value(row)
            there.append(value is not None and not value.is_expired(now_ns))
        return there

    async def prefix_length(self, keys: Sequence[Key]) -> int:
        """How many of *keys*, from the first on without a gap, are there: blocks of a prompt."""
        there = await self.exists_many(keys)
        return there.index(False) if False in there else len(there)

    # Uses, so that room is made by dropping what nobody asks for

    def _note_use(self, digest: bytes, value: Value, now_ns: int) -> None:
        recent = now_ns - int(MARK_SECONDS * 1e9)
        if made_ns(value.batch) > recent or self._marked.get(digest, 0) > recent:
            return
        self._to_mark.add(digest)

    def _mark_uses(self, now_ns: int) -> None:
        if not self._to_mark:
            return
        if len(self._to_mark) < MARKS_MAX and now_ns < self._marks_due_ns:
            return
        self._marks_due_ns = now_ns + int(MARKS_WAIT_SECONDS * 1e9)
        marks, self._to_mark = self._to_mark, set()
        if len(self._marked) + len(marks) > MARKED_MAX:
            self._marked.clear()
        self._marked.update(dict.fromkeys(marks, now_ns))
        self._begin(self._mark(sorted(marks), now_ns))

    async def _mark(self, digests: Sequence[bytes], now_ns: int) -> None:
        keys, time = self._keys, encode_number(now_ns)

        async def mark(tx: Transaction) -> None:
            rows = await tx.get_many([keys.value(digest) for digest in some])
            for digest, row in zip(some, rows, strict=True):
                if row is not None:
                    tx.set(keys.used(digest), time)

        for start in range(0, len(digests), READ_ROWS_MAX):
            some = digests[start : start + READ_ROWS_MAX]
            await self._kv.transact(mark)

    # Putting

    async def put(self, key: Key, value: Any, *, ttl_seconds: float | None = None) -> None:
        """Keep *value* (bytes, or whatever has the buffer protocol) under *key*, in place of what
        is there, for *ttl_seconds* (None: until there is no room). Who asks after this returned
        gets it."""
        await self.put_many([(key, value)], ttl_seconds=ttl_seconds)

    async def put_many(
        self,
        values: Values,
        *,
        ttl_seconds: float | None = None,
    ) -> None:
        """Keep many values, which costs little more than keeping one. Each comes to be there whole;
        others may see some of them before the rest."""
        pairs = values.items() if isinstance(values, Mapping) else values
        now_ns = self._clock_ns()
        expires_ns = 0
        if ttl_seconds is not None:
            if ttl_seconds <= 0:
                raise ValueError(f"ttl_seconds {ttl_seconds}: more than 0, or None")
            expires_ns = now_ns + int(ttl_seconds * 1e9)
        rows: dict[bytes, memoryview] = {}
        for key, value in pairs:
            view = bytes_of(value)
            if len(view) > VALUE_BYTES_MAX:
                raise ValueError(f"a value of {len(view)} bytes: at most {VALUE_BYTES_MAX}")
            rows[digest_of(key)] = view
        with as_os_errors():
            await self._put(rows, dict.fromkeys(rows, expires_ns), {})
            await self._room.keep_below(self._size_bytes_max)

    async def _put(
        self,
        values: Mapping[bytes, memoryview],
        expiries: Mapping[bytes, int],
        only_over: Mapping[bytes, bytes],
    ) -> None:
        """Store *values*; those in *only_over* only while their rows are these."""
        small = [digest for digest, value in values.items() if len(value) <= INLINE_VALUE_BYTES]
        large = [digest for digest, value in values.items() if len(value) > INLINE_VALUE_BYTES]
        for digests, bytes_max in ((small, INLINE_BATCH_BYTES_MAX), (large, PACK_BYTES_MAX)):
            sizes = [len(values[digest]) for digest in digests]
            for run in runs(sizes, bytes_max, BATCH_VALUES_MAX):
                some = [digests[number] for number in run]
                await self._put_batch(
                    {digest: values[digest] for digest in some},
                    expiries,
                    only_over,
                    in_file=digests is large,
                )

    async def _put_batch(
        self,
        values: Mapping[bytes, memoryview],
        expiries: Mapping[bytes, int],
        only_over: Mapping[bytes, bytes],
        *,
        in_file: bool,
    ) -> None:
        name = batch_name(self._clock_ns(), os.urandom(8))
        rows: dict[bytes, bytes] = {}
        if in_file:
            places, size_bytes = await self._packs.write(name, list(values.values()))
            for digest, extent in zip(values, places, strict=True):
                rows[digest] = encode_packed(expiries[digest], name, extent)
        else:
            size_bytes = 0
            for digest, view in values.items():
                rows[digest] = encode_inline(expiries[digest], name, view)
                size_bytes += len(rows[digest])
        times = [expiries[digest] for digest in values]
        last_ns = 0 if 0 in times else max(times)
        record = encode_batch(Batch(size_bytes, last_ns, in_file, tuple(values)))
        keys = self._keys

        async def put(tx: Transaction) -> None:
            if await tx.get(inode_key(self._packs.folder_id), snapshot=True) is None:
                raise StaleHandleError("the cache's folder was removed: open it anew")
            if only_over:
                present = await tx.get_many([keys.value(digest) for digest in rows])
                kept = dict(zip(rows, present, strict=True))
            for digest, row in rows.items():
                if not only_over or kept[digest] == only_over[digest]:
                    tx.set(keys.value(digest), row)
            tx.set(keys.batch(name), record)
            tx.add(keys.bytes, size_bytes)
            if last_ns:
                tx.set(keys.expiry(last_ns, name), b"")

        await self._kv.transact(put)

    async def _rewrite(self, rows: Mapping[bytes, bytes]) -> None:
        """Put values anew, from these rows, as long as they are as they are."""
        values: dict[bytes, memoryview] = {}
        expiries: dict[bytes, int] = {}
        packed: list[tuple[bytes, Value]] = []
        for digest, row in rows.items():
            value = decode_value(row)
            assert value is not None
            expiries[digest] = value.expires_ns
            if value.data is not None:
                values[digest] = memoryview(value.data)
            else:
                packed.append((digest, value))
        buffers = [memoryview(bytearray(value.length)) for _, value in packed]
        extents = [value.extent for _, value in packed if value.extent is not None]
        for (digest, _), buffer, whole in zip(
            packed, buffers, await self._packs.read(extents, buffers), strict=True
        ):
            if whole:
                values[digest] = buffer
        await self._put(values, expiries, {digest: rows[digest] for digest in values})

    # Removing

    async def delete(self, key: Key) -> bool:
        """Drop the value of *key*; tell whether it was there."""
        return await self.delete_many([key]) == 1

    async def delete_many(self, keys: Sequence[Key]) -> int:
        """Drop the values of *keys*; return how many were there. Their room is made free when their
        neighbours go, too."""
        digests = list(dict.fromkeys(digest_of(key) for key in keys))
        count = 0
        with as_os_errors():
            for start in range(0, len(digests), READ_ROWS_MAX):
                some = digests[start : start + READ_ROWS_MAX]
                count += await self._kv.transact(partial(self._clear, some))
        return count

    async def _clear(self, digests: Sequence[bytes], tx: Transaction) -> int:
        keys, now_ns, count = self._keys, self._clock_ns(), 0
        rows = await tx.get_many([keys.value(digest) for digest in digests])
        for digest, row in zip(digests, rows, strict=True):
            if row is None:
                continue
            value = decode_value(row)
            count += value is not None and not value.is_expired(now_ns)
            tx.clear(keys.value(digest))
            tx.clear(keys.used(digest))
        return count

    async def clear(self) -> None:
        """Drop all values that are there when this is called."""
        with as_os_errors():
            await self._room.drop_all()

    async def sweep(self) -> None:
        """Make free what expired values take. Goes on beside puts, too, now and then."""
        with as_os_errors():
            await self._room.drop_expired()

    async def usage(self) -> KvCacheUsage:
        """What the cache takes, and may take."""
        with as_os_errors():
            return KvCacheUsage(await self._room.size_bytes(), self._size_bytes_max)
