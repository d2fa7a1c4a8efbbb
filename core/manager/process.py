"""DRIVER: one manager process: takes part in the election, answers nodes and operators while it is
the primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ..cluster.layout import local_table
from ..cluster.messages import (
    AdminReply,
    AdminRequest,
    FollowRequest,
    HeartbeatRequest,
)
from ..cluster.records import RoutingTable
from ..cluster.store import change_table, read_table
from ..errors import CraqenError, InvalidArgumentError, ProtocolError, UnavailableError
from ..kv.open import open_store
from ..kv.store import KeyValueStore
from ..metrics import Metric, MetricsServer, listening_place
from ..options import Config
from ..transport.greeting import Gate
from ..transport.port import Answer, IncomingRequest, Server
from ..transport.registry import transport_for
from ..wire.codec import decode
from ..wire.messages import Method, encode
from .admin import answer, overview
from .election import Election
from .link import CONNECT_TIMEOUT_SECONDS
from .measures import measures
from .primary import Primary, begin
from .rebalancing import rebalance_tick

REBALANCE_SECONDS = 1.0
ASKED_SECONDS = 2.5 * CONNECT_TIMEOUT_SECONDS
"""How long a node counts as reaching a manager that is not the primary: between two tries it may
have waited for one that is cut off."""
ASKED_NODES_MAX = 1024

_log = logging.getLogger("craqen.manager")

Duty = Callable[[KeyValueStore], Awaitable[None]]
"""Other work that only the primary does; runs until cancelled."""


class ManagerProcess:
    """Serves on the configured address."""

    def __init__(self, config: Config, number: int, duty: Duty) -> None:
        self._config = config
        self._address = config.manager_addresses[number - 1]
        self._duty = duty
        self._primary: Primary | None = None
        self._asked: dict[int, float] = {}
        """When storage nodes last turned to this manager in vain."""
        self._gate = Gate(0, lambda: "", config.cluster_secret)
        self._server: Server | None = None
        self._metrics = MetricsServer(self._measures)

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Serve until *stop* is set. Raises OperatorError, ConfigError when it cannot start."""
        config = self._config
        kv = open_store(config.kv_url, durability=config.kv.durability)
        tasks: list[asyncio.Task[None]] = []
        try:
            await _ensure_table(kv, config)
            if self._address.startswith("unix:"):
                Path(config.run_folder).mkdir(parents=True, exist_ok=True, mode=0o700)
            server = self._server = await transport_for(self._address).serve(
                self._address, self._handle, peer_gone=self._gate.peer_gone
            )
            election = Election(
                kv,
                self._address,
                config.cluster.lease_seconds,
                time.monotonic,
                lambda: self._heard(kv),
            )
            electing = asyncio.create_task(election.run(lambda: self._lead(kv, election)))
            stopping = asyncio.create_task(_wait(stop))
            tasks = [electing, stopping]
            if config.metrics.listen:
                await self._metrics.start(*listening_place(config.metrics.listen, 0))
            ready(server.address)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if electing.done():
                electing.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._metrics.close()
            if self._server is not None:
                await self._server.close()
            await kv.close()

    async def _lead(self, kv: KeyValueStore, election: Election) -> None:
        primary = await begin(kv, election, self._config.cluster.lease_seconds)
        self._primary = primary
        work = [
            asyncio.ensure_future(one)
            for one in (primary.run(), _rebalance(primary), self._duty(kv))
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            self._primary = None
            primary.close()
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _handle(self, request: IncomingRequest) -> Answer:
        if request.method == Method.HELLO:
            return self._gate.hello(request)
        if request.method == Method.AUTHENTICATE:
            return self._gate.authenticate(request)
        self._gate.check(request)
        primary = self._primary
        if primary is None:
            if request.method == Method.HEARTBEAT:
                self._note(decode(HeartbeatRequest, request.header).node_id)
            raise UnavailableError(f"the manager at {self._address} is not the primary")
        if request.method == Method.HEARTBEAT:
            reply = primary.heartbeat(decode(HeartbeatRequest, request.header))
            return Answer(encode(reply))
        if request.method == Method.FOLLOW_ROUTING:
            return Answer(encode(await primary.follow(decode(FollowRequest, request.header))))
        if request.method == Method.ADMIN:
            return Answer(encode(await _administer(primary, decode(AdminRequest, request.header))))
        raise ProtocolError(f"method {request.method} is not a manager's")

    def _measures(self) -> list[Metric]:
        refused = self._gate.refused + (0 if self._server is None else self._server.refused)
        found = [
            Metric(
                "craqen_refused_total",
                "counter",
                "Frames, greetings and calls refused.",
                [({"manager": self._address}, refused)],
            ),
            Metric(
                "craqen_manager_is_primary",
                "gauge",
                "Whether this manager is the primary (0, 1).",
                [({"manager": self._address}, self._primary is not None)],
            ),
        ]
        if self._primary is not None:
            found += measures(overview(self._primary, time.time()))
        return found

    def _note(self, node_id: int) -> None:
        """A node asks a manager that cannot help it."""
        oldest = time.monotonic() - ASKED_SECONDS
        if len(self._asked) >= ASKED_NODES_MAX:
            self._asked = {one: when for one, when in self._asked.items() if when > oldest}
        if node_id in self._asked or len(self._asked) < ASKED_NODES_MAX:
            self._asked[node_id] = time.monotonic()

    async def _heard(self, kv: KeyValueStore) -> int:
        """How many nodes of the table reach this manager, now or (if it is not the primary) in
        vain."""
        if self._primary is not None:
            return self._primary.membership.heard_lately(time.monotonic())
        oldest = time.monotonic() - ASKED_SECONDS
        asked = {one for one, when in self._asked.items() if when > oldest}
        if not asked:
            return 0
        return sum(node.node_id in asked for node in (await read_table(kv)).nodes)


async def _administer(primary: Primary, request: AdminRequest) -> AdminReply:
    primary.check_primary()
    try:
        arguments = msgspec.json.decode(request.arguments, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise InvalidArgumentError(f"admin {request.command}: {error}") from error
    result = await answer(primary, request.command, arguments)
    return AdminReply(msgspec.json.encode(result))


async def _rebalance(primary: Primary) -> None:
    while True:
        try:
            await rebalance_tick(primary)
        except CraqenError as error:
            _log.warning("rebalance: %s", error)
        await asyncio.sleep(REBALANCE_SECONDS)


async def _ensure_table(kv: KeyValueStore, config: Config) -> None:
    """Make the routing table at the first start; later hold this host's disks against it.

    Managers of several hosts know no disks: their table begins empty, and nodes are added to it.
    """
    cluster_id = secrets.token_hex(16)

    def of_hosts(table: RoutingTable) -> RoutingTable:
        return table if table.version else RoutingTable(0, cluster_id)

    def of_this_host(table: RoutingTable) -> RoutingTable:
        return local_table(table, cluster_id, config.storage.disks, config.storage.replicas)

    await change_table(kv, of_hosts if config.cluster.managers else of_this_host)


async def _wait(stop: asyncio.Event) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await stop.wait()
