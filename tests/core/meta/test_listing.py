"""Listings against a naive model: sorted keys, grouped by the delimiter."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.clock import ManualClock
from craqen.core.kv.memory import MemoryStore
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.core.options import MetaOptions

keys = st.text(alphabet="ab/.-0é", min_size=1, max_size=8).map(str.encode)


def naive(
    present: set[bytes], prefix: bytes, delimiter: bytes, after: bytes
) -> list[tuple[bytes, bool]]:
    """(key or common prefix, whether it is a prefix), in order, behind *after*."""
    found: dict[bytes, bool] = {}
    for key in present:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        if at < 0:
            found[key] = False
        else:
            found[key[: at + len(delimiter)]] = True
    return [
        (key, grouped)
        for key, grouped in sorted(found.items())
        if key > after and not (grouped and after.startswith(key))
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.sets(keys, max_size=25),
    st.sampled_from([b"", b"a", b"a/", b"/", b"a/b", b"b-", b"a//"]),
    st.sampled_from([b"", b"/", b"-", b"b", b"/a"]),
    st.one_of(st.just(b""), keys),
    st.integers(1, 5),
)
def test_pages_are_what_a_sorted_list_would_give(
    present: set[bytes], prefix: bytes, delimiter: bytes, after: bytes, limit: int
) -> None:
    async def scenario() -> None:
        kv = MemoryStore()
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        await store.create_bucket("bucket", owner="me", region="", as_owner=Owner())
        for key in present:
            await store.put_object(
                "bucket", key, NewContent(len(key), key), ObjectAttributes(), Owner()
            )
        wanted = naive(present, prefix, delimiter, after)
        found: list[tuple[bytes, bool]] = []
        position: bytes | None = after
        while position is not None:
            page = await store.list_objects(
                "bucket", prefix=prefix, delimiter=delimiter, after=position, limit=limit
            )
            assert len(page.entries) <= limit
            assert page.next_after is None or len(page.entries) == limit
            for entry in page.entries:
                found.append((entry.key, entry.inode is None))
                assert entry.inode is None or entry.inode.size == len(entry.key)
            position = page.next_after
        assert found == wanted
        await store.close()
        await kv.close()

    asyncio.run(scenario())
