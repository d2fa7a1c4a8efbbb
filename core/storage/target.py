"""DRIVER: runs one target: the replica machine's effects on the chunk store, the worker threads and
the successor."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from ..checksum import crc32c
from ..chunks.content import (
    Draft,
    NewContent,
    content_of,
    plan_replace,
    plan_truncate,
    plan_write,
)
from ..chunks.integrity import BlockContent
from ..chunks.store import Block, ChunkStore, ChunkVersion
from ..cluster.records import ChainRecord
from ..craq.events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Forward,
    ForwardFailed,
    GiveUp,
    PendingFound,
    Persist,
    Persisted,
    PersistFailed,
    Prepare,
    Prepared,
    PrepareFailed,
    Reply,
    RetryForward,
    UpdateAsked,
)
from ..craq.replica import Replica
from ..errors import (
    ChecksumMismatchError,
    CraqenError,
    DataLossError,
    DiskError,
    InvalidArgumentError,
    UnavailableError,
)
from ..ids import ChunkId, UpdateToken
from ..limits import CHECKSUM_PAGE_BYTES, KIB
from ..wire.messages import Update, UpdateKind, UpdateResult
from .rooms import Room, Rooms

INLINE_WORK_BYTES_MAX = 128 * KIB  # above it a thread costs less than holding up the event loop
FORWARD_RETRY_SECONDS = (0.02, 0.1, 0.5, 1.0)
UPDATE_DEADLINE_SECONDS = 15.0  # below the client's call timeout, so that it hears why
SCAN_PAGE = 1000

T = TypeVar("T")

_log = logging.getLogger("craqen.storage")

Sender = Callable[[int, Update, memoryview | None], Awaitable[UpdateResult]]
"""Sends a forwarded update (with its bytes) to a target; raises CraqenError."""


@dataclass(slots=True)
class Work:
    """What the driver keeps for a request: the update as it came, its bytes or its block, who
    waits."""

    update: Update
    data: memoryview | None
    block: Block | None
    answer: asyncio.Future[Reply]
    fresh_block: Block | None = None
    """Reserved for this request by the target itself; given back if it comes to nothing."""
    on_adopted: Callable[[], None] | None = None
    """Told once the block given with the request belongs to the index."""
    adopted: bool = False
    room: Room | None = None
    """Where the bytes that were read back from ``block`` to be forwarded have their place."""


class Target:
    """One target of this node."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        store: ChunkStore,
        executor: Executor,
        rooms: Rooms,
        send: Sender,
    ) -> None:
        self.target_id = target_id
        self.store = store
        self.offline: DiskError | None = None
        """Why no updates are taken: a disk operation failed. Reads go on, each at its own risk."""
        self.replica = Replica(target_id, chain, store.get, store.outcome)
        self._executor = executor
        self._rooms = rooms
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._requests = itertools.count(1)
        self._work: dict[int, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: set[asyncio.Task[None]] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._stopped = False

    def settle_pending(self) -> None:
        """Carry on with every pending version that the index holds: at start, and when the target
        begins to serve."""
        position = ChunkId(0, 0)
        while True:
            records = self.store.scan(position, SCAN_PAGE)
            for record in records:
                if record.pending is not None or record.pending_remove is not None:
                    self._step(PendingFound(next(self._requests), record.chunk_id))
            if len(records) < SCAN_PAGE:
                return
            last = records[-1].chunk_id
            position = ChunkId(last.segment_id, last.index + 1)

    def chain_changed(self, chain: ChainRecord) -> None:
        """The routing table has another version of the chain."""
        served_before = self.replica.view.is_serving
        self._step(ChainChanged(chain))
        if self.replica.view.is_serving and not served_before:
            self.settle_pending()

    async def update(
        self,
        update: Update,
        data: memoryview | None = None,
        block: Block | None = None,
        on_adopted: Callable[[], None] | None = None,
    ) -> Reply:
        """Carry out one update; *block* is the reserved one that holds its bytes; *on_adopted* is
        called when that has become the index's. Raises CraqenError.

        The reply tells the version made.
        """
        if self._stopped:
            raise UnavailableError("the storage process stops")
        if self.offline is not None:
            raise self._unavailable(self.offline)
        if data is not None and crc32c(data) != update.crc32c:
            raise ChecksumMismatchError(
                f"chunk {update.segment_id:x}.{update.chunk_index}: the bytes received have "
                f"another checksum than stated"
            )
        request_id = next(self._requests)
        work = Work(update, data, block, self._loop.create_future(), on_adopted=on_adopted)
        self._work[request_id] = work
        event = UpdateAsked(
            request_id,
            ChunkId(update.segment_id, update.chunk_index),
            update.chain_version,
            update.kind,
            UpdateToken(update.client_id, update.channel, update.sequence),
            update.version,
        )
        timer = self._loop.call_later(UPDATE_DEADLINE_SECONDS, self._step, GiveUp(request_id))
        try:
            self._step(event)
            reply = await asyncio.shield(work.answer)
        finally:
            timer.cancel()
        if isinstance(reply.error, DiskError):
            raise self._unavailable(reply.error)
        if reply.error is not None:
            raise reply.error
        return reply

    async def read(
        self, content: ChunkVersion, chunk_id: ChunkId, offset: int, into: memoryview
    ) -> None:
        """Fill *into* with verified bytes of a version. Raises DataLossError; UnavailableError if
        the disk fails."""
        try:
            source = content_of(self.store, chunk_id, content)
            if into.nbytes <= INLINE_WORK_BYTES_MAX:
                source.read_into(offset, into)
            else:
                await self._in_thread(lambda: source.read_into(offset, into))
        except DiskError as error:
            raise self._unavailable(self._as_craqen(error)) from error

    def stop(self) -> None:
        """Take nothing more; who waits is told so."""
        self._stopped = True
        for work in self._work.values():
            if not work.answer.done():
                work.answer.set_exception(UnavailableError("the storage process stops"))
                work.answer.exception()  # asked for, so that nobody complains if nobody waits

    async def close(self) -> None:
        """Stop, let disk work that is under way end, then close the store.

        Raises DiskError, NoSpaceError if what was left could not be flushed.
        """
        self.stop()
        for task in self._tasks:
            task.cancel()
        # Threads write through descriptors of the store: their numbers must not be free before.
        while pending := [*self._tasks, *self._flushes, *self._jobs]:
            await asyncio.wait(pending)
        await self.store.close()

    # Effects

    def _step(self, event: Event) -> None:
        if self._stopped:
            return
        for effect in self.replica.step(event):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Reply):
            self._reply(effect)
        elif isinstance(effect, Prepare):
            self._prepare(effect)
        elif isinstance(effect, Persist):
            self._spawn(self._persist(effect), self._flushes)
        else:
            self._spawn(self._forward(effect), self._tasks)

    def _spawn(self, work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run blocking work. It goes on to its end also when the caller is cancelled."""
        job = self._loop.run_in_executor(self._executor, function)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return await asyncio.shield(job)

    def _reply(self, effect: Reply) -> None:
        work = self._work.pop(effect.request_id, None)
        if work is None:
            return
        if work.fresh_block is not None and not work.adopted:
            self.store.release(work.fresh_block)
        if work.room is not None:
            work.room.leave(work.update.length_bytes)
        if not work.answer.done():
            work.answer.set_result(effect)

    def _prepare(self, effect: Prepare) -> None:
        """Choose the new content's place, and make it: at once if it is small."""
        work = self._work[effect.request_id]
        if work.block is not None:
            if self.replica.view.successors:
                self._spawn(self._read_back(work, work.block, effect), self._tasks)
            else:
                self._made_in_place(work, work.block, effect)
            return
        try:
            draft = self._draft(work, effect.base)
            if draft.fresh_block:
                work.fresh_block = draft.block
            if draft.work_bytes > INLINE_WORK_BYTES_MAX:
                self._spawn(self._write_draft(work, effect, draft), self._tasks)
                return
            made = draft.write()
        except (CraqenError, OSError) as error:
            self._step(PrepareFailed(effect.request_id, self._as_craqen(error)))
            return
        self._made(work, effect, made)

    def _draft(self, work: Work, base: ChunkVersion | None) -> Draft:
        update, data = work.update, work.data
        chunk_id = ChunkId(update.segment_id, update.chunk_index)
        if update.kind == UpdateKind.TRUNCATE:
            return plan_truncate(self.store, chunk_id, base, update.length_bytes)
        if data is None:
            raise InvalidArgumentError(f"chunk {chunk_id}: an update without its bytes")
        if update.kind == UpdateKind.REPLACE:
            return plan_replace(self.store, data)
        return plan_write(self.store, chunk_id, base, update.offset_bytes, data)

    async def _write_draft(self, work: Work, effect: Prepare, draft: Draft) -> None:
        try:
            made = await self._in_thread(draft.write)
        except (CraqenError, OSError) as error:
            self._step(PrepareFailed(effect.request_id, self._as_craqen(error)))
            return
        self._made(work, effect, made)

    async def _read_back(self, work: Work, block: Block, effect: Prepare) -> None:
        """A client says that it has filled *block*. What it says is forwarded only if it is so: a
        lie must not become a pending version, which nobody could settle."""
        update = work.update
        room = self._rooms.read_back(self.replica.view.successors)
        await room.enter(update.length_bytes)
        work.room = room
        data = memoryview(bytearray(update.length_bytes))
        chunk_id = ChunkId(update.segment_id, update.chunk_index)
        try:
            source = BlockContent(
                chunk_id,
                self.store.open_file(block.file_id),
                block.offset_bytes,
                update.length_bytes,
                update.page_crcs,
                update.crc32c,
            )
            await self._in_thread(lambda: source.read_into(0, data))
        except DataLossError as error:
            lie = ChecksumMismatchError(f"the block was not filled with what was stated: {error}")
            self._step(PrepareFailed(effect.request_id, lie))
            return
        except (CraqenError, OSError) as error:
            self._step(PrepareFailed(effect.request_id, self._as_craqen(error)))
            return
        work.data = data
        self._made_in_place(work, block, effect)

    def _made_in_place(self, work: Work, block: Block, effect: Prepare) -> None:
        update = work.update
        made = NewContent(block, update.length_bytes, update.crc32c, update.page_crcs)
        self._made(work, effect, made)

    def _made(self, work: Work, effect: Prepare, made: NewContent) -> None:
        update = work.update
        token = UpdateToken(update.client_id, update.channel, update.sequence)
        content = made.version(effect.version, effect.chain_version, token)
        self._step(Prepared(effect.request_id, content))

    async def _persist(self, effect: Persist) -> None:
        work = self._work.get(effect.request_id)
        if work is not None:
            # From here on the index has the block, whatever comes.
            work.adopted = True
            if work.on_adopted is not None:
                work.on_adopted()
                work.on_adopted = None
        try:
            await self.store.apply(effect.changes, durable=effect.durable)
        except CraqenError as error:
            self._step(PersistFailed(effect.request_id, self._as_craqen(error)))
        except Exception as error:
            _log.exception("target %d: a change of the index failed", self.target_id)
            self._step(PersistFailed(effect.request_id, UnavailableError(f"internal: {error}")))
        else:
            self._step(Persisted(effect.request_id))

    async def _forward(self, effect: Forward) -> None:
        work = self._work.get(effect.request_id)
        try:
            # Read back from our block already: that is the whole content.
            at_hand = work is not None and (not effect.whole or work.room is not None)
            if effect.content is None or at_hand:
                result = await self._send_as_it_came(effect, work)
            else:
                result = await self._send_whole(effect, effect.content)
        except CraqenError as error:
            self._forward_failed(effect, error)
        except Exception as error:
            _log.exception("target %d: an update could not be forwarded", self.target_id)
            self._forward_failed(effect, UnavailableError(f"internal: {error}"))
        else:
            self._step(
                Acknowledged(effect.request_id, result.version, result.length_bytes, result.crc32c)
            )

    def _forward_failed(self, effect: Forward, error: CraqenError) -> None:
        number = min(effect.attempt, len(FORWARD_RETRY_SECONDS)) - 1
        self._step(ForwardFailed(effect.request_id, effect.attempt, error))
        retry = RetryForward(effect.request_id, effect.attempt)
        self._loop.call_later(FORWARD_RETRY_SECONDS[number], self._step, retry)

    async def _send_as_it_came(self, effect: Forward, work: Work | None) -> UpdateResult:
        """The update that was asked for; a removal also when nobody asks (any more)."""
        if effect.content is None or work is None:
            return await self._send_update(effect, UpdateKind.REMOVE, None)
        update = work.update
        return await self._send_update(
            effect,
            update.kind,
            work.data,
            update.offset_bytes,
            update.length_bytes,
            update.crc32c,
            update.page_crcs,
        )

    async def _send_whole(self, effect: Forward, content: ChunkVersion) -> UpdateResult:
        """The content as a REPLACE, read back from our block and verified."""
        length = content.length_bytes
        room = self._rooms.read_back(self.replica.view.successors)
        await room.enter(length)
        try:
            data = memoryview(bytearray(length))
            await self.read(content, effect.chunk_id, 0, data)
            return await self._send_update(
                effect, UpdateKind.REPLACE, data, 0, length, content.crc32c, content.page_crcs
            )
        finally:
            room.leave(length)

    async def _send_update(
        self,
        effect: Forward,
        kind: UpdateKind,
        data: memoryview | None,
        offset: int = 0,
        length: int = 0,
        crc: int = 0,
        page_crcs: bytes = b"",
    ) -> UpdateResult:
        chunk_id = effect.chunk_id
        message = Update(
            chunk_id.segment_id,
            chunk_id.index,
            self.replica.chain.chain_id,
            effect.chain_version,
            kind,
            offset,
            length,
            crc,
            *effect.token,
            buffer=-1 if data is None else 0,
            page_crcs=page_crcs,
            version=effect.version,
            syncing=effect.syncing,
        )
        return await self._send(effect.target_id, message, data)

    def _as_craqen(self, error: Exception) -> CraqenError:
        """*error* as one of ours; a disk error takes the target offline."""
        if isinstance(error, OSError):
            error = DiskError(f"target {self.target_id}: {error.strerror}")
        if isinstance(error, DiskError) and self.offline is None:
            self.offline = error
            _log.error("target %d goes offline: %s", self.target_id, error)
        assert isinstance(error, CraqenError)
        return error

    def _unavailable(self, error: CraqenError) -> UnavailableError:
        return UnavailableError(f"target {self.target_id} is offline: {error}")


def check_replace(update: Update, block: Block) -> None:
    """Raise InvalidArgumentError if a REPLACE by reservation contradicts itself."""
    pages = -(-update.length_bytes // CHECKSUM_PAGE_BYTES)
    if update.kind != UpdateKind.REPLACE or update.length_bytes > block.capacity_bytes:
        raise InvalidArgumentError("a reserved block is for a REPLACE that fits in it")
    if len(update.page_crcs) != 4 * pages:
        raise InvalidArgumentError(
            f"{len(update.page_crcs)} bytes of page checksums for {update.length_bytes} bytes"
        )
