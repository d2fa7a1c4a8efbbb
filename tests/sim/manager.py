"""Managers and the key-value store that elects them: a lease with an epoch, and every write of the
table made under it in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from craqen.core.cluster.membership import Membership
from craqen.core.cluster.messages import HeartbeatReply, HeartbeatRequest
from craqen.core.cluster.records import RoutingTable
from craqen.core.errors import ConflictError, CraqenError, RetryableError, UnavailableError

from .world import Future, Process

if TYPE_CHECKING:
    from .cluster import Cluster

KV_SECONDS = 1.0
TICK_SECONDS = 0.1
RENEWALS_PER_LEASE = 4


Move = Callable[[RoutingTable], RoutingTable]
"""What an operator does to the table."""


class KeyValues:
    """The store that never loses anything and does one transaction at a time."""

    def __init__(self, cluster: Cluster, table: RoutingTable) -> None:
        self.cluster = cluster
        self.process = cluster.process("kv")
        self.table = table
        self.owner = ""
        self.epoch = 0
        self.renewal = 0
        """Rises with every renewal: who sees it stand still for a lease may take that."""
        self.process.begin()
        self.process.handlers = {
            "lease": self._on_lease,
            "renew": self._on_renew,
            "take": self._on_take,
            "table": self._on_table,
            "write": self._on_write,
        }

    def _on_lease(self, _: None, __: Process) -> Future[Any]:
        return _done((self.owner, self.epoch, self.renewal))

    def _on_renew(self, epoch: int, source: Process) -> Future[Any]:
        if (self.owner, self.epoch) != (source.name, epoch):
            return _failed(ConflictError("the lease is another manager's"))
        self.renewal += 1
        return _done(None)

    def _on_take(self, seen: tuple[str, int, int], source: Process) -> Future[Any]:
        if seen != (self.owner, self.epoch, self.renewal):
            return _failed(ConflictError("the lease was renewed"))
        self.owner, self.epoch, self.renewal = source.name, self.epoch + 1, 0
        source.say("is primary in epoch %d", self.epoch)
        return _done((self.epoch, self.table))

    def _on_table(self, _: None, __: Process) -> Future[Any]:
        return _done(self.table)

    def _on_write(self, payload: tuple[int, RoutingTable], source: Process) -> Future[Any]:
        epoch, table = payload
        if not self.may_write(source.name, epoch, table):
            return _failed(ConflictError("the lease is another manager's"))
        self.cluster.ghost.table_written(source.name, epoch, table)
        for chain in table.chains:
            if chain not in self.table.chains:
                source.say("writes %s", chain)
        self.table = table
        return _done(table)

    def may_write(self, owner: str, epoch: int, table: RoutingTable) -> bool:
        """The fence: the lease is read again in the transaction."""
        return (self.owner, self.epoch) == (owner, epoch) and self.follows(table)

    def follows(self, table: RoutingTable) -> bool:
        """Whether the table was made of the present one."""
        return table.version == self.table.version + 1


class SimulatedManager:
    """One manager process, over all its lives."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.process = cluster.process(f"manager{number}")
        self._epoch = 0
        self._lease_until = 0.0
        self._membership: Membership | None = None
        self._table: RoutingTable

    def start(self) -> None:
        """Begin a life, as a candidate."""
        self.process.begin()
        self.process.say("starts")
        self._membership = None
        self.process.handlers = {"heartbeat": self._on_heartbeat, "routing": self._on_routing}
        self.process.spawn(self._live())

    def crash(self) -> None:
        """Die."""
        self.process.say("crashes")
        self.process.end()
        self.cluster.network.died(self.process)

    def is_primary(self) -> bool:
        """Whether it may act, by its own clock."""
        return self._membership is not None and self.process.clock() < self._lease_until

    async def _live(self) -> None:
        while True:
            try:
                await self._stand()
                await self._reign()
            except RetryableError as error:
                self.process.say("is not primary: %s", error)
            self._membership = None
            await self.process.sleep(TICK_SECONDS)

    async def _stand(self) -> None:
        """Wait until the lease stands still for its time, and take it."""
        process, lease = self.process, self.cluster.settings.lease_seconds
        seen = await self._kv("lease", None)
        since = process.clock()
        while seen[0] and process.clock() < since + lease * 1.2:
            await process.sleep(lease / RENEWALS_PER_LEASE)
            now_seen = await self._kv("lease", None)
            if now_seen != seen:
                seen, since = now_seen, process.clock()
        asked = process.clock()
        self._epoch, self._table = await self._kv("take", seen)
        self._lease_until = asked + lease
        self._membership = Membership(self._table, lease, process.clock())

    async def _reign(self) -> None:
        process, lease = self.process, self.cluster.settings.lease_seconds
        renewed = process.clock()
        while self.is_primary():
            if process.clock() >= renewed + lease / RENEWALS_PER_LEASE:
                renewed = process.clock()
                await self._kv("renew", self._epoch)
                self._lease_until = renewed + lease
            assert self._membership is not None
            proposal = self._membership.tick(process.clock())
            if proposal is None and self.cluster.moves:
                proposal = self._moved(self.cluster.moves[0])
                if proposal is None or self._membership.may_leave(proposal, process.clock()):
                    self.cluster.moves.popleft()
                else:
                    proposal = None
            if proposal is not None:
                await self._write(proposal)
            await process.sleep(TICK_SECONDS)

    def _moved(self, move: Move) -> RoutingTable | None:
        try:
            table = move(self._table)
        except CraqenError as error:
            self.process.say("refuses: %s", error)
            return None
        return None if table is self._table else table

    async def _write(self, proposal: RoutingTable) -> None:
        """Store it as the next version; if that fails, see what is stored."""
        assert self._membership is not None
        following = replace(proposal, version=self._table.version + 1)
        try:
            self._table = await self._kv("write", (self._epoch, following))
        except RetryableError as error:
            self.process.say("could not write: %s", error)
            self._table = await self._kv("table", None)
        if self._membership is not None:
            self._membership.written(self._table)

    async def _kv(self, method: str, payload: Any) -> Any:
        kv = self.cluster.kv.process
        return await self.cluster.network.call(self.process, kv, method, payload, KV_SECONDS)

    def _on_heartbeat(self, request: HeartbeatRequest, _: Process) -> Future[Any]:
        if not self.is_primary():
            return _failed(UnavailableError(f"{self.process.name} is not primary"))
        assert self._membership is not None
        verdict = self._membership.heartbeat(request, self.process.clock())
        if verdict.newer_incarnation:
            newer = HeartbeatReply(self._epoch, 0.0, newer_incarnation=verdict.newer_incarnation)
            return _done((newer, None))
        if not verdict.accepted:
            return _failed(UnavailableError(verdict.reason))
        table = self._table if self._table.version > request.routing_version else None
        lease = self.cluster.settings.lease_seconds
        return _done((HeartbeatReply(self._epoch, lease, renews=verdict.renews), table))

    def _on_routing(self, _: int, __: Process) -> Future[Any]:
        if not self.is_primary():
            return _failed(UnavailableError(f"{self.process.name} is not primary"))
        return _done(self._table)


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set(value)
    return future


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    assert isinstance(error, RetryableError)
    future.fail(error)
    return future
