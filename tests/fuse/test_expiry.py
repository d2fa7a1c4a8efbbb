"""What lifecycle rules end is gone from the mount as what somebody else unlinked."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from craqen.core.keeper.expiration import BucketPass
from craqen.core.lifecycle.calendar import REAL_DAYS
from craqen.core.lifecycle.plan import Plan
from craqen.core.lifecycle.progress import Tally
from craqen.core.lifecycle.records import ASPECT, Filter, Lifecycle, Rule, encode_lifecycle
from craqen.core.limits import MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.tests.support.folder_data import FolderDataStore

pytestmark = pytest.mark.mount

SEEN_SECONDS = 10.0  # far above what it takes: the machine may be busy
RULES = Lifecycle((Rule("r", True, Filter("logs/"), expiration_date_ns=1),))


def soon(condition: Callable[[], bool]) -> bool:
    """Whether *condition* comes true."""
    end = time.monotonic() + SEEN_SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def expire(mounted: Any) -> Tally:
    """A pass over the bucket, as a keeper makes it."""

    async def work(meta: LocalMetaStore, data: FolderDataStore) -> Tally:
        setting = encode_lifecycle(RULES)
        await meta.set_bucket_setting("bucket", ASPECT, setting)
        bucket, tally = await meta.get_bucket("bucket"), Tally()
        plan = Plan(RULES, time.time_ns(), REAL_DAYS)
        assert await BucketPass(meta, bucket, setting, plan, tally).run()
        return tally

    found: Tally = mounted.elsewhere(work)
    return found


def test_expired_files_vanish_and_open_handles_read_on(own_mount: Any) -> None:
    folder = own_mount.root / "logs"
    content = random.Random(3).randbytes(2 * MIB)
    own_mount.put("logs/read", content)
    folder_kept = own_mount.root / "kept"
    folder_kept.write_bytes(b"kept")
    (folder / "by-mount").write_bytes(b"1")
    assert sorted(os.listdir(folder)) == ["by-mount", "read"]
    with (folder / "read").open("rb", buffering=0) as reader:
        assert reader.read(1000) == content[:1000]
        assert expire(own_mount).objects == 2
        assert soon(lambda: os.listdir(own_mount.root) == ["kept"])
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        reader.seek(0)
        assert reader.read() == content
    assert folder_kept.read_bytes() == b"kept"
