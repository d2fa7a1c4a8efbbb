"""The duty that settles folders and recounts."""

from __future__ import annotations

import asyncio

from craqen.core.clock import ManualClock
from craqen.core.keeper.quotas import QuotaDuty
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction
from craqen.core.meta.accounts import Account, Kind, counter_key
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.core.metrics import render
from craqen.core.options import MetaOptions, QuotaOptions

HOUR_NS = 3600 * 10**9


def test_settling_and_recounting() -> None:
    async def scenario() -> None:
        kv = MemoryStore()
        clock = ManualClock()
        store = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        bucket = await store.create_bucket("bucket", owner="o", region="", as_owner=Owner())
        content = NewContent(9, b"x" * 9)
        await store.put_object("bucket", b"f/a", content, ObjectAttributes(), Owner())
        folder = (await store.lookup(bucket.inode_id, b"f")).inode_id
        account = Account(Kind.DIRECTORY, folder)
        await store.set_quota(account, size_bytes=100, files=0)
        duty = QuotaDuty(kv, store, QuotaOptions(recount_hours=2))
        now = clock.wall_ns()
        assert await duty.run_once(now) > 0
        assert (await store.standing(account)).usage.objects == 1
        assert await store.unsettled_quotas() == []

        async def damage(tx: Transaction) -> None:
            tx.add(counter_key(account, 0, b"o"), 5)

        await kv.transact(damage)
        await duty.run_once(now + HOUR_NS)
        assert (await store.standing(account)).usage.objects == 6
        other = QuotaDuty(kv, store, QuotaOptions(recount_hours=2))  # another keeper goes on
        await other.run_once(now + 2 * HOUR_NS)
        assert (await store.standing(account)).usage.objects == 1
        assert "craqen_quota_mended_total 1" in render(other.measures())
        shown = render(other.measures())
        assert 'craqen_quota_held_bytes{kind="directory",name="bucket/f"} 9' in shown
        assert 'craqen_quota_limit_bytes{kind="directory",name="bucket/f"} 100' in shown
        assert "craqen_quota_settled_total 1" in render(duty.measures())
        await kv.transact(damage)
        await other.run_once(now + 3 * HOUR_NS)
        assert (await store.standing(account)).usage.objects == 6
        never = QuotaDuty(kv, store, QuotaOptions(recount_hours=0))
        await never.run_once(now + 100 * HOUR_NS)
        assert (await store.standing(account)).usage.objects == 6
        await store.close()
        await kv.close()

    asyncio.run(scenario())
