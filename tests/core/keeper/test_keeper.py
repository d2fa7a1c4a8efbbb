"""Duties are done by one keeper at a time, by all keepers together, and whatever becomes of one of
them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from craqen.core.clock import SystemClock
from craqen.core.cluster.host import process_identity
from craqen.core.errors import DataLossError, UnavailableError
from craqen.core.keeper import keeper as module
from craqen.core.keeper.keeper import Keeper
from craqen.core.keeper.lease import LEASE_PREFIX, DutyLease, LeaseRecord
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction
from craqen.core.metrics import Metric, render

LEASE_SECONDS = 0.2
ELSEWHERE = "another-boot/pid:[1] 1 1"


class Work:
    """A duty that tells who is at it."""

    def __init__(self, name: str, due_seconds: float = 0.01) -> None:
        self.name = name
        self.due_seconds = due_seconds
        self.done = asyncio.Event()
        self.ran = 0
        self.failure: Exception | None = None
        self.waits: asyncio.Event | None = None
        self.cancelled = False

    async def run_once(self, now_ns: int) -> float:
        assert now_ns > 0
        self.ran += 1
        self.done.set()
        try:
            if self.waits is not None:
                await self.waits.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.failure is not None:
            raise self.failure
        return self.due_seconds

    def measures(self) -> Sequence[Metric]:
        return [Metric(f"craqen_{self.name}_total", "counter", "Runs.", [({}, self.ran)])]

    async def runs_again(self) -> None:
        self.done.clear()
        await self.done.wait()


class Process:
    """A keeper with duties of its own."""

    def __init__(self, kv: MemoryStore, *duties: Work, keepers: int = 1) -> None:
        self.keepers = keepers
        self.duties = duties

        async def count() -> int:
            return self.keepers

        self.keeper = Keeper(kv, duties, SystemClock(), LEASE_SECONDS, count)
        self.task = asyncio.create_task(self.keeper.run())

    @property
    def held(self) -> int:
        (found,) = (m for m in self.keeper.measures() if m.name == "craqen_keeper_duty_held")
        return sum(int(value) for _, value in found.samples)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def run(scene: Callable[[MemoryStore], Awaitable[None]]) -> None:
    async def main() -> None:
        kv = MemoryStore()
        try:
            async with asyncio.timeout(20):
                await scene(kv)
        finally:
            await kv.close()

    asyncio.run(main())


async def plant(kv: MemoryStore, duty: str, record: LeaseRecord) -> None:
    async def write(tx: Transaction) -> None:
        tx.set(LEASE_PREFIX + duty.encode(), msgspec.msgpack.encode(record))

    await kv.transact(write)


async def until(condition: Callable[[], bool]) -> None:
    """A poll; the scene's timeout bounds it."""
    while not condition():
        await asyncio.sleep(0.005)


def test_a_duty_is_done_again_when_it_is_due() -> None:
    async def scene(kv: MemoryStore) -> None:
        process = Process(kv, Work("sweep"))
        for _ in range(3):
            await process.duties[0].runs_again()
        await process.stop()

    run(scene)


def test_only_one_keeper_does_a_duty_and_the_other_follows_at_once() -> None:
    async def scene(kv: MemoryStore) -> None:
        first = Process(kv, Work("sweep"))
        await first.duties[0].runs_again()
        second = Process(kv, Work("sweep"))
        for _ in range(50):
            await first.duties[0].runs_again()
        assert second.duties[0].ran == 0
        await first.stop()
        await second.duties[0].runs_again()
        await second.stop()

    run(scene)


def test_the_duty_of_a_keeper_that_is_silent_is_taken_over_after_its_lease() -> None:
    async def scene(kv: MemoryStore) -> None:
        await plant(kv, "sweep", LeaseRecord(7, "gone", 3, ELSEWHERE))
        began = asyncio.get_running_loop().time()
        process = Process(kv, Work("sweep"))
        await process.duties[0].runs_again()
        assert asyncio.get_running_loop().time() - began >= LEASE_SECONDS
        await process.stop()

    run(scene)


def test_the_duty_of_a_process_of_this_host_that_ended_is_taken_over_at_once() -> None:
    async def scene(kv: MemoryStore) -> None:
        namespace = process_identity().rsplit(" ", 2)[0]
        await plant(kv, "sweep", LeaseRecord(7, "gone", 3, f"{namespace} {2**22 + 1} 99"))
        clock = SystemClock()
        lease = DutyLease(kv, "sweep", "mine", 3600.0, clock.monotonic_seconds)
        assert await lease.try_to_take()

    run(scene)


def test_a_keeper_that_lost_its_lease_is_stopped_in_mid_run() -> None:
    async def scene(kv: MemoryStore) -> None:
        work = Work("sweep")
        work.waits = asyncio.Event()
        process = Process(kv, work)
        await work.runs_again()
        await plant(kv, "sweep", LeaseRecord(99, "other", 0, ELSEWHERE))
        await until(lambda: work.cancelled)
        await until(lambda: process.held == 0)
        await process.stop()

    run(scene)


@pytest.mark.parametrize("failure", [UnavailableError("the disk is away"), ValueError("a mistake")])
def test_a_duty_that_fails_is_tried_again_and_the_others_go_on(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAILURE_SECONDS", 0.01)

    async def scene(kv: MemoryStore) -> None:
        bad, good = Work("bad"), Work("good")
        bad.failure = failure
        process = Process(kv, bad, good)
        await bad.runs_again()
        await bad.runs_again()
        await good.runs_again()
        text = render(process.keeper.measures())
        assert 'craqen_keeper_failures_total{duty="good"} 0' in text
        assert 'craqen_keeper_failures_total{duty="bad"} 0' not in text
        assert f"craqen_good_total {good.ran}" in text
        bad.failure = None
        await bad.runs_again()
        await process.stop()

    run(scene)


def test_keepers_share_the_duties() -> None:
    async def scene(kv: MemoryStore) -> None:
        names = ["one", "two", "three", "four"]
        first = Process(kv, *(Work(name) for name in names))
        await until(lambda: first.held == 4)
        second = Process(kv, *(Work(name) for name in names), keepers=2)
        first.keepers = 2
        await until(lambda: first.held == second.held == 2)
        await first.stop()
        await until(lambda: second.held == 4)
        await second.stop()

    run(scene)


def test_a_lease_that_is_given_up_is_not_renewed() -> None:
    async def scene(kv: MemoryStore) -> None:
        clock = SystemClock()
        mine = DutyLease(kv, "sweep", "mine", LEASE_SECONDS, clock.monotonic_seconds)
        other = DutyLease(kv, "sweep", "other", LEASE_SECONDS, clock.monotonic_seconds)
        assert await mine.try_to_take()
        assert not await other.try_to_take()
        assert await mine.renew()
        await mine.give_up()
        assert not await other.try_to_take(patient=True)
        assert await other.try_to_take()
        assert not mine.holds()
        assert other.holds()

    run(scene)


def test_a_lease_that_is_no_lease_is_told_of() -> None:
    async def scene(kv: MemoryStore) -> None:
        async def write(tx: Transaction) -> None:
            tx.set(LEASE_PREFIX + b"sweep", b"\xc1")

        await kv.transact(write)
        clock = SystemClock()
        lease = DutyLease(kv, "sweep", "mine", LEASE_SECONDS, clock.monotonic_seconds)
        with pytest.raises(DataLossError, match="lease"):
            await lease.try_to_take()

    run(scene)
