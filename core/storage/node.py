"""DRIVER: the RPC face of a storage node: its methods, its connections' descriptors and
reservations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from ..checksum import crc32c
from ..chunks.integrity import PageSummer
from ..chunks.store import ChunkRecord, ChunkVersion
from ..craq.events import Reply
from ..errors import (
    CraqenError,
    InvalidArgumentError,
    ProtocolError,
    UnavailableError,
)
from ..ids import ChunkId
from ..limits import BATCH_ITEMS_MAX, CHUNK_CLASS_BYTES_MAX
from ..transport.greeting import Gate, SecretSource
from ..transport.port import Answer, IncomingRequest
from ..wire.codec import decode, status_of
from ..wire.messages import (
    ChunkRange,
    ChunkSummary,
    CommittedVersionReply,
    CommittedVersionRequest,
    ItemStatus,
    ListChunksReply,
    ListChunksRequest,
    Located,
    LocateReply,
    LocateRequest,
    Message,
    Method,
    ReadReply,
    ReadRequest,
    ReadResult,
    ReleaseRequest,
    ReserveReply,
    ReserveRequest,
    TargetStatus,
    TargetStatusReply,
    Update,
    UpdateKind,
    UpdateReply,
    UpdateRequest,
    UpdateResult,
    encode,
)
from . import recovery
from .passed_files import PassedFiles
from .reservations import Reservations
from .rooms import Rooms
from .target import Target
from .work import check_replace

_OK = ItemStatus()
_ABSENT = Located(_OK)
_FINDINGS = (Method.READ, Method.LOCATE, Method.COMMITTED_VERSION, Method.FETCH_CHUNK)
"""What answers with what is committed."""

TailQuery = Callable[[Target, ChunkId], Awaitable[int]]
"""Asks the tail of a target's chain which version of a chunk is committed."""


