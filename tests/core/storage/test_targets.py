"""Which targets a storage process opens, and what it says of those that it does not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from craqen.core.clock import SystemClock
from craqen.core.cluster.layout import local_table
from craqen.core.cluster.messages import TargetReport
from craqen.core.cluster.moves import add_target
from craqen.core.cluster.records import ChainTarget, LocalState, PublicState, RoutingTable
from craqen.core.cluster.routing import Routing
from craqen.core.cluster.store import EMPTY
from craqen.core.errors import OperatorError
from craqen.core.options import StorageOptions
from craqen.core.storage.node import StorageNode
from craqen.core.storage.peers import Peers
from craqen.core.storage.target import Target
from craqen.core.storage.targets import Targets
from craqen.core.storage.upkeep import Upkeep

Scene = Callable[["Host"], Awaitable[None]]


class Host:
    """Node 1 of a table, without a server."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk1"
        self.disk.mkdir()
        self.table = replace(local_table(EMPTY, "test", [str(self.disk)], 1), version=1)
        self.opened: list[int] = []
        peers = Peers(lambda: Routing(self.table), lambda: None)

        async def nobody(target: Target, chunk_id: object) -> int:
            raise AssertionError("no tail is asked here")

        node = StorageNode(1, "test", 1.0, nobody, lambda: True, lambda: None)
        self.executor = ThreadPoolExecutor(1)
        self.targets = Targets(1, node, self.executor, peers, 1.0)
        self.upkeep = Upkeep(StorageOptions(), self.targets.open, peers, SystemClock())

    def take(self, table: RoutingTable) -> None:
        self.table = table
        self.targets.take(Routing(table), lambda target: self.opened.append(target.target_id))

    def report(self, target_id: int) -> TargetReport:
        (found,) = [one for one in self.targets.reports(self.upkeep) if one.target_id == target_id]
        return found

    async def close(self) -> None:
        await self.targets.close()
        self.executor.shutdown()


def run(folder: Path, scene: Scene) -> None:
    async def main() -> None:
        host = Host(folder)
        try:
            await scene(host)
        finally:
            await host.close()

    asyncio.run(main())


def with_state(table: RoutingTable, state: PublicState) -> RoutingTable:
    (chain,) = table.chains
    changed = replace(chain, version=chain.version + 1, targets=(ChainTarget(1, state),))
    return replace(table, version=table.version + 1, chains=(changed,))


def test_a_new_target_is_made_and_up_to_date_while_it_serves(tmp_path: Path) -> None:
    async def scene(host: Host) -> None:
        host.take(host.table)
        assert host.opened == [1]
        assert host.report(1).state is LocalState.UP_TO_DATE
        assert host.report(1).chain_version == 1
        host.take(with_state(host.table, PublicState.OFFLINE))
        assert host.report(1).state is LocalState.ONLINE
        assert host.report(1).chain_version == 2
        host.take(with_state(host.table, PublicState.SYNCING))
        assert host.report(1).state is LocalState.ONLINE

    run(tmp_path, scene)


def test_a_target_that_was_made_and_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    async def scene(host: Host) -> None:
        made = tuple(replace(one, made=True) for one in host.table.targets)
        host.take(replace(host.table, targets=made))
        assert host.opened == []
        report = host.report(1)
        assert report.state is LocalState.OFFLINE
        assert "mount its disk" in report.error
        assert not list(host.disk.iterdir())
        with pytest.raises(OperatorError, match="mount its disk"):
            host.targets.check()

    run(tmp_path, scene)


def test_a_target_that_the_table_takes_away_is_closed_and_kept(tmp_path: Path) -> None:
    async def scene(host: Host) -> None:
        host.take(host.table)
        host.take(replace(host.table, version=2, targets=(), chains=(), tables=()))
        assert not host.targets.open()
        assert host.targets.reports(host.upkeep) == ()
        await asyncio.gather(*host.targets._closing)
        assert (host.disk / "target-1" / "target.yaml").exists()
        shutil.rmtree(host.disk / "target-1")  # nothing holds it

    run(tmp_path, scene)


def test_two_targets_of_a_chain_while_it_moves_from_disk_to_disk(tmp_path: Path) -> None:
    async def scene(host: Host) -> None:
        host.take(host.table)
        other = tmp_path / "disk2"
        other.mkdir()
        node = replace(host.table.nodes[0], disks=(str(host.disk), str(other)))
        both = replace(host.table, nodes=(node,))
        wider = add_target(both, 1, 1, str(other), same_node=True)
        host.take(replace(wider, version=2))
        assert host.opened == [1, 2]
        assert host.report(1).state is LocalState.UP_TO_DATE
        assert host.report(2).state is LocalState.ONLINE
        (chain,) = wider.chains
        only = replace(
            chain, version=9, targets=tuple(one for one in chain.targets if one.target_id == 2)
        )
        rest = tuple(one for one in wider.targets if one.target_id == 2)
        host.take(replace(wider, version=3, chains=(only,), targets=rest))
        assert [one.target_id for one in host.targets.open()] == [2]

    run(tmp_path, scene)
