"""Passes over buckets: what ends and what stays, whoever comes in between, and beside a naive
reading of the listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.clock import ManualClock
from craqen.core.errors import ConflictError, NotFoundError, UnavailableError, UploadNotFoundError
from craqen.core.keeper import lifecycle as duty_module
from craqen.core.keeper.expiration import BucketPass, Ended
from craqen.core.keeper.lifecycle import LifecycleDuty, calendar_of
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import KeyValueStore, Transaction
from craqen.core.lifecycle import progress as book
from craqen.core.lifecycle.calendar import REAL_DAYS
from craqen.core.lifecycle.plan import Plan
from craqen.core.lifecycle.progress import Tally
from craqen.core.lifecycle.records import ASPECT, Filter, Lifecycle, Rule, encode_lifecycle
from craqen.core.meta import expiry_scan
from craqen.core.meta.expiry_scan import Cursor, Due, Page
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.locks import GOVERNANCE
from craqen.core.meta.records import (
    Bucket,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    SetAttributes,
    VersionEntry,
)
from craqen.core.meta.schema import inode_key
from craqen.core.metrics import render
from craqen.core.options import LifecycleOptions, MetaOptions
from craqen.tests.core.meta.checker import problems

OWNER = Owner(5, 6)
DAY = 86_400.0
NS = 10**9


class World:
    """A store with a bucket, its clock, and the duty."""

    def __init__(self, kv: KeyValueStore, store: LocalMetaStore, clock: ManualClock) -> None:
        self.kv = kv
        self.store = store
        self.clock = clock
        self.duty = LifecycleDuty(kv, store, LifecycleOptions())

    async def rules(self, *rules: Rule, bucket: str = "bucket") -> None:
        setting = encode_lifecycle(Lifecycle(rules))
        await self.store.set_bucket_setting(bucket, ASPECT, setting)

    async def put(self, key: str, data: bytes = b"x", **tags: str) -> str:
        attributes = ObjectAttributes(etag=data.decode(), tags=tags)
        content = NewContent(len(data), data)
        done = await self.store.put_object("bucket", key.encode(), content, attributes, OWNER)
        return done.version_id

    async def keys(self) -> list[str]:
        page = await self.store.list_objects("bucket")
        return [entry.key.decode() for entry in page.entries]

    async def versions(self) -> list[VersionEntry]:
        return (await self.store.list_object_versions("bucket")).entries

    async def shown(self) -> list[str]:
        return [
            f"{entry.key.decode()}{'' if entry.inode else '!'}{'*' if entry.is_latest else ''}"
            for entry in await self.versions()
        ]

    async def enable(self) -> None:
        await self.store.set_bucket_versioning("bucket", enabled=True)

    def days(self, days: float) -> None:
        self.clock.advance(days * DAY)

    async def run(self) -> Tally:
        """One round of the duty; what its last pass over the bucket did."""
        await self.duty.run_once(self.clock.wall_ns())
        (progress,) = (await book.read_all(self.kv)).values()
        assert await problems(self.kv) == []
        return progress.tally

    async def one_pass(
        self, *rules: Rule, dry_run: bool = False, store: LocalMetaStore | None = None
    ) -> tuple[Tally, list[Ended]]:
        """A pass without the duty, of rules that need not be the bucket's."""
        bucket = await self.store.get_bucket("bucket")
        setting = await self.store.get_bucket_setting("bucket", ASPECT)
        tally, ended = Tally(), list[Ended]()
        plan = Plan(Lifecycle(rules), self.clock.wall_ns(), REAL_DAYS)
        one = BucketPass(
            store or self.store, bucket, setting or b"", plan, tally,
            dry_run=dry_run, told=ended.append,
        )  # fmt: skip
        assert await one.run()
        return tally, ended


Scene = Callable[[World], Awaitable[None]]


def run(scene: Scene, kv: KeyValueStore | None = None) -> None:
    kv = kv or MemoryStore()

    async def main() -> None:
        clock = ManualClock()
        store = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        try:
            await store.create_bucket("bucket", owner="o", region="r", as_owner=OWNER)
            async with asyncio.timeout(60):
                await scene(World(kv, store, clock))
        finally:
            await store.close()
            await kv.close()

    asyncio.run(main())


def days(count: int, prefix: str = "", **more: object) -> Rule:
    return Rule("rule", True, Filter(prefix), expiration_days=count, **more)  # type: ignore[arg-type]


