"""Versions, delete markers and locks, scene by scene; through both doors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from craqen.core.errors import (
    DeleteMarkerError,
    InvalidArgumentError,
    NotEmptyError,
    NotFoundError,
    StaleHandleError,
    VersionNotFoundError,
)
from craqen.core.meta.records import (
    DeleteOutcome,
    InodeType,
    NewContent,
    ObjectAttributes,
    VersionEntry,
    Versioning,
)
from craqen.tests.core.meta.checker import problems
from craqen.tests.core.meta.test_rules import OWNER, Scenario, World, run

__all__ = ["run"]

Run = Callable[[Scenario], None]
DAY_NS = 86_400 * 10**9


async def put(w: World, key: bytes, data: bytes = b"x") -> str:
    result = await w.store.put_object(
        "bucket", key, NewContent(len(data), data), ObjectAttributes(etag=data.decode()), OWNER
    )
    return result.version_id


async def read(w: World, key: bytes, version_id: str = "") -> bytes | None:
    view = await w.store.get_object("bucket", key, version_id=version_id)
    assert not version_id or view.version_id == version_id
    return view.inline_data


async def versions(w: World, **query: object) -> list[VersionEntry]:
    page = await w.store.list_object_versions("bucket", **query)  # type: ignore[arg-type]
    assert page.next_key is None
    return page.entries


async def shown(w: World, **query: object) -> list[str]:
    """A line per version: ``key=data``, ``key!`` for a marker, ``*`` for the latest, ``0`` for the
    null version; a common prefix as it is."""
    lines = []
    for entry in await versions(w, **query):
        line = entry.key.decode()
        if entry.version_id:
            if entry.inode is None:
                line += "!"
            elif entry.inode.type == InodeType.DIRECTORY:
                line += "=folder"
            else:
                content = await read(w, entry.key, entry.version_id)
                line += "=" + (content or b"").decode()
            line += "*" * entry.is_latest + "0" * (entry.version_id == "null")
        lines.append(line)
    return lines


async def whole(w: World) -> None:
    assert await problems(w.store._context.kv) == []


def test_puts_and_deletes_keep_versions(run: Run) -> None:
    async def scenario(w: World) -> None:
        assert await put(w, b"k", b"old") == ""
        await w.store.set_bucket_versioning("bucket", enabled=True)
        record = await w.store.get_bucket("bucket")
        assert (record.versioning, record.settings_version) == (Versioning.ENABLED, 1)
        one, two = await put(w, b"k", b"one"), await put(w, b"k", b"two")
        assert len({one, two}) == 2
        assert {len(one), len(two)} == {32}
        assert two < one
        assert await shown(w) == ["k=two*", "k=one", "k=old0"]
        assert await w.usage() == (9, 3)
        gone = await w.store.delete_object("bucket", b"k")
        assert (gone.removed, gone.delete_marker) == (True, True)
        assert await shown(w) == ["k!*", "k=two", "k=one", "k=old0"]
        assert await w.keys() == []
        with pytest.raises(DeleteMarkerError) as error:
            await w.get(b"k")
        assert (error.value.version_id, error.value.named) == (gone.version_id, False)
        with pytest.raises(DeleteMarkerError) as error:
            await read(w, b"k", gone.version_id)
        assert error.value.named
        await whole(w)
        back = await w.store.delete_object("bucket", b"k", version_id=gone.version_id)
        assert back == DeleteOutcome(True, gone.version_id, True)
        assert await w.get(b"k") == b"two"
        last = await w.store.delete_object("bucket", b"k", version_id=two)
        assert last == DeleteOutcome(True, two)
        assert await w.get(b"k") == b"one"
        assert await w.store.delete_object("bucket", b"k", version_id="null") == DeleteOutcome(
            True, "null"
        )
        assert await shown(w) == ["k=one*"]
        with pytest.raises(VersionNotFoundError):
            await read(w, b"k", "null")
        with pytest.raises(InvalidArgumentError):
            await read(w, b"k", "0" * 32)
        again = await w.store.delete_object("bucket", b"k", version_id=two)
        assert again == DeleteOutcome(False, two)
        await whole(w)

    run(scenario)


def test_suspended_versioning_has_one_null_version(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await put(w, b"k", b"one")
        await w.store.set_bucket_versioning("bucket", enabled=False)
        assert await put(w, b"k", b"two") == "null"
        assert await put(w, b"k", b"three") == "null"
        assert await shown(w) == ["k=three*0", "k=one"]
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await put(w, b"k", b"four")
        assert await shown(w) == ["k=four*", "k=three0", "k=one"]
        await w.store.set_bucket_versioning("bucket", enabled=False)
        gone = await w.store.delete_object("bucket", b"k")
        assert gone == DeleteOutcome(True, "null", True)
        assert await shown(w) == ["k!*0", "k=four", "k=one"]
        await whole(w)
        assert await w.store.delete_object("bucket", b"k") == DeleteOutcome(False, "null", True)
        assert await shown(w) == ["k!*0", "k=four", "k=one"]
        assert await w.store.delete_object("bucket", b"k", version_id="null") == DeleteOutcome(
            True, "null", True
        )
        assert await shown(w) == ["k=four*", "k=one"]
        await whole(w)

    run(scenario)


def test_folders_without_current_objects_are_hidden(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        for key in (b"a/b/c", b"a/b/d", b"a-x", b"a0"):
            await put(w, key, key)
        inode = await w.store.lookup(w.bucket_id, b"a")
        for key in (b"a/b/c", b"a/b/d"):
            await w.store.delete_object("bucket", key)
        assert await w.keys(delimiter=b"/") == [b"a-x", b"a0"]
        assert await w.names() == [b"a-x", b"a0"]
        for call in (w.store.lookup(w.bucket_id, b"a"), w.store.get_inode(inode.inode_id)):
            with pytest.raises((NotFoundError, StaleHandleError)):
                await call
        with pytest.raises(StaleHandleError):
            await w.make(inode.inode_id, b"new")
        assert await shown(w, delimiter=b"/") == ["a-x=a-x*", "a/", "a0=a0*"]
        assert await shown(w, prefix=b"a/") == [
            "a/b/c!*", "a/b/c=a/b/c", "a/b/d!*", "a/b/d=a/b/d",
        ]  # fmt: skip
        await whole(w)
        await put(w, b"a/b/d", b"again")
        assert (await w.store.lookup(w.bucket_id, b"a")).inode_id == inode.inode_id
        assert await w.keys() == [b"a-x", b"a/b/d", b"a0"]
        await w.store.delete_object("bucket", b"never/was")
        assert await w.keys(delimiter=b"/") == [b"a-x", b"a/", b"a0"]
        assert await shown(w, prefix=b"n") == ["never/was!*"]
        await whole(w)
        with pytest.raises(NotEmptyError):
            await w.store.delete_bucket("bucket")
        for entry in await versions(w):
            await w.store.delete_object("bucket", entry.key, version_id=entry.version_id)
            await whole(w)
        await w.store.delete_bucket("bucket")

    run(scenario)
