"""The program ``craqen bench s3``: a fixed list of work on a fresh store with two workers.

CPU figures are the servers' (gateway workers and storage), not the load client's. Every row is the
median of ``--runs`` runs, Craqen and its reference in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...core.bench.measure import (
    Report,
    Sample,
    add_runs,
    command_line,
    descendants,
    measure,
    median,
    resident_mebibytes,
)
from ...core.bench.store import LocalStore
from ...core.client.connect import connect
from ...core.config import load_config
from ...core.limits import MIB
from ...core.meta.records import NewContent, ObjectAttributes, Owner
from ...core.options import Config
from ..body.checksums import FULL_OBJECT
from ..body.digest import EMPTY_MD5
from .client import Server, Wire, exchange_all, request_bytes, run_connections
from .guarded import GuardedRows
from .references import bare_handler, nginx
from .versions import VersionRows

LARGE_BYTES = 8 * MIB
SMALL_BYTES = 1024
LARGE_OBJECTS = 8
LARGE_REQUESTS = 24  # per connection
SMALL_REQUESTS = 1500  # per connection
SMALL_CONNECTIONS = 16
LARGE_CONNECTIONS = 4
LISTED_KEYS = 100_000
FILL_TASKS = 256
PAGE_REQUESTS = 40
DELETED_KEYS = 1000
DELETE_REQUESTS = 5


class Bench:
    """One run of the program: the store, its processes, and the report."""

    def __init__(self, store: LocalStore, folder: Path, runs: int) -> None:
        self.server = Server(
            "127.0.0.1", store.port, "us-east-1", store.access_key, store.secret_key
        )
        self.config = load_config(f"{store.folder}/run/effective.yaml", {})
        self.folder = folder
        self.runs = runs
        processes = descendants(store.process_id)[1:]
        self.processes = [number for number in processes if " manager" not in command_line(number)]
        self.report = Report(
            "craqen bench s3",
            [f"median of {runs} runs; durability flush; CPU time is that of all server processes"],
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

    def put_objects(self, bucket: str, names: Sequence[str], body: bytes) -> None:
        heads = [
            request_bytes(self.server, "PUT", f"/{bucket}/{name}", body_length=len(body))
            for name in names
        ]
        exchange_all(self.server, [(head, body) for head in heads])

    def get_large(self) -> None:
        """GET 8 MiB beside nginx."""
        names = [f"large{number}" for number in range(LARGE_OBJECTS)]
        body = os.urandom(LARGE_BYTES)
        self.put_objects("bench", names, body)
        root = self.folder / "www"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).write_bytes(body)
        with nginx(self.folder) as found:
            if found is None:
                self.report.notes.append("GET 8 MiB: nginx is not installed (apt: nginx-light)")
                return
            other, other_processes = found
            mine, theirs = self.alternate(
                lambda: measure(lambda: self._get(self.server, "/bench/", names), self.processes),
                lambda: measure(lambda: self._get(other, "/", names), other_processes),
            )
        self.report.add(
            "GET 8 MiB, signed, 4 connections",
            _throughput(mine),
            f"nginx sendfile {_throughput(theirs)}",
            ratio=median(mine, _rate) / median(theirs, _rate),
            at_least=0.8,
        )

    def _get(self, server: Server, prefix: str, names: Sequence[str]) -> int:
        heads = [request_bytes(server, "GET", prefix + name) for name in names]

        def work(wire: Wire, number: int) -> None:
            wire.exchange(heads[number % len(heads)])

        return run_connections(
            server, work, connections=LARGE_CONNECTIONS, per_connection=LARGE_REQUESTS
        )

    def put_large(self) -> None:
        """PUT 8 MiB beside hashlib.md5 and beside a gateway that hashes nothing."""
        body = os.urandom(LARGE_BYTES)

        def put(server: Server, prefix: str) -> int:
            heads = [
                request_bytes(server, "PUT", f"{prefix}put{number}", body_length=len(body))
                for number in range(LARGE_REQUESTS * LARGE_CONNECTIONS)
            ]
            return run_connections(
                server,
                lambda wire, number: (wire.exchange(heads[number], body), None)[1],
                connections=LARGE_CONNECTIONS,
                per_connection=LARGE_REQUESTS,
            )

        uploads = self.folder / "uploads"
        uploads.mkdir()
        digests: list[float] = []
        with bare_handler(uploads) as (other, other_processes):

            def theirs() -> Sample:
                started = time.perf_counter()
                for _ in range(LARGE_REQUESTS):
                    hashlib.md5(body, usedforsecurity=False).digest()
                digests.append(LARGE_REQUESTS / (time.perf_counter() - started))
                return measure(lambda: put(other, "/"), other_processes)

            mine, bare = self.alternate(
                lambda: measure(lambda: put(self.server, "/bench/"), self.processes), theirs
            )
        shutil.rmtree(uploads)
        digest_rate = statistics.median(digests)
        self.report.add(
            "PUT 8 MiB, signed, unsigned payload, MD5 ETag, 4 connections",
            _throughput(mine),
            f"one thread of hashlib.md5 {digest_rate * LARGE_BYTES / 1e9:.2f} GB/s",
            ratio=median(mine, _rate) / digest_rate,
            at_least=0.7,
        )
        self.report.add(
            "the same",
            f"{median(mine, lambda sample: 1 / sample.rate) * 1e3:.1f} ms each",
            f"a gateway with no hashing "
            f"{median(bare, lambda sample: 1 / sample.rate) * 1e3:.1f} ms",
            ratio=median(bare, _rate) / median(mine, _rate),
            at_most=2.0,
        )

    def small(self) -> None:
        """GET and PUT of 1 KiB beside the bare handler."""
        body = os.urandom(SMALL_BYTES)
        self.put_objects("bench", ["small"], body)

        def get(server: Server, path: str) -> int:
            head = request_bytes(server, "GET", path)
            return run_connections(
                server,
                lambda wire, number: (wire.exchange(head), None)[1],
                connections=SMALL_CONNECTIONS,
                per_connection=SMALL_REQUESTS,
            )

        def put(server: Server, path: str) -> int:
            heads = [
                request_bytes(server, "PUT", f"{path}{number}", body_length=len(body))
                for number in range(SMALL_REQUESTS // 5 * SMALL_CONNECTIONS)
            ]
            return run_connections(
                server,
                lambda wire, number: (wire.exchange(heads[number], body), None)[1],
                connections=SMALL_CONNECTIONS,
                per_connection=SMALL_REQUESTS // 5,
            )

        with bare_handler(self.folder) as (other, other_processes):
            mine, theirs = self.alternate(
                lambda: measure(lambda: get(self.server, "/bench/small"), self.processes),
                lambda: measure(lambda: get(other, "/small"), other_processes),
            )
            self._add_small("GET 1 KiB, signed, 16 connections", mine, theirs, 3.0)
            mine, theirs = self.alternate(
                lambda: measure(lambda: put(self.server, "/bench/small-"), self.processes),
                lambda: measure(lambda: put(other, "/small-"), other_processes),
            )
            self._add_small("PUT 1 KiB, durable, 16 in flight", mine, theirs, 6.0)

    def _add_small(
        self, work: str, mine: Sequence[Sample], theirs: Sequence[Sample], bound: float
    ) -> None:
        cost, other = median(mine, _cost), median(theirs, _cost)
        self.report.add(
            work,
            f"{cost:.0f} us CPU, {median(mine, _rate):.0f}/s",
            f"bare aiohttp handler {other:.0f} us CPU, {median(theirs, _rate):.0f}/s",
            ratio=cost / other,
            at_most=bound,
        )

    def listing(self) -> None:
        """Pages of 1,000 keys at the start, middle and end of 100,000."""
        asyncio.run(_fill(self.config, "listed", LISTED_KEYS))
        for label, after in (("first", ""), ("middle", "folder50/"), ("last", "folder99/")):
            query = "list-type=2" + (f"&start-after={after.replace('/', '%2F')}" if after else "")
            head = request_bytes(self.server, "GET", "/listed", query=query)
            samples = [
                measure(
                    lambda head=head: run_connections(  # type: ignore[misc]
                        self.server,
                        lambda wire, number: (wire.exchange(head), None)[1],
                        connections=1,
                        per_connection=PAGE_REQUESTS,
                    ),
                    self.processes,
                )
                for _ in range(self.runs)
            ]
            milliseconds = median(samples, _cost) / 1000
            self.report.add(
                f"ListObjectsV2, {label} 1,000 of {LISTED_KEYS:,} keys",
                f"{milliseconds:.1f} ms CPU",
                "15 ms",
                ratio=milliseconds / 15,
                at_most=1.0,
            )

    def deletes(self) -> None:
        """DeleteObjects of 1,000 keys in 100 folders, which go with their last keys."""
        samples = []
        for _ in range(self.runs):
            asyncio.run(_fill(self.config, "deleted", DELETE_REQUESTS * DELETED_KEYS))
            samples.append(measure(self._delete, self.processes))
        milliseconds = median(samples, _cost) / 1000
        self.report.add(
            f"DeleteObjects of {DELETED_KEYS:,} keys",
            f"{milliseconds:.1f} ms CPU",
            "40 ms",
            ratio=milliseconds / 40,
            at_most=1.0,
        )

    def _delete(self) -> int:
        requests = [_delete_request(self.server, "deleted", n) for n in range(DELETE_REQUESTS)]
        return run_connections(
            self.server,
            lambda wire, number: (wire.exchange(*requests[number]), None)[1],
            connections=1,
            per_connection=DELETE_REQUESTS,
        )

    def memory(self) -> None:
        """The largest resident size of any server process after all that."""
        largest = max(resident_mebibytes(number) for number in self.processes)
        self.report.add(
            "largest process after all this",
            f"{largest:.0f} MiB resident",
            "300 MiB",
            ratio=largest / 300,
            at_most=1.0,
        )


async def _fill(config: Config, bucket: str, count: int) -> None:
    """Put *count* empty objects, as a PUT stores them, but without HTTP: through the same metadata
    store as the gateway's workers use, many at a time, so that they share flushes."""
    client = await connect(config, "bench fill")
    attributes = ObjectAttributes(
        etag=EMPTY_MD5, checksums={"crc64nvme": "AAAAAAAAAAA="}, checksum_type=FULL_OBJECT
    )
    content, owner = NewContent(0, b""), Owner()

    async def put(numbers: Iterable[int]) -> None:
        for number in numbers:
            await client.meta.put_object(bucket, _key(number).encode(), content, attributes, owner)

    try:
        await put(range(min(100, count)))  # the folders, one after another
        await asyncio.gather(
            *(put(range(100 + first, count, FILL_TASKS)) for first in range(FILL_TASKS))
        )
    finally:
        await client.close()


