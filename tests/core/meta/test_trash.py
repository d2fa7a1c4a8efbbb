"""What file calls remove is kept, found under its path, brought back, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from craqen.core.clock import ManualClock
from craqen.core.errors import NotFoundError
from craqen.core.events.outbox import Queue
from craqen.core.events.records import ASPECT, Configuration, Notification
from craqen.core.ids import ROOT_INODE_ID
from craqen.core.keeper.outbox import Outbox
from craqen.core.keeper.trash import TrashDuty
from craqen.core.kv.memory import MemoryStore
from craqen.core.meta.accounts import Account, Kind
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import InodeType, NewContent, ObjectAttributes, Owner
from craqen.core.meta.trash_names import another_name, end_of_hour, hour_of, path_of
from craqen.core.options import MetaOptions
from craqen.tests.core.meta.checker import problems

OWNER = Owner(5, 6)
DAY = 86_400


class World:
    """A store with a bucket that keeps what is removed for a day."""

    def __init__(self, kv: MemoryStore, store: LocalMetaStore, clock: ManualClock) -> None:
        self.kv = kv
        self.store = store
        self.clock = clock
        self.bucket_id = 0

    @property
    def hour(self) -> str:
        return hour_of(self.clock.wall_ns()).decode()

    async def put(self, key: str, data: bytes = b"x") -> None:
        content = NewContent(len(data), data)
        await self.store.put_object("bucket", key.encode(), content, ObjectAttributes(), OWNER)

    async def folder(self, *names: str) -> int:
        """The inode of a folder."""
        found = self.bucket_id
        for name in names:
            found = (await self.store.lookup(found, name.encode())).inode_id
        return found

    async def unlink(self, path: str) -> None:
        *folders, name = path.split("/")
        await self.store.unlink(await self.folder(*folders), name.encode())

    async def keys(self) -> list[str]:
        page = await self.store.list_objects("bucket")
        return [entry.key.decode() for entry in page.entries]

    async def empty(self) -> None:
        await TrashDuty(self.store).run_once(self.clock.wall_ns())


def run(work: Callable[[World], Awaitable[None]], *, seconds: int = DAY) -> None:
    async def whole() -> None:
        kv, clock = MemoryStore(), ManualClock()
        clock.advance(1_700_000_000)
        store = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        try:
            world = World(kv, store, clock)
            made = await store.create_bucket("bucket", owner="o", region="", as_owner=OWNER)
            world.bucket_id = made.inode_id
            await store.set_trash("bucket", seconds)
            await work(world)
            assert await problems(kv) == []
        finally:
            await store.close()

    asyncio.run(whole())


def test_a_file_is_kept_under_its_path_and_ends() -> None:
    async def work(world: World) -> None:
        await world.put("a/b/file")
        await world.put("a/other")
        await world.unlink("a/b/file")
        kept = f".trash/{world.hour}/a/b/file"
        assert await world.keys() == [kept, "a/b/", "a/other"]
        await world.empty()
        assert kept in await world.keys()
        world.clock.advance(DAY + 3600)
        await world.empty()
        assert await world.keys() == ["a/b/", "a/other"]

    run(work)


def test_it_is_brought_back_by_a_rename() -> None:
    async def work(world: World) -> None:
        await world.put("a/file", b"content")
        await world.unlink("a/file")
        trash = await world.folder(".trash", world.hour, "a")
        await world.store.rename(trash, b"file", await world.folder("a"), b"file", no_replace=True)
        view = await world.store.get_object("bucket", b"a/file")
        assert view.inline_data == b"content"
        assert view.inode.uid == OWNER.uid

    run(work)


def test_the_same_path_twice_in_an_hour() -> None:
    async def work(world: World) -> None:
        for _ in range(3):
            await world.put("file")
            await world.unlink("file")
        keys = await world.keys()
        assert len(keys) == 3
        assert keys[0] == f".trash/{world.hour}/file"
        assert all(key.startswith(f".trash/{world.hour}/file~") for key in keys[1:])

    run(work)


def test_what_a_rename_replaces_is_kept() -> None:
    async def work(world: World) -> None:
        await world.put("old", b"old")
        await world.put("new", b"new")
        await world.store.rename(world.bucket_id, b"new", world.bucket_id, b"old")
        kept = f".trash/{world.hour}/old"
        assert await world.keys() == [kept, "old"]
        assert (await world.store.get_object("bucket", kept.encode())).inline_data == b"old"

    run(work)


def test_what_is_not_kept() -> None:
    async def work(world: World) -> None:
        store = world.store
        await world.put("by-s3")
        await store.delete_object("bucket", b"by-s3")
        await world.put("linked")
        linked = await store.lookup(world.bucket_id, b"linked")
        await store.link(linked.inode_id, world.bucket_id, b"name")
        await world.unlink("linked")
        assert await world.keys() == ["name"]
        await world.unlink("name")
        kept = f".trash/{world.hour}/name"
        assert await world.keys() == [kept]
        await world.unlink(kept)
        assert await world.keys() == [f".trash/{world.hour}/"]
        await store.set_bucket_versioning("bucket", enabled=True)
        await world.put("versioned")
        await world.unlink("versioned")
        assert len((await store.list_object_versions("bucket", prefix=b"versioned")).entries) == 2

    run(work)


def test_a_tree_is_removed_in_one_step() -> None:
    async def work(world: World) -> None:
        for number in range(50):
            await world.put(f"a/tree/{number % 5}/{number}")
        assert await world.store.remove_tree(await world.folder("a"), b"tree")
        kept = f".trash/{world.hour}/a/tree/"
        keys = await world.keys()
        assert len([key for key in keys if key.startswith(kept)]) == 50
        with pytest.raises(NotFoundError):
            await world.folder("a", "tree")
        # Of what is in the trash nothing is kept, and no hour passes.
        assert await world.store.remove_tree(await world.folder(".trash"), world.hour.encode())
        await world.empty()
        assert await world.keys() == ["a/"]
        assert (await world.store.usage("bucket")).objects == 0

    run(work)


def test_without_a_trash_a_tree_goes_as_soon_as_somebody_comes() -> None:
    async def work(world: World) -> None:
        store = world.store
        folder = await store.create(
            world.bucket_id, b"tree", InodeType.DIRECTORY, mode=0o700, uid=5, gid=6
        )
        await store.create(folder.inode_id, b"in", InodeType.DIRECTORY, mode=0o700, uid=5, gid=6)
        await world.put("tree/file")
        assert await store.remove_tree(world.bucket_id, b"tree")
        await world.put("tree/file")
        assert await store.remove_tree(world.bucket_id, b"tree")
        assert all(key.startswith(".trash/removed/tree") for key in await world.keys())
        await world.empty()
        assert await world.keys() == []
        assert not await store.remove_tree(ROOT_INODE_ID, b"bucket")

    run(work, seconds=0)


def test_where_a_tree_cannot_go_in_one_step_nothing_is_done() -> None:
    async def work(world: World) -> None:
        await world.put("quota/file")
        folder_id = await world.folder("quota")
        account = Account(Kind.DIRECTORY, folder_id)
        await world.store.set_quota(account, size_bytes=1000, files=10)
        await world.store.settle_quota(folder_id)
        assert not await world.store.remove_tree(world.bucket_id, b"quota")
        assert await world.keys() == ["quota/", "quota/file"]
        await world.unlink("quota/file")
        assert (await world.store.standing(account)).usage.objects == 0
        trash = await world.folder(".trash")
        assert not await world.store.remove_tree(world.bucket_id, b".trash")
        assert await world.folder(".trash") == trash

    run(work)


def test_events_tell_of_the_removal_only() -> None:
    async def work(world: World) -> None:
        store = world.store
        rule = Configuration(
            "QueueConfiguration", "1", "a:hook", ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
        )
        value = msgspec.msgpack.encode(Notification((rule,)))
        await world.put("file")
        await world.put("tree/file")
        await store.set_bucket_setting("bucket", ASPECT, value)
        await world.unlink("file")
        await store.remove_tree(world.bucket_id, b"tree")
        world.clock.advance(DAY + 3600)
        await world.empty()
        page = await Outbox(world.kv).page(Queue(world.bucket_id, "hook"))
        told = [(one.event.name, one.event.key) for one in page if one.event]
        assert told[1:] == [
            ("ObjectRemoved:Delete", b"file"),
            ("ObjectRemoved:Delete", b"tree/file"),
        ]

    run(work)


def test_a_deep_path_keeps_its_last_folders() -> None:
    async def work(world: World) -> None:
        folder_id = world.bucket_id
        for number in range(150):
            made = await world.store.create(
                folder_id, b"%d" % number, InodeType.DIRECTORY, mode=0o700, uid=5, gid=6
            )
            folder_id = made.inode_id
        await world.store.create(folder_id, b"file", InodeType.FILE, mode=0o600, uid=5, gid=6)
        await world.store.unlink(folder_id, b"file")
        hour = await world.folder(".trash", world.hour)
        assert [one.name for one in await world.store.read_directory(hour)] == [b"50"]

    run(work)


def test_names() -> None:
    hour = hour_of(1_700_000_000 * 10**9)
    assert hour == b"2023-11-14T22"
    assert end_of_hour(hour) == 1_700_002_800.0
    assert end_of_hour(b"removed") is None
    assert path_of(b".trash/2023-11-14T22/a/b") == (b"2023-11-14T22", b"a/b")
    assert path_of(b".trash/2023-11-14T22/") is None
    assert path_of(b"other/2023-11-14T22/a") is None
    long = another_name(b"n" * 255, 7)
    assert len(long) == 255
    assert long != another_name(b"n" * 255, 8)
    assert another_name(b"dir/", 1).endswith(b"~0000000000000001/")
