"""DRIVER: what one target sends to others, and gets from them: forwarded updates, copies of whole
chunks, and chunks fetched for repair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..checksum import crc32c
from ..chunks.store import ChunkVersion
from ..craq.events import Fetch, Forward, Source
from ..errors import ConflictError, CraqenError, DataLossError, UnavailableError
from ..ids import ChunkId, UpdateToken
from ..wire.codec import exception_from_status
from ..wire.messages import (
    FetchChunkReply,
    FetchChunkRequest,
    FetchSource,
    Method,
    Update,
    UpdateKind,
    UpdateReply,
    UpdateRequest,
    UpdateResult,
)
from .copy_batches import COPY_BATCHED_BYTES_MAX, CopyBatches
from .peer_calls import PeerCalls
from .rooms import Rooms

Read = Callable[[ChunkVersion, ChunkId, memoryview, bool], Awaitable[None]]
"""Fills the buffer with the bytes of a version, verified unless it is to be taken as it is."""

_SOURCES = {
    Source.VERSION: FetchSource.VERSION,
    Source.SETTLED: FetchSource.SETTLED,
    Source.NEWEST: FetchSource.NEWEST,
}
SOURCES = {wire: source for source, wire in _SOURCES.items()}
"""From the wire's word to the machine's."""


class Transfers:
    """One target's exchange with the others of its chain."""

    def __init__(self, chain_id: int, rooms: Rooms, peers: PeerCalls, read: Read) -> None:
        self._chain_id = chain_id
        self._rooms = rooms
        self._peers = peers
        self._copies = CopyBatches(peers)
        self._read = read

    async def send_as_it_came(
        self, effect: Forward, update: Update, data: memoryview | None
    ) -> UpdateResult:
        """Forward the update that was asked for. Raises what the successor answers."""
        return await self._send(
            effect,
            update.kind,
            data,
            update.offset_bytes,
            update.length_bytes,
            update.crc32c,
            update.page_crcs,
        )

    async def send_removal(self, effect: Forward) -> UpdateResult:
        """Forward a removal, or a loss, also when nobody asks (any more)."""
        kind = UpdateKind.LOSE if effect.lost else UpdateKind.REMOVE
        return await self._send(effect, kind, None)

    async def send_whole(
        self, effect: Forward, content: ChunkVersion, successors: int
    ) -> UpdateResult:
        """The content as a REPLACE, read back from our block and verified. Raises DataLossError if
        it is damaged here, else what the successor answers."""
        length = content.length_bytes
        # Copies have their own: updates never wait for a resync.
        room = self._rooms.read_back(successors) if effect.mark is None else self._rooms.copied
        await room.enter(length)
        try:
            buffer = self._rooms.buffers.take(length)
            try:
                await self._read(content, effect.chunk_id, buffer.view, effect.as_it_is)
                return await self._send(
                    effect,
                    UpdateKind.REPLACE,
                    buffer.view,
                    0,
                    length,
                    content.crc32c,
                    content.page_crcs,
                )
            finally:
                buffer.give_back()
        finally:
            room.leave(length)

    async def _send(
        self,
        effect: Forward,
        kind: UpdateKind,
        data: memoryview | None,
        offset: int = 0,
        length: int = 0,
        crc: int = 0,
        page_crcs: bytes = b"",
    ) -> UpdateResult:
        mark = effect.mark
        # A copied removal has no update behind it, and a client has no negative number.
        token = UpdateToken(0, 0, 0) if effect.token.client_id < 0 else effect.token
        message = Update(
            *effect.chunk_id,
            self._chain_id,
            effect.chain_version,
            kind,
            offset,
            length,
            crc,
            *token,
            buffer=-1 if data is None else 0,
            page_crcs=page_crcs,
            version=effect.version,
            syncing=effect.syncing,
            sync_session=0 if mark is None else mark.session,
            sync_slot=0 if mark is None else mark.slot,
            sync_sequence=0 if mark is None else mark.sequence,
            as_it_is=effect.as_it_is,
            target_id=effect.target_id,
        )
        if mark is not None and length <= COPY_BATCHED_BYTES_MAX:
            result = await self._copies.send(effect.target_id, message, data)
        else:
            result = await self._update(effect.target_id, message, data)
        error = exception_from_status(result.status, chain_id=self._chain_id)
        if isinstance(error, DataLossError):
            # Its own damage, not ours: it sees to that.
            raise UnavailableError(f"target {effect.target_id}: {error}")
        if error is not None:
            raise error
        return result

    async def _update(
        self, target_id: int, message: Update, data: memoryview | None
    ) -> UpdateResult:
        reply = await self._peers.call(
            target_id,
            Method.UPDATE,
            UpdateRequest((message,)),
            UpdateReply,
            send=() if data is None else (data,),
        )
        if len(reply.results) != 1:
            raise UnavailableError(f"target {target_id} answered another request")
        return reply.results[0]

    async def fetch(self, effect: Fetch) -> tuple[FetchChunkReply, memoryview] | None:
        """The first target's content that can be had, verified; None: the chunk is absent there.
        Its bytes have their place in ``Rooms.fetched``: the caller gives that back.

        Raises ConflictError if every target says that it does not have what is wanted; else what
        the last one that may have it answered.
        """
        failure: CraqenError | None = None
        lacking = None
        for target_id in effect.targets:
            try:
                return await self._fetch_from(target_id, effect)
            except ConflictError as error:
                lacking = error
            except CraqenError as error:
                failure = error
        problem = failure or lacking
        assert problem is not None, "a fetch from nobody"
        raise problem

    async def _fetch_from(
        self, target_id: int, effect: Fetch
    ) -> tuple[FetchChunkReply, memoryview] | None:
        wanted = effect.wanted
        request = FetchChunkRequest(
            self._chain_id,
            effect.chain_version,
            *effect.chunk_id,
            _SOURCES[effect.source],
            0 if wanted is None else wanted.version,
            target_id,
        )
        found = await self._peers.call(target_id, Method.FETCH_CHUNK, request, FetchChunkReply)
        if not found.version:
            return None
        if wanted is not None and (found.version, found.length_bytes, found.crc32c) != (
            wanted.version,
            wanted.length_bytes,
            wanted.crc32c,
        ):
            raise ConflictError(f"target {target_id} has another content of that version")
        room = self._rooms.fetched
        await room.enter(found.length_bytes)
        try:
            data = memoryview(bytearray(found.length_bytes))
            again = await self._peers.call(
                target_id, Method.FETCH_CHUNK, request, FetchChunkReply, receive=(data,)
            )
            if again != found:
                raise UnavailableError(f"target {target_id}: the chunk was written meanwhile")
            if crc32c(data) != found.crc32c:
                raise UnavailableError(f"target {target_id}: the chunk was damaged on its way")
        except BaseException:
            room.leave(found.length_bytes)
            raise
        return found, data
