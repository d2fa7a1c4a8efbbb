"""DRIVER: ``DataStore`` (core/client/port.py) on a cluster: spans planned, read and written in
parallel, memory bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Executor

from ..checksum import crc32c, page_checksums
from ..chunks.integrity import BlockContent
from ..clock import Clock
from ..errors import CraqenError, DataLossError, DiskError
from ..ids import ChunkId
from ..limits import BATCH_ITEMS_MAX, KIB, MIB
from ..meta.records import Extent, Layout
from ..wire.messages import (
    ChunkSummary,
    ListChunksReply,
    ListChunksRequest,
    Method,
    TargetStatusReply,
    TargetStatusRequest,
    UpdateKind,
)
from .connections import NodeConnections
from .plan import ChunkSpan, HoleSpan, plan_range
from .port import FilePiece, MemoryPiece, Piece, SegmentWriter, ZeroPiece
from .reader import ChunkReader, read_place
from .routes import Routes
from .updates import ChunkUpdate, Updater
from .writer import ClusterSegmentWriter

PARALLEL_SPANS_MAX = 8  # chunk reads of one call under way at once
COPY_BUFFER_BYTES = 4 * MIB
NOW_FROM_DISK_BYTES_MAX = 64 * KIB  # what the event loop may wait for the disk for


class ClusterDataStore:
    """Reads and writes chunks of one cluster."""

    def __init__(
        self,
        routes: Routes,
        connections: NodeConnections,
        clock: Clock,
        executor: Executor,
        client_id: int,
    ) -> None:
        self._routes = routes
        self._connections = connections
        self._executor = executor
        self._reader = ChunkReader(routes, clock, executor)
        self._updater = Updater(routes, client_id)

    @property
    def lease_seconds(self) -> float:
        """For how long pieces may be used."""
        return self._reader.lease_seconds

    def new_segment(
        self, segment_id: int, layout: Layout, *, length_bytes: int | None
    ) -> SegmentWriter:
        """A writer for a new segment."""
        return ClusterSegmentWriter(
            self._routes, self._updater, self._executor, segment_id, layout, length_bytes
        )

    async def read(
        self, extents: Sequence[Extent], offset: int, into: memoryview, *, generation: int = 0
    ) -> None:
        """Fill *into* with file bytes from *offset*."""
        spans = plan_range(extents, offset, len(into))
        reads: list[tuple[ChunkSpan, memoryview]] = []
        for span in spans:
            start = span.file_offset - offset
            target = into[start : start + span.length]
            if isinstance(span, HoleSpan):
                target[:] = bytes(span.length)
            else:
                reads.append((span, target))
        if len(reads) == 1:
            await self._reader.read_span(*reads[0], generation)
        elif reads:
            await self._reader.look_up_many([span for span, _ in reads], generation)
            await _bounded(
                [self._reader.read_span(span, target, generation) for span, target in reads]
            )

    async def read_batch(
        self, reads: Sequence[tuple[Sequence[Extent], int, memoryview, int]]
    ) -> list[Exception | None]:
        """Many reads at once: places are looked up together, then small reads run without
        waiting."""
        outcomes: list[Exception | None] = [None] * len(reads)
        for start in range(0, len(reads), BATCH_ITEMS_MAX):
            await self._read_group(
                reads, range(start, min(start + BATCH_ITEMS_MAX, len(reads))), outcomes
            )
        return outcomes

    async def _read_group(
        self,
        reads: Sequence[tuple[Sequence[Extent], int, memoryview, int]],
        numbers: Iterable[int],
        outcomes: list[Exception | None],
    ) -> None:
        planned = [(number, plan_range(*_range_of(reads[number]))) for number in numbers]
        by_generation: dict[int, list[ChunkSpan]] = {}
        for number, spans in planned:
            chunks = [span for span in spans if isinstance(span, ChunkSpan)]
            # Sparse chunks of an unstated generation are looked up when they are read.
            by_generation.setdefault(reads[number][3], []).extend(chunks)
        for generation, chunks in by_generation.items():
            try:
                await self._reader.look_up_many(chunks, generation)
            except CraqenError:
                continue  # each read tries again for itself, and says what is wrong
        for number, _ in planned:
            extents, offset, into, generation = reads[number]
            try:
                await self.read(extents, offset, into, generation=generation)
            except CraqenError as error:
                outcomes[number] = error

    async def locate(
        self, extents: Sequence[Extent], offset: int, length: int, *, generation: int = 0
    ) -> list[Piece]:
        """Verified pieces that cover the range."""
        pieces: list[Piece] = []
        for span in plan_range(extents, offset, length):
            if isinstance(span, HoleSpan):
                pieces.append(ZeroPiece(span.length))
                continue
            found = await self._reader.locate_span(span, generation)
            if isinstance(found, bytes):
                pieces.append(MemoryPiece(memoryview(found)))
            else:
                pieces += _pieces_of(span, found)
        return pieces

    def content_now(self, span: ChunkSpan, generation: int) -> BlockContent | None:
        """The block on this host with the span's chunk, if its place is known; its bytes are not
        verified yet. May be called from any thread."""
        place = self._reader.known_place(span, generation)
        return None if place is None else place.content

    def read_now(
        self, extents: Sequence[Extent], offset: int, into: memoryview, generation: int
    ) -> bool:
        """Fill *into* without waiting, if it lies in one chunk whose place is known; else return
        False.

        A small read may wait for the disk; a large one is done only from memory. A damaged page
        also gives False: the ordinary ``read`` then tries the other replicas.
        """
        spans = plan_range(extents, offset, len(into))
        if len(spans) != 1 or isinstance(spans[0], HoleSpan):
            return False
        span = spans[0]
        place = self._reader.known_place(span, generation)
        if place is None:
            return False
        content = place.content
        try:
            if len(into) > NOW_FROM_DISK_BYTES_MAX:
                return content is not None and content.read_cached(span.chunk_offset, into)
            read_place(span, content, into)
        except (DataLossError, DiskError):
            return False
        return True

    async def write(self, extents: Sequence[Extent], offset: int, data: memoryview) -> None:
        """Write in place; durable on return."""
        await self.write_many(extents, [(offset, data)])

    async def write_many(
        self, extents: Sequence[Extent], writes: Sequence[tuple[int, memoryview]]
    ) -> None:
        """Write several ranges; those of one chunk in the order given, different chunks side by
        side."""
        rounds: list[dict[ChunkId, ChunkUpdate]] = []
        depth: dict[ChunkId, int] = {}
        for offset, data in writes:
            for span in plan_range(extents, offset, len(data)):
                assert isinstance(span, ChunkSpan), "writes go into private extents only"
                piece = data[span.file_offset - offset : span.file_offset - offset + span.length]
                level = depth.get(span.chunk_id, 0)
                depth[span.chunk_id] = level + 1
                if level == len(rounds):
                    rounds.append({})
                rounds[level][span.chunk_id] = _update_of(span, piece)
        for updates in rounds:
            await self._make(list(updates.values()))

    async def _make(self, updates: Sequence[ChunkUpdate]) -> None:
        try:
            results = await self._updater.make(updates)
        finally:
            for update in updates:
                self._reader.forget(update.chunk_id)
        for result in results:
            if isinstance(result, CraqenError):
                raise result

    async def copy(self, source: Extent | None, target: Extent, inline_data: bytes) -> None:
        """Copy bytes into *target*, verified on the way."""
        if source is None:
            if inline_data:
                await self.write([target], target.file_offset, memoryview(inline_data))
            return
        buffer = memoryview(bytearray(min(COPY_BUFFER_BYTES, source.length_bytes)))
        position, end = source.file_offset, source.file_offset + source.length_bytes
        while position < end:
            piece = buffer[: min(len(buffer), end - position)]
            await self.read([source], position, piece)
            await self.write([target], position, piece)
            position += len(piece)

    async def remove_chunks(self, segment_id: int, layout: Layout, first_chunk: int) -> int:
        """Remove the segment's chunks from *first_chunk* on; return how many there were."""
        removed = 0
        for chain in self._routes.all_chains(layout):
            start = ChunkId(segment_id, first_chunk)
            while True:
                found, more = await self._list(chain.chain_id, start, BATCH_ITEMS_MAX)
                mine = [chunk for chunk in found if chunk.segment_id == segment_id]
                if mine:
                    await self._make(
                        [
                            ChunkUpdate(
                                ChunkId(chunk.segment_id, chunk.chunk_index),
                                layout,
                                UpdateKind.REMOVE,
                            )
                            for chunk in mine
                        ]
                    )
                    removed += len(mine)
                if not more or len(mine) < len(found):
                    break
                start = ChunkId(segment_id, mine[-1].chunk_index + 1)
        return removed

    async def list_segment_ids(self, first: int, last: int) -> set[int]:
        """Segments in ``[first, last]`` that have chunks."""
        segments: set[int] = set()
        for chain in self._routes.every_chain():
            start = ChunkId(first, 0)
            while start.segment_id <= last:
                found, _ = await self._list(chain.chain_id, start, 1)
                if not found or found[0].segment_id > last:
                    break
                segments.add(found[0].segment_id)
                start = ChunkId(found[0].segment_id + 1, 0)
        return segments

    async def _list(
        self, chain_id: int, start: ChunkId, limit: int
    ) -> tuple[Sequence[ChunkSummary], bool]:
        chain = next(one for one in self._routes.every_chain() if one.chain_id == chain_id)
        connection = await self._routes.chain_head(chain)
        request = ListChunksRequest(chain_id, start.segment_id, start.index, limit)
        reply = await connection.call(Method.LIST_CHUNKS, request, ListChunksReply)
        return reply.chunks, reply.more

    async def space(self) -> tuple[int, int]:
        """(capacity, free) bytes: for each chain its smallest target."""
        smallest: dict[int, tuple[int, int]] = {}
        for node in self._routes.nodes():
            connection = await self._routes.connection(node)
            reply = await connection.call(
                Method.TARGET_STATUS, TargetStatusRequest(), TargetStatusReply
            )
            for target in reply.targets:
                known = smallest.get(target.chain_id)
                mine = (target.capacity_bytes, target.free_bytes)
                if known is None or mine[1] < known[1]:
                    smallest[target.chain_id] = mine
        return (
            sum(capacity for capacity, _ in smallest.values()),
            sum(free for _, free in smallest.values()),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _range_of(
    read: tuple[Sequence[Extent], int, memoryview, int],
) -> tuple[Sequence[Extent], int, int]:
    extents, offset, into, _ = read
    return extents, offset, len(into)


def _pieces_of(span: ChunkSpan, content: BlockContent | None) -> list[Piece]:
    """The span as file bytes and, where an in-place chunk ends early, zeros."""
    length = 0 if content is None else content.length_bytes
    present = max(0, min(span.length, length - span.chunk_offset))
    pieces: list[Piece] = []
    if content is not None and present:
        pieces.append(
            FilePiece(content.descriptor, content.offset_bytes + span.chunk_offset, present)
        )
    if present < span.length:
        pieces.append(ZeroPiece(span.length - present))
    return pieces


def _update_of(span: ChunkSpan, data: memoryview) -> ChunkUpdate:
    """The update that puts *data* into the span. A whole chunk needs no reading at the storage
    side."""
    if span.chunk_offset == 0 and span.length == span.layout.chunk_size_bytes:
        return ChunkUpdate(
            span.chunk_id,
            span.layout,
            UpdateKind.REPLACE,
            0,
            span.length,
            crc32c(data),
            page_checksums(data),
            data,
        )
    return ChunkUpdate(
        span.chunk_id,
        span.layout,
        UpdateKind.WRITE,
        span.chunk_offset,
        span.length,
        crc32c(data),
        data=data,
    )


async def _bounded(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Await coroutines, PARALLEL_SPANS_MAX at a time; the first error ends the call after all have
    settled."""
    semaphore = asyncio.Semaphore(PARALLEL_SPANS_MAX)

    async def one(item: Coroutine[None, None, None]) -> None:
        async with semaphore:
            await item

    results = await asyncio.gather(*(one(item) for item in work), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
