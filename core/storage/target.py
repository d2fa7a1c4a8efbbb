"""DRIVER: runs one target: the replica machine's effects on the chunk store, the worker threads and
the successor."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from ..chunks.content import Draft, NewContent, content_of, plan_replace
from ..chunks.integrity import BlockContent
from ..chunks.store import (
    Block,
    ChunkRecord,
    ChunkStore,
    ChunkVersion,
    Install,
    Stage,
    TokenOutcome,
)
from ..cluster.records import ChainRecord
from ..craq.events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Fetch,
    Fetched,
    FetchFailed,
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
    RepairChunk,
    Reply,
    RetryForward,
    SyncChunk,
    SyncFinished,
    SyncStarted,
)
from ..craq.replica import Replica
from ..craq.resync import Difference, Page, page_of
from ..craq.seen import SyncMark
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
from ..wire.messages import Update, UpdateResult
from .rooms import Rooms
from .transfers import PeerCalls, Transfers
from .work import Work, check_bytes, draft_of, event_of

INLINE_WORK_BYTES_MAX = 128 * KIB  # above it a thread costs less than holding up the event loop
FORWARD_RETRY_SECONDS = (0.02, 0.1, 0.5, 1.0)
UPDATE_DEADLINE_SECONDS = 15.0  # below the client's call timeout, so that it hears why
SCAN_PAGE = 1000

T = TypeVar("T")

_log = logging.getLogger("craqen.storage")


class DamageSink(Protocol):
    """Who is told of damaged chunks, and mends them."""

    def noted(self, target: Target, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version were found damaged, or (0) the chunk's index record."""
        ...

    def may_mend(self, target: Target, chunk_id: ChunkId) -> bool:
        """Whether that is worth waiting for."""
        ...


class Target:
    """One target of this node."""

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
        self.damage: DamageSink | None = None
        self.offline: DiskError | None = None
        """Why no updates are taken: a disk operation failed. Reads go on, each at its own risk."""
        self.replica = Replica(target_id, chain, self._lookup, store.outcome)
        self._executor = executor
        self._rooms = rooms
        self._transfers = Transfers(chain.chain_id, rooms, peers, self._read_whole)
        self._loop = asyncio.get_running_loop()
        self._requests = itertools.count(1)
        self._work: dict[int, Work] = {}
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        """Who waits for what is no update."""
        self._settled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushes: set[asyncio.Task[None]] = set()
        self._jobs: set[asyncio.Future[Any]] = set()
        self._stopped = False

    def settle_pending(self) -> None:
        """Carry on with every pending version that the index holds: at start (before it no update
        is taken: it could overtake a pending one of its channel), and when the target begins to
        serve."""
        self._settled = True
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
        self._check_open()
        if data is not None:
            check_bytes(update, data)
        request_id = next(self._requests)
        work = Work(update, data, block, self._loop.create_future(), on_adopted=on_adopted)
        self._work[request_id] = work
        timer = self._loop.call_later(UPDATE_DEADLINE_SECONDS, self._step, GiveUp(request_id))
        try:
            self._step(event_of(request_id, update))
            reply = await asyncio.shield(work.answer)
        finally:
            timer.cancel()
        if isinstance(reply.error, DataLossError):
            chunk_id = ChunkId(update.segment_id, update.chunk_index)
            if self.damage is not None and self.damage.may_mend(self, chunk_id):
                raise UnavailableError(f"{reply.error}: it is being repaired")
        return self._checked(reply)

    def _checked(self, reply: Reply) -> Reply:
        """*reply* unless it is an error, which is raised."""
        if isinstance(reply.error, DiskError):
            raise self._unavailable(reply.error)
        if reply.error is not None:
            raise reply.error
        return reply

    # Resync and repair

    async def sync_started(self, chain_version: int, session: int) -> bool:
        """The predecessor begins to fill this target; whether that is done already. Raises
        CraqenError."""
        self._check_open()
        await self._ask(lambda number: SyncStarted(number, chain_version, session))
        return self.synced_chain_version == chain_version

    async def sync_finished(self, chain_version: int, session: int) -> None:
        """The predecessor has filled this target. Raises CraqenError."""
        self._check_open()
        await self._ask(lambda number: SyncFinished(number, chain_version, session))

    @property
    def synced_chain_version(self) -> int:
        """The chain version under which this target was filled completely by its predecessor, and
        is up to date, in this life of the process; 0: none."""
        return self.replica.synced_chain_version

    async def sync_chunk(self, difference: Difference, chain_version: int, mark: SyncMark) -> Reply:
        """Make the syncing successor hold a chunk as it is here. Raises CraqenError."""
        chunk_id, held, local_version, _, as_it_is = difference
        return await self._ask(
            lambda number: SyncChunk(
                number, chunk_id, chain_version, mark, held, local_version, as_it_is
            )
        )

    async def put_outcomes(self, outcomes: Sequence[TokenOutcome]) -> None:
        """Remember what the predecessor does of clients' updates. Raises UnavailableError if the
        disk fails."""
        self._check_open()
        try:
            await self.store.put_outcomes(outcomes)
        except (DiskError, NoSpaceError) as error:
            raise self._unavailable(self._as_craqen(error)) from error

    async def repair(self, chunk_id: ChunkId, version: int) -> Reply:
        """Fetch a chunk from another replica if *version* of it is still what is here (0: if its
        index record is damaged). Raises CraqenError."""
        self._check_open()
        return await self._ask(lambda number: RepairChunk(number, chunk_id, version))

    def inventory(self, begin: ChunkId, limit: int) -> Page:
        """What is here, from *begin* on, as a resync compares it."""
        records = self.store.scan(begin, limit + 1)
        unsure = self.store.damaged().union(self.replica.busy())
        return page_of(records, unsure, begin, limit)

    def _check_open(self) -> None:
        if self.offline is not None:
            raise self._unavailable(self.offline)
        if not self._settled:
            raise UnavailableError(f"target {self.target_id} starts")

    async def _ask(self, event: Callable[[int], Event]) -> Reply:
        """Give the machine an event that it answers. Raises CraqenError."""
        if self._stopped:
            raise UnavailableError("the storage process stops")
        number = next(self._requests)
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._asked[number] = answer
        self._step(event(number))
        return self._checked(await answer)

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

    def found_damaged(self, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version are damaged, or (0) the chunk's index record."""
        if self.damage is not None:
            self.damage.noted(self, chunk_id, version)

    def _lookup(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """For the machine: the chunk's record. Raises DataLossError."""
        try:
            return self.store.get(chunk_id)
        except DataLossError:
            self.found_damaged(chunk_id, 0)
            raise

    def stop(self) -> None:
        """Take nothing more; who waits is told so."""
        self._stopped = True
        for work in self._work.values():
            if not work.answer.done():
                work.answer.set_exception(UnavailableError("the storage process stops"))
                work.answer.exception()  # asked for, so that nobody complains if nobody waits
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(UnavailableError("the storage process stops"))
                answer.exception()

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
        try:
            found = await self._transfers.fetch(effect)
            content = None
            if found is not None:
                reply, data = found
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
