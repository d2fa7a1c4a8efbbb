"""Pure: what changed between two versions of the routing table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import ConflictError
from .records import (
    ChainRecord,
    ChainTable,
    NodeRecord,
    Record,
    RoutingTable,
    TargetRecord,
)

T = TypeVar("T")


class RoutingDelta(Record, frozen=True):
    """From one version of the table to a later one. ``from_version`` 0: the whole table."""

    from_version: int
    to_version: int
    cluster_id: str
    nodes: tuple[NodeRecord, ...] = ()
    targets: tuple[TargetRecord, ...] = ()
    chains: tuple[ChainRecord, ...] = ()
    tables: tuple[ChainTable, ...] = ()
    removed_nodes: tuple[int, ...] = ()
    removed_targets: tuple[int, ...] = ()
    removed_chains: tuple[int, ...] = ()
    removed_tables: tuple[int, ...] = ()


def delta_between(old: RoutingTable, new: RoutingTable) -> RoutingDelta:
    """What makes *new* of *old*."""
    nodes, gone_nodes = _changes(old.nodes, new.nodes, _node_id)
    targets, gone_targets = _changes(old.targets, new.targets, _target_id)
    chains, gone_chains = _changes(old.chains, new.chains, _chain_id)
    tables, gone_tables = _changes(old.tables, new.tables, _table_id)
    return RoutingDelta(
        old.version,
        new.version,
        new.cluster_id,
        nodes,
        targets,
        chains,
        tables,
        gone_nodes,
        gone_targets,
        gone_chains,
        gone_tables,
    )


def whole_table(table: RoutingTable) -> RoutingDelta:
    """*table* for somebody who knows nothing yet."""
    return RoutingDelta(
        0, table.version, table.cluster_id, table.nodes, table.targets, table.chains, table.tables
    )


def apply_delta(table: RoutingTable, delta: RoutingDelta) -> RoutingTable:
    """The table after *delta*; *table* itself if it is that new already.

    Raises ConflictError if *delta* begins at another version: ask for the whole table.
    """
    if delta.to_version <= table.version:
        return table
    if not delta.from_version:
        return RoutingTable(
            delta.to_version,
            delta.cluster_id,
            delta.nodes,
            delta.targets,
            delta.chains,
            delta.tables,
        )
    if delta.from_version != table.version:
        raise ConflictError(
            f"a routing delta from version {delta.from_version} does not fit version "
            f"{table.version}"
        )
    return RoutingTable(
        delta.to_version,
        delta.cluster_id,
        _merged(table.nodes, delta.nodes, delta.removed_nodes, _node_id),
        _merged(table.targets, delta.targets, delta.removed_targets, _target_id),
        _merged(table.chains, delta.chains, delta.removed_chains, _chain_id),
        _merged(table.tables, delta.tables, delta.removed_tables, _table_id),
    )


def _node_id(record: NodeRecord) -> int:
    return record.node_id


def _target_id(record: TargetRecord) -> int:
    return record.target_id


def _chain_id(record: ChainRecord) -> int:
    return record.chain_id


def _table_id(record: ChainTable) -> int:
    return record.table_id


def _changes(
    old: Iterable[T], new: Iterable[T], key: Callable[[T], int]
) -> tuple[tuple[T, ...], tuple[int, ...]]:
    """(records that are new or differ, ids that are gone)."""
    before = {key(one): one for one in old}
    changed = []
    for one in new:
        known = before.pop(key(one), None)
        if known is not one and known != one:
            changed.append(one)
    return tuple(changed), tuple(before)


def _merged(
    records: tuple[T, ...],
    changed: tuple[T, ...],
    removed: tuple[int, ...],
    key: Callable[[T], int],
) -> tuple[T, ...]:
    if not changed and not removed:
        return records
    merged = {key(one): one for one in records}
    for number in removed:
        merged.pop(number, None)
    for one in changed:
        merged[key(one)] = one
    return tuple(merged[number] for number in sorted(merged))
