"""Versions, delete markers and locks, scene by scene; through both doors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.clock import ManualClock
from craqen.core.errors import (
    BucketStateError,
    ConflictError,
    CrossDeviceError,
    DeleteMarkerError,
    InvalidArgumentError,
    NotEmptyError,
    NotFoundError,
    ObjectLockedError,
    PermissionDeniedError,
    PreconditionFailedError,
    StaleHandleError,
    VersionNotFoundError,
)
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import ReadTransaction
from craqen.core.limits import MIB
from craqen.core.meta.listing import CHILD_ROWS
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.locks import COMPLIANCE, GOVERNANCE, ON
from craqen.core.meta.records import (
    DeleteOutcome,
    Deletion,
    InodeType,
    NewContent,
    ObjectAttributes,
    SetAttributes,
    VersionEntry,
    Versioning,
    WriteConditions,
)
from craqen.core.meta.version_listing import Source
from craqen.core.options import MetaOptions
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
        assert [entry.noncurrent_since_ns > 0 for entry in await versions(w)] == [
            False, True, True,
        ]  # fmt: skip
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


def test_posix_overwrites_keep_versions(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await put(w, b"k", b"one")
        await put(w, b"new", b"two")
        await w.store.rename(w.bucket_id, b"new", w.bucket_id, b"k")
        assert await shown(w) == ["k=two*", "k=one"]  # "new" had no history: nothing is left of it
        await w.store.unlink(w.bucket_id, b"k")
        assert await w.names() == []
        assert await shown(w) == ["k!*", "k=two", "k=one"]
        await whole(w)
        marker, _, one = await versions(w)
        copied = await w.store.copy_object(
            "bucket", b"k", "bucket", b"k", OWNER,
            attributes=None, source_generation=None, source_version=one.version_id,
        )  # fmt: skip
        assert copied.version_id < marker.version_id
        assert await w.get(b"k") == b"one"
        inode = await w.store.lookup(w.bucket_id, b"k")
        await w.store.write_inline(inode.inode_id, 0, b"ONE")
        assert await shown(w) == ["k=ONE*", "k!", "k=two", "k=one"]
        await w.store.rename(w.bucket_id, b"k", w.bucket_id, b"other")
        assert await shown(w) == ["k!*", "k!", "k=two", "k=one", "other=ONE*"]
        await whole(w)

    run(scenario)


def test_a_file_with_two_names_is_copied_when_one_goes(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        extent = await w.put_large(b"k")
        inode = (await w.store.get_object("bucket", b"k")).inode
        await w.store.set_xattr(inode.inode_id, b"user.x", b"v")
        await w.store.link(inode.inode_id, w.bucket_id, b"second")
        await w.store.unlink(w.bucket_id, b"k")
        assert (await w.store.get_inode(inode.inode_id)).nlink == 1
        marker, kept, second = await versions(w)
        assert (marker.inode, kept.inode is not None) == (None, True)
        assert kept.inode is not None
        assert second.inode is not None
        assert kept.inode.inode_id != second.inode.inode_id == inode.inode_id
        assert kept.inode.extents == (extent,)
        assert await w.store.get_xattr(kept.inode.inode_id, b"user.x") == b"v"
        await whole(w)
        plan = await w.store.plan_write(inode.inode_id, 0, 100)
        assert plan.copies, "the version's bytes are not written over"
        await w.store.delete_object("bucket", b"k", version_id=kept.version_id)
        await w.store.delete_object("bucket", b"second")
        assert await w.freed_after(1000) == set()
        await w.store.delete_object("bucket", b"second", version_id=second.version_id)
        await w.store.renew_client()
        assert (extent.segment_id, 0) in await w.freed_after(1000)
        await whole(w)

    run(scenario)


def test_folders_that_hold_versions_only(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await put(w, b"a/k", b"one")
        folder = (await w.store.lookup(w.bucket_id, b"a")).inode_id
        await w.store.unlink(folder, b"k")
        assert await w.names() == [b"a"]  # POSIX calls never prune
        await w.store.set_xattr(folder, b"user.x", b"v")
        await w.store.remove_directory(w.bucket_id, b"a")
        assert await w.names() == []
        assert await shown(w) == ["a/k!*", "a/k=one"]
        await whole(w)
        other = await w.mkdir(w.bucket_id, b"b")
        await w.make(other, b"file")
        with pytest.raises(CrossDeviceError):
            await w.store.rename(w.bucket_id, b"b", w.bucket_id, b"a")
        again = await w.make(w.bucket_id, b"a", InodeType.DIRECTORY)
        assert (again.inode_id, again.explicit) == (folder, True)
        assert await w.store.list_xattrs(folder) == []
        with pytest.raises(CrossDeviceError):
            await w.store.rename(w.bucket_id, b"b", w.bucket_id, b"a")
        await w.store.rename(w.bucket_id, b"a", w.bucket_id, b"moved")
        assert await shown(w, prefix=b"moved/") == ["moved/=folder*0", "moved/k!*", "moved/k=one"]
        await w.store.rename(w.bucket_id, b"b", w.bucket_id, b"a")
        await whole(w)

    run(scenario)


def test_explicit_folders_and_the_versions_of_their_own_key(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        one = await put(w, b"d/", b"one")
        await put(w, b"d/", b"two")
        assert await shown(w) == ["d/=two*", "d/=one"]
        gone = await w.store.delete_object("bucket", b"d/")
        assert await w.keys() == []
        assert await w.names() == []
        await w.mkdir(w.bucket_id, b"d")
        assert await shown(w) == ["d/=folder*0", "d/!", "d/=two", "d/=one"]
        await whole(w)
        await w.store.delete_object("bucket", b"d/", version_id="null")
        assert await shown(w) == ["d/!*", "d/=two", "d/=one"]
        await w.store.delete_object("bucket", b"d/", version_id=gone.version_id)
        assert await w.keys() == [b"d/"]
        assert await w.get(b"d/") == b"two"
        (_, last) = await versions(w)
        assert last.version_id == one
        for entry in await versions(w):
            await w.store.delete_object("bucket", entry.key, version_id=entry.version_id)
        assert await w.names() == []
        await whole(w)

    run(scenario)


def test_conditions_are_those_of_the_current_version(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await put(w, b"k", b"one")
        await w.store.delete_object("bucket", b"k")
        absent = WriteConditions(if_none_match=("*",))
        await w.put(b"k", b"two", conditions=absent)
        with pytest.raises(PreconditionFailedError):
            await w.put(b"k", b"three", conditions=absent)
        with pytest.raises(PreconditionFailedError):
            await w.store.delete_object("bucket", b"k", conditions=WriteConditions(("one",)))
        _, _, first = await versions(w)
        with pytest.raises(PreconditionFailedError):
            await w.store.delete_object(
                "bucket", b"k", version_id=first.version_id, conditions=WriteConditions(("two",))
            )
        await w.store.delete_object(
            "bucket", b"k", version_id=first.version_id, conditions=WriteConditions(("one",))
        )
        with pytest.raises(NotFoundError):
            await w.store.delete_object(
                "bucket", b"absent", conditions=WriteConditions(if_match=("*",))
            )
        assert await shown(w) == ["k=two*", "k!"]

    run(scenario)


def test_ids_stay_in_order_when_the_clock_goes_back(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        ids = []
        for number in range(4):
            ids.append(await put(w, b"k", b"%d" % number))
            w.clock.advance(-100.0)
        assert ids == sorted(ids, reverse=True)
        assert await shown(w) == ["k=3*", "k=2", "k=1", "k=0"]

    run(scenario)


async def locked_bucket(w: World) -> None:
    with pytest.raises(BucketStateError):
        await w.store.set_object_lock("bucket", b"")
    await w.store.set_bucket_versioning("bucket", enabled=True)
    await w.store.set_object_lock("bucket", b"")
    with pytest.raises(BucketStateError):
        await w.store.set_bucket_versioning("bucket", enabled=False)


@pytest.mark.parametrize("mode", [GOVERNANCE, COMPLIANCE, ON])
def test_a_locked_version_stays_as_it_is(run: Run, mode: str) -> None:
    async def scenario(w: World) -> None:
        await locked_bucket(w)
        one = await put(w, b"d/k", b"one")
        until = w.clock.wall_ns() + DAY_NS
        if mode == ON:
            await w.store.set_legal_hold("bucket", b"d/k", hold=True)
        else:
            await w.store.set_retention("bucket", b"d/k", mode=mode, retain_until_ns=until)
        folder = (await w.store.lookup(w.bucket_id, b"d")).inode_id
        number = (await w.store.lookup(folder, b"k")).inode_id
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: w.store.delete_object("bucket", b"d/k", version_id=one),
            lambda: w.store.write_inline(number, 0, b"x"),
            lambda: w.store.plan_write(number, 0, 1),
            lambda: w.store.commit_write(number, 5),
            lambda: w.store.set_attributes(number, SetAttributes(size=0)),
            lambda: w.store.set_attributes(number, SetAttributes(mtime_ns=1)),
            lambda: w.store.rename(folder, b"k", folder, b"other"),
            lambda: w.store.rename(w.bucket_id, b"d", w.bucket_id, b"other"),
        ]
        for call in calls:
            with pytest.raises(PermissionDeniedError):
                await call()
        (failed,) = await w.store.delete_objects("bucket", [Deletion(b"d/k", version_id=one)])
        assert isinstance(failed, ObjectLockedError)
        await w.store.set_attributes(number, SetAttributes(mode=0o600))
        view = await w.store.get_object("bucket", b"d/k")
        attributes = ObjectAttributes(tags={"a": "b"})
        await w.store.set_object_attributes("bucket", b"d/k", view.inode.inode_id, attributes)
        await w.store.unlink(folder, b"k")
        await put(w, b"d/k", b"two")
        assert await shown(w, prefix=b"d/k") == ["d/k=two*", "d/k!", "d/k=one"]
        for call in calls[:6]:
            with pytest.raises(ObjectLockedError):
                await call()
        bypassed = w.store.delete_object("bucket", b"d/k", version_id=one, bypass_governance=True)
        if mode == GOVERNANCE:
            assert (await bypassed).removed
        else:
            with pytest.raises(ObjectLockedError):
                await bypassed
            if mode == ON:
                await w.store.set_legal_hold("bucket", b"d/k", hold=False, version_id=one)
            else:
                w.clock.advance(86_400)
            assert (await calls[0]()).removed
        assert await shown(w, prefix=b"d/k") == ["d/k=two*", "d/k!"]
        await whole(w)

    run(scenario)


def test_retention_only_grows(run: Run) -> None:
    async def scenario(w: World) -> None:
        await locked_bucket(w)
        await put(w, b"k", b"one")
        now = w.clock.wall_ns()

        async def retain(mode: str, days: int, *, bypass: bool = False) -> None:
            until = now + days * DAY_NS if mode else 0
            await w.store.set_retention(
                "bucket", b"k", mode=mode, retain_until_ns=until, bypass_governance=bypass
            )

        for mode, days in (("OTHER", 1), (GOVERNANCE, 0), ("", 1)):
            with pytest.raises(InvalidArgumentError):
                await w.store.set_retention(
                    "bucket", b"k", mode=mode, retain_until_ns=now + days * DAY_NS
                )
        await retain(GOVERNANCE, 2)
        await retain(GOVERNANCE, 3)
        for mode, days in ((GOVERNANCE, 1), (COMPLIANCE, 5), ("", 0)):
            with pytest.raises(ObjectLockedError):
                await retain(mode, days)
        await retain(GOVERNANCE, 1, bypass=True)
        await retain(COMPLIANCE, 2, bypass=True)
        for mode, days in ((GOVERNANCE, 5), (COMPLIANCE, 1), ("", 0)):
            with pytest.raises(ObjectLockedError):
                await retain(mode, days, bypass=True)
        await retain(COMPLIANCE, 4)
        copy = await w.store.copy_object(
            "bucket", b"k", "bucket", b"copy", OWNER, attributes=None, source_generation=None
        )
        assert copy.inode.object is not None
        assert copy.inode.object.lock is None

    run(scenario)


def test_what_is_being_written_cannot_be_locked(run: Run) -> None:
    async def scenario(w: World) -> None:
        await locked_bucket(w)
        number = (await w.make(w.bucket_id, b"k")).inode_id
        await w.store.plan_write(number, 0, MIB)
        with pytest.raises(ConflictError):
            await w.store.set_legal_hold("bucket", b"k", hold=True)
        await w.store.commit_write(number, MIB)
        await w.store.set_legal_hold("bucket", b"k", hold=True)
        await w.store.set_legal_hold("bucket", b"k", hold=False)
        await w.store.plan_write(number, 0, MIB)
        w.clock.advance(1000)
        await w.store.set_legal_hold("bucket", b"k", hold=True)
        await whole(w)

    run(scenario)


def test_an_append_makes_a_version(run: Run) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        one = await put(w, b"k", b"one")
        point = await w.store.append_point("bucket", b"k")
        grown = await w.store.append_object(
            "bucket", b"k", point, NewContent(3, b"two"), ObjectAttributes(), OWNER
        )
        assert grown.version_id < one
        assert await shown(w) == ["k=onetwo*", "k=one"]
        assert await read(w, b"k", one) == b"one"
        await whole(w)

    run(scenario)


def test_a_page_of_versions_reads_a_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        for number in range(60):
            for _ in range(10):
                await put(w, b"d%02d/k" % (number % 20) + b"%02d" % number)
        rows = 0
        original = Source.fill

        async def counted(source: Source, tx: ReadTransaction, limit: int) -> None:
            nonlocal rows
            before = len(source.items)
            await original(source, tx, limit)
            rows += len(source.items) - before

        monkeypatch.setattr(Source, "fill", counted)
        page = await w.store.list_object_versions("bucket", limit=20)
        assert len(page.entries) == 20
        assert rows <= 2 * (CHILD_ROWS + 21)
        rows = 0
        assert page.next_key is not None
        await w.store.list_object_versions(
            "bucket", limit=20, after_key=page.next_key, after_version=page.next_version
        )
        assert rows <= 3 * (CHILD_ROWS + 21)
        rows = 0
        grouped = await w.store.list_object_versions("bucket", delimiter=b"/")
        assert len(grouped.entries) == 20
        assert rows <= 20, "nothing below a common prefix is read"

    run(scenario)


class Line(NamedTuple):
    key: bytes
    version_id: str


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab/.\0", min_size=1, max_size=5), st.booleans()), max_size=25),
    st.sampled_from([b"", b"a", b"a/", b"/", b"a/b", b"a//", b"a\0"]),
    st.sampled_from([b"", b"/", b"b", b"/a", b"\0"]),
    st.integers(1, 5),
)
def test_pages_of_versions_are_a_sorted_list(
    steps: list[tuple[str, bool]], prefix: bytes, delimiter: bytes, limit: int
) -> None:
    async def scenario() -> None:
        kv = MemoryStore()
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        await store.create_bucket("bucket", owner="me", region="", as_owner=OWNER)
        await store.set_bucket_versioning("bucket", enabled=True)
        made: list[Line] = []
        for text, deletes in steps:
            key = text.encode()
            if deletes:
                gone = await store.delete_object("bucket", key)
                made.append(Line(key, gone.version_id))
            else:
                content = NewContent(0, b"")
                put = await store.put_object("bucket", key, content, ObjectAttributes(), OWNER)
                made.append(Line(key, put.version_id))
        wanted: list[Line] = []
        for line in sorted(made):
            key = line.key
            if not key.startswith(prefix):
                continue
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            if at >= 0:
                line = Line(key[: at + len(delimiter)], "")
            if not wanted or wanted[-1] != line:
                wanted.append(line)
        found: list[Line] = []
        key_marker, version_marker = b"", ""
        while True:
            page = await store.list_object_versions(
                "bucket", prefix=prefix, delimiter=delimiter, limit=limit,
                after_key=key_marker, after_version=version_marker,
            )  # fmt: skip
            found += [Line(entry.key, entry.version_id) for entry in page.entries]
            if page.next_key is None:
                break
            assert len(page.entries) == limit
            key_marker, version_marker = page.next_key, page.next_version
        assert found == wanted
        assert await problems(kv) == []
        await store.close()
        await kv.close()

    asyncio.run(scenario())
