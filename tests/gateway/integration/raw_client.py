"""A client that sends any bytes at all and shows what comes back, byte by byte."""

from __future__ import annotations

import re
import socket
from types import TracebackType
from typing import NamedTuple, Protocol

from craqen.gateway.auth.request import SignedRequest
from craqen.tests.gateway.unit.signing_client import sign

TIMEOUT_SECONDS = 20.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error document; empty if there is none."""
        match = re.search(rb"<Code>(\w+)</Code>", self.body)
        return "" if match is None else match[1].decode()


class Door(Protocol):
    """Where a client connects to."""

    @property
    def port(self) -> int:
        """On the loopback address."""

    @property
    def host(self) -> str:
        """As it stands in the Host header."""


class RawClient:
    """One connection."""

    def __init__(self, gateway: Door) -> None:
        self._gateway = gateway
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_SECONDS)
        self._buffer = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def signed(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        content_sha256: str = "",
        host: str = "",
    ) -> SignedRequest:
        """A signed request for this gateway; *body* only for its digest and length."""
        return sign(
            method,
            f"http://{host or self._gateway.host}{path}",
            headers,
            body,
            content_sha256=content_sha256,
        )

    def send_head(self, request: SignedRequest, extra: dict[str, str] | None = None) -> None:
        """Send the head of *request*, with more headers that are not signed."""
        target = request.raw_path + (f"?{request.raw_query}" if request.raw_query else "")
        lines = [f"{request.method} {target} HTTP/1.1"]
        lines += [
            f"{name}: {value}" for name, value in {**request.headers, **(extra or {})}.items()
        ]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def put(self, path: str, body: bytes, extra: dict[str, str] | None = None) -> Answer:
        """PUT with an unsigned payload."""
        request = self.signed("PUT", path, content_sha256="UNSIGNED-PAYLOAD")
        self.send_head(request, {"content-length": str(len(body)), **(extra or {})})
        self.send(body)
        return self.answer()

    def get(self, path: str) -> Answer:
        self.send_head(self.signed("GET", path))
        return self.answer()

    def status_line(self) -> str:
        """The next status line; its headers are skipped. For informational answers."""
        return self._head().partition("\r\n")[0]

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer."""
        lines = self._head().split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value.strip()
        length = 0 if head_only else int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(int(lines[0].split()[1]), headers, body)

    def answer_behind_continue(self) -> Answer:
        """The final answer, where an informational one may come first or not."""
        answer = self.answer()
        return self.answer() if answer.status == 100 else answer

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            while True:
                self._receive()
        except (EOFError, ConnectionResetError):
            rest, self._buffer = self._buffer, b""
            return rest

    def is_closed(self) -> bool:
        """Whether the server closes the connection, without another byte."""
        return self.rest() == b""

    def _head(self) -> str:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode()

    def _receive(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError("the server closed the connection")
        self._buffer += data
