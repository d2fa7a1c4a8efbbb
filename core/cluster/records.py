"""What every process knows of the cluster: nodes, targets, chains, tables. Kept in the KV,
versioned."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class PublicState(IntEnum):
    """A target's state in its chain, as the table tells everybody."""

    SERVING = 1
    SYNCING = 2
    WAITING = 3
    LAST_SERVER = 4
    OFFLINE = 5


class LocalState(IntEnum):
    """A target's state as its own node reports it by heartbeat."""

    UP_TO_DATE = 1
    ONLINE = 2
    OFFLINE = 3


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of the stored records."""


class NodeRecord(Record, frozen=True):
    """A storage node (one process) and where it listens."""

    node_id: int
    addresses: tuple[str, ...]
    """In the order of preference: ``unix://…`` first for those on ``host``, then tcp."""
    host: str
    """Name of the machine's boot (boot id): equal means that unix sockets and descriptors can be
    shared."""


class TargetRecord(Record, frozen=True):
    """A target and the node that has its disk."""

    target_id: int
    node_id: int
    folder: str


class ChainTarget(Record, frozen=True):
    target_id: int
    state: PublicState


class ChainRecord(Record, frozen=True):
    """One chain: targets in order, head first; serving ones before all others."""

    chain_id: int
    version: int
    targets: tuple[ChainTarget, ...]


class ChainTable(Record, frozen=True):
    table_id: int
    version: int
    chain_ids: tuple[int, ...]


class RoutingTable(Record, frozen=True):
    """Everything a client needs to find chunks. ``version`` rises with every change."""

    version: int
    cluster_id: str
    nodes: tuple[NodeRecord, ...] = ()
    targets: tuple[TargetRecord, ...] = ()
    chains: tuple[ChainRecord, ...] = ()
    tables: tuple[ChainTable, ...] = ()
