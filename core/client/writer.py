"""DRIVER: writes one new immutable segment, chunk by chunk, with bounded memory.

On the same host a chunk's bytes go straight into a reserved block of the head; one chunk is being
filled while earlier ones are flushed and acknowledged. To another host, chunks are gathered in
memory and sent whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Executor

from ..chunks.integrity import BlockContent, PageSummer
from ..errors import CraqenError, RetryableError, UnavailableError
from ..ids import ChunkId
from ..limits import CHUNK_CLASS_BYTES_MIN, KIB
from ..meta.records import Extent, Layout
from ..wire.messages import (
    BlockPlace,
    Method,
    ReleaseRequest,
    ReserveReply,
    UpdateKind,
)
from .block_file import BlockFile
from .connections import NodeConnection
from .routes import Routes
from .updates import ChunkUpdate, Updater

CHUNKS_IN_FLIGHT_MAX = 3  # enough to hide a flush behind the next chunk's bytes
INLINE_WRITE_BYTES_MAX = 256 * KIB  # below this a thread hop costs more than the write
DEADLINE_SECONDS = 30.0  # longer than a lease: a chain that lost a target has moved on by then
ABORT_SECONDS = 1.0  # for removing what was written; the rest is removed later
RETRY_DELAY_SECONDS = (0.0, 0.02, 0.1, 0.5, 1.0)


class ChunkInProgress:
    """A chunk being filled: its block or its bytes in memory, and its sums so far."""

    __slots__ = ("chunk_id", "connection", "memory", "place", "reservation_id", "summer")

    def __init__(self, chunk_id: ChunkId) -> None:
        self.chunk_id = chunk_id
        self.summer = PageSummer()
        self.connection: NodeConnection | None = None
        self.reservation_id = 0
        self.place: BlockPlace | None = None
        self.memory: bytearray | None = None

    def fill(self, file: BlockFile, data: memoryview) -> None:
        """Blocking: put *data* behind what is there, and sum it."""
        place = self.place
        assert place is not None
        start = place.offset_bytes + self.summer.length_bytes
        self.summer.update(data)
        file.write(data, start)


class _Patience:
    """How long to go on trying, and the rests between."""

    __slots__ = ("_attempt", "_deadline")

    def __init__(self) -> None:
        self._deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        self._attempt = 0

    async def rest(self) -> bool:
        """Wait a moment; False at once if the time is over."""
        if asyncio.get_running_loop().time() > self._deadline:
            return False
        delays = RETRY_DELAY_SECONDS
        await asyncio.sleep(delays[min(self._attempt, len(delays) - 1)])
        self._attempt += 1
        return True


class ClusterSegmentWriter:
    """``SegmentWriter`` (core/client/port.py) on a cluster."""

    def __init__(
        self,
        routes: Routes,
        updater: Updater,
        executor: Executor,
        segment_id: int,
        layout: Layout,
        length_bytes: int | None,
    ) -> None:
        self._routes = routes
        self._updater = updater
        self._executor = executor
        self._segment_id = segment_id
        self._layout = layout
        self._expected_bytes = length_bytes
        self._written_bytes = 0
        self._current: ChunkInProgress | None = None
        self._flights: set[asyncio.Task[None]] = set()
        self._sent: list[ChunkId] = []
        self._closed = False
        self._lock = asyncio.Lock()
        """Held by ``write``: blocks are given back only when nobody fills them any more."""

    async def write(self, data: memoryview) -> None:
        """Append *data*."""
        async with self._lock:
            await self._write(data)

    async def _write(self, data: memoryview) -> None:
        assert not self._closed
        position = 0
        chunk_size = self._layout.chunk_size_bytes
        while position < len(data):
            current = self._current
            if current is None:
                current = self._current = await self._begin_chunk()
            room = chunk_size - current.summer.length_bytes
            piece = data[position : position + room]
            await self._fill(current, piece)
            position += len(piece)
            self._written_bytes += len(piece)
            if current.summer.length_bytes == chunk_size:
                self._current = None
                await self._send(current)

    async def finish(self) -> tuple[Extent, ...]:
        """Make it all durable; return the extents."""
        current, self._current = self._current, None
        if current is not None:
            await self._send(current)
        while self._flights:
            await self._reap(asyncio.ALL_COMPLETED)
        self._closed = True
        if self._written_bytes == 0:
            return ()
        return (Extent(0, self._written_bytes, self._segment_id, 0, self._layout, True),)

    async def abort(self) -> None:
        """Free everything, once a write under way has ended."""
        async with self._lock:
            self._closed = True
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        self._flights.clear()
        current, self._current = self._current, None
        if current is not None:
            await self._release(current)
        sent, self._sent = self._sent, []
        if sent:
            removals = [ChunkUpdate(chunk_id, self._layout, UpdateKind.REMOVE) for chunk_id in sent]
            # A write that was refused since a disk is full holds its chunk until there is space:
            # nobody waits for that. What is not removed is found as an orphan of this client.
            await self._updater.make_for(removals, ABORT_SECONDS)

    async def _begin_chunk(self) -> ChunkInProgress:
        index = self._written_bytes // self._layout.chunk_size_bytes
        chunk = ChunkInProgress(ChunkId(self._segment_id, index))
        size = self._layout.chunk_size_bytes
        if self._expected_bytes is not None:
            size = min(size, max(self._expected_bytes - self._written_bytes, 1))
        await self._reserve(chunk, size)
        return chunk

    async def _reserve(self, chunk: ChunkInProgress, size: int) -> None:
        """Give *chunk* a block on its head, or memory if that is on another host; tries until its
        chain has a head, for a bounded time."""
        layout, index = self._layout, chunk.chunk_id.index
        patience = _Patience()
        while True:
            try:
                reply = await self._routes.reserve(layout, index, max(size, CHUNK_CLASS_BYTES_MIN))
                break
            except RetryableError:
                if not await patience.rest():
                    raise
                await self._routes.refresh()
        if reply is None:
            chunk.memory = bytearray()
        else:
            chunk.connection, chunk.reservation_id, chunk.place = reply

    async def _fill(self, chunk: ChunkInProgress, data: memoryview) -> None:
        if chunk.memory is not None:
            chunk.memory += data
            chunk.summer.update(data)
            return
        connection, place = chunk.connection, chunk.place
        assert connection is not None
        assert place is not None
        file = connection.block_file(place.file_key)
        if len(data) < INLINE_WRITE_BYTES_MAX:
            chunk.fill(file, data)
        else:
            job = self._executor.submit(chunk.fill, file, data)
            await _settled(asyncio.wrap_future(job))

    async def _send(self, chunk: ChunkInProgress) -> None:
        """Start the chunk's update; wait only while too many are under way."""
        while len(self._flights) >= CHUNKS_IN_FLIGHT_MAX:
            await self._reap(asyncio.FIRST_COMPLETED)
        self._sent.append(chunk.chunk_id)
        self._flights.add(asyncio.create_task(self._commit(chunk)))

    async def _reap(self, return_when: str) -> None:
        done, self._flights = await asyncio.wait(self._flights, return_when=return_when)
        for flight in done:
            flight.result()

    async def _commit(self, chunk: ChunkInProgress) -> None:
        """Make the chunk's update. Replacing content by the same content is harmless, so an attempt
        whose
        outcome is unknown is followed by one under a new token."""
        patience = _Patience()
        while True:
            try:
                await self._updater.make_one(self._update(chunk))
                return
            except RetryableError as error:
                # Without a reservation the updater has tried until its deadline.
                if chunk.connection is None or not await patience.rest():
                    raise
                await self._routes.refresh()
                lost = isinstance(error, UnavailableError)
                if lost or self._is_elsewhere(chunk):
                    await self._refill(chunk)
            except BaseException:
                await self._release(chunk)
                raise

    def _is_elsewhere(self, chunk: ChunkInProgress) -> bool:
        """Whether the chunk's block is on a node that is not its head (any more)."""
        assert chunk.connection is not None
        try:
            return self._routes.head_is_gone(chunk.connection, self._layout, chunk.chunk_id.index)
        except UnavailableError:
            return True

    def _update(self, chunk: ChunkInProgress) -> ChunkUpdate:
        summer = chunk.summer
        return ChunkUpdate(
            chunk.chunk_id,
            self._layout,
            UpdateKind.REPLACE,
            length_bytes=summer.length_bytes,
            crc32c=summer.whole,
            page_crcs=summer.page_crcs(),
            data=None if chunk.memory is None else memoryview(chunk.memory),
            reservation_id=chunk.reservation_id,
            reserved_on=chunk.connection,
        )

    async def _refill(self, chunk: ChunkInProgress) -> None:
        """The head went away with our reservation: move the bytes, verified, into another block."""
        old_connection, old_place = chunk.connection, chunk.place
        assert old_connection is not None
        assert old_place is not None
        descriptor = old_connection.descriptor(old_place.file_key)
        summer = chunk.summer
        old = BlockContent(
            chunk.chunk_id,
            descriptor,
            old_place.offset_bytes,
            summer.length_bytes,
            summer.page_crcs(),
            summer.whole,
        )
        data = memoryview(bytearray(summer.length_bytes))
        await _settled(asyncio.wrap_future(self._executor.submit(old.read_into, 0, data)))
        await self._release(chunk)
        chunk.connection = chunk.place = None
        chunk.reservation_id = 0
        chunk.summer = PageSummer()
        await self._reserve(chunk, len(data))
        await self._fill(chunk, data)

    async def _release(self, chunk: ChunkInProgress) -> None:
        connection = chunk.connection
        if connection is None or connection.broken:
            return  # the node takes back what its lost connections reserved
        request = ReleaseRequest(
            self._routes.chain(self._layout, chunk.chunk_id.index).chain_id,
            (chunk.reservation_id,),
        )
        with contextlib.suppress(CraqenError):
            await connection.call(Method.RELEASE, request, ReserveReply)


async def _settled(future: asyncio.Future[None]) -> None:
    """Await a thread's work; if cancelled, still wait until the thread lets go of the buffers."""
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
