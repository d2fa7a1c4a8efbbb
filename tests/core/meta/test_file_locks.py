"""Locks of files among clients: who excludes whom, who is woken, and what death leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from craqen.core.clock import ManualClock
from craqen.core.errors import StaleHandleError
from craqen.core.kv.memory import MemoryStore
from craqen.core.meta.file_locks import locks_range
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import InodeType, Owner
from craqen.core.options import MetaOptions

Work = Callable[[LocalMetaStore, LocalMetaStore, int, ManualClock], Awaitable[None]]


def run(work: Work) -> None:
    """Two clients of one store, and a file."""

    async def whole() -> None:
        kv, clock = MemoryStore(), ManualClock()
        options = MetaOptions(client_lease_seconds=10.0, removal_grace_seconds=0.0)
        one = await LocalMetaStore.open(kv, clock, options, description="one")
        two = await LocalMetaStore.open(kv, clock, options, description="two")
        bucket = await one.create_bucket("bucket", owner="o", region="", as_owner=Owner())
        kind = InodeType.FILE
        file = await one.create(bucket.inode_id, b"file", kind, mode=0o600, uid=0, gid=0)
        try:
            await work(one, two, file.inode_id, clock)
        finally:
            await one.close()
            await two.close()
        assert await kv.read(lambda tx: tx.get_range(*locks_range(0))) == []

    asyncio.run(whole())


def test_an_exclusive_lock_excludes_all_others_and_tells_them_when_it_goes() -> None:
    async def work(one: LocalMetaStore, two: LocalMetaStore, file: int, clock: ManualClock) -> None:
        assert await one.take_lock(file, 1, exclusive=True) is None
        assert await one.take_lock(file, 1, exclusive=True) is None  # its own
        waiting = await two.take_lock(file, 1, exclusive=False)
        assert waiting is not None
        other = await one.take_lock(file, 2, exclusive=True)  # another handle of the same client
        assert other is not None
        await one.release_lock(file, 1)
        await waiting
        await other
        assert await two.take_lock(file, 1, exclusive=False) is None

    run(work)


def test_shared_locks_are_many() -> None:
    async def work(one: LocalMetaStore, two: LocalMetaStore, file: int, clock: ManualClock) -> None:
        assert await one.take_lock(file, 1, exclusive=False) is None
        assert await two.take_lock(file, 1, exclusive=False) is None
        changed = await two.take_lock(file, 1, exclusive=True)
        assert changed is not None
        changed.cancel()
        await one.release_lock(file, 1)
        assert await two.take_lock(file, 1, exclusive=True) is None

    run(work)


def test_the_lock_of_a_dead_client_is_free() -> None:
    async def work(one: LocalMetaStore, two: LocalMetaStore, file: int, clock: ManualClock) -> None:
        assert await one.take_lock(file, 1, exclusive=True) is None
        await two.dead_clients()
        for _ in range(3):
            clock.advance(5.0)
            await two.renew_client()
        assert await two.dead_clients() == [one.client_id]
        assert await two.take_lock(file, 1, exclusive=True) is None
        with pytest.raises(StaleHandleError, match="declared dead"):
            await one.take_lock(file, 1, exclusive=True)

    run(work)


def test_a_file_that_is_gone_has_no_locks() -> None:
    async def work(one: LocalMetaStore, two: LocalMetaStore, file: int, clock: ManualClock) -> None:
        assert await one.take_lock(file, 1, exclusive=True) is None
        await one.delete_object("bucket", b"file")
        clock.advance(1.0)
        await one.due_removals(limit=10)
        with pytest.raises(StaleHandleError, match="gone"):
            await two.take_lock(file, 1, exclusive=True)

    run(work)
