"""Runs one target's production replica on a simulated disk and network, as core/storage/target.py
does on real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from craqen.core.chunks.content import (
    Draft,
    NewContent,
    content_of,
    plan_replace,
    plan_truncate,
    plan_write,
)
from craqen.core.chunks.store import Block, ChunkRecord, ChunkVersion, Install, Stage
from craqen.core.cluster.records import ChainRecord
from craqen.core.craq.events import (
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
from craqen.core.craq.replica import Replica
from craqen.core.craq.resync import Difference, Page, page_of
from craqen.core.craq.seen import SyncMark
from craqen.core.errors import (
    ConflictError,
    CraqenError,
    DataLossError,
    DiskError,
    UnavailableError,
)
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.storage.work import check_bytes, event_of
from craqen.core.wire.messages import Update, UpdateKind

from .disk import SimulatedStore
from .messages import FetchAnswer, FetchAsked
from .world import Future, Process

UPDATE_DEADLINE_SECONDS = 3.0
FORWARD_RETRY_SECONDS = (0.02, 0.1, 0.5, 1.0)

Call = Callable[[int, str, object], Future[Any]]
"""Asks the node that has a target."""


@dataclass(slots=True)
class Work:
    """What is kept for a request: the update, its bytes, who waits."""

    update: Update
    data: bytes | None
    answer: Future[Reply]
    fresh_block: Block | None = None
    adopted: bool = False


class SimulatedTarget:
    """One target of a node, for one life of its process."""

    def __init__(
        self,
        process: Process,
        target_id: int,
        chain: ChainRecord,
        store: SimulatedStore,
        call: Call,
        noted: Callable[[SimulatedTarget, ChunkId, int], None],
        disk_seconds: float,
    ) -> None:
        self.process = process
        self.target_id = target_id
        self.store = store
        self.offline: DiskError | None = None
        self._disk_seconds = disk_seconds
        self.replica = Replica(target_id, chain, self._lookup, store.outcome)
        self._call = call
        self._noted = noted
        self._requests = itertools.count(1)
        self._work: dict[int, Work] = {}
        self._asked: dict[int, Future[Reply]] = {}

    def _lookup(self, chunk_id: ChunkId) -> ChunkRecord | None:
        try:
            return self.store.get(chunk_id)
        except DataLossError:
            self.found_damaged(chunk_id, 0)
            raise

    def found_damaged(self, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version are damaged, or (0) the chunk's index record."""
        self._noted(self, chunk_id, version)

    def settle_pending(self) -> None:
        """Carry on with every pending version."""
        for record in self.store.scan(ChunkId(0, 0), 1000):
            if record.pending is not None or record.pending_remove is not None:
                self.step(PendingFound(next(self._requests), record.chunk_id))

    def chain_changed(self, chain: ChainRecord) -> None:
        """The table has another version of the chain."""
        served_before = self.replica.view.is_serving
        self.step(ChainChanged(chain))
        if self.replica.view.is_serving and not served_before:
            self.settle_pending()

    def update(self, update: Update, data: bytes | None) -> Future[Reply]:
        """Carry out one update."""
        answer: Future[Reply] = Future()
        if self.offline is not None:
            answer.fail(UnavailableError(f"target {self.target_id} is offline"))
            return answer
        if data is not None:
            check_bytes(update, memoryview(data))
        request_id = next(self._requests)
        self._work[request_id] = Work(update, data, answer)
        self.process.after(UPDATE_DEADLINE_SECONDS, self.step, GiveUp(request_id))
        self.step(event_of(request_id, update))
        return answer

    def check_open(self) -> None:
        """Raise UnavailableError once the disk has failed."""
        if self.offline is not None:
            raise UnavailableError(f"target {self.target_id} is offline")

    def sync_started(self, chain_version: int, session: int) -> Future[Reply]:
        """The predecessor begins to fill this target."""
        return self._ask(lambda number: SyncStarted(number, chain_version, session))

    def sync_finished(self, chain_version: int, session: int) -> Future[Reply]:
        """The predecessor has filled this target."""
        return self._ask(lambda number: SyncFinished(number, chain_version, session))

    def sync_chunk(
        self, difference: Difference, chain_version: int, mark: SyncMark
    ) -> Future[Reply]:
        """Make the syncing successor hold a chunk as it is here."""
        chunk_id, held, local_version, _, as_it_is = difference
        return self._ask(
            lambda number: SyncChunk(
                number, chunk_id, chain_version, mark, held, local_version, as_it_is
            )
        )

    def repair(self, chunk_id: ChunkId, version: int) -> Future[Reply]:
        """Fetch a chunk from another replica."""
        return self._ask(lambda number: RepairChunk(number, chunk_id, version))

    def inventory(self, begin: ChunkId, limit: int) -> Page:
        """What is here, as a resync compares it."""
        records = self.store.scan(begin, limit + 1)
        unsure = self.store.damaged().union(self.replica.busy())
        return page_of(records, unsure, begin, limit)

    def _ask(self, event: Callable[[int], Event]) -> Future[Reply]:
        answer: Future[Reply] = Future()
        if self.offline is not None:
            answer.fail(UnavailableError(f"target {self.target_id} is offline"))
            return answer
        number = next(self._requests)
        self._asked[number] = answer
        self.step(event(number))
        return answer

    def read(self, chunk_id: ChunkId, content: ChunkVersion) -> bytes:
        """Verified bytes of a version. Raises DataLossError."""
        data = bytearray(content.length_bytes)
        try:
            content_of(self.store, chunk_id, content).read_into(0, memoryview(data))
        except DataLossError:
            self.found_damaged(chunk_id, content.version)
            raise
        return bytes(data)

    def _read_whole(self, effect: Forward, content: ChunkVersion) -> bytes:
        """All bytes of a version, for another target."""
        if not effect.as_it_is:
            return self.read(effect.chunk_id, content)
        data = bytearray(content.length_bytes)
        content_of(self.store, effect.chunk_id, content).read_unverified(memoryview(data))
        return bytes(data)

    # Effects

    def step(self, event: Event) -> list[Effect]:
        """Let the machine take an event, and do what it wants."""
        if not self.process.alive:
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
            self._persist(effect)
        elif isinstance(effect, Forward):
            self._forward(effect)
        elif isinstance(effect, Fetch):
            self.process.spawn(self._fetch(effect))
        else:
            self._retry_later(effect.request_id, effect.attempt)

    def _reply(self, effect: Reply) -> None:
        asked = self._asked.pop(effect.request_id, None)
        if asked is not None:
            self._answer(asked, effect)
        work = self._work.pop(effect.request_id, None)
        if work is None:
            return
        if work.fresh_block is not None and not work.adopted:
            self.store.release(work.fresh_block)
        self._answer(work.answer, effect)

    def _answer(self, answer: Future[Reply], effect: Reply) -> None:
        error = effect.error
        if isinstance(error, DiskError):
            error = UnavailableError(f"target {self.target_id} is offline")
        if isinstance(error, DataLossError) and len(self.replica.view.serving) > 1:
            error = UnavailableError(f"{error}: it is being repaired")
        if error is not None:
            answer.fail(error)
        else:
            answer.set(effect)

    def _prepare(self, effect: Prepare) -> None:
        work = self._work[effect.request_id]
        try:
            draft = self._draft(work, effect.base)
        except CraqenError as error:
            self._prepare_failed(work, effect, error)
            return
        if draft.fresh_block:
            work.fresh_block = draft.block
        else:
            assert effect.base is not None
            self.store.touched(draft.block, effect.base.length_bytes)
        chance = self.process.world.random.random()
        if chance < 0.5:
            self._made(work, effect, draft)
        else:
            self.process.after(chance * self._disk_seconds, self._made, work, effect, draft)

    def _prepare_failed(self, work: Work, effect: Prepare, error: CraqenError) -> None:
        if isinstance(error, DataLossError) and effect.base is not None:
            chunk_id = ChunkId(work.update.segment_id, work.update.chunk_index)
            self.found_damaged(chunk_id, effect.base.version)
        self.step(PrepareFailed(effect.request_id, self._disk_error(error)))

    def _draft(self, work: Work, base: ChunkVersion | None) -> Draft:
        update = work.update
        chunk_id = ChunkId(update.segment_id, update.chunk_index)
        if update.kind == UpdateKind.TRUNCATE:
            return plan_truncate(self.store, chunk_id, base, update.length_bytes)
        assert work.data is not None
        data = memoryview(work.data)
        if update.kind == UpdateKind.REPLACE:
            draft = plan_replace(self.store, data)
            return _as_stated(draft, update) if update.as_it_is else draft
        return plan_write(self.store, chunk_id, base, update.offset_bytes, data)

    def _made(self, work: Work, effect: Prepare, draft: Draft) -> None:
        update = work.update
        try:
            made = draft.write()
        except CraqenError as error:
            self._prepare_failed(work, effect, error)
            return
        token = UpdateToken(update.client_id, update.channel, update.sequence)
        content = made.version(effect.version, effect.chain_version, token)
        self.step(Prepared(effect.request_id, content))

    def _persist(self, effect: Persist) -> None:
        work = self._work.get(effect.request_id)
        if work is not None:
            work.adopted = True
        if self.process.world.trace is not None:
            self.process.say("t%d persists %s", self.target_id, effect.changes)

        def done(error: CraqenError | None) -> None:
            if error is None:
                self.step(Persisted(effect.request_id))
            else:
                self.step(PersistFailed(effect.request_id, self._disk_error(error)))

        try:
            self.store.persist(effect.changes, effect.durable, done)
        except CraqenError as error:
            self.process.after(0.0, done, error)

    def _forward(self, effect: Forward) -> None:
        work, content = self._work.get(effect.request_id), effect.content
        kind, data, offset, length, crc, pages = UpdateKind.REMOVE, None, 0, 0, 0, b""
        if effect.lost:
            kind = UpdateKind.LOSE
        if content is not None and work is not None and not effect.whole:
            update = work.update
            kind, data, offset = update.kind, work.data, update.offset_bytes
            length, crc, pages = update.length_bytes, update.crc32c, update.page_crcs
        elif content is not None:
            try:
                data = self._read_whole(effect, content)
            except CraqenError as error:
                self.process.after(0.0, self._forward_failed, effect, error)
                return
            kind, length = UpdateKind.REPLACE, content.length_bytes
            crc, pages = content.crc32c, content.page_crcs
        mark = effect.mark
        token = UpdateToken(0, 0, 0) if effect.token.client_id < 0 else effect.token
        message = Update(
            *effect.chunk_id,
            self.replica.chain.chain_id,
            effect.chain_version,
            kind,
            offset,
            length,
            crc,
            *token,
            page_crcs=pages,
            version=effect.version,
            syncing=effect.syncing,
            sync_session=0 if mark is None else mark.session,
            sync_slot=0 if mark is None else mark.slot,
            sync_sequence=0 if mark is None else mark.sequence,
            as_it_is=effect.as_it_is,
        )

        def answered(answer: Future[Reply]) -> None:
            if answer.error is not None:
                error = answer.error
                if isinstance(error, DataLossError):
                    error = UnavailableError(f"target {effect.target_id}: {error}")
                self._forward_failed(effect, error)
                return
            reply = answer.result()
            self.step(
                Acknowledged(
                    effect.request_id,
                    effect.attempt,
                    reply.version,
                    reply.length_bytes,
                    reply.crc32c,
                )
            )

        self._call(effect.target_id, "update", (message, data)).then(answered)

    def _forward_failed(self, effect: Forward, error: CraqenError) -> None:
        self.step(ForwardFailed(effect.request_id, effect.attempt, error))
        self._retry_later(effect.request_id, effect.attempt)

    def _retry_later(self, request_id: int, attempt: int) -> None:
        number = min(attempt, len(FORWARD_RETRY_SECONDS)) - 1
        self.process.after(
            FORWARD_RETRY_SECONDS[number], self.step, RetryForward(request_id, attempt)
        )

    async def _fetch(self, effect: Fetch) -> None:
        """Get a chunk from another replica into a new block."""
        block: Block | None = None
        try:
            found = await self._fetched(effect)
            content = None
            if found is not None:
                assert found.content is not None
                draft = plan_replace(self.store, memoryview(found.data))
                block = draft.block
                told = found.content
                content = draft.write().version(told.version, effect.chain_version, told.token)
            event: Event = Fetched(effect.request_id, content)
        except CraqenError as error:
            event = FetchFailed(effect.request_id, self._disk_error(error))
        effects = self.step(event)
        if block is not None and not any(_takes(one, block) for one in effects):
            self.store.release(block)

    async def _fetched(self, effect: Fetch) -> FetchAnswer | None:
        """The first target's content that can be had; None: the chunk is absent there."""
        failure: CraqenError | None = None
        lacking: CraqenError | None = None
        wanted = effect.wanted
        for target_id in effect.targets:
            asked = FetchAsked(
                effect.chunk_id,
                self.replica.chain.chain_id,
                effect.chain_version,
                effect.source,
                0 if wanted is None else wanted.version,
            )
            try:
                found: FetchAnswer = await self._call(target_id, "fetch", asked)
            except ConflictError as error:
                lacking = error
                continue
            except CraqenError as error:
                failure = error
                continue
            told = found.content
            if told is None:
                return None
            if wanted is not None and (told.version, told.length_bytes, told.crc32c) != (
                wanted.version,
                wanted.length_bytes,
                wanted.crc32c,
            ):
                lacking = ConflictError(f"target {target_id} has another content")
                continue
            return found
        problem = failure or lacking
        assert problem is not None
        raise problem

    def _disk_error(self, error: CraqenError) -> CraqenError:
        """A disk error takes the target offline."""
        if isinstance(error, DiskError) and self.offline is None:
            self.offline = error
            self.process.say("t%d goes offline: %s", self.target_id, error)
        return error


def _as_stated(draft: Draft, update: Update) -> Draft:
    """The same bytes, under the checksums stated."""

    def write() -> NewContent:
        return replace(draft.write(), crc32c=update.crc32c, page_crcs=update.page_crcs)

    return replace(draft, write=write)


def _takes(effect: Effect, block: Block) -> bool:
    return isinstance(effect, Persist) and any(
        isinstance(change, Install | Stage) and change.content.block == block
        for change in effect.changes
    )
