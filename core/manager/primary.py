"""DRIVER: the primary manager at work: takes heartbeats, stores tables, lets others follow them.

One task ticks; ``change`` and the tick write one at a time, under a lock. The table in memory is
always the stored one: who finds another in the KV reads it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable

from ..cluster.delta import RoutingDelta, delta_between, whole_table
from ..cluster.membership import FENCE_LEASES, Membership
from ..cluster.messages import (
    FollowReply,
    FollowRequest,
    HeartbeatReply,
    HeartbeatRequest,
)
from ..cluster.records import RoutingTable
from ..cluster.store import read_table, replace_table
from ..errors import ConflictError, InvalidArgumentError, UnavailableError
from ..kv.store import KeyValueStore
from .election import Election
from .settings import Settings

TICKS_PER_LEASE = 16
TICK_SECONDS_MAX = 0.25
TABLES_KEPT = 64  # for deltas to those that are a few versions behind
WRITE_ATTEMPTS_MAX = 5


class Primary:
    """Made when the lease was taken; ``run`` until it is lost."""

    def __init__(
        self,
        kv: KeyValueStore,
        election: Election,
        table: RoutingTable,
        settings: Settings,
        lease_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kv = kv
        self._election = election
        self.settings = settings
        self.lease_seconds = lease_seconds
        self.now = now
        self.membership = Membership(table, lease_seconds, now())
        self._writing = asyncio.Lock()
        self._tables: OrderedDict[int, RoutingTable] = OrderedDict({table.version: table})
        self._deltas: dict[int, RoutingDelta] = {}
        self._changed = asyncio.Event()
        """Set, and replaced by a new one, with every table."""

    @property
    def epoch(self) -> int:
        """Of this manager's lease."""
        return self._election.epoch

    @property
    def table(self) -> RoutingTable:
        """The stored table."""
        return self.membership.table

    async def run(self) -> None:
        """Tick until cancelled. Raises UnavailableError when the lease is another's."""
        pause = min(TICK_SECONDS_MAX, self.lease_seconds / TICKS_PER_LEASE)
        while True:
            await self._tick()
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Those who follow the table are told that this manager is not the primary any more."""
        self._changed.set()

    async def _tick(self) -> None:
        if self.membership.tick(self.now()) is None:
            return
        async with self._writing:
            # Asked again under the lock: the table may be another by now.
            proposal = self.membership.tick(self.now())
            if proposal is not None and not await self._store(proposal):
                await self._read_again()

    async def change(self, move: Callable[[RoutingTable], RoutingTable]) -> RoutingTable:
        """Store what *move* makes of the table; return the stored one.

        Raises what *move* raises, UnavailableError if this manager is not the primary any more,
        ConflictError if others keep changing it.
        """
        for _ in range(WRITE_ATTEMPTS_MAX):
            wanted = move(self.table)
            if not self.membership.may_leave(wanted, self.now()):
                # From now on the nodes in question are not renewed: then they have stopped.
                await asyncio.sleep(self.lease_seconds * FENCE_LEASES)
            async with self._writing:
                following = move(self.table)
                if following == self.table:
                    return self.table
                if following != wanted and not self.membership.may_leave(following, self.now()):
                    continue  # the table is another by now
                if await self._store(following):
                    return self.table
                await self._read_again()
        raise ConflictError("the routing table is being changed by others: try again")

    async def _store(self, wanted: RoutingTable) -> bool:
        stored = await replace_table(self._kv, self.table, wanted, self._election.fence)
        if stored is None:
            return False
        self._take(stored)
        return True

    async def _read_again(self) -> None:
        self._take(await read_table(self._kv))

    def _take(self, table: RoutingTable) -> None:
        self.membership.written(table)
        self._tables[table.version] = table
        while len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        self._deltas.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatReply:
        """Take a node's heartbeat.

        Raises UnavailableError (not the primary, or the node is not in the table yet),
        InvalidArgumentError (the node has to stop).
        """
        self.check_primary()
        verdict = self.membership.heartbeat(request, self.now())
        if verdict.is_candidate:
            raise UnavailableError(verdict.reason)
        if verdict.newer_incarnation:
            return HeartbeatReply(self.epoch, 0.0, newer_incarnation=verdict.newer_incarnation)
        if not verdict.accepted:
            raise InvalidArgumentError(verdict.reason)
        version, values = self.settings.for_nodes()
        return HeartbeatReply(
            self.epoch,
            self.lease_seconds,
            self._delta(request.routing_version),
            version,
            values,
            renews=verdict.renews,
        )

    async def follow(self, request: FollowRequest) -> FollowReply:
        """Answer when the table is newer than asked for, or the time is over. Raises
        UnavailableError if this is not the primary."""
        self.check_primary()
        if request.routing_version >= self.table.version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(request.wait_seconds):
                    await self._changed.wait()
            self.check_primary()
        return FollowReply(self._delta(request.routing_version))

    def _delta(self, version: int) -> RoutingDelta | None:
        """What leads from *version* to the table; None: nothing."""
        if version >= self.table.version:
            return None
        delta = self._deltas.get(version)
        if delta is None:
            known = self._tables.get(version)
            delta = whole_table(self.table) if known is None else delta_between(known, self.table)
            self._deltas[version] = delta
        return delta

    def check_primary(self) -> None:
        """Raise UnavailableError if this manager's lease is over."""
        if not self._election.holds():
            raise UnavailableError("this manager is not the primary")


async def begin(
    kv: KeyValueStore,
    election: Election,
    lease_seconds: float,
    wall_seconds: Callable[[], float] = time.time,
) -> Primary:
    """A primary that knows what is stored. Raises CraqenError."""
    settings = Settings(kv, election.fence, wall_seconds)
    await settings.load()
    return Primary(kv, election, await read_table(kv), settings, lease_seconds)
