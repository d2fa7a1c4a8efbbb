"""DRIVER: connections to other storage nodes, one per node, made when first needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..cluster.host import host_identity
from ..cluster.records import NodeRecord
from ..cluster.routing import Routing
from ..errors import CraqenError, UnavailableError
from ..transport.greeting import SecretSource, greet
from ..transport.port import Connection, Reply
from ..transport.registry import transport_for
from ..wire.codec import decode
from ..wire.messages import Message, Method, encode
from .silence import Silence

CALL_TIMEOUT_SECONDS = 10.0  # below an update's deadline: a silent successor is asked again once
CONNECT_TIMEOUT_SECONDS = 3.0

R = TypeVar("R", bound=Message)


class _Peer:
    """A greeted connection, and how many calls use it."""

    __slots__ = ("address", "calls", "connection", "retired")

    def __init__(self, connection: Connection, address: str) -> None:
        self.connection = connection
        self.address = address
        self.calls = 0
        self.retired = False


class Peers:
    """Calls other nodes. A connection on which a call was not answered is not used again; calls
    that are under way on it may end. A node that is silent is not called at all."""

    def __init__(self, routing: Callable[[], Routing], secret: SecretSource) -> None:
        self._secret = secret
        self._routing = routing
        self._host = host_identity()
        self._peers: dict[int, _Peer] = {}
        self._retired: set[_Peer] = set()
        self._locks: dict[int, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.silence = Silence(time.monotonic())
        """Who does not answer; see PeerWatch."""

    def table_changed(self, routing: Routing) -> None:
        """Let go of nodes that the chains go on without: one that hangs answers no call."""
        for node_id in routing.left_nodes():
            self.let_go(node_id)
        self.silence.keep({node.node_id for node in routing.nodes()})

    def let_go(self, node_id: int) -> None:
        """End the calls to a node that are under way."""
        peer = self._peers.get(node_id)
        if peer is not None:
            self._retire(node_id, peer)
            task = asyncio.ensure_future(peer.connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def call(
        self,
        target_id: int,
        method: Method,
        request: Message,
        reply_kind: type[R],
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
    ) -> R:
        """Ask the node that has the target. Raises what it raised, UnavailableError."""
        node = self._routing().node_of(target_id)
        node_id, silence = node.node_id, self.silence
        if silence.is_silent(node_id):
            raise UnavailableError(f"storage node {node_id} does not answer")
        silence.asked(node_id, time.monotonic())
        try:
            reply = await self._called(node, method, request, send, receive)
        except UnavailableError:
            silence.failed(node_id)
            raise
        except CraqenError:
            silence.answered(node_id, time.monotonic())
            raise
        except BaseException:
            silence.failed(node_id)
            raise
        silence.answered(node_id, time.monotonic())
        return decode(reply_kind, reply.header)

    async def _called(
        self,
        node: NodeRecord,
        method: Method,
        request: Message,
        send: Sequence[memoryview],
        receive: Sequence[memoryview],
    ) -> Reply:
        peer = self._known(node) or await self._connected(node)
        peer.calls += 1
        try:
            return await peer.connection.call(
                method,
                encode(request),
                send=send,
                receive=receive,
                timeout_seconds=CALL_TIMEOUT_SECONDS,
            )
        except UnavailableError:
            self._retire(node.node_id, peer)
            raise
        finally:
            peer.calls -= 1
            if peer.retired and not peer.calls:
                self._retired.discard(peer)
                await peer.connection.close()

    async def probe(self, node_id: int, timeout_seconds: float) -> None:
        """Greet a node on a connection of its own. Raises CraqenError if it does not answer well
        within the time, or is not in the table."""
        node = next((one for one in self._routing().nodes() if one.node_id == node_id), None)
        if node is None:
            raise UnavailableError(f"storage node {node_id} is not in the table")
        try:
            async with asyncio.timeout(timeout_seconds):
                peer = await self._connect(node)
                await peer.connection.close()
        except TimeoutError:
            raise UnavailableError(f"storage node {node_id} does not answer") from None

    def _known(self, node: NodeRecord) -> _Peer | None:
        """The connection, unless the node listens elsewhere by now."""
        peer = self._peers.get(node.node_id)
        return peer if peer is not None and peer.address in node.addresses else None

    async def _connected(self, node: NodeRecord) -> _Peer:
        async with self._locks.setdefault(node.node_id, asyncio.Lock()):
            known = self._known(node)
            if known is not None:
                return known
            old = self._peers.get(node.node_id)
            if old is not None:
                self._retire(node.node_id, old)
                if not old.calls:
                    self._retired.discard(old)
                    await old.connection.close()
            peer = self._peers[node.node_id] = await self._connect(node)
            return peer

    async def _connect(self, node: NodeRecord) -> _Peer:
        for address in node.addresses:
            if address.startswith("unix:") and node.host != self._host:
                continue
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    connection = await transport_for(address).connect(address)
            except (UnavailableError, TimeoutError):
                continue
            try:
                await self._greet(node, connection)
            except BaseException:
                await connection.close()
                raise
            return _Peer(connection, address)
        raise UnavailableError(
            f"storage node {node.node_id}: cannot be reached at "
            f"{', '.join(node.addresses) or 'any address'}"
        )

    async def _greet(self, node: NodeRecord, connection: Connection) -> None:
        answer = await greet(
            connection,
            self._routing().table.cluster_id,
            0,
            self._secret,
            timeout_seconds=CONNECT_TIMEOUT_SECONDS,
        )
        found = answer.node_id
        if found != node.node_id:
            raise UnavailableError(f"storage node {node.node_id}: its address is node {found}'s")

    def _retire(self, node_id: int, peer: _Peer) -> None:
        if self._peers.get(node_id) is peer:
            del self._peers[node_id]
        peer.retired = True
        self._retired.add(peer)

    async def close(self) -> None:
        """End all connections."""
        peers = [*self._peers.values(), *self._retired]
        self._peers.clear()
        self._retired.clear()
        for peer in peers:
            await peer.connection.close()
        await asyncio.gather(*self._closing)
