"""A bucket that is renamed through the mount keeps its multipart uploads."""

from __future__ import annotations

import asyncio

import pytest

from craqen.core.clock import ManualClock
from craqen.core.errors import BucketNotFoundError
from craqen.core.ids import ROOT_INODE_ID
from craqen.core.kv.open import open_store
from craqen.core.limits import MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import CompletedPart, Extent, ObjectAttributes, Owner, Part
from craqen.core.options import MetaOptions


async def part(store: LocalMetaStore, number: int, length: int) -> Part:
    await store.ensure_ids(1)
    segment = store.new_segment_id()
    layout = store.layout_of(segment, in_place=False)
    return Part(number, length, f"e{number}", 0, {}, (Extent(0, length, segment, 0, layout),))


async def scene(store: LocalMetaStore) -> None:
    owner = Owner(1, 2)
    await store.create_bucket("before", owner="me", region="", as_owner=owner)
    upload = await store.create_upload(
        "before", b"big", ObjectAttributes(), owner, checksum_algorithm="", checksum_type=""
    )
    await store.put_part(upload, await part(store, 1, 5 * MIB))
    await store.rename(ROOT_INODE_ID, b"before", ROOT_INODE_ID, b"after")
    with pytest.raises(BucketNotFoundError):
        await store.get_upload("before", b"big", upload.upload_id)
    found = await store.get_upload("after", b"big", upload.upload_id)
    assert found.bucket == "after"
    uploads, _ = await store.list_uploads("after")
    assert [one.upload_id for one in uploads] == [upload.upload_id]
    await store.put_part(found, await part(store, 2, 10))
    parts, _ = await store.list_parts(found)
    assert [one.number for one in parts] == [1, 2]
    named = [CompletedPart(1, "e1"), CompletedPart(2, "e2")]
    await store.complete_upload(found, named, etag="x-2", checksums={})
    view = await store.get_object("after", b"big")
    assert view.inode.size == 5 * MIB + 10


def test_uploads_go_on_under_the_new_name() -> None:
    async def main() -> None:
        kv = open_store("memory:")
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        try:
            await scene(store)
        finally:
            await store.close()
            await kv.close()

    asyncio.run(main())