class StorageNode:
    """Answers the methods of core/wire/messages.py for the targets of one process."""

    def __init__(
        self,
        node_id: int,
        cluster_id: str,
        lease_seconds: float,
        ask_tail: TailQuery,
        may_serve: Callable[[], bool],
        secret: SecretSource,
    ) -> None:
        """*lease_seconds*: how long readers may use a block's place; *may_serve*: whether the
        node's own lease holds (core/storage/lease.py)."""
        self._node_id = node_id
        self._gate = Gate(node_id, lambda: cluster_id, secret)
        self._lease_seconds = lease_seconds
        self._ask_tail = ask_tail
        self._may_serve = may_serve
        self._targets: dict[int, Target] = {}
        """By target id."""
        self._of_chain: dict[int, list[Target]] = {}
        """By chain id: one target, or two while the chain moves from disk to disk."""
        self._reservations = Reservations()
        self._passed: dict[int, PassedFiles] = {}
        self.rooms = Rooms()
        self._methods: dict[int, Callable[[IncomingRequest], Awaitable[Answer]]] = {
            Method.HELLO: self._hello,
            Method.AUTHENTICATE: self._authenticate,
            Method.RESERVE: self._reserve,
            Method.RELEASE: self._release,
            Method.UPDATE: self._update,
            Method.READ: self._read,
            Method.LOCATE: self._locate,
            Method.LIST_CHUNKS: self._list_chunks,
            Method.COMMITTED_VERSION: self._committed_version,
            Method.TARGET_STATUS: self._target_status,
            **recovery.methods(self._target, self.rooms),
        }

    @property
    def targets(self) -> Collection[Target]:
        """All targets."""
        return self._targets.values()

    def add(self, target: Target) -> None:
        """Answer for *target* from now on."""
        self._targets[target.target_id] = target
        self._of_chain.setdefault(target.replica.chain.chain_id, []).append(target)

    def remove(self, target: Target) -> None:
        """Answer for *target* no more."""
        del self._targets[target.target_id]
        chain_id = target.replica.chain.chain_id
        self._of_chain[chain_id].remove(target)
        if not self._of_chain[chain_id]:
            del self._of_chain[chain_id]

    @property
    def refused(self) -> int:
        """Greetings, and calls without one, that were refused."""
        return self._gate.refused

    async def handle(self, request: IncomingRequest) -> Answer:
        """Answer one request."""
        method = self._methods.get(request.method)
        if method is None:
            raise ProtocolError(f"method {request.method} is not known here")
        if request.method not in (Method.HELLO, Method.AUTHENTICATE):
            self._gate.check(request)
        answer = await method(request)
        if request.method in _FINDINGS and not self._may_serve():
            # Asked after the finding: had the lease ended before it, it would have ended now.
            if request.method == Method.LOCATE:
                self._passed[request.peer_id].undo()
            raise self._fenced()
        return answer

    def _fenced(self) -> UnavailableError:
        return UnavailableError(
            f"storage node {self._node_id} has not heard of its manager for too long to serve"
        )

    def peer_gone(self, peer_id: int) -> None:
        """Take back what a connection held."""
        self._reservations.release_all(peer_id)
        self._passed.pop(peer_id, None)
        self._gate.peer_gone(peer_id)

    def _target(self, chain_id: int, target_id: int = 0) -> Target:
        """The target that a request is for. Raises UnavailableError."""
        if not self._may_serve():
            raise self._fenced()
        targets = self._of_chain.get(chain_id, ())
        for target in targets:
            if target.target_id == target_id or (not target_id and len(targets) == 1):
                return target
        if not targets or target_id:
            raise UnavailableError(
                f"storage node {self._node_id} has no target {target_id or ''} of chain {chain_id}"
            )
        return min(targets, key=_place_in_chain)

    async def _hello(self, request: IncomingRequest) -> Answer:
        answer = self._gate.hello(request)
        self._passed.setdefault(request.peer_id, PassedFiles())
        return answer

    async def _authenticate(self, request: IncomingRequest) -> Answer:
        return self._gate.authenticate(request)

    # Blocks for clients on this host

    async def _reserve(self, request: IncomingRequest) -> Answer:
        message = decode(ReserveRequest, request.header)
        if not request.shares_files:
            raise InvalidArgumentError("blocks are reserved over connections that pass descriptors")
        if len(message.lengths) > BATCH_ITEMS_MAX:
            raise InvalidArgumentError(f"{len(message.lengths)} blocks at once")
        target = self._target(message.chain_id)
        target.replica.check_version(message.chain_version)
        ids: list[int] = []
        places = []
        files = self._passed[request.peer_id]
        files.begin()
        try:
            for length in message.lengths:
                block = target.store.reserve(length)
                ids.append(self._reservations.add(request.peer_id, target.store, block))
                places.append(files.place(target, block))
        except BaseException:
            files.undo()
            for number in ids:
                self._reservations.release(request.peer_id, number)
            raise
        reply = ReserveReply(tuple(ids), tuple(places), files.new_keys())
        return Answer(encode(reply), files.descriptors())

    async def _release(self, request: IncomingRequest) -> Answer:
        message = decode(ReleaseRequest, request.header)
        for number in message.reservation_ids:
            self._reservations.release(request.peer_id, number)
        return _answer(ReserveReply((), ()))

    # Updates

    async def _update(self, request: IncomingRequest) -> Answer:
        message = decode(UpdateRequest, request.header)
        if len(message.updates) > BATCH_ITEMS_MAX:
            raise InvalidArgumentError(f"{len(message.updates)} updates at once")
        if len(message.updates) == 1:
            return _answer(UpdateReply((await self._update_one(request, message.updates[0]),)))
        results = await asyncio.gather(
            *(self._update_one(request, update) for update in message.updates)
        )
        return _answer(UpdateReply(tuple(results)))

    async def _update_one(self, request: IncomingRequest, update: Update) -> UpdateResult:
        try:
            target = self._target(update.chain_id, update.target_id)
            if update.reservation_id:
                reply = await self._update_reserved(request, target, update)
            elif update.buffer >= 0:
                reply = await self._update_pulled(request, target, update)
            else:
                reply = await target.update(update)
        except CraqenError as error:
            return UpdateResult(status_of(error))
        return UpdateResult(_OK, reply.version, reply.length_bytes, reply.crc32c)

    async def _update_reserved(
        self, request: IncomingRequest, target: Target, update: Update
    ) -> Reply:
        peer_id = request.peer_id
        reservation = self._reservations.take(peer_id, update.reservation_id, target.store)
        try:
            check_replace(update, reservation.block)
            return await target.update(
                update,
                block=reservation.block,
                on_adopted=lambda: self._reservations.adopted(peer_id, update.reservation_id),
            )
        finally:
            self._reservations.unused(peer_id, update.reservation_id)

    async def _update_pulled(
        self, request: IncomingRequest, target: Target, update: Update
    ) -> Reply:
        lengths = request.send_lengths
        if update.buffer >= len(lengths) or lengths[update.buffer] != update.length_bytes:
            raise InvalidArgumentError("an update whose bytes were not offered")
        end = update.offset_bytes + update.length_bytes
        if update.offset_bytes < 0 or end > CHUNK_CLASS_BYTES_MAX:
            raise InvalidArgumentError(f"an update up to byte {end} of a chunk")
        room = self.rooms.received(target.replica.view.successors)
        await room.enter(update.length_bytes)
        try:
            buffer = self.rooms.buffers.take(update.length_bytes)
            try:
                sums = PageSummer() if update.kind == UpdateKind.REPLACE else None
                taken = None if sums is None else sums.update
                await request.pull(update.buffer, buffer.view, taken)
                return await target.update(update, buffer.view, sums=sums)
            finally:
                buffer.give_back()
        finally:
            room.leave(update.length_bytes)

    # Reads

    def _seen(self, item: ChunkRange) -> tuple[Target, ChunkId, ChunkVersion | None, bool]:
        """The version that a read sees, and whether the tail need not be asked."""
        target = self._target(item.chain_id)
        replica = target.replica
        replica.check_version(item.chain_version)
        if not replica.view.is_serving:
            raise UnavailableError(f"target {target.target_id} does not serve")
        target.check_open()
        chunk_id = ChunkId(item.segment_id, item.chunk_index)
        content, certain = replica.committed(chunk_id)
        return target, chunk_id, content, certain or item.relaxed

    async def _told(
        self, target: Target, chunk_id: ChunkId, chain_version: int
    ) -> ChunkVersion | None:
        """The version that a read sees, by the tail's word."""
        version = await self._ask_tail(target, chunk_id)
        target.replica.check_version(chain_version)
        return target.replica.version_told(chunk_id, version)

    async def _read(self, request: IncomingRequest) -> Answer:
        message = decode(ReadRequest, request.header)
        if len(message.ranges) > len(request.receive_lengths):
            raise InvalidArgumentError("a read without a buffer for each range")
        results = await asyncio.gather(
            *(self._read_one(request, number, item) for number, item in enumerate(message.ranges))
        )
        return _answer(ReadReply(tuple(results)))

    async def _read_one(
        self, request: IncomingRequest, number: int, item: ChunkRange
    ) -> ReadResult:
        try:
            target, chunk_id, content, certain = self._seen(item)
            if not certain:
                content = await self._told(target, chunk_id, item.chain_version)
            if content is None:
                return ReadResult(_OK)
            wanted = min(item.length_bytes, request.receive_lengths[number])
            length = max(0, min(wanted, content.length_bytes - item.offset_bytes))
            room = self.rooms.read
            await room.enter(length)
            try:
                buffer = self.rooms.buffers.take(length)
                try:
                    if length:
                        await target.read(content, chunk_id, item.offset_bytes, buffer.view)
                    await request.push(number, buffer.view)
                    crc = crc32c(buffer.view)
                finally:
                    buffer.give_back()
            finally:
                room.leave(length)
            return ReadResult(_OK, content.version, length, crc)
        except CraqenError as error:
            return ReadResult(status_of(error))

    async def _locate(self, request: IncomingRequest) -> Answer:
        message = decode(LocateRequest, request.header)
        if not request.shares_files:
            raise InvalidArgumentError("places are told over connections that pass descriptors")
        found: list[tuple[Target, ChunkVersion | None] | CraqenError] = []
        for item in message.ranges:
            try:
                target, chunk_id, content, certain = self._seen(item)
                if not certain:
                    content = await self._told(target, chunk_id, item.chain_version)
                found.append((target, content))
            except CraqenError as error:
                found.append(error)
        files = self._passed[request.peer_id]
        files.begin()
        located = tuple([_located(one, files) for one in found])
        reply = LocateReply(located, self._lease_seconds, files.new_keys())
        return Answer(encode(reply), files.descriptors())

    # Inventory

    async def _list_chunks(self, request: IncomingRequest) -> Answer:
        message = decode(ListChunksRequest, request.header)
        target = self._target(message.chain_id, message.target_id)
        limit = max(1, min(message.limit, BATCH_ITEMS_MAX))
        begin = ChunkId(message.segment_id, message.chunk_index)
        records = target.store.scan(begin, limit + 1)
        more = len(records) > limit
        damaged = [
            chunk_id
            for chunk_id in target.store.damaged()
            if chunk_id >= begin and not (more and chunk_id >= records[limit].chunk_id)
        ]
        damaged += [record.chunk_id for record in records[:limit] if record.lost]
        chunks = tuple([_summary(record) for record in records[:limit]])
        return _answer(ListChunksReply(chunks, more, tuple(sorted(damaged)[:BATCH_ITEMS_MAX])))

    async def _committed_version(self, request: IncomingRequest) -> Answer:
        message = decode(CommittedVersionRequest, request.header)
        target = self._target(message.chain_id, message.target_id)
        target.replica.check_version(message.chain_version)
        target.check_open()
        content, certain = target.replica.committed(
            ChunkId(message.segment_id, message.chunk_index)
        )
        if not certain:
            raise UnavailableError(f"target {target.target_id} is not the tail")
        return _answer(CommittedVersionReply(0 if content is None else content.version))

    async def _target_status(self, request: IncomingRequest) -> Answer:
        statuses = []
        for target in self.targets:
            space = target.store.space()
            statuses.append(
                TargetStatus(
                    target.target_id,
                    target.replica.chain.chain_id,
                    space.capacity_bytes,
                    space.free_bytes,
                    space.used_bytes,
                    space.chunks,
                    space.blocks_used,
                    space.blocks_reserved,
                    space.blocks_quarantined,
                )
            )
        return _answer(TargetStatusReply(tuple(statuses)))


