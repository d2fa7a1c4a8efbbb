"""What a node does for its targets by itself: fills syncing successors and mends damaged chunks, as
core/storage/resync.py and repair.py do."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from craqen.core.craq.resync import (
    Compared,
    ComparePages,
    Copied,
    Copy,
    CopyFailed,
    Ended,
    Finish,
    Finished,
    OutcomesPut,
    Pause,
    PutOutcomes,
    Resumed,
    Resync,
    ResyncEffect,
    ResyncEvent,
    outcomes_after,
)
from craqen.core.errors import (
    ConflictError,
    CraqenError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.ids import ChunkId

from .messages import SyncAsked
from .world import Future, Process

if TYPE_CHECKING:
    from .node import SimulatedNode
    from .target import SimulatedTarget

PAGE_CHUNKS = 2
PAGE_OUTCOMES = 3
STALE_RETRY_SECONDS = 0.1
RETRY_SECONDS = 0.4
PAUSE_SECONDS = 1.0
WATCH_SECONDS = 0.8
REPAIR_RETRY_SECONDS = (0.05, 0.3, 1.0)


class Filling:
    """The resync of one target's successor under one version of the chain."""

    def __init__(self, node: SimulatedNode, target: SimulatedTarget, successor_id: int) -> None:
        self.target = target
        self.chain_version = target.replica.chain.version
        self.ended = False
        self._node = node
        self._process: Process = node.process
        self._successor_id = successor_id
        self._chain_id = target.replica.chain.chain_id

    async def fill(self) -> None:
        """Until it is ended: fill the successor, and see to it that it remembers."""
        while not self.ended:
            try:
                await self._session()
                await self._watch()
            except StaleChainVersionError:
                await self._process.sleep(STALE_RETRY_SECONDS)
            except CraqenError as error:
                self._process.say("filling t%d begins again: %s", self._successor_id, error)
                await self._process.sleep(RETRY_SECONDS)

    async def _watch(self) -> None:
        asked = SyncAsked(self._chain_id, self.chain_version, 1)
        while not self.ended:
            await self._process.sleep(WATCH_SECONDS)
            try:
                await self._call("sync_done", asked)
            except ConflictError:
                return
            except UnavailableError:
                continue

    async def _session(self) -> None:
        session = self._process.world.random.getrandbits(62) + 2
        asked = SyncAsked(self._chain_id, self.chain_version, session)
        if await self._call("sync_start", asked):
            return
        await _Run(self, Resync(session)).over

    def _call(self, method: str, asked: SyncAsked) -> Future[Any]:
        return self._node.call(self._successor_id, method, asked)

    async def patiently(self, method: str, asked: SyncAsked) -> Any:
        """Ask until there is an answer."""
        while True:
            try:
                return await self._call(method, asked)
            except UnavailableError:
                await self._process.sleep(RETRY_SECONDS)

    def asked(self, session: int) -> SyncAsked:
        """The head of every word in the session."""
        return SyncAsked(self._chain_id, self.chain_version, session)

    def spawn(self, work: Coroutine[Future[Any], None, None]) -> None:
        """Run as long as the process lives."""
        self._process.spawn(work)

    def sleep(self, seconds: float) -> Future[None]:
        """By the process's clock."""
        return self._process.sleep(seconds)


