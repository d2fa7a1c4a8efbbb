"""What every key-value backend promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from craqen.core.errors import (
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    UnavailableError,
)
from craqen.core.kv.store import KeyValue, KeyValueStore, ReadTransaction, Transaction
from craqen.core.limits import (
    KV_KEY_BYTES_MAX,
    KV_RETRIES_MAX,
    KV_TRANSACTION_BYTES_MAX,
    KV_VALUE_BYTES_MAX,
)

StoreFactory = Callable[[], KeyValueStore]
Body = Callable[[KeyValueStore], Awaitable[None]]
T = TypeVar("T")


def run(new_store: StoreFactory, body: Body) -> None:
    """Run *body* on a new store."""

    async def main() -> None:
        store = new_store()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


async def put(store: KeyValueStore, *pairs: KeyValue) -> None:
    """Set *pairs* in one transaction."""

    async def function(tx: Transaction) -> None:
        for key, value in pairs:
            tx.set(key, value)

    await store.transact(function)


async def fetch(store: KeyValueStore, key: bytes) -> bytes | None:
    """Return the value of *key*."""
    return await store.read(lambda tx: tx.get(key))


async def rows(
    store: KeyValueStore, begin: bytes = b"", end: bytes = b"\xff", limit: int = 0
) -> list[KeyValue]:
    """Return a range."""
    return await store.read(lambda tx: tx.get_range(begin, end, limit=limit))


async def interrupted(
    store: KeyValueStore,
    body: Callable[[Transaction], Awaitable[T]],
    *interlopers: Callable[[Transaction], Awaitable[None]],
) -> tuple[int, T]:
    """Run *body* in a transaction, and *interlopers* between its first run and its commit.

    Returns how often *body* ran, and its last result.
    """
    runs = 0

    async def function(tx: Transaction) -> T:
        nonlocal runs
        runs += 1
        result = await body(tx)
        if runs == 1:
            for interloper in interlopers:
                await store.transact(interloper)
        return result

    result = await store.transact(function)
    return runs, result


def setting(key: bytes, value: bytes) -> Callable[[Transaction], Awaitable[None]]:
    """Return a transaction function that sets one key."""

    async def function(tx: Transaction) -> None:
        tx.set(key, value)

    return function


def counter(value: bytes | None) -> int:
    """Return a counter's number."""
    return int.from_bytes(value or b"", "little", signed=True)


def test_values_come_back(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"a", b"1"), (b"empty", b""), (b"\x00", b"zero"), (b"", b"no key"))
        assert await fetch(store, b"a") == b"1"
        assert await fetch(store, b"empty") == b""
        assert await fetch(store, b"\x00") == b"zero"
        assert await fetch(store, b"") == b"no key"
        assert await fetch(store, b"absent") is None
        got = await store.read(lambda tx: tx.get_many([b"a", b"absent", b"a"]))
        assert got == [b"1", None, b"1"]

    run(new_store, body)


