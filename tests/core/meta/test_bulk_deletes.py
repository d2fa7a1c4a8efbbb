"""Deleting many keys at once leaves what deleting them one by one leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.clock import ManualClock
from craqen.core.errors import CraqenError, NotFoundError
from craqen.core.kv.memory import MemoryStore
from craqen.core.limits import MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    DeleteOutcome,
    Deletion,
    Extent,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    WriteConditions,
)
from craqen.core.options import MetaOptions

LONG = "n" * 200
NAMES = st.sampled_from(["a", "b", LONG, ""])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(lambda key: bool(key))
CONDITIONS = st.sampled_from(
    [
        WriteConditions(),
        WriteConditions(if_match=("*",)),
        WriteConditions(if_match=("other",)),
        WriteConditions(if_match_size=1),
    ]
)


async def open_store(keys: list[str], folders: list[str], links: bool) -> LocalMetaStore:
    store = await LocalMetaStore.open(
        MemoryStore(), ManualClock(), MetaOptions(), description="test"
    )
    bucket = await store.create_bucket("bucket", owner="o", region="r", as_owner=Owner())
    for name in folders:
        await store.create(
            bucket.inode_id,
            name.encode(),
            InodeType.DIRECTORY,
            mode=0o755,
            uid=1,
            gid=2,
        )
    for key in keys:
        await store.put_object(
            "bucket", key.encode(), NewContent(1, b"x"), ObjectAttributes(etag="e"), Owner()
        )
    if links and keys:
        inode = (await store.get_object("bucket", keys[0].encode())).inode
        if inode.type == InodeType.FILE:
            await store.link(inode.inode_id, bucket.inode_id, b"linked")
    return store


async def state(store: LocalMetaStore) -> list[Any]:
    """Everything that the namespace holds but for ids and times: the kinds and number of rows, what
    both doors list, what is counted."""
    listing = await store.list_objects("bucket")
    usage = await store.usage("bucket")
    kv = vars(store)["_context"].kv
    rows = await kv.read(lambda tx: tx.get_range(b"", b"\xfe"))
    letters = [key[:1] for key, _ in rows if key[:1] not in (b"f", b"r", b"v", b"t")]

    async def tree(inode_id: int) -> list[Any]:
        found: list[Any] = []
        for entry in await store.read_directory(inode_id):
            inode = entry.inode
            below = await tree(inode.inode_id) if inode.type == InodeType.DIRECTORY else []
            found.append((entry.name, inode.nlink, inode.explicit, below))
        return found

    root = await tree((await store.get_bucket("bucket")).inode_id)
    return [[(row.key, row.inode is None) for row in listing.entries], usage, letters, root]


def told(outcome: DeleteOutcome | Exception) -> Any:
    return outcome if isinstance(outcome, DeleteOutcome) else type(outcome)


@settings(max_examples=150, deadline=None)
@given(
    keys=st.lists(KEYS, max_size=8, unique=True),
    folders=st.lists(st.sampled_from(["a", "b", LONG]), max_size=2, unique=True),
    deletions=st.lists(st.tuples(KEYS, CONDITIONS), max_size=10),
    links=st.booleans(),
)
def test_as_one_by_one(
    keys: list[str],
    folders: list[str],
    deletions: list[tuple[str, WriteConditions]],
    links: bool,
) -> None:
    named = [Deletion(key.encode(), conditions) for key, conditions in deletions]
    named += [Deletion(b"linked")] if links else []

    async def at_once() -> list[Any]:
        store = await open_store(keys, folders, links)
        # Objects of folders (``dir/``) come last in a group: so they do one by one.
        outcomes = await store.delete_objects("bucket", named)
        return [*map(told, outcomes), await state(store)]

    async def one_by_one() -> list[Any]:
        store = await open_store(keys, folders, links)
        outcomes: list[Any] = []
        for deletion in named:
            try:
                outcome = await store.delete_object(
                    "bucket", deletion.key, conditions=deletion.conditions
                )
                outcomes.append(outcome)
            except CraqenError as error:
                outcomes.append(type(error))
        return [*outcomes, await state(store)]

    assert asyncio.run(at_once()) == asyncio.run(one_by_one())


def test_segments_are_freed_and_names_of_versions_do_nothing() -> None:
    async def scenario() -> None:
        store = await open_store([], [], links=False)
        await store.ensure_ids(1)
        number = store.new_segment_id()
        extent = Extent(0, MIB, number, 0, store.layout_of(number, in_place=False))
        content = NewContent(MIB, None, (extent,))
        await store.put_object("bucket", b"d/k", content, ObjectAttributes(), Owner())
        outcomes = await store.delete_objects(
            "bucket", [Deletion(b"d/k", version_id="3" * 16), Deletion(b"d/k"), Deletion(b"d/k")]
        )
        assert [getattr(outcome, "removed", None) for outcome in outcomes][1:] == [True, False]
        with pytest.raises(NotFoundError):
            await store.get_object("bucket", b"d/k")
        assert (await store.usage("bucket")).objects == 0
        vars(store)["_context"].clock.advance(1000)
        assert [item.segment_id for item in await store.due_removals(limit=9)] == [number]

    asyncio.run(scenario())


def test_a_versioned_bucket_keeps_what_is_deleted() -> None:
    async def scenario() -> None:
        store = await open_store(["a", "b/c"], [], links=False)
        await store.set_bucket_versioning("bucket", enabled=True)
        outcomes = await store.delete_objects("bucket", [Deletion(b"a"), Deletion(b"b/c")])
        assert all(getattr(outcome, "delete_marker", False) for outcome in outcomes)
        assert (await store.usage("bucket")).objects == 2

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(
    puts=st.lists(KEYS, max_size=8),
    suspended=st.booleans(),
    deletions=st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=12),
)
def test_as_one_by_one_where_versions_are_kept(
    puts: list[str], suspended: bool, deletions: list[tuple[str, int]]
) -> None:
    """The number says which of the bucket's versions goes; past the last one: the key is
    deleted."""

    async def prepared() -> tuple[LocalMetaStore, list[Deletion]]:
        store = await open_store(puts[:3], ["a"], False)
        await store.set_bucket_versioning("bucket", enabled=True)
        for key in puts:
            await store.put_object(
                "bucket", key.encode(), NewContent(1, b"x"), ObjectAttributes(etag="e"), Owner()
            )
        for key in puts[::3]:
            await store.delete_object("bucket", key.encode())
        if suspended:
            await store.set_bucket_versioning("bucket", enabled=False)
        rows = (await store.list_object_versions("bucket")).entries
        named = [
            Deletion(rows[number].key, version_id=rows[number].version_id)
            if number < len(rows)
            else Deletion(key.encode())
            for key, number in deletions
        ]
        return store, named

    async def versions(store: LocalMetaStore) -> list[Any]:
        rows = (await store.list_object_versions("bucket")).entries
        return [(row.key, row.version_id, row.is_latest, row.inode is None) for row in rows]

    async def at_once() -> list[Any]:
        store, named = await prepared()
        outcomes = await store.delete_objects("bucket", named)
        return [*map(told, outcomes), await versions(store), await state(store)]

    async def one_by_one() -> list[Any]:
        store, named = await prepared()
        outcomes: list[Any] = []
        for deletion in named:
            try:
                outcome = await store.delete_object(
                    "bucket", deletion.key, version_id=deletion.version_id
                )
                outcomes.append(outcome)
            except CraqenError as error:
                outcomes.append(type(error))
        return [*outcomes, await versions(store), await state(store)]

    assert asyncio.run(at_once()) == asyncio.run(one_by_one())
