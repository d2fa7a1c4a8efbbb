"""A chain of storage nodes in one process: production nodes, targets, peers and upkeep on real
folders, over the in-process transport. The test says what the table is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from craqen.core.checksum import crc32c
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.clock import SystemClock
from craqen.core.cluster.records import (
    ChainRecord,
    ChainTarget,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.cluster.routing import Routing
from craqen.core.craq.events import Reply
from craqen.core.errors import RetryableError, UnavailableError
from craqen.core.ids import ChunkId, TargetId, UpdateToken
from craqen.core.options import StorageOptions
from craqen.core.storage.node import StorageNode
from craqen.core.storage.peers import Peers
from craqen.core.storage.target import Target
from craqen.core.storage.upkeep import Upkeep
from craqen.core.transport.port import Server
from craqen.core.transport.registry import transport_for
from craqen.core.wire.codec import exception_from_status
from craqen.core.wire.messages import (
    ChunkRange,
    CommittedVersionReply,
    CommittedVersionRequest,
    Method,
    ReadReply,
    ReadRequest,
    Update,
    UpdateKind,
)

CHAIN_ID = 7
CLUSTER_ID = "test"
SERVING, SYNCING, OFFLINE = PublicState.SERVING, PublicState.SYNCING, PublicState.OFFLINE
PATIENCE_SECONDS = 20.0


class Node:
    """One storage node with one target of the same number."""

    def __init__(self, number: int, chain: SmallChain) -> None:
        self.number = number
        self._chain = chain
        self._executor = ThreadPoolExecutor(2)
        self._closing: list[asyncio.Task[None]] = []
        self.peers = Peers(lambda: chain.routing, lambda: None)
        self.node = StorageNode(number, CLUSTER_ID, 1.0, self._ask_tail, lambda: True, lambda: None)
        self.target = self._open(number)
        self.upkeep = Upkeep(chain.options, lambda: self.node.targets, self.peers, SystemClock())
        self._server: Server

    def _open(self, target_id: int) -> Target:
        store = FileChunkStore(
            self._chain.folder / f"target-{target_id}",
            SystemClock(),
            quarantine_seconds=2.0,
            target_id=TargetId(target_id),
            cluster_id=CLUSTER_ID,
        )
        target = Target(
            target_id, self._chain.record, store, self._executor, self.node.rooms, self.peers
        )
        self.node.add(target)
        return target

    def open_another(self, target_id: int) -> None:
        """Another target of the chain, on another disk of this node; the table has it already."""
        target = self._open(target_id)
        target.settle_pending()
        self.upkeep.target_opened(target)
        self.upkeep.chains_changed()

    def take_away(self, target: Target) -> None:
        """The table has the target no more."""
        self.node.remove(target)
        self._closing.append(asyncio.create_task(target.close()))

    async def start(self) -> None:
        address = self._chain.routing.node_of(self.number).addresses[0]
        self._server = await transport_for(address).serve(
            address, self.node.handle, peer_gone=self.node.peer_gone
        )
        self.target.settle_pending()
        self.upkeep.start()

    async def close(self) -> None:
        await self.upkeep.close()
        for target in self.node.targets:
            target.stop()
        await self._server.close()
        for target in self.node.targets:
            await target.close()
        await asyncio.gather(*self._closing)
        await self.peers.close()
        self._executor.shutdown()

    async def _ask_tail(self, target: Target, chunk_id: ChunkId) -> int:
        tail, chain = target.replica.view.tail_id, target.replica.chain
        if tail is None:
            raise UnavailableError("no target serves")
        request = CommittedVersionRequest(chain.chain_id, chain.version, *chunk_id, tail)
        return (
            await self.peers.call(tail, Method.COMMITTED_VERSION, request, CommittedVersionReply)
        ).version


class SmallChain:
    """The chain, its table, and a client's calls."""

    def __init__(self, folder: Path, length: int, **options: float) -> None:
        self.folder = folder
        self.options = StorageOptions(**{"scrub_mebibytes_per_second": 0.0, **options})  # type: ignore[arg-type]
        self._name = f"{folder.name}-{id(self)}"
        self.numbers = range(1, length + 1)
        self.record = ChainRecord(
            CHAIN_ID, 1, tuple(ChainTarget(one, SERVING) for one in self.numbers)
        )
        self.homes = {one: one for one in self.numbers}
        """By target id: the node that has it."""
        self.routing = self._routing()
        self.nodes: dict[int, Node] = {}
        self._sequence = 0

    def _routing(self) -> Routing:
        nodes = tuple(
            NodeRecord(one, (f"inproc://{self._name}-{one}",), "") for one in self.numbers
        )
        targets = tuple(TargetRecord(one, home, "") for one, home in self.homes.items())
        return Routing(
            RoutingTable(self.record.version, CLUSTER_ID, nodes, targets, (self.record,))
        )

    async def start(self, number: int) -> None:
        self.nodes[number] = Node(number, self)
        await self.nodes[number].start()

    async def stop(self, number: int) -> None:
        await self.nodes.pop(number).close()

    def table(self, *members: tuple[int, PublicState]) -> None:
        """The manager writes another version of the chain, and everybody alive hears of it."""
        targets = tuple(ChainTarget(*one) for one in members)
        self.record = ChainRecord(CHAIN_ID, self.record.version + 1, targets)
        self.routing = self._routing()
        for node in self.nodes.values():
            for target in list(node.node.targets):
                if any(target.target_id == one.target_id for one in targets):
                    target.chain_changed(self.record)
                else:
                    node.take_away(target)
            node.upkeep.chains_changed()

    def target(self, target_id: int) -> Target | None:
        """The target if its node is up."""
        node = self.nodes.get(self.homes[target_id])
        targets = () if node is None else node.node.targets
        return next((one for one in targets if one.target_id == target_id), None)

    def token(self) -> UpdateToken:
        self._sequence += 1
        return UpdateToken(5, 1, self._sequence)

    async def put(
        self, chunk_id: ChunkId, data: bytes, token: UpdateToken | None = None, offset: int = -1
    ) -> Reply:
        kind = UpdateKind.REPLACE if offset < 0 else UpdateKind.WRITE
        return await self._update(chunk_id, kind, data, token or self.token(), max(0, offset))

    async def remove(self, chunk_id: ChunkId) -> Reply:
        return await self._update(chunk_id, UpdateKind.REMOVE, None, self.token(), 0)

    async def _update(
        self,
        chunk_id: ChunkId,
        kind: UpdateKind,
        data: bytes | None,
        token: UpdateToken,
        offset: int,
    ) -> Reply:
        """As a client: again and again under the same token, at whoever is the head."""
        length, crc = (0, 0) if data is None else (len(data), crc32c(data))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                head = self.target(self.record.targets[0].target_id)
                update = Update(
                    *chunk_id, CHAIN_ID, self.record.version, kind, offset, length, crc, *token
                )
                try:
                    if head is not None:
                        view = None if data is None else memoryview(data)
                        return await head.update(update, view)
                except RetryableError:
                    pass
                await asyncio.sleep(0.01)

    async def read(self, number: int, chunk_id: ChunkId, length: int) -> bytes:
        """Read from one replica. Raises what it answers."""
        into = bytearray(length)
        request = ReadRequest((ChunkRange(*chunk_id, CHAIN_ID, self.record.version, 0, length),))
        reply = await self.nodes[number].peers.call(
            number, Method.READ, request, ReadReply, receive=[memoryview(into)]
        )
        error = exception_from_status(reply.results[0].status)
        if error is not None:
            raise error
        return bytes(into[: reply.results[0].length_bytes])

    def contents(self, number: int) -> dict[ChunkId, tuple[int, int, int]]:
        """(version, length, checksum) of everything that a replica has committed."""
        found = {}
        target = self.target(number)
        assert target is not None
        for record in target.store.scan(ChunkId(0, 0), 100_000):
            assert record.pending is None
            assert record.pending_remove is None
            kept = record.committed
            assert kept is not None
            found[record.chunk_id] = (kept.version, kept.length_bytes, kept.crc32c)
        return found

    def damage(self, number: int, data: bytes) -> None:
        """Flip a bit in every place where a replica has *data* on its disk."""
        hits = 0
        for path in (self.folder / f"target-{number}" / "blocks").iterdir():
            content = path.read_bytes()
            at = content.find(data)
            if at >= 0:
                hits += 1
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([data[0] ^ 1]))
        assert hits, "there is nothing to damage"

    def damage_record(self, number: int, crc: int) -> None:
        """Flip a bit in every index record with this checksum of a replica that is stopped."""
        path = self.folder / f"target-{number}" / "index" / "data.mdb"
        index = bytearray(path.read_bytes())
        wanted = crc.to_bytes(4, "big")
        at = index.find(wanted)
        assert at >= 0
        while at >= 0:
            index[at] ^= 1
            at = index.find(wanted, at + 1)
        path.write_bytes(index)


async def until(what: Callable[[], bool]) -> None:
    """Return when *what* holds; it must within PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not what():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def small_chain(folder: Path, length: int, **options: float) -> AsyncIterator[SmallChain]:
    chain = SmallChain(folder, length, **options)
    try:
        for number in chain.numbers:
            await chain.start(number)
        yield chain
    finally:
        for number in list(chain.nodes):
            await chain.stop(number)
