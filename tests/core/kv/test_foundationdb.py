"""The FoundationDB backend on a stand-in for its binding: bridging, keys, retries, error mapping.

What the real cluster does is the conformance suite's matter, where a cluster file is given.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from craqen.core.errors import (
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    MissingDependencyError,
    OperatorError,
    TransactionTooOldError,
    UnavailableError,
)
from craqen.core.kv import foundationdb
from craqen.core.kv.foundationdb import FoundationDbStore, load_fdb
from craqen.core.kv.open import open_store
from craqen.core.kv.store import ReadTransaction, Transaction

Body = Callable[[FoundationDbStore], Awaitable[None]]


def _fake() -> ModuleType:
    # tests/ are no packages: the stand-in is loaded from beside this file.
    spec = importlib.util.spec_from_file_location("fake_fdb", Path(__file__).parent / "fake_fdb.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fake_fdb = _fake()


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = fake_fdb.Module()
    monkeypatch.setattr(foundationdb, "load_fdb", lambda: module)
    yield module
    module.database.stop()


def run(body: Body, prefix: bytes = b"P") -> None:
    async def main() -> None:
        store = FoundationDbStore("/cluster", prefix=prefix)
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


async def put(store: FoundationDbStore, key: bytes, value: bytes) -> None:
    async def function(tx: Transaction) -> None:
        tx.set(key, value)

    await store.transact(function)


def test_keys_lie_below_the_prefix(binding: Any) -> None:
    async def body(store: FoundationDbStore) -> None:
        for number in range(8):
            await put(store, b"%d" % number, b"v%d" % number)

        async def reads(tx: ReadTransaction) -> None:
            assert await tx.get(b"3") == b"v3"
            assert await tx.get_many([b"9", b"0"]) == [None, b"v0"]
            pairs = [(b"%d" % number, b"v%d" % number) for number in range(8)]
            assert await tx.get_range(b"", b"\xff") == pairs
            assert await tx.get_range(b"", b"\xff", reverse=True) == pairs[::-1]
            assert await tx.get_range(b"1", b"\xff", limit=5) == pairs[1:6]
            assert await tx.get_range(b"", b"7", limit=4, reverse=True) == pairs[6:2:-1]
            assert await tx.get_range(b"5", b"5") == []

        await store.read(reads)
        await store.transact(reads)
        assert binding.database.data[b"P\x013"] == b"v3"
        assert all(key.startswith((b"P\x01", b"P\x02")) for key in binding.database.data)
        assert binding.opened == ["/cluster"]

    run(body)
    # The marks are gone once the store is closed.
    assert all(key.startswith(b"P\x01") for key in binding.database.data)


def test_writes_of_every_kind(binding: Any) -> None:
    async def body(store: FoundationDbStore) -> None:
        async def function(tx: Transaction) -> None:
            tx.set(b"a", b"1")
            tx.set(b"b", b"1")
            tx.clear(b"a")
            tx.clear_range(b"z", b"a")
            tx.add(b"n", -3)
            tx.add(b"n", 1)
            tx.set_versionstamped_key(b"log/", b"/x", b"entry")
            tx.set_versionstamped_value(b"last", b"<", b">")
            tx.add_write_conflict_range(b"q", b"r")
            assert await tx.get(b"b") == b"1"

        await store.transact(function)
        data = dict(await store.read(lambda tx: tx.get_range(b"", b"\xff")))
        stamp = (1).to_bytes(8, "big") + b"\x00\x00"
        assert data == {
            b"b": b"1",
            b"n": (-2).to_bytes(8, "little", signed=True),
            b"log/" + stamp + b"/x": b"entry",
            b"last": b"<" + stamp + b">",
        }

    run(body)


def test_conflicts_are_retried(binding: Any) -> None:
    async def body(store: FoundationDbStore) -> None:
        runs = 0

        async def function(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            await tx.get(b"a")
            await tx.get(b"quiet", snapshot=True)
            if runs == 1:
                await put(store, b"a", b"2")
            await put(store, b"quiet", b"%d" % runs)
            tx.set(b"b", b"")

        await store.transact(function)
        assert runs == 2

    run(body)


@pytest.mark.parametrize(("outcome", "runs_expected"), [("applied", 1), ("not applied", 2)])
def test_a_commit_of_unknown_result_is_applied_once(
    binding: Any, outcome: str, runs_expected: int
) -> None:
    async def body(store: FoundationDbStore) -> None:
        runs = 0

        async def adds(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            tx.add(b"n", 1)

        await store.transact(adds)
        binding.database.failures["commit"] = [outcome]
        runs = 0
        await store.transact(adds)
        assert runs == runs_expected
        assert await store.read(lambda tx: tx.get(b"n")) == (2).to_bytes(8, "little")

    run(body)


@pytest.mark.parametrize("operation", ["get", "get_range"])
def test_failed_reads_are_retried(binding: Any, operation: str) -> None:
    async def body(store: FoundationDbStore) -> None:
        await put(store, b"a", b"1")

        async def function(tx: ReadTransaction) -> object:
            await tx.get_range(b"", b"\xff")
            return await tx.get(b"a")

        binding.database.failures[operation] = [1007, 1009]
        assert await store.read(function) == b"1"
        binding.database.failures[operation] = [1037]
        assert await store.transact(function) == b"1"

    run(body)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1031, UnavailableError),
        (1036, InvalidArgumentError),
        (2101, LimitExceededError),
        (2004, InvalidArgumentError),
        (2200, OperatorError),
    ],
)
def test_final_errors_are_mapped(binding: Any, code: int, kind: type[Exception]) -> None:
    async def body(store: FoundationDbStore) -> None:
        for call in (store.read, store.transact):
            binding.database.failures["get"] = [code]
            with pytest.raises(kind, match=str(code)):
                await call(lambda tx: tx.get(b"a"))

    run(body)


@pytest.mark.parametrize(("code", "kind"), [(1007, TransactionTooOldError), (1020, ConflictError)])
def test_a_function_sees_mapped_errors(binding: Any, code: int, kind: type[Exception]) -> None:
    async def body(store: FoundationDbStore) -> None:
        async def function(tx: ReadTransaction) -> None:
            with pytest.raises(kind):
                await tx.get(b"a")

        binding.database.failures["get"] = [code]
        await store.read(function)

    run(body)


def test_retries_run_out(binding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foundationdb, "KV_RETRIES_MAX", 2)

    async def body(store: FoundationDbStore) -> None:
        binding.database.failures["commit"] = ["not applied"] * 3
        with pytest.raises(ConflictError):
            await put(store, b"a", b"1")
        binding.database.failures["get"] = [1009] * 3
        with pytest.raises(UnavailableError):
            await store.read(lambda tx: tx.get(b"a"))

    run(body)


def test_watches(binding: Any) -> None:
    async def body(store: FoundationDbStore) -> None:
        async def watches(tx: Transaction) -> asyncio.Future[None]:
            return tx.watch(b"a")

        future = await store.transact(watches)
        assert not future.done()
        await put(store, b"a", b"1")
        await asyncio.wait_for(future, 10)
        second = await store.transact(watches)
        third = await store.transact(watches)
        second.cancel()
        await asyncio.sleep(0)
        await store.close()
        assert third.cancelled()

        async def fails(tx: Transaction) -> None:
            failed.append(tx.watch(b"a"))
            raise ValueError

        failed: list[asyncio.Future[None]] = []
        with pytest.raises(UnavailableError):
            await store.transact(fails)

    run(body)


def test_limits_count_the_prefix(binding: Any) -> None:
    async def body(store: FoundationDbStore) -> None:
        await put(store, b"k" * (10_000 - 101), b"")
        with pytest.raises(LimitExceededError, match="prefix"):
            await put(store, b"k" * (10_000 - 100), b"")

    run(body, prefix=b"p" * 100)


def test_without_the_client_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoLibrary(ModuleType):
        @staticmethod
        def api_version(version: int) -> None:
            raise Exception("Unable to locate the FoundationDB API shared library!")

    class OldLibrary(ModuleType):
        @staticmethod
        def api_version(version: int) -> None:
            raise RuntimeError("the installed library supports a maximum version of 510")

    monkeypatch.setitem(sys.modules, "fdb", NoLibrary("fdb"))
    with pytest.raises(MissingDependencyError, match="foundationdb-clients"):
        open_store("fdb:/etc/foundationdb/fdb.cluster?prefix=x")
    monkeypatch.setitem(sys.modules, "fdb", OldLibrary("fdb"))
    with pytest.raises(OperatorError, match="510"):
        load_fdb()
    monkeypatch.setitem(sys.modules, "fdb", None)
    with pytest.raises(MissingDependencyError, match="craqen\\[fdb\\]"):
        load_fdb()
