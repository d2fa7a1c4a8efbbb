"""Measuring: CPU time of processes, elapsed time, and rows of figures beside their references.

CPU time comes from the scheduler's own account per thread (nanoseconds,
/proc/PID/task/TID/schedstat), since the ten-millisecond ticks of /proc/PID/stat are too coarse for
small work. Threads that end during a measurement are missed, so the measured programs keep theirs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def add_runs(parser: argparse.ArgumentParser, default: int = 3, help_text: str = "") -> None:
    """The option ``--runs``: how often each row is measured."""
    parser.add_argument(
        "--runs",
        type=_positive,
        default=default,
        help=help_text or f"each row is the median of so many (default: {default})",
    )


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
    return int(text)


def cpu_seconds(process_ids: Iterable[int]) -> float:
    """CPU time used so far by all threads of the processes. Processes that are gone count as
    zero."""
    total = 0
    for process_id in process_ids:
        for task in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def descendants(process_id: int) -> list[int]:
    """The process and all its children's children, as they are now."""
    found = [process_id]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


def command_line(process_id: int) -> str:
    """The words that started a process, joined by spaces; empty if it is gone."""
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def resident_mebibytes(process_id: int) -> float:
    """Largest resident size of the process so far."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: operations, elapsed seconds, CPU seconds of the measured processes."""

    operations: int
    elapsed_seconds: float
    cpu_seconds: float

    @property
    def microseconds(self) -> float:
        """CPU time per operation."""
        return self.cpu_seconds / self.operations * 1e6

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.elapsed_seconds


def measure(work: Callable[[], int], process_ids: Sequence[int]) -> Sample:
    """Run *work*, which returns its number of operations, and account the processes' CPU time."""
    before = cpu_seconds(process_ids)
    started = time.perf_counter()
    operations = work()
    elapsed = time.perf_counter() - started
    return Sample(operations, elapsed, cpu_seconds(process_ids) - before)


def median(samples: Sequence[Sample], key: Callable[[Sample], float]) -> float:
    """The middle one of *samples* by *key*."""
    return statistics.median(key(sample) for sample in samples)


@dataclass(slots=True)
class Row:
    """One line of a benchmark's table."""

    work: str
    figure: str
    reference: str
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None


@dataclass(slots=True)
class Report:
    """The rows of one benchmark program, printed as Markdown so that they can be recorded as they
    are."""

    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        work: str,
        figure: str,
        reference: str,
        *,
        ratio: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add a row; with a bound it also says whether the bound is met."""
        target, reached = "", None
        if ratio is not None and at_least is not None:
            target, reached = f">= {at_least:g}", ratio >= at_least
        elif ratio is not None and at_most is not None:
            target, reached = f"<= {at_most:g}", ratio <= at_most
        self.rows.append(Row(work, figure, reference, ratio, target, reached))

    def text(self) -> str:
        """The report as Markdown."""
        lines = [f"### {self.title}", ""]
        lines += [f"* {note}" for note in self.notes]
        lines += [
            "",
            "| work | Craqen | reference, same run | ratio | target | |",
            "|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            mark = {None: "", True: "reached", False: "**missed**"}[row.reached]
            lines.append(
                f"| {row.work} | {row.figure} | {row.reference} | {ratio} | {row.target} | {mark} |"
            )
        return "\n".join([*lines, ""])
