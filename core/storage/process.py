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
from ..cluster.routing import Routing
from ..cluster.store import KvRouting, change_table
from ..errors import ConfigError, CraqenError, UnavailableError
from ..ids import ChunkId, TargetId
from ..kv.open import open_store
from ..kv.store import KeyValueStore
from ..options import Config
from ..transport.port import Connection, Server
from ..transport.registry import transport_for
from ..wire.codec import decode, exception_from_status
from ..wire.messages import (
    CommittedVersionReply,
    CommittedVersionRequest,
    HelloReply,
    HelloRequest,
    Method,
    Update,
    UpdateReply,
    UpdateRequest,
    UpdateResult,
    encode,
)
from .node import PROTOCOL_VERSION, StorageNode
from .target import Target

THREADS = 4  # disk work that releases the interpreter lock
TICK_SECONDS = 1.0
QUARANTINE_LEASES = 2.0  # a freed block rests for twice the lease that readers are given
PEER_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger("craqen.storage")


class StorageProcess:
    """A storage node on this host's disk number *node_id*."""

    def __init__(self, config: Config, node_id: int) -> None:
        self._config = config
        self._node_id = node_id
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="storage-io")
        self._peers: dict[int, Connection] = {}
        self._servers: list[Server] = []
        self._targets: list[Target] = []

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Serve until *stop* is set. Raises OperatorError, ConfigError when it cannot start."""
        kv = open_store(self._config.kv_url, durability=self._config.kv.durability)
        routing = KvRouting(kv)
        try:
            await routing.start()
            self._routing = routing
            await self._open_targets(routing.routing)
            addresses = await self._serve()
            await self._announce(kv, addresses)
            routing.listen(self._table_changed)
            for target in self._node.targets.values():
                target.settle_pending()
            ready(addresses[0])
            await self._tick_until(stop)
        finally:
            for server in self._servers:
                await server.close()
            for peer in self._peers.values():
                await peer.close()
            for target in self._targets:
                await target.close()
            await routing.close()
            await kv.close()
            self._executor.shutdown()

    async def _open_targets(self, routing: Routing) -> None:
        lease = self._config.storage.lease_seconds
        self._node = StorageNode(self._node_id, routing.table.cluster_id, lease, self._ask_tail)
        mine = [one for one in routing.table.targets if one.node_id == self._node_id]
        if not mine:
            raise ConfigError(f"storage node {self._node_id} has no targets in the routing table")
        for record in mine:
            store = FileChunkStore(
                Path(record.folder),
                SystemClock(),
                quarantine_seconds=QUARANTINE_LEASES * lease,
                target_id=TargetId(record.target_id),
                cluster_id=routing.table.cluster_id,
            )
            chain = next(
                chain
                for chain in routing.chains()
                if any(member.target_id == record.target_id for member in chain.targets)
            )
            for chunk_id in store.damaged():
                _log.error(
                    "target %d: the index record of chunk %s is damaged", record.target_id, chunk_id
                )
            target = Target(record.target_id, chain, store, self._executor, self._send)
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
            for target in self._node.targets.values():
                target.store.tick()
            try:
                await asyncio.wait_for(stop.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    # Other storage nodes

    async def _peer(self, target_id: int) -> Connection:
        """A greeted connection to the node that has the target. Raises UnavailableError."""
        node = self._routing.routing.node_of(target_id)
        known = self._peers.get(node.node_id)
        if known is not None:
            return known
        host = host_identity()
        for address in node.addresses:
            if address.startswith("unix:") and node.host != host:
                continue
            try:
                connection = await transport_for(address).connect(address)
            except UnavailableError:
                continue
            hello = HelloRequest(PROTOCOL_VERSION, self._routing.routing.table.cluster_id, 0)
            answer = await connection.call(
                Method.HELLO, encode(hello), timeout_seconds=PEER_TIMEOUT_SECONDS
            )
            decode(HelloReply, answer.header)
            self._peers[node.node_id] = connection
            return connection
        raise UnavailableError(f"storage node {node.node_id}: cannot be reached")

    async def _forget_peer(self, target_id: int) -> None:
        node = self._routing.routing.node_of(target_id)
        connection = self._peers.pop(node.node_id, None)
        if connection is not None:
            await connection.close()

    async def _send(self, target_id: int, update: Update, data: memoryview | None) -> UpdateResult:
        connection = await self._peer(target_id)
        try:
            answer = await connection.call(
                Method.UPDATE,
                encode(UpdateRequest((update,))),
                send=() if data is None else (data,),
                timeout_seconds=PEER_TIMEOUT_SECONDS,
            )
        except UnavailableError:
            await self._forget_peer(target_id)
            raise
        result = decode(UpdateReply, answer.header).results[0]
        error = exception_from_status(result.status)
        if error is not None:
            raise error
        return result

    async def _ask_tail(self, target: Target, chunk_id: ChunkId) -> int:
        replica = target.replica
        request = CommittedVersionRequest(
            replica.chain.chain_id, replica.chain.version, chunk_id.segment_id, chunk_id.index
        )
        tail_id = replica.tail_id()
        try:
            connection = await self._peer(tail_id)
            answer = await connection.call(
                Method.COMMITTED_VERSION, encode(request), timeout_seconds=PEER_TIMEOUT_SECONDS
            )
        except CraqenError:
            await self._forget_peer(tail_id)
            raise
        return decode(CommittedVersionReply, answer.header).version