def test_objects_end_and_their_folders_with_them() -> None:
    async def scene(w: World) -> None:
        for key in ("logs/2024/a", "logs/2024/b", "logs/c", "keep/d", "e"):
            await w.put(key, b"12345")
        await w.rules(days(2, "logs/"))
        w.days(1)
        await w.put("logs/late")
        assert (await w.run()).ended == 0
        w.days(2)
        tally = await w.run()
        assert (tally.objects, tally.size_bytes, tally.kept) == (3, 15, 0)
        assert await w.keys() == ["e", "keep/d", "logs/late"]
        assert (await w.store.usage("bucket")).objects == 3

    run(scene)


def test_an_interval_lies_between_passes_unless_the_rules_change() -> None:
    async def scene(w: World) -> None:
        await w.put("k")
        await w.rules(days(1))
        assert (await w.run()).scanned == 1
        w.days(0.1)
        await w.put("l")
        assert (await w.run()).scanned == 1
        await w.rules(days(2))
        assert (await w.run()).scanned == 2
        w.days(0.3)
        await w.put("m")
        assert (await w.run()).scanned == 3
        # A clock that was set back does not make the next pass wait for it.
        w.days(-30)
        await w.put("n")
        assert (await w.run()).scanned == 4

    run(scene)


def test_tags_and_sizes_choose() -> None:
    async def scene(w: World) -> None:
        await w.put("a", b"123", color="red")
        await w.put("b", b"123", color="blue")
        await w.put("c", b"12345", color="red")
        chosen = Filter(tags={"color": "red"}, size_less_than=4)
        await w.rules(Rule("r", True, chosen, expiration_days=1))
        w.days(3)
        await w.run()
        assert await w.keys() == ["b", "c"]

    run(scene)


def test_in_a_versioned_bucket_an_object_gives_way_to_a_marker_and_ends_later() -> None:
    async def scene(w: World) -> None:
        await w.put("dir/k", b"old")
        await w.enable()
        await w.put("dir/k", b"new")
        await w.rules(days(1, noncurrent_days=2))
        w.days(2.5)
        assert (await w.run()).objects == 1
        assert await w.shown() == ["dir/k!*", "dir/k"]  # the older one was replaced long ago
        assert await w.keys() == []
        w.days(4)
        assert (await w.run()).versions == 1
        # The marker is old enough, too, now that nothing is behind it.
        w.days(1)
        assert (await w.run()).markers == 1
        assert await w.shown() == []
        assert (await w.store.usage("bucket")).objects == 0

    run(scene)


def test_suspended_versioning_ends_the_null_version_for_good() -> None:
    async def scene(w: World) -> None:
        await w.enable()
        kept = await w.put("k", b"kept")
        await w.store.set_bucket_versioning("bucket", enabled=False)
        await w.put("k", b"null")
        await w.rules(days(1))
        w.days(3)
        assert (await w.run()).objects == 1
        assert [(one.version_id, one.inode is None) for one in await w.versions()] == [
            ("null", True),
            (kept, False),
        ]

    run(scene)


def test_newer_noncurrent_versions_are_kept_through_all_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("craqen.core.keeper.expiration.KEYS_PER_PAGE", 3)
    monkeypatch.setattr("craqen.core.meta.expiry.NEWER_ROWS_PAGE", 2)

    async def scene(w: World) -> None:
        await w.enable()
        for number in range(9):
            await w.put("a/k", str(number).encode())
            await w.put("b", str(number).encode())
            if number == 6:
                await w.store.delete_object("bucket", b"b")  # a marker among the versions
        await w.rules(
            Rule("r", True, Filter("a/"), noncurrent_days=1, newer_noncurrent_versions=5),
            Rule("s", True, Filter("b"), noncurrent_days=1, newer_noncurrent_versions=3),
        )
        w.days(3)
        tally = await w.run()
        shown = await w.shown()
        assert shown.count("a/k") == 5
        # 8, 7, the marker, 6, 5: the marker does not count.
        assert [name for name in shown if name.startswith("b")] == ["b*", "b", "b!", "b", "b"]
        assert (tally.versions, tally.kept) == (3 + 5, 0)
        w.days(1)
        assert (await w.run()).ended == 0

    run(scene)


