"""DRIVER: from a chunk to a connection: which chain, who is its head, who may be read from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..cluster.records import ChainRecord, NodeRecord
from ..cluster.routing import RoutingSource
from ..errors import UnavailableError
from ..meta.records import Layout
from ..wire.messages import BlockPlace, Method, ReserveReply, ReserveRequest
from .connections import NodeConnection, NodeConnections

_MIX = 0x9E37_79B9_7F4A_7C15


class Routes:
    """The present routing table joined with connections."""

    def __init__(self, source: RoutingSource, connections: NodeConnections) -> None:
        self._source = source
        self._connections = connections
        self._own_turn = random.getrandbits(16)

    def chain(self, layout: Layout, index: int) -> ChainRecord:
        """The chain of chunk *index* under *layout*. Raises UnavailableError if the table is
        unknown."""
        return self._source.routing.chain_for(layout.table_id, layout.stripe_seed, index)

    def all_chains(self, layout: Layout) -> Sequence[ChainRecord]:
        """Every chain that a segment of *layout* may have chunks on."""
        return self._source.routing.chains_of_table(layout.table_id)

    def every_chain(self) -> Sequence[ChainRecord]:
        """Every chain there is."""
        return self._source.routing.chains()

    def nodes(self) -> Sequence[NodeRecord]:
        """Every storage node there is."""
        return self._source.routing.nodes()

    async def connection(self, node: NodeRecord) -> NodeConnection:
        """A connection to *node*."""
        return await self._connections.get(node)

    async def head_connection(self, layout: Layout, index: int) -> NodeConnection:
        """A connection to the head of the chunk's chain. Raises UnavailableError."""
        return await self.chain_head(self.chain(layout, index))

    async def chain_head(self, chain: ChainRecord) -> NodeConnection:
        """A connection to the head of *chain*. Raises UnavailableError."""
        node = self._source.routing.head_node(chain)
        return self._connections.ready(node.node_id) or await self._connections.get(node)

    def head_is_gone(self, connection: NodeConnection, layout: Layout, index: int) -> bool:
        """Whether *connection* does not lead to the head of the chunk's chain (any more)."""
        if connection.broken:
            return True
        node = self._source.routing.head_node(self.chain(layout, index))
        return node.node_id != connection.node.node_id

    async def reading_connection(
        self, chain: ChainRecord, chunk_number: int, attempt: int
    ) -> NodeConnection:
        """A connection to a replica that serves reads: one on this host first, others on later
        attempts. Which one is first is another for each client and chunk, so that readers spread
        over the replicas; for the same two it stays the same, so that a host's memory holds each
        chunk once.

        Raises UnavailableError if no replica can be reached.
        """
        nodes = self._source.routing.serving_nodes(chain)
        if not nodes:
            raise UnavailableError(f"chain {chain.chain_id}: no target serves")
        count = len(nodes)
        if count > 1:
            # Mixed well: the numbers of a chain's chunks have a step in common.
            first = (self._own_turn + (chunk_number * _MIX >> 32)) % count
            nodes = [*nodes[first:], *nodes[:first]]
            nodes.sort(key=self._connections.is_remote)
        problem: UnavailableError | None = None
        for step in range(count):
            node = nodes[(attempt + step) % count]
            try:
                return self._connections.ready(node.node_id) or await self._connections.get(node)
            except UnavailableError as error:
                problem = error
        assert problem is not None
        raise problem

    def replica_count(self, chain: ChainRecord) -> int:
        """How many replicas of *chain* serve reads."""
        return len(self._source.routing.serving_nodes(chain))

    async def reserve(
        self, layout: Layout, index: int, size: int
    ) -> tuple[NodeConnection, int, BlockPlace] | None:
        """Reserve a block for the chunk at its head; None if that is on another host.

        Raises NoSpaceError, UnavailableError, StaleChainVersionError.
        """
        connection = await self.head_connection(layout, index)
        if not connection.shares_files:
            return None
        chain = self.chain(layout, index)
        request = ReserveRequest(chain.chain_id, chain.version, (size,))
        reply = await connection.call(Method.RESERVE, request, ReserveReply)
        return connection, reply.reservation_ids[0], reply.places[0]

    async def refresh(self) -> None:
        """Fetch the routing table anew."""
        await self._source.refresh()
