"""A storage node: its targets, its RPC face, its heartbeats, as core/storage/node.py and process.py
have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from craqen.core.chunks.content import content_of
from craqen.core.chunks.store import ChunkVersion
from craqen.core.cluster.messages import HeartbeatReply, HeartbeatRequest, TargetReport
from craqen.core.cluster.records import LocalState, RoutingTable
from craqen.core.cluster.routing import Routing
from craqen.core.errors import (
    CraqenError,
    DeadlineExceededError,
    DiskError,
    RetryableError,
    UnavailableError,
)
from craqen.core.storage.silence import Silence
from craqen.core.wire.messages import Update

from .disk import SimulatedDisk, SimulatedStore
from .messages import (
    FetchAnswer,
    FetchAsked,
    LocateAnswer,
    ReadAnswer,
    ReadAsked,
    SyncAsked,
    VersionAsked,
)
from .recovery import Fillings, Repairer
from .target import SimulatedTarget
from .world import Future, Process

if TYPE_CHECKING:
    from .cluster import Cluster

PEER_CALL_SECONDS = 2.0  # below an update's deadline, as in core/storage/peers.py
HEARTBEATS_PER_LEASE = 5
QUARANTINE_LEASES = 2.0
TICK_SECONDS = 0.5
RETRY_SECONDS = 0.1  # as in core/storage/membership.py
CLOCK_WENT_BACK = 0.1  # of all starts
WATCHES_PER_LEASE = 16  # as in core/storage/peer_watch.py


class SimulatedNode:
    """One storage process, over all its lives, and its disks."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.process: Process = cluster.process(f"node{node_id}")
        self.disks: dict[int, SimulatedDisk] = {}
        self.targets: dict[int, SimulatedTarget] = {}
        """By chain id, of this life."""
        self.stopping = False
        self._routing = Routing(RoutingTable(0, "sim"))
        self._incarnation = 0
        self._taken_in = False
        self._heartbeats = 0
        self._lease_until = 0.0
        self._manager = 0
        self._fillings = Fillings(self)
        self._repairer = Repairer(self.process)
        self._silence = Silence(0.0)

    # Life

    def start(self) -> None:
        """Begin a life: nothing is served before a manager has answered."""
        process = self.process
        process.begin()
        process.say("starts")
        self.targets = {}
        self.stopping = False
        self._fillings = Fillings(self)
        self._repairer = Repairer(process)
        self._silence = Silence(process.clock())
        self._routing = Routing(RoutingTable(0, "sim"))
        self._incarnation = self._new_incarnation()
        self._taken_in = False
        self._heartbeats = 0
        self._lease_until = process.clock() - 1.0
        process.handlers = {
            "update": self._on_update,
            "read": self._on_read,
            "locate": self._on_locate,
            "version": self._on_version,
            "fetch": self._on_fetch,
            "sync_start": self._on_sync_start,
            "sync_inventory": self._on_sync_inventory,
            "put_outcomes": self._on_put_outcomes,
            "sync_done": self._on_sync_done,
            "probe": self._on_probe,
        }
        process.spawn(self._beat())
        process.spawn(self._tick())
        process.spawn(self._watch())

    def _new_incarnation(self) -> int:
        """By the time; now and then the host's clock has gone back meanwhile."""
        world = self.cluster.world
        now = world.now
        if world.random.random() < CLOCK_WENT_BACK:
            now = max(0.0, now - 30.0 * world.random.random())
        return int(now * 1e6) << 11 | world.random.getrandbits(11)

    def crash(self) -> None:
        """Die: what was not flushed is lost."""
        self.process.say("crashes")
        for target in self.targets.values():
            target.store.crash()
        self.process.end()
        self.cluster.network.died(self.process)
        self.targets = {}

    def _holds_lease(self) -> bool:
        return self.process.clock() < self._lease_until and not self.stopping

    async def _beat(self) -> None:
        """Heartbeats, to whichever manager answers."""
        process, lease = self.process, self.cluster.settings.lease_seconds
        pause = lease / HEARTBEATS_PER_LEASE
        while True:
            self._heartbeats += 1
            request = HeartbeatRequest(
                "sim",
                self.node_id,
                self._incarnation,
                self._heartbeats,
                self._routing.table.version,
                (process.name,),
                f"host{self.node_id}",
                targets=self._reports(),
                stopping=self.stopping,
                unreached=self._silence.silent,
            )
            sent = process.clock()
            managers = self.cluster.managers
            manager = managers[self._manager % len(managers)].process
            try:
                reply, table = await self.cluster.network.call(
                    process, manager, "heartbeat", request, pause
                )
            except RetryableError:
                self._manager += 1
                await process.sleep(pause / 4)
                continue
            if reply.newer_incarnation:
                await self._replaced(reply.newer_incarnation)
                continue
            self._taken_in = True
            self._take(reply, table, sent)
            await process.sleep(max(0.0, sent + pause - process.clock()))

    async def _replaced(self, newer_incarnation: int) -> None:
        """As core/storage/membership.py: who was never taken in counts on; any other ends, and is
        started again."""
        self.process.say("is behind incarnation %d", newer_incarnation)
        if self._taken_in:
            self.crash()
            self.start()
            await self.process.sleep(0.0)
        self._incarnation = newer_incarnation + 1
        await self.process.sleep(RETRY_SECONDS)

    def _take(self, reply: HeartbeatReply, table: RoutingTable | None, sent: float) -> None:
        if reply.renews and not self.stopping:
            self._lease_until = max(self._lease_until, sent + reply.lease_seconds / 2)
        if table is not None and table.version > self._routing.table.version:
            self._routing = Routing(table)
            self._table_changed()

    def _table_changed(self) -> None:
        for target_id, disk in self.disks.items():
            chain = self._routing.chain_of(target_id)
            if chain is None:
                continue
            target = self.targets.get(chain.chain_id)
            if target is None:
                quarantine = QUARANTINE_LEASES * self.cluster.settings.lease_seconds
                store = SimulatedStore(self.process, disk, quarantine)
                target = SimulatedTarget(
                    self.process,
                    target_id,
                    chain,
                    store,
                    self.call,
                    self._repairer.noted,
                    self.cluster.settings.disk_seconds,
                )
                self.targets[chain.chain_id] = target
                target.settle_pending()
                for chunk_id in store.damaged():
                    target.found_damaged(chunk_id, 0)
            elif chain.version > target.replica.chain.version:
                self.process.say("learns %s", chain)
                target.chain_changed(chain)
        self._fillings.look()

    def _reports(self) -> tuple[TargetReport, ...]:
        reports = []
        for target in self.targets.values():
            replica = target.replica
            state = LocalState.ONLINE
            if target.offline is not None:
                state = LocalState.OFFLINE
            elif replica.view.is_serving or (replica.synced_chain_version == replica.chain.version):
                state = LocalState.UP_TO_DATE
            reports.append(TargetReport(target.target_id, state, replica.chain.version))
        return tuple(reports)

    async def _tick(self) -> None:
        while True:
            for target in self.targets.values():
                target.store.tick()
            await self.process.sleep(TICK_SECONDS)

    async def _watch(self) -> None:
        """Find out who does not answer, as core/storage/peer_watch.py does."""
        process, lease = self.process, self.cluster.settings.lease_seconds
        while True:
            for node_id in self._silence.tick(lease, process.clock()):
                other = self.cluster.nodes[node_id].process
                probe = self.cluster.network.call(process, other, "probe", None, lease)
                probe.then(partial(self._probed, node_id))
            await process.sleep(lease / WATCHES_PER_LEASE)

    def _probed(self, node_id: int, answer: Future[Any]) -> None:
        if answer.error is None:
            self._silence.heard(node_id, self.process.clock())

    def _on_probe(self, _: object, __: Process) -> Future[Any]:
        return _done(None)

    # Requests

    def _target(self, chain_id: int) -> SimulatedTarget:
        target = self.targets.get(chain_id)
        if target is None:
            raise UnavailableError(f"node {self.node_id} has no target of chain {chain_id} (yet)")
        if not self._holds_lease():
            raise UnavailableError(f"node {self.node_id} has no lease")
        return target

    def _on_update(self, payload: tuple[Update, bytes | None], _: Process) -> Future[Any]:
        update, data = payload
        try:
            return self._target(update.chain_id).update(update, data)
        except CraqenError as error:
            return _failed(error)

    def _on_read(self, asked: ReadAsked, _: Process) -> Future[Any]:
        return self.process.spawn(self._read(asked))

    def _on_locate(self, asked: ReadAsked, _: Process) -> Future[Any]:
        return self.process.spawn(self._locate(asked))

    def _on_version(self, asked: VersionAsked, _: Process) -> Future[Any]:
        answer: Future[int] = Future()
        try:
            target = self._target(asked.chain_id)
            target.replica.check_version(asked.chain_version)
            target.check_open()
            content, certain = target.replica.committed(asked.chunk_id)
            if not certain:
                raise UnavailableError(f"target {target.target_id} is not the tail")
        except CraqenError as error:
            return _failed(error)
        answer.set(0 if content is None else content.version)
        return answer

    async def _seen(self, asked: ReadAsked) -> tuple[SimulatedTarget, ChunkVersion | None]:
        """The version that a read sees."""
        target = self._target(asked.chain_id)
        replica = target.replica
        replica.check_version(asked.chain_version)
        if not replica.view.is_serving:
            raise UnavailableError(f"target {target.target_id} does not serve")
        target.check_open()
        content, certain = replica.committed(asked.chunk_id)
        if not certain:
            version = await self._ask_tail(target, asked)
            replica.check_version(asked.chain_version)
            content = replica.version_told(asked.chunk_id, version)
        return target, content

    async def _ask_tail(self, target: SimulatedTarget, asked: ReadAsked) -> int:
        view = target.replica.view
        if view.tail_id is None:
            raise UnavailableError(f"chain {asked.chain_id}: no target serves")
        question = VersionAsked(asked.chunk_id, asked.chain_id, view.chain.version)
        version: int = await self.call(view.tail_id, "version", question)
        return version

    async def _read(self, asked: ReadAsked) -> ReadAnswer:
        target, content = await self._seen(asked)
        if content is None:
            return ReadAnswer(None)
        return ReadAnswer(target.read(asked.chunk_id, content))

    async def _locate(self, asked: ReadAsked) -> LocateAnswer:
        target, content = await self._seen(asked)
        if content is None:
            return LocateAnswer(None, lambda: False)
        block, disk = content.block, target.store.disk
        target.store.reader_until(block, asked.used_until)
        place = content_of(target.store, asked.chunk_id, content)
        return LocateAnswer(place, lambda: block in disk.rotten)

    # Recovery

    def _on_fetch(self, asked: FetchAsked, _: Process) -> Future[Any]:
        try:
            target = self._target(asked.chain_id)
            target.replica.check_version(asked.chain_version)
            content = target.replica.copy_for(asked.chunk_id, asked.source, asked.version)
            data = b"" if content is None else target.read(asked.chunk_id, content)
        except CraqenError as error:
            return _failed(error)
        return _done(FetchAnswer(content, data))

    def _on_sync_start(self, asked: SyncAsked, _: Process) -> Future[Any]:
        answer: Future[bool] = Future()
        try:
            target = self._target(asked.chain_id)
        except CraqenError as error:
            return _failed(error)

        def told(reply: Future[Any]) -> None:
            if reply.error is not None:
                answer.fail(reply.error)
            else:
                answer.set(target.replica.synced_chain_version == asked.chain_version)

        target.sync_started(asked.chain_version, asked.session).then(told)
        return answer

    def _on_sync_inventory(self, asked: SyncAsked, _: Process) -> Future[Any]:
        try:
            target = self._target(asked.chain_id)
            target.replica.check_session(asked.chain_version, asked.session)
        except CraqenError as error:
            return _failed(error)
        return _done(target.inventory(asked.position, asked.limit))

    def _on_put_outcomes(self, asked: SyncAsked, _: Process) -> Future[Any]:
        answer: Future[None] = Future()

        def done(error: CraqenError | None) -> None:
            if error is None:
                answer.set(None)
            else:
                answer.fail(UnavailableError(str(error)))

        try:
            target = self._target(asked.chain_id)
            target.replica.check_session(asked.chain_version, asked.session)
            target.store.persist_outcomes(asked.outcomes, done)
        except DiskError as error:
            return _failed(UnavailableError(str(error)))
        except CraqenError as error:
            return _failed(error)
        return answer

    def _on_sync_done(self, asked: SyncAsked, _: Process) -> Future[Any]:
        try:
            target = self._target(asked.chain_id)
        except CraqenError as error:
            return _failed(error)
        return target.sync_finished(asked.chain_version, asked.session)

    # Peers

    def call(self, target_id: int, method: str, payload: object) -> Future[Any]:
        """Ask the node that has a target, unless it is silent."""
        try:
            node_id = self._routing.node_of(target_id).node_id
        except CraqenError as error:
            return _failed(error)
        if self._silence.is_silent(node_id):
            return _failed(UnavailableError(f"node {node_id} does not answer"))
        self._silence.asked(node_id, self.process.clock())
        other = self.cluster.nodes[node_id].process
        answer = self.cluster.network.call(self.process, other, method, payload, PEER_CALL_SECONDS)
        answer.then(partial(self._called, node_id, self.process.life))
        return answer

    def _called(self, node_id: int, life: int, answer: Future[Any]) -> None:
        if life != self.process.life:
            return
        if isinstance(answer.error, UnavailableError | DeadlineExceededError):
            self._silence.failed(node_id)
        else:
            self._silence.answered(node_id, self.process.clock())


def _failed(error: CraqenError) -> Future[Any]:
    future: Future[Any] = Future()
    future.fail(error)
    return future


def _done(value: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set(value)
    return future
