"""What is particular to the embedded backend: ages, maps, folders, durability by interval."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import lmdb
import pytest

from craqen.core.errors import (
    ConfigError,
    InvalidArgumentError,
    OperatorError,
    TransactionTooOldError,
    UnavailableError,
)
from craqen.core.kv import conflict_log, embedded, scratch
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.open import open_store
from craqen.core.kv.store import KeyValueStore, ReadTransaction, Transaction

Body = Callable[[EmbeddedStore], Awaitable[None]]
MAP_BYTES = 1 << 20


def run(folder: Path, body: Body, *, transaction_seconds_max: float = 5.0) -> None:
    """Run *body* on the store in *folder*."""

    async def main() -> None:
        store = EmbeddedStore(
            folder, map_bytes=MAP_BYTES, transaction_seconds_max=transaction_seconds_max
        )
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


async def put(store: KeyValueStore, key: bytes, value: bytes) -> None:
    """Set one key."""

    async def function(tx: Transaction) -> None:
        tx.set(key, value)

    await store.transact(function)


async def get(store: KeyValueStore, key: bytes) -> bytes | None:
    """Return one value."""
    return await store.read(lambda tx: tx.get(key))


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_old_transactions_are_refused(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        store: KeyValueStore = (
            MemoryStore(transaction_seconds_max=0.1)
            if kind == "memory"
            else EmbeddedStore(tmp_path, map_bytes=MAP_BYTES, transaction_seconds_max=0.1)
        )
        await put(store, b"a", b"1")

        async def reads_late(tx: ReadTransaction) -> None:
            await tx.get(b"a")
            await asyncio.sleep(0.2)
            await tx.get(b"a")

        async def ranges_late(tx: ReadTransaction) -> None:
            await asyncio.sleep(0.2)
            await tx.get_range(b"a", b"b", reverse=True)

        async def writes_late(tx: Transaction) -> None:
            tx.set(b"a", b"2")
            await asyncio.sleep(0.2)

        async def reads_own_late(tx: Transaction) -> None:
            tx.set(b"a", b"2")
            await asyncio.sleep(0.2)
            await tx.get(b"a")

        for function in (reads_late, ranges_late):
            with pytest.raises(TransactionTooOldError):
                await store.read(function)
        for write_function in (reads_late, writes_late, reads_own_late):
            with pytest.raises(TransactionTooOldError):
                await store.transact(write_function)
        assert await get(store, b"a") == b"1"
        await store.close()

    asyncio.run(main())


def test_long_keys_leave_nothing_behind(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        def rows() -> int:
            with store._environment.env.begin() as snapshot:
                entries: int = snapshot.stat()["entries"]
            return entries

        keys = [b"k" * 9_000 + tail for tail in (b"", b"1", b"2")]
        await put(store, keys[0], b"")
        empty_rows = 2  # the format, and the counter of nodes
        for clears_range in (False, True):
            for key in keys:
                await put(store, key, b"v")
            assert rows() > empty_rows + 3

            async def clears(tx: Transaction, clears_range: bool = clears_range) -> None:
                if clears_range:
                    tx.clear_range(b"k" * 5_000, b"l")
                for key in () if clears_range else keys:
                    tx.clear(key)

            await store.transact(clears)
            assert rows() == empty_rows

    run(tmp_path, body)


def test_a_watch_armed_after_the_last_look_misses_nothing(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        async def watches_only(tx: Transaction) -> asyncio.Future[None]:
            return tx.watch(b"other")

        async def is_overtaken(tx: Transaction) -> asyncio.Future[None]:
            future = tx.watch(b"a")
            await put(store, b"a", b"changed")
            with store._environment.env.begin() as snapshot:
                version = snapshot.id()
            # The table, which looks for the first watch's sake, has seen the change by then.
            while store._watches._checked_version != version:
                await asyncio.sleep(0.001)
            return future

        await store.transact(watches_only)
        await asyncio.wait_for(await store.transact(is_overtaken), 10)

    run(tmp_path, body)


def test_reads_do_not_suspend(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        await put(store, b"a", b"1")

        async def function(tx: ReadTransaction) -> object:
            return await tx.get(b"a"), await tx.get_range(b"", b"b"), await tx.get_many([b"a"])

        coroutine = store.read(function)
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        assert stop.value.value == (b"1", [(b"a", b"1")], [b"1"])

    run(tmp_path, body)


def test_the_map_grows_under_open_transactions(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        await put(store, b"a", b"1")
        release = asyncio.Event()
        runs = {"read": 0, "write": 0, "claim": 0}

        async def reads(tx: ReadTransaction) -> bytes | None:
            runs["read"] += 1
            await tx.get(b"a")
            await release.wait()
            return await tx.get(b"a")

        async def writes(tx: Transaction) -> None:
            runs["write"] += 1
            await tx.get(b"a")
            await release.wait()
            tx.set(b"b", await tx.get(b"a") or b"")

        async def claims(tx: Transaction) -> None:
            runs["claim"] += 1
            tx.add_read_conflict_range(b"a", b"b")
            tx.set(b"c", b"1")
            await release.wait()

        tasks = [
            asyncio.ensure_future(store.read(reads)),
            asyncio.ensure_future(store.transact(writes)),
            asyncio.ensure_future(store.transact(claims)),
        ]
        await asyncio.sleep(0)
        map_bytes = store._environment.map_bytes()
        for number in range(40):
            await put(store, b"big/%d" % number, b"x" * 100_000)
        assert store._environment.map_bytes() > map_bytes
        release.set()
        assert (await asyncio.gather(*tasks))[0] == b"1"
        assert await get(store, b"b") == b"1"
        assert await get(store, b"c") == b"1"
        assert runs == {"read": 2, "write": 2, "claim": 2}

    run(tmp_path, body)


def test_a_cancelled_caller_leaves_the_store_in_order(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        async def claims(tx: Transaction) -> None:
            tx.add_read_conflict_range(b"a", b"b")
            tx.set(b"c", b"1")

        for _ in range(20):
            task = asyncio.ensure_future(store.transact(claims))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await put(store, b"d", b"1")
        assert await get(store, b"d") == b"1"

    run(tmp_path, body)


def test_too_many_waiting_commits_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "COMMITS_WAITING_MAX", 5)

    async def body(store: EmbeddedStore) -> None:
        work = (put(store, b"%d" % number, b"") for number in range(9))
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, UnavailableError)]
        assert len(refused) == 4
        await put(store, b"a", b"again")

    run(tmp_path, body)


def test_one_process_opens_a_folder_once(tmp_path: Path) -> None:
    async def body(store: EmbeddedStore) -> None:
        with pytest.raises(OperatorError, match="already open in this process"):
            EmbeddedStore(tmp_path)
        await put(store, b"a", b"1")

    run(tmp_path, body)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as txn:
        txn.put(b"somebody", b"else's")
    with pytest.raises(OperatorError, match="not a key-value store"):
        EmbeddedStore(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OperatorError, match="cannot make the folder"):
        EmbeddedStore(tmp_path / "file")


def test_the_conflict_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflict_log, "ENTRIES_MAX", 8)

    async def body(store: EmbeddedStore) -> None:
        runs = 0

        async def announces(tx: Transaction) -> None:
            tx.add_write_conflict_range(b"x", b"y")

        async def reads(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            await tx.get(b"a")
            if runs == 1:
                for _ in range(20):
                    await store.transact(announces)
            tx.set(b"b", b"")

        # Nothing touched a, but what was dropped from the log might have.
        await store.transact(reads)
        assert runs == 2
        with store._environment.env.begin() as snapshot:
            logged = conflict_log.ranges_since(snapshot, snapshot.id() - 3)
            assert logged is not None
            assert set(logged) == {(b"x", b"y")}
            assert len(list(conflict_log._entries(snapshot, 0))) <= 8

    run(tmp_path, body)


def test_a_compacted_copy_opens_and_stamps_go_on(tmp_path: Path) -> None:
    async def stamps(tx: Transaction) -> None:
        tx.set_versionstamped_key(b"log/", b"", b"")
        tx.add_write_conflict_range(b"a", b"c")

    async def fills(store: EmbeddedStore) -> None:
        for _ in range(20):
            await store.transact(stamps)

    async def goes_on(store: EmbeddedStore) -> None:
        before = await store.read(lambda tx: tx.get_range(b"log/", b"log0"))
        await store.transact(stamps)
        after = await store.read(lambda tx: tx.get_range(b"log/", b"log0"))
        assert after[:-1] == before

        runs = 0

        async def reads(tx: Transaction) -> int:
            nonlocal runs
            runs += 1
            await tx.get(b"b")
            await put(store, b"elsewhere", b"%d" % runs)
            tx.set(b"d", b"")
            return runs

        assert await store.transact(reads) == 1

    run(tmp_path / "one", fills)
    (tmp_path / "two").mkdir()
    with lmdb.open(str(tmp_path / "one")) as environment:
        environment.copy(str(tmp_path / "two"), compact=True)
    run(tmp_path / "two", goes_on)


def test_durability_by_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = EmbeddedStore(
            tmp_path, map_bytes=MAP_BYTES, durability="interval", flush_interval_seconds=0.01
        )
        flushed = asyncio.Event()
        loop = asyncio.get_running_loop()
        flush = store._environment.flush

        def noted() -> None:
            flush()
            loop.call_soon_threadsafe(flushed.set)

        monkeypatch.setattr(store._environment, "flush", noted)
        await put(store, b"a", b"1")
        await asyncio.wait_for(flushed.wait(), 10)
        assert (tmp_path / scratch.MARK_NAME).exists()
        await store.close()
        assert not (tmp_path / scratch.MARK_NAME).exists()
        # A host that went down leaves the mark of its boot.
        (tmp_path / scratch.MARK_NAME).write_bytes(b"another-boot")
        for durability in ("flush", "interval"):
            with pytest.raises(OperatorError, match="went down"):
                EmbeddedStore(tmp_path, map_bytes=MAP_BYTES, durability=durability)
        (tmp_path / scratch.MARK_NAME).unlink()
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        assert await get(store, b"a") == b"1"
        await store.close()

    asyncio.run(main())


def test_a_failed_flush_stops_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = EmbeddedStore(
            tmp_path, map_bytes=MAP_BYTES, durability="interval", flush_interval_seconds=3600.0
        )
        await put(store, b"a", b"1")

        def fails() -> None:
            raise lmdb.DiskError("mdb_env_sync")

        monkeypatch.setattr(store._environment, "flush", fails)
        assert store._flusher is not None
        store._flusher._flush()
        with pytest.raises(OperatorError, match="flushing failed"):
            await put(store, b"b", b"1")
        await store.close()
        assert (tmp_path / scratch.MARK_NAME).exists()

    asyncio.run(main())


def test_opening_by_url(tmp_path: Path) -> None:
    async def main() -> None:
        for url in (f"embedded:{tmp_path}/kv", "memory:"):
            store = open_store(url, map_bytes=MAP_BYTES)
            await put(store, b"a", b"1")
            assert await get(store, b"a") == b"1"
            await store.close()

    asyncio.run(main())
    for url in ("", "embedded:", "memory:x", "redis:/x", "/folder", "fdb:/file?prefix=a&b=c"):
        with pytest.raises(ConfigError, match="expected"):
            open_store(url)
    with pytest.raises(ConfigError, match="durability"):
        open_store("memory:", durability="never")
    with pytest.raises(InvalidArgumentError, match="prefix"):
        open_store("fdb:/file?prefix=%ff")
