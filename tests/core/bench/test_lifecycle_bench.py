"""The lifecycle benchmark's buckets are what S3 requests would have made of them."""

from __future__ import annotations

import asyncio

import pytest

from craqen.core.bench import lifecycle
from craqen.core.bench.lifecycle import VERSIONS_EACH, Bucket
from craqen.core.clock import ManualClock
from craqen.core.kv.memory import MemoryStore
from craqen.core.lifecycle.calendar import DAY_NS
from craqen.core.lifecycle.records import Rule
from craqen.core.meta.local import LocalMetaStore
from craqen.core.options import MetaOptions
from craqen.tests.core.meta.checker import problems


@pytest.mark.parametrize("versions", [1, VERSIONS_EACH])
def test_its_buckets_are_whole_and_rules_find_all(
    versions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "PER_FOLDER", 40)

    async def main() -> None:
        kv, clock = MemoryStore(), ManualClock()
        meta = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        bucket = Bucket(kv, meta, "bucket", versions)
        await bucket.fill(100)
        # The usage counters alone are left out: nothing reads them.
        assert [one for one in await problems(kv) if "usage" not in one] == []
        held = 3 * (40 if versions == 1 else 1 + 9 * versions)
        assert await bucket.list_all() == held
        now_ns = clock.wall_ns() + 10 * DAY_NS
        young = Rule("r", True, expiration_days=100, noncurrent_days=100)
        tally = await bucket.run_rules(young, now_ns=now_ns)
        assert (tally.scanned, tally.ended) == (held, 0)
        old = Rule("r", True, expiration_days=1, noncurrent_days=1)
        tally = await bucket.run_rules(old, now_ns=now_ns)
        assert tally.ended == held
        await meta.close()
        await kv.close()

    asyncio.run(main())
