"""Pure: between routing tables and placements."""

from __future__ import annotations

from collections.abc import Sequence

from ..cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from .inventory import Disk


def disk_of(target: TargetRecord) -> Disk:
    """The disk of a target: its folder's parent."""
    return Disk(target.node_id, target.folder.rpartition("/")[0])


def present_assignment(table: RoutingTable) -> dict[int, tuple[Disk, ...]]:
    """The disks of every chain, in the preferred order where it names exactly the chain's targets,
    else as they are."""
    disks = {target.target_id: disk_of(target) for target in table.targets}
    result: dict[int, tuple[Disk, ...]] = {}
    for chain in table.chains:
        order = tuple(member.target_id for member in chain.targets)
        if sorted(chain.preferred) == sorted(order):
            order = chain.preferred
        result[chain.chain_id] = tuple(disks[target_id] for target_id in order)
    return result


def new_chains(
    table: RoutingTable, chains: Sequence[Sequence[Disk]]
) -> tuple[tuple[TargetRecord, ...], tuple[ChainRecord, ...], ChainTable]:
    """Records of *chains* as an addition to *table*: new targets, new chains that serve at once
    (they hold nothing yet), and a new chain table of them. All ids are above those in *table*."""
    target_id = max((target.target_id for target in table.targets), default=0)
    chain_id = max((chain.chain_id for chain in table.chains), default=0)
    table_id = max((one.table_id for one in table.tables), default=0) + 1
    targets: list[TargetRecord] = []
    records: list[ChainRecord] = []
    for disks in chains:
        chain_id += 1
        members: list[ChainTarget] = []
        for disk in disks:
            target_id += 1
            folder = f"{disk.folder}/target-{target_id}"
            targets.append(TargetRecord(target_id, disk.node_id, folder))
            members.append(ChainTarget(target_id, PublicState.SERVING))
        preferred = tuple(member.target_id for member in members)
        records.append(ChainRecord(chain_id, 1, tuple(members), preferred))
    chain_ids = tuple(record.chain_id for record in records)
    return tuple(targets), tuple(records), ChainTable(table_id, 1, chain_ids)
