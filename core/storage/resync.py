"""DRIVER: fills syncing successors: for every chain whose last serving target is on this node, runs
the resync machine (core/craq/resync.py) over the target and calls to its successor."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

from ..cluster.messages import ResyncReport
from ..craq.resync import (
    PAGE_CHUNKS,
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
    Progress,
    PutOutcomes,
    Resumed,
    Resync,
    ResyncEffect,
    ResyncEvent,
    outcomes_after,
)
from ..errors import (
    ConflictError,
    CraqenError,
    DataLossError,
    StaleChainVersionError,
    UnavailableError,
)
from ..limits import BATCH_ITEMS_MAX
from ..wire.messages import (
    Message,
    Method,
    PutOutcomesRequest,
    SyncDoneRequest,
    SyncInventoryReply,
    SyncInventoryRequest,
    SyncReply,
    SyncStartRequest,
)
from .peer_calls import PeerCalls
from .recovery import outcome_entry, page_from
from .target import Target
from .throttle import Throttle

CHAINS_MAX = 4  # filled at the same time: each holds a window of copies
STALE_RETRY_SECONDS = 0.2  # the successor has not heard of the chain's new version
RETRY_SECONDS = 1.0
PAUSE_SECONDS = 5.0  # for repairs, when all that is left to copy is damaged
LOST_RETRY_SECONDS = 60.0  # a chunk is lost here for good, unless somebody removes it
WATCH_SECONDS = 2.0  # a successor that restarts forgets that it was filled

R = TypeVar("R", bound=Message)

_log = logging.getLogger("craqen.storage")


@dataclass(slots=True)
class _Filling:
    """The resync of one target's successor under one version of the chain."""

    target: Target
    chain_version: int
    successor_id: int
    task: asyncio.Task[None] | None = None
    progress: Progress = field(default_factory=Progress)
    began_seconds: float = 0.0
    """Loop time; 0: not yet."""
    done: bool = False


class Resyncs:
    """All resyncs that this node drives."""

    def __init__(
        self, targets: Callable[[], Collection[Target]], peers: PeerCalls, throttle: Throttle
    ) -> None:
        self._targets = targets
        self._peers = peers
        self._throttle = throttle
        self._fillings: dict[int, _Filling] = {}
        """By target id."""
        self._turns = asyncio.Semaphore(CHAINS_MAX)
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self.completed = 0
        """Resyncs that came to their end in this life of the process."""
        self.bytes_sent = 0

    def look(self) -> None:
        """Begin what the present chains ask for, and end what they do not ask for any more. To be
        called after every change of them."""
        if self._closed:
            return
        for target in self._targets():
            filling = self._fillings.get(target.target_id)
            view = target.replica.view
            successor = view.successor if view.is_serving_tail else None
            if filling is not None and (
                filling.chain_version != view.chain.version or successor is None
            ):
                self._end(filling)
                filling = None
            if filling is None and successor is not None and successor[1]:
                self._begin(target, view.chain.version, successor[0])

    def report(self, target_id: int) -> ResyncReport | None:
        """How far the successor of this node's target is filled; None: nothing is going on."""
        filling = self._fillings.get(target_id)
        if filling is None or filling.done:
            return None
        progress = filling.progress
        seconds = 0.0
        if filling.began_seconds:
            seconds = asyncio.get_running_loop().time() - filling.began_seconds
        rate = progress.bytes_done / seconds if seconds > 0 else 0.0
        return ResyncReport(
            filling.successor_id,
            progress.compared,
            progress.sent,
            progress.bytes_sent,
            progress.bytes_to_send,
            rate,
            _seconds_left(progress, filling.target.store.space().chunks, rate),
        )

    async def close(self) -> None:
        """End all of them."""
        self._closed = True
        for filling in list(self._fillings.values()):
            self._end(filling)
        if self._ending:
            await asyncio.wait(self._ending)

    def _begin(self, target: Target, chain_version: int, successor_id: int) -> None:
        filling = _Filling(target, chain_version, successor_id)
        self._fillings[target.target_id] = filling
        filling.task = asyncio.get_running_loop().create_task(self._fill(filling))

    def _end(self, filling: _Filling) -> None:
        del self._fillings[filling.target.target_id]
        task = filling.task
        assert task is not None
        task.cancel()
        if not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _fill(self, filling: _Filling) -> None:
        """Until it is cancelled: fill the successor, and see to it that it remembers."""
        while True:
            try:
                async with self._turns:
                    await self._session(filling)
                filling.done = True
                self.completed += 1
                await self._watch(filling)
                filling.done = False
            except StaleChainVersionError:
                await asyncio.sleep(STALE_RETRY_SECONDS)
            except DataLossError as error:
                _log.error(
                    "target %d: target %d holds all that can be read here, and waits: %s",
                    filling.target.target_id,
                    filling.successor_id,
                    error,
                )
                await asyncio.sleep(LOST_RETRY_SECONDS)
            except CraqenError as error:
                _log.info(
                    "target %d: filling target %d begins again: %s",
                    filling.target.target_id,
                    filling.successor_id,
                    error,
                )
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                _log.exception("target %d: resync failed", filling.target.target_id)
                await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, filling: _Filling) -> None:
        """Return when the successor has forgotten that it is filled. Raises CraqenError."""
        request = SyncDoneRequest(
            filling.target.replica.chain.chain_id, filling.chain_version, 1, filling.successor_id
        )
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await _Calls(self._peers, filling).once(Method.SYNC_DONE, request, SyncReply)
            except ConflictError:
                return
            except UnavailableError:
                continue

    async def _session(self, filling: _Filling) -> None:
        """One session, to its end. Raises CraqenError."""
        session = random.getrandbits(62) + 2
        calls = _Calls(self._peers, filling)
        chain_id = filling.target.replica.chain.chain_id
        start = SyncStartRequest(chain_id, filling.chain_version, session, filling.successor_id)
        started = await calls.once(Method.SYNC_START, start, SyncReply)
        if started.synced:
            return
        run = _Run(filling, calls, self._throttle, Resync(session))
        filling.progress = run.machine.progress
        filling.began_seconds = asyncio.get_running_loop().time()
        try:
            await run.run()
        finally:
            self.bytes_sent += filling.progress.bytes_sent
        _log.info(
            "target %d: filled target %d: %d chunks compared, %d sent, %d bytes",
            filling.target.target_id,
            filling.successor_id,
            filling.progress.compared,
            filling.progress.sent,
            filling.progress.bytes_sent,
        )


