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


class NodeState(IntEnum):
    """What an operator wants of a node."""

    ACTIVE = 1
    STOPPING = 2
    """A planned shutdown: its targets hand over, and it takes no part until it starts again."""
    DRAINING = 3
    """It gets no new targets; a rebalance moves those that it has elsewhere."""


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
    domain: str = ""
    """Failure domain: what fails together (a machine, a rack). Empty: the node is one by itself."""
    state: NodeState = NodeState.ACTIVE
    disks: tuple[str, ...] = ()
    """Folders that may hold targets."""


class TargetRecord(Record, frozen=True):
    """A target and the node that has its disk."""

    target_id: int
    node_id: int
    folder: str
    """On the node; its parent is the disk."""
    made: bool = False
    """Whether the folder was made. From then on an empty one is a lost or unmounted disk."""


class ChainTarget(Record, frozen=True):
    target_id: int
    state: PublicState


class ChainRecord(Record, frozen=True):
    """One chain: targets in order, head first; serving ones before all others."""

    chain_id: int
    version: int
    targets: tuple[ChainTarget, ...]
    preferred: tuple[int, ...] = ()
    """Target ids in the order that the placement wants, head first. Empty: any order will do."""


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
    last_target_id: int = 0
    """The highest target id that was ever given, if that target may be gone: no id is given twice.
    Only managers need it: deltas do not carry it."""
