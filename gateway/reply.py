"""Answers: status line and headers as bytes, written at once with a small body, or ahead of a
streamed one."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from .errors import S3Error, error_document
from .times import http_date

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_LINE_BREAKS = re.compile(r"[\r\n]+")
XML_TYPE = "application/xml"

_id_prefix = secrets.token_hex(4).upper()
_id_counter = 0


def new_request_id() -> str:
    """Sixteen characters, unique among the processes of a host for all practical purposes."""
    global _id_counter
    _id_counter += 1
    return f"{_id_prefix}{_id_counter & 0xFFFFFFFF:08X}"


class ServerHead:
    """The header lines that every answer has; the date is formatted once a second."""

    def __init__(self, host_id: str) -> None:
        self.host_id = host_id
        self._second = 0
        self._text = ""

    def text(self) -> str:
        """Server, Date and x-amz-id-2."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = (
                f"Server: Craqen\r\nDate: {http_date(second)}\r\nx-amz-id-2: {self.host_id}\r\n"
            )
        return self._text


class Reply:
    """A complete answer with its body at hand."""

    __slots__ = ("body", "chunked", "headers", "keep_alive", "length", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        length: int | None = None,
        keep_alive: bool = True,
        chunked: bool = False,
    ) -> None:
        """*length*: the Content-Length to state, where the body is not sent (HEAD) or follows.
        *chunked*: the body follows in chunks, its length is not known."""
        self.status = status
        self.headers = {} if headers is None else headers
        self.body = body
        self.length = len(body) if length is None else length
        self.keep_alive = keep_alive
        self.chunked = chunked

    def head(self, server: ServerHead, request_id: str) -> bytes:
        """Status line and headers. Header values were checked when they were stored or made
        here."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Error')}\r\n{server.text()}"
            f"x-amz-request-id: {request_id}\r\n"
        ]
        for name, value in self.headers.items():
            if "\n" in value or "\r" in value:
                value = _LINE_BREAKS.sub(" ", value)  # a value never ends its line
            lines.append(f"{name}: {value}\r\n")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        elif self.status not in (204, 304):
            lines.append(f"Content-Length: {self.length}\r\n")
        lines.append("\r\n" if self.keep_alive else "Connection: close\r\n\r\n")
        return "".join(lines).encode("utf-8", "surrogateescape")


class Sent:
    """What the handler gives back to aiohttp once the answer is on its way; stands in for aiohttp's
    response."""

    __slots__ = ("_finish", "body_bytes", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        *,
        keep_alive: bool,
        finish: Callable[[], Awaitable[None]] | None = None,
        body_bytes: int = 0,
    ) -> None:
        """*finish* is awaited before the connection goes on or closes. *body_bytes*: how many were
        sent behind the head."""
        self.status = status
        self.body_bytes = body_bytes
        self.keep_alive = keep_alive
        self._finish = finish

    async def prepare(self, request: object) -> None:
        """Everything was written already."""

    async def write_eof(self) -> None:
        """Everything was written already. Raises ConnectionError if the client takes nothing."""
        if self._finish is not None:
            try:
                await self._finish()
            except TimeoutError as error:
                raise ConnectionAbortedError("the client takes nothing") from error


def xml_reply(document: bytes, status: int = 200) -> Reply:
    """An answer that is an XML document."""
    return Reply(status, {"Content-Type": XML_TYPE}, document)


def error_reply(error: S3Error, resource: str, request_id: str, server: ServerHead) -> Reply:
    """The answer that tells of *error*. *resource* is the path as it came."""
    body = b""
    headers = dict(error.headers)
    if error.status != 304:
        headers["Content-Type"] = XML_TYPE
        body = error_document(
            error, resource=resource, request_id=request_id, host_id=server.host_id
        )
    return Reply(error.status, headers, body)
