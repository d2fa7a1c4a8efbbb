"""Pure: what the primary knows of the cluster at one moment, and its nodes, targets, chains and
tables as rows for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import asdict

from ..cluster.membership import SILENT_LEASES
from ..cluster.messages import HeartbeatRequest, TargetReport
from ..cluster.partings import Pair
from ..cluster.records import (
    ChainRecord,
    NodeRecord,
    NodeState,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from ..cluster.table_check import disk_of
from ..placement.rebalance import NextSteps


@dataclass(frozen=True, slots=True)
class Plan:
    """A rebalance that is wanted."""

    next: NextSteps | None
    """None: it cannot go on as it was planned."""
    problem: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The cluster at one moment."""

    table: RoutingTable
    replicas: int
    """Serving targets wanted in every chain."""
    epoch: int
    lease_seconds: float
    wall_seconds: float
    alive: frozenset[int]
    """Nodes that were heard within a lease, and do not end."""
    heard: Mapping[int, tuple[float, HeartbeatRequest]]
    """By node: seconds since its last heartbeat to this manager, and that heartbeat."""
    candidates: Sequence[HeartbeatRequest] = ()
    plan: Plan | None = None
    parted: Sequence[tuple[Pair, float]] = ()
    """Nodes that do not reach each other, with 0; or have only just done so again, with the seconds
    for which that does not count yet."""
    silent_managers: Sequence[str] = ()
    """Managers that did not answer who asks: which, and why."""

    def reports(self) -> dict[int, TargetReport]:
        """What nodes that are alive last said, by target."""
        return {
            report.target_id: report
            for node_id, (_, request) in self.heard.items()
            if node_id in self.alive
            for report in request.targets
        }

    def members(self) -> dict[int, tuple[ChainRecord, PublicState]]:
        """The chain and state of every target that is in a chain."""
        return {
            member.target_id: (chain, member.state)
            for chain in self.table.chains
            for member in chain.targets
        }

    def condition(self, node: NodeRecord) -> str:
        """A node in one word or two."""
        alive = node.node_id in self.alive
        if node.state is NodeState.STOPPING:
            return "shut down"
        if not alive:
            heard = self.heard.get(node.node_id)
            if heard is None:
                return "not heard yet"
            return "ending" if heard[1].stopping and heard[0] < self.lease_seconds else "down"
        if self.heard[node.node_id][0] > SILENT_LEASES * self.lease_seconds:
            return "silent"
        return "draining" if node.state is NodeState.DRAINING else "up"


def wanted_replicas(table: RoutingTable, stored: str | None) -> int:
    """Serving targets wanted in every chain: as was set, else what the longest preferred order
    has."""
    if stored is not None:
        return int(stored)
    return max((len(one.preferred or one.targets) for one in table.chains), default=1)


def serving(chain: ChainRecord) -> int:
    """How many targets of the chain serve."""
    return sum(member.state is PublicState.SERVING for member in chain.targets)


def words(state: PublicState) -> str:
    """A state for people."""
    return state.name.lower().replace("_", " ")


def node_rows(view: Overview) -> list[dict[str, object]]:
    """Nodes of the table, and those that ask to be let in."""
    held = Counter(target.node_id for target in view.table.targets)
    states = _states_by_node(view)
    rows: list[dict[str, object]] = []
    for node in view.table.nodes:
        heard = view.heard.get(node.node_id)
        rows.append(
            {
                "node": node.node_id,
                "state": view.condition(node),
                "heard_seconds_ago": None if heard is None else round(heard[0], 1),
                "targets": held[node.node_id],
                "serving": states[node.node_id, PublicState.SERVING],
                "domain": node.domain,
                "disks": list(node.disks),
                "addresses": list(node.addresses),
                "routing_version": None if heard is None else heard[1].routing_version,
                "refused": None if heard is None else heard[1].refused,
            }
        )
    for one in view.candidates:
        rows.append(
            {
                "node": one.node_id,
                "state": "waits to be added",
                "heard_seconds_ago": None,
                "targets": 0,
                "serving": 0,
                "domain": one.domain,
                "disks": list(one.disks),
                "addresses": list(one.addresses),
                "routing_version": one.routing_version,
                "refused": one.refused,
            }
        )
    return rows


def _states_by_node(view: Overview) -> Counter[tuple[int, PublicState]]:
    node_of = {target.target_id: target.node_id for target in view.table.targets}
    return Counter(
        (node_of[member.target_id], member.state)
        for chain in view.table.chains
        for member in chain.targets
    )


def target_rows(view: Overview) -> list[dict[str, object]]:
    """All targets, with what their nodes say of them."""
    reports, members = view.reports(), view.members()
    filled = resyncs(view)
    return [_target_row(target, members, reports, filled) for target in view.table.targets]


def _target_row(
    target: TargetRecord,
    members: Mapping[int, tuple[ChainRecord, PublicState]],
    reports: Mapping[int, TargetReport],
    filled: Mapping[int, dict[str, object]],
) -> dict[str, object]:
    place = members.get(target.target_id)
    report = reports.get(target.target_id)
    row: dict[str, object] = {
        "target": target.target_id,
        "node": target.node_id,
        "disk": disk_of(target),
        "chain": None if place is None else place[0].chain_id,
        "state": "in no chain" if place is None else words(place[1]),
        "made": target.made,
        "local_state": None if report is None else report.state.name.lower(),
        "error": "" if report is None else report.error,
        "resync": filled.get(target.target_id),
    }
    for name in ("chunks", "used_bytes", "free_bytes", "capacity_bytes", "damaged_chunks",
                 "repaired_chunks", "scrubbed_wall_seconds"):  # fmt: skip
        row[name] = None if report is None else getattr(report, name)
    return row


def resyncs(view: Overview) -> dict[int, dict[str, object]]:
    """By target that is being filled: how far its predecessor has come."""
    return {
        report.resync.target_id: asdict(report.resync)
        for report in view.reports().values()
        if report.resync is not None
    }


def chain_rows(view: Overview) -> list[dict[str, object]]:
    """All chains, head first."""
    node_of = {target.target_id: target.node_id for target in view.table.targets}
    tables: dict[int, list[int]] = {}
    for one in view.table.tables:
        for chain_id in one.chain_ids:
            tables.setdefault(chain_id, []).append(one.table_id)
    return [
        {
            "chain": chain.chain_id,
            "version": chain.version,
            "serving": serving(chain),
            "wanted": view.replicas,
            "targets": [
                {
                    "target": member.target_id,
                    "node": node_of[member.target_id],
                    "state": words(member.state),
                }
                for member in chain.targets
            ],
            "preferred": list(chain.preferred),
            "in_order": not chain.preferred
            or tuple(member.target_id for member in chain.targets) == chain.preferred,
            "tables": tables.get(chain.chain_id, []),
        }
        for chain in view.table.chains
    ]


def table_rows(view: Overview) -> list[dict[str, object]]:
    """All chain tables."""
    chains = {chain.chain_id: chain for chain in view.table.chains}
    return [
        {
            "table": one.table_id,
            "version": one.version,
            "chains": len(one.chain_ids),
            "whole": sum(serving(chains[number]) >= view.replicas for number in one.chain_ids),
            "without_server": sum(not serving(chains[number]) for number in one.chain_ids),
            "chain_ids": list(one.chain_ids),
        }
        for one in view.table.tables
    ]
