"""Over the network nobody gets in, and nobody is believed, without the cluster's secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.challenge import NONCE_BYTES, ClusterSecret
from craqen.core.config import load_config
from craqen.core.errors import ConfigError, InvalidArgumentError, ProtocolError, UnavailableError
from craqen.core.transport.greeting import Gate, greet
from craqen.core.transport.port import Answer, Connection, IncomingRequest
from craqen.core.transport.registry import transport_for
from craqen.core.wire.codec import decode
from craqen.core.wire.messages import (
    AuthenticateRequest,
    HelloReply,
    HelloRequest,
    Method,
    encode,
)

OURS, THEIRS = ClusterSecret(b"our secret, quite long"), ClusterSecret(b"another secret, long too")
NODE_ID = 7
ASKED = 99
TIMEOUT_SECONDS = 10.0


class Server:
    """A node that does nothing but keep strangers out."""

    def __init__(self, secret: ClusterSecret | None, node_id: int = NODE_ID) -> None:
        self.gate = Gate(node_id, lambda: "cluster", lambda: secret)

    async def handle(self, request: IncomingRequest) -> Answer:
        if request.method == Method.HELLO:
            return self.gate.hello(request)
        if request.method == Method.AUTHENTICATE:
            return self.gate.authenticate(request)
        self.gate.check(request)
        return Answer(b"inside")


def run(server: Server, scene: Callable[[Connection], Awaitable[None]], address: str = "") -> None:
    async def main() -> None:
        address_wanted = address or "tcp://127.0.0.1:0"
        transport = transport_for(address_wanted)
        listening = await transport.serve(
            address_wanted, server.handle, peer_gone=server.gate.peer_gone
        )
        connection = await transport.connect(listening.address)
        try:
            await scene(connection)
        finally:
            await connection.close()
            await listening.close()

    asyncio.run(main())


async def ask(connection: Connection) -> bytes:
    return (await connection.call(ASKED, b"", timeout_seconds=TIMEOUT_SECONDS)).header


def greeting(secret: ClusterSecret | None) -> Callable[[Connection], Awaitable[HelloReply]]:
    return lambda connection: greet(
        connection, "cluster", 1, lambda: secret, timeout_seconds=TIMEOUT_SECONDS
    )


def test_who_knows_the_secret_gets_in() -> None:
    async def scene(connection: Connection) -> None:
        assert (await greeting(OURS)(connection)).node_id == NODE_ID
        assert await ask(connection) == b"inside"

    run(Server(OURS), scene)


def test_a_socket_in_a_private_folder_needs_no_secret(tmp_path: Path) -> None:
    async def scene(connection: Connection) -> None:
        await greeting(None)(connection)
        assert await ask(connection) == b"inside"

    run(Server(None), scene, f"unix://{tmp_path}/socket")


def test_nobody_gets_in_without_a_greeting() -> None:
    server = Server(OURS)

    async def scene(connection: Connection) -> None:
        with pytest.raises(ProtocolError, match="HELLO"):
            await ask(connection)

    run(server, scene)
    assert server.gate.refused == 1


def test_half_a_greeting_is_not_enough() -> None:
    async def scene(connection: Connection) -> None:
        hello = HelloRequest(1, "cluster", 1, bytes(NONCE_BYTES))
        await connection.call(Method.HELLO, encode(hello), timeout_seconds=TIMEOUT_SECONDS)
        with pytest.raises(ProtocolError):
            await ask(connection)

    run(Server(OURS), scene)


def test_a_server_without_the_secret_is_not_believed() -> None:
    async def scene(connection: Connection) -> None:
        with pytest.raises(UnavailableError, match="secret"):
            await greeting(OURS)(connection)

    run(Server(THEIRS), scene)


def test_the_servers_own_proof_sent_back_does_not_help() -> None:
    async def scene(connection: Connection) -> None:
        hello = HelloRequest(1, "cluster", 1, bytes(NONCE_BYTES))
        raw = await connection.call(Method.HELLO, encode(hello), timeout_seconds=TIMEOUT_SECONDS)
        proof = decode(HelloReply, raw.header).proof
        with pytest.raises(ProtocolError, match="wrong"):
            await connection.call(
                Method.AUTHENTICATE,
                encode(AuthenticateRequest(proof)),
                timeout_seconds=TIMEOUT_SECONDS,
            )

    run(Server(OURS), scene)


def test_a_recorded_proof_does_not_help() -> None:
    async def scene(connection: Connection) -> None:
        nonce = bytes(NONCE_BYTES)
        hello = encode(HelloRequest(1, "cluster", 1, nonce))
        raw = await connection.call(Method.HELLO, hello, timeout_seconds=TIMEOUT_SECONDS)
        reply = decode(HelloReply, raw.header)
        recorded = encode(AuthenticateRequest(OURS.proof("client", nonce, reply.nonce, NODE_ID)))
        await connection.call(Method.HELLO, hello, timeout_seconds=TIMEOUT_SECONDS)
        with pytest.raises(ProtocolError, match="wrong"):
            await connection.call(Method.AUTHENTICATE, recorded, timeout_seconds=TIMEOUT_SECONDS)

    run(Server(OURS), scene)


def test_other_versions_and_clusters_are_refused() -> None:
    server = Server(OURS)

    async def scene(connection: Connection) -> None:
        for hello, error in (
            (HelloRequest(99, "cluster", 1, bytes(NONCE_BYTES)), ProtocolError),
            (HelloRequest(1, "other", 1, bytes(NONCE_BYTES)), InvalidArgumentError),
            (HelloRequest(1, "cluster", 1, b"short"), ProtocolError),
        ):
            with pytest.raises(error):
                await connection.call(Method.HELLO, encode(hello), timeout_seconds=TIMEOUT_SECONDS)

    run(server, scene)
    assert server.gate.refused == 3


def test_the_secret_file_must_be_private_and_long(tmp_path: Path) -> None:
    config = load_config(None, {"CRAQEN_DATA_FOLDER": str(tmp_path)})
    assert config.cluster_secret() is None
    path = tmp_path / "cluster-secret"
    path.touch(0o600)
    path.write_text("short\n")
    with pytest.raises(ConfigError, match="at least"):
        config.cluster_secret()
    path.write_text("long enough for a secret\n")
    secret = config.cluster_secret()
    assert "long enough" not in repr(secret)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        config.cluster_secret()
