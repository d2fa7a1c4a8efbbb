"""DRIVER: runs one target: the replica machine's effects on the chunk store, the worker threads and
the successor."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass

from ..checksum import crc32c
from ..chunks.content import (
    Draft,
    NewContent,
    content_of,
    plan_replace,
    plan_truncate,
    plan_write,
)
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
    DiskError,
    InvalidArgumentError,
    UnavailableError,
)
from ..ids import ChunkId, UpdateToken
from ..limits import CHECKSUM_PAGE_BYTES, KIB
from ..wire.messages import Update, UpdateKind, UpdateResult

INLINE_WORK_BYTES_MAX = 128 * KIB  # above it a thread costs less than holding up the event loop
FORWARD_RETRY_SECONDS = (0.02, 0.1, 0.5, 1.0)
UPDATE_DEADLINE_SECONDS = 15.0  # below the client's call timeout, so that it hears why
SCAN_PAGE = 1000

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
    retries: int = 0


class Target:
    """One target of this node."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        store: ChunkStore,
        executor: Executor,
        send: Sender,
    ) -> None:
        self.target_id = target_id
        self.store = store
        self.offline: DiskError | None = None
        self.replica = Replica(target_id, chain, store.get, store.outcome)
        self._executor = executor
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._requests = itertools.count(1)
        self._work: dict[int, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def settle_pending(self) -> None:
        """At start: carry on with every pending version that the index holds."""
        position = ChunkId(0, 0)
        while True:
            records = self.store.scan(position, SCAN_PAGE)
            for record in records:
                if record.pending is not None or record.pending_remove is not None:
                    self._run(
                        self.replica.step(PendingFound(next(self._requests), record.chunk_id))
                    )
            if len(records) < SCAN_PAGE:
                return
            last = records[-1].chunk_id
            position = ChunkId(last.segment_id, last.index + 1)

    def chain_changed(self, chain: ChainRecord) -> None:
        """The routing table has another version of the chain."""
        self._run(self.replica.step(ChainChanged(chain)))

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
        self._raise_if_offline()
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
        timer = self._loop.call_later(
            UPDATE_DEADLINE_SECONDS, lambda: self._run(self.replica.step(GiveUp(request_id)))
        )
        try:
            self._run(self.replica.step(event))
            reply = await asyncio.shield(work.answer)
        finally:
            timer.cancel()
        if reply.error is not None:
            raise reply.error
        return reply

    async def read(
        self, content: ChunkVersion, chunk_id: ChunkId, offset: int, into: memoryview
    ) -> None:
        """Fill *into* with verified bytes of a version. Raises DataLossError."""
        source = content_of(self.store, chunk_id, content)
        if into.nbytes <= INLINE_WORK_BYTES_MAX:
            source.read_into(offset, into)
        else:
            await self._loop.run_in_executor(self._executor, source.read_into, offset, into)

    async def close(self) -> None:
        """Let what is under way end, then close the store."""
        for work in self._work.values():
            if not work.answer.done():
                work.answer.set_exception(UnavailableError("the storage process stops"))
                work.answer.exception()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    # Effects

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self._reply(effect)
            elif isinstance(effect, Prepare):
                self._prepare(effect)
            else:
                self._spawn(self._carry_out(effect))

    def _step(self, event: Event) -> None:
        self._run(self.replica.step(event))

    def _reply(self, effect: Reply) -> None:
        work = self._work.pop(effect.request_id, None)
        if work is None:
            return
        if work.fresh_block is not None and not work.adopted:
            self.store.release(work.fresh_block)
        if not work.answer.done():
            work.answer.set_result(effect)

    def _prepare(self, effect: Prepare) -> None:
        """Choose the new content's place, and make it: at once if it is small."""
        work = self._work[effect.request_id]
        if work.block is not None:
            update = work.update
            made = NewContent(work.block, update.length_bytes, update.crc32c, update.page_crcs)
            self._made(work, effect, made)
            return
        try:
            draft = self._draft(work, effect.base)
            if draft.fresh_block:
                work.fresh_block = draft.block
            if draft.work_bytes > INLINE_WORK_BYTES_MAX:
                self._spawn(self._write_draft(work, effect, draft))
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
            made = await self._loop.run_in_executor(self._executor, draft.write)
        except (CraqenError, OSError) as error:
            self._step(PrepareFailed(effect.request_id, self._as_craqen(error)))
            return
        self._made(work, effect, made)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, effect: Persist | Forward) -> None:
        if isinstance(effect, Persist):
            await self._persist(effect)
        else:
            assert isinstance(effect, Forward)
            await self._forward(effect)

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
            return
        self._step(Persisted(effect.request_id))

    async def _forward(self, effect: Forward) -> None:
        work = self._work.get(effect.request_id)
        try:
            update, data = await self._forwarded(effect, work)
            result = await self._send(effect.target_id, update, data)
        except CraqenError as error:
            self._step(ForwardFailed(effect.request_id, error))
            self._retry_later(effect.request_id, work)
            return
        self._step(
            Acknowledged(effect.request_id, result.version, result.length_bytes, result.crc32c)
        )

    async def _forwarded(
        self, effect: Forward, work: Work | None
    ) -> tuple[Update, memoryview | None]:
        """The update to send: as it came, or the whole content read back from our block and
        verified."""
        content, chunk_id = effect.content, effect.chunk_id
        kind, offset, length, crc, pages = UpdateKind.REMOVE, 0, 0, 0, b""
        data: memoryview | None = None
        if content is not None:
            original = None if work is None or effect.whole or work.block is not None else work
            if original is not None:
                update = original.update
                kind, offset, length = update.kind, update.offset_bytes, update.length_bytes
                crc, pages, data = update.crc32c, update.page_crcs, original.data
            else:
                kind, length = UpdateKind.REPLACE, content.length_bytes
                crc, pages = content.crc32c, content.page_crcs
                data = memoryview(bytearray(length))
                await self.read(content, chunk_id, 0, data)
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
            page_crcs=pages,
            version=effect.version,
            syncing=effect.syncing,
        )
        return message, data

    def _retry_later(self, request_id: int, work: Work | None) -> None:
        attempt = 0 if work is None else work.retries
        if work is not None:
            work.retries += 1
        delay = FORWARD_RETRY_SECONDS[min(attempt, len(FORWARD_RETRY_SECONDS) - 1)]
        self._loop.call_later(delay, lambda: self._step(RetryForward(request_id)))

    def _as_craqen(self, error: Exception) -> CraqenError:
        """*error* as one of ours; a disk error takes the target offline."""
        if isinstance(error, OSError):
            error = DiskError(f"target {self.target_id}: {error.strerror}")
        if isinstance(error, DiskError) and self.offline is None:
            self.offline = error
            _log.error("target %d goes offline: %s", self.target_id, error)
        assert isinstance(error, CraqenError)
        return error

    def _raise_if_offline(self) -> None:
        if self.offline is not None:
            raise UnavailableError(f"target {self.target_id} is offline: {self.offline}")


def check_replace(update: Update, block: Block) -> None:
    """Raise InvalidArgumentError if a REPLACE by reservation contradicts itself."""
    pages = -(-update.length_bytes // CHECKSUM_PAGE_BYTES)
    if update.kind != UpdateKind.REPLACE or update.length_bytes > block.capacity_bytes:
        raise InvalidArgumentError("a reserved block is for a REPLACE that fits in it")
    if len(update.page_crcs) != 4 * pages:
        raise InvalidArgumentError(
            f"{len(update.page_crcs)} bytes of page checksums for {update.length_bytes} bytes"
        )
