"""Operators' commands, against a primary that holds a table."""

from __future__ import annotations

import asyncio
from collections import Counter
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
from craqen.core.errors import ConfigError, ConflictError, InvalidArgumentError
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


def targets_per_disk(world: World) -> Counter[str]:
    return Counter(one.folder.rpartition("/")[0] for one in world.primary.table.targets)


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


def test_a_node_that_is_added_gets_its_share_and_a_drained_one_can_go() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        world.beat(4, ("/n4/d0", "/n4/d1"))
        assert "craqen admin node add 4" in whats(await world.ask("status"))
        assert (await world.ask("nodes"))[3]["state"] == "waits to be added"
        await world.ask("node-add", node_ids=[4])
        await world.settle()
        version = world.primary.table.version
        planned = await world.ask("rebalance", dry_run=True)
        assert planned["copies"] == planned["least_copies"] > 0
        assert world.primary.table.version == version
        assert (await world.ask("rebalance-status")) == {"wanted": False}
        await world.ask("rebalance")
        assert (await world.ask("rebalance-status"))["copies_left"] == planned["copies"]
        assert await world.rebalance() >= 2, "only putting a chain in order takes one out at a time"
        assert set(targets_per_disk(world).values()) == {1, 2}
        assert len(targets_per_disk(world)) == 8
        assert all(row["in_order"] for row in await world.ask("chains"))
        told = await world.ask("status")
        assert told["level"] == 0, whats(told)

        with pytest.raises(ConflictError, match=r"node 2 still has \d targets"):
            await world.ask("node-remove", node_ids=[2])
        await world.ask("node-drain", node_ids=[2])
        assert "craqen admin rebalance" in whats(await world.ask("status"))
        await world.ask("rebalance")
        await world.rebalance()
        assert "craqen admin node remove 2" in whats(await world.ask("status"))
        await world.ask("node-remove", node_ids=[2])
        assert (await world.ask("status"))["level"] == 0
        assert [row["node"] for row in await world.ask("nodes")] == [1, 3, 4]

    run(scene)


def test_a_new_primary_goes_on_with_a_rebalance() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        await world.join(4)
        await world.ask("config-set", name="rebalance.chains_at_once", value="1")
        await world.ask("rebalance")
        await rebalance_tick(world.primary)
        began = await world.ask("rebalance-status")
        assert began["on_their_way"] == 1
        await world.begin()
        assert (await world.ask("rebalance-status"))["copies_left"] == began["copies_left"]
        await world.settle()
        await world.rebalance()
        assert len(targets_per_disk(world)) == 8
        assert world.primary.settings.for_nodes()[1] == {"cluster.replicas": "3"}

    run(scene)


def test_a_rebalance_is_stopped_and_stuck() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        await world.join(4)
        await world.ask("rebalance")
        world.down = {4}
        await world.settle()
        await world.ask("node-stop", node_ids=[4])
        await rebalance_tick(world.primary)
        told = await world.ask("status")
        assert "rebalance: chain" in whats(told)
        assert "waits for node 4, which is down or stopping" in whats(told)
        await world.ask("node-start", node_ids=[4])
        await world.ask("node-drain", node_ids=[4])
        assert "cannot go on: chain" in whats(await world.ask("status"))
        await rebalance_tick(world.primary)
        assert "stopped" in (await world.ask("rebalance-stop"))["done"]
        assert (await world.ask("rebalance-stop"))["done"] == "no rebalance is under way"
        with pytest.raises(InvalidArgumentError, match="node 1 has no disk /nowhere"):
            await world.ask("rebalance", without=[[1, "/nowhere"]])
        with pytest.raises(ConfigError, match="replicas 5: a chain needs 5 failure domains"):
            await world.ask("rebalance", replicas=5)

    run(scene)


def test_nodes_go_down_as_planned_unless_data_would_be_cut_off() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        await world.ask("node-stop", node_ids=[1])
        world.down = {1}
        told = await world.ask("status")
        assert (told["level"], told["nodes"]["up"]) == (1, 2)
        await world.ask("node-stop", node_ids=[2])
        with pytest.raises(ConflictError, match="without node 3 no target of chains 1, 2, 3 and 4"):
            await world.ask("node-stop", node_ids=[3])
        assert (await world.ask("status"))["level"] == 1
        await world.ask("node-stop", node_ids=[3], accept_unavailable=True)
        told = await world.ask("status")
        assert told["level"] == 2
        assert "until node 3 returns" in whats(told)
        with pytest.raises(ConflictError, match="alone have all acknowledged"):
            await world.ask("chain-rotate-last-server", chain_id=1)
        result = await world.ask("chain-rotate-last-server", chain_id=1, accept_loss=True)
        assert "serves what it has of chain 1" in result["done"]
        world.down = set()
        await world.ask("node-start", node_ids=[1, 2, 3])
        await world.settle()
        assert (await world.ask("status"))["level"] == 0
        chains = await world.ask("chains")
        assert not all(row["in_order"] for row in chains)
        for row in chains:
            for _ in range(3):
                result = await world.ask("chain-rotate", chain_id=row["chain"])
                await world.settle()
                if result["in_order"]:
                    break
        assert all(row["in_order"] for row in await world.ask("chains"))

    run(scene)


