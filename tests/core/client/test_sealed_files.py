"""Encrypted files through the mount's client: as any other file, and never in the clear."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craqen.core.client.file_keys import FileKeys
from craqen.core.client.files import FileClient, OpenFile
from craqen.core.client.sealed_files import SEALED_UNIT_BYTES, SealedFiles
from craqen.core.clock import ManualClock
from craqen.core.crypt.defaults import ASPECT, DefaultEncryption, encode_default
from craqen.core.crypt.envelope import SSE_S3, customer_encryption, new_data_key
from craqen.core.crypt.key_ring import STORE_KEY_ID, FileKeyRing
from craqen.core.crypt.pages import seal_record
from craqen.core.errors import PermissionDeniedError, UnsupportedError
from craqen.core.kv.memory import MemoryStore
from craqen.core.limits import INLINE_BYTES_MAX, KIB, MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    SetAttributes,
)
from craqen.core.options import MetaOptions
from craqen.tests.support.folder_data import FolderDataStore

MARK = b"in the clear! "


class World:
    """A bucket that encrypts by default, and clients of it."""

    def __init__(self, folder: Path, meta: LocalMetaStore, data: FolderDataStore) -> None:
        self.folder, self.meta, self.data = folder, meta, data
        self.keys = FileKeyRing(folder / "keys.yaml")
        self.keys.create(STORE_KEY_ID, "now")
        self.executor = ThreadPoolExecutor(2)
        self.client = self.new_client()
        self.bucket_id = 0

    def new_client(self) -> FileClient:
        sealed = SealedFiles(self.meta, self.data, self.executor, FileKeys(self.meta, self.keys))
        return FileClient(self.meta, self.data, ManualClock(), sealed=sealed)

    async def create(self, name: bytes) -> OpenFile:
        inode = await self.meta.create(
            self.bucket_id, name, InodeType.FILE, mode=0o644, uid=1, gid=1
        )
        return self.client.opened(inode)

    async def stored(self, inode_id: int) -> bytes:
        """The content as another process sees it."""
        client = self.new_client()
        file = await client.open(inode_id)
        content = bytes(await client.read(file, 0, file.inode.size + 10))
        await client.release(file)
        return content

    def in_the_clear(self, mark: bytes) -> bool:
        """Whether *mark* lies anywhere on the disk."""
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return any(mark in path.read_bytes() for path in paths)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        kv = MemoryStore()
        meta = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        data = FolderDataStore(folder)
        made = World(folder, meta, data)
        await meta.create_bucket("bucket", owner="o", region="r", as_owner=Owner())
        setting = encode_default(DefaultEncryption(SSE_S3))
        await meta.set_bucket_setting("bucket", ASPECT, setting)
        made.bucket_id = (await meta.get_bucket("bucket")).inode_id
        try:
            yield made
        finally:
            made.executor.shutdown()
            await data.close()
            await meta.close()
            await kv.close()


def run(work: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with world() as made:
            await work(made)

    asyncio.run(body())


OFFSETS = st.one_of(
    st.integers(0, 200),
    st.integers(INLINE_BYTES_MAX - 100, INLINE_BYTES_MAX + 100),
    st.integers(SEALED_UNIT_BYTES - 100, SEALED_UNIT_BYTES + 100),
    st.sampled_from([0, 3 * SEALED_UNIT_BYTES, MIB]),
)
LENGTHS = st.one_of(st.integers(1, 300), st.sampled_from([SEALED_UNIT_BYTES, 200 * KIB]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), OFFSETS, LENGTHS),
        st.tuples(st.just("cut"), OFFSETS, st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_as_any_other_file(steps: list[tuple[str, int, int]]) -> None:
    async def work(w: World) -> None:
        file = await w.create(b"f")
        inode_id = file.state.inode_id
        model = bytearray()
        for number, (step, offset, length) in enumerate(steps):
            if step == "write":
                data = (MARK + bytes([number])) * (length // 15 + 1)
                data = data[:length]
                await w.client.write(file, offset, data)
                if len(model) < offset:
                    model += bytes(offset - len(model))
                model[offset : offset + length] = data
            elif step == "cut":
                await w.client.set_attributes(inode_id, SetAttributes(size=offset))
                model = model[:offset].ljust(offset, b"\0")
            elif step == "flush":
                await w.client.flush(file)
                assert await w.stored(inode_id) == model
            else:
                await w.client.release(file)
                file = await w.client.open(inode_id)
            assert bytes(await w.client.read(file, 0, 2 * MIB)) == model
        await w.client.release(file)
        assert await w.stored(inode_id) == model
        inode = await w.meta.get_inode(inode_id)
        if any(model):
            assert inode.encryption is not None
        assert not w.in_the_clear(MARK)

    run(work)


def test_two_mounts_write_next_to_each_other() -> None:
    """Neither loses what the other wrote into the same page."""

    async def work(w: World) -> None:
        first = await w.create(b"f")
        inode_id = first.state.inode_id
        await w.client.write(first, 0, bytes(100 * KIB))
        await w.client.flush(first)
        other = w.new_client()
        second = await other.open(inode_id)
        for number in range(10):
            await w.client.write(first, 8 * number, b"1111")
            await other.write(second, 8 * number + 4, b"2222")
            await asyncio.gather(w.client.flush(first), other.flush(second))
        await other.release(second)
        await w.client.release(first)
        assert (await w.stored(inode_id))[:80] == b"11112222" * 10

    run(work)


def test_what_a_client_holds_the_key_of_stays_shut() -> None:
    async def work(w: World) -> None:
        key = new_data_key()
        attributes = ObjectAttributes(encryption=customer_encryption(bytes(32), key, "md5"))
        content = NewContent(6, seal_record(key, b"secret"))
        put = await w.meta.put_object("bucket", b"k", content, attributes, Owner())
        with pytest.raises(PermissionDeniedError):
            await w.client.open(put.inode.inode_id)

    run(work)


def test_without_keys_an_encrypted_file_is_refused_not_misread() -> None:
    async def work(w: World) -> None:
        file = await w.create(b"f")
        await w.client.write(file, 0, b"x" * 100)
        await w.client.release(file)
        keyless = FileClient(w.meta, w.data, ManualClock())
        with pytest.raises(UnsupportedError):
            await keyless.open(file.state.inode_id)

    run(work)


def test_files_from_before_the_default_stay_as_they_are() -> None:
    async def work(w: World) -> None:
        await w.meta.set_bucket_setting("bucket", ASPECT, None)
        file = await w.create(b"f")
        await w.client.write(file, 0, b"plain")
        await w.client.flush(file)
        await w.meta.set_bucket_setting("bucket", ASPECT, encode_default(DefaultEncryption(SSE_S3)))
        await w.client.write(file, 5, b" still")
        await w.client.release(file)
        assert (await w.meta.get_inode(file.state.inode_id)).encryption is None
        assert await w.stored(file.state.inode_id) == b"plain still"

    run(work)
