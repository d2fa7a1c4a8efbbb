"""Shapes of clusters for the placement tests."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from craqen.core.cluster.records import NodeRecord
from craqen.core.placement.inventory import Disk, Inventory, inventory


def nodes_of(disk_counts: Sequence[int], domains: Sequence[str] | None = None) -> list[NodeRecord]:
    """One node for every count, in a named domain or each by itself."""
    return [
        NodeRecord(
            number,
            (),
            "",
            domain=domains[number - 1] if domains else "",
            disks=tuple(f"/disks/{disk}" for disk in range(count)),
        )
        for number, count in enumerate(disk_counts, start=1)
    ]


def uniform(nodes: int, disks: int) -> Inventory:
    """Nodes that are alike."""
    return inventory(nodes_of([disks] * nodes))


@st.composite
def node_lists(draw: st.DrawFn) -> list[NodeRecord]:
    """Up to nine nodes of up to four disks, some sharing racks."""
    counts = draw(st.lists(st.integers(1, 4), min_size=2, max_size=9))
    names = st.sampled_from(["", "", "rack a", "rack b", "rack c", "rack d", "rack e"])
    domains = draw(st.lists(names, min_size=len(counts), max_size=len(counts)))
    return nodes_of(counts, domains)


def assert_rules(shape: Inventory, chains: Sequence[Sequence[Disk]], replicas: int) -> None:
    """Every chain has its replicas, no two in one domain."""
    domain_of = dict(zip(shape.disks, shape.domains, strict=True))
    for chain in chains:
        assert len(chain) == replicas
        assert len({domain_of[disk] for disk in chain}) == replicas
        assert len({disk.node_id for disk in chain}) == replicas
