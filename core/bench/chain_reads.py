"""What ``craqen bench chain`` says of reads: how they spread over the replicas' processes.

Readers in processes of their own, as if on another host (over TCP), read hot chunks of one chain as
fast as they can. The figure that scales with the replicas is the load of the busiest storage
process; the rate scales too where cores are left, which is not so when readers need them all.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Pipe
from typing import Final

import uvloop

from ..client.connections import NodeConnections
from ..client.data import ClusterDataStore
from ..client.routes import Routes
from ..clock import SystemClock
from ..cluster.records import RoutingTable
from ..cluster.routing import FixedRouting
from ..limits import KIB
from ..meta.records import Extent
from .measure import Report, Sample, cpu_seconds, measure
from .store import LocalStore

CHUNKS: Final = 48
CHUNK_BYTES: Final = 64 * KIB
READERS: Final = 2
LANES: Final = 8  # reads in flight per reader
READS: Final = 3000  # per reader and run
ELSEWHERE: Final = "bench-reader"


def read_all(table: RoutingTable, folder: str, extents: bytes, pipe: Pipe) -> None:
    """A reader's process: reads READS chunks each time it is told to."""
    import msgspec

    from ..config import load_config

    config = load_config(f"{folder}/run/effective.yaml", {})
    wanted = msgspec.msgpack.decode(extents, type=list[Extent])

    async def serve() -> None:
        connections = NodeConnections(
            client_id=os.getpid(),
            cluster_id=table.cluster_id,
            host=ELSEWHERE,
            secret=config.cluster_secret,
        )
        executor = ThreadPoolExecutor(1)
        routes = Routes(FixedRouting(table), connections)
        data = ClusterDataStore(routes, connections, SystemClock(), executor, os.getpid())

        async def lane(number: int) -> None:
            into = memoryview(bytearray(CHUNK_BYTES))
            for turn in range(number, READS, LANES):
                await data.read([wanted[turn % len(wanted)]], 0, into)

        while await asyncio.to_thread(pipe.recv):
            await asyncio.gather(*(lane(number) for number in range(LANES)))
            pipe.send(READS)
        await data.close()
        executor.shutdown()

    uvloop.run(serve())


class Readers:
    """READERS processes."""

    def __init__(self, table: RoutingTable, store: LocalStore, extents: Sequence[Extent]) -> None:
        import msgspec

        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        encoded = msgspec.msgpack.encode(list(extents))
        for _ in range(READERS):
            own, theirs = context.Pipe()
            process = context.Process(target=read_all, args=(table, store.folder, encoded, theirs))
            process.start()
            theirs.close()
            self._pipes.append(own)
            self._processes.append(process)

    def read(self) -> int:
        """One run; how many chunks were read."""
        for pipe in self._pipes:
            pipe.send(True)
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.send(False)
        for process in self._processes:
            process.join()


def scaling(
    table: RoutingTable,
    store: LocalStore,
    extents: Sequence[Extent],
    storage_processes: Sequence[int],
    runs: int,
) -> tuple[float, float]:
    """(Reads per second, CPU microseconds per read of the busiest storage process): medians."""
    readers = Readers(table, store, extents)
    rates: list[float] = []
    busiest: list[float] = []
    try:
        readers.read()
        for _ in range(runs):
            before = {one: cpu_seconds([one]) for one in storage_processes}
            sample: Sample = measure(readers.read, storage_processes)
            spent = max(cpu_seconds([one]) - before[one] for one in storage_processes)
            rates.append(sample.rate)
            busiest.append(spent / sample.operations * 1e6)
    finally:
        readers.close()
    rates.sort()
    busiest.sort()
    return rates[runs // 2], busiest[runs // 2]


def report_scaling(found: Sequence[tuple[int, float, float]], report: Report) -> None:
    """Rows of (replicas, rate, CPU of the busiest process), beginning with one replica."""
    _, rate_of_one, busiest_of_one = found[0]
    for replicas, rate, busiest in found:
        report.add(
            f"read 64 KiB over TCP, {READERS} readers, {replicas} replica{'s'[: replicas > 1]}",
            f"{rate:.0f}/s; busiest storage process {busiest:.0f} us CPU per read",
            f"1 replica: {rate_of_one:.0f}/s; {busiest_of_one:.0f} us",
            ratio=rate / rate_of_one,
        )
        if replicas > 1:
            report.add(
                "— load of the busiest process against its share",
                f"{busiest / busiest_of_one:.2f} of that with 1 replica",
                f"{1 / replicas:.2f} is an even share",
                ratio=busiest / busiest_of_one * replicas,
                at_most=1.35,
            )