def _place_in_chain(target: Target) -> tuple[bool, int]:
    """Serving ones first, the head before all."""
    view = target.replica.view
    ids = [one.target_id for one in view.chain.targets]
    return not view.is_serving, ids.index(target.target_id)


def _answer(message: Message) -> Answer:
    return Answer(encode(message))


def _summary(record: ChunkRecord) -> ChunkSummary:
    committed = record.committed
    pending = 0 if record.pending is None else record.pending.version
    if record.lost:
        return ChunkSummary(*record.chunk_id, 0, 0, 0, 0, 0)
    if committed is None:
        return ChunkSummary(*record.chunk_id, 0, 0, pending or 1, 0, 0)
    if record.pending_remove is not None:
        pending = committed.version + 1
    return ChunkSummary(
        *record.chunk_id,
        committed.chain_version,
        committed.version,
        pending,
        committed.length_bytes,
        committed.crc32c,
    )


def _located(one: tuple[Target, ChunkVersion | None] | CraqenError, files: PassedFiles) -> Located:
    if isinstance(one, CraqenError):
        return Located(status_of(one))
    target, content = one
    if content is None:
        return _ABSENT
    try:
        place = files.place(target, content.block)
    except CraqenError as error:
        return Located(status_of(error))
    return Located(
        _OK,
        content.version,
        content.length_bytes,
        content.crc32c,
        content.page_crcs,
        place,
    )