class _Run:
    """Carries out one resync machine's effects."""

    def __init__(self, filling: Filling, machine: Resync) -> None:
        self.over: Future[None] = Future()
        self._filling = filling
        self._machine = machine
        self._carry_out(machine.start())

    def _carry_out(self, effects: list[ResyncEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Ended):
                if effect.error is None:
                    self.over.set(None)
                else:
                    self.over.fail(effect.error)
                return
            self._filling.spawn(self._one(self._work(effect)))

    async def _one(self, work: Coroutine[Future[Any], None, ResyncEvent]) -> None:
        try:
            event = await work
        except CraqenError as error:
            self.over.fail(error)
            return
        if not (self.over.done or self._filling.ended):
            self._carry_out(self._machine.step(event))

    def _work(self, effect: ResyncEffect) -> Coroutine[Future[Any], None, ResyncEvent]:
        if isinstance(effect, Copy):
            return self._copy(effect)
        if isinstance(effect, ComparePages):
            return self._compare(effect.position)
        if isinstance(effect, PutOutcomes):
            return self._put_outcomes(effect.begin)
        if isinstance(effect, Finish):
            return self._finish()
        assert isinstance(effect, Pause)
        return self._pause()

    async def _copy(self, effect: Copy) -> ResyncEvent:
        filling = self._filling
        try:
            reply = await filling.target.sync_chunk(
                effect.difference, filling.chain_version, effect.mark
            )
        except CraqenError as error:
            return CopyFailed(effect.mark.slot, error)
        return Copied(effect.mark.slot, reply.sent, reply.length_bytes)

    async def _compare(self, position: ChunkId) -> ResyncEvent:
        filling = self._filling
        here = filling.target.inventory(position, PAGE_CHUNKS)
        head = filling.asked(self._machine.session)
        asked = SyncAsked(head.chain_id, head.chain_version, head.session, position, PAGE_CHUNKS)
        return Compared(here, await filling.patiently("sync_inventory", asked))

    async def _put_outcomes(self, begin: tuple[int, int]) -> ResyncEvent:
        filling = self._filling
        outcomes = filling.target.store.scan_outcomes(begin, PAGE_OUTCOMES)
        keys = [(one.token.client_id, one.token.channel) for one in outcomes]
        if outcomes:
            head = filling.asked(self._machine.session)
            asked = SyncAsked(
                head.chain_id, head.chain_version, head.session, outcomes=tuple(outcomes)
            )
            await filling.patiently("put_outcomes", asked)
        return OutcomesPut(len(outcomes), outcomes_after(keys, PAGE_OUTCOMES))

    async def _finish(self) -> ResyncEvent:
        await self._filling.patiently("sync_done", self._filling.asked(self._machine.session))
        return Finished()

    async def _pause(self) -> ResyncEvent:
        await self._filling.sleep(PAUSE_SECONDS)
        return Resumed()


class Fillings:
    """All resyncs that a node drives."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._fillings: dict[int, Filling] = {}

    def look(self) -> None:
        """Begin what the present chains ask for, and end what they do not ask for any more."""
        for target in self._node.targets.values():
            filling = self._fillings.get(target.target_id)
            view = target.replica.view
            successor = view.successor if view.is_serving_tail else None
            if filling is not None and (
                filling.chain_version != view.chain.version or successor is None
            ):
                filling.ended = True
                del self._fillings[target.target_id]
                filling = None
            if filling is None and successor is not None and successor[1]:
                filling = Filling(self._node, target, successor[0])
                self._fillings[target.target_id] = filling
                self._node.process.spawn(filling.fill())


class Repairer:
    """The damaged chunks of a node's targets."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._known: dict[tuple[int, ChunkId], int] = {}

    def noted(self, target: SimulatedTarget, chunk_id: ChunkId, version: int) -> None:
        """The bytes of a version were found damaged, or (0) the chunk's index record."""
        key = (target.target_id, chunk_id)
        known = key in self._known
        self._known[key] = version
        if not known:
            self._process.say("t%d finds %s v%d damaged", target.target_id, chunk_id, version)
            # Not from within the machine that found it.
            self._process.after(0.0, self._begin, target, chunk_id)

    def _begin(self, target: SimulatedTarget, chunk_id: ChunkId) -> None:
        self._process.spawn(self._mend(target, chunk_id))

    async def _mend(self, target: SimulatedTarget, chunk_id: ChunkId) -> None:
        key = (target.target_id, chunk_id)
        attempt = 0
        while True:
            version = self._known[key]
            try:
                await target.repair(chunk_id, version)
            except CraqenError as error:
                self._process.say("t%d cannot mend %s: %s", target.target_id, chunk_id, error)
            else:
                if self._known[key] == version:
                    del self._known[key]
                    return
            number = min(attempt, len(REPAIR_RETRY_SECONDS) - 1)
            await self._process.sleep(REPAIR_RETRY_SECONDS[number])
            attempt += 1
