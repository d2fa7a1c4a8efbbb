"""A load client that costs little: requests signed beforehand, blocking sockets, one process per
connection.

What it measures is the server, so it does nothing with an answer but count its bytes and check its
status.
"""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ...core.errors import UnavailableError

RECEIVE_BYTES = 1 << 20
UNSIGNED = "UNSIGNED-PAYLOAD"
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send requests, and with which credentials (empty: unsigned)."""

    host: str
    port: int
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""


def request_bytes(
    server: Server,
    method: str,
    path: str,
    *,
    query: str = "",
    body_length: int = 0,
    further: Mapping[str, str] = NOTHING,
) -> bytes:
    """A whole request head, signed by SigV4 with an unsigned payload. *query* is canonical
    already, *further* are more headers; ``x-amz-`` ones are signed."""
    target = f"{path}?{query}" if query else path
    headers = {"host": f"{server.host}:{server.port}"}
    headers |= {name: value for name, value in further.items() if name.startswith("x-amz-")}
    if server.access_key:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers["x-amz-content-sha256"] = UNSIGNED
        headers["x-amz-date"] = moment
        names = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"{method}\n{path}\n{query}\n{listed}\n{names}\n{UNSIGNED}"
        scope = f"{moment[:8]}/{server.region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{server.secret_key}".encode()
        for part in (moment[:8], server.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={server.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}"
        )
    if method in ("PUT", "POST"):
        headers["content-length"] = str(body_length)
    headers |= further
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode()


class Wire:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    def exchange(self, head: bytes, body: bytes | memoryview = b"") -> int:
        """Send one request, receive its whole answer; return the body's length.

        Raises UnavailableError for a status other than 2xx.
        """
        if body and len(body) <= 65536:
            self._socket.sendall(head + bytes(body))
        else:
            self._socket.sendall(head)
            if body:
                self._socket.sendall(body)
        have = self._socket.recv_into(self._buffer)
        while True:
            first = bytes(self._buffer[: min(have, 8192)])
            end = first.find(b"\r\n\r\n")
            if end >= 0:
                break
            count = self._socket.recv_into(self._buffer[have:])
            if not count:
                raise UnavailableError("the server closed the connection")
            have += count
        if first[9:10] != b"2":
            raise UnavailableError(f"the server answered {first[:400]!r}")
        length = _content_length(first[:end])
        left = length - (have - end - 4)
        while left > 0:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise UnavailableError("the server closed the connection in mid-body")
            left -= count
        return length

    def close(self) -> None:
        self._socket.close()


def _content_length(head: bytes) -> int:
    if head[9:12] == b"204":
        return 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise UnavailableError("the answer has no Content-Length")


Work = Callable[[Wire, int], None]
"""Makes request number n; the numbers differ among the connections of a run too."""


def run_connections(server: Server, work: Work, *, connections: int, per_connection: int) -> int:
    """Run *work* on that many connections, each in a process of its own; return the number of
    requests.

    Raises UnavailableError if any failed.
    """
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(
            target=_run_one,
            args=(server, work, range(number * per_connection, (number + 1) * per_connection)),
        )
        for number in range(connections)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = sum(process.exitcode != 0 for process in processes)
    if failed:
        raise UnavailableError(f"{failed} of {connections} load connections failed")
    return connections * per_connection


def _run_one(server: Server, work: Work, numbers: range) -> None:
    wire = Wire(server)
    for number in numbers:
        work(wire, number)
    wire.close()


def exchange_all(server: Server, requests: Sequence[tuple[bytes, bytes]]) -> None:
    """Make *requests* (head, body) one after another on one connection."""
    wire = Wire(server)
    for head, body in requests:
        wire.exchange(head, body)
    wire.close()