def _delete_request(server: Server, bucket: str, number: int) -> tuple[bytes, bytes]:
    """Head and body of the request that deletes the keys of ``_fill`` from a thousand on."""
    keys = range(number * DELETED_KEYS, (number + 1) * DELETED_KEYS)
    rows = "".join(f"<Object><Key>{_key(key)}</Key></Object>" for key in keys)
    body = f"<Delete>{rows}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    head = request_bytes(
        server,
        "POST",
        f"/{bucket}",
        query="delete=",
        body_length=len(body),
        further={"content-md5": digest},
    )
    return head, body


def _key(number: int) -> str:
    return f"folder{number % 100:02}/key{number:06}"


def _rate(sample: Sample) -> float:
    return sample.rate


def _cost(sample: Sample) -> float:
    return sample.microseconds


def _throughput(samples: Sequence[Sample]) -> str:
    rate = median(samples, _rate)
    cost = median(samples, _cost) / 1000
    return f"{rate * LARGE_BYTES / 1e9:.2f} GB/s, {cost:.2f} ms CPU"


def main(arguments: Sequence[str]) -> int:
    """Run the work list; print the table; return 0 if every target is reached, else 1."""
    parser = argparse.ArgumentParser(prog="craqen bench s3")
    add_runs(parser)
    parser.add_argument(
        "--only",
        choices=["get-large", "put-large", "small", "listing", "deletes", "versions", "guarded"],
        action="append",
    )
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="craqen-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        store = stack.enter_context(LocalStore(workers=2))
        bench = Bench(store, folder, options.runs)
        for bucket in ("bench", "listed", "deleted"):
            exchange_all(bench.server, [(request_bytes(bench.server, "PUT", f"/{bucket}"), b"")])
        work = {
            "get-large": bench.get_large,
            "put-large": bench.put_large,
            "small": bench.small,
            "listing": bench.listing,
            "deletes": bench.deletes,
            "versions": VersionRows(bench).run,
            "guarded": GuardedRows(bench).run,
        }
        for name, step in work.items():
            if not options.only or name in options.only:
                step()
        bench.memory()
        print(bench.report.text())
        return int(any(row.reached is False for row in bench.report.rows))
