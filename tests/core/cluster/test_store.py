"""The routing table in the KV: records, versions, deltas, followers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from craqen.core.cluster.layout import local_table
from craqen.core.cluster.records import (
    ChainRecord,
    ChainTarget,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.cluster.routing import Routing
from craqen.core.cluster.store import (
    DELTAS_KEPT,
    EMPTY,
    HEADER_KEY,
    KvRouting,
    change_table,
    read_table,
    replace_table,
)
from craqen.core.errors import DataLossError
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction

DISKS = ["/one", "/two", "/three"]


def run(scene: Callable[[MemoryStore], Awaitable[None]]) -> None:
    async def main() -> None:
        kv = MemoryStore()
        try:
            async with asyncio.timeout(20):
                await scene(kv)
        finally:
            await kv.close()

    asyncio.run(main())


async def made(kv: MemoryStore) -> RoutingTable:
    return await change_table(kv, lambda table: local_table(table, "cluster", DISKS, 3))


def shuffled(table: RoutingTable, chooser: random.Random) -> RoutingTable:
    """*table* with some change."""
    choice = chooser.randrange(4)
    if choice == 0:
        number = chooser.randrange(len(table.chains))
        chain = table.chains[number]
        states = tuple(
            ChainTarget(one.target_id, chooser.choice(list(PublicState))) for one in chain.targets
        )
        chains = list(table.chains)
        chains[number] = ChainRecord(chain.chain_id, chain.version + 1, states)
        return replace(table, chains=tuple(chains))
    if choice == 1:
        node = NodeRecord(100 + chooser.randrange(5), ("tcp://here:1",), "host")
        others = [one for one in table.nodes if one.node_id != node.node_id]
        return replace(table, nodes=tuple(sorted([*others, node], key=lambda one: one.node_id)))
    if choice == 2 and len(table.nodes) > 3:
        return replace(table, nodes=table.nodes[:-1])
    target = TargetRecord(50 + chooser.randrange(5), 1, "/one/x", chooser.random() < 0.5)
    rest = [one for one in table.targets if one.target_id != target.target_id]
    return replace(table, targets=tuple(sorted([*rest, target], key=lambda one: one.target_id)))


def test_what_is_stored_is_read_and_followed() -> None:
    async def scene(kv: MemoryStore) -> None:
        assert await read_table(kv) == EMPTY
        table = await made(kv)
        assert table.version == 1
        chooser = random.Random(1)
        follower = KvRouting(kv)
        await follower.start()
        for _ in range(60):
            table = await change_table(kv, lambda known: shuffled(known, chooser))
            assert await read_table(kv) == table
            if chooser.random() < 0.5:
                await follower.refresh()
                assert follower.routing.table == replace(table, last_target_id=0)
        await follower.close()

    run(scene)


def test_a_follower_that_is_far_behind_reads_the_whole_table() -> None:
    async def scene(kv: MemoryStore) -> None:
        await made(kv)
        late = KvRouting(kv)
        await late.refresh()
        chooser = random.Random(2)
        for _ in range(DELTAS_KEPT + 10):
            await change_table(kv, lambda known: shuffled(known, chooser))
        await late.refresh()
        assert late.routing.table == await read_table(kv)

    run(scene)


def test_a_follower_hears_of_a_change_without_asking() -> None:
    async def scene(kv: MemoryStore) -> None:
        await made(kv)
        follower = KvRouting(kv)
        heard: asyncio.Queue[Routing] = asyncio.Queue()
        follower.listen(heard.put_nowait)
        await follower.start()
        assert (await heard.get()).table.version == 1
        await change_table(kv, lambda table: replace(table, nodes=table.nodes[:-1]))
        changed = await heard.get()
        assert [node.node_id for node in changed.nodes()] == [1, 2]
        await follower.close()

    run(scene)


def test_nobody_overwrites_what_he_has_not_seen() -> None:
    async def scene(kv: MemoryStore) -> None:
        known = await made(kv)
        newer = await change_table(kv, lambda table: replace(table, nodes=table.nodes[:-1]))
        assert await replace_table(kv, known, replace(known, tables=())) is None
        assert await read_table(kv) == newer

    run(scene)


def test_a_damaged_table_is_told_of() -> None:
    async def scene(kv: MemoryStore) -> None:
        async def damage(tx: Transaction) -> None:
            tx.set(HEADER_KEY, b"\x01nonsense")

        await kv.transact(damage)
        with pytest.raises(DataLossError, match="routing table"):
            await read_table(kv)

    run(scene)


def test_nodes_that_take_no_part_are_known() -> None:
    table = local_table(EMPTY, "cluster", DISKS, 3)
    assert Routing(table).left_nodes() == frozenset()
    chains = tuple(
        replace(
            chain,
            targets=tuple(
                ChainTarget(one.target_id, PublicState.OFFLINE) if index == 0 else one
                for index, one in enumerate(chain.targets)
            ),
        )
        for chain in table.chains[:1]
    )
    only = replace(table, chains=chains, tables=())
    assert Routing(only).left_nodes() == {1}


def test_disks_that_were_added_are_nodes_without_targets() -> None:
    table = replace(local_table(EMPTY, "cluster", DISKS, 2), version=1)
    wider = local_table(table, "cluster", [*DISKS, "/four"], 2)
    assert [node.node_id for node in wider.nodes] == [1, 2, 3, 4]
    assert wider.nodes[-1].disks == ("/four",)
    assert wider.targets == table.targets
