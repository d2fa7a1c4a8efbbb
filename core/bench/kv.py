"""The program ``craqen bench kv``: the embedded key-value store on a fresh folder.

Commits stand beside a bare loop of append and fdatasync on the same disk, reads beside plain
py-lmdb on the same rows; each row is the median of ``--runs`` runs, Craqen and its reference in
turn. CPU time is that of this whole process: the event loop, the committing thread, and the load.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import lmdb
import uvloop

from ..errors import DeadlineExceededError, UnavailableError
from ..kv.embedded import EmbeddedStore
from ..kv.store import ReadTransaction, Transaction
from ..limits import KIB, MIB
from .measure import Report, Sample, add_runs, cpu_seconds, measure, median

ROWS: Final = 100_000
ROWS_PER_TRANSACTION: Final = 2_000
VALUE_BYTES: Final = 100
KEYS_PER_TRANSACTION: Final = 3
RANGE_ROWS: Final = 1_000

APPEND_BYTES: Final = 4 * KIB
APPENDS: Final = 400
COMMITS_BY_IN_FLIGHT: Final = {1: 400, 16: 4_000, 64: 10_000}
READS: Final = 20_000
RANGES: Final = 200

WRITERS: Final = 2
WRITER_IN_FLIGHT: Final = 16
WRITER_COMMITS: Final = 4_000
WRITER_ANSWER_SECONDS: Final = 120.0
"""How long a writing process may take to open the store, or to do its commits."""

PLAIN_MAP_BYTES: Final = 256 * MIB


def row_key(number: int) -> bytes:
    """The key of one row."""
    return b"row/%08d" % number


def _places(seed: int, count: int, rows: int) -> list[int]:
    """*count* first rows of *rows* neighbouring ones, at random places."""
    chooser = random.Random(seed)
    return [chooser.randrange(ROWS - rows) for _ in range(count)]


async def fill(store: EmbeddedStore) -> None:
    """Write all rows."""
    for first in range(0, ROWS, ROWS_PER_TRANSACTION):

        async def write(transaction: Transaction, first: int = first) -> None:
            for number in range(first, first + ROWS_PER_TRANSACTION):
                transaction.set(row_key(number), os.urandom(VALUE_BYTES))

        await store.transact(write)


async def commit(store: EmbeddedStore, count: int, in_flight: int, seed: int) -> int:
    """Make *count* transactions that read three neighbouring rows and write them anew."""
    places = iter(_places(seed, count, KEYS_PER_TRANSACTION))
    value = os.urandom(VALUE_BYTES)

    async def worker() -> None:
        for place in places:
            keys = [row_key(place + offset) for offset in range(KEYS_PER_TRANSACTION)]

            async def change(transaction: Transaction, keys: Sequence[bytes] = keys) -> None:
                for found in await transaction.get_many(keys):
                    assert found is not None
                for key in keys:
                    transaction.set(key, value)

            await store.transact(change)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return count


async def read_keys(store: EmbeddedStore) -> int:
    """Read three rows by key, each time from a new snapshot."""
    for place in _places(1, READS, KEYS_PER_TRANSACTION):
        keys = [row_key(place + offset) for offset in range(KEYS_PER_TRANSACTION)]

        async def look(transaction: ReadTransaction, keys: Sequence[bytes] = keys) -> None:
            for found in await transaction.get_many(keys):
                assert found is not None

        await store.read(look)
    return READS


async def read_ranges(store: EmbeddedStore) -> int:
    """Read a range of 1,000 rows, each time from a new snapshot."""
    for place in _places(2, RANGES, RANGE_ROWS):
        begin, end = row_key(place), row_key(place + RANGE_ROWS)

        async def look(
            transaction: ReadTransaction, begin: bytes = begin, end: bytes = end
        ) -> None:
            assert len(await transaction.get_range(begin, end)) == RANGE_ROWS

        await store.read(look)
    return RANGES


def append_and_flush(path: Path) -> int:
    """The reference of commits: append 4 KiB, fdatasync, again."""
    block = os.urandom(APPEND_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(APPENDS):
            os.write(descriptor, block)
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return APPENDS


class PlainRows:
    """The same rows in a plain py-lmdb environment: the reference of reads."""

    def __init__(self, folder: Path) -> None:
        self._environment = lmdb.open(str(folder), map_size=PLAIN_MAP_BYTES)
        with self._environment.begin(write=True) as transaction:
            for number in range(ROWS):
                transaction.put(row_key(number), os.urandom(VALUE_BYTES))

    def read_keys(self) -> int:
        """As ``read_keys`` of this module."""
        for place in _places(1, READS, KEYS_PER_TRANSACTION):
            keys = [row_key(place + offset) for offset in range(KEYS_PER_TRANSACTION)]
            with self._environment.begin() as transaction:
                for key in keys:
                    assert transaction.get(key) is not None
        return READS

    def read_ranges(self) -> int:
        """As ``read_ranges`` of this module."""
        for place in _places(2, RANGES, RANGE_ROWS):
            with self._environment.begin() as transaction:
                cursor = transaction.cursor()
                cursor.set_range(row_key(place))
                assert len(list(islice(cursor, RANGE_ROWS))) == RANGE_ROWS
        return RANGES

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()


def _writer(folder: Path, seed: int, pipe: Connection) -> None:
    """A writing process: opens the store, waits for the start, says what CPU time its commits
    took."""

    async def work() -> None:
        store = EmbeddedStore(folder)
        try:
            pipe.send(0.0)
            pipe.recv()  # nothing else runs on this loop yet
            before = cpu_seconds([os.getpid()])
            await commit(store, WRITER_COMMITS, WRITER_IN_FLIGHT, seed)
            pipe.send(cpu_seconds([os.getpid()]) - before)
        finally:
            await store.close()

    uvloop.run(work())


def _answer(pipe: Connection) -> float:
    """The next figure of a writing process. Raises UnavailableError."""
    if not pipe.poll(WRITER_ANSWER_SECONDS):
        raise DeadlineExceededError(
            f"a writing process said nothing for {WRITER_ANSWER_SECONDS:g} s"
        )
    try:
        figure: float = pipe.recv()
    except EOFError as error:
        raise UnavailableError("a writing process died; its own message is above") from error
    return figure


def write_from_processes(folder: Path, count: int) -> Sample:
    """Have *count* processes commit at once, from one common start."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for number in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=_writer, args=(folder, number, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        _answer(pipe)
    spent: list[float] = []

    def work() -> int:
        for pipe in pipes:
            pipe.send(None)
        spent.extend(_answer(pipe) for pipe in pipes)
        return WRITER_COMMITS * count

    timed = measure(work, [])
    for process in processes:
        process.join()
    return Sample(timed.operations, timed.elapsed_seconds, sum(spent))


