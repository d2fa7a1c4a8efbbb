"""DRIVER: a storage node's part in the cluster: heartbeats to the primary manager, the routing
table that comes back, and the right to serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from ..cluster.delta import RoutingDelta, apply_delta
from ..cluster.messages import (
    FollowReply,
    FollowRequest,
    HeartbeatReply,
    HeartbeatRequest,
)
from ..cluster.routing import Routing
from ..cluster.store import EMPTY
from ..errors import ConflictError, InvalidArgumentError, OperatorError, UnavailableError
from ..manager.link import ManagerLink
from ..wire.messages import Method
from .lease import NodeLease

HEARTBEATS_PER_LEASE = 8
"""Three may be lost before the node stops serving after half a lease."""
FOLLOW_SECONDS = 10.0
FOLLOW_MARGIN_SECONDS = 5.0
RETRY_SECONDS = 0.1
INCARNATION_RANDOM_BITS = 11  # the rest of 62 holds microseconds until the year 2041
COMPLAINT_SECONDS = 10.0  # between log lines on a manager that does not answer

_log = logging.getLogger("craqen.storage")


class Membership:
    """One node. The table is replaced between awaits: readers see whole ones."""

    def __init__(
        self,
        link: ManagerLink,
        description: Callable[[], HeartbeatRequest],
        lease_seconds: float,
        table_changed: Callable[[Routing], None],
        settings_changed: Callable[[dict[str, str]], None],
    ) -> None:
        """*description*: what the node says of itself now (incarnation and number are filled in
        here); *lease_seconds*: until the manager has said its own."""
        self.routing = Routing(EMPTY)
        self.lease = NodeLease()
        self._link = link
        self._description = description
        self._lease_seconds = lease_seconds
        self._table_changed = table_changed
        self._settings_changed = settings_changed
        self._settings_version = -1
        self._incarnation = new_incarnation(time.time_ns())
        self._number = 0
        self._beat = asyncio.Event()
        self._accepted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained = 0.0

    @property
    def lease_seconds(self) -> float:
        """The manager's lease, as far as it is known."""
        return self._lease_seconds

    def may_serve(self) -> bool:
        """Whether the node's lease holds now."""
        return self.lease.holds(time.monotonic())

    async def fetch_table(self) -> Routing:
        """Wait for the first table that a primary manager gives."""
        while not self.routing.table.version:
            try:
                await self._follow_once(0.0)
            except UnavailableError as error:
                self._complain(error)
                await asyncio.sleep(RETRY_SECONDS)
        return self.routing

    async def join(self) -> None:
        """Begin to send heartbeats and to follow the table; return when the node is taken in.

        Raises OperatorError if the manager refuses this node for good.
        """
        self._tasks = [
            asyncio.create_task(self._send_heartbeats()),
            asyncio.create_task(self._follow()),
        ]
        accepted = asyncio.create_task(_event(self._accepted))
        try:
            await asyncio.wait({accepted, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
        finally:
            accepted.cancel()

    def check(self) -> None:
        """Raise what ended the heartbeats, if anything has."""
        for task in self._tasks:
            if task.done():
                task.result()

    def changed(self) -> None:
        """Something that the manager should hear of at once."""
        self._beat.set()

    async def _send_heartbeats(self) -> None:
        while True:
            self._beat.clear()
            try:
                await self._heartbeat(stopping=False)
                self._accepted.set()
                pause = self._lease_seconds / HEARTBEATS_PER_LEASE
            except UnavailableError as error:
                self._complain(error)
                pause = min(RETRY_SECONDS, self._lease_seconds / HEARTBEATS_PER_LEASE)
            except InvalidArgumentError as error:
                raise OperatorError(f"the manager refuses this node: {error}") from error
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._beat.wait()

    async def _heartbeat(self, *, stopping: bool) -> None:
        self._number += 1
        request = msgspec.structs.replace(
            self._description(),
            incarnation=self._incarnation,
            number=self._number,
            routing_version=self.routing.table.version,
            stopping=stopping,
        )
        sent = time.monotonic()
        reply = await self._link.call(
            Method.HEARTBEAT,
            request,
            HeartbeatReply,
            timeout_seconds=self._lease_seconds / 4,
        )
        if reply.newer_incarnation:
            self._follow_up(reply.newer_incarnation)
        if reply.renews and not stopping:
            self.lease.renewed(sent, reply.lease_seconds)
        self._lease_seconds = reply.lease_seconds
        if reply.delta is not None:
            self._take(reply.delta)
        if reply.settings is not None and reply.settings_version != self._settings_version:
            self._settings_version = reply.settings_version
            self._settings_changed(reply.settings)

    def _follow_up(self, newer_incarnation: int) -> NoReturn:
        """The manager knows a newer process of this node. Raises UnavailableError: try again by
        another number; InvalidArgumentError: this process was taken in before, and is replaced."""
        node_id = self._description().node_id
        if self._accepted.is_set():
            raise InvalidArgumentError(
                f"node {node_id}: this process was replaced by a newer one; see that no two "
                f"processes have this node id"
            )
        self._incarnation = newer_incarnation + 1
        raise UnavailableError(
            f"node {node_id}: this host's clock went back: the process before this one began "
            f"later; this one is counted behind it"
        )

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once(FOLLOW_SECONDS)
            except UnavailableError:
                await asyncio.sleep(RETRY_SECONDS)  # heartbeats tell of it

    async def _follow_once(self, wait_seconds: float) -> None:
        reply = await self._link.call(
            Method.FOLLOW_ROUTING,
            FollowRequest(self.routing.table.version, wait_seconds),
            FollowReply,
            timeout_seconds=wait_seconds + FOLLOW_MARGIN_SECONDS,
        )
        if reply.delta is not None:
            self._take(reply.delta)

    def _take(self, delta: RoutingDelta) -> None:
        try:
            table = apply_delta(self.routing.table, delta)
        except ConflictError:
            return  # two answers crossed; the next one begins at the version that is here
        if table is self.routing.table:
            return
        self.routing = Routing(table)
        self._table_changed(self.routing)
        self._beat.set()  # states are said under the new chain versions

    def _complain(self, error: UnavailableError) -> None:
        now = time.monotonic()
        if now - self._complained > COMPLAINT_SECONDS:
            self._complained = now
            _log.warning("no primary manager takes this node's heartbeats: %s", error)

    async def leave(self) -> None:
        """Stop serving; tell the manager, so that the chains go on without this node at once."""
        # First of all: by what it hears, the manager lets others change what is served here.
        self.lease.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._accepted.is_set():
            with contextlib.suppress(UnavailableError, InvalidArgumentError):
                await self._heartbeat(stopping=True)
        await self._link.close()


def new_incarnation(wall_ns: int) -> int:
    """The number of a process that starts now: above those of the node's earlier processes, as long
    as the host's clock does not go back; the low bits tell processes of one microsecond apart."""
    return (wall_ns // 1000) << INCARNATION_RANDOM_BITS | secrets.randbits(INCARNATION_RANDOM_BITS)


async def _event(event: asyncio.Event) -> None:
    await event.wait()
