"""DRIVER: one connection per storage node, opened when needed, with the descriptors it passed to
us."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TypeVar

from ..cluster.records import NodeRecord
from ..cluster.routing import Routing
from ..errors import ProtocolError, UnavailableError
from ..transport.greeting import SecretSource, greet
from ..transport.port import Connection
from ..transport.registry import transport_for
from ..wire.codec import decode
from ..wire.messages import Message, Method, encode
from .block_file import BlockFile

CALL_TIMEOUT_SECONDS = 20.0  # a chunk update waits for flushes on every replica, never for longer
CONNECT_TIMEOUT_SECONDS = 5.0
DESCRIPTOR_LINGER_SECONDS = 600.0
"""How long descriptors stay open after their connection is gone: readers may be in the middle of a
block, and a number closed too early would soon name another file."""

R = TypeVar("R", bound=Message)


class NodeConnection:
    """A greeted connection to one storage node."""

    def __init__(self, connection: Connection, node: NodeRecord) -> None:
        self._connection = connection
        self.node = node
        self.shares_files = connection.shares_files
        self._files: dict[int, BlockFile] = {}
        self.broken = False
        self._closed = False

    def descriptor(self, file_key: int) -> int:
        """The descriptor of a file that the node named. Raises ProtocolError if it was never
        passed."""
        return self.block_file(file_key).descriptor

    def block_file(self, file_key: int) -> BlockFile:
        """A file that the node named. Raises ProtocolError if it was never passed."""
        try:
            return self._files[file_key]
        except KeyError:
            raise ProtocolError(
                f"storage node {self.node.node_id} named file {file_key} without passing it"
            ) from None

    async def call(
        self,
        method: Method,
        request: Message,
        reply_kind: type[R],
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
    ) -> R:
        """One call; descriptors in the answer are kept. Raises what the node raised,
        UnavailableError."""
        try:
            reply = await self._connection.call(
                method,
                encode(request),
                send=send,
                receive=receive,
                timeout_seconds=CALL_TIMEOUT_SECONDS,
            )
        except UnavailableError:
            # Lost or silent: the next caller makes a new connection.
            self.broken = True
            raise
        message = decode(reply_kind, reply.header)
        new_files: tuple[int, ...] = getattr(message, "new_files", ())
        if len(new_files) != len(reply.descriptors):
            for descriptor in reply.descriptors:
                os.close(descriptor)
            raise ProtocolError(f"storage node {self.node.node_id} passed files without names")
        for file_key, descriptor in zip(new_files, reply.descriptors, strict=True):
            if file_key in self._files:
                os.close(descriptor)
            else:
                self._files[file_key] = BlockFile(descriptor)
        return message

    async def close(self) -> None:
        """End the connection; descriptors stay open for a while (DESCRIPTOR_LINGER_SECONDS)."""
        self.broken = True
        if not self._closed:
            self._closed = True
            loop = asyncio.get_running_loop()
            loop.call_later(DESCRIPTOR_LINGER_SECONDS, self._close_descriptors)
        await self._connection.close()

    def _close_descriptors(self) -> None:
        files, self._files = list(self._files.values()), {}
        for file in files:
            file.close()


class NodeConnections:
    """Connections by node id. Opening one is serialised per node by its lock."""

    def __init__(self, *, client_id: int, cluster_id: str, host: str, secret: SecretSource) -> None:
        self._secret = secret
        self._client_id = client_id
        self._cluster_id = cluster_id
        self._host = host
        self._open: dict[int, NodeConnection] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def table_changed(self, routing: Routing) -> None:
        """Let go of nodes that the chains go on without: one that hangs answers no call."""
        for node_id in routing.left_nodes() & self._open.keys():
            task = asyncio.ensure_future(self._open.pop(node_id).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def is_remote(self, node: NodeRecord) -> bool:
        """Whether *node* is on another host."""
        return node.host != self._host

    def ready(self, node_id: int) -> NodeConnection | None:
        """The connection if it is there and whole: the hot path, without waiting."""
        connection = self._open.get(node_id)
        return None if connection is None or connection.broken else connection

    async def get(self, node: NodeRecord) -> NodeConnection:
        """The connection to *node*, made if need be. Raises UnavailableError."""
        ready = self.ready(node.node_id)
        if ready is not None:
            return ready
        lock = self._locks.setdefault(node.node_id, asyncio.Lock())
        async with lock:
            ready = self.ready(node.node_id)
            if ready is not None:
                return ready
            old = self._open.pop(node.node_id, None)
            if old is not None:
                await old.close()
            connection = await self._connect(node)
            self._open[node.node_id] = connection
            return connection

    async def _connect(self, node: NodeRecord) -> NodeConnection:
        problem: Exception | None = None
        for address in node.addresses:
            if address.startswith("unix:") and node.host != self._host:
                continue
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    raw = await transport_for(address).connect(address)
            except (UnavailableError, OSError, TimeoutError) as error:
                problem = error
                continue
            connection = NodeConnection(raw, node)
            try:
                answer = await greet(
                    raw,
                    self._cluster_id,
                    self._client_id,
                    self._secret,
                    timeout_seconds=CONNECT_TIMEOUT_SECONDS,
                )
            except BaseException:
                await connection.close()
                raise
            if answer.node_id != node.node_id:
                await connection.close()
                problem = UnavailableError(
                    f"{address}: answered as storage node {answer.node_id}, not {node.node_id}"
                )
                continue
            return connection
        raise UnavailableError(
            f"storage node {node.node_id}: cannot be reached at "
            f"{', '.join(node.addresses) or 'any address'}: {problem}"
        )

    async def close(self) -> None:
        """Close all connections."""
        connections = list(self._open.values())
        self._open.clear()
        for connection in connections:
            await connection.close()
        await asyncio.gather(*self._closing)
