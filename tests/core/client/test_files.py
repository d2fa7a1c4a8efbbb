"""Open files against a bytearray: writes, truncations, flushes, failures, memory pressure."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craqen.core.client.files import FileClient, OpenFile
from craqen.core.clock import ManualClock
from craqen.core.errors import NoSpaceError, StaleHandleError
from craqen.core.kv.memory import MemoryStore
from craqen.core.limits import FILE_CHUNK_BYTES, INLINE_BYTES_MAX, KIB, MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    SetAttributes,
)
from craqen.core.options import MetaOptions
from craqen.tests.support.folder_data import FolderDataStore


class World:
    """A namespace with a bucket, a data store, and the client under test."""

    def __init__(self, meta: LocalMetaStore, data: FolderDataStore, dirty_bytes_max: int) -> None:
        self.meta = meta
        self.data = data
        self.clock = ManualClock()
        self.client = FileClient(meta, data, self.clock, dirty_bytes_max=dirty_bytes_max)
        self.bucket_id = 0

    async def create(self, name: bytes) -> OpenFile:
        inode = await self.meta.create(
            self.bucket_id, name, InodeType.FILE, mode=0o644, uid=1, gid=1
        )
        return self.client.opened(inode)

    async def put(self, key: bytes, content: bytes) -> Inode:
        """What an S3 PUT does."""
        if len(content) <= INLINE_BYTES_MAX:
            new = NewContent(len(content), inline_data=content)
        else:
            await self.meta.ensure_ids(1)
            segment = self.meta.new_segment_id()
            layout = self.meta.default_layout(in_place=False)
            writer = self.data.new_segment(segment, layout, length_bytes=len(content))
            await writer.write(memoryview(content))
            new = NewContent(len(content), extents=await writer.finish())
        result = await self.meta.put_object("bucket", key, new, ObjectAttributes(), Owner())
        return result.inode

    async def stored(self, inode_id: int) -> bytes:
        """The content as another process sees it."""
        other = FileClient(self.meta, self.data, self.clock)
        file = await other.open(inode_id)
        content = bytes(await other.read(file, 0, file.inode.size + 10))
        await other.release(file)
        return content


@asynccontextmanager
async def world(dirty_bytes_max: int = 64 * MIB) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        kv = MemoryStore()
        meta = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        data = FolderDataStore(Path(folder))
        made = World(meta, data, dirty_bytes_max)
        await meta.create_bucket("bucket", owner="o", region="r", as_owner=Owner())
        made.bucket_id = (await meta.get_bucket("bucket")).inode_id
        try:
            yield made
        finally:
            await data.close()
            await meta.close()
            await kv.close()


def run(
    work: Callable[[World], Coroutine[Any, Any, None]], *, dirty_bytes_max: int = 64 * MIB
) -> None:
    async def body() -> None:
        async with world(dirty_bytes_max) as made:
            await work(made)

    asyncio.run(body())


def pattern(length: int, seed: int) -> bytes:
    return bytes((seed + index * 7) & 0xFF for index in range(251)) * (length // 251 + 1)


OFFSETS = st.one_of(
    st.integers(0, 200),
    st.integers(INLINE_BYTES_MAX - 100, INLINE_BYTES_MAX + 100),
    st.integers(FILE_CHUNK_BYTES - 100, FILE_CHUNK_BYTES + 100),
    st.sampled_from([0, FILE_CHUNK_BYTES, 2 * FILE_CHUNK_BYTES, 3 * FILE_CHUNK_BYTES]),
)
LENGTHS = st.one_of(
    st.integers(1, 300),
    st.sampled_from([4 * KIB, INLINE_BYTES_MAX, 100 * KIB, FILE_CHUNK_BYTES, 2 * FILE_CHUNK_BYTES]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), OFFSETS, LENGTHS),
        st.tuples(st.just("write"), OFFSETS, LENGTHS),
        st.tuples(st.just("read"), OFFSETS, LENGTHS),
        st.tuples(st.just("truncate"), OFFSETS, st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        st.tuples(st.just("touch"), st.integers(1, 10**9), st.just(0)),
        st.tuples(st.just("fail"), OFFSETS, LENGTHS),
        st.tuples(st.just("age"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    start=st.sampled_from([None, 0, 100, INLINE_BYTES_MAX, 2 * FILE_CHUNK_BYTES + 5]),
    dirty_bytes_max=st.sampled_from([300 * KIB, 4 * MIB, 64 * MIB]),
)
def test_behaves_as_a_bytearray(
    steps: list[tuple[str, int, int]], start: int | None, dirty_bytes_max: int
) -> None:
    async def body(made: World) -> None:
        client = made.client
        model = bytearray()
        if start is None:
            file = await made.create(b"file")
        else:
            model += pattern(start, 3)[:start]
            file = await client.open((await made.put(b"file", bytes(model))).inode_id)
        second = await client.open(file.inode.inode_id)
        for number, (kind, offset, length) in enumerate(steps):
            if kind in ("write", "fail"):
                data = pattern(length, number)[:length]
                if kind == "fail":
                    made.data.fail_writes_with = NoSpaceError("the disk is full")
                try:
                    await client.write(file, offset, data)
                    model.extend(bytes(max(0, offset + length - len(model))))
                    model[offset : offset + length] = data
                    if kind == "fail":
                        await client.flush(file)
                except NoSpaceError:
                    assert kind == "fail"
                made.data.fail_writes_with = None
            elif kind == "truncate":
                await client.set_attributes(file.inode.inode_id, SetAttributes(size=offset))
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            elif kind == "flush":
                await client.flush(second)
                assert await made.stored(file.inode.inode_id) == model
            elif kind == "reopen":
                await client.release(file)
                file = await client.open(file.inode.inode_id)
            elif kind == "touch":
                await client.set_attributes(file.inode.inode_id, SetAttributes(mtime_ns=offset))
                await client.flush(file)
                assert (await made.meta.get_inode(file.inode.inode_id)).mtime_ns == offset
            elif kind == "age":
                made.clock.advance(60)
                await client.flush_old()
            else:
                got = client.read_now(second, offset, length)
                if got is not None:
                    assert bytes(got) == model[offset : offset + length]
                got = await client.read(second, offset, length)
                assert bytes(got) == model[offset : offset + length]
            inode = await made.meta.get_inode(file.inode.inode_id)
            assert client.view(inode).size == len(model)
        assert bytes(await client.read(second, 0, len(model) + 1)) == model
        await client.release(second)
        await client.release(file)
        assert await made.stored(file.inode.inode_id) == model
        assert not client.is_open(file.inode.inode_id)

    run(body, dirty_bytes_max=dirty_bytes_max)


def test_small_file_takes_one_commit() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"small")
        before = file.inode.generation
        for number in range(8):
            await made.client.write(file, 512 * number, b"x" * 512)
        await made.client.flush(file)
        await made.client.release(file)
        inode = await made.meta.get_inode(file.inode.inode_id)
        assert (inode.size, inode.inline, inode.generation) == (4096, True, before + 1)
        assert made.data.written == []

    run(body)


def test_large_sequential_file_is_stored_in_whole_chunks_while_it_arrives() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"large")
        piece = b"abcdefgh" * (32 * KIB)
        for number in range(80):
            await made.client.write(file, number * len(piece), piece)
            await asyncio.sleep(0)
        assert made.data.written, "stored before anybody asked"
        await made.client.release(file)
        assert made.data.copied_bytes == 0
        assert {length for _, length in made.data.written} == {FILE_CHUNK_BYTES}
        assert len(made.data.written) == 20, "each chunk once"
        assert await made.stored(file.inode.inode_id) == piece * 80

    run(body)


def test_dirty_memory_is_bounded() -> None:
    async def body(made: World) -> None:
        files = [await made.create(b"%d" % number) for number in range(5)]
        piece = b"z" * (100 * KIB)
        for number in range(60):
            await made.client.write(files[number % 5], 137 * KIB * number, piece)
            held = sum(file.state.dirty.size_bytes for file in files)
            held += sum(f.state.flushing.size_bytes for f in files if f.state.flushing is not None)
            assert held <= MIB
        for file in files:
            await made.client.release(file)

    run(body, dirty_bytes_max=MIB)


def test_full_store_refuses_the_writer_and_keeps_what_was_taken() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"file")
        made.data.fail_writes_with = NoSpaceError("the disk is full")
        taken = 0
        refused = False
        while not refused:
            try:
                await made.client.write(file, taken, b"y" * (256 * KIB))
                taken += 256 * KIB
            except NoSpaceError:
                refused = True
        assert 0 < taken <= 2 * MIB
        with pytest.raises(NoSpaceError):
            await made.client.flush(file)
        made.data.fail_writes_with = None  # somebody made room
        await made.client.flush(file)
        await made.client.release(file)
        assert await made.stored(file.inode.inode_id) == b"y" * taken

    run(body, dirty_bytes_max=2 * MIB)


def test_what_cannot_be_stored_is_dropped_with_the_last_handle() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"file")
        made.data.fail_writes_with = NoSpaceError("the disk is full")
        await made.client.write(file, 0, b"y" * (256 * KIB))
        with pytest.raises(NoSpaceError):
            await made.client.release(file)
        made.data.fail_writes_with = None
        other = await made.create(b"other")
        for number in range(4):  # all of the memory is there again
            await made.client.write(other, number * 256 * KIB, b"n" * (256 * KIB))
        assert made.data.written == []
        await made.client.release(other)

    run(body, dirty_bytes_max=2 * MIB)


def test_copies_only_what_a_write_in_place_touches() -> None:
    async def body(made: World) -> None:
        content = pattern(6 * MIB, 5)[: 6 * MIB]
        inode = await made.put(b"object", content)
        copy = await made.meta.copy_object(
            "bucket", b"object", "bucket", b"copy", Owner(), attributes=None, source_generation=None
        )
        file = await made.client.open(inode.inode_id)
        await made.client.write(file, 2 * MIB + 10, b"changed")
        await made.client.write(file, 4 * MIB, b"w" * MIB)
        await made.client.release(file)
        assert made.data.copied_bytes <= 3 * MIB
        expected = bytearray(content)
        expected[2 * MIB + 10 : 2 * MIB + 17] = b"changed"
        expected[4 * MIB : 5 * MIB] = b"w" * MIB
        assert await made.stored(inode.inode_id) == expected
        assert await made.stored(copy.inode.inode_id) == content

    run(body)


def test_replaced_and_unlinked_files_stay_readable_while_protected() -> None:
    async def body(made: World) -> None:
        old = pattern(3 * MIB, 1)[: 3 * MIB]
        inode = await made.put(b"object", old)
        file = await made.client.open(inode.inode_id)
        new = await made.put(b"object", b"new content")
        made.client.mark_stale([inode.inode_id])
        await made.client.protect([inode.inode_id, new.inode_id])
        assert file.state.session is not None
        assert bytes(await made.client.read(file, 0, 10 * MIB)) == old
        await made.client.write(file, 0, b"still writable")
        await made.client.flush(file)
        assert bytes(await made.client.read(file, 0, 14)) == b"still writable"
        await made.client.release(file)
        assert await made.stored(new.inode_id) == b"new content"

    run(body)


def test_change_elsewhere_is_seen_by_an_open_file_once_it_is_told() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"shared")
        await made.client.write(file, 0, b"first")
        await made.client.flush(file)
        other = FileClient(made.meta, made.data, made.clock)
        elsewhere = await other.open(file.inode.inode_id)
        await other.write(elsewhere, 0, b"second!")
        await other.release(elsewhere)
        made.client.mark_stale([file.inode.inode_id])
        assert made.client.read_now(file, 0, 100) is None
        assert bytes(await made.client.read(file, 0, 100)) == b"second!"
        await made.client.release(file)

    run(body)


def test_own_commits_keep_an_outer_cache_valid_and_others_do_not() -> None:
    async def body(made: World) -> None:
        file = await made.create(b"file")
        file.state.cache_generation = file.inode.generation
        await made.client.write(file, 0, b"one")
        await made.client.flush(file)
        assert file.state.cache_generation == file.inode.generation
        assert await made.meta.write_inline(file.inode.inode_id, 0, b"two") is not None
        await made.client.write(file, 0, b"three")
        await made.client.flush(file)
        assert file.state.cache_generation != file.inode.generation
        await made.client.release(file)

    run(body)


def test_gone_file_cannot_be_opened() -> None:
    async def body(made: World) -> None:
        with pytest.raises(StaleHandleError):
            await made.client.open(999_999)
        assert not made.client.is_open(999_999)

    run(body)
