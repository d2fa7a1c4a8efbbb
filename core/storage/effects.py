"""DRIVER: carries out what a target's replica machine wants, on the chunk store, the worker threads
and the other targets of the chain."""

from __future__ import annotations

import asyncio
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from ..chunks.content import Draft, NewContent, content_of, plan_replace
from ..chunks.integrity import BlockContent
from ..chunks.store import (
    Block,
    ChunkRecord,
    ChunkStore,
    ChunkVersion,
    Install,
    Stage,
)
from ..cluster.records import ChainRecord
from ..craq.events import (
    Acknowledged,
    Effect,
    Event,
    Fetch,
    Fetched,
    FetchFailed,
    Forward,
    ForwardFailed,
    Persist,
    Persisted,
    PersistFailed,
    Prepare,
    Prepared,
    PrepareFailed,
    Reply,
    RetryForward,
)
from ..craq.replica import Replica
from ..errors import (
    ChecksumMismatchError,
    CraqenError,
    DataLossError,
    DiskError,
    NoSpaceError,
    UnavailableError,
)
from ..ids import ChunkId, UpdateToken
from ..limits import KIB
from ..wire.messages import UpdateResult
from .peer_calls import PeerCalls
from .rooms import Rooms
from .transfers import Transfers
from .work import Work, draft_of

INLINE_WORK_BYTES_MAX = 128 * KIB  # above it a thread costs less than holding up the event loop
FORWARD_RETRY_SECONDS = (0.02, 0.1, 0.5, 1.0)
NO_SPACE_SECONDS = 2 * FORWARD_RETRY_SECONDS[-1]

T = TypeVar("T")

_log = logging.getLogger("craqen.storage")


