"""Quotas: what counts for whom, what is refused, and that counters are always what files add up
to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.clock import ManualClock
from craqen.core.errors import (
    ConflictError,
    CraqenError,
    CrossDeviceError,
    InvalidArgumentError,
    NotFoundError,
    QuotaExceededError,
)
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.open import open_store
from craqen.core.kv.store import KeyValueStore, Transaction
from craqen.core.limits import MIB
from craqen.core.meta.accounts import Account, Kind, counter_key
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    AppendPoint,
    CompletedPart,
    Deletion,
    Extent,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    SetAttributes,
    Upload,
)
from craqen.core.meta.recount import find_differences, mend
from craqen.core.options import MetaOptions

OWNER = Owner(5, 6)


class World:
    """A store with a bucket."""

    def __init__(self, kv: KeyValueStore, store: LocalMetaStore, clock: ManualClock) -> None:
        self.kv = kv
        self.store = store
        self.clock = clock
        self.bucket_id = 0

    @property
    def bucket(self) -> Account:
        return Account(Kind.BUCKET, self.bucket_id)

    async def put(self, key: bytes, length: int, owner: Owner = OWNER) -> int:
        content = NewContent(length, b"x" * length)
        result = await self.store.put_object("bucket", key, content, ObjectAttributes(), owner)
        return result.inode.inode_id

    async def delete(self, key: bytes) -> None:
        await self.store.delete_object("bucket", key)

    async def make(self, parent_id: int, name: bytes, uid: int = 5) -> int:
        made = await self.store.create(parent_id, name, InodeType.FILE, mode=0o644, uid=uid, gid=1)
        return made.inode_id

    async def mkdir(self, parent_id: int, name: bytes) -> int:
        kind = InodeType.DIRECTORY
        made = await self.store.create(parent_id, name, kind, mode=0o755, uid=5, gid=1)
        return made.inode_id

    async def limit(self, account: Account, size_bytes: int = 0, files: int = 0) -> None:
        await self.store.set_quota(account, size_bytes=size_bytes, files=files)
        if account.kind is Kind.DIRECTORY:
            await self.store.settle_quota(account.number)

    async def holds(self, account: Account) -> tuple[int, int]:
        usage = (await self.store.standing(account)).usage
        return usage.held_bytes, usage.objects

    async def is_exact(self) -> None:
        differences, unstable = await find_differences(self.kv, lambda rows: None)
        assert (differences, unstable) == ({}, set())

    async def extent(self, length: int) -> Extent:
        await self.store.ensure_ids(1)
        number = self.store.new_segment_id()
        return Extent(0, length, number, 0, self.store.layout_of(number, in_place=False))


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture(params=["memory", "embedded"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    async def main(scenario: Scenario) -> None:
        url = "memory:" if request.param == "memory" else f"embedded:{tmp_path}/kv"
        kv = open_store(url)
        clock = ManualClock()
        store = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        try:
            world = World(kv, store, clock)
            bucket = await store.create_bucket("bucket", owner="o", region="", as_owner=Owner())
            world.bucket_id = bucket.inode_id
            await scenario(world)
            await world.is_exact()
        finally:
            await store.close()
            await kv.close()

    return lambda scenario: asyncio.run(main(scenario))


def test_a_bucket_is_full(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.limit(w.bucket, 100, 3)
        await w.put(b"a", 60)
        with pytest.raises(QuotaExceededError):
            await w.put(b"b", 41)
        await w.put(b"b", 40)
        assert await w.holds(w.bucket) == (100, 2)
        await w.put(b"a", 60)  # in place of what it replaces
        with pytest.raises(QuotaExceededError):
            await w.put(b"a", 61)
        with pytest.raises(QuotaExceededError):
            await w.store.copy_object(
                "bucket", b"a", "bucket", b"c", OWNER, attributes=None, source_generation=None
            )
        await w.put(b"a", 10)
        await w.put(b"c", 0)
        with pytest.raises(QuotaExceededError):
            await w.make(w.bucket_id, b"file")
        await w.delete(b"c")
        number = await w.make(w.bucket_id, b"file")
        with pytest.raises(QuotaExceededError):
            await w.store.write_inline(number, 0, b"x" * 51)
        with pytest.raises(QuotaExceededError):
            await w.store.plan_write(number, 0, MIB)
        with pytest.raises(QuotaExceededError):
            await w.store.set_attributes(number, SetAttributes(size=51))
        with pytest.raises(QuotaExceededError):
            await w.store.commit_write(number, 51)
        await w.store.write_inline(number, 0, b"x" * 50)
        await w.limit(w.bucket, 1, 1)  # under what is there: removal is always possible
        with pytest.raises(QuotaExceededError):
            await w.store.write_inline(number, 0, b"x" * 51)
        await w.store.write_inline(number, 0, b"y" * 50)
        await w.store.set_attributes(number, SetAttributes(size=20))
        await w.store.unlink(w.bucket_id, b"file")
        await w.store.delete_objects("bucket", [Deletion(b"a"), Deletion(b"b")])
        assert await w.holds(w.bucket) == (0, 0)
        assert await w.store.remove_quota(w.bucket)
        assert not await w.store.remove_quota(w.bucket)
        await w.put(b"a", 1000)

    run(scenario)


def test_appends_and_versions_count(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.limit(w.bucket, 100)
        await w.put(b"a", 40)

        async def append(length: int) -> None:
            point = await w.store.append_point("bucket", b"a")
            assert isinstance(point, AppendPoint)
            await w.store.append_object(
                "bucket",
                b"a",
                point,
                NewContent(length, b"y" * length),
                ObjectAttributes(),
                OWNER,
            )

        with pytest.raises(QuotaExceededError):
            await append(61)
        await append(5)
        await w.store.set_bucket_versioning("bucket", enabled=True)
        with pytest.raises(QuotaExceededError):
            await append(11)  # the 45 bytes of now are kept beside the longer ones
        await append(10)
        assert await w.holds(w.bucket) == (100, 2)
        with pytest.raises(QuotaExceededError):
            await w.put(b"a", 1)
        await w.delete(b"a")  # a marker takes nothing
        page = await w.store.list_object_versions("bucket")
        for entry in page.entries:
            await w.store.delete_object("bucket", entry.key, version_id=entry.version_id)
        assert await w.holds(w.bucket) == (0, 0)

    run(scenario)


def test_parts_under_way_count(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.limit(w.bucket, 12 * MIB)
        user = Account(Kind.USER, OWNER.uid)

        async def begin(key: bytes) -> Upload:
            return await w.store.create_upload(
                "bucket", key, ObjectAttributes(), OWNER, checksum_algorithm="", checksum_type=""
            )

        upload = await begin(b"a")

        async def part(number: int, length: int) -> None:
            extent = await w.extent(length)
            await w.store.put_part(upload, Part(number, length, "e", 0, {}, (extent,)))

        await part(1, 6 * MIB)
        await part(2, 5 * MIB)
        with pytest.raises(QuotaExceededError):
            await part(3, 2 * MIB)
        await part(2, 6 * MIB)
        assert await w.holds(w.bucket) == (12 * MIB, 0)
        assert await w.holds(user) == (12 * MIB, 0)
        await w.is_exact()
        await w.store.complete_upload(upload, [CompletedPart(1, "e")], etag="m-1", checksums={})
        assert await w.holds(w.bucket) == await w.holds(user) == (6 * MIB, 1)
        other = await begin(b"b")
        extent = await w.extent(6 * MIB)
        await w.store.put_part(other, Part(1, 6 * MIB, "e", 0, {}, (extent,)))
        await w.store.abort_upload("bucket", b"b", other.upload_id)
        assert await w.holds(user) == (6 * MIB, 1)
        await w.delete(b"a")
        third = await begin(b"c")
        extent = await w.extent(MIB)
        await w.store.put_part(third, Part(1, MIB, "e", 0, {}, (extent,)))
        await w.store.delete_bucket("bucket")
        assert await w.holds(user) == (0, 0)

    run(scenario)


def test_a_user_is_full(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        user, other = Account(Kind.USER, 5), Account(Kind.USER, 7)
        with pytest.raises(InvalidArgumentError):
            await w.limit(Account(Kind.USER, 0), 1)
        await w.limit(user, 100, 2)
        await w.put(b"a", 60)
        await w.put(b"b", 60, Owner(7, 7))
        await w.put(b"root", 60, Owner())
        with pytest.raises(QuotaExceededError):
            await w.put(b"c", 60)
        number = await w.make(w.bucket_id, b"file", uid=7)
        await w.store.write_inline(number, 0, b"x" * 41)
        with pytest.raises(QuotaExceededError):
            await w.store.set_attributes(number, SetAttributes(uid=5))
        await w.store.set_attributes(number, SetAttributes(size=40))
        await w.store.set_attributes(number, SetAttributes(uid=5))
        assert (await w.holds(user), await w.holds(other)) == ((100, 2), (60, 1))
        with pytest.raises(QuotaExceededError):
            await w.make(w.bucket_id, b"third")
        users = {one.account.number: one.usage for one in await w.store.user_usages()}
        assert (users[0].size_bytes, users[0].objects) == (60, 1)
        assert await w.holds(Account(Kind.USER, 0)) == (60, 1)
        await w.put(b"a", 1, Owner(7, 7))  # another's object is replaced: that user has room again
        assert await w.holds(user) == (40, 1)
        with pytest.raises(QuotaExceededError):
            await w.store.check_room(w.bucket_id, 5, 61)
        await w.store.check_room(w.bucket_id, 5, 60)
        await w.store.check_room(w.bucket_id, 7, 1 << 40)

    run(scenario)


def test_folders_with_quotas(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"team/one/a", 10)
        await w.put(b"team/b", 10)
        await w.put(b"else", 10)
        team = (await w.store.lookup(w.bucket_id, b"team")).inode_id
        one = (await w.store.lookup(team, b"one")).inode_id
        outer, inner = Account(Kind.DIRECTORY, team), Account(Kind.DIRECTORY, one)
        with pytest.raises(NotFoundError):
            await w.holds(outer)
        await w.store.set_quota(outer, size_bytes=100, files=0)
        assert await w.store.unsettled_quotas() == [team]
        await w.put(b"team/early", 1)  # before the walk: it counts already
        assert await w.holds(outer) == (1, 1)
        assert await w.store.settle_quota(team) == 2
        assert await w.store.unsettled_quotas() == []
        assert await w.holds(outer) == (21, 3)
        await w.limit(inner, 50)
        assert (await w.holds(outer), await w.holds(inner)) == ((21, 3), (10, 1))
        with pytest.raises(QuotaExceededError):
            await w.put(b"team/one/deep/down/c", 41)
        await w.put(b"team/one/deep/down/c", 40)
        with pytest.raises(QuotaExceededError):
            await w.put(b"team/d", 40)
        await w.put(b"other/d", 40)
        assert (await w.holds(outer), await w.holds(inner)) == ((61, 4), (50, 2))
        await w.is_exact()

        await w.store.rename(team, b"b", w.bucket_id, b"b")  # a file is counted elsewhere
        assert await w.holds(outer) == (51, 3)
        other = (await w.store.lookup(w.bucket_id, b"other")).inode_id
        with pytest.raises(CrossDeviceError):
            await w.store.rename(w.bucket_id, b"other", team, b"other")
        with pytest.raises(CrossDeviceError):
            await w.store.rename(team, b"one", w.bucket_id, b"one")
        with pytest.raises(CrossDeviceError):
            await w.store.link((await w.store.lookup(other, b"d")).inode_id, team, b"link")
        await w.put(b"else", 50)
        with pytest.raises(QuotaExceededError):
            await w.store.rename(w.bucket_id, b"else", team, b"else")
        empty = await w.mkdir(w.bucket_id, b"empty")
        await w.store.rename(w.bucket_id, b"empty", team, b"empty")
        assert (await w.store.get_inode(empty)).quota_ids == (team,)
        await w.store.rename(team, b"empty", one, b"empty")
        assert (await w.store.get_inode(empty)).quota_ids == (one, team)

        assert await w.store.remove_quota(outer)
        assert await w.store.settle_quota(team) > 0
        assert (await w.store.get_inode(one)).quota_ids == (one,)
        with pytest.raises(NotFoundError):
            await w.holds(outer)
        assert await w.holds(inner) == (50, 2)
        await w.store.rename(team, b"one", w.bucket_id, b"one")
        standings = await w.store.quotas()
        assert [standing.account for standing in standings] == [inner]
        await w.delete(b"one/a")
        await w.delete(b"one/deep/down/c")
        await w.store.remove_directory(one, b"empty")
        await w.store.remove_directory(w.bucket_id, b"one")
        assert await w.store.quotas() == []

    run(scenario)


def test_noncurrent_versions_count_for_folders(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.store.set_bucket_versioning("bucket", enabled=True)
        await w.put(b"f/a", 10)
        await w.put(b"f/a", 11)
        await w.put(b"f/gone/b", 12)
        await w.delete(b"f/gone/b")
        folder = (await w.store.lookup(w.bucket_id, b"f")).inode_id
        account = Account(Kind.DIRECTORY, folder)
        await w.limit(account, 40)
        assert await w.holds(account) == (33, 3)
        with pytest.raises(QuotaExceededError):
            await w.put(b"f/gone/c", 8)
        await w.put(b"f/gone/c", 7)

    run(scenario)


def test_limits_bind_the_folder_and_what_is_above(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        folder = await w.mkdir(w.bucket_id, b"folder")
        await w.limit(w.bucket, 1000)
        await w.limit(Account(Kind.DIRECTORY, folder), 500, 7)
        await w.put(b"folder/a", 10)
        inode = await w.store.get_inode(folder)
        found = {one.account: one for one in await w.store.standings_of(inode)}
        assert found[w.bucket].usage.size_bytes == 10
        assert found[Account(Kind.DIRECTORY, folder)].limits.files == 7
        root = await w.store.get_inode(w.bucket_id)
        assert [one.account for one in await w.store.standings_of(root)] == [w.bucket]

    run(scenario)


def test_open_files_without_a_name_do_not_grow_over(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.limit(w.bucket, 100)
        number = await w.make(w.bucket_id, b"file")
        await w.store.write_inline(number, 0, b"x" * 50)
        await w.store.open_session(number, 1, write=True)
        await w.store.unlink(w.bucket_id, b"file")
        assert await w.holds(w.bucket) == (0, 0)
        await w.put(b"a", 60)
        with pytest.raises(QuotaExceededError):
            await w.store.write_inline(number, 50, b"x")

    run(scenario)


def test_concurrent_writers_do_not_pass_a_limit(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        limit = 100
        await w.limit(w.bucket, limit, 0)

        async def one(number: int) -> bool:
            try:
                await w.put(b"%d" % number, 1)
            except QuotaExceededError:
                return False
            return True

        for start in range(0, 160, 16):
            done = await asyncio.gather(*(one(number) for number in range(start, start + 16)))
            size, _ = await w.holds(w.bucket)
            assert size <= limit + 16
            if start + 16 <= limit - limit // 16:
                assert all(done)
        assert limit <= size <= limit + limit // 16

    run(scenario)


def test_close_to_a_limit_writers_exclude_each_other(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.limit(w.bucket, 1000)
        await w.put(b"most", 960)

        async def one(number: int) -> bool:
            try:
                await w.put(b"%d" % number, 3)
            except QuotaExceededError:
                return False
            return True

        done = await asyncio.gather(*(one(number) for number in range(24)))
        assert sum(done) == 13
        assert await w.holds(w.bucket) == (999, 14)

    run(scenario)


def test_counters_are_mended(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"a", 10)
        user = Account(Kind.USER, 5)

        async def damage(tx: Transaction) -> None:
            tx.add(counter_key(user, 3, b"b"), 1000)
            tx.add(counter_key(w.bucket, 3, b"o"), -2)

        await w.kv.transact(damage)
        differences, _ = await find_differences(w.kv, lambda rows: None)
        assert differences == {user: (-1000, 0, 0), w.bucket: (0, 2, 0)}
        for account, difference in differences.items():
            assert await mend(w.kv, account, difference)

    run(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_counters_are_exact_whatever_happens(seed: int) -> None:
    """Random calls of both doors, while limits of folders come, go and settle."""

    async def scenario(w: World) -> None:
        choose = random.Random(seed)
        if seed % 2:
            await w.store.set_bucket_versioning("bucket", enabled=True)
        parts = [b"a", b"b", b"c"]
        folders: list[int] = []

        def key() -> bytes:
            return b"/".join(choose.choice(parts) for _ in range(choose.randrange(1, 4))) + b"f"

        async def folder() -> int:
            inode = await w.store.get_inode(w.bucket_id)
            for _ in range(choose.randrange(1, 3)):
                rows = await w.store.read_directory(inode.inode_id)
                below = [row.inode for row in rows if row.inode.type == InodeType.DIRECTORY]
                if not below:
                    break
                inode = choose.choice(below)
            return inode.inode_id

        async def named(number: int) -> bytes:
            rows = await w.store.read_directory(number)
            return choose.choice(rows).name if rows else b"nothing"

        async def limit() -> None:
            number = await folder()
            await w.store.set_quota(Account(Kind.DIRECTORY, number), size_bytes=10_000, files=0)
            folders.append(number)

        async def unlimit() -> None:
            if folders:
                await w.store.remove_quota(Account(Kind.DIRECTORY, choose.choice(folders)))

        async def settle() -> None:
            for number in await w.store.unsettled_quotas():
                await w.store.settle_quota(number)

        async def move() -> None:
            source, target = await folder(), await folder()
            await w.store.rename(source, await named(source), target, choose.choice(parts) + b"f")

        async def write() -> None:
            number = await folder()
            inode = await w.store.lookup(number, await named(number))
            await w.store.write_inline(inode.inode_id, choose.randrange(50), b"z" * 20)

        async def own() -> None:
            number = await folder()
            inode = await w.store.lookup(number, await named(number))
            changes = SetAttributes(uid=choose.randrange(3))
            await w.store.set_attributes(inode.inode_id, changes)

        async def link() -> None:
            number = await folder()
            inode = await w.store.lookup(number, await named(number))
            await w.store.link(inode.inode_id, await folder(), choose.choice(parts) + b"l")

        async def unlink() -> None:
            number = await folder()
            await w.store.unlink(number, await named(number))

        async def put() -> None:
            await w.put(key(), choose.randrange(40), Owner(choose.randrange(3), 1))

        async def delete() -> None:
            await w.delete(key())

        calls = [put, put, put, delete, limit, unlimit, settle, move, write, own, unlink]
        if seed % 3:
            calls.append(link)
        for _ in range(60):
            some = [choose.choice(calls)() for _ in range(3)]
            for outcome in await asyncio.gather(*some, return_exceptions=True):
                if outcome is not None:
                    assert isinstance(outcome, CraqenError), outcome
                    assert not isinstance(outcome, ConflictError)
        await settle()
        await w.is_exact()
        if not seed % 3:
            await _ids_are_inherited(w, w.bucket_id)

    async def main() -> None:
        kv = MemoryStore()
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        world = World(kv, store, ManualClock())
        bucket = await store.create_bucket("bucket", owner="o", region="", as_owner=Owner())
        world.bucket_id = bucket.inode_id
        await scenario(world)
        await store.close()
        await kv.close()

    asyncio.run(main())


async def _ids_are_inherited(w: World, folder_id: int) -> None:
    """Everything below counts for what its folder counts for: files that always had one name."""
    inode = await w.store.get_inode(folder_id)
    for row in await w.store.read_directory(folder_id):
        below = row.inode
        own = below.quota_ids[:1] == (below.inode_id,)
        assert below.quota_ids[own:] == inode.quota_ids
        if below.type == InodeType.DIRECTORY:
            await _ids_are_inherited(w, below.inode_id)