def test_old_markers_end_as_noncurrent_versions_do() -> None:
    async def scene(w: World) -> None:
        await w.enable()
        await w.put("k")
        await w.store.delete_object("bucket", b"k")
        w.days(5)
        await w.put("k")
        await w.rules(Rule("r", True, noncurrent_days=2))
        assert (await w.run()).versions == 1
        assert await w.shown() == ["k*", "k!"]  # the marker is noncurrent since today
        w.days(4)
        assert (await w.run()).versions == 1
        assert await w.shown() == ["k*"]

    run(scene)


def test_a_marker_at_the_end_of_a_page_is_not_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("craqen.core.keeper.expiration.KEYS_PER_PAGE", 1)

    async def scene(w: World) -> None:
        await w.enable()
        for key in ("a", "b"):
            await w.put(key)
            await w.store.delete_object("bucket", key.encode())
        await w.store.delete_object("bucket", b"c")
        await w.rules(Rule("r", True, Filter(), expired_delete_marker=True))
        tally = await w.run()
        assert (tally.markers, tally.kept, tally.scanned) == (1, 0, 5)
        assert await w.shown() == ["a!*", "a", "b!*", "b"]

    run(scene)


def test_a_marker_alone_goes_at_once_and_its_hidden_folder_too() -> None:
    async def scene(w: World) -> None:
        await w.enable()
        for key in ("a/deep/k", "b/k"):
            await w.store.delete_object("bucket", key.encode())
        await w.put("c")
        await w.store.delete_object("bucket", b"c")
        await w.rules(Rule("r", True, Filter(), expired_delete_marker=True))
        assert (await w.run()).markers == 2
        assert await w.shown() == ["c!*", "c"]

    run(scene)


@pytest.mark.parametrize("lock", ["retention", "hold"])
def test_a_locked_version_stays_until_its_lock_ends(lock: str) -> None:
    async def scene(w: World) -> None:
        await w.enable()
        await w.store.set_object_lock("bucket", b"")
        version = await w.put("k", b"locked")
        if lock == "hold":
            await w.store.set_legal_hold("bucket", b"k", hold=True)
        else:
            until = w.clock.wall_ns() + int(10 * DAY) * NS
            await w.store.set_retention("bucket", b"k", mode=GOVERNANCE, retain_until_ns=until)
        await w.put("k", b"free")
        await w.put("k", b"current")
        await w.rules(Rule("r", True, noncurrent_days=1))
        w.days(3)
        assert (await w.run()).versions == 1
        assert [one.version_id for one in (await w.versions())[1:]] == [version]
        # A plan for a later moment lifts no lock.
        bucket = await w.store.get_bucket("bucket")
        setting = await w.store.get_bucket_setting("bucket", ASPECT)
        assert setting is not None
        later = Plan(
            Lifecycle((Rule("r", True, noncurrent_days=1),)),
            w.clock.wall_ns() + int(100 * DAY) * NS,
            REAL_DAYS,
        )
        tally = Tally()
        assert await BucketPass(w.store, bucket, setting, later, tally).run()
        assert (tally.versions, tally.kept) == (0, 1 if lock == "retention" else 0)
        w.days(20)
        if lock == "hold":
            await w.store.set_legal_hold("bucket", b"k", hold=False, version_id=version)
        assert (await w.run()).versions == 1

    run(scene)


def test_unfinished_uploads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("craqen.core.keeper.expiration.UPLOADS_PER_PAGE", 2)

    async def scene(w: World) -> None:
        async def begin(key: str) -> str:
            made = await w.store.create_upload(
                "bucket", key.encode(), ObjectAttributes(), OWNER,
                checksum_algorithm="", checksum_type="",
            )  # fmt: skip
            return made.upload_id

        old = [await begin(f"a/{number}") for number in range(5)]
        other = await begin("b")
        w.days(2)
        young = await begin("a/2")
        await w.rules(
            Rule("r", True, Filter("a/"), abort_multipart_days=2),
            Rule("off", False, Filter("b"), abort_multipart_days=1),
        )
        w.days(1)
        tally = await w.run()
        assert (tally.uploads, tally.scanned) == (5, 6)
        uploads, _ = await w.store.list_uploads("bucket")
        assert [one.upload_id for one in uploads] == [young, other]
        for number, upload_id in enumerate(old):
            with pytest.raises(UploadNotFoundError):
                await w.store.get_upload("bucket", f"a/{number}".encode(), upload_id)

    run(scene)


# What happens between the look and the removal.


