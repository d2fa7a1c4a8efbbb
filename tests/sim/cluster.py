"""A whole simulated store: its settings, its processes, and what they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from craqen.core.cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.ids import ChunkId

from .ghost import Ghost
from .history import History
from .network import CALM, Network, Weather
from .world import Process, World

if TYPE_CHECKING:
    from .clients import SimulatedClient
    from .manager import KeyValues, Move, SimulatedManager
    from .node import SimulatedNode


@dataclass(frozen=True, slots=True)
class Settings:
    """The size of a store and how it is used."""

    replicas: int = 3
    nodes: int = 3
    chains: int = 1
    chunks: int = 3
    managers: int = 1
    clients: int = 2
    actions: int = 14
    """Of each client."""
    lease_seconds: float = 2.0
    skew: float = 0.05
    """How much a clock's rate may differ from 1."""
    action_seconds: float = 8.0
    """How long a client tries."""
    think_seconds: float = 0.4
    flush_seconds: float = 0.004
    disk_seconds: float = 0.003
    """How long it may take to make the bytes of an update."""
    weather: Weather = field(default=CALM)


class Cluster:
    """All parts of a run, and how they find each other."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings
        self.network = Network(world, settings.weather)
        self.ghost = Ghost()
        self.history = History()
        self.nodes: dict[int, SimulatedNode] = {}
        self.managers: list[SimulatedManager] = []
        self.clients: list[SimulatedClient] = []
        self.moves: deque[Move] = deque()
        """What operators want; the next primary manager that looks does it."""
        self.kv: KeyValues
        self.chunk_ids = [ChunkId(1, index) for index in range(settings.chunks)]

    def process(self, name: str) -> Process:
        """A new process with a clock of its own."""
        skew = self.settings.skew
        return Process(self.world, name, 1.0 + self.world.random.uniform(-skew, skew))

    def chain_id_of(self, chunk_id: ChunkId) -> int:
        """Where a chunk lies."""
        return 1 + chunk_id.index % self.settings.chains

    def processes(self) -> Iterator[Process]:
        """All of them, but the key-value store."""
        for node in self.nodes.values():
            yield node.process
        for manager in self.managers:
            yield manager.process
        for client in self.clients:
            yield client.process


def target_id_of(chain_id: int, node_id: int) -> int:
    """The target of a chain on a node."""
    return 100 * chain_id + node_id


def first_table(settings: Settings) -> RoutingTable:
    """Everything serves."""
    nodes = tuple(
        NodeRecord(number, (f"n{number}",), f"host{number}")
        for number in range(1, settings.nodes + 1)
    )
    chains: list[ChainRecord] = []
    targets: list[TargetRecord] = []
    for chain_id in range(1, settings.chains + 1):
        members = []
        for step in range(settings.replicas):
            node_id = 1 + (chain_id - 1 + step) % settings.nodes
            target_id = target_id_of(chain_id, node_id)
            targets.append(TargetRecord(target_id, node_id, f"/disk{node_id}/{target_id}", True))
            members.append(ChainTarget(target_id, PublicState.SERVING))
        preferred = tuple(member.target_id for member in members)
        chains.append(ChainRecord(chain_id, 1, tuple(members), preferred))
    table = ChainTable(1, 1, tuple(chain.chain_id for chain in chains))
    return RoutingTable(1, "sim", nodes, tuple(targets), tuple(chains), (table,))