def test_transact_returns_the_result_and_passes_errors_on(new_store: StoreFactory) -> None:
    class OwnError(Exception):
        pass

    async def body(store: KeyValueStore) -> None:
        async def returns(tx: Transaction) -> str:
            tx.set(b"a", b"1")
            return "result"

        async def fails(tx: Transaction) -> None:
            tx.set(b"a", b"2")
            raise OwnError

        runs = 0

        async def conflicts(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            raise ConflictError("mine")

        assert await store.transact(returns) == "result"
        with pytest.raises(OwnError):
            await store.transact(fails)
        with pytest.raises(ConflictError, match="mine"):
            await store.transact(conflicts)
        assert runs == 1
        assert await fetch(store, b"a") == b"1"

    run(new_store, body)


def test_ranges(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        pairs = [(b"k%02d" % number, b"v%d" % number) for number in range(20)]
        await put(store, *reversed(pairs))

        async def check(tx: ReadTransaction) -> None:
            assert await tx.get_range(b"", b"\xff") == pairs
            assert await tx.get_range(b"k05", b"k08") == pairs[5:8]
            assert await tx.get_range(b"k05\x00", b"k08\x00") == pairs[6:9]
            assert await tx.get_range(b"k05", b"\xff", limit=3) == pairs[5:8]
            assert await tx.get_range(b"k05", b"\xff", reverse=True) == pairs[:4:-1]
            assert await tx.get_range(b"", b"k05", limit=2, reverse=True) == [pairs[4], pairs[3]]
            assert await tx.get_range(b"k05", b"k05") == []
            assert await tx.get_range(b"k08", b"k05") == []
            assert await tx.get_range(b"l", b"m", reverse=True) == []
            assert await tx.get_range(b"", b"a", reverse=True) == []

        await store.read(check)
        await store.transact(check)

    run(new_store, body)


def test_clear(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, *((b"%d" % number, b"x") for number in range(10)))

        async def clears(tx: Transaction) -> None:
            tx.clear(b"0")
            tx.clear(b"absent")
            tx.clear_range(b"3", b"7")
            tx.clear_range(b"9", b"8")

        await store.transact(clears)
        assert [key for key, _ in await rows(store)] == [b"1", b"2", b"7", b"8", b"9"]

    run(new_store, body)


def test_counters(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def adds(tx: Transaction) -> None:
            tx.add(b"new", 5)
            tx.add(b"new", -7)
            tx.set(b"set", (10).to_bytes(8, "little"))
            tx.add(b"set", 1)
            tx.add(b"short", 1)
            tx.add(b"high", 1)

        await put(store, (b"short", b"\xff"), (b"high", b"\xff" * 7 + b"\x7f"))
        await store.transact(adds)
        assert counter(await fetch(store, b"new")) == -2
        assert counter(await fetch(store, b"set")) == 11
        assert await fetch(store, b"short") == (256).to_bytes(8, "little")
        assert counter(await fetch(store, b"high")) == -(2**63)

    run(new_store, body)


def test_own_writes_are_read(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        one = (1).to_bytes(8, "little")
        await put(store, *((b"%d" % number, b"old") for number in range(8)), (b"count", one))

        async def function(tx: Transaction) -> None:
            tx.set(b"2", b"new")
            tx.clear(b"3")
            tx.clear_range(b"5", b"7")
            tx.set(b"55", b"after clear")
            tx.set(b"0", b"gone")
            tx.clear(b"0")
            tx.add(b"count", 2)
            tx.clear(b"fresh")
            tx.add(b"fresh", 7)
            assert await tx.get(b"2") == b"new"
            assert await tx.get(b"2", snapshot=True) == b"new"
            assert await tx.get(b"3") is None
            assert await tx.get(b"0") is None
            assert await tx.get(b"6") is None
            assert await tx.get_many([b"55", b"5", b"1"]) == [b"after clear", None, b"old"]
            assert counter(await tx.get(b"count")) == 3
            assert counter(await tx.get(b"fresh")) == 7
            expected = [
                (b"1", b"old"),
                (b"2", b"new"),
                (b"4", b"old"),
                (b"55", b"after clear"),
                (b"7", b"old"),
            ]
            assert await tx.get_range(b"", b"9") == expected
            assert await tx.get_range(b"", b"9", reverse=True) == expected[::-1]
            assert await tx.get_range(b"", b"9", limit=3) == expected[:3]
            assert await tx.get_range(b"", b"9", limit=2, reverse=True) == expected[:2:-1]
            assert await tx.get_range(b"5", b"7", limit=9) == [(b"55", b"after clear")]
            tx.clear_range(b"", b"\xff")
            assert await tx.get_range(b"", b"\xff") == []
            tx.set(b"9", b"last")
            assert await tx.get_range(b"", b"\xff") == [(b"9", b"last")]

        await store.transact(function)
        assert await rows(store) == [(b"9", b"last")]

    run(new_store, body)


def test_a_transaction_reads_one_snapshot(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"a", b"1"), (b"b", b"1"))

        async def function(tx: ReadTransaction) -> list[bytes | None]:
            first = await tx.get(b"a")
            await put(store, (b"a", b"2"), (b"b", b"2"))
            return [
                first,
                await tx.get(b"b"),
                *(value for _, value in await tx.get_range(b"", b"z")),
            ]

        assert await store.read(function) == [b"1", b"1", b"1", b"1"]
        assert await fetch(store, b"a") == b"2"

    run(new_store, body)


def test_lost_update_is_prevented(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"n", b"1"))

        async def increments(tx: Transaction) -> None:
            tx.set(b"n", b"%d" % (int(await tx.get(b"n") or b"0") + 1))

        runs, _ = await interrupted(store, increments, increments)
        assert runs == 2
        assert await fetch(store, b"n") == b"3"

    run(new_store, body)


def test_write_skew_is_prevented(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"x", b"on"), (b"y", b"on"))

        def switch_off(mine: bytes, other: bytes) -> Callable[[Transaction], Awaitable[None]]:
            async def function(tx: Transaction) -> None:
                if await tx.get(other) == b"on":
                    tx.set(mine, b"off")

            return function

        runs, _ = await interrupted(store, switch_off(b"x", b"y"), switch_off(b"y", b"x"))
        assert runs == 2
        assert [value for _, value in await rows(store)] == [b"on", b"off"]

    run(new_store, body)


@pytest.mark.parametrize("absent_first", [True, False])
def test_phantoms_are_prevented(new_store: StoreFactory, absent_first: bool) -> None:
    async def body(store: KeyValueStore) -> None:
        if not absent_first:
            await put(store, (b"r5", b""))

        async def counts(tx: Transaction) -> int:
            found = len(await tx.get_range(b"r", b"s"))
            tx.set(b"count", b"%d" % found)
            return found

        async def changes(tx: Transaction) -> None:
            if absent_first:
                tx.set(b"r5", b"")
            else:
                tx.clear_range(b"r", b"s")

        runs, found = await interrupted(store, counts, changes)
        assert (runs, found) == (2, 1 if absent_first else 0)

    run(new_store, body)


def test_an_absent_key_that_appears_conflicts(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def creates(tx: Transaction) -> bool:
            free = await tx.get(b"name") is None
            if free:
                tx.set(b"name", b"mine")
            else:
                tx.set(b"other", b"")
            return free

        assert await interrupted(store, creates, setting(b"name", b"theirs")) == (2, False)
        assert await fetch(store, b"name") == b"theirs"

    run(new_store, body)


@pytest.mark.parametrize(
    ("key", "reverse", "conflict"),
    [
        (b"k0", False, True),
        (b"k2", False, True),
        (b"k2\x00", False, False),
        (b"k7", False, False),
        (b"k7", True, True),
        (b"k9z", True, True),
        (b"k6", True, False),
    ],
)
def test_a_limited_range_conflicts_only_over_what_it_read(
    new_store: StoreFactory, key: bytes, reverse: bool, conflict: bool
) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, *((b"k%d" % number, b"") for number in range(10)))

        async def function(tx: Transaction) -> None:
            await tx.get_range(b"", b"l", limit=3, reverse=reverse)
            tx.set(b"x", b"")

        runs, _ = await interrupted(store, function, setting(key, b"changed"))
        assert runs == (2 if conflict else 1)

    run(new_store, body)


def test_what_the_transaction_wrote_itself_does_not_conflict(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, *((b"%d" % number, b"old") for number in range(10)))

        async def function(tx: Transaction) -> None:
            tx.set(b"2", b"mine")
            tx.clear_range(b"4", b"6")
            assert await tx.get(b"2") == b"mine"
            assert await tx.get(b"5") is None
            assert len(await tx.get_range(b"2", b"3")) == 1
            assert await tx.get_range(b"4", b"6") == []

        async def interferes(tx: Transaction) -> None:
            tx.set(b"2", b"theirs")
            tx.set(b"45", b"theirs")
            tx.clear(b"5")

        runs, _ = await interrupted(store, function, interferes)
        assert runs == 1
        assert await fetch(store, b"2") == b"mine"
        assert await fetch(store, b"45") is None

        async def wider(tx: Transaction) -> None:
            tx.clear_range(b"4", b"6")
            await tx.get_range(b"3", b"8")

        runs, _ = await interrupted(store, wider, setting(b"5", b"again"))
        assert runs == 1
        runs, _ = await interrupted(store, wider, setting(b"7", b"again"))
        assert runs == 2

    run(new_store, body)


def test_a_limited_range_filled_by_own_writes_conflicts_only_there(
    new_store: StoreFactory,
) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"b", b"old"), (b"y", b"old"))

        async def function(tx: Transaction) -> None:
            tx.set(b"a", b"mine")
            tx.set(b"z", b"mine")
            assert await tx.get_range(b"", b"\xff", limit=1) == [(b"a", b"mine")]
            found = await tx.get_range(b"", b"\xff", limit=1, reverse=True)
            assert found == [(b"z", b"mine")]

        runs, _ = await interrupted(store, function, setting(b"m", b""), setting(b"b", b"new"))
        assert runs == 1

    run(new_store, body)


