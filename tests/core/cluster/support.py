"""Tables and heartbeats in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from craqen.core.cluster.messages import HeartbeatRequest, TargetReport
from craqen.core.cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    LocalState,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)

CLUSTER = "test"


def table_of(*chains: Sequence[tuple[int, PublicState]], nodes: int = 3) -> RoutingTable:
    """Chains 1, 2, …; target n is on node (n - 1) % *nodes* + 1, each on a disk of its own."""
    ids = [target_id for members in chains for target_id, _ in members]
    return RoutingTable(
        1,
        CLUSTER,
        tuple(NodeRecord(number, (f"tcp://n{number}",), "h") for number in range(1, nodes + 1)),
        tuple(
            TargetRecord(one, (one - 1) % nodes + 1, f"/d{one}/target-{one}", True)
            for one in sorted(ids)
        ),
        tuple(
            ChainRecord(
                number,
                1,
                tuple(ChainTarget(*member) for member in members),
                tuple(sorted(target_id for target_id, _ in members)),
            )
            for number, members in enumerate(chains, start=1)
        ),
        (ChainTable(1, 1, tuple(range(1, len(chains) + 1))),),
    )


def shape(table: RoutingTable, chain_id: int = 1) -> list[tuple[int, PublicState]]:
    """(target, state) in the chain's order."""
    chain = next(one for one in table.chains if one.chain_id == chain_id)
    return [(one.target_id, one.state) for one in chain.targets]


def beat(
    node_id: int,
    number: int,
    targets: Mapping[int, LocalState | tuple[LocalState, int]],
    **more: object,
) -> HeartbeatRequest:
    """A heartbeat; a state alone is said under chain version 1."""
    reports = tuple(
        TargetReport(target_id, *said)
        if isinstance(said, tuple)
        else TargetReport(target_id, said, 1)
        for target_id, said in targets.items()
    )
    fields: dict[str, object] = {"cluster_id": CLUSTER, "incarnation": 1, "routing_version": 1}
    fields.update(more)
    return HeartbeatRequest(node_id=node_id, number=number, targets=reports, **fields)  # type: ignore[arg-type]
