"""DRIVER: what the targets of a chain say they hold, page by page."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ..client.connections import NodeConnection, NodeConnections
from ..cluster.records import ChainRecord, PublicState
from ..cluster.routing import RoutingSource
from ..errors import RetryableError, UnavailableError
from ..ids import ChunkId
from ..limits import BATCH_ITEMS_MAX
from ..wire.messages import ChunkSummary, ListChunksReply, ListChunksRequest, Method

RETRY_DELAYS_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)
LAST_CHUNK = ChunkId((1 << 63) - 1, (1 << 32) - 2)

T = TypeVar("T")


class Page(NamedTuple):
    """Chunks from where it was asked on, in order."""

    chunks: Sequence[ChunkSummary]
    more: bool
    damaged: Sequence[ChunkId] = ()
    """Those whose index records are damaged, or whose content is lost."""

    @property
    def last(self) -> ChunkId:
        """The last chunk that the page tells of: those behind it are unknown."""
        return id_of(self.chunks[-1]) if self.more else LAST_CHUNK


def id_of(summary: ChunkSummary) -> ChunkId:
    """The chunk's id."""
    return ChunkId(summary.segment_id, summary.chunk_index)


def name_of(chunk_id: ChunkId) -> str:
    """As people write it, and `craqen admin chunk query` takes it."""
    return f"{chunk_id.segment_id:x}.{chunk_id.index}"


def after(chunk_id: ChunkId) -> ChunkId:
    """The next id. LAST_CHUNK has none."""
    if chunk_id.index < LAST_CHUNK.index:
        return ChunkId(chunk_id.segment_id, chunk_id.index + 1)
    return ChunkId(chunk_id.segment_id + 1, 0)


class Inventories:
    """Asks targets for their inventories."""

    def __init__(self, routing: RoutingSource, connections: NodeConnections) -> None:
        self._routing = routing
        self._connections = connections

    def chain(self, chain_id: int) -> ChainRecord:
        """The chain as it is now. Raises UnavailableError."""
        chain = self._routing.routing.chain(chain_id)
        if chain is None:
            raise UnavailableError(f"chain {chain_id} is not in the routing table any more")
        return chain

    def serving(self, chain: ChainRecord) -> list[int]:
        """Targets of *chain* that hold everything it acknowledged, head first. Raises
        UnavailableError if there are none."""
        found = [one.target_id for one in chain.targets if one.state == PublicState.SERVING]
        if not found:
            raise UnavailableError(f"chain {chain.chain_id}: no target serves")
        return found

    async def connection(self, target_id: int) -> NodeConnection:
        """A connection to the target's node."""
        return await self._connections.get(self._routing.routing.node_of(target_id))

    async def refresh(self) -> None:
        """Fetch the routing table anew."""
        await self._routing.refresh()

    async def page(
        self, target_id: int, chain_id: int, start: ChunkId, limit: int = BATCH_ITEMS_MAX
    ) -> Page:
        """What a target holds from *start* on."""
        connection = await self.connection(target_id)
        request = ListChunksRequest(chain_id, *start, limit, target_id)
        reply = await connection.call(Method.LIST_CHUNKS, request, ListChunksReply)
        return Page(reply.chunks, reply.more, [ChunkId(*one) for one in reply.damaged])

    async def one(self, target_id: int, chain_id: int, chunk_id: ChunkId) -> ChunkSummary | None:
        """What a target says of one chunk; None if it does not hold it."""
        chunks = (await self.page(target_id, chain_id, chunk_id, 1)).chunks
        return chunks[0] if chunks and id_of(chunks[0]) == chunk_id else None

    async def everywhere(
        self, chain_id: int, chunk_id: ChunkId
    ) -> Mapping[int, ChunkSummary | None]:
        """What each serving target of the chain says of a chunk."""
        targets = self.serving(self.chain(chain_id))
        found = await asyncio.gather(*(self.one(one, chain_id, chunk_id) for one in targets))
        return dict(zip(targets, found, strict=True))

    async def retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run *work* again, with a new table, while it fails for a passing reason; the last failure
        is raised."""
        for delay in RETRY_DELAYS_SECONDS:
            try:
                return await work()
            except RetryableError:
                await asyncio.sleep(delay)
                await self.refresh()
        return await work()


class Cursor:
    """Finds chunks on the first serving target of a chain. Asked in order, it reads each page
    once."""

    def __init__(self, inventories: Inventories, chain_id: int) -> None:
        self._inventories = inventories
        self._chain_id = chain_id
        self._start = LAST_CHUNK
        self._last = ChunkId(0, 0)
        self._ids: list[ChunkId] = []
        self._chunks: Sequence[ChunkSummary] = ()

    async def find(self, chunk_id: ChunkId) -> ChunkSummary | None:
        """The chunk; None if it is not there. Raises RetryableError."""
        if not self._start <= chunk_id <= self._last:
            await self._inventories.retried(lambda: self._load(chunk_id))
        place = bisect_left(self._ids, chunk_id)
        if place < len(self._ids) and self._ids[place] == chunk_id:
            return self._chunks[place]
        return None

    async def _load(self, start: ChunkId) -> None:
        chain = self._inventories.chain(self._chain_id)
        target_id = self._inventories.serving(chain)[0]
        page = await self._inventories.page(target_id, self._chain_id, start)
        self._start, self._last = start, page.last
        self._chunks = page.chunks
        self._ids = [id_of(one) for one in page.chunks]
