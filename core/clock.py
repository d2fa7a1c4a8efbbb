"""PORT: time. Machines never read a clock; drivers are given one, so tests own time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people (wall), one for intervals and leases (monotonic)."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may step."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        ...


class SystemClock:
    """The clocks of this host."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_seconds(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told, for tests."""

    def __init__(self, *, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._monotonic_seconds = 1000.0

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic_seconds(self) -> float:
        return self._monotonic_seconds

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by *seconds*."""
        self._wall_ns += int(seconds * 1e9)
        self._monotonic_seconds += seconds
