"""The manager's benchmark does the work that it says."""

from __future__ import annotations

from craqen.core.bench.manager import NODES, TARGETS_PER_NODE, Cluster
from craqen.core.cluster.records import PublicState
from craqen.core.cluster.table_check import check_table


def states(cluster: Cluster) -> list[PublicState]:
    return [target.state for chain in cluster.table.chains for target in chain.targets]


def test_quiet_cluster_changes_nothing() -> None:
    cluster = Cluster(2)
    check_table(cluster.table)
    assert cluster.run() == 2 * NODES
    assert cluster.changes == 0


def test_lost_nodes_die_and_return() -> None:
    cluster = Cluster(8)
    assert cluster.run(1) == 8 * NODES - (1 + 2 + 3 + 4 + 5 + 5 + 5 + 5)
    found = states(cluster)
    assert found.count(PublicState.OFFLINE) + found.count(PublicState.SYNCING) >= TARGETS_PER_NODE
    assert PublicState.LAST_SERVER not in found
    check_table(cluster.table)


def test_nodes_lost_together_are_one_change() -> None:
    cluster = Cluster(5)
    cluster.lose(NODES // 4)
    assert cluster.changes == 1
    assert states(cluster).count(PublicState.LAST_SERVER) > 0
