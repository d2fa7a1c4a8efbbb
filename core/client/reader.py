"""DRIVER: reads chunks: where they lie on this host, else their bytes; verified either way.

Places (descriptor, offset, length, checksums) are kept while their lease runs. Those of dense
segments never change; those of chunks written in place are used again only for the file generation
that they were looked up for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from ..checksum import crc32c
from ..chunks.integrity import BlockContent
from ..clock import Clock
from ..errors import DataLossError, DiskError, RetryableError
from ..ids import ChunkId
from ..limits import KIB
from ..wire.codec import exception_from_status
from ..wire.messages import (
    ChunkRange,
    Located,
    LocateReply,
    LocateRequest,
    Method,
    ReadReply,
    ReadRequest,
)
from .connections import NodeConnection
from .plan import ChunkSpan
from .routes import Routes

PLACES_MAX = (
    65_536  # about 60 MB at 8 MiB chunks with their page checksums would be 512 GiB of data
)
INLINE_READ_BYTES_MAX = 256 * KIB  # above it a thread costs less than holding up the event loop
LEASE_MARGIN = 0.5  # a place is given out only for the first half of its lease
DEADLINE_SECONDS = 30.0
RETRY_DELAY_SECONDS = (0.0, 0.02, 0.1, 0.5, 1.0)


@dataclass(slots=True)
class Place:
    """A chunk version in a local block; ``content`` None: the chunk is absent."""

    content: BlockContent | None
    expires_seconds: float
    generation: int


class ChunkReader:
    """Finds and reads chunk spans. The place cache is touched only between awaits, and by
    ``known_place`` from other threads, in single steps: no lock."""

    def __init__(self, routes: Routes, clock: Clock, executor: Executor) -> None:
        self._routes = routes
        self._clock = clock
        self._executor = executor
        self._places: OrderedDict[ChunkId, Place] = OrderedDict()
        self.lease_seconds = 10.0
        """How long a place handed out may be used: half the shortest lease that a node has
        granted."""

    def forget(self, chunk_id: ChunkId) -> None:
        """Drop the chunk's place: it was just written."""
        self._places.pop(chunk_id, None)

    def known_place(self, span: ChunkSpan, generation: int) -> Place | None:
        """The place of the span's chunk if it may be used again now: the hot path, without
        waiting."""
        place = self._places.get(span.chunk_id)
        if place is None:
            return None
        if not span.dense and (generation == 0 or place.generation != generation):
            return None
        if place.expires_seconds < self._clock.monotonic_seconds():
            self._places.pop(span.chunk_id, None)
            return None
        return place

    async def read_span(self, span: ChunkSpan, into: memoryview, generation: int) -> None:
        """Fill *into* (as long as the span) with verified bytes, zeros where an in-place chunk has
        none.

        Tries the replicas in turn while time allows. Raises DataLossError, UnavailableError.
        """
        place = self.known_place(span, generation)
        if place is not None and len(into) <= INLINE_READ_BYTES_MAX:
            try:
                read_place(span, place.content, into)
                return
            except (DataLossError, DiskError):
                self.forget(span.chunk_id)  # another replica may have it whole
        await self._over_replicas(
            span, lambda connection: self._read_once(span, into, generation, connection)
        )

    async def locate_span(self, span: ChunkSpan, generation: int) -> BlockContent | bytes | None:
        """The block with the span's chunk, verified for the span's range; bytes if it is on another
        host;
        None if an in-place chunk is absent."""
        found: list[BlockContent | bytes | None] = []
        await self._over_replicas(
            span, lambda connection: self._locate_once(span, generation, connection, found)
        )
        return found[-1]

    async def _over_replicas(
        self, span: ChunkSpan, once: Callable[[NodeConnection], Awaitable[None]]
    ) -> None:
        """Call *once* with connections to the replicas in turn until it succeeds, the deadline
        passes, or every replica has lost the data."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_SECONDS
        lost: set[int] = set()
        """Nodes whose replicas are damaged. They may have mended them by the next time."""
        attempt = 0
        while True:
            node_id = 0
            chain = self._routes.chain(span.layout, span.chunk_id.index)
            try:
                connection = await self._routes.reading_connection(
                    chain, span.chunk_id.index + span.chunk_id.segment_id, attempt
                )
                node_id = connection.node.node_id
                await once(connection)
                return
            except DataLossError:
                self.forget(span.chunk_id)
                again = node_id in lost
                lost.add(node_id)
                if len(lost) >= self._routes.replica_count(chain) or loop.time() > deadline:
                    raise
                if again:
                    await self._rest(attempt)
            except RetryableError:
                self.forget(span.chunk_id)
                if loop.time() > deadline:
                    raise
                await self._rest(attempt)
            attempt += 1

    async def _rest(self, attempt: int) -> None:
        """Let the cluster get over whatever it was, and see how it stands then."""
        await asyncio.sleep(RETRY_DELAY_SECONDS[min(attempt, len(RETRY_DELAY_SECONDS) - 1)])
        await self._routes.refresh()

    async def _read_once(
        self, span: ChunkSpan, into: memoryview, generation: int, connection: NodeConnection
    ) -> None:
        if not connection.shares_files:
            await self._fetch(connection, span, into)
            return
        place = self.known_place(span, generation) or await self._look_up(
            connection, span, generation
        )
        try:
            if len(into) <= INLINE_READ_BYTES_MAX:
                read_place(span, place.content, into)
            else:
                await self._in_thread(read_place, span, place.content, into)
        except (DataLossError, DiskError):
            if place.content is None:
                raise
            # The node reads it itself, so that it knows, and mends it.
            await self._fetch(connection, span, into)

    async def _locate_once(
        self,
        span: ChunkSpan,
        generation: int,
        connection: NodeConnection,
        found: list[BlockContent | bytes | None],
    ) -> None:
        if not connection.shares_files:
            found.append(await self._fetch_bytes(connection, span))
            return
        place = self.known_place(span, generation) or await self._look_up(
            connection, span, generation
        )
        content = place.content
        try:
            if content is None:
                _require_sparse(span, 0)
            else:
                await self._verify(span, content)
        except (DataLossError, DiskError):
            if content is None:
                raise
            found.append(await self._fetch_bytes(connection, span))
            return
        found.append(content)

    async def _verify(self, span: ChunkSpan, content: BlockContent) -> None:
        present = min(span.length, content.length_bytes - span.chunk_offset)
        if present < span.length:
            _require_sparse(span, content.length_bytes)
        if 0 < present <= INLINE_READ_BYTES_MAX:
            content.verify(span.chunk_offset, present)
        elif present > 0:
            await self._in_thread(content.verify, span.chunk_offset, present)

    async def _fetch_bytes(self, connection: NodeConnection, span: ChunkSpan) -> bytes:
        buffer = bytearray(span.length)
        await self._fetch(connection, span, memoryview(buffer))
        return bytes(buffer)

    async def _look_up(self, connection: NodeConnection, span: ChunkSpan, generation: int) -> Place:
        """Ask the node where the chunk lies, and remember it for its lease."""
        asked = self._clock.monotonic_seconds()
        reply = await connection.call(
            Method.LOCATE, LocateRequest((self._range(span),)), LocateReply
        )
        return self._note(
            connection, span, generation, reply.located[0], asked, reply.lease_seconds
        )

    async def look_up_many(self, spans: Sequence[ChunkSpan], generation: int) -> None:
        """Fetch the places of *spans* (those on this host) in one call per node; failures are left
        to the reads."""
        by_connection: dict[NodeConnection, list[ChunkSpan]] = {}
        for span in spans:
            if self.known_place(span, generation) is not None:
                continue
            chain = self._routes.chain(span.layout, span.chunk_id.index)
            connection = await self._routes.reading_connection(
                chain, span.chunk_id.index + span.chunk_id.segment_id, 0
            )
            if connection.shares_files:
                by_connection.setdefault(connection, []).append(span)
        for connection, group in by_connection.items():
            asked = self._clock.monotonic_seconds()
            request = LocateRequest(tuple(self._range(span) for span in group))
            reply = await connection.call(Method.LOCATE, request, LocateReply)
            for span, located in zip(group, reply.located, strict=True):
                if not located.status.error:
                    self._note(connection, span, generation, located, asked, reply.lease_seconds)

    def _note(
        self,
        connection: NodeConnection,
        span: ChunkSpan,
        generation: int,
        located: Located,
        asked: float,
        lease_seconds: float,
    ) -> Place:
        chain = self._routes.chain(span.layout, span.chunk_id.index)
        error = exception_from_status(located.status, chain_id=chain.chain_id)
        if error is not None:
            raise error
        usable = lease_seconds * LEASE_MARGIN
        self.lease_seconds = min(self.lease_seconds, usable)
        content = None
        if located.version:
            content = BlockContent(
                span.chunk_id,
                connection.descriptor(located.place.file_key),
                located.place.offset_bytes,
                located.length_bytes,
                located.page_crcs,
                located.crc32c,
            )
        place = Place(content, asked + usable, generation)
        if content is not None:
            if len(self._places) >= PLACES_MAX:
                self._places.popitem(last=False)
            self._places[span.chunk_id] = place
        return place

    async def _fetch(self, connection: NodeConnection, span: ChunkSpan, into: memoryview) -> None:
        """Read the span's bytes over the connection."""
        reply = await connection.call(
            Method.READ, ReadRequest((self._range(span),)), ReadReply, receive=[into]
        )
        result = reply.results[0]
        chain = self._routes.chain(span.layout, span.chunk_id.index)
        error = exception_from_status(result.status, chain_id=chain.chain_id)
        if error is not None:
            raise error
        received = into[: result.length_bytes]
        if crc32c(received) != result.crc32c:
            raise DataLossError(
                f"chunk {span.chunk_id.segment_id:x}.{span.chunk_id.index}: damaged on its way "
                f"from storage node {connection.node.node_id}"
            )
        if result.length_bytes < span.length:
            _require_sparse(span, span.chunk_offset + result.length_bytes)
            _zero(into[result.length_bytes :])

    def _range(self, span: ChunkSpan) -> ChunkRange:
        chain = self._routes.chain(span.layout, span.chunk_id.index)
        return ChunkRange(
            span.chunk_id.segment_id,
            span.chunk_id.index,
            chain.chain_id,
            chain.version,
            span.chunk_offset,
            span.length,
        )

    async def _in_thread(self, function: Callable[..., None], *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._executor, function, *arguments)
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])  # the thread still writes into the caller's buffer
            raise


def read_place(span: ChunkSpan, content: BlockContent | None, into: memoryview) -> None:
    """Blocking: fill *into* with the span's bytes from *content*. Raises DataLossError."""
    length = 0 if content is None else content.length_bytes
    present = max(0, min(span.length, length - span.chunk_offset))
    if present < span.length:
        _require_sparse(span, length)
        _zero(into[present:])
    if content is not None and present:
        content.read_into(span.chunk_offset, into[:present])


def _require_sparse(span: ChunkSpan, length: int) -> None:
    """Raise DataLossError if the span's segment was written whole, so that nothing may be
    missing."""
    if span.dense:
        raise DataLossError(
            f"chunk {span.chunk_id.segment_id:x}.{span.chunk_id.index}: "
            + (f"only {length} bytes are there" if length else "it is missing on this replica")
        )


def _zero(view: memoryview) -> None:
    view[:] = bytes(len(view))
