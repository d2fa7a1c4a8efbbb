"""A store with three copies of everything loses processes under load: no client is told of it, and
every acknowledged byte is there afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from craqen.core.bench.measure import command_line, descendants
from craqen.core.cluster.records import PublicState, RoutingTable
from craqen.core.cluster.store import read_table
from craqen.core.config import load_config
from craqen.core.kv.open import open_store
from craqen.tests.gateway.integration.whole_store import WholeStore, whole_store

BUCKET = "bucket"
LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 40.0
OPTIONS = (
    "CRAQEN_STORAGE_DISKS=[disk1, disk2, disk3]",
    "CRAQEN_STORAGE_REPLICAS=3",
    f"CRAQEN_CLUSTER_LEASE_SECONDS={LEASE_SECONDS}",
)

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WholeStore]:
    with whole_store(tmp_path / "data", options=OPTIONS) as running:
        yield running


class Load:
    """A client that puts objects and reads them back until told to stop."""

    def __init__(self, store: WholeStore, number: int) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.longest_seconds = 0.0
        self.rounds = 0
        self._client: Any = store.client()
        self._chooser = random.Random(number)
        self._number = number
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            key = f"{self._number}/{self._chooser.randrange(20)}"
            data = self._chooser.randbytes(self._chooser.choice([100, 70_000, 300_000]))
            began = time.monotonic()
            try:
                self._client.put_object(Bucket=BUCKET, Key=key, Body=data)
                self.acknowledged[key] = data
                found = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                if found != data:
                    self.failures.append(f"{key}: other bytes than were acknowledged")
            except Exception as error:
                self.failures.append(f"{key}: {error}")
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            self.rounds += 1

    def wait(self, rounds: int) -> None:
        """Until that many more rounds were done."""
        goal, deadline = self.rounds + rounds, time.monotonic() + PATIENCE_SECONDS
        while self.rounds < goal:
            assert time.monotonic() < deadline, "no request is answered any more"
            self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def process(store: WholeStore, *words: str) -> int:
    """The one process of the store whose command line has all *words*."""
    (found,) = [
        one
        for one in descendants(store.local.process_id)
        if set(words) <= set(command_line(one).split())
    ]
    return found


def table(store: WholeStore) -> RoutingTable:
    """The routing table as it is stored now."""

    async def read() -> RoutingTable:
        config = load_config(str(store.folder / "run" / "effective.yaml"), {})
        kv = open_store(config.kv_url)
        try:
            return await read_table(kv)
        finally:
            await kv.close()

    return asyncio.run(read())


def wait_until(store: WholeStore, wanted: Callable[[RoutingTable], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not wanted(table(store)):
        assert time.monotonic() < deadline, store.log()[-3000:]
        threading.Event().wait(0.1)


def is_whole(table: RoutingTable) -> bool:
    """Whether every target serves."""
    states = {one.state for chain in table.chains for one in chain.targets}
    return states == {PublicState.SERVING}


def check_all(store: WholeStore, loads: list[Load]) -> None:
    """No client heard of anything, and all that was acknowledged is there."""
    client = store.client()
    for load in loads:
        assert not load.failures, load.failures[:3]
        for key, data in load.acknowledged.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == data, key


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_storage_nodes_are_lost_one_after_another(store: WholeStore, how: signal.Signals) -> None:
    store.client().create_bucket(Bucket=BUCKET)
    loads = [Load(store, number) for number in range(2)]
    try:
        for disk in ("1", "2", "3"):
            loads[0].wait(10)
            victim = process(store, "storage", "--disk", disk)
            os.kill(victim, how)
            if how == signal.SIGSTOP:
                wait_until(store, lambda table: not is_whole(table))
            loads[0].wait(20)
            if how == signal.SIGSTOP:
                os.kill(victim, signal.SIGCONT)
            wait_until(store, is_whole)
    finally:
        for load in loads:
            load.stop()
    check_all(store, loads)
    assert max(load.longest_seconds for load in loads) < 4 * LEASE_SECONDS


def test_the_manager_is_lost(store: WholeStore) -> None:
    store.client().create_bucket(Bucket=BUCKET)
    loads = [Load(store, number) for number in range(2)]
    try:
        for _ in range(2):
            loads[0].wait(10)
            os.kill(process(store, "manager"), signal.SIGKILL)
            loads[0].wait(30)
    finally:
        for load in loads:
            load.stop()
    check_all(store, loads)


def test_everything_is_lost_at_once_and_comes_back(store: WholeStore) -> None:
    store.client().create_bucket(Bucket=BUCKET)
    loads: list[Load] = []
    for number in range(2):
        loads.append(Load(store, number))
        loads[-1].wait(10)
        loads[-1].stop()
        store.kill_all()
        store.local.start()
        wait_until(store, is_whole)
        check_all(store, loads)
