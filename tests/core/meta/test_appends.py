"""Appending: what is written again and how often, what the namespace holds afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from craqen.core.errors import (
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    WriteOffsetError,
)
from craqen.core.limits import EXTENTS_INLINE_MAX, KIB, MIB
from craqen.core.meta.appends import APPEND_TAIL_BYTES, MERGE_RUN, SMALL_EXTENT_BYTES, rewrite_from
from craqen.core.meta.extents import cut_range, end_of
from craqen.core.meta.records import (
    AppendPoint,
    Extent,
    Inode,
    Layout,
    NewContent,
    ObjectAttributes,
    PutResult,
    WriteConditions,
)
from craqen.core.meta.tree import EXTENTS_PER_PAGE, all_extents
from craqen.tests.core.meta.test_rules import OWNER, Scenario, World, run

__all__ = ["run"]

LAYOUT = Layout(8 * MIB, 1, 0)


@pytest.mark.parametrize("append", [100, 5000, 70 * KIB, MIB, 3 * MIB])
def test_many_appends_make_few_extents_and_write_little_again(append: int) -> None:
    generator = random.Random(append)
    extents: tuple[Extent, ...] = ()
    size = written = 0
    target = min(64 * MIB, 3000 * append)
    while size < target:
        length = generator.randint(1, 2 * append)
        start = rewrite_from(extents, size)
        assert size - start < MERGE_RUN * SMALL_EXTENT_BYTES
        written += size - start + length
        extents = (
            *cut_range(extents, 0, start),
            Extent(start, size - start + length, len(extents), 0, LAYOUT),
        )
        size += length
        assert end_of(extents[-1]) == size
    assert len(extents) <= size / SMALL_EXTENT_BYTES + MERGE_RUN + 1
    whole_tails = written / size * append / APPEND_TAIL_BYTES
    assert written <= 4 * size or whole_tails < 1  # a tail is written again once per append


def test_what_is_written_in_place_is_left_alone() -> None:
    sparse = Extent(0, 1 << 40, 1, 0, LAYOUT, dense=False)
    assert rewrite_from((sparse,), 1000) == 1000
    assert rewrite_from((), 1000) == 1000
    small = Extent(0, 1000, 1, 0, LAYOUT)
    assert rewrite_from((small,), 2000) == 2000  # it ends in a hole
    assert rewrite_from((small,), 1000) == 0


async def append(
    w: World, key: bytes, length: int, conditions: WriteConditions | None = None
) -> PutResult:
    """As the gateway does it, with a segment that holds the end again and *length* new bytes."""
    try:
        point = await w.store.append_point("bucket", key)
    except NotFoundError:
        point = AppendPoint(None)
    size = 0 if point.inode is None else point.inode.size
    extent = await w.segment(size - point.rewrite_from + length)
    content = NewContent(extent.length_bytes, None, (extent,))
    return await w.store.append_object(
        "bucket",
        key,
        point,
        content,
        ObjectAttributes("", checksums={"crc32": "AAAAAA=="}, checksum_type="FULL_OBJECT"),
        OWNER,
        conditions=conditions or WriteConditions(),
    )


def test_an_object_grows_in_its_place(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        made = await append(w, b"d/log", 100 * KIB)
        assert not made.replaced
        grown = await append(w, b"d/log", 10)
        again = await append(w, b"d/log", 20)
        inode = again.inode
        assert inode.inode_id == made.inode.inode_id
        assert inode.size == 100 * KIB + 30
        assert [one.length_bytes for one in inode.extents] == [100 * KIB, 30]
        assert (await w.usage()) == (inode.size, 1)
        assert inode.generation == grown.inode.generation + 1
        assert inode.effective_etag().endswith("-w")
        assert inode.object is not None
        assert inode.object.etag_generation == inode.generation
        # Only the small end that was written again is freed.
        freed = await w.freed_after(1000)
        assert freed == {(grown.inode.extents[1].segment_id, 0)}
        await w.store.delete_object("bucket", b"d/log")
        w.clock.advance(1000)
        await w.store.due_removals(limit=1000)
        assert len(await w.freed_after(1000)) == 2

    run(scenario)


def test_bytes_in_the_record(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        inode = await w.put(b"small", b"one")
        point = await w.store.append_point("bucket", b"small")
        assert (point.inline_data, point.rewrite_from, point.tail) == (b"one", 0, ())
        put = await w.store.append_object(
            "bucket", b"small", point, NewContent(4, b" two"), ObjectAttributes(), OWNER
        )
        assert put.inode.inode_id == inode.inode_id
        assert await w.get(b"small") == b"one two"
        grown = await append(w, b"small", 50 * KIB)
        assert (grown.inode.size, grown.inode.inline) == (50 * KIB + 7, False)
        assert (await w.store.get_object("bucket", b"small")).inline_data is None

    run(scenario)


def test_one_of_two_wins(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        await append(w, b"k", 100 * KIB)
        point = await w.store.append_point("bucket", b"k")

        async def late(stale: AppendPoint) -> None:
            extent = await w.segment(10)
            content = NewContent(10, None, (extent,))
            await w.store.append_object("bucket", b"k", stale, content, ObjectAttributes(), OWNER)

        await append(w, b"k", 10)
        with pytest.raises(WriteOffsetError) as error:
            await late(point)
        assert error.value.size_bytes == 100 * KIB + 10
        with pytest.raises(WriteOffsetError):
            await late(AppendPoint(None))
        assert point.inode is not None
        same_size = msgspec.structs.replace(
            (await w.store.get_object("bucket", b"k")).inode, generation=0
        )
        with pytest.raises(ConflictError):
            await late(AppendPoint(same_size, None, same_size.size))
        for conditions in (
            WriteConditions(if_none_match=("*",)),
            WriteConditions(if_match=("other",)),
        ):
            with pytest.raises(PreconditionFailedError):
                await append(w, b"k", 1, conditions)

    run(scenario)


def test_extents_in_pages(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        inode: Inode | None = None
        for _ in range(EXTENTS_INLINE_MAX + 40):
            inode = (await append(w, b"big", 2 * MIB)).inode
        assert inode is not None
        assert inode.extent_pages == 1
        for _ in range(40):
            inode = (await append(w, b"big", 30 * KIB)).inode
        context = vars(w.store)["_context"]
        extents = await context.kv.read(lambda tx: all_extents(tx, inode))
        assert end_of(extents[-1]) == inode.size == 104 * 2 * MIB + 40 * 30 * KIB
        assert [one.file_offset for one in extents[1:]] == [end_of(one) for one in extents[:-1]]
        assert len(extents) <= 104 + MERGE_RUN + 1

    run(scenario)


def test_more_than_one_page(run: Callable[[Scenario], None]) -> None:
    async def scenario(w: World) -> None:
        segment = await w.segment(1)
        parts = tuple(
            msgspec.structs.replace(
                segment, file_offset=number * 2 * MIB, segment_offset=number, length_bytes=2 * MIB
            )
            for number in range(2 * EXTENTS_PER_PAGE)
        )
        content = NewContent(end_of(parts[-1]), None, parts)
        await w.store.put_object("bucket", b"k", content, ObjectAttributes(etag="e"), OWNER)
        inode = (await append(w, b"k", 10)).inode
        assert inode.extent_pages == 3
        inode = (await append(w, b"k", 3 * MIB)).inode
        assert inode.extent_pages == 3
        context = vars(w.store)["_context"]
        extents = await context.kv.read(lambda tx: all_extents(tx, inode))
        assert extents[: len(parts)] == parts
        assert [one.length_bytes for one in extents[len(parts) :]] == [3 * MIB + 10]

    run(scenario)
