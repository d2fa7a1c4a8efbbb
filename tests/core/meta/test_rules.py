"""The rules of the namespace, one by one, and where both doors meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from craqen.core.access.acl import DEFAULT_XATTR
from craqen.core.access.acl import Entry as AclEntry
from craqen.core.access.acl import encode as encode_list
from craqen.core.clock import ManualClock
from craqen.core.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    CraqenError,
    CrossDeviceError,
    InvalidArgumentError,
    InvalidPartError,
    InvalidPartOrderError,
    NoSpaceError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    PartTooSmallError,
    PermissionDeniedError,
    PreconditionFailedError,
    StaleHandleError,
    UploadNotFoundError,
)
from craqen.core.ids import ROOT_INODE_ID
from craqen.core.kv.open import open_store
from craqen.core.limits import INLINE_BYTES_MAX, MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    OPEN_ENDED,
    CompletedPart,
    DeleteOutcome,
    Deletion,
    Extent,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    SetAttributes,
    WriteConditions,
)
from craqen.core.options import MetaOptions

Scenario = Callable[["World"], Awaitable[None]]
OWNER = Owner(5, 6)


class World:
    """A store with a bucket, and short words for what the tests do often."""

    def __init__(self, store: LocalMetaStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.bucket_id = 0

    async def put(self, key: bytes, data: bytes = b"x", **more: object) -> Inode:
        attributes = ObjectAttributes(etag=f"etag-{data.decode()}")
        result = await self.store.put_object(
            "bucket",
            key,
            NewContent(len(data), data),
            attributes,
            OWNER,
            **more,  # type: ignore[arg-type]
        )
        return result.inode

    async def get(self, key: bytes) -> bytes:
        view = await self.store.get_object("bucket", key)
        assert view.inline_data is not None
        return view.inline_data

    async def keys(self, prefix: bytes = b"", delimiter: bytes = b"") -> list[bytes]:
        page = await self.store.list_objects("bucket", prefix=prefix, delimiter=delimiter)
        return [entry.key for entry in page.entries]

    async def names(self, inode_id: int | None = None) -> list[bytes]:
        entries = await self.store.read_directory(inode_id or self.bucket_id)
        return [entry.name for entry in entries]

    async def make(self, parent_id: int, name: bytes, kind: InodeType = InodeType.FILE) -> Inode:
        return await self.store.create(parent_id, name, kind, mode=0o755, uid=1, gid=2)

    async def mkdir(self, parent_id: int, name: bytes) -> int:
        return (await self.make(parent_id, name, InodeType.DIRECTORY)).inode_id

    async def segment(self, length: int) -> Extent:
        await self.store.ensure_ids(1)
        number = self.store.new_segment_id()
        return Extent(0, length, number, 0, self.store.layout_of(number, in_place=False))

    async def put_large(self, key: bytes, length: int = 20 * MIB) -> Extent:
        extent = await self.segment(length)
        content = NewContent(length, None, (extent,))
        await self.store.put_object("bucket", key, content, ObjectAttributes(etag="m"), OWNER)
        return extent

    async def usage(self) -> tuple[int, int]:
        usage = await self.store.usage("bucket")
        return usage.size_bytes, usage.objects

    async def freed_after(self, seconds: float) -> set[tuple[int, int]]:
        self.clock.advance(seconds)
        items = await self.store.due_removals(limit=1000)
        await self.store.finish_removal(items)
        return {(item.segment_id, item.first_chunk) for item in items}


@pytest.fixture(params=["memory", "embedded"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    async def scene(scenario: Scenario) -> None:
        url = "memory:" if request.param == "memory" else f"embedded:{tmp_path}/kv"
        kv = open_store(url)
        clock = ManualClock()
        store = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        world = World(store, clock)
        bucket = await store.create_bucket("bucket", owner="me", region="", as_owner=OWNER)
        world.bucket_id = bucket.inode_id
        try:
            await scenario(world)
        finally:
            await store.close()
            await kv.close()

    return lambda scenario: asyncio.run(scene(scenario))


def test_a_key_and_keys_below_it(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        for key in (b"a", b"a/b", b"a//b", b"./x", b"a/", b"../..", b"//", b"a-b", b"a0"):
            await w.put(key, key)
        for key in (b"a", b"a/b", b"a//b", b"./x", b"a/", b"../..", b"//", b"a-b", b"a0"):
            assert await w.get(key) == key
        assert await w.keys() == sorted(
            [b"a", b"a/b", b"a//b", b"./x", b"a/", b"../..", b"//", b"a-b", b"a0"]
        )
        names = await w.names()
        assert len(set(names)) == len(names) == 7
        for name in names:
            await w.store.lookup(w.bucket_id, name)
        assert b"a" in names
        assert b".s3~f~a" in names
        hidden = await w.store.lookup(w.bucket_id, b".s3~f~a")
        assert hidden.type == InodeType.FILE
        await w.store.unlink(w.bucket_id, b".s3~f~a")
        with pytest.raises(NotFoundError):
            await w.get(b"a")
        assert await w.get(b"a/b") == b"a/b"

    run(scenario)


def test_names_over_255_bytes_are_reachable(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        for key in (b"x" * 1024, b"%" * 200, b"y" * 600 + b"/" + b"z" * 300):
            await w.put(key, b"long")
        names = await w.names()
        assert all(len(name) <= 255 for name in names)
        for name in names:
            inode = await w.store.lookup(w.bucket_id, name)
            if inode.type == InodeType.DIRECTORY:
                (inner,) = await w.names(inode.inode_id)
                await w.store.rename(inode.inode_id, inner, w.bucket_id, b"short")
                await w.store.remove_directory(w.bucket_id, name)
        assert await w.get(b"short") == b"long"

    run(scenario)


def test_implicit_folders_go_with_their_last_object(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"a/b/c/d")
        await w.put(b"a/x")
        assert (await w.store.delete_object("bucket", b"a/b/c/d")).removed
        assert await w.keys(delimiter=b"/") == [b"a/"]
        assert await w.names((await w.store.lookup(w.bucket_id, b"a")).inode_id) == [b"x"]
        assert not (await w.store.delete_object("bucket", b"a/b/c/d")).removed
        await w.store.delete_object("bucket", b"a/x")
        assert await w.names() == []
        await w.store.delete_bucket("bucket")

    run(scenario)


def test_explicit_folders_stay_and_are_keys(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        made = await w.mkdir(w.bucket_id, b"made")
        await w.put(b"put/", b"body")
        await w.put(b"made/x")
        await w.store.delete_object("bucket", b"made/x")
        assert await w.keys() == [b"made/", b"put/"]
        assert await w.keys(delimiter=b"/") == [b"made/", b"put/"]
        assert await w.keys(prefix=b"made/", delimiter=b"/") == [b"made/"]
        assert await w.get(b"put/") == b"body"
        assert (await w.store.get_object("bucket", b"made/")).inode.inode_id == made
        with pytest.raises(NotEmptyError):
            await w.store.delete_bucket("bucket")
        await w.store.delete_object("bucket", b"made/")
        await w.store.delete_object("bucket", b"put/")
        assert await w.names() == []

    run(scenario)


def test_posix_never_prunes_and_leaves_no_phantom(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"a/b")
        folder = (await w.store.lookup(w.bucket_id, b"a")).inode_id
        await w.store.unlink(folder, b"b")
        assert await w.keys() == [b"a/"]
        assert await w.names() == [b"a"]
        await w.store.remove_directory(w.bucket_id, b"a")
        assert await w.keys() == []

    run(scenario)


def test_puts_swap_and_old_readers_finish(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        first = await w.put_large(b"big")
        old = (await w.store.get_object("bucket", b"big")).inode
        second = await w.put_large(b"big")
        new = (await w.store.get_object("bucket", b"big")).inode
        assert (old.extents, new.extents) == ((first,), (second,))
        assert (await w.store.get_inode(old.inode_id)).nlink == 0
        await w.store.open_session(old.inode_id, 1, write=False)
        assert await w.freed_after(100) == set()
        await w.store.close_session(old.inode_id, 1)
        assert await w.freed_after(100) == {(first.segment_id, 0)}
        with pytest.raises(StaleHandleError):
            await w.store.get_inode(old.inode_id)
        assert await w.store.referenced_segments([first.segment_id, second.segment_id]) == {
            second.segment_id
        }
        assert await w.usage() == (20 * MIB, 1)

    run(scenario)


def test_etags_and_generations(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        inode = await w.put(b"a", b"one")
        assert inode.effective_etag() == "etag-one"
        changed = await w.store.write_inline(inode.inode_id, 3, b"two")
        assert changed is not None
        assert changed.generation == inode.generation + 1
        assert changed.size == 6
        etag = changed.effective_etag()
        assert etag != "etag-one"
        assert len(etag) != 32
        again = await w.store.write_inline(inode.inode_id, 0, b"x")
        assert again is not None
        assert again.effective_etag() != etag
        assert await w.get(b"a") == b"xnetwo"
        renamed = await w.store.set_attributes(inode.inode_id, SetAttributes(mode=0o600))
        assert renamed.effective_etag() == again.effective_etag()

    run(scenario)


def test_conditions(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        async def refused(kind: type[CraqenError], **conditions: Any) -> None:
            with pytest.raises(kind):
                await w.put(b"a", b"new", conditions=WriteConditions(**conditions))
            with pytest.raises(kind):
                await w.store.delete_object(
                    "bucket", b"a", conditions=WriteConditions(**conditions)
                )

        await refused(NotFoundError, if_match=("*",))
        await refused(NotFoundError, if_match=("etag-one",))
        await w.put(b"a", b"one", conditions=WriteConditions(if_none_match=("*",)))
        await refused(PreconditionFailedError, if_none_match=("*",))
        await refused(PreconditionFailedError, if_match=("other",))
        await refused(PreconditionFailedError, if_match_size=4)
        await refused(PreconditionFailedError, if_match_mtime_ns=1)
        assert await w.get(b"a") == b"one"
        await w.put(b"a", b"two", conditions=WriteConditions(if_match=("x", "etag-one")))
        found = await w.store.delete_object(
            "bucket", b"a", conditions=WriteConditions(if_match=("*",))
        )
        assert found == DeleteOutcome(True)

    run(scenario)


def test_only_one_of_many_creators_wins(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        condition = WriteConditions(if_none_match=("*",))
        results = await asyncio.gather(
            *(w.put(b"d/lock", b"%d" % number, conditions=condition) for number in range(20)),
            return_exceptions=True,
        )
        winners = [result for result in results if isinstance(result, Inode)]
        losers = [result for result in results if isinstance(result, PreconditionFailedError)]
        assert (len(winners), len(losers)) == (1, 19)
        assert (await w.store.get_object("bucket", b"d/lock")).inode.inode_id == winners[0].inode_id

    run(scenario)


def test_puts_and_prunes_at_once_lose_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        async def churn(number: int) -> None:
            for step in range(8):
                await w.put(b"deep/er/k%d" % number, b"%d" % step)
                if step < 7:
                    await w.store.delete_object("bucket", b"deep/er/k%d" % number)

        await asyncio.gather(*(churn(number) for number in range(8)))
        assert await w.keys() == [b"deep/er/k%d" % number for number in range(8)]
        assert await w.usage() == (8, 8)

    run(scenario)


def test_copies_share_and_writing_separates(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        extent = await w.put_large(b"source")
        copy = await w.store.copy_object(
            "bucket", b"source", "bucket", b"copy", OWNER, attributes=None, source_generation=None
        )
        assert copy.inode.extents == (extent,)
        assert copy.inode.effective_etag() == "m"
        await w.store.delete_object("bucket", b"source")
        assert await w.freed_after(100) == set()
        inode_id = copy.inode.inode_id
        plan = await w.store.plan_write(inode_id, 5 * MIB + 10, 100)
        (out,) = plan.copies
        assert out.source is not None
        assert (out.target.file_offset, out.target.length_bytes) == (5 * MIB, MIB)
        assert plan.extents[0].segment_id == out.target.segment_id
        await w.store.install_copies(inode_id, plan.copies)
        changed = await w.store.commit_write(inode_id, 5 * MIB + 110)
        assert changed.size == 20 * MIB
        assert [one.segment_id == extent.segment_id for one in changed.extents] == [
            True,
            False,
            True,
        ]
        again = await w.store.plan_write(inode_id, 5 * MIB, MIB)
        assert again.copies == ()
        await w.store.delete_object("bucket", b"copy")
        freed = await w.freed_after(100)
        assert freed == {(extent.segment_id, 0), (out.target.segment_id, 0)}

    run(scenario)


def test_files_written_in_place(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        inode = await w.make(w.bucket_id, b"f")
        small = await w.store.write_inline(inode.inode_id, 0, b"small")
        assert small is not None
        assert await w.store.write_inline(inode.inode_id, INLINE_BYTES_MAX, b"x") is None
        plan = await w.store.plan_write(inode.inode_id, 100_000, 50)
        (out,) = plan.copies
        assert (out.source, out.inline_data) == (None, b"small")
        assert out.target.length_bytes == OPEN_ENDED
        await w.store.install_copies(inode.inode_id, plan.copies)
        grown = await w.store.commit_write(inode.inode_id, 100_050)
        assert (grown.size, grown.inline, len(grown.extents)) == (100_050, False, 1)
        home = grown.extents[0].segment_id
        assert await w.usage() == (100_050, 1)
        cut = await w.store.set_attributes(inode.inode_id, SetAttributes(size=70_000))
        assert cut.extents[0].length_bytes == 70_000
        plan = await w.store.plan_write(inode.inode_id, 60_000, 20_000)
        assert [(one.file_offset, one.segment_id == home) for one in plan.extents] == [
            (60_000, True),
            (70_000, False),
        ]
        assert plan.extents[1].segment_offset == 70_000
        empty = await w.store.set_attributes(inode.inode_id, SetAttributes(size=0))
        assert empty.extents == ()
        freed = {segment for segment, _ in await w.freed_after(100)}
        assert freed == {home, plan.extents[1].segment_id}
        assert await w.usage() == (0, 1)

    run(scenario)


def test_a_bucket_takes_its_uploads_along(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        segments = set()
        for number in range(7):
            upload = await w.store.create_upload(
                "bucket",
                b"k%d" % number,
                ObjectAttributes(),
                Owner(),
                checksum_algorithm="",
                checksum_type="",
            )
            extent = await w.segment(10)
            segments.add(extent.segment_id)
            await w.store.put_part(upload, Part(1, 10, "e", 0, {}, (extent,)))
        await w.put(b"stays")
        with pytest.raises(NotEmptyError):
            await w.store.delete_bucket("bucket")
        assert len((await w.store.list_uploads("bucket"))[0]) == 7
        await w.store.delete_object("bucket", b"stays")
        await w.store.delete_bucket("bucket")
        assert {segment for segment, _ in await w.freed_after(1000)} == segments

    run(scenario)


def test_multipart(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        upload = await w.store.create_upload(
            "bucket", b"d/big", ObjectAttributes(metadata={"k": "v"}), OWNER,
            checksum_algorithm="", checksum_type="",
        )  # fmt: skip
        extents = {}
        for number, size in ((3, 10), (1, 5 * MIB), (2, 6 * MIB), (7, 5 * MIB)):
            extents[number] = await w.segment(size)
            part = Part(number, size, f"e{number}", 0, {}, (extents[number],))
            await w.store.put_part(upload, part)
        replaced = extents[2]
        extents[2] = await w.segment(6 * MIB)
        await w.store.put_part(upload, Part(2, 6 * MIB, "e2b", 0, {}, (extents[2],)))
        parts, more = await w.store.list_parts(upload, after=1, limit=2)
        assert ([part.number for part in parts], more) == ([2, 3], True)

        async def complete(*named: tuple[int, str]) -> Inode:
            wanted = [CompletedPart(number, etag) for number, etag in named]
            result = await w.store.complete_upload(upload, wanted, etag="x-3", checksums={})
            return result.inode

        for kind, named in (
            (InvalidPartError, [(1, "wrong")]),
            (InvalidPartError, [(9, "e9")]),
            (InvalidPartError, []),
            (InvalidPartOrderError, [(2, "e2b"), (1, "e1")]),
            (PartTooSmallError, [(3, "e3"), (7, "e7")]),
        ):
            with pytest.raises(kind):
                await complete(*named)
        inode = await complete((1, "e1"), (2, "e2b"), (3, "e3"))
        assert inode.size == 11 * MIB + 10
        assert [one.segment_id for one in inode.extents] == [
            extents[number].segment_id for number in (1, 2, 3)
        ]
        assert [part.size for part in await w.store.object_parts(inode)] == [5 * MIB, 6 * MIB, 10]
        again = await complete((1, "e1"), (2, "e2b"), (3, "e3"))
        assert again.inode_id == inode.inode_id
        with pytest.raises(UploadNotFoundError):
            await w.store.get_upload("bucket", b"d/big", upload.upload_id)
        freed = {segment for segment, _ in await w.freed_after(100)}
        assert freed == {replaced.segment_id, extents[7].segment_id}
        assert await w.usage() == (11 * MIB + 10, 1)

    run(scenario)


def test_abort_and_uploads_listed(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        made = []
        for key in (b"b", b"a", b"a", b"a/x"):
            w.clock.advance(1)
            made.append(
                await w.store.create_upload(
                    "bucket",
                    key,
                    ObjectAttributes(),
                    OWNER,
                    checksum_algorithm="",
                    checksum_type="",
                )
            )
        uploads, more = await w.store.list_uploads("bucket", limit=2)
        assert ([one.upload_id for one in uploads], more) == (
            [made[1].upload_id, made[2].upload_id], True,
        )  # fmt: skip
        uploads, more = await w.store.list_uploads(
            "bucket", after_key=b"a", after_upload_id=made[2].upload_id
        )
        assert ([one.key for one in uploads], more) == ([b"a/x", b"b"], False)
        uploads, _ = await w.store.list_uploads("bucket", after_key=b"a")
        assert [one.key for one in uploads] == [b"a/x", b"b"]
        uploads, _ = await w.store.list_uploads("bucket", prefix=b"a/")
        assert [one.key for one in uploads] == [b"a/x"]
        extent = await w.segment(100)
        await w.store.put_part(made[0], Part(1, 100, "e", 0, {}, (extent,)))
        await w.store.abort_upload("bucket", b"b", made[0].upload_id)
        assert await w.freed_after(100) == {(extent.segment_id, 0)}
        with pytest.raises(UploadNotFoundError):
            await w.store.put_part(made[0], Part(1, 100, "e", 0, {}, (extent,)))

    run(scenario)


def test_ten_thousand_parts(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        extents = []
        await w.store.ensure_ids(3000)
        for number in range(3000):
            segment = w.store.new_segment_id()
            layout = w.store.layout_of(segment, in_place=False)
            extents.append(Extent(number * 10, 10, segment, 0, layout))
        content = NewContent(30_000, None, tuple(extents))
        await w.store.put_object("bucket", b"many", content, ObjectAttributes(), OWNER)
        inode = (await w.store.get_object("bucket", b"many")).inode
        assert inode.extents == ()
        assert await w.store.extents(inode, 15_005, 10) == tuple(extents[1500:1502])
        await w.store.delete_object("bucket", b"many")
        w.clock.advance(100)
        freed = set()
        while items := await w.store.due_removals(limit=1000):
            freed |= {item.segment_id for item in items}
            await w.store.finish_removal(items)
        assert freed == {extent.segment_id for extent in extents}

    run(scenario)


def test_renames(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        a, b = await w.mkdir(w.bucket_id, b"a"), await w.mkdir(w.bucket_id, b"b")
        inner = await w.mkdir(a, b"inner")
        await w.make(inner, b"f")
        await w.store.rename(w.bucket_id, b"a", b, b"moved")
        assert await w.keys() == [b"b/", b"b/moved/", b"b/moved/inner/", b"b/moved/inner/f"]
        for target in (a, inner):
            with pytest.raises(InvalidArgumentError):
                await w.store.rename(b, b"moved", target, b"x")
        with pytest.raises(InvalidArgumentError):
            await w.store.rename(w.bucket_id, b"b", inner, b"x")
        await w.make(w.bucket_id, b"file")
        with pytest.raises(NotDirectoryError):
            await w.store.rename(b, b"moved", w.bucket_id, b"file")
        with pytest.raises(CraqenError):
            await w.store.rename(w.bucket_id, b"file", b, b"moved")
        with pytest.raises(AlreadyExistsError):
            await w.store.rename(inner, b"f", w.bucket_id, b"file", no_replace=True)
        await w.store.rename(w.bucket_id, b"file", b, b"moved", exchange=True)
        assert (await w.store.lookup(w.bucket_id, b"file")).inode_id == a
        assert (await w.store.lookup(b, b"moved")).type == InodeType.FILE
        assert await w.keys(prefix=b"file/") == [b"file/", b"file/inner/", b"file/inner/f"]
        await w.store.rename(inner, b"f", b, b"moved")
        assert await w.usage() == (0, 1)
        await w.mkdir(w.bucket_id, b"empty")
        with pytest.raises(NotEmptyError):
            await w.store.rename(w.bucket_id, b"empty", w.bucket_id, b"b")

    run(scenario)


def test_the_root_holds_buckets(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        made = await w.mkdir(ROOT_INODE_ID, b"second")
        assert (await w.store.get_bucket("second")).inode_id == made
        with pytest.raises(InvalidArgumentError):
            await w.mkdir(ROOT_INODE_ID, b"Not_A_Bucket")
        with pytest.raises(PermissionDeniedError):
            await w.make(ROOT_INODE_ID, b"file")
        folder = await w.mkdir(w.bucket_id, b"folder")
        await w.put(b"folder/x", b"123")
        with pytest.raises(CrossDeviceError):
            await w.store.rename(w.bucket_id, b"folder", made, b"folder")
        await w.store.rename(folder, b"x", made, b"x")
        usage = await w.store.usage("second")
        assert (usage.size_bytes, usage.objects) == (3, 1)
        assert await w.usage() == (0, 0)
        await w.store.rename(ROOT_INODE_ID, b"second", ROOT_INODE_ID, b"third")
        assert (await w.store.get_object("third", b"x")).inline_data == b"123"
        with pytest.raises(BucketNotFoundError):
            await w.store.get_bucket("second")
        with pytest.raises(NotEmptyError):
            await w.store.remove_directory(ROOT_INODE_ID, b"third")
        await w.store.delete_object("third", b"x")
        await w.store.remove_directory(ROOT_INODE_ID, b"third")
        assert [bucket.name for bucket in await w.store.list_buckets()] == ["bucket"]

    run(scenario)


def test_links_and_open_files_without_a_name(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        inode = await w.store.create(
            w.bucket_id, b"f", InodeType.FILE, mode=0o644, uid=0, gid=0, session=7
        )
        await w.store.write_inline(inode.inode_id, 0, b"data")
        assert (await w.store.link(inode.inode_id, w.bucket_id, b"g")).nlink == 2
        assert (await w.store.unlink(w.bucket_id, b"f")).nlink == 1
        assert await w.get(b"g") == b"data"
        await w.put(b"g", b"replaced")
        assert await w.freed_after(1000) == set()
        assert (await w.store.read_inline(inode.inode_id))[1] == b"data"
        await w.store.write_inline(inode.inode_id, 4, b"!", close_session=7)
        await w.freed_after(1000)
        with pytest.raises(StaleHandleError):
            await w.store.get_inode(inode.inode_id)
        assert await w.usage() == (8, 1)

    run(scenario)


def test_directory_pages_with_stable_cursors(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        for number in range(30):
            await w.put(b"f%02d" % number)
        seen, cursor = [], b""
        while entries := await w.store.read_directory(w.bucket_id, after=cursor, limit=7):
            seen += [entry.name for entry in entries]
            cursor = entries[-1].cursor
            await w.store.delete_object("bucket", entries[-1].name)
            await w.put(b"f00a")
        assert seen == [b"f%02d" % number for number in range(30)]

    run(scenario)


def test_folder_times_move_with_their_entries(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        folder = await w.mkdir(w.bucket_id, b"d")
        before = (await w.store.get_inode(folder)).mtime_ns
        w.clock.advance(5)
        await w.put(b"d/x")
        after = (await w.store.get_inode(folder)).mtime_ns
        assert after == before + 5_000_000_000
        w.clock.advance(5)
        await w.store.unlink(folder, b"x")
        assert (await w.store.lookup(w.bucket_id, b"d")).mtime_ns == after + 5_000_000_000
        await w.store.set_attributes(folder, SetAttributes(mtime_ns=77))
        assert (await w.store.get_inode(folder)).mtime_ns == 77
        await w.put(b"d/y")
        assert (await w.store.get_inode(folder)).mtime_ns == after + 5_000_000_000

    run(scenario)


def test_xattrs(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        number = (await w.make(w.bucket_id, b"f")).inode_id
        await w.store.set_xattr(number, b"user.a", b"1", create=True)
        await w.store.set_xattr(number, b"user.b", b"")
        with pytest.raises(AlreadyExistsError):
            await w.store.set_xattr(number, b"user.a", b"2", create=True)
        with pytest.raises(NotFoundError):
            await w.store.set_xattr(number, b"user.c", b"2", replace=True)
        assert await w.store.list_xattrs(number) == [b"user.a", b"user.b"]
        await w.store.remove_xattr(number, b"user.b")
        assert await w.store.get_xattr(number, b"user.a") == b"1"
        with pytest.raises(NotFoundError):
            await w.store.get_xattr(number, b"user.b")

    run(scenario)


def test_attributes_are_no_more_than_can_be_listed(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        number = (await w.make(w.bucket_id, b"f")).inode_id
        name = b"user." + b"x" * 240
        fitting = 263  # of 249 bytes each, beside the names of the two lists
        for count in range(fitting):
            await w.store.set_xattr(number, name + b"%03d" % count, b"")
        with pytest.raises(NoSpaceError, match="too many"):
            await w.store.set_xattr(number, name + b"%03d" % fitting, b"")
        names = await w.store.list_xattrs(number)
        assert len(names) == fitting
        await w.store.set_xattr(number, names[0], b"one that is there can be changed")

    run(scenario)


SHARED = encode_list(
    [AclEntry(1, 7), AclEntry(2, 7, 4711), AclEntry(4, 5), AclEntry(16, 7), AclEntry(32, 0)]
)


def test_s3_inherits_what_a_folder_passes_on(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"d/before")
        folder = (await w.store.lookup(w.bucket_id, b"d")).inode_id
        await w.store.set_attributes(folder, SetAttributes(mode=0o2775, gid=99))
        await w.store.set_xattr(folder, DEFAULT_XATTR, SHARED)
        await w.put(b"d/sub/key")
        await w.put(b"d/key")
        await w.put(b"other")
        below = await w.store.lookup(folder, b"sub")
        assert (below.gid, below.mode) == (99, 0o2750)
        assert below.default_acl == SHARED
        for parent, name in ((folder, b"key"), (below.inode_id, b"key")):
            inode = await w.store.lookup(parent, name)
            assert (inode.gid, inode.mode) == (99, 0o640)
            assert inode.access_acl
            assert not inode.default_acl
        assert not (await w.store.lookup(w.bucket_id, b"other")).access_acl
        assert not (await w.store.lookup(folder, b"before")).access_acl

    run(scenario)


def test_a_clock_that_jumps_makes_no_client_dead(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        context = w.store._context
        hasty, late = ManualClock(wall_ns=w.clock.wall_ns() + 10**13), ManualClock(wall_ns=1)
        others: list[LocalMetaStore] = []
        for clock in (hasty, late):
            other = LocalMetaStore(
                type(context)(
                    context.kv, clock, removal_grace_seconds=60,
                    feed_retention_seconds=600, client_lease_seconds=30,
                )
            )  # fmt: skip
            await other.register_client(description="other", lease_seconds=30)
            others.append(other)
        for _ in range(3):
            assert await others[0].dead_clients() == []
            assert await others[1].dead_clients() == []
            for clock in (hasty, late):
                clock.advance(20)
            for store in (*others, w.store):
                await store.renew_client()
        hasty.advance(20)
        assert await others[0].dead_clients() == []
        await others[0].renew_client()
        await w.store.renew_client()
        hasty.advance(30)
        assert await others[0].dead_clients() == [others[1].client_id]

    run(scenario)


def test_dead_clients_are_found_and_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        context = w.store._context
        other = LocalMetaStore(
            type(context)(
                context.kv, w.clock, removal_grace_seconds=60,
                feed_retention_seconds=600, client_lease_seconds=30,
            )
        )  # fmt: skip
        await other.register_client(description="other", lease_seconds=30)
        await other.ensure_ids(1)
        orphan = other.new_segment_id()
        inode = await w.make(w.bucket_id, b"f")
        await other.open_session(inode.inode_id, 1, write=True)
        assert await w.store.dead_clients() == []
        w.clock.advance(20)
        await w.store.renew_client()
        w.clock.advance(20)
        assert await w.store.dead_clients() == [other.client_id]
        (block,) = await w.store.id_ranges(other.client_id)
        assert block[0] <= orphan <= block[1]
        assert await w.store.referenced_segments([orphan]) == set()
        await w.store.forget_client(other.client_id)
        with pytest.raises(StaleHandleError):
            await other.renew_client()
        await w.store.unlink(w.bucket_id, b"f")
        await w.freed_after(1000)
        with pytest.raises(StaleHandleError):
            await w.store.get_inode(inode.inode_id)

    run(scenario)


def test_the_feed_tells_of_every_change(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        _, cursor = await w.store.feed(None)
        waiting = asyncio.create_task(w.store.wait_feed(cursor))
        inode = await w.put(b"a")
        await waiting
        await w.store.write_inline(inode.inode_id, 0, b"y")
        events, cursor = await w.store.feed(cursor)
        told = [(event.kind, event.name, event.inode_id) for event in events]
        assert told == [("entry", b"a", inode.inode_id), ("inode", b"", inode.inode_id)]
        assert all(event.client_id == w.store.client_id for event in events)
        assert await w.store.feed(cursor) == ([], cursor)
        w.clock.advance(10_000)
        await w.store.trim_feed()
        assert (await w.store.feed(b"f"))[0] == []

    run(scenario)


def test_many_deletes(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        for number in range(600):
            await w.put(b"p/%03d" % number)
        wanted = [Deletion(b"p/%03d" % number) for number in range(0, 600, 2)]
        wanted.append(Deletion(b"absent"))
        wanted.append(Deletion(b"p/001", WriteConditions(if_match=("other",))))
        outcomes = await w.store.delete_objects("bucket", wanted)
        assert outcomes[:-1] == [DeleteOutcome(True)] * 300 + [DeleteOutcome(False)]
        assert isinstance(outcomes[-1], PreconditionFailedError)
        assert await w.keys() == [b"p/%03d" % number for number in range(1, 600, 2)]
        assert msgspec.structs.astuple(await w.store.usage("bucket"))[:2] == (300, 300)

    run(scenario)
