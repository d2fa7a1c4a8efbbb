"""DRIVER: one target of this node: updates, resync and repair, as its node and process ask for
them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from ..chunks.integrity import PageSummer
from ..chunks.store import (
    Block,
    TokenOutcome,
)
from ..cluster.records import ChainRecord
from ..craq.events import (
    ChainChanged,
    Event,
    GiveUp,
    PendingFound,
    RepairChunk,
    Reply,
    SyncChunk,
    SyncFinished,
    SyncStarted,
)
from ..craq.resync import Difference, Page, page_of
from ..craq.seen import Seen, SyncMark
from ..errors import (
    DataLossError,
    DiskError,
    NoSpaceError,
    UnavailableError,
)
from ..ids import ChunkId
from ..wire.messages import Update, UpdateKind
from .effects import EffectRunner
from .work import Work, check_bytes, event_of

UPDATE_DEADLINE_SECONDS = 15.0  # below the client's call timeout, so that it hears why
SCAN_PAGE = 1000


class DamageSink(Protocol):
    """Who is told of damaged chunks, and mends them."""

    def noted(self, target: Target, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version were found damaged, or (0) the chunk's index record."""
        ...

    def may_mend(self, target: Target, chunk_id: ChunkId) -> bool:
        """Whether that is worth waiting for."""
        ...


class Target(EffectRunner):
    """One target of this node."""

    damage: DamageSink | None = None

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
        sums: PageSummer | None = None,
    ) -> Reply:
        """Carry out one update; *block* is the reserved one that holds its bytes; *on_adopted* is
        called when that has become the index's; *sums* are those of *data*. Raises CraqenError.

        The reply tells the version made.
        """
        if self._stopped:
            raise UnavailableError("the storage process stops")
        self.check_open()
        if data is not None:
            check_bytes(update, data)
        self._check_successors(update)
        request_id = next(self._requests)
        work = Work(
            update, data, block, self._loop.create_future(), on_adopted=on_adopted, sums=sums
        )
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

    def _check_successors(self, update: Update) -> None:
        """Raise NoSpaceError for a client's update that would only be held here, since a successor
        has no space: it would take space here until that has some."""
        takes_space = update.kind in (UpdateKind.WRITE, UpdateKind.REPLACE)
        if takes_space and update.version == 0 and self._loop.time() < self._no_space_until:
            chain_id = self.replica.chain.chain_id
            raise NoSpaceError(f"chain {chain_id}: the disk of another target is full: free space")

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
        self.check_open()
        await self._ask(lambda number: SyncStarted(number, chain_version, session))
        return self.synced_chain_version == chain_version

    async def sync_finished(self, chain_version: int, session: int) -> None:
        """The predecessor has filled this target. Raises CraqenError."""
        self.check_open()
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
        self.check_open()
        try:
            await self.store.put_outcomes(outcomes)
        except (DiskError, NoSpaceError) as error:
            raise self._unavailable(self._as_craqen(error)) from error

    async def repair(self, chunk_id: ChunkId, version: int) -> Reply:
        """Fetch a chunk from another replica if *version* of it is still what is here (0: if its
        index record is damaged). Raises CraqenError."""
        self.check_open()
        return await self._ask(lambda number: RepairChunk(number, chunk_id, version))

    async def take_from(
        self, chunk_id: ChunkId, version: int, source_id: int, wanted: Seen, chain_version: int
    ) -> Reply:
        """Take what another replica has of a chunk in the place of *version* (0: of none), if that
        is still what is here. Raises CraqenError."""
        self.check_open()
        return await self._ask(
            lambda number: RepairChunk(number, chunk_id, version, wanted, source_id, chain_version)
        )

    def inventory(self, begin: ChunkId, limit: int) -> Page:
        """What is here, from *begin* on, as a resync compares it."""
        records = self.store.scan(begin, limit + 1)
        unsure = self.store.damaged().union(self.replica.busy())
        return page_of(records, unsure, begin, limit)

    def check_open(self) -> None:
        """Raise UnavailableError unless this target takes part.

        Once its node has said that it is offline, the chain goes on without it at once: from then
        on what is read here may be old.
        """
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

    def found_damaged(self, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version are damaged, or (0) the chunk's index record."""
        if self.damage is not None:
            self.damage.noted(self, chunk_id, version)

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