class Between(LocalMetaStore):
    """A store where something happens right before objects are removed."""

    def __init__(self, like: LocalMetaStore, act: Callable[[], Awaitable[None]]) -> None:
        super().__init__(like._context)
        self._act = act

    async def expire(
        self, bucket: Bucket, setting: bytes, plan: Plan, due: Sequence[Due]
    ) -> list[bool] | None:
        await self._act()
        return await super().expire(bucket, setting, plan, due)


def test_what_changed_meanwhile_stays() -> None:
    async def scene(w: World) -> None:
        names = ("written", "put", "tagged", "renamed", "gone", "ends", "linked")
        for name in names:
            await w.put(name, b"same", end="yes")
        w.days(3)
        rule = Rule("rule", True, Filter("", tags={"end": "yes"}), expiration_days=1)
        await w.rules(rule)
        bucket_id = (await w.store.get_bucket("bucket")).inode_id

        async def act() -> None:
            inode = await w.store.lookup(bucket_id, b"written")
            await w.store.write_inline(inode.inode_id, 0, b"SAME")
            await w.put("put", b"same", end="yes")  # the same bytes and tags
            view = await w.store.get_object("bucket", b"tagged")
            assert view.inode.object is not None
            await w.store.set_object_attributes(
                "bucket", b"tagged", view.inode.inode_id, ObjectAttributes(etag="same")
            )
            await w.store.rename(bucket_id, b"renamed", bucket_id, b"elsewhere")
            await w.store.delete_object("bucket", b"gone")

        tally, ended = await w.one_pass(rule, store=Between(w.store, act))
        assert sorted(one.key for one in ended) == ["ends", "linked"]
        assert (tally.objects, tally.kept) == (2, 5)
        assert await w.keys() == ["elsewhere", "put", "tagged", "written"]
        await w.one_pass(rule)
        assert await w.keys() == ["put", "tagged", "written"]

    run(scene)


