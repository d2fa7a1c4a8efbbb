"""DRIVER: one storage process: opens its targets, serves them, tells the cluster where it
listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..chunks.engine import FileChunkStore
from ..clock import SystemClock
from ..cluster.host import host_identity
from ..cluster.layout import with_addresses
from ..cluster.records import TargetRecord
from ..cluster.routing import Routing
from ..cluster.store import KvRouting, change_table
from ..errors import ConfigError, CraqenError, UnavailableError
from ..ids import ChunkId, TargetId
from ..kv.open import open_store
from ..kv.store import KeyValueStore
from ..options import Config
from ..transport.port import Server
from ..transport.registry import transport_for
from ..wire.messages import (
    CommittedVersionReply,
    CommittedVersionRequest,
    Method,
)
from .node import StorageNode
from .peers import Peers
from .target import Target

THREADS = 4  # disk work that releases the interpreter lock
TICK_SECONDS = 1.0
QUARANTINE_LEASES = 2.0  # a freed block rests for twice the lease that readers are given

_log = logging.getLogger("craqen.storage")


class StorageProcess:
    """A storage node on this host's disk number *node_id*."""

    def __init__(self, config: Config, node_id: int) -> None:
        self._config = config
        self._node_id = node_id
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-io")
        self._node: StorageNode
        self._servers: list[Server] = []
        self._targets: list[Target] = []

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Serve until *stop* is set. Raises OperatorError, ConfigError when it cannot start."""
        kv = open_store(self._config.kv_url, durability=self._config.kv.durability)
        routing = KvRouting(kv)
        self._peers = Peers(lambda: routing.routing)
        try:
            await routing.start()
            lease = self._config.storage.lease_seconds
            cluster_id = routing.routing.table.cluster_id
            self._node = StorageNode(self._node_id, cluster_id, lease, self._ask_tail)
            self._open_targets(routing.routing)
            addresses = await self._serve()
            await self._announce(kv, addresses)
            routing.listen(self._table_changed)
            self._table_changed(routing.routing)
            for target in self._targets:
                target.settle_pending()
            ready(addresses[0])
            await self._tick_until(stop)
        finally:
            await self._close()
            await routing.close()
            await kv.close()

    async def _close(self) -> None:
        """No more requests, then nothing under way, then the disks. A target that cannot flush
        does not keep the others from it."""
        for target in self._targets:
            target.stop()
        for server in self._servers:
            await server.close()
        failures: list[CraqenError] = []
        for target in self._targets:
            try:
                await target.close()
            except CraqenError as error:
                failures.append(error)
        await self._peers.close()
        self._executor.shutdown()
        if failures:
            raise failures[0]

    def _open_targets(self, routing: Routing) -> None:
        mine = [one for one in routing.table.targets if one.node_id == self._node_id]
        if not mine:
            raise ConfigError(f"storage node {self._node_id} has no targets in the routing table")
        for record in mine:
            self._open_target(routing, record)

    def _open_target(self, routing: Routing, record: TargetRecord) -> None:
        chain = routing.chain_of(record.target_id)
        if chain is None:
            _log.warning("target %d is in no chain: it is not served", record.target_id)
            return
        store = FileChunkStore(
            Path(record.folder),
            SystemClock(),
            quarantine_seconds=QUARANTINE_LEASES * self._config.storage.lease_seconds,
            target_id=TargetId(record.target_id),
            cluster_id=routing.table.cluster_id,
        )
        for chunk_id in store.damaged():
            _log.error(
                "target %d: the index record of chunk %x.%d is damaged", record.target_id, *chunk_id
            )
        target = Target(
            record.target_id, chain, store, self._executor, self._node.rooms, self._peers
        )
        self._node.targets[chain.chain_id] = target
        self._targets.append(target)

    async def _serve(self) -> tuple[str, ...]:
        Path(self._config.run_folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        addresses = [f"unix://{self._config.run_folder}/storage-{self._node_id}.sock"]
        if self._config.storage.listen:
            addresses.append(self._config.storage.listen)
        for address in addresses:
            server = await transport_for(address).serve(
                address, self._node.handle, peer_gone=self._node.peer_gone
            )
            self._servers.append(server)
        return tuple(server.address for server in self._servers)

    async def _announce(self, kv: KeyValueStore, addresses: tuple[str, ...]) -> None:
        host = host_identity()
        await change_table(kv, lambda table: with_addresses(table, self._node_id, addresses, host))

    def _table_changed(self, routing: Routing) -> None:
        for chain_id, target in self._node.targets.items():
            chain = routing.chain(chain_id)
            if chain is not None and chain.version > target.replica.chain.version:
                target.chain_changed(chain)

    async def _tick_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            for target in self._targets:
                target.store.tick()
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
            view.chain.chain_id, view.chain.version, chunk_id.segment_id, chunk_id.index
        )
        reply = await self._peers.call(
            view.tail_id, Method.COMMITTED_VERSION, request, CommittedVersionReply
        )
        return reply.version