def test_snapshot_reads_do_not_conflict(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"a", b"1"))

        async def function(tx: Transaction) -> None:
            await tx.get(b"a", snapshot=True)
            await tx.get_many([b"a"], snapshot=True)
            await tx.get_range(b"", b"b", snapshot=True)
            tx.set(b"z", b"")
            await tx.get(b"a", snapshot=True)
            await tx.get_range(b"", b"\xff", snapshot=True)

        assert (await interrupted(store, function, setting(b"a", b"2")))[0] == 1

    run(new_store, body)


def test_reading_without_writing_never_conflicts(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def function(tx: Transaction) -> bytes | None:
            return await tx.get(b"a")

        assert await interrupted(store, function, setting(b"a", b"2")) == (1, None)

    run(new_store, body)


def test_blind_writes_do_not_conflict(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        assert (await interrupted(store, setting(b"a", b"1"), setting(b"a", b"2")))[0] == 1
        assert await fetch(store, b"a") == b"1"

        async def adds(tx: Transaction) -> None:
            tx.add(b"n", 1)

        assert (await interrupted(store, adds, adds, adds))[0] == 1
        assert counter(await fetch(store, b"n")) == 3

        async def reads_too(tx: Transaction) -> int:
            tx.add(b"n", 1)
            return counter(await tx.get(b"n"))

        assert await interrupted(store, reads_too, adds) == (2, 5)

    run(new_store, body)


def test_explicit_conflict_ranges(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def claims(tx: Transaction) -> None:
            tx.add_read_conflict_range(b"a", b"c")
            tx.set(b"z", b"")

        async def announces(tx: Transaction) -> None:
            tx.add_write_conflict_range(b"b", b"bb")

        async def announces_elsewhere(tx: Transaction) -> None:
            tx.add_write_conflict_range(b"c", b"d")

        async def reads(tx: Transaction) -> None:
            await tx.get(b"b1")
            tx.set(b"z", b"")

        async def reads_range(tx: Transaction) -> None:
            await tx.get_range(b"a", b"b\x00")
            tx.set(b"z", b"")

        assert (await interrupted(store, claims, setting(b"b", b"1")))[0] == 2
        assert (await interrupted(store, claims, setting(b"c", b"1")))[0] == 1
        for function in (claims, reads, reads_range):
            assert (await interrupted(store, function, announces))[0] == 2
            assert (await interrupted(store, function, announces_elsewhere))[0] == 1

        async def only_claims(tx: Transaction) -> None:
            tx.add_read_conflict_range(b"a", b"c")

        assert (await interrupted(store, only_claims, setting(b"b", b"2")))[0] == 1

    run(new_store, body)


def test_retries_run_out(new_store: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory", "embedded", "foundationdb"):
        monkeypatch.setattr(f"craqen.core.kv.{module}.KV_RETRIES_MAX", 3)

    async def body(store: KeyValueStore) -> None:
        runs = 0

        async def unlucky(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            await tx.get(b"a")
            await put(store, (b"a", b"%d" % runs))
            tx.set(b"b", b"")

        with pytest.raises(ConflictError):
            await store.transact(unlucky)
        assert runs == 4
        assert await fetch(store, b"b") is None

    assert KV_RETRIES_MAX == 100
    run(new_store, body)


def test_versionstamps_are_unique_and_ordered(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        def append(number: int) -> Callable[[Transaction], Awaitable[None]]:
            async def function(tx: Transaction) -> None:
                tx.set_versionstamped_key(b"log/", b"/%03d" % number, b"%d" % number)
                tx.set_versionstamped_value(b"last", b"<", b">")

            return function

        for number in range(5):
            await store.transact(append(number))
        found = await rows(store, b"log/", b"log0")
        assert [value for _, value in found] == [b"%d" % number for number in range(5)]
        assert [len(key) for key, _ in found] == [18] * 5
        last = await fetch(store, b"last")
        assert last == b"<" + found[-1][0][4:14] + b">"

        await asyncio.gather(*(store.transact(append(number)) for number in range(5, 105)))
        found = await rows(store, b"log/", b"log0")
        assert len({key[4:14] for key, _ in found}) == 105
        assert {value for _, value in found[5:]} == {b"%d" % number for number in range(5, 105)}

    run(new_store, body)


def test_versionstamped_writes_cannot_be_read_before_the_commit(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def function(tx: Transaction) -> None:
            tx.set_versionstamped_key(b"log/", b"", b"entry")
            tx.set_versionstamped_value(b"value", b"")
            with pytest.raises(InvalidArgumentError):
                await tx.get(b"value")
            with pytest.raises(InvalidArgumentError):
                await tx.get_range(b"log/", b"log0")
            assert await tx.get_range(b"m", b"n") == []
            tx.set(b"value", b"plain")
            assert await tx.get(b"value") == b"plain"
            tx.clear_range(b"log/", b"log0")

        await store.transact(function)
        assert await rows(store) == [(b"value", b"plain")]

    run(new_store, body)


def test_watches(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        await put(store, (b"a", b"1"))

        async def watches(tx: Transaction) -> tuple[asyncio.Future[None], asyncio.Future[None]]:
            return tx.watch(b"a"), tx.watch(b"absent")

        changed, created = await store.transact(watches)
        await put(store, (b"other", b"1"))
        assert not changed.done()
        await put(store, (b"a", b"2"))
        await asyncio.wait_for(changed, 10)
        assert not created.done()
        await put(store, (b"absent", b""))
        await asyncio.wait_for(created, 10)

        async def watches_what_it_wrote(tx: Transaction) -> asyncio.Future[None]:
            tx.set(b"a", b"3")
            return tx.watch(b"a")

        future = await store.transact(watches_what_it_wrote)
        await put(store, (b"a", b"4"))
        await asyncio.wait_for(future, 10)

    run(new_store, body)


def test_a_change_before_the_watch_is_armed_is_not_missed(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def function(tx: Transaction) -> asyncio.Future[None]:
            future = tx.watch(b"a")
            await put(store, (b"a", b"changed meanwhile"))
            return future

        await asyncio.wait_for(await store.transact(function), 10)

    run(new_store, body)


def test_watches_of_failed_transactions_and_closed_stores_are_cancelled(
    new_store: StoreFactory,
) -> None:
    async def body(store: KeyValueStore) -> None:
        futures: list[asyncio.Future[None]] = []

        async def fails(tx: Transaction) -> None:
            futures.append(tx.watch(b"a"))
            raise ValueError

        async def watches(tx: Transaction) -> None:
            futures.append(tx.watch(b"a"))

        with pytest.raises(ValueError):
            await store.transact(fails)
        assert futures[0].cancelled()
        await store.transact(watches)
        await store.transact(watches)
        futures[1].cancel()
        await store.close()
        assert futures[2].cancelled()

    run(new_store, body)


def test_limits(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        long_key, long_value = b"k" * 9_900, b"v" * KV_VALUE_BYTES_MAX
        await put(store, (long_key, long_value))
        assert await fetch(store, long_key) == long_value

        async def refuses(tx: Transaction) -> None:
            with pytest.raises(LimitExceededError):
                tx.set(b"k" * (KV_KEY_BYTES_MAX + 1), b"")
            with pytest.raises(LimitExceededError):
                tx.set(b"k", b"v" * (KV_VALUE_BYTES_MAX + 1))
            with pytest.raises(LimitExceededError):
                await tx.get(b"k" * (KV_KEY_BYTES_MAX + 1))
            with pytest.raises(LimitExceededError):
                tx.set_versionstamped_key(b"k" * (KV_KEY_BYTES_MAX - 9), b"", b"")
            with pytest.raises(LimitExceededError):
                tx.set_versionstamped_value(b"k", b"v" * (KV_VALUE_BYTES_MAX - 9))
            for key in (b"\xff", b"\xff\xff", b"\xffn"):
                with pytest.raises(InvalidArgumentError):
                    tx.set(key, b"")
                with pytest.raises(InvalidArgumentError):
                    tx.clear(key)
                with pytest.raises(InvalidArgumentError):
                    tx.add(key, 1)
                with pytest.raises(InvalidArgumentError):
                    await tx.get(key)
            with pytest.raises(InvalidArgumentError):
                await tx.get_range(b"", b"\xff\x00")
            with pytest.raises(InvalidArgumentError):
                tx.clear_range(b"", b"\xff\x00")

        await store.transact(refuses)

        async def too_much(tx: Transaction) -> None:
            for number in range(KV_TRANSACTION_BYTES_MAX // KV_VALUE_BYTES_MAX + 1):
                tx.set(b"big%d" % number, long_value)

        with pytest.raises(LimitExceededError):
            await store.transact(too_much)
        assert await rows(store) == [(long_key, long_value)]

    run(new_store, body)


def test_long_keys_keep_their_order(new_store: StoreFactory) -> None:
    stems = [b"a" * 509, b"a" * 510, b"a" * 511, b"a" * 512, b"a" * 1010, b"a" * 1011, b"a" * 5000]
    tails = [b"", b"\x00", b"\x00\x00", b"a", b"b", b"\xfe", b"a" * 600]
    keys = sorted(
        {stem + tail for stem in stems for tail in tails} | {b"", b"a", b"b", b"a" * 9900}
    )

    async def body(store: KeyValueStore) -> None:
        await put(store, *((key, b"%d" % position) for position, key in enumerate(keys[::2])))
        await put(store, *((key, b"%d" % position) for position, key in enumerate(keys[1::2])))
        everything = await rows(store)
        assert [key for key, _ in everything] == keys
        for position, key in enumerate(keys):
            assert await fetch(store, key) == b"%d" % (position // 2)

        async def check(tx: ReadTransaction) -> None:
            for low in range(0, len(keys), 3):
                for high in range(low, len(keys), 4):
                    expected = everything[low:high]
                    begin, end = keys[low], keys[high]
                    assert await tx.get_range(begin, end) == expected
                    assert await tx.get_range(begin, end, reverse=True) == expected[::-1]
                    assert await tx.get_range(begin, end, limit=2) == expected[:2]
                    found = await tx.get_range(begin, end, limit=2, reverse=True)
                    assert found == expected[::-1][:2]

        await store.read(check)

        async def removes(tx: Transaction) -> None:
            tx.clear_range(keys[5], keys[-5])
            tx.clear(keys[2])

        await store.transact(removes)
        left = [key for key, _ in await rows(store)]
        assert left == [*keys[:2], *keys[3:5], *keys[-5:]]

        async def removes_one_by_one(tx: Transaction) -> None:
            for key in left:
                tx.clear(key)

        await store.transact(removes_one_by_one)
        assert await rows(store) == []

    run(new_store, body)


def test_long_keys_conflict_like_others(new_store: StoreFactory) -> None:
    key = b"k" * 3000

    async def body(store: KeyValueStore) -> None:
        async def function(tx: Transaction) -> None:
            await tx.get(key)
            tx.set(b"x", b"")

        async def scans(tx: Transaction) -> None:
            await tx.get_range(key[:700], key + b"z")
            tx.set(b"x", b"")

        assert (await interrupted(store, function, setting(key, b"1")))[0] == 2
        assert (await interrupted(store, function, setting(key + b"y", b"1")))[0] == 1
        assert (await interrupted(store, scans, setting(key + b"a", b"1")))[0] == 2
        assert (await interrupted(store, scans, setting(key[:699], b"1")))[0] == 1

    run(new_store, body)


def test_many_concurrent_transactions(new_store: StoreFactory) -> None:
    async def body(store: KeyValueStore) -> None:
        async def increments(tx: Transaction) -> None:
            number = counter(await tx.get(b"shared"))
            await asyncio.sleep(0)
            tx.set(b"shared", (number + 1).to_bytes(8, "little"))
            tx.add(b"total", 1)

        async def adds(tx: Transaction) -> None:
            tx.add(b"total", 1)

        work = [store.transact(increments) for _ in range(30)]
        work += [store.transact(adds) for _ in range(200)]
        await asyncio.gather(*work)
        assert counter(await fetch(store, b"shared")) == 30
        assert counter(await fetch(store, b"total")) == 230

    run(new_store, body)


def test_closing(new_store: StoreFactory) -> None:
    async def main() -> None:
        store = new_store()
        pending = [asyncio.ensure_future(put(store, (b"%d" % n, b""))) for n in range(10)]
        await asyncio.gather(*pending)
        await store.close()
        await store.close()
        with pytest.raises(UnavailableError):
            await fetch(store, b"a")
        with pytest.raises(UnavailableError):
            await put(store, (b"a", b""))

    asyncio.run(main())