@pytest.mark.parametrize("versioned", [False, True])
def test_no_fresh_object_is_lost_while_two_keepers_are_at_it(
    versioned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craqen.core.keeper.expiration.KEYS_PER_PAGE", 40)
    monkeypatch.setattr("craqen.core.keeper.expiration.REMOVALS_PER_TRANSACTION", 7)
    monkeypatch.setattr("craqen.core.keeper.expiration.VERSIONED_REMOVALS_PER_TRANSACTION", 7)

    async def scene(w: World) -> None:
        if versioned:
            await w.enable()
        names = [f"{number % 7}/{number}" for number in range(200)]
        for name in names:
            await w.put(name, b"old")
        w.days(3)
        rule = days(1, noncurrent_days=1)
        await w.rules(rule)
        fresh: set[str] = set()

        async def write(part: Sequence[str]) -> None:
            for name in part:
                await w.put(name, b"fresh")
                fresh.add(name)

        writing = [asyncio.create_task(write(names[start::5][::-1])) for start in (0, 1)]
        (first, _), (second, _) = await asyncio.gather(w.one_pass(rule), w.one_pass(rule))
        await asyncio.gather(*writing)
        assert await w.keys() == sorted(fresh)
        for name in fresh:
            view = await w.store.get_object("bucket", name.encode())
            assert view.inline_data == b"fresh"
        assert len(names) - len(fresh) <= first.objects + second.objects <= len(names)
        assert await problems(w.kv) == []

    run(scene, EmbeddedStore(tmp_path))


def test_only_what_the_scan_saw_ends() -> None:
    async def scene(w: World) -> None:
        rule = Rule("date", True, expiration_date_ns=NS)  # whatever its age
        await w.rules(rule)
        for key in ("put", "written"):
            await w.put(key)

        async def act() -> None:
            await w.put("put")
            view = await w.store.get_object("bucket", b"written")
            await w.store.write_inline(view.inode.inode_id, 0, b"new")

        tally, _ = await w.one_pass(rule, store=Between(w.store, act))
        assert (tally.objects, tally.kept) == (0, 2)
        await w.one_pass(rule)
        assert await w.keys() == []

    run(scene)


def test_new_rules_or_versioning_stop_a_pass() -> None:
    async def scene(w: World) -> None:
        for change in (
            lambda: w.rules(days(9)),
            lambda: w.store.set_bucket_versioning("bucket", enabled=True),
            lambda: w.store.set_bucket_setting("bucket", ASPECT, None),
        ):
            await w.put("k")
            await w.rules(days(1))
            w.days(3)
            bucket = await w.store.get_bucket("bucket")
            setting = encode_lifecycle(Lifecycle((days(1),)))
            plan = Plan(Lifecycle((days(1),)), w.clock.wall_ns(), REAL_DAYS)
            one = BucketPass(Between(w.store, change), bucket, setting, plan, Tally())
            assert not await one.run()
            assert "k" in await w.keys()

    run(scene)


def test_a_bucket_that_is_gone_ends_its_pass_and_is_forgotten() -> None:
    async def scene(w: World) -> None:
        await w.store.create_bucket("other", owner="o", region="r", as_owner=OWNER)
        await w.rules(days(1, abort_multipart_days=1), bucket="other")
        await w.duty.run_once(w.clock.wall_ns())
        assert [one.bucket for one in (await book.read_all(w.kv)).values()] == ["other"]
        bucket = await w.store.get_bucket("other")
        await w.store.delete_bucket("other")
        plan = Plan(Lifecycle((days(1, abort_multipart_days=1),)), w.clock.wall_ns(), REAL_DAYS)
        assert not await BucketPass(w.store, bucket, b"", plan, Tally()).run()
        await w.duty.run_once(w.clock.wall_ns())
        assert await book.read_all(w.kv) == {}

    run(scene)


def test_versions_that_changed_meanwhile_stay() -> None:
    async def scene(w: World) -> None:
        await w.enable()
        await w.store.set_object_lock("bucket", b"")
        first = await w.put("promoted", b"1")
        second = await w.put("promoted", b"2")
        held = await w.put("held", b"1")
        await w.put("held", b"2")
        for _ in range(4):
            await w.put("fewer")
        await w.store.delete_object("bucket", b"fewer")
        await w.put("fewer")
        await w.store.delete_object("bucket", b"alone")
        w.days(3)
        rules = (
            Rule("r", True, Filter("fewer"), noncurrent_days=1, newer_noncurrent_versions=3),
            Rule("s", True, Filter("promoted"), noncurrent_days=1),
            Rule("t", True, Filter("held"), noncurrent_days=1),
            Rule("u", True, expired_delete_marker=True),
        )
        await w.rules(*rules)

        acted = False

        async def act() -> None:
            nonlocal acted
            if acted:
                return
            acted = True
            await w.store.delete_object("bucket", b"promoted", version_id=second)
            await w.store.set_legal_hold("bucket", b"held", hold=True, version_id=held)
            entries = [one for one in await w.versions() if one.key == b"fewer"]
            await w.store.delete_object("bucket", b"fewer", version_id=entries[2].version_id)
            await w.put("alone")

        tally, _ = await w.one_pass(*rules, store=Between(w.store, act))
        assert (tally.ended, tally.kept) == (0, 4)
        assert await w.shown() == [
            "alone*", "alone!", "fewer*", "fewer!", "fewer", "fewer", "fewer", "held*", "held",
            "promoted*",
        ]  # fmt: skip
        view = await w.store.get_object("bucket", b"promoted")
        assert view.version_id == first

    run(scene)


def test_one_object_that_others_are_busy_with_does_not_hold_up_the_rest() -> None:
    async def scene(w: World) -> None:
        class Busy(LocalMetaStore):
            async def expire(
                self, bucket: Bucket, setting: bytes, plan: Plan, due: Sequence[Due]
            ) -> list[bool] | None:
                if any(one.key == b"5" for one in due):
                    raise ConflictError("busy")
                return await super().expire(bucket, setting, plan, due)

        for number in range(10):
            await w.put(str(number))
        await w.rules(days(1))
        w.days(3)
        tally, _ = await w.one_pass(days(1), store=Busy(w.store._context))
        assert (tally.objects, tally.kept) == (9, 1)
        assert await w.keys() == ["5"]

    run(scene)


# Folders.


def test_empty_folders_end_as_their_keys_do_and_full_ones_stay() -> None:
    async def scene(w: World) -> None:
        bucket_id = (await w.store.get_bucket("bucket")).inode_id
        for name in (b"empty", b"full"):
            await w.store.create(bucket_id, name, InodeType.DIRECTORY, mode=0o755, uid=1, gid=2)
        await w.put("made/")
        await w.rules(days(1))
        w.days(2.5)
        await w.put("full/new")
        assert await w.keys() == ["empty/", "full/", "full/new", "made/"]
        await w.run()
        assert await w.keys() == ["full/", "full/new"]
        await w.store.delete_object("bucket", b"full/new")
        w.days(1)
        await w.run()
        assert await w.keys() == ["full/"]  # it was changed a day ago
        w.days(2)
        await w.run()
        assert await w.keys() == []

    run(scene)


def test_a_file_that_brings_an_old_time_along_is_as_old_as_its_stay_here() -> None:
    async def scene(w: World) -> None:
        await w.put("k")
        view = await w.store.get_object("bucket", b"k")
        await w.store.set_attributes(view.inode.inode_id, SetAttributes(mtime_ns=1))
        await w.rules(days(1))
        assert (await w.run()).ended == 0
        w.days(3)
        await w.store.set_attributes(view.inode.inode_id, SetAttributes(mtime_ns=w.clock.wall_ns()))
        assert (await w.run()).ended == 0
        w.days(3)
        assert (await w.run()).objects == 1

    run(scene)


def test_of_a_file_with_two_names_the_one_in_the_prefix_ends() -> None:
    async def scene(w: World) -> None:
        bucket_id = (await w.store.get_bucket("bucket")).inode_id
        await w.put("tmp/k")
        view = await w.store.get_object("bucket", b"tmp/k")
        await w.store.link(view.inode.inode_id, bucket_id, b"other")
        await w.rules(days(1, "tmp/"))
        w.days(3)
        await w.run()
        assert await w.keys() == ["other"]

    run(scene)


# Crashes and failures.


@pytest.mark.parametrize("damage", [None, b"", b"\x01\xc1", b"\x01\x93\x01\x02\x03", "tail"])
@pytest.mark.parametrize("versioned", [False, True])
def test_a_damaged_inode_is_passed_over(damage: bytes | str | None, versioned: bool) -> None:
    async def scene(w: World) -> None:
        if versioned:
            await w.enable()
        for key in ("a", "b", "c"):
            await w.put(key, b"1")
            if versioned:
                await w.put(key, b"2")
        pages = await w.versions()
        broken = [one.inode for one in pages if one.key == b"b"]

        async def break_it(tx: Transaction) -> None:
            for inode in broken:
                assert inode is not None
                key = inode_key(inode.inode_id)
                if damage is None:
                    tx.clear(key)
                elif isinstance(damage, bytes):
                    tx.set(key, damage)
                else:
                    value = await tx.get(key)
                    assert value is not None
                    tx.set(key, value[:-3])

        await w.kv.transact(break_it)
        rule = days(1, noncurrent_days=1)
        await w.rules(rule)
        w.days(3)
        tally, ended = await w.one_pass(rule)
        assert [one.key for one in ended if one.kind == "object"] == ["a", "c"]
        assert tally.versions == (2 if versioned else 0)

    run(scene)


class Failing(LocalMetaStore):
    """Ends with an error before page *page*."""

    def __init__(self, like: LocalMetaStore, page: int) -> None:
        super().__init__(like._context)
        self.left = page
        self.starts: list[bytes] = []

    async def scan_expiry(
        self, bucket: Bucket, plan: Plan, prefix: bytes, cursor: Cursor, *, limit: int
    ) -> Page:
        self.starts.append(cursor.key)
        self.left -= 1
        if self.left < 0:
            raise UnavailableError("the store is away")
        return await super().scan_expiry(bucket, plan, prefix, cursor, limit=limit)


@pytest.mark.parametrize("versioned", [False, True])
def test_a_pass_goes_on_where_another_keeper_stopped(
    versioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craqen.core.keeper.expiration.KEYS_PER_PAGE", 4)
    monkeypatch.setattr(duty_module, "SAVE_SECONDS", 0.0)

    async def scene(w: World) -> None:
        if versioned:
            await w.enable()
        for number in range(10):
            await w.put(f"k{number}", b"1")
            await w.put(f"k{number}", b"2")
        await w.rules(days(1, noncurrent_days=1, newer_noncurrent_versions=1))
        w.days(3)
        failing = Failing(w.store, 2)
        first = LifecycleDuty(w.kv, failing, LifecycleOptions())
        with pytest.raises(UnavailableError):
            await first.run_once(w.clock.wall_ns())
        (progress,) = (await book.read_all(w.kv)).values()
        assert progress.finished_ns == 0
        assert progress.position.key == (b"k3" if versioned else b"k7")
        tally = progress.tally.ended
        w.days(0.001)
        going_on = Failing(w.store, 99)
        w.duty = LifecycleDuty(w.kv, going_on, LifecycleOptions())
        total = await w.run()
        assert going_on.starts[0] == progress.position.key
        assert tally < total.ended == 10
        assert (total.objects, total.versions) == (10, 0)
        assert await w.keys() == []
        text = render([*first.measures(), *w.duty.measures()])
        assert f'craqen_lifecycle_ended_total{{kind="object"}} {10 - tally}' in text
        assert "craqen_lifecycle_passes_total 1" in text

    run(scene)


def test_a_bucket_that_is_damaged_holds_up_no_other() -> None:
    async def scene(w: World) -> None:
        for name, setting in (("abc", b"\xc1"), ("bcd", encode_lifecycle(Lifecycle((days(1),))))):
            await w.store.create_bucket(name, owner="o", region="r", as_owner=OWNER)
            await w.store.set_bucket_setting(name, ASPECT, setting)
        await w.put("k")
        await w.rules(days(1))
        w.days(3)
        assert await w.duty.run_once(w.clock.wall_ns()) == duty_module.POLL_SECONDS
        assert await w.keys() == []
        text = render(w.duty.measures())
        assert "craqen_lifecycle_failures_total 1" in text
        assert "craqen_lifecycle_passes_total 2" in text

    run(scene)


def test_progress_that_is_damaged_is_begun_anew() -> None:
    async def scene(w: World) -> None:
        await w.put("k")
        await w.rules(days(1))
        bucket_id = (await w.store.get_bucket("bucket")).inode_id
        await w.run()

        async def damage(tx: Transaction) -> None:
            tx.set(book._key(bucket_id), b"\xc1")
            tx.set(book.PREFIX + b"short", b"")

        await w.kv.transact(damage)
        assert await book.read_all(w.kv) == {}
        w.days(3)
        assert (await w.run()).objects == 1

    run(scene)


def test_a_clock_that_is_ahead_of_all_others_ends_nothing() -> None:
    async def scene(w: World) -> None:
        other = await LocalMetaStore.open(w.kv, w.clock, MetaOptions(), description="gateway")
        await w.put("k")
        await w.rules(days(1))
        ahead_ns = w.clock.wall_ns() + int(3 * DAY) * NS
        with pytest.raises(UnavailableError, match="259170 s ahead"):
            await w.duty.run_once(ahead_ns)
        assert await w.keys() == ["k"]
        w.days(3)
        with pytest.raises(UnavailableError):  # nobody else was heard of for long
            await w.duty.run_once(ahead_ns)
        await other.renew_client()
        await w.duty.run_once(ahead_ns)
        assert await w.keys() == []
        await other.close()
        await w.duty.run_once(ahead_ns + int(30 * DAY) * NS)  # there is no other one

    run(scene)


def test_a_dry_run_tells_all_and_changes_nothing() -> None:
    async def scene(w: World) -> None:
        await w.enable()
        await w.put("a", b"1")
        await w.put("a", b"22")
        await w.store.delete_object("bucket", b"b")
        await w.store.create_upload(
            "bucket", b"c", ObjectAttributes(), OWNER, checksum_algorithm="", checksum_type=""
        )
        rule = days(1, noncurrent_days=1, abort_multipart_days=1)
        await w.rules(rule)
        w.days(3)
        before = await w.shown()
        tally, ended = await w.one_pass(rule, dry_run=True)
        assert sorted((one.kind, one.key, one.size_bytes) for one in ended) == [
            ("marker", "b", 0),
            ("object", "a", 2),
            ("upload", "c", 0),
            ("version", "a", 1),
        ]
        assert tally.ended == 4
        assert await w.shown() == before
        assert len((await w.store.list_uploads("bucket"))[0]) == 1

    run(scene)


def test_days_of_a_test_clock() -> None:
    calendar = calendar_of(LifecycleOptions(day_seconds=10.0))
    assert calendar.due_ns(5, 2) == 20 * NS + 5
    assert calendar_of(LifecycleOptions()) == REAL_DAYS


# Beside a naive reading of the listing.

_KEYS = ("a", "a/b", "b/c/d", "b/c/e")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(_KEYS), st.integers(1, 3)),
        st.tuples(st.just("delete"), st.sampled_from(_KEYS), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 30)),
        st.tuples(st.just("hold"), st.sampled_from(_KEYS), st.just(0)),
    ),
    max_size=25,
)
_LIFECYCLES = st.lists(
    st.builds(
        Rule,
        st.uuids().map(str),
        st.just(True),
        st.builds(
            Filter,
            st.sampled_from(["", "a", "b/", "b/c/d"]),
            st.just({}),
            st.none() | st.integers(0, 2),
        ),
        expiration_days=st.none() | st.integers(1, 3),
        expired_delete_marker=st.none() | st.booleans(),
        noncurrent_days=st.none() | st.integers(1, 3),
        newer_noncurrent_versions=st.none() | st.integers(1, 3),
    ),
    min_size=1,
    max_size=3,
)


