"""The program ``craqen bench chain``: what replication costs, and what a lost node costs its
clients.

Two whole stores with three storage processes each, one with chains of one and one with chains of
three, are written to in turn by the same client. CPU time is that of the storage processes. Then
the nodes of the second store are killed one after another under a client that writes and reads
without pause.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import mmap
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from ..client.connect import Client, connect
from ..config import load_config
from ..limits import MIB
from ..meta.records import Extent
from .chain_reads import CHUNK_BYTES as HOT_BYTES
from .chain_reads import CHUNKS, report_scaling, scaling
from .chain_resync import resyncs
from .measure import Report, Sample, add_runs, command_line, descendants, measure, median
from .store import LocalStore

NODES: Final = 3
CHUNK_BYTES: Final = 8 * MIB
WRITES: Final = 24
LEASE_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 8.0  # from one kill to the next: the lost node is filled again by then
LOAD_BYTES: Final = 200_000
OPTIONS: Final = (
    f"CRAQEN_STORAGE_DISKS={[f'disk{number}' for number in range(1, NODES + 1)]}",
    f"CRAQEN_CLUSTER_LEASE_SECONDS={LEASE_SECONDS}",
    "CRAQEN_STORAGE_LISTEN=tcp://127.0.0.1:0",
    "CRAQEN_META_REMOVAL_GRACE_SECONDS=0",
)


class Store:
    """A running store and a client of it."""

    def __init__(self, folder: Path, replicas: int, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.local = LocalStore(
            folder=str(folder),
            workers=1,
            options=(*OPTIONS, f"CRAQEN_STORAGE_REPLICAS={replicas}"),
        )
        self.local.start()
        try:
            self.config = load_config(str(folder / "run" / "effective.yaml"), {})
            self.client: Client = runner.run(connect(self.config, "bench"))
        except BaseException:
            self.local.stop()
            raise
        # As a door's buffers are: whole pages, which may go past the page cache.
        self._data = memoryview(mmap.mmap(-1, CHUNK_BYTES))
        self._data[:] = os.urandom(CHUNK_BYTES)

    def storage_processes(self) -> list[int]:
        """Process ids of the storage nodes."""
        children = descendants(self.local.process_id)
        return [one for one in children if " storage " in command_line(one)]

    def write(self) -> int:
        """The work list: durable segments of one chunk each."""
        return self._runner.run(self._write())

    async def _write(self) -> int:
        await self.client.meta.ensure_ids(WRITES)
        for _ in range(WRITES):
            await put(self.client, self._data)
        return WRITES

    async def hot_chunks(self, count: int) -> list[Extent]:
        """Write *count* segments of one small chunk each, all on the same chain."""
        routing = self.client.routing.routing
        found: list[Extent] = []
        chain_id = routing.chains()[0].chain_id
        while len(found) < count:
            await self.client.meta.ensure_ids(1)
            segment = self.client.meta.new_segment_id()
            layout = self.client.meta.layout_of(segment, in_place=False)
            if routing.chain_for(layout.table_id, layout.stripe_seed, 0).chain_id != chain_id:
                continue
            writer = self.client.data.new_segment(segment, layout, length_bytes=HOT_BYTES)
            await writer.write(self._data[:HOT_BYTES])
            found += await writer.finish()
        return found

    def close(self) -> None:
        """Stop it."""
        self._runner.run(self.client.close())
        self.local.stop()


async def put(client: Client, data: memoryview) -> tuple[Extent, ...]:
    """Write *data* as a new segment."""
    segment = client.meta.new_segment_id()
    layout = client.meta.layout_of(segment, in_place=False)
    writer = client.data.new_segment(segment, layout, length_bytes=len(data))
    await writer.write(data)
    return await writer.finish()


def replication(folder: Path, runs: int, runner: asyncio.Runner, report: Report) -> Store:
    """Rows of writing; returns the store with three replicas, still running."""
    ones: list[Sample] = []
    threes: list[Sample] = []
    with contextlib.ExitStack() as undo:
        single = Store(folder / "one", 1, runner)
        undo.callback(single.close)
        triple = Store(folder / "three", NODES, runner)
        with contextlib.ExitStack() as failed:
            failed.callback(triple.close)
            single.write()
            triple.write()
            for _ in range(runs):
                ones.append(measure(single.write, single.storage_processes()))
                threes.append(measure(triple.write, triple.storage_processes()))
            failed.pop_all()
    mebibytes = CHUNK_BYTES / MIB
    rate_one = median(ones, lambda sample: sample.rate) * mebibytes
    rate_three = median(threes, lambda sample: sample.rate) * mebibytes
    report.add(
        "write 8 MiB, 3 replicas",
        f"{rate_three:.0f} MiB/s",
        f"{rate_one:.0f} MiB/s with 1 replica",
        ratio=rate_three / rate_one,
        at_least=0.3,
    )
    hops = NODES - 1
    extra = median(threes, lambda one: one.microseconds) - median(
        ones, lambda one: one.microseconds
    )
    per_hop = extra / 1000 / mebibytes / hops
    report.add(
        "CPU of storage processes per further replica",
        f"{per_hop:.2f} ms/MiB",
        "1.0 ms/MiB allowed",
        ratio=per_hop,
        at_most=1.0,
    )
    return triple


async def _load(client: Client, stop: asyncio.Event) -> float:
    """Write and read until told to stop; the longest time that one of both took."""
    data = memoryview(os.urandom(LOAD_BYTES))
    into = memoryview(bytearray(LOAD_BYTES))
    longest = 0.0
    while not stop.is_set():
        began = time.perf_counter()
        await client.meta.ensure_ids(1)
        extents = await put(client, data)
        await client.data.read(extents, 0, into)
        assert into == data, "other bytes were read than written"
        longest = max(longest, time.perf_counter() - began)
    return longest


async def _kill_each(store: Store) -> float:
    longest = 0.0
    for number in range(1, NODES + 1):
        stop = asyncio.Event()
        load = asyncio.create_task(_load(store.client, stop))
        await asyncio.sleep(1.0)
        (victim,) = [
            one
            for one in store.storage_processes()
            if f"--disk {number} " in command_line(one) + " "
        ]
        os.kill(victim, signal.SIGKILL)
        await asyncio.sleep(PAUSE_SECONDS)
        stop.set()
        longest = max(longest, await load)
    return longest


def reads(folder: Path, runs: int, runner: asyncio.Runner, report: Report) -> None:
    """Rows of reading hot chunks of one chain that has 1, 2, 3 replicas."""
    found = []
    for replicas in range(1, NODES + 1):
        store = Store(folder / f"reads-{replicas}", replicas, runner)
        try:
            extents = runner.run(store.hot_chunks(CHUNKS))
            table = store.client.routing.routing.table
            processes = store.storage_processes()
            rate, busiest = scaling(table, store.local, extents, processes, runs)
            found.append((replicas, rate, busiest))
        finally:
            store.close()
    report_scaling(found, report)


def recoveries(store: Store, folder: Path, runner: asyncio.Runner, report: Report) -> None:
    """Rows of resyncs of a store with three replicas."""
    processes = store.storage_processes()

    async def put_one(data: memoryview) -> None:
        await store.client.meta.ensure_ids(1)
        await put(store.client, data)

    runner.run(resyncs(store.config, put_one, folder, processes, report))


def losses(store: Store, runner: asyncio.Runner, report: Report) -> None:
    """The row of killed nodes."""
    longest = runner.run(_kill_each(store))
    report.add(
        f"longest write and read while each node is killed, lease {LEASE_SECONDS:g} s",
        f"{longest:.2f} s",
        f"{2 * LEASE_SECONDS:g} s allowed",
        ratio=longest / (2 * LEASE_SECONDS),
        at_most=1.0,
    )


def main(arguments: list[str]) -> int:
    """Run the work list and print the table; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="craqen bench chain")
    add_runs(parser)
    options = parser.parse_args(arguments)
    report = Report(
        "craqen bench chain",
        [
            f"median of {options.runs} runs, both stores in turn on one host and disk; one client, "
            f"one 8 MiB chunk after another, each durable on all its replicas",
        ],
    )
    with (
        tempfile.TemporaryDirectory(prefix="craqen-bench-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        reads(Path(name), options.runs, runner, report)
        store = replication(Path(name), options.runs, runner, report)
        try:
            recoveries(store, Path(name), runner, report)
            losses(store, runner, report)
        finally:
            store.close()
    print(report.text())
    return 0 if all(row.reached for row in report.rows) else 1
