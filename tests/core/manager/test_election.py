"""One primary at a time, also when managers hang, end, or come late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from craqen.core.cluster.host import process_identity
from craqen.core.cluster.records import NodeRecord, RoutingTable
from craqen.core.cluster.store import change_table, read_table, replace_table
from craqen.core.errors import OperatorError, UnavailableError
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import ReadTransaction, Transaction
from craqen.core.manager.election import (
    CLAIM_KEY,
    LEASE_KEY,
    Claim,
    Election,
    LeaseRecord,
)

LEASE_SECONDS = 0.2
ELSEWHERE = "another-boot/pid:[1] 1 1"


class Manager:
    """Takes part; knows when it leads."""

    def __init__(self, kv: MemoryStore, nodes: int = 0) -> None:
        """*nodes*: how many storage nodes reach it."""
        loop = asyncio.get_running_loop()
        self.nodes = nodes

        async def heard() -> int:
            return self.nodes

        self.election = Election(kv, "unix:///nowhere", LEASE_SECONDS, loop.time, heard)
        self.leads = asyncio.Event()
        self.lost = asyncio.Event()
        self.task = asyncio.create_task(self.election.run(self._lead))

    async def _lead(self) -> None:
        self.leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.lost.set()

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


async def plant(kv: MemoryStore, record: LeaseRecord) -> None:
    async def write(tx: Transaction) -> None:
        tx.set(LEASE_KEY, msgspec.msgpack.encode(record))

    await kv.transact(write)


async def read_claim(tx: ReadTransaction) -> bytes | None:
    return await tx.get(CLAIM_KEY)


def test_one_leads_and_another_follows_when_it_gives_up() -> None:
    async def scene(kv: MemoryStore) -> None:
        first = Manager(kv)
        await first.leads.wait()
        second = Manager(kv)
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert first.election.holds()
        assert not second.leads.is_set()
        await first.stop()
        await second.leads.wait()
        assert second.election.epoch == first.election.epoch + 1
        await second.stop()

    run(scene)


def test_a_silent_holder_is_followed_after_a_whole_lease() -> None:
    async def scene(kv: MemoryStore) -> None:
        await plant(kv, LeaseRecord(7, "gone", 3, "", ELSEWHERE))
        began = asyncio.get_running_loop().time()
        manager = Manager(kv)
        await manager.leads.wait()
        assert asyncio.get_running_loop().time() - began >= LEASE_SECONDS
        assert manager.election.epoch == 8
        await manager.stop()

    run(scene)


def test_a_holder_whose_process_has_ended_is_followed_at_once() -> None:
    namespace = process_identity().rsplit(" ", 2)[0]

    async def scene(kv: MemoryStore) -> None:
        await plant(kv, LeaseRecord(7, "gone", 3, "", f"{namespace} {2**22 + 1} 99"))
        began = asyncio.get_running_loop().time()
        manager = Manager(kv)
        await manager.leads.wait()
        assert asyncio.get_running_loop().time() - began < LEASE_SECONDS / 2
        await manager.stop()

    run(scene)


def test_who_lost_the_lease_stops_and_writes_nothing() -> None:
    async def scene(kv: MemoryStore) -> None:
        manager = Manager(kv)
        await manager.leads.wait()
        await change_table(kv, lambda table: RoutingTable(0, "cluster"))
        known = await read_table(kv)
        wanted = msgspec.structs.replace(known, nodes=(NodeRecord(1, (), ""),))
        await plant(kv, LeaseRecord(manager.election.epoch + 1, "other", 0, "", ELSEWHERE))
        with pytest.raises(UnavailableError, match="not the primary"):
            await replace_table(kv, known, wanted, manager.election.fence)
        assert await read_table(kv) == known
        await manager.lost.wait()
        assert not manager.election.holds()
        await manager.stop()

    run(scene)


def test_what_trying_again_does_not_help_ends_the_manager() -> None:
    async def scene(kv: MemoryStore) -> None:
        async def lead() -> None:
            raise OperatorError("the disk is not there")

        election = Election(kv, "", LEASE_SECONDS, asyncio.get_running_loop().time)
        with pytest.raises(OperatorError, match="not there"):
            await election.run(lead)
        successor = Manager(kv)  # at once: the lease was given up
        await successor.leads.wait()
        await successor.stop()

    run(scene)


def test_a_primary_that_nodes_do_not_reach_gives_way_to_one_that_they_do() -> None:
    async def scene(kv: MemoryStore) -> None:
        first = Manager(kv, nodes=3)
        await first.leads.wait()
        second = Manager(kv)
        first.nodes, second.nodes = 1, 2
        await second.leads.wait()
        assert first.lost.is_set()
        # The first hears fewer, and does not take it back, though it claims so.
        claimed = await kv.read(read_claim)
        while (await kv.read(read_claim)) == claimed:
            await asyncio.sleep(LEASE_SECONDS / 4)
        assert second.election.holds()
        await second.stop()
        await first.stop()

    run(scene)


def test_a_claim_of_long_ago_or_of_as_many_nodes_moves_nobody() -> None:
    async def scene(kv: MemoryStore) -> None:
        async def claim(tx: Transaction) -> None:
            tx.set(CLAIM_KEY, msgspec.msgpack.encode(Claim("somebody", 9, 1)))

        await kv.transact(claim)
        first = Manager(kv, nodes=2)
        await first.leads.wait()
        second = Manager(kv, nodes=2)
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert first.election.holds()
        assert not second.leads.is_set()
        await second.stop()
        await first.stop()

    run(scene)