def _over(since_ns: int, count: int | None, now: datetime) -> bool:
    if count is None:
        return False
    reached = datetime.fromtimestamp(since_ns / NS, UTC) + timedelta(days=count)
    midnight = reached.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return now >= midnight


def naive(
    entries: Sequence[VersionEntry], held: set[str], rules: Sequence[Rule], now_ns: int
) -> tuple[set[str], set[tuple[str, str]]]:
    """(keys whose current object ends, versions that end) by the rules, one key at a time."""
    now = datetime.fromtimestamp(now_ns / NS, UTC)
    objects: set[str] = set()
    ended: set[tuple[str, str]] = set()
    for key in {entry.key for entry in entries}:
        name = key.decode()
        own = [entry for entry in entries if entry.key == key]
        for rule in rules:
            chosen = rule.filter
            if not name.startswith(chosen.prefix or ""):
                continue
            bound = chosen.size_greater_than
            newest, older = own[0], own[1:]
            if newest.inode is not None:
                if bound is None or newest.inode.size > bound:
                    if _over(newest.modified_ns, rule.expiration_days, now):
                        objects.add(name)
            elif not older and bound is None:
                if rule.expired_delete_marker or _over(
                    newest.modified_ns, rule.expiration_days, now
                ):
                    ended.add((name, newest.version_id))
            for position, entry in enumerate(older):
                newer = sum(one.inode is not None for one in older[:position])
                if newer < (rule.newer_noncurrent_versions or 0):
                    continue
                since = own[position].modified_ns  # of the one that replaced it
                if not _over(since, rule.noncurrent_days, now):
                    continue
                if entry.inode is None:
                    if bound is None:
                        ended.add((name, entry.version_id))
                elif entry.version_id not in held and (bound is None or entry.inode.size > bound):
                    ended.add((name, entry.version_id))
    return objects, ended


