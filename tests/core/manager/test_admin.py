"""Operators' commands, against a primary that holds a table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from craqen.core.cluster.messages import HeartbeatRequest, TargetReport
from craqen.core.cluster.records import (
    ChainRecord,
    LocalState,
    PublicState,
    RoutingTable,
)
from craqen.core.cluster.store import change_table
from craqen.core.errors import ConflictError
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction
from craqen.core.manager.admin import answer
from craqen.core.manager.primary import Primary, begin
from craqen.core.manager.rebalancing import rebalance_tick

CLUSTER = "test"
LEASE_SECONDS = 5.0


class Leader:
    """Always holds the lease."""

    epoch = 7

    async def fence(self, tx: Transaction) -> None:
        """Lets every write pass."""

    def holds(self) -> bool:
        """It does."""
        return True


class World:
    """A primary, its clock, and nodes that answer as they are told to."""

    def __init__(self, kv: MemoryStore) -> None:
        self.kv = kv
        self.seconds = 100.0
        self.number = 0
        self.down: set[int] = set()
        self.more: dict[int, dict[str, Any]] = {}
        """Of target reports."""
        self.primary: Primary

    async def begin(self) -> None:
        """A new primary, from what is stored."""
        self.primary = await begin(self.kv, Leader(), LEASE_SECONDS)  # type: ignore[arg-type]
        self.primary.now = lambda: self.seconds
        self.primary.membership = type(self.primary.membership)(
            self.primary.table, LEASE_SECONDS, self.seconds
        )

    async def ask(self, command: str, **arguments: object) -> Any:
        return await answer(self.primary, command, arguments)

    async def join(self, *node_ids: int, disks: int = 2) -> None:
        """Nodes knock, and are added."""
        for node_id in node_ids:
            self.beat(node_id, tuple(f"/n{node_id}/d{one}" for one in range(disks)))
        await self.ask("node-add", every_candidate=True)
        await self.settle()

    def beat(self, node_id: int, disks: tuple[str, ...] = ()) -> None:
        """One heartbeat of a node: all its targets are there, and what syncs is done."""
        self.number += 1
        table = self.primary.table
        chain_of = {one.target_id: chain for chain in table.chains for one in chain.targets}
        reports = []
        for target in table.targets:
            if target.node_id != node_id:
                continue
            chain = chain_of[target.target_id]
            syncs = (target.target_id, PublicState.SYNCING) in {
                (one.target_id, one.state) for one in chain.targets
            }
            said: dict[str, Any] = {
                "state": LocalState.UP_TO_DATE if syncs else LocalState.ONLINE,
                "capacity_bytes": 1000,
                "free_bytes": 500,
                **self.more.get(target.target_id, {}),
            }
            reports.append(TargetReport(target.target_id, chain_version=chain.version, **said))
        self.primary.membership.heartbeat(
            HeartbeatRequest(
                CLUSTER,
                node_id,
                node_id,
                self.number,
                table.version,
                addresses=(f"tcp://n{node_id}:1",),
                disks=disks,
                targets=tuple(reports),
            ),
            self.seconds,
        )

    async def pass_time(self, seconds: float = 1.0) -> None:
        """Heartbeats of all nodes that are up, and what follows from them."""
        self.seconds += seconds
        for node in self.primary.table.nodes:
            if node.node_id not in self.down:
                self.beat(node.node_id)
        proposal = self.primary.membership.tick(self.seconds)
        if proposal is not None:
            await self.primary.change(lambda _: proposal)

    async def settle(self) -> None:
        """Until the table stays as it is, also when silent nodes are dead."""
        for _ in range(40):
            version = self.primary.table.version
            for _ in range(12):
                await self.pass_time()
            if self.primary.table.version == version:
                return
        raise AssertionError("the table does not settle")

    async def rebalance(self) -> int:
        """Tick until nothing is wanted; return the least number of serving targets that any chain
        had meanwhile."""
        least = min(serving(chain) for chain in self.primary.table.chains)
        for _ in range(400):
            await rebalance_tick(self.primary)
            await self.pass_time()
            least = min(least, *(serving(chain) for chain in self.primary.table.chains))
            if not (await self.ask("rebalance-status"))["wanted"]:
                return least
        raise AssertionError(await self.ask("rebalance-status"))


def run(scene: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        kv = MemoryStore()
        try:
            await change_table(kv, lambda _: RoutingTable(0, CLUSTER))
            world = World(kv)
            await world.begin()
            await scene(world)
        finally:
            await kv.close()

    asyncio.run(main())


def serving(chain: ChainRecord) -> int:
    return sum(one.state is PublicState.SERVING for one in chain.targets)


def whats(status: dict[str, Any]) -> str:
    return "\n".join(f"{one['what']} -> {one['remedy']}" for one in status["troubles"])


async def three_nodes(world: World) -> None:
    await world.join(1, 2, 3)
    await world.ask("init", replicas=3, targets_per_disk=2)
    await world.settle()


def test_a_first_cluster_of_three_nodes() -> None:
    async def scene(world: World) -> None:
        told = await world.ask("status")
        assert told["level"] == 2
        assert "no chain table" in whats(told)
        await three_nodes(world)
        told = await world.ask("status")
        assert told["level"] == 0, whats(told)
        assert told["epoch"] == 7
        assert told["nodes"] == {"all": 3, "up": 3, "candidates": 0}
        assert told["chains"]["all"] == told["chains"]["whole"] == 4
        assert told["targets"]["serving"] == 12
        with pytest.raises(ConflictError, match="has chain table 1 already"):
            await world.ask("init", replicas=3)

    run(scene)