def test_targets_are_replaced_added_and_removed() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        await world.join(4)
        victim = next(one for one in await world.ask("targets") if one["node"] == 3)
        number = victim["target"]
        with pytest.raises(ConflictError, match="is serving in chain"):
            await world.ask("target-replace", target_id=number)
        world.more[number] = {"state": LocalState.OFFLINE, "error": "write failed: I/O error"}
        await world.settle()
        assert f"craqen admin target replace {number}" in whats(await world.ask("status"))
        result = await world.ask("target-replace", target_id=number)
        await world.settle()
        assert (await world.ask("status"))["level"] == 0
        replaced = {one["target"]: one for one in await world.ask("targets")}
        assert number not in replaced
        assert replaced[result["target_id"]]["disk"] == victim["disk"]

        added = await world.ask("target-add", chain_id=victim["chain"], node_id=4, disk="/n4/d1")
        await world.settle()
        await world.ask("target-remove", target_id=added["target_id"])
        with pytest.raises(ConflictError, match="where 3 should"):
            await world.ask("target-remove", target_id=result["target_id"])
        await world.ask("target-remove", target_id=result["target_id"], forced=True)
        told = await world.ask("status")
        assert "2 of 3 serving targets" in whats(told)
        await world.ask("rebalance")
        await world.rebalance()
        assert (await world.ask("status"))["level"] == 0

    run(scene)


def test_a_table_is_shown_changed_and_uploaded() -> None:
    async def scene(world: World) -> None:
        await three_nodes(world)
        shown = await world.ask("table-show")
        version = shown["version"]
        assert (await world.ask("table-upload", table=shown))["version"] == version
        shown["chains"][0]["preferred"].reverse()
        assert (await world.ask("table-upload", table=shown))["version"] == version + 1
        with pytest.raises(ConflictError, match=f"made from version {version}"):
            await world.ask("table-upload", table=shown)
        assert not (await world.ask("chains"))[0]["in_order"]

        changes: list[tuple[Callable[[Any], object], str]] = [
            (lambda one: one["chains"].pop(), "names chain 4, which is not in the table"),
            (lambda one: one.update(colour="red"), "the table: unknown field 'colour'"),
            (lambda one: one["targets"][0].pop("folder"), r"targets\[0\]: folder is missing"),
            (lambda one: one["nodes"][1].update(state="odd"), r"nodes\[1\].state: 'odd' is none"),
            (
                lambda one: one["nodes"][1].update(node_id="x"),
                r"nodes\[1\].node_id: Expected `int`",
            ),
            (
                lambda one: one["chains"][0].update(targets=3),
                r"chains\[0\].targets: expected a list",
            ),
        ]
        for change, message in changes:
            changed = await world.ask("table-show")
            change(changed)
            with pytest.raises(InvalidArgumentError, match=message):
                await world.ask("table-upload", table=changed)
        assert world.primary.table.version == version + 1

    run(scene)


def test_options_change_with_a_history() -> None:
    async def scene(world: World) -> None:
        name = "storage.scrub_mebibytes_per_second"
        await world.ask("config-set", name=name, value="40", author="ann")
        await world.ask("config-set", name=name, value=None, author="bob")
        history = await world.ask("config-history")
        assert [(one["author"], one["before"], one["value"]) for one in history] == [
            ("bob", "40.0", None),
            ("ann", None, "40.0"),
        ]
        options = {one["name"]: one["value"] for one in (await world.ask("config-get"))["options"]}
        assert options[name] is None
        for option, value, message in (
            ("storage.disks", "[]", "cannot be changed while running; these can: cluster.replicas"),
            ("storage.disks", None, "cannot be changed while running"),
            (name, "fast", "expected a number from 0 to 1e.06, found 'fast'"),
            (name, "-1", "expected a number from 0"),
            (name, "nan", "expected a number from 0"),
            ("cluster.replicas", "2.5", "expected a whole number from 1 to 16"),
        ):
            with pytest.raises(InvalidArgumentError, match=message):
                await world.ask("config-set", name=option, value=value)

    run(scene)


def test_what_is_not_understood_is_refused() -> None:
    async def scene(world: World) -> None:
        refused: list[tuple[str, dict[str, object], str]] = [
            ("dance", {}, "admin dance: no such command; these are: chain-rotate"),
            ("node-stop", {"node_ids": "1"}, "admin node-stop: Expected `array`"),
            ("node-stop", {"nodes": [1]}, "admin node-stop: Object"),
            ("node-add", {}, "no node waits to be added"),
            ("node-add", {"node_ids": [5]}, "node 5 was not heard of"),
            ("node-drain", {"node_ids": [5]}, "node 5 is not in the table"),
            ("chain-rotate", {"chain_id": 5}, "chain 5 is not in the table"),
        ]
        for command, arguments, message in refused:
            with pytest.raises(InvalidArgumentError, match=message):
                await answer(world.primary, command, arguments)

    run(scene)