@settings(max_examples=120, deadline=None)
@given(_STEPS, _LIFECYCLES, st.integers(2, 5), st.booleans())
def test_a_pass_does_what_a_naive_reading_of_the_listing_says(
    steps: list[tuple[str, str, int]], rules: list[Rule], page: int, versioned: bool
) -> None:
    async def scene(w: World) -> None:
        if versioned:
            await w.enable()
            await w.store.set_object_lock("bucket", b"")
        held: set[str] = set()
        for word, key, number in steps:
            w.clock.advance(1)
            if word == "put":
                await w.put(key, b"x" * number)
            elif word == "delete":
                await w.store.delete_object("bucket", key.encode())
            elif word == "wait":
                w.clock.advance(number * 3600)
            elif versioned:
                try:
                    view = await w.store.get_object("bucket", key.encode())
                except NotFoundError:
                    continue
                await w.store.set_legal_hold("bucket", key.encode(), hold=True)
                held.add(view.version_id)
        await w.rules(*rules)
        before = await w.versions()
        objects, ended = naive(before, held, rules, w.clock.wall_ns())
        tally, told = await w.one_pass(*rules)
        assert {one.key for one in told if one.kind == "object"} == objects
        assert {(one.key, one.version_id) for one in told if one.kind != "object"} == ended
        assert tally.kept == 0
        after = {(one.key.decode(), one.version_id) for one in await w.versions()}
        kept = {(one.key.decode(), one.version_id) for one in before} - ended
        if versioned:
            assert kept <= after
            assert len(after) == len(kept) + len(objects)
        else:
            assert after == {one for one in kept if one[0] not in objects}
        assert await problems(w.kv) == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("craqen.core.keeper.expiration.KEYS_PER_PAGE", page)
        run(scene)


def test_the_scan_reads_the_first_fields_of_inodes() -> None:
    names = expiry_scan._Times.__struct_fields__
    assert Inode.__struct_fields__[: len(names)] == names
