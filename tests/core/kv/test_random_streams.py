"""Random instruction streams: the embedded backend against the plain model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import KeyValue, KeyValueStore, Transaction

# One instruction: name, arguments. Executed alike on every store.
Instruction = tuple[Any, ...]
Result = Any

_KEYS = [b"", b"\x00", b"a", b"a\x00", b"b", b"c/1", b"c/2", b"\xfe\xff"]
_KEYS += [b"L" * 510, b"L" * 510 + b"\x00", b"L" * 511, b"L" * 1010, b"L" * 1011, b"L" * 1600]
_KEYS += [b"L" * 510 + b"M" * 600, b"L" * 509 + b"M"]

keys = st.sampled_from(_KEYS)
bounds = st.one_of(keys, st.sampled_from([b"\xff", b"L" * 700, b"b\x00", b"L" * 1010 + b"\x00"]))
values = st.binary(max_size=12)
reads = st.one_of(
    st.tuples(st.just("get"), keys, st.booleans()),
    st.tuples(st.just("get_many"), st.lists(keys, max_size=4), st.booleans()),
    st.tuples(
        st.just("get_range"), bounds, bounds, st.integers(0, 5), st.booleans(), st.booleans()
    ),
)
writes = st.one_of(
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("clear"), keys),
    st.tuples(st.just("clear_range"), bounds, bounds),
    st.tuples(st.just("add"), keys, st.integers(-300, 300)),
)
transactions = st.lists(
    st.lists(st.one_of(reads, writes), min_size=1, max_size=10), min_size=1, max_size=6
)


async def execute(tx: Transaction, instruction: Instruction) -> Result:
    """Do one instruction; return what it read."""
    match instruction:
        case ("get", key, snapshot):
            return await tx.get(key, snapshot=snapshot)
        case ("get_many", many, snapshot):
            return await tx.get_many(many, snapshot=snapshot)
        case ("get_range", begin, end, limit, reverse, snapshot):
            return await tx.get_range(begin, end, limit=limit, reverse=reverse, snapshot=snapshot)
        case (name, *arguments):
            getattr(tx, name)(*arguments)
    return None


async def dump(store: KeyValueStore) -> list[KeyValue]:
    """Return everything."""
    return await store.read(lambda tx: tx.get_range(b"", b"\xff"))


class Runner:
    """One event loop and one embedded store for all examples: opening costs more than they do."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self.store = EmbeddedStore(folder, map_bytes=1 << 30)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._runner.run(coroutine)

    async def empty(self) -> None:
        async def clears(tx: Transaction) -> None:
            tx.clear_range(b"", b"\xff")

        await self.store.transact(clears)
        assert await dump(self.store) == []

    def close(self) -> None:
        self._runner.run(self.store.close())
        self._runner.close()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    made = Runner(tmp_path_factory.mktemp("streams"))
    yield made
    made.close()


def _function(
    instructions: list[Instruction], results: list[Result]
) -> Callable[[Transaction], Coroutine[Any, Any, None]]:
    async def function(tx: Transaction) -> None:
        results.clear()
        for instruction in instructions:
            results.append(await execute(tx, instruction))

    return function


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stream=transactions)
def test_one_after_the_other(runner: Runner, stream: list[list[Instruction]]) -> None:
    async def body() -> None:
        await runner.empty()
        model = MemoryStore()
        for instructions in stream:
            expected: list[Result] = []
            found: list[Result] = []
            await model.transact(_function(instructions, expected))
            await runner.store.transact(_function(instructions, found))
            assert found == expected
            assert await dump(runner.store) == await dump(model)

    runner.run(body())


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stream=transactions, pauses=st.lists(st.integers(0, 2), min_size=8, max_size=8))
@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_concurrently_as_if_one_after_the_other(
    runner: Runner, kind: str, stream: list[list[Instruction]], pauses: list[int]
) -> None:
    """Every transaction saw what it would have seen, run alone at its place in the commit order."""

    async def body() -> None:
        await runner.empty()
        store: KeyValueStore = runner.store if kind == "embedded" else MemoryStore()
        seen: dict[int, list[Result]] = {}

        async def one(number: int) -> None:
            async def function(tx: Transaction) -> None:
                results = []
                for position, instruction in enumerate(stream[number]):
                    results.append(await execute(tx, _serializable(instruction)))
                    for _ in range(pauses[(number + position) % len(pauses)]):
                        await asyncio.sleep(0)
                tx.set_versionstamped_key(b"~order/", b"", b"%d" % number)
                seen[number] = results

            await store.transact(function)

        await asyncio.gather(*(one(number) for number in range(len(stream))))

        async def take_order(tx: Transaction) -> list[int]:
            rows = await tx.get_range(b"~order/", b"~order0")
            tx.clear_range(b"~order/", b"~order0")
            return [int(value) for _, value in rows]

        order = await store.transact(take_order)
        model = MemoryStore()
        for number in order:
            expected: list[Result] = []
            instructions = [_serializable(instruction) for instruction in stream[number]]
            await model.transact(_function(instructions, expected))
            assert seen[number] == expected
        assert await dump(store) == await dump(model)

    runner.run(body())


def _serializable(instruction: Instruction) -> Instruction:
    """Return *instruction* within the data, and not as a snapshot read, which may be overtaken."""
    match instruction:
        case ("get" | "get_many" as name, argument, _):
            return name, argument, False
        case ("get_range", begin, end, limit, reverse, _):
            return "get_range", min(begin, b"~"), min(end, b"~"), limit, reverse, False
        case ("clear_range", begin, end):
            return "clear_range", min(begin, b"~"), min(end, b"~")
    return instruction
