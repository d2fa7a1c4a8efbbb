"""What the commands share: the connection, errors as text, progress, sizes for people."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from ...core.options import Config
from ..async_store import AsyncStore, connect_async

FAILED = 1
PROGRESS_SECONDS = 0.5
PAGES_BYTES = 1 << 20  # for verified pages: these commands read everything once

Work = Callable[[AsyncStore, argparse.Namespace, "Report"], Coroutine[Any, Any, None]]


class Report:
    """What went wrong, and how far it is; both on standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self.failures = 0
        self._shows = not quiet and sys.stderr.isatty()
        self._last = time.monotonic()
        self._width = 0

    def failed(self, error: OSError) -> None:
        """One thing could not be done; the rest goes on."""
        self.clear()
        self.failures += 1
        print(f"craqen: {text_of_error(error)}", file=sys.stderr)

    def progress(self, line: str) -> None:
        """Show how far it is, now and then, to who looks on."""
        now = time.monotonic()
        if not self._shows or now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(line)

    def clear(self) -> None:
        """Remove the line of progress."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def text_of_error(error: OSError) -> str:
    """What to tell a person: the thing, what is wrong, and the cause."""
    cause = error.__cause__
    named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{named} ({cause})" if cause is not None and str(cause) not in named else named


class FileCommand:
    """One word after ``craqen``; *arguments* declares its own."""

    def __init__(
        self,
        name: str,
        text: str,
        work: Work,
        arguments: Callable[[argparse.ArgumentParser], None],
    ) -> None:
        self.name = name
        self.help = text
        self._work = work
        self._arguments = arguments

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        self._arguments(parser)
        parser.add_argument("--quiet", action="store_true", help="show no progress")

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        """Do it; return 0, or FAILED if anything could not be done."""
        report = Report(quiet=arguments.quiet)

        async def work() -> None:
            async with await connect_async(config, cache_bytes=PAGES_BYTES) as store:
                await self._work(store, arguments, report)

        try:
            uvloop.run(work())
        except OSError as error:
            report.failed(error)
        report.clear()
        return FAILED if report.failures else 0


def human(size: int) -> str:
    """A size in bytes for people."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"


def parse_size(text: str) -> int:
    """Bytes of ``10``, ``10K``, ``10M``, ``10G``, ``10T``. Raises ArgumentTypeError."""
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number, unit = text.rstrip("KMGTkmgt"), text[len(text.rstrip("KMGTkmgt")) :].upper()
    try:
        return int(float(number) * units[unit])
    except (KeyError, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r}: a size is 10, 10K, 10M, 10G or 10T") from None


def parse_age(text: str) -> float:
    """Seconds of ``30s``, ``10m``, ``2h``, ``7d``. Raises ArgumentTypeError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    try:
        return float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r}: an age is 30s, 10m, 2h or 7d") from None
