"""What every chunk store promises (core/chunks/store.py)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.chunks.content import plan_replace, plan_write
from craqen.core.chunks.memory import MemoryChunkStore
from craqen.core.chunks.store import (
    Abandon,
    ChunkStore,
    Commit,
    Drop,
    Install,
    Stage,
    StageRemove,
    TokenOutcome,
)
from craqen.core.clock import ManualClock
from craqen.core.errors import DataLossError, InvalidArgumentError
from craqen.core.ids import ChunkId, UpdateToken
from craqen.tests.core.chunks.support import (
    QUARANTINE_SECONDS,
    content,
    install,
    open_store,
    replacement,
    version,
    version_content,
)

A, B = ChunkId(1, 0), ChunkId(1, 1)
Scenario = Callable[[ChunkStore, ManualClock], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["memory", "file"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    async def scene(scenario: Scenario) -> None:
        clock = ManualClock()
        store: ChunkStore
        if request.param == "memory":
            store = MemoryChunkStore(clock, quarantine_seconds=QUARANTINE_SECONDS)
        else:
            store = open_store(tmp_path / "target", clock)
        try:
            await scenario(store, clock)
        finally:
            await store.close()

    return lambda scenario: asyncio.run(scene(scenario))


def test_stage_commit_read_remove(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        data = random.Random(1).randbytes(200_000)
        staged = replacement(store, data, 1)
        await store.apply([Stage(A, staged)])
        record = store.get(A)
        assert record is not None
        assert (record.committed, record.pending) == (None, staged)
        assert store.outcome(9, 1) is None
        await store.apply([Commit(A, 1, 5)])
        assert content(store, A) == data
        record = store.get(A)
        assert record is not None
        assert record.committed is not None
        assert (record.committed.chain_version, record.pending) == (5, None)
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert (outcome.version, outcome.length_bytes) == (1, 200_000)
        await store.apply([StageRemove(A, UpdateToken(9, 1, 2), 1)])
        assert content(store, A) == data
        await store.apply([Commit(A, 2, 1)])
        assert store.get(A) is None
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert (outcome.token.sequence, outcome.version) == (2, 2)
        assert store.space().blocks_used == 0

    run(scenario)


def test_a_commit_twice_changes_nothing(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        await store.apply([Stage(A, replacement(store, b"one", 1))])
        await store.apply([Commit(A, 1, 1)])
        await store.apply([Commit(A, 1, 1)])
        assert content(store, A) == b"one"
        # The commit of version 1, heard again, is not the commit of the removal that is version 2.
        await store.apply([StageRemove(A, UpdateToken(9, 1, 2), 1)])
        await store.apply([Commit(A, 1, 1)])
        record = store.get(A)
        assert record is not None
        assert record.pending_remove == UpdateToken(9, 1, 2)
        await store.apply([Stage(A, replacement(store, b"two", 2, 3))])
        await store.apply([Commit(A, 1, 1)])
        assert content(store, A) == b"one"
        await store.apply([StageRemove(A, UpdateToken(9, 1, 4), 1), Commit(A, 2, 1)])
        await store.apply([Commit(A, 2, 1)])
        assert store.get(A) is None

    run(scenario)


def test_a_commit_of_what_was_never_staged_is_a_fault(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        await install(store, A, b"one")
        block = store.reserve(5)
        taken = plan_replace(store, memoryview(b"two")).write().version(1, 1, UpdateToken(9, 1, 2))
        with pytest.raises(AssertionError, match="never staged"):
            await store.apply([Install(B, taken), Commit(A, 2, 1)])
        assert store.get(B) is None  # all or nothing
        assert store.space().blocks_reserved == 2
        with pytest.raises(AssertionError, match="two chunks"):
            await store.apply([Install(B, taken), Install(ChunkId(1, 2), taken)])
        store.release(block)
        store.release(taken.block)
        with pytest.raises(AssertionError, match="not reserved"):
            await store.apply([Install(B, taken)])
        assert store.space().blocks_reserved == 0

    run(scenario)


def test_staged_and_given_up_in_one_step(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        await store.apply([Stage(A, replacement(store, b"x", 1)), Abandon(A)])
        assert store.get(A) is None
        space = store.space()
        assert (space.blocks_used, space.blocks_reserved, space.chunks) == (0, 0, 0)
        await store.apply([Abandon(B), Drop(B, UpdateToken(9, 1, 3))])
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert (outcome.chunk_id, outcome.version) == (B, 0)

    run(scenario)


def test_freed_blocks_wait_out_their_quarantine(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        old = replacement(store, b"old", 1)
        await store.apply([Install(A, old)])
        await store.apply([Drop(A, None)])
        seen = store.reserve(1)
        store.release_seen(seen)
        clock.advance(QUARANTINE_SECONDS - 1)
        store.tick()
        others = [store.reserve(3) for _ in range(300)]
        assert not {old.block, seen} & set(others)
        clock.advance(2)
        store.tick()
        assert store.space().blocks_quarantined == 0
        for block in others:
            store.release(block)
        again = [store.reserve(3) for _ in range(302)]
        assert {old.block, seen} <= set(again)
        assert len(set(again)) == 302

    run(scenario)


def test_a_released_reservation_is_free_at_once(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        block = store.reserve(3)
        store.release(block)
        assert store.reserve(3) == block

    run(scenario)


def test_versions_share_an_appended_block(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        data = random.Random(2).randbytes(70_000)
        first = replacement(store, data, 1)
        await store.apply([Install(A, first)])
        more = random.Random(3).randbytes(30_000)
        longer = version(plan_write(store, A, first, 80_000, memoryview(more)), 2, 2)
        assert longer.block == first.block
        await store.apply([Stage(A, longer)])
        assert content(store, A) == data
        assert version_content(store, A, longer) == data + bytes(10_000) + more
        await store.apply([Abandon(A)])
        assert content(store, A) == data
        assert store.space().blocks_used == 1
        longer = version(plan_write(store, A, first, 70_000, memoryview(more)), 2, 3)
        await store.apply([Stage(A, longer)])
        await store.apply([Commit(A, 2, 1)])
        assert content(store, A) == data + more
        assert (store.space().blocks_used, store.space().blocks_quarantined) == (1, 0)
        await store.apply([Drop(A, None)])
        assert (store.space().blocks_used, store.space().blocks_quarantined) == (0, 1)

    run(scenario)


def test_scan_in_order_with_changes_on_their_way(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        ids = [ChunkId(segment, index) for segment in (1, 2, 300) for index in range(4)]
        for number, chunk_id in enumerate(random.Random(5).sample(ids, len(ids))):
            await store.apply(
                [Install(chunk_id, replacement(store, b"x", 1))], durable=number % 2 == 0
            )
        await store.apply([Drop(ChunkId(2, 1), None)], durable=False)
        ids.remove(ChunkId(2, 1))
        assert [record.chunk_id for record in store.scan(ChunkId(0, 0), 100)] == ids
        assert [record.chunk_id for record in store.scan(ChunkId(2, 1), 2)] == ids[5:7]
        assert store.scan(ChunkId(300, 4), 2) == []
        assert store.space().chunks == len(ids)

    run(scenario)


def test_sizes(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        for size in (0, -1, (64 << 20) + 1):
            with pytest.raises(InvalidArgumentError):
                store.reserve(size)
        for size, capacity in ((1, 65_536), (65_536, 65_536), (65_537, 131_072), (64 << 20,) * 2):
            block = store.reserve(size)
            assert block.capacity_bytes == capacity
            store.release(block)
        with pytest.raises(DataLossError):
            store.open_file(11 << 16)

    run(scenario)


def test_a_client_forgotten(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        await install(store, A, b"x")
        assert store.outcome(9, 1) is not None
        store.forget_client(9)
        assert store.outcome(9, 1) is None
        await store.apply([])
        assert store.outcome(9, 1) is None
        await store.apply([Install(B, replacement(store, b"x", 1, 5))], durable=False)
        store.forget_client(8)
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert outcome.chunk_id == B

    run(scenario)


def test_changes_are_seen_before_they_are_durable(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        waiting = asyncio.create_task(install(store, A, b"x"))
        await asyncio.sleep(0)
        assert content(store, A) == b"x"
        await waiting
        await store.apply([Drop(A, None)], durable=False)
        assert store.get(A) is None

    run(scenario)


def test_outcomes_of_another_replica_never_replace_newer_ones(run: Run) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        def outcome(client: int, channel: int, sequence: int) -> TokenOutcome:
            token = UpdateToken(client, channel, sequence)
            return TokenOutcome(token, A, sequence, 10 * sequence, sequence)

        await install(store, A, b"x" * 100)  # by client 9, channel 1, sequence 1
        await store.put_outcomes([outcome(9, 1, 5), outcome(9, 2, 1), outcome(3, 7, 2)])
        await store.put_outcomes([outcome(9, 1, 4), outcome(3, 7, 3)])
        kept = [outcome(3, 7, 3), outcome(9, 1, 5), outcome(9, 2, 1)]
        assert store.scan_outcomes((0, 0), 10) == kept
        assert store.scan_outcomes((3, 8), 10) == kept[1:]
        assert store.scan_outcomes((0, 0), 2) == kept[:2]
        # A copy of what an earlier update made is taken, its outcome is not.
        await store.apply([Install(A, replacement(store, b"y" * 50, 2, sequence=3))])
        record = store.get(A)
        assert record is not None
        assert record.committed is not None
        assert record.committed.token == UpdateToken(9, 1, 3)
        assert store.outcome(9, 1) == outcome(9, 1, 5)
        await store.apply([Install(A, replacement(store, b"z", 3, sequence=6))])
        newest = store.outcome(9, 1)
        assert newest is not None
        assert newest.token.sequence == 6
        store.forget_client(9)
        assert store.scan_outcomes((0, 0), 10) == kept[:1]

    run(scenario)