class Bench:
    """One run of the program."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.folder = folder
        self.runs = runs
        self.process = [os.getpid()]
        self.report = Report(
            "craqen bench kv",
            [
                f"median of {runs} runs; {ROWS:,} rows of {VALUE_BYTES} bytes; durability flush",
                "a commit reads 3 neighbouring rows at a random place and writes them; CPU time "
                "includes the load's own",
            ],
        )

    def alternate(
        self, ours: Callable[[], Sample], theirs: Callable[[], Sample]
    ) -> tuple[list[Sample], list[Sample]]:
        """Measure both in turn, so that noise meets both."""
        mine: list[Sample] = []
        reference: list[Sample] = []
        for _ in range(self.runs):
            mine.append(ours())
            reference.append(theirs())
        return mine, reference

    def commits(self, runner: asyncio.Runner, store: EmbeddedStore) -> None:
        """Durable commits beside appends that are flushed one by one."""
        log = self.folder / "appended"
        for in_flight, count in COMMITS_BY_IN_FLIGHT.items():
            mine, theirs = self.alternate(
                lambda count=count, in_flight=in_flight: measure(  # type: ignore[misc]
                    lambda: runner.run(commit(store, count, in_flight, seed=in_flight)),
                    self.process,
                ),
                lambda: measure(lambda: append_and_flush(log), self.process),
            )
            log.unlink()
            self._add_rates(
                f"durable commit, {in_flight} in flight", mine, "append 4 KiB + fdatasync", theirs
            )

    def reads(self, runner: asyncio.Runner, store: EmbeddedStore) -> None:
        """Reads beside plain py-lmdb."""
        plain = PlainRows(self.folder / "plain")
        try:
            mine, theirs = self.alternate(
                lambda: measure(lambda: runner.run(read_keys(store)), self.process),
                lambda: measure(plain.read_keys, self.process),
            )
            self._add_costs("read of 3 keys", mine, "py-lmdb get", theirs)
            mine, theirs = self.alternate(
                lambda: measure(lambda: runner.run(read_ranges(store)), self.process),
                lambda: measure(plain.read_ranges, self.process),
            )
            self._add_costs(f"range of {RANGE_ROWS:,} rows", mine, "py-lmdb cursor", theirs)
        finally:
            plain.close()

    def processes(self, folder: Path) -> None:
        """Two processes that write at once, beside one."""
        mine, theirs = self.alternate(
            lambda: write_from_processes(folder, WRITERS), lambda: write_from_processes(folder, 1)
        )
        self._add_rates(
            f"{WRITERS} processes committing, {WRITER_IN_FLIGHT} in flight each",
            mine,
            "one process",
            theirs,
        )

    def _add_rates(
        self, work: str, mine: Sequence[Sample], name: str, theirs: Sequence[Sample]
    ) -> None:
        rate, other = median(mine, _rate), median(theirs, _rate)
        self.report.add(
            work,
            f"{rate:,.0f}/s, {median(mine, _cost):.0f} us CPU",
            f"{name}: {other:,.0f}/s, {median(theirs, _cost):.0f} us CPU",
            ratio=rate / other,
        )

    def _add_costs(
        self, work: str, mine: Sequence[Sample], name: str, theirs: Sequence[Sample]
    ) -> None:
        cost, other = median(mine, _cost), median(theirs, _cost)
        self.report.add(
            work, f"{cost:.1f} us CPU", f"{name}: {other:.1f} us CPU", ratio=cost / other
        )


def _rate(sample: Sample) -> float:
    return sample.rate


def _cost(sample: Sample) -> float:
    return sample.microseconds


def main(arguments: Sequence[str]) -> int:
    """Run the work list and print the table; return 0, since no row has a bound."""
    parser = argparse.ArgumentParser(prog="craqen bench kv")
    add_runs(parser)
    parser.add_argument(
        "--folder", default=None, help="where the temporary folder is made: the disk to measure"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="craqen-bench-", dir=options.folder) as name:
        folder = Path(name)
        bench = Bench(folder, options.runs)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            store = EmbeddedStore(folder / "kv")
            try:
                runner.run(fill(store))
                bench.commits(runner, store)
                bench.reads(runner, store)
            finally:
                runner.run(store.close())
        bench.processes(folder / "kv")
    print(bench.report.text())
    return 0
