"""DRIVER: the first calls of a connection between processes of a cluster: versions, cluster, and
over the network the proof of the cluster's secret (core/challenge.py).

A connection that passes files goes through a socket file in a folder that only its owner may enter:
it needs no proof.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ..challenge import NONCE_BYTES, ClusterSecret
from ..errors import ConfigError, InvalidArgumentError, ProtocolError, UnavailableError
from ..wire.codec import decode
from ..wire.messages import (
    AuthenticateReply,
    AuthenticateRequest,
    HelloReply,
    HelloRequest,
    Method,
    encode,
)
from .port import Answer, Connection, IncomingRequest

PROTOCOL_VERSION = 1
STRANGERS_MAX = 1024  # connections that have said HELLO and not yet proved anything

SecretSource = Callable[[], ClusterSecret | None]


async def greet(
    connection: Connection,
    cluster_id: str,
    client_id: int,
    secret: SecretSource,
    *,
    timeout_seconds: float,
) -> HelloReply:
    """Greet the server of *connection*; raises UnavailableError if it does not know the secret,
    ConfigError if we do not, and what the server raises."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    hello = HelloRequest(PROTOCOL_VERSION, cluster_id, client_id, nonce)
    raw = await connection.call(Method.HELLO, encode(hello), timeout_seconds=timeout_seconds)
    reply = decode(HelloReply, raw.header)
    if connection.shares_files:
        return reply
    key = secret()
    if key is None:
        raise ConfigError("cluster.secret_file: the secret that is needed on the network is absent")
    if not key.proves(reply.proof, "server", nonce, reply.nonce, reply.node_id):
        raise UnavailableError(
            f"storage node or manager {reply.node_id}: does not know this cluster's secret"
        )
    proof = key.proof("client", nonce, reply.nonce, reply.node_id)
    await connection.call(
        Method.AUTHENTICATE, encode(AuthenticateRequest(proof)), timeout_seconds=timeout_seconds
    )
    return reply


@dataclass(slots=True)
class _Stranger:
    client_nonce: bytes
    server_nonce: bytes


class Gate:
    """At a server: who has been greeted. Touched between awaits only."""

    def __init__(self, own_id: int, cluster_id: Callable[[], str], secret: SecretSource) -> None:
        """*own_id*: the node's number, 0 for a manager; *cluster_id* empty: not known (yet)."""
        self._own_id = own_id
        self._cluster_id = cluster_id
        self._secret = secret
        self._strangers: dict[int, _Stranger] = {}
        self._known: set[int] = set()
        self.refused = 0
        """Greetings and calls that were refused."""

    def check(self, request: IncomingRequest) -> None:
        """Raise ProtocolError unless the request's connection was greeted."""
        if request.peer_id not in self._known:
            self.refused += 1
            raise ProtocolError("the first calls of a connection are HELLO, and AUTHENTICATE")

    def hello(self, request: IncomingRequest) -> Answer:
        """Answer HELLO. Raises ProtocolError, InvalidArgumentError, ConfigError."""
        hello = decode(HelloRequest, request.header)
        if hello.protocol_version != PROTOCOL_VERSION:
            self.refused += 1
            raise ProtocolError(
                f"protocol version {hello.protocol_version}; this node speaks {PROTOCOL_VERSION}"
            )
        own = self._cluster_id()
        if own and hello.cluster_id and hello.cluster_id != own:
            self.refused += 1
            raise InvalidArgumentError("this node belongs to another cluster")
        if request.shares_files:
            self._known.add(request.peer_id)
            return Answer(encode(HelloReply(PROTOCOL_VERSION, self._own_id)))
        secret = self._secret()
        if secret is None:
            raise ConfigError("cluster.secret_file: this node has no secret, so nobody can join it")
        if len(hello.nonce) != NONCE_BYTES or len(self._strangers) >= STRANGERS_MAX:
            self.refused += 1
            raise ProtocolError("a greeting without a nonce, or too many at a time")
        stranger = _Stranger(hello.nonce, secrets.token_bytes(NONCE_BYTES))
        self._strangers[request.peer_id] = stranger
        proof = secret.proof("server", hello.nonce, stranger.server_nonce, self._own_id)
        reply = HelloReply(PROTOCOL_VERSION, self._own_id, stranger.server_nonce, proof)
        return Answer(encode(reply))

    def authenticate(self, request: IncomingRequest) -> Answer:
        """Answer AUTHENTICATE: one try for each greeting. Raises ProtocolError."""
        stranger = self._strangers.pop(request.peer_id, None)
        secret = self._secret()
        proof = decode(AuthenticateRequest, request.header).proof
        if (
            stranger is None
            or secret is None
            or not secret.proves(
                proof, "client", stranger.client_nonce, stranger.server_nonce, self._own_id
            )
        ):
            self.refused += 1
            raise ProtocolError("the proof of the cluster's secret is wrong")
        self._known.add(request.peer_id)
        return Answer(encode(AuthenticateReply()))

    def peer_gone(self, peer_id: int) -> None:
        """The connection has ended."""
        self._known.discard(peer_id)
        self._strangers.pop(peer_id, None)
