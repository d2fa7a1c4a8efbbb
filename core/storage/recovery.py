"""DRIVER: the calls by which the replicas of a chain fill and repair each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..chunks.store import ChunkVersion, TokenOutcome
from ..craq.resync import Listed, Page
from ..craq.seen import ABSENT, Seen
from ..errors import InvalidArgumentError
from ..ids import ChunkId, UpdateToken
from ..limits import BATCH_ITEMS_MAX
from ..transport.port import Answer, IncomingRequest
from ..wire.codec import decode
from ..wire.messages import (
    FetchChunkReply,
    FetchChunkRequest,
    Message,
    Method,
    OutcomeEntry,
    PutOutcomesRequest,
    RepairChunkReply,
    RepairChunkRequest,
    SyncDoneRequest,
    SyncEntry,
    SyncInventoryReply,
    SyncInventoryRequest,
    SyncReply,
    SyncStartRequest,
    encode,
)
from .rooms import Rooms
from .target import Target
from .transfers import SOURCES

FindTarget = Callable[[int, int], Target]
"""The target of a chain on this node, by chain and target id. Raises UnavailableError."""

Methods = dict[int, Callable[[IncomingRequest], Awaitable[Answer]]]


def methods(find: FindTarget, rooms: Rooms) -> Methods:
    """The handlers of these calls, by method."""
    service = _Recovery(find, rooms)
    return {
        Method.SYNC_START: service.start,
        Method.SYNC_INVENTORY: service.inventory,
        Method.PUT_OUTCOMES: service.put_outcomes,
        Method.SYNC_DONE: service.done,
        Method.FETCH_CHUNK: service.fetch,
        Method.REPAIR_CHUNK: service.repair,
    }


class _Recovery:
    def __init__(self, find: FindTarget, rooms: Rooms) -> None:
        self._find = find
        self._rooms = rooms

    async def start(self, request: IncomingRequest) -> Answer:
        message = decode(SyncStartRequest, request.header)
        if not message.session:
            raise InvalidArgumentError("a resync session has a number from 1 on")
        target = self._find(message.chain_id, message.target_id)
        synced = await target.sync_started(message.chain_version, message.session)
        return _answer(SyncReply(synced))

    async def inventory(self, request: IncomingRequest) -> Answer:
        message = decode(SyncInventoryRequest, request.header)
        target = self._find(message.chain_id, message.target_id)
        target.replica.check_session(message.chain_version, message.session)
        begin = ChunkId(message.segment_id, message.chunk_index)
        limit = max(1, min(message.limit, BATCH_ITEMS_MAX))
        page = target.inventory(begin, limit)
        return _answer(SyncInventoryReply(tuple([_entry(one) for one in page.entries]), page.more))

    async def put_outcomes(self, request: IncomingRequest) -> Answer:
        message = decode(PutOutcomesRequest, request.header)
        target = self._find(message.chain_id, message.target_id)
        target.replica.check_session(message.chain_version, message.session)
        await target.put_outcomes([_outcome(one) for one in message.outcomes])
        return _answer(SyncReply(False))

    async def done(self, request: IncomingRequest) -> Answer:
        message = decode(SyncDoneRequest, request.header)
        target = self._find(message.chain_id, message.target_id)
        await target.sync_finished(message.chain_version, message.session)
        return _answer(SyncReply(True))

    async def fetch(self, request: IncomingRequest) -> Answer:
        message = decode(FetchChunkRequest, request.header)
        target = self._find(message.chain_id, message.target_id)
        target.replica.check_version(message.chain_version)
        chunk_id = ChunkId(message.segment_id, message.chunk_index)
        content = target.replica.copy_for(chunk_id, SOURCES[message.source], message.version)
        if content is None:
            return _answer(FetchChunkReply())
        if request.receive_lengths:
            await self._push(request, target, chunk_id, content)
        return _answer(
            FetchChunkReply(
                content.version,
                content.length_bytes,
                content.crc32c,
                content.page_crcs,
                *content.token,
            )
        )

    async def repair(self, request: IncomingRequest) -> Answer:
        message = decode(RepairChunkRequest, request.header)
        target = self._find(message.chain_id, message.target_id)
        target.replica.check_version(message.chain_version)
        chunk_id = ChunkId(message.segment_id, message.chunk_index)
        if not message.source_id:
            reply = await target.repair(chunk_id, message.version)
        else:
            wanted = Seen(
                message.wanted_version, message.wanted_length_bytes, message.wanted_crc32c
            )
            reply = await target.take_from(
                chunk_id, message.version, message.source_id, wanted, message.chain_version
            )
        return _answer(RepairChunkReply(reply.sent))

    async def _push(
        self, request: IncomingRequest, target: Target, chunk_id: ChunkId, content: ChunkVersion
    ) -> None:
        length = content.length_bytes
        if request.receive_lengths[0] != length:
            raise InvalidArgumentError(f"a buffer of another length than the chunk's {length}")
        room = self._rooms.read
        await room.enter(length)
        try:
            buffer = self._rooms.buffers.take(length)
            try:
                await target.read(content, chunk_id, 0, buffer.view)
                await request.push(0, buffer.view)
            finally:
                buffer.give_back()
        finally:
            room.leave(length)


def page_from(reply: SyncInventoryReply) -> Page:
    """The page that *reply* tells of."""
    return Page([_listed(one) for one in reply.entries], reply.more)


def outcome_entry(outcome: TokenOutcome) -> OutcomeEntry:
    """*outcome* as it goes over the wire."""
    return OutcomeEntry(
        *outcome.token,
        *outcome.chunk_id,
        outcome.version,
        outcome.length_bytes,
        outcome.crc32c,
    )


def _outcome(entry: OutcomeEntry) -> TokenOutcome:
    return TokenOutcome(
        UpdateToken(entry.client_id, entry.channel, entry.sequence),
        ChunkId(entry.segment_id, entry.chunk_index),
        entry.version,
        entry.length_bytes,
        entry.crc32c,
    )


def _entry(listed: Listed) -> SyncEntry:
    chunk_id, seen, sure = listed
    token = seen.token or UpdateToken(0, 0, 0)
    return SyncEntry(*chunk_id, seen.version, seen.length_bytes, seen.crc32c, *token, sure)


def _listed(entry: SyncEntry) -> Listed:
    seen = ABSENT
    if entry.version:
        token = UpdateToken(entry.client_id, entry.channel, entry.sequence)
        seen = Seen(entry.version, entry.length_bytes, entry.crc32c, token)
    return Listed(ChunkId(entry.segment_id, entry.chunk_index), seen, entry.sure)


def _answer(message: Message) -> Answer:
    return Answer(encode(message))
