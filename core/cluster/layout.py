"""Pure: the routing table of one host's disks, and how it takes in disks that are added."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import ConfigError
from .records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)

TABLE_ID = 1


def local_table(
    table: RoutingTable, cluster_id: str, disks: Sequence[str], replicas: int
) -> RoutingTable:
    """*table* for the configured disks: one storage node per disk, in their order, from node 1 on.

    A new table gets one chain per disk, which begins there and goes on over the next ``replicas -
    1`` disks. Disks that were added become nodes without targets: a rebalance moves data to them.
    Raises ConfigError if disks are missing or replaced.
    """
    if not table.version:
        return _fresh(cluster_id, disks, replicas)
    known = [node.node_id for node in table.nodes]
    if len(disks) < len(known):
        raise ConfigError(
            f"storage.disks: {len(disks)} named, but this store has data on {len(known)}: "
            f"name all of them, in the order they had"
        )
    folders = {target.node_id: target.folder for target in table.targets}
    for number, disk in enumerate(disks[: len(known)], start=1):
        before = folders.get(number, disk)
        if not before.startswith(f"{disk}/"):
            raise ConfigError(
                f"storage.disks: number {number} is {disk}, but the store's data is in {before}; "
                f"keep the disks in the order they had"
            )
    added = tuple(_node(number, disks) for number in range(len(known) + 1, len(disks) + 1))
    return msgspec.structs.replace(table, nodes=(*table.nodes, *added)) if added else table


def _fresh(cluster_id: str, disks: Sequence[str], replicas: int) -> RoutingTable:
    nodes = tuple(_node(number, disks) for number in range(1, len(disks) + 1))
    targets: list[TargetRecord] = []
    chains: list[ChainRecord] = []
    for chain_number in range(len(disks)):
        members: list[ChainTarget] = []
        for step in range(replicas):
            disk = (chain_number + step) % len(disks)
            target_id = len(targets) + 1
            folder = f"{disks[disk]}/target-{target_id}"
            targets.append(TargetRecord(target_id, disk + 1, folder))
            members.append(ChainTarget(target_id, PublicState.SERVING))
        preferred = tuple(member.target_id for member in members)
        chains.append(ChainRecord(chain_number + 1, 1, tuple(members), preferred))
    chain_table = ChainTable(TABLE_ID, 1, tuple(chain.chain_id for chain in chains))
    return RoutingTable(0, cluster_id, nodes, tuple(targets), tuple(chains), (chain_table,))


def _node(number: int, disks: Sequence[str]) -> NodeRecord:
    return NodeRecord(number, (), "", disks=(disks[number - 1],))
