"""The program ``craqen bench fs``: a fixed list of work on the mount of a fresh store, beside an
empty pyfuse3 file system.

CPU time is that of the processes that serve the mount (here the mount itself and storage), not the
load's. It carries the targets; the rate stands beside it, since the load shares the same cores.
Every row is the median of ``--runs`` runs, Craqen and its reference in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.bench.measure import (
    Report,
    Sample,
    add_runs,
    command_line,
    descendants,
    measure,
    median,
)
from ...core.bench.store import LocalStore
from . import load
from .reference import null_mount

BUCKET = "bench"
REFERENCE = "empty pyfuse3 file system"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two file systems."""

    mount_point: Path
    folder: Path
    """Where files are made: the mount point itself, or a bucket in it."""
    large: Path
    """A file of ``load.SEQUENTIAL_BYTES``."""
    random: Path
    """A file to read at random places."""
    processes: tuple[int, ...]
    """Those whose CPU time counts."""


class Bench:
    """One run of the program: both sides, and the report."""

    def __init__(self, ours: Side, reference: Side, runs: int) -> None:
        self.ours = ours
        self.reference = reference
        self.runs = runs
        self.report = Report(
            "craqen bench fs",
            [
                f"median of {runs} runs; ratios are reference / Craqen for CPU time, Craqen / "
                "reference for rates; CPU time is that of all processes that serve the mount",
                f"reference: {REFERENCE} that serves zeros and drops what is written, with the "
                "same mount options and cache times",
            ],
        )

    def sequential(self) -> None:
        """Read a large file, 1 MiB at a time, with none of it in the mount's page cache."""

        def read(side: Side, run: int) -> Sample:
            load.drop_cache(side.large)
            return measure(lambda: load.read_sequentially(side.large), side.processes)

        self._row("1 MiB sequential read, cold", read, 0.7)

    def random(self) -> None:
        """Read 4 KiB at random places, past the page cache."""

        def read(side: Side, run: int) -> Sample:
            return measure(lambda: load.read_randomly(side.random), side.processes)

        self._row("4 KiB random read, direct", read, 0.5)

    def create(self) -> None:
        """Create files in a folder of their own for each run."""

        def make(side: Side, run: int) -> Sample:
            folder = side.folder / f"created{run}"
            folder.mkdir()
            return measure(lambda: load.create_files(folder), side.processes)

        self._row(f"create + write 4 KiB + close of {load.SMALL_FILES:,} files", make, 0.4)

    def stat(self) -> None:
        """stat files whose names the kernel does not remember."""
        for side in (self.ours, self.reference):
            folder = side.folder / "stat"
            folder.mkdir()
            load.make_empty_files(folder)
            if not load.drop_names(side.mount_point):
                self.report.notes.append(
                    "stat: left out, having the kernel forget names needs root"
                )
                return

        def look(side: Side, run: int) -> Sample:
            load.drop_names(side.mount_point)
            return measure(lambda: load.stat_files(side.folder / "stat"), side.processes)

        self._row(f"stat of {load.STAT_FILES:,} files, cold", look, 0.4)

    def _row(self, work: str, run: Callable[[Side, int], Sample], bound: float) -> None:
        """Measure both sides in turn, so that noise meets both; add the CPU time and the rate."""
        mine: list[Sample] = []
        theirs: list[Sample] = []
        for number in range(self.runs):
            mine.append(run(self.ours, number))
            theirs.append(run(self.reference, number))
        cost, other_cost = median(mine, _cost), median(theirs, _cost)
        self.report.add(
            work,
            f"{cost:.1f} us CPU",
            f"{other_cost:.1f} us CPU",
            ratio=other_cost / cost,
            at_least=bound,
        )
        rate, other_rate = median(mine, _rate), median(theirs, _rate)
        self.report.add(
            "the same, by time passed",
            f"{rate:,.0f}/s",
            f"{other_rate:,.0f}/s",
            ratio=rate / other_rate,
        )


def reference_side(mount_point: Path, process_id: int) -> Side:
    """The empty file system mounted at *mount_point*."""
    zeros = mount_point / "zeros"
    return Side(mount_point, mount_point, zeros, zeros, (process_id,))


def craqen_side(store: LocalStore, mount_point: Path) -> Side:
    """The mount of *store*, with its files written."""
    folder = mount_point / BUCKET
    folder.mkdir()
    large, random = folder / "large", folder / "random"
    load.write_file(large, load.SEQUENTIAL_BYTES)
    load.write_file(random, load.RANDOM_FILE_BYTES)
    serving = tuple(
        number
        for number in descendants(store.process_id)[1:]
        if not {"manager", "gateway"}.intersection(command_line(number).split())
    )
    return Side(mount_point, folder, large, random, serving)


@contextlib.contextmanager
def _mount_point() -> Iterator[Path]:
    """An empty folder, removed at the end; never what might still be mounted there."""
    point = Path(tempfile.mkdtemp(prefix="craqen-bench-"))
    try:
        yield point
    finally:
        with contextlib.suppress(OSError):
            point.rmdir()


def _cost(sample: Sample) -> float:
    return sample.microseconds


def _rate(sample: Sample) -> float:
    return sample.rate


def main(arguments: Sequence[str]) -> int:
    """Run the work list; print the table; return 0 if every target is reached, else 1."""
    parser = argparse.ArgumentParser(prog="craqen bench fs")
    add_runs(parser)
    parser.add_argument(
        "--only", choices=["sequential", "random", "create", "stat"], action="append"
    )
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        mount_point = stack.enter_context(_mount_point())
        null_point = stack.enter_context(_mount_point())
        store = stack.enter_context(LocalStore(workers=1, mount=str(mount_point)))
        null_process = stack.enter_context(null_mount(null_point))
        bench = Bench(
            craqen_side(store, mount_point),
            reference_side(null_point, null_process),
            options.runs,
        )
        work = {
            "sequential": bench.sequential,
            "random": bench.random,
            "create": bench.create,
            "stat": bench.stat,
        }
        for name, step in work.items():
            if not options.only or name in options.only:
                step()
    print(bench.report.text())
    return int(any(row.reached is False for row in bench.report.rows))
