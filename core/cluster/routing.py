"""The routing table made quick to ask, and the port by which clients get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import UnavailableError
from .records import ChainRecord, NodeRecord, PublicState, RoutingTable, TargetRecord


class Routing:
    """One version of the table, indexed."""

    def __init__(self, table: RoutingTable) -> None:
        self.table = table
        self._nodes = {node.node_id: node for node in table.nodes}
        self._targets = {target.target_id: target for target in table.targets}
        self._chains = {chain.chain_id: chain for chain in table.chains}
        self._chain_of = {
            target.target_id: chain for chain in table.chains for target in chain.targets
        }
        self._tables = {
            one.table_id: [self._chains[chain_id] for chain_id in one.chain_ids]
            for one in table.tables
        }

    def chain_for(self, table_id: int, stripe_seed: int, index: int) -> ChainRecord:
        """The chain of chunk *index* of a segment. Raises UnavailableError for an unknown table."""
        chains = self.chains_of_table(table_id)
        return chains[(stripe_seed + index) % len(chains)]

    def chains_of_table(self, table_id: int) -> Sequence[ChainRecord]:
        """The table's chains, in its order. Raises UnavailableError."""
        chains = self._tables.get(table_id)
        if not chains:
            raise UnavailableError(f"chain table {table_id} is not known here (yet)")
        return chains

    def chain(self, chain_id: int) -> ChainRecord | None:
        """The chain, if there is one of that id."""
        return self._chains.get(chain_id)

    def chain_of(self, target_id: int) -> ChainRecord | None:
        """The chain that the target is in, if any."""
        return self._chain_of.get(target_id)

    def chains(self) -> Sequence[ChainRecord]:
        """All chains."""
        return self.table.chains

    def nodes(self) -> Sequence[NodeRecord]:
        """All storage nodes."""
        return self.table.nodes

    def target(self, target_id: int) -> TargetRecord | None:
        """The target, if there is one of that id."""
        return self._targets.get(target_id)

    def node_of(self, target_id: int) -> NodeRecord:
        """The node that has the target. Raises UnavailableError."""
        target = self._targets.get(target_id)
        node = None if target is None else self._nodes.get(target.node_id)
        if node is None:
            raise UnavailableError(f"target {target_id}: its node is not known here (yet)")
        return node

    def head_node(self, chain: ChainRecord) -> NodeRecord:
        """The node of the chain's head. Raises UnavailableError if it does not serve."""
        head = chain.targets[0]
        if head.state != PublicState.SERVING:
            raise UnavailableError(f"chain {chain.chain_id}: has no serving head")
        return self.node_of(head.target_id)

    def left_nodes(self) -> frozenset[int]:
        """Nodes whose targets take no part in any chain: lost, or on their way back. Whoever waits
        for one of them waits in vain."""
        taking_part: set[int] = set()
        having: set[int] = set()
        for chain in self.table.chains:
            for target in chain.targets:
                record = self._targets.get(target.target_id)
                if record is not None:
                    having.add(record.node_id)
                    if target.state in (PublicState.SERVING, PublicState.SYNCING):
                        taking_part.add(record.node_id)
        return frozenset(having - taking_part)

    def serving_nodes(self, chain: ChainRecord) -> list[NodeRecord]:
        """Nodes whose replicas answer reads, in chain order, each once."""
        nodes = [
            self.node_of(target.target_id)
            for target in chain.targets
            if target.state == PublicState.SERVING
        ]
        if len(nodes) < 2:
            return nodes
        return list({node.node_id: node for node in nodes}.values())


class RoutingSource(Protocol):
    """Where the present table comes from."""

    @property
    def routing(self) -> Routing:
        """The newest table known here."""
        ...

    async def refresh(self) -> None:
        """Fetch the table anew. Raises UnavailableError."""
        ...


class FixedRouting:
    """A table that changes only by hand: tests, and tools that were given one."""

    def __init__(self, table: RoutingTable) -> None:
        self.routing = Routing(table)

    async def refresh(self) -> None:
        """Nothing is newer."""
