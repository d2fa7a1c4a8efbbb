"""MACHINE: when so many days are over. Days end as in AWS: with the midnight UTC after the time
that is reached. A test clock has days of some seconds, which end where they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Calendar:
    """How long a day is."""

    day_ns: int = DAY_NS

    def __post_init__(self) -> None:
        assert 0 < self.day_ns <= DAY_NS, self.day_ns

    def due_ns(self, since_ns: int, days: int) -> int:
        """When *days* since *since_ns* are over."""
        reached_ns = since_ns + days * self.day_ns
        if self.day_ns != DAY_NS:
            return reached_ns
        return (reached_ns // DAY_NS + 1) * DAY_NS

    def before_ns(self, now_ns: int, days: int) -> int:
        """Whatever began before this has had its *days* at *now_ns*; nothing else has."""
        if self.day_ns != DAY_NS:
            return now_ns - days * self.day_ns + 1
        return (now_ns // DAY_NS - days) * DAY_NS


REAL_DAYS: Final = Calendar()
