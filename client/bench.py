"""``craqen bench client``: the native client beside plain system calls, in one run."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.bench.measure import Report, add_runs
from ..core.bench.store import LocalStore
from ..core.limits import KIB, MIB
from .store import Store, connect

FILE_BYTES = 64 * MIB
SMALL_READS = 16_384
BATCH_READS = 128
LARGE_READS = 64
LARGE_BATCH = 16
SMALL_FILES = 2000
SMALL_FILE_BYTES = 4 * KIB

Reads = list[tuple[int, memoryview]]


def main(arguments: Sequence[str]) -> int:
    """Run the work list; print the table; return 0 if every target is reached, else 1."""
    parser = argparse.ArgumentParser(prog="craqen bench client")
    add_runs(parser)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="craqen-bench-"))
    try:
        with LocalStore(workers=1) as running:
            with connect(f"{running.folder}/run/effective.yaml") as store:
                report = _Bench(store, folder, options.runs).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.text())
    return int(any(row.reached is False for row in report.rows))


class _Bench:
    def __init__(self, store: Store, folder: Path, runs: int) -> None:
        self._store = store
        self._runs = runs
        self._data = random.Random(1).randbytes(FILE_BYTES)
        self._plain = folder / "plain"
        self._plain.write_bytes(self._data)
        store.make_directory("/bench")
        store.write_bytes("/bench/large", self._data)
        self._report = Report(
            "craqen bench client",
            [f"median of {runs} runs; one thread asks; all content is in the system's page cache"],
        )

    def run(self) -> Report:
        """Measure all rows."""
        chance = random.Random(2)
        small = _reads(chance, SMALL_READS, 4 * KIB)
        large = _reads(chance, LARGE_READS, MIB)
        self._row("batch reads, 4 KiB, pages in memory", small, BATCH_READS, 0.7)
        self._row("batch reads, 4 KiB, first time", small, BATCH_READS, None, forgets=True)
        self._row("batch reads, 1 MiB, into the caller's buffers", large, LARGE_BATCH, 0.95)
        self._small_files()
        return self._report

    def _row(
        self, work: str, reads: Reads, at_once: int, at_least: float | None, forgets: bool = False
    ) -> None:
        file = self._store.open_raw("/bench/large")
        descriptor = os.open(self._plain, os.O_RDONLY)

        def mine() -> None:
            if forgets:
                self._store.asynchronous.pages.clear()
            for start in range(0, len(reads), at_once):
                self._store.read_batch(
                    [(file, offset, view) for offset, view in reads[start : start + at_once]]
                )

        def theirs() -> None:
            for offset, view in reads:
                os.preadv(descriptor, (view,), offset)

        mine()
        for offset, view in reads:
            assert view == self._data[offset : offset + len(view)]
        ours, others = self._alternate(mine, theirs)
        os.close(descriptor)
        file.close()
        count = len(reads)
        self._report.add(
            work,
            f"{ours / count * 1e6:.2f} us each",
            f"os.preadv {others / count * 1e6:.2f} us each",
            ratio=others / ours,
            at_least=at_least,
        )

    def _alternate(
        self, ours: Callable[[], None], theirs: Callable[[], None]
    ) -> tuple[float, float]:
        """Seconds of both, in turn, so that noise meets both."""
        mine, others = [], []
        for _ in range(self._runs):
            mine.append(_seconds(ours))
            others.append(_seconds(theirs))
        return statistics.median(mine), statistics.median(others)

    def _small_files(self) -> None:
        """Small files read whole, each opened, beside the same from a local folder."""
        local = self._plain.parent / "small"
        local.mkdir()
        self._store.make_directory("/bench/small")
        body = self._data[:SMALL_FILE_BYTES]
        names = [f"{number:05}" for number in range(SMALL_FILES)]
        for name in names:
            (local / name).write_bytes(body)
            self._store.write_bytes(f"/bench/small/{name}", body)

        def mine() -> None:
            for name in names:
                self._store.read_bytes(f"/bench/small/{name}")

        def theirs() -> None:
            for name in names:
                (local / name).read_bytes()

        ours, others = self._alternate(mine, theirs)
        self._report.add(
            "small files: open, read 4 KiB, close",
            f"{ours / SMALL_FILES * 1e6:.0f} us each",
            f"a local folder {others / SMALL_FILES * 1e6:.0f} us each",
            ratio=others / ours,
        )


def _reads(chance: random.Random, count: int, size: int) -> Reads:
    buffers = [memoryview(bytearray(size)) for _ in range(count)]
    return [(chance.randrange(FILE_BYTES // size) * size, view) for view in buffers]


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
