"""The program ``craqen bench chunk``: the chunk store of one target on a fresh folder.

Durable changes stand beside a bare loop of pwrite and fdatasync of the same bytes into a file whose
space is allocated, reads beside bare pread into the same buffer; each row is the median of
``--runs`` runs, Craqen and its reference in turn. CPU time is that of this whole process: the event
loop, the flushing thread, and the load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import lmdb
import uvloop

from ..chunks.content import plan_replace, plan_write, read_verified
from ..chunks.engine import FileChunkStore
from ..chunks.store import ChunkRecord, ChunkVersion, Install
from ..clock import SystemClock
from ..ids import ChunkId, TargetId, UpdateToken
from ..limits import KIB, MIB
from .measure import Report, Sample, add_runs, measure, median

IN_FLIGHT: Final = (1, 16)
WRITES_BY_SIZE: Final = {64 * KIB: (160, 960), MIB: (96, 320), 8 * MIB: (16, 48)}
"""For each size, how many writes with 1 and with 16 in flight."""

INLINE_BYTES_MAX: Final = 256 * KIB  # as the storage node: larger ones go to a worker thread
READS_BY_SIZE: Final = {4 * KIB: 8_000, 64 * KIB: 8_000, MIB: 1_000}
OVERWRITES: Final = 400
OVERWRITE_BYTES: Final = 4 * KIB
LOOK_UPS: Final = 50_000
INDEXED_CHUNKS: Final = 20_000
RECORDS_PER_CHANGE: Final = 1_000
RESERVATIONS: Final = 50_000
INDEX_SEGMENT: Final = 2
PLAIN_MAP_BYTES: Final = 256 * MIB


class Writer:
    """Installs new versions of chunks of one size, as the tail of a chain does."""

    def __init__(self, store: FileChunkStore, size: int) -> None:
        self._store = store
        self._data = memoryview(os.urandom(size))
        self._sequence = 0

    async def write(self, chunk_id: ChunkId) -> None:
        """One durable replacement of a chunk."""
        draft = plan_replace(self._store, self._data)
        if draft.work_bytes <= INLINE_BYTES_MAX:
            made = draft.write()
        else:
            made = await asyncio.to_thread(draft.write)
        self._sequence += 1
        token = UpdateToken(1, chunk_id.index, self._sequence)
        await self._store.apply([Install(chunk_id, made.version(self._sequence, 1, token))])

    async def write_all(self, count: int, in_flight: int) -> int:
        """*count* replacements by *in_flight* workers, each of its own chunk."""

        async def worker(index: int) -> None:
            chunk_id = ChunkId(1, index)
            for _ in range(count // in_flight):
                await self.write(chunk_id)

        await asyncio.gather(*(worker(index) for index in range(in_flight)))
        self._store.tick()
        return count // in_flight * in_flight


class PlainFile:
    """A file with space for the same bytes: the reference."""

    def __init__(self, path: Path, size: int, places: int) -> None:
        self._data = memoryview(os.urandom(size))
        self._places = places
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._descriptor, 0, size * places)
        for place in range(places):
            os.pwrite(self._descriptor, self._data, place * size)
        os.fdatasync(self._descriptor)

    def write_all(self, count: int, in_flight: int) -> int:
        """*count* writes, flushed after every *in_flight* of them."""
        size = self._data.nbytes
        for number in range(count):
            os.pwrite(self._descriptor, self._data, number % self._places * size)
            if number % in_flight == in_flight - 1:
                os.fdatasync(self._descriptor)
        return count

    def read_all(self, count: int, into: memoryview) -> int:
        """*count* reads."""
        size = self._data.nbytes
        for number in range(count):
            os.preadv(self._descriptor, (into,), number % self._places * size)
        return count

    def copy_all(self, count: int) -> int:
        """Read a place and write it to the next, *count* times."""
        size = self._data.nbytes
        buffer = memoryview(bytearray(size))
        for number in range(count):
            os.preadv(self._descriptor, (buffer,), number % self._places * size)
            os.pwrite(self._descriptor, buffer, (number + 1) % self._places * size)
        return count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Bench:
    """One run of the program."""

    def __init__(
        self, folder: Path, runs: int, runner: asyncio.Runner, store: FileChunkStore
    ) -> None:
        self.folder = folder
        self.runs = runs
        self.runner = runner
        self.store = store
        self.report = Report(
            "craqen bench chunk",
            [
                f"median of {runs} runs; the ratio is of rates for durable writes (more is "
                "better), else of CPU time (less is better)",
                "a durable write fills a block, flushes it, and then commits the index, which "
                "flushes twice; the reference flushes once",
            ],
        )

    def alternate(
        self, ours: Callable[[], int], theirs: Callable[[], int]
    ) -> tuple[list[Sample], list[Sample]]:
        """Measure both in turn, so that noise meets both; a first turn warms up."""
        process = [os.getpid()]
        ours()
        theirs()
        pairs = [(measure(ours, process), measure(theirs, process)) for _ in range(self.runs)]
        return [mine for mine, _ in pairs], [reference for _, reference in pairs]

    def writes(self) -> None:
        """Durable replacements beside pwrite and fdatasync."""
        for size, counts in WRITES_BY_SIZE.items():
            writer = Writer(self.store, size)
            plain = PlainFile(self.folder / f"plain-{size}", size, 2 * IN_FLIGHT[-1])
            try:
                for in_flight, count in zip(IN_FLIGHT, counts, strict=True):
                    self._writes(writer, plain, size, in_flight, count)
            finally:
                plain.close()

    def _writes(
        self, writer: Writer, plain: PlainFile, size: int, in_flight: int, count: int
    ) -> None:
        mine, theirs = self.alternate(
            lambda: self.runner.run(writer.write_all(count, in_flight)),
            lambda: plain.write_all(count, in_flight),
        )
        rate, other = median(mine, _rate), median(theirs, _rate)
        self.report.add(
            f"durable write of {_size(size)}, {in_flight} in flight",
            f"{rate:,.0f}/s, {median(mine, _cost):,.0f} us CPU",
            f"pwrite, fdatasync: {other:,.0f}/s, {median(theirs, _cost):,.0f} us CPU",
            ratio=rate / other,
        )

    def reads(self) -> None:
        """Verified reads of a chunk of 1 MiB beside pread."""
        self.runner.run(Writer(self.store, MIB).write(ChunkId(1, 0)))
        version = self._committed()
        for size, count in READS_BY_SIZE.items():
            into = memoryview(bytearray(size))
            plain = PlainFile(self.folder / f"read-{size}", size, 1)
            try:
                mine, theirs = self.alternate(
                    lambda into=into, count=count: self._read(version, into, count),  # type: ignore[misc]
                    lambda into=into, count=count, plain=plain: plain.read_all(count, into),  # type: ignore[misc]
                )
            finally:
                plain.close()
            self._add_costs(f"verified read of {_size(size)}", mine, "pread", theirs)

    def _read(self, version: ChunkVersion, into: memoryview, count: int) -> int:
        for _ in range(count):
            read_verified(self.store, ChunkId(1, 0), version, 0, into)
        return count

    def overwrites(self) -> None:
        """Copy on write of 4 KiB in 1 MiB beside reading and writing 1 MiB."""
        version = self._committed()
        plain = PlainFile(self.folder / "copied", MIB, 2)
        try:
            mine, theirs = self.alternate(
                lambda: self._overwrite(version), lambda: plain.copy_all(OVERWRITES)
            )
        finally:
            plain.close()
        self._add_costs("copy on write, 4 KiB in 1 MiB", mine, "pread, pwrite 1 MiB", theirs)

    def _overwrite(self, version: ChunkVersion) -> int:
        data = memoryview(os.urandom(OVERWRITE_BYTES))
        for _ in range(OVERWRITES):
            draft = plan_write(self.store, ChunkId(1, 0), version, 300_000, data)
            draft.write()
            self.store.release(draft.block)
        return OVERWRITES

    def look_ups(self) -> None:
        """Records of the index beside the same bytes from plain py-lmdb; reservations."""
        self.runner.run(self._fill_index())
        plain = lmdb.open(str(self.folder / "plain-index"), map_size=PLAIN_MAP_BYTES)
        keys = [
            ChunkId(INDEX_SEGMENT, 7919 * number % INDEXED_CHUNKS) for number in range(LOOK_UPS)
        ]
        with plain.begin(write=True) as transaction:
            for index in range(INDEXED_CHUNKS):
                transaction.put(ChunkId(INDEX_SEGMENT, index).pack(), os.urandom(110))

        def ours() -> int:
            for key in keys:
                assert isinstance(self.store.get(key), ChunkRecord)
            return LOOK_UPS

        def theirs() -> int:
            with plain.begin() as transaction:
                for key in keys:
                    assert transaction.get(key.pack()) is not None
            return LOOK_UPS

        self._add_costs("index look-up", *_named(self.alternate(ours, theirs), "py-lmdb get"))
        plain.close()

        def reserve() -> int:
            for _ in range(RESERVATIONS):
                self.store.release(self.store.reserve(MIB))
            return RESERVATIONS

        cost = median([measure(reserve, [os.getpid()]) for _ in range(self.runs)], _cost)
        self.report.add("reserve and release a block", f"{cost:.2f} us CPU", "")

    async def _fill_index(self) -> None:
        """Many chunks, all of one byte in a block of its own."""
        data = memoryview(b"x")
        for start in range(0, INDEXED_CHUNKS, RECORDS_PER_CHANGE):
            installs = []
            for index in range(start, start + RECORDS_PER_CHANGE):
                made = plan_replace(self.store, data).write()
                token = UpdateToken(2, 0, index)
                installs.append(Install(ChunkId(INDEX_SEGMENT, index), made.version(1, 1, token)))
            await self.store.apply(installs)

    def _committed(self) -> ChunkVersion:
        record = self.store.get(ChunkId(1, 0))
        assert record is not None
        assert record.committed is not None
        return record.committed

    def _add_costs(
        self, work: str, mine: Sequence[Sample], name: str, theirs: Sequence[Sample]
    ) -> None:
        cost, other = median(mine, _cost), median(theirs, _cost)
        self.report.add(
            work, f"{cost:.1f} us CPU", f"{name}: {other:.1f} us CPU", ratio=cost / other
        )


def _named(
    samples: tuple[list[Sample], list[Sample]], name: str
) -> tuple[list[Sample], str, list[Sample]]:
    return samples[0], name, samples[1]


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def _rate(sample: Sample) -> float:
    return sample.rate


def _cost(sample: Sample) -> float:
    return sample.microseconds


def main(arguments: Sequence[str]) -> int:
    """Run the work list and print the table; return 0, since no row has a bound."""
    parser = argparse.ArgumentParser(prog="craqen bench chunk")
    add_runs(parser)
    parser.add_argument(
        "--folder", default=None, help="where the temporary folder is made: the disk to measure"
    )
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="craqen-bench-", dir=options.folder) as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        folder = Path(name)
        store = runner.run(_open(folder / "target"))
        try:
            bench = Bench(folder, options.runs, runner, store)
            bench.writes()
            bench.reads()
            bench.overwrites()
            bench.look_ups()
        finally:
            runner.run(store.close())
    print(bench.report.text())
    return 0


async def _open(folder: Path) -> FileChunkStore:
    # Without a quarantine, blocks are written again and again, as the reference does.
    return FileChunkStore(
        folder, SystemClock(), target_id=TargetId(1), cluster_id="bench", quarantine_seconds=0.0
    )
