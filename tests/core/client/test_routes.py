"""Which replica is read from."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from craqen.core.client.connections import NodeConnection, NodeConnections
from craqen.core.client.routes import Routes
from craqen.core.cluster.records import (
    ChainRecord,
    ChainTarget,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.cluster.routing import FixedRouting
from craqen.core.errors import UnavailableError

HERE, THERE = "this host", "another"


class Connections(NodeConnections):
    """Connections to nodes that are up; *down* ones cannot be reached."""

    def __init__(self) -> None:
        super().__init__(client_id=1, cluster_id="", host=HERE, secret=lambda: None)
        self.down: set[int] = set()

    def ready(self, node_id: int) -> NodeConnection | None:
        return None

    async def get(self, node: NodeRecord) -> NodeConnection:
        if node.node_id in self.down:
            raise UnavailableError(f"node {node.node_id} is down")
        return node  # type: ignore[return-value]


def scene(*hosts: str) -> tuple[Routes, Connections, ChainRecord]:
    numbers = range(1, len(hosts) + 1)
    nodes = tuple(NodeRecord(one, (), hosts[one - 1]) for one in numbers)
    chain = ChainRecord(1, 1, tuple(ChainTarget(one, PublicState.SERVING) for one in numbers))
    targets = tuple(TargetRecord(one, one, f"/disk/target-{one}") for one in numbers)
    connections = Connections()
    routing = FixedRouting(RoutingTable(1, "", nodes, targets, (chain,)))
    return Routes(routing, connections), connections, chain


def asked(routes: Routes, chain: ChainRecord, chunk: int, attempt: int = 0) -> int:
    found = asyncio.run(routes.reading_connection(chain, chunk, attempt))
    return found.node_id  # type: ignore[attr-defined, no-any-return]


def test_chunks_spread_over_the_replicas_and_stay_where_they_are() -> None:
    routes, _, chain = scene(THERE, THERE, THERE)
    for step in (1, 3, 12):
        chunks = range(0, 300 * step, step)
        first = [asked(routes, chain, chunk) for chunk in chunks]
        assert first == [asked(routes, chain, chunk) for chunk in chunks]
        counts = Counter(first)
        assert all(80 <= counts[node] <= 120 for node in (1, 2, 3)), counts


def test_later_attempts_ask_every_replica() -> None:
    routes, connections, chain = scene(THERE, THERE, THERE)
    assert {asked(routes, chain, 5, attempt) for attempt in range(3)} == {1, 2, 3}
    connections.down = {1, 3}
    assert {asked(routes, chain, chunk) for chunk in range(6)} == {2}
    connections.down = {1, 2, 3}
    with pytest.raises(UnavailableError, match="is down"):
        asked(routes, chain, 0)


def test_replicas_on_this_host_come_first() -> None:
    routes, connections, chain = scene(THERE, HERE, THERE, HERE)
    counts = Counter(asked(routes, chain, chunk) for chunk in range(200))
    assert counts.keys() == {2, 4}
    assert min(counts.values()) > 70
    connections.down = {2, 4}
    assert {asked(routes, chain, chunk) for chunk in range(40)} == {1, 3}
