"""DRIVER: one storage process: joins the cluster, serves its targets, keeps them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..clock import SystemClock
from ..cluster.host import host_identity
from ..cluster.messages import UNREACHED_MAX, HeartbeatRequest
from ..cluster.routing import Routing
from ..errors import UnavailableError
from ..ids import ChunkId
from ..manager.link import ManagerLink
from ..metrics import Metric, MetricsServer, listening_place
from ..options import Config
from ..transport.port import Server
from ..transport.registry import transport_for
from ..wire.messages import (
    CommittedVersionReply,
    CommittedVersionRequest,
    Method,
)
from .measures import measures
from .membership import Membership
from .node import StorageNode
from .peer_watch import PeerWatch
from .peers import Peers
from .target import Target
from .targets import Targets
from .upkeep import Upkeep

THREADS = 8  # disk work: it releases the interpreter lock, and most of it waits for disks
TICK_SECONDS = 1.0


class StorageProcess:
    """Storage node *node_id*, with targets on *disks*."""

    def __init__(self, config: Config, node_id: int, disks: tuple[str, ...]) -> None:
        self._config = config
        self._node_id = node_id
        self._disks = disks
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-io")
        self._servers: list[Server] = []
        self._peers = Peers(lambda: self._membership.routing, config.cluster_secret)
        self._membership = Membership(
            ManagerLink(config.manager_addresses, config.cluster_secret),
            self._description,
            config.cluster.lease_seconds,
            self._table_changed,
            self._settings_changed,
        )
        self._watch = PeerWatch(
            self._peers, lambda: self._membership.lease_seconds, self._membership.changed
        )
        self._metrics = MetricsServer(self._measures)
        self._node: StorageNode | None = None
        self._targets: Targets
        self._upkeep: Upkeep

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Serve until *stop* is set. Raises OperatorError, ConfigError when it cannot start."""
        table = asyncio.create_task(self._membership.fetch_table())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({table, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            await self._open(table.result())
            ready(self._servers[0].address)
            await self._tick_until(stop)
        finally:
            table.cancel()
            stopped.cancel()
            await asyncio.gather(table, stopped, return_exceptions=True)
            await self._close()

    async def _open(self, routing: Routing) -> None:
        storage = self._config.storage
        node = StorageNode(
            self._node_id,
            routing.table.cluster_id,
            storage.lease_seconds,
            self._ask_tail,
            self._membership.may_serve,
            self._config.cluster_secret,
        )
        self._targets = Targets(
            self._node_id, node, self._executor, self._peers, storage.lease_seconds
        )
        self._upkeep = Upkeep(storage, self._targets.open, self._peers, SystemClock())
        self._node = node
        self._targets.take(routing, lambda target: None)
        self._targets.check()
        await self._serve(node)
        for target in self._targets.open():
            target.settle_pending()
        self._upkeep.start()
        self._watch.start()
        await self._membership.join()
        listen = self._config.metrics.listen
        if listen:
            await self._metrics.start(*listening_place(listen, self._node_id))

    async def _serve(self, node: StorageNode) -> None:
        Path(self._config.run_folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        addresses = [f"unix://{self._config.run_folder}/storage-{self._node_id}.sock"]
        if self._config.storage.listen:
            addresses.append(self._config.storage.listen)
        for address in addresses:
            server = await transport_for(address).serve(
                address, node.handle, peer_gone=node.peer_gone
            )
            self._servers.append(server)

    async def _close(self) -> None:
        """The chains go on without this node; then no more requests, then nothing under way, then
        the disks. A target that cannot flush does not keep the others from it."""
        await self._metrics.close()
        await self._watch.close()
        await self._membership.leave()
        try:
            if self._node is not None:
                self._targets.stop()
                for server in self._servers:
                    await server.close()
                await self._upkeep.close()
                await self._targets.close()
        finally:
            await self._peers.close()
            self._executor.shutdown()

    # What the cluster says, and hears

    def _description(self) -> HeartbeatRequest:
        return HeartbeatRequest(
            self._membership.routing.table.cluster_id,
            self._node_id,
            0,
            0,
            0,
            tuple(server.address for server in self._servers),
            host_identity(),
            self._config.cluster.domain,
            self._disks,
            self._targets.reports(self._upkeep),
            refused=self._refused(),
            unreached=self._peers.silence.silent[:UNREACHED_MAX],
        )

    def _refused(self) -> int:
        node = 0 if self._node is None else self._node.refused
        return node + sum(server.refused for server in self._servers)

    def _measures(self) -> list[Metric]:
        return measures(self._node_id, self._targets.open(), self._upkeep, self._refused())

    def _table_changed(self, routing: Routing) -> None:
        if self._node is None:
            return
        self._targets.take(routing, self._opened_later)
        self._upkeep.chains_changed()
        self._peers.table_changed(routing)

    def _opened_later(self, target: Target) -> None:
        target.settle_pending()
        self._upkeep.target_opened(target)

    def _settings_changed(self, settings: dict[str, str]) -> None:
        """Options that may be changed while running; others wait for the next start."""
        storage = self._config.storage
        resync = settings.get("storage.resync_mebibytes_per_second")
        scrub = settings.get("storage.scrub_mebibytes_per_second")
        self._upkeep.resync_throttle.mebibytes_per_second = (
            storage.resync_mebibytes_per_second if resync is None else float(resync)
        )
        self._upkeep.scrub_throttle.mebibytes_per_second = (
            storage.scrub_mebibytes_per_second if scrub is None else float(scrub)
        )

    async def _tick_until(self, stop: asyncio.Event) -> None:
        offline: set[int] = set()
        while not stop.is_set():
            self._membership.check()
            self._targets.tick()
            failed = {one.target_id for one in self._targets.open() if one.offline is not None}
            if failed - offline:
                offline = failed
                self._membership.changed()
            try:
                await asyncio.wait_for(stop.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    async def _ask_tail(self, target: Target, chunk_id: ChunkId) -> int:
        """Which version of the chunk counts at the tail of the target's chain?"""
        view = target.replica.view
        if view.tail_id is None:
            raise UnavailableError(f"chain {view.chain.chain_id}: no target serves")
        request = CommittedVersionRequest(
            view.chain.chain_id, view.chain.version, *chunk_id, target_id=view.tail_id
        )
        reply = await self._peers.call(
            view.tail_id, Method.COMMITTED_VERSION, request, CommittedVersionReply
        )
        return reply.version
