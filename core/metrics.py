"""What a process counts and measures, as Prometheus scrapes it: the text format 0.0.4, and a server
that answers `/metrics` with it. There is no global registry: a process says what it has when asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import ConfigError, OperatorError

HEAD_BYTES_MAX: Final = 8192  # of a request: scrapers send a few hundred
REQUEST_TIMEOUT_SECONDS: Final = 5.0
SCRAPERS_MAX: Final = 16  # at a time; more are turned away
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str | int], float]
"""Labels, and the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One name with all its samples. ``kind``: ``counter`` or ``gauge``."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def render(metrics: Iterable[Metric]) -> str:
    """The text that a scraper is answered."""
    lines = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for labels, value in metric.samples:
            told = ",".join(f'{name}="{_escaped(str(one))}"' for name, one in labels.items())
            shown = repr(int(value)) if float(value).is_integer() else repr(float(value))
            lines.append(f"{metric.name}{{{told}}} {shown}" if told else f"{metric.name} {shown}")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def listening_place(listen: str, number: int) -> tuple[str, int]:
    """Host and port of process *number* (0: a manager, below it: keepers) where ``metrics.listen``
    says *listen*.

    Raises ConfigError.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or not 1 <= int(port) + number <= 65_535:
        raise ConfigError(
            f"metrics.listen: {listen!r}, process {number}: expected host:port, with a port up to "
            f"65535 for the highest node number added to it"
        )
    return host.removeprefix("[").removesuffix("]"), int(port) + number


class MetricsServer:
    """Answers ``GET /metrics``, one request per connection."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect
        self._server: asyncio.Server | None = None
        self._scrapers = 0
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen (port 0: any). Raises OperatorError."""
        try:
            server = await asyncio.start_server(self._answer, host, port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            raise OperatorError(
                f"metrics.listen: {host}:{port} cannot be listened on: {error}"
            ) from error
        self._server = server
        self.port = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop. Nothing happens if it was not started."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._scrapers += 1
        try:
            if self._scrapers <= SCRAPERS_MAX:
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    await self._exchange(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody is left to be told
        finally:
            self._scrapers -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].split()
        if len(words) == 3 and words[0] == b"GET" and words[1].split(b"?")[0] == b"/metrics":
            status, body = "200 OK", render(self._collect()).encode()
        else:
            status, body = "404 Not Found", b"ask for GET /metrics\n"
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(answer.encode() + body)
        await writer.drain()
