"""Keys of stored objects wrapped anew: by the newest version, under another key, beside writers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from craqen.core.client.file_keys import bound_to
from craqen.core.client.rewrap import Rewrap, Rewrapped
from craqen.core.clock import ManualClock, SystemClock
from craqen.core.crypt.envelope import (
    SSE_C,
    SSE_KMS,
    Encryption,
    customer_encryption,
    new_data_key,
)
from craqen.core.crypt.key_ring import STORE_KEY_ID, FileKeyRing
from craqen.core.crypt.open_keys import open_keys
from craqen.core.crypt.port import KeyKeeper, WrappedKey
from craqen.core.errors import KeyServiceUnavailableError, NotFoundError
from craqen.core.kv.memory import MemoryStore
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import Inode, NewContent, ObjectAttributes, Owner
from craqen.core.options import MetaOptions
from craqen.tests.core.crypt.test_key_services import configured
from craqen.tests.support.key_services import FakeKms, running


class World:
    """Objects with keys."""

    def __init__(self, kv: MemoryStore, meta: LocalMetaStore, keys: KeyKeeper) -> None:
        self.kv, self.meta, self.keys = kv, meta, keys
        self.data_keys: dict[bytes, bytes] = {}

    async def encryption(self, key_id: str, context: str = "") -> tuple[Encryption, bytes]:
        data_key = new_data_key()
        wrapped = await self.keys.wrap(key_id, data_key, bound_to(context))
        found = Encryption(
            SSE_KMS, wrapped.wrapped, wrapped.key_id, wrapped.key_version, context=context
        )
        return found, data_key

    async def put(self, key: bytes, key_id: str = "", context: str = "") -> None:
        encryption, self.data_keys[key] = await self.encryption(key_id, context)
        attributes = ObjectAttributes(etag="e", encryption=encryption)
        await self.meta.put_object("bucket", key, NewContent(1, b"sealed"), attributes, Owner())

    async def inode(self, key: bytes) -> Inode:
        return (await self.meta.get_object("bucket", key)).inode

    async def of(self, key: bytes) -> Encryption:
        found = (await self.inode(key)).encryption
        assert found is not None
        return found

    async def opens(self, key: bytes) -> None:
        one = await self.of(key)
        wrapped = WrappedKey(one.key_id, one.key_version, one.wrapped_key)
        assert await self.keys.unwrap(wrapped, bound_to(one.context)) == self.data_keys[key]

    async def rewrap(self, *, to: str = "", only: str = "") -> Rewrapped:
        return await Rewrap(self.kv, self.keys, lambda done: None, target=to, only=only).run()


def run(keys: KeyKeeper, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        kv = MemoryStore()
        meta = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        await meta.create_bucket("bucket", owner="o", region="", as_owner=Owner())
        await scenario(World(kv, meta, keys))
        await meta.close()
        await kv.close()
        await keys.close()

    asyncio.run(main())


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyRing:
    ring = FileKeyRing(tmp_path / "keys.yaml")
    for key_id in (STORE_KEY_ID, "a", "b"):
        ring.create(key_id, "now")
    return ring


def test_after_a_rotation(ring: FileKeyRing) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"plain")
        for number in range(600):  # more than a page
            await w.put(b"%d" % number, "a" if number % 2 else "b", "context")
        before = await w.inode(b"1")
        ring.rotate("a")
        done = await w.rewrap()
        assert (done.rewrapped, done.changed, done.failed) == (300, 0, 0)
        after = await w.inode(b"1")
        assert (await w.of(b"1")).key_version == 2
        assert msgspec.structs.replace(after, object=before.object) == before
        for key in (b"0", b"1", b"599", b"plain"):
            await w.opens(key)
        assert (await w.rewrap()).rewrapped == 0

    run(ring, scenario)


def test_under_another_key(ring: FileKeyRing) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"a", "a")
        await w.put(b"b", "b")
        await w.put(b"store")
        upload_encryption, _ = await w.encryption("a")
        upload = await w.meta.create_upload(
            "bucket",
            b"u",
            ObjectAttributes(encryption=upload_encryption),
            Owner(),
            checksum_algorithm="",
            checksum_type="",
        )
        customer = customer_encryption(bytes(32), new_data_key(), "md5")
        attributes = ObjectAttributes(encryption=customer)
        await w.meta.put_object("bucket", b"c", NewContent(1, b"s"), attributes, Owner())
        assert (await w.rewrap(to="b", only="a")).rewrapped == 2
        moved = (await w.meta.get_upload("bucket", b"u", upload.upload_id)).attributes.encryption
        assert moved is not None
        assert moved.key_id == "b"
        assert (await w.of(b"store")).key_id == STORE_KEY_ID
        assert (await w.of(b"c")).algorithm == SSE_C
        assert (await w.rewrap(to="b")).rewrapped == 1
        for key in (b"a", b"b", b"store"):
            await w.opens(key)
        with pytest.raises(NotFoundError):
            await w.rewrap(to="missing")

    run(ring, scenario)


def test_beside_writers_and_what_cannot_be_unwrapped(ring: FileKeyRing) -> None:
    async def scenario(w: World) -> None:
        await w.put(b"kept", "a")
        await w.put(b"replaced", "a")
        await w.put(b"lost", "b")
        ring.rotate("a")
        ring.rotate("b")
        ring.set_disabled("b", True)
        inner = w.keys

        class Meddling:
            """Another writer comes in between reading and writing."""

            async def wrap(self, key_id: str, data_key: bytes, bound: bytes) -> WrappedKey:
                if data_key == w.data_keys[b"replaced"]:
                    w.keys = inner
                    await w.put(b"replaced", "a")
                    await w.meta.delete_object("bucket", b"kept")
                    await w.put(b"kept", "a")
                return await inner.wrap(key_id, data_key, bound)

            async def unwrap(self, wrapped: WrappedKey, bound: bytes) -> bytes:
                return await inner.unwrap(wrapped, bound)

            def is_current(self, wrapped: WrappedKey) -> bool:
                return inner.is_current(wrapped)

            async def close(self) -> None:
                """Nothing."""

        w.keys = Meddling()
        done = await w.rewrap()
        assert done.failed == 1
        assert "is disabled" in done.failures[0]
        for key in (b"kept", b"replaced"):
            assert (await w.of(key)).key_version == 2
            await w.opens(key)
        ring.set_disabled("b", False)
        assert (await w.rewrap()).failed == 0
        await w.opens(b"lost")

    run(ring, scenario)


def test_to_a_key_service_and_back(tmp_path: Path) -> None:
    service = FakeKms()
    with running(service):
        keys = open_keys(configured(service, tmp_path), SystemClock())

        async def scenario(w: World) -> None:
            for number in range(20):
                await w.put(b"%d" % number, "own")
            service.fault = (500, {})
            with pytest.raises(KeyServiceUnavailableError):
                await w.rewrap(to="second")
            service.fault = None
            assert (await w.rewrap(to="second")).rewrapped == 20
            assert len(service.calls) <= 2
            assert (await w.of(b"3")).key_id == service.arn("second")
            assert (await w.rewrap(to="second")).rewrapped == 0
            assert (await w.rewrap()).rewrapped == 0
            for number in range(20):
                await w.opens(b"%d" % number)
            assert (await w.rewrap(to="own")).rewrapped == 20
            service.keys.clear()
            for number in range(20):
                await w.opens(b"%d" % number)

        run(keys, scenario)