class EffectRunner(ABC):
    """A target's machine and everything that it acts on. What is asked of it is in target.py."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        store: ChunkStore,
        executor: Executor,
        rooms: Rooms,
        peers: PeerCalls,
    ) -> None:
        self.target_id = target_id
        self.store = store
        self.offline: DiskError | None = None
        """Why nothing is taken, nor read by clients: a disk operation failed."""
        self.replica = Replica(target_id, chain, self._lookup, store.outcome)
        self._executor = executor
        self._rooms = rooms
        self._transfers = Transfers(chain.chain_id, rooms, peers, self._read_whole)
        self._loop = asyncio.get_running_loop()
        self._requests = itertools.count(1)
        self._work: dict[int, Work] = {}
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        """Who waits for what is no update."""
        self._no_space_until = 0.0
        """Until when a successor counts as full: a while after it last refused an update so."""
        self._settled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: set[asyncio.Task[None]] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._stopped = False

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
        except DataLossError:
            self.found_damaged(chunk_id, content.version)
            raise
        except DiskError as error:
            raise self._unavailable(self._as_craqen(error)) from error

    async def _read_whole(
        self, content: ChunkVersion, chunk_id: ChunkId, into: memoryview, as_it_is: bool
    ) -> None:
        """All bytes of a version, for another target."""
        if not as_it_is:
            await self.read(content, chunk_id, 0, into)
            return
        try:
            source = content_of(self.store, chunk_id, content)
            await self._in_thread(lambda: source.read_unverified(into))
        except DiskError as error:
            raise self._unavailable(self._as_craqen(error)) from error

    @property
    def is_busy(self) -> bool:
        """Whether clients or other targets wait for something here."""
        return bool(self._work) or bool(self._jobs)

    def disk_failed(self, error: DiskError) -> None:
        """A disk operation failed: take no more updates."""
        self._as_craqen(error)

    @abstractmethod
    def found_damaged(self, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version are damaged, or (0) the chunk's index record."""

    def _lookup(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """For the machine: the chunk's record. Raises DataLossError."""
        try:
            return self.store.get(chunk_id)
        except DataLossError:
            self.found_damaged(chunk_id, 0)
            raise

    # Effects

    def _step(self, event: Event) -> list[Effect]:
        """Give the machine an event and carry out what it wants, which is returned."""
        if self._stopped:
            return []
        effects = self.replica.step(event)
        for effect in effects:
            self._carry_out(effect)
        return effects

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Reply):
            self._reply(effect)
        elif isinstance(effect, Prepare):
            self._prepare(effect)
        elif isinstance(effect, Persist):
            self._spawn(self._persist(effect), self._flushes)
        elif isinstance(effect, Forward):
            self._spawn(self._forward(effect), self._tasks)
        elif isinstance(effect, Fetch):
            self._spawn(self._fetch(effect), self._tasks)
        else:
            self._retry_later(effect.request_id, effect.attempt)

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
        asked = self._asked.pop(effect.request_id, None)
        if asked is not None and not asked.done():
            asked.set_result(effect)
        work = self._work.pop(effect.request_id, None)
        if work is None:
            return
        if work.fresh_block is not None and not work.adopted:
            self.store.release(work.fresh_block)
        work.data = None
        if work.read_back is not None:
            work.read_back.give_back()
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
            draft = draft_of(self.store, work, effect.base)
            if draft.fresh_block:
                work.fresh_block = draft.block
            if draft.work_bytes > INLINE_WORK_BYTES_MAX:
                self._spawn(self._write_draft(work, effect, draft), self._tasks)
                return
            made = draft.write()
        except (CraqenError, OSError) as error:
            self._prepare_failed(work, effect, error)
            return
        self._made(work, effect, made)

    def _prepare_failed(self, work: Work, effect: Prepare, error: Exception) -> None:
        if isinstance(error, DataLossError) and effect.base is not None:
            chunk_id = ChunkId(work.update.segment_id, work.update.chunk_index)
            self.found_damaged(chunk_id, effect.base.version)
        self._step(PrepareFailed(effect.request_id, self._as_craqen(error)))

    async def _write_draft(self, work: Work, effect: Prepare, draft: Draft) -> None:
        try:
            made = await self._in_thread(draft.write)
        except (CraqenError, OSError) as error:
            self._prepare_failed(work, effect, error)
            return
        self._made(work, effect, made)

    async def _read_back(self, work: Work, block: Block, effect: Prepare) -> None:
        """A client says that it has filled *block*. What it says is forwarded only if it is so: a
        lie must not become a pending version, which nobody could settle."""
        update = work.update
        room = self._rooms.read_back(self.replica.view.successors)
        await room.enter(update.length_bytes)
        work.room = room
        work.read_back = self._rooms.buffers.take(update.length_bytes)
        data = work.read_back.view
        chunk_id = ChunkId(update.segment_id, update.chunk_index)
        try:
            source = BlockContent(
                chunk_id,
                self.store.open_file(block.file_id),
                block.offset_bytes,
                update.length_bytes,
                update.page_crcs,
                update.crc32c,
                self.store.open_direct(block.file_id),
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
        try:
            result = await self._sent(effect)
        except CraqenError as error:
            self._forward_failed(effect, error)
        except Exception as error:
            _log.exception("target %d: an update could not be forwarded", self.target_id)
            self._forward_failed(effect, UnavailableError(f"internal: {error}"))
        else:
            self._step(
                Acknowledged(
                    effect.request_id,
                    effect.attempt,
                    result.version,
                    result.length_bytes,
                    result.crc32c,
                )
            )

    def _forward_failed(self, effect: Forward, error: CraqenError) -> None:
        if isinstance(error, NoSpaceError):
            # The update that was refused is repeated more often than this.
            self._no_space_until = self._loop.time() + NO_SPACE_SECONDS
        self._step(ForwardFailed(effect.request_id, effect.attempt, error))
        self._retry_later(effect.request_id, effect.attempt)

    def _retry_later(self, request_id: int, attempt: int) -> None:
        number = min(attempt, len(FORWARD_RETRY_SECONDS)) - 1
        retry = RetryForward(request_id, attempt)
        self._loop.call_later(FORWARD_RETRY_SECONDS[number], self._step, retry)

    async def _sent(self, effect: Forward) -> UpdateResult:
        if effect.content is None:
            return await self._transfers.send_removal(effect)
        work = self._work.get(effect.request_id)
        # Read back from our block already: that is the whole content.
        if work is not None and (not effect.whole or work.room is not None):
            return await self._transfers.send_as_it_came(effect, work.update, work.data)
        successors = self.replica.view.successors
        return await self._transfers.send_whole(effect, effect.content, successors)

    async def _fetch(self, effect: Fetch) -> None:
        """Get a chunk from another replica into a new block."""
        block: Block | None = None
        length = 0
        try:
            found = await self._transfers.fetch(effect)
            content = None
            if found is not None:
                reply, data = found
                length = reply.length_bytes
                draft = plan_replace(self.store, data)
                block = draft.block
                made = await self._in_thread(draft.write)
                token = UpdateToken(reply.client_id, reply.channel, reply.sequence)
                content = made.version(reply.version, effect.chain_version, token)
            event: Event = Fetched(effect.request_id, content)
        except (CraqenError, OSError) as error:
            event = FetchFailed(effect.request_id, self._as_craqen(error))
        except Exception as error:
            _log.exception("target %d: a chunk could not be fetched", self.target_id)
            event = FetchFailed(effect.request_id, UnavailableError(f"internal: {error}"))
        finally:
            self._rooms.fetched.leave(length)
        effects = self._step(event)
        if block is not None and not any(_takes(one, block) for one in effects):
            self.store.release(block)

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


def _takes(effect: Effect, block: Block) -> bool:
    """Whether *effect* makes the block the index's."""
    return isinstance(effect, Persist) and any(
        isinstance(change, Install | Stage) and change.content.block == block
        for change in effect.changes
    )
