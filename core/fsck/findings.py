"""What a check found: problems, their repairs, and what could not be told. Bounded in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

FINDINGS_MAX = 10_000  # kept in full; what is beyond is counted
FILES_PER_FINDING_MAX = 8
NOTES_MAX = 200

Repair = Callable[[], Awaitable[str | None]]
"""Looks again, repairs in the same transaction, and says in one sentence what was done and why it
is safe. None: it is no longer as it was found, and nothing was done."""


class Safety(StrEnum):
    """What a repair may cost."""

    SAFE = "safe"
    """Nothing that anybody could reach is lost by it."""
    FREES = "frees bytes"
    """Frees bytes that nobody refers to: refused while there are signs that metadata was lost,
    since the bytes may be what is left of it."""
    GIVES_UP = "gives up"
    """Gives up what may be the last trace of lost metadata: only if the operator accepts that."""


@dataclass(slots=True)
class Finding:
    """One problem."""

    kind: str
    """Short and fixed, for programs: ``chunk-missing``, ``link-count`` …"""
    subject: str
    """The thing, such as ``chunk 1f3.0 on chain 2``. Kind and subject name a finding."""
    text: str
    """What is wrong with it."""
    advice: str
    """What an operator should do if it is not repaired."""
    repair: Repair | None = None
    safety: Safety = Safety.SAFE
    lost_metadata: bool = False
    """Whether this is a sign that records of the metadata are gone."""
    owners: set[int] = field(default_factory=set)
    """Inodes whose names are told with it."""
    files: list[str] = field(default_factory=list)
    """Bucket and key of each damaged file."""
    done: str = ""
    """What was done about it; empty if nothing was."""
    settled: bool = False
    """Whether it is a problem no longer."""


class Progress(Protocol):
    """Told how far a check is."""

    def stage(self, name: str) -> None:
        """Something else is being looked at from now on."""
        ...

    def advance(self, count: int) -> None:
        """*count* more things of this stage were looked at."""
        ...


class Silence:
    """``Progress`` that nobody wants to hear of."""

    def stage(self, name: str) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""


class Findings:
    """Everything found so far."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.counts: Counter[str] = Counter()
        """Findings by kind, those that were not kept included."""
        self.unsettled: list[str] = []
        """What changed each time it was looked at. No problem by itself."""
        self.incomplete: list[str] = []
        """What could not be checked or repaired."""
        self.lost_metadata = False
        self._index: dict[tuple[str, str], Finding] = {}

    @property
    def not_kept(self) -> int:
        """How many findings were counted only."""
        return self.counts.total() - len(self.all)

    def add(self, finding: Finding) -> Finding:
        """Take *finding*; return it, or the one there was of the same kind and subject."""
        known = self._index.get((finding.kind, finding.subject))
        if known is not None:
            known.owners |= finding.owners
            return known
        self.counts[finding.kind] += 1
        self.lost_metadata = self.lost_metadata or finding.lost_metadata
        if len(self.all) < FINDINGS_MAX:
            self.all.append(finding)
            self._index[finding.kind, finding.subject] = finding
        return finding

    def drop(self, finding: Finding) -> None:
        """Take *finding* back: it was explained by another."""
        if self._index.pop((finding.kind, finding.subject), None) is not None:
            self.all.remove(finding)
            self.counts[finding.kind] -= 1

    def note_unsettled(self, text: str) -> None:
        """Something was in use each time it was looked at."""
        if len(self.unsettled) < NOTES_MAX and text not in self.unsettled:
            self.unsettled.append(text)

    def note_incomplete(self, text: str) -> None:
        """Something could not be done: the check is not whole."""
        if len(self.incomplete) < NOTES_MAX and text not in self.incomplete:
            self.incomplete.append(text)

    def problems_left(self) -> int:
        """How many problems there are still."""
        return self.not_kept + sum(not finding.settled for finding in self.all)