class _Calls:
    """Calls to the successor."""

    def __init__(self, peers: PeerCalls, filling: _Filling) -> None:
        self._peers = peers
        self._target_id = filling.successor_id

    async def once(self, method: Method, request: Message, reply_kind: type[R]) -> R:
        """Ask once. Raises what the successor raised, UnavailableError."""
        return await self._peers.call(self._target_id, method, request, reply_kind)

    async def patiently(self, method: Method, request: Message, reply_kind: type[R]) -> R:
        """Ask until there is an answer: what was done so far is not given up for a lost
        connection."""
        while True:
            try:
                return await self.once(method, request, reply_kind)
            except UnavailableError:
                await asyncio.sleep(RETRY_SECONDS)


class _Run:
    """Carries out one resync machine's effects."""

    def __init__(
        self, filling: _Filling, calls: _Calls, throttle: Throttle, machine: Resync
    ) -> None:
        self.machine = machine
        self._target = filling.target
        self._chain_id = filling.target.replica.chain.chain_id
        self._chain_version = filling.chain_version
        self._successor_id = filling.successor_id
        self._calls = calls
        self._throttle = throttle
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return when the machine has come to its end. Raises CraqenError if that is a bad one."""
        try:
            self._carry_out(self.machine.start())
            await self._over
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _carry_out(self, effects: list[ResyncEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Ended):
                if not self._over.done():
                    if effect.error is None:
                        self._over.set_result(None)
                    else:
                        self._over.set_exception(effect.error)
                return
            task = asyncio.get_running_loop().create_task(self._one(self._work(effect)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, work: Coroutine[None, None, ResyncEvent]) -> None:
        try:
            event = await work
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)
            return
        self._carry_out(self.machine.step(event))

    def _work(self, effect: ResyncEffect) -> Coroutine[None, None, ResyncEvent]:
        if isinstance(effect, Copy):
            return self._copy(effect)
        if isinstance(effect, ComparePages):
            return self._compare(effect)
        if isinstance(effect, PutOutcomes):
            return self._put_outcomes(effect)
        if isinstance(effect, Finish):
            return self._finish()
        assert isinstance(effect, Pause)
        return self._pause()

    async def _copy(self, effect: Copy) -> ResyncEvent:
        slot, difference = effect.mark.slot, effect.difference
        await self._throttle.take(difference.length_bytes)
        try:
            reply = await self._target.sync_chunk(difference, self._chain_version, effect.mark)
        except CraqenError as error:
            return CopyFailed(slot, error)
        return Copied(slot, reply.sent, reply.length_bytes)

    async def _compare(self, effect: ComparePages) -> ResyncEvent:
        here = self._target.inventory(effect.position, PAGE_CHUNKS)
        request = SyncInventoryRequest(
            self._chain_id,
            self._chain_version,
            self.machine.session,
            *effect.position,
            PAGE_CHUNKS,
            self._successor_id,
        )
        reply = await self._calls.patiently(Method.SYNC_INVENTORY, request, SyncInventoryReply)
        return Compared(here, page_from(reply))

    async def _put_outcomes(self, effect: PutOutcomes) -> ResyncEvent:
        outcomes = self._target.store.scan_outcomes(effect.begin, BATCH_ITEMS_MAX)
        keys = [(one.token.client_id, one.token.channel) for one in outcomes]
        if outcomes:
            request = PutOutcomesRequest(
                self._chain_id,
                self._chain_version,
                self.machine.session,
                tuple([outcome_entry(one) for one in outcomes]),
                self._successor_id,
            )
            await self._calls.patiently(Method.PUT_OUTCOMES, request, SyncReply)
        return OutcomesPut(len(outcomes), outcomes_after(keys, BATCH_ITEMS_MAX))

    async def _finish(self) -> ResyncEvent:
        request = SyncDoneRequest(
            self._chain_id, self._chain_version, self.machine.session, self._successor_id
        )
        await self._calls.patiently(Method.SYNC_DONE, request, SyncReply)
        return Finished()

    async def _pause(self) -> ResyncEvent:
        await asyncio.sleep(PAUSE_SECONDS)
        return Resumed()


def _seconds_left(progress: Progress, chunks: int, rate: float) -> float:
    """An estimate; -1 if there is nothing to go by."""
    if not progress.compared:
        return -1.0
    to_send = float(progress.bytes_to_send)
    if not progress.all_compared:
        to_send *= max(1.0, chunks / progress.compared)
    left = to_send - progress.bytes_done
    if left <= 0:
        return 0.0
    return left / rate if rate > 0 else -1.0
