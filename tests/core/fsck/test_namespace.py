"""Damage of every kind, planted in a namespace: found, named, repaired where that is safe."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from craqen.core.errors import CallerError, ConflictError
from craqen.core.ids import ROOT_INODE_ID
from craqen.core.kv.store import Transaction
from craqen.core.meta.accounts import Account, Kind, counter_key
from craqen.core.meta.names import digest_of
from craqen.core.meta.records import CompletedPart, InodeType, ObjectAttributes, Owner, Part
from craqen.core.meta.schema import (
    ENTRY_EXPLICIT,
    SEQUENCE_MAX,
    Entry,
    RemovalRecord,
    SegmentRecord,
    VersionRecord,
    bucket_key,
    completed_key,
    decode_segment,
    decode_version,
    directory_prefix,
    directory_time_key,
    encode,
    encode_entry,
    hidden_folder_key,
    id_block_key,
    inline_key,
    inode_key,
    long_name_key,
    null_version_key,
    pack_number,
    removal_key,
    segment_key,
    session_key,
    upload_key,
    usage_key,
    version_key,
    xattr_key,
)
from craqen.core.meta.version_ids import parse_version_id
from craqen.tests.core.fsck.support import World
from craqen.tests.core.meta.checker import problems

Plant = Callable[[World], Awaitable[None]]
NOWHERE = 0x7777


async def too_many_links(w: World) -> None:
    inode = await w.key(b"plain")
    await w.change_inode(inode.inode_id, lambda one: msgspec.structs.replace(one, nlink=3))


async def named_with_no_links(w: World) -> None:
    inode = await w.make_file(w.bucket_id, b"second")
    await w.meta.link(inode.inode_id, w.bucket_id, b"third")
    await w.meta.unlink(w.bucket_id, b"second")
    await w.meta.unlink(w.bucket_id, b"third")
    entry = Entry(inode.inode_id, InodeType.FILE, 0)
    await w.set_row(directory_prefix(w.bucket_id) + b"back", encode_entry(entry))


async def file_without_name(w: World) -> None:
    await w.set_row(directory_prefix(w.bucket_id) + b"plain", None)


async def folder_without_name(w: World) -> None:
    folder = await w.make_folder(w.bucket_id, b"folder")
    await w.make_file(folder, b"inside")
    await w.set_row(directory_prefix(w.bucket_id) + b"folder/", None)


async def folder_whose_name_is_taken(w: World) -> None:
    await folder_without_name(w)
    await w.make_folder(w.bucket_id, b"folder")


async def folder_elsewhere(w: World) -> None:
    folder = await w.make_folder(w.bucket_id, b"folder")
    await w.change_inode(folder, lambda one: msgspec.structs.replace(one, name=b"other"))


async def folder_below_itself(w: World) -> None:
    upper = await w.make_folder(w.bucket_id, b"upper")
    lower = await w.make_folder(upper, b"lower")
    await w.set_row(directory_prefix(w.bucket_id) + b"upper/", None)
    entry = encode_entry(Entry(upper, InodeType.DIRECTORY, ENTRY_EXPLICIT))
    await w.set_row(directory_prefix(lower) + b"upper/", entry)
    await w.change_inode(upper, lambda one: msgspec.structs.replace(one, parent_id=lower))


async def empty_implicit_folder(w: World) -> None:
    value = await w.row(directory_prefix(w.bucket_id) + b"a/")
    assert value is not None
    folder = await w.make_folder(w.bucket_id, b"folder")
    await w.change_inode(folder, lambda one: msgspec.structs.replace(one, explicit=False))
    entry = encode_entry(Entry(folder, InodeType.DIRECTORY, 0))
    await w.set_row(directory_prefix(w.bucket_id) + b"folder/", entry)


async def name_without_inode(w: World) -> None:
    entry = encode_entry(Entry(NOWHERE, InodeType.FILE, 0))
    await w.set_row(directory_prefix(w.bucket_id) + b"ghost", entry)


async def name_without_folder(w: World) -> None:
    inode = await w.key(b"plain")
    await w.set_row(directory_prefix(w.bucket_id) + b"plain", None)
    entry = encode_entry(Entry(inode.inode_id, InodeType.FILE, 0))
    await w.set_row(directory_prefix(NOWHERE) + b"plain", entry)


async def wrong_type(w: World) -> None:
    inode = await w.key(b"plain")
    entry = encode_entry(Entry(inode.inode_id, InodeType.SYMLINK, 0))
    await w.set_row(directory_prefix(w.bucket_id) + b"plain", entry)


async def wrong_flag(w: World) -> None:
    folder = await w.make_folder(w.bucket_id, b"folder")
    entry = encode_entry(Entry(folder, InodeType.DIRECTORY, 0))
    await w.set_row(directory_prefix(w.bucket_id) + b"folder/", entry)


async def long_name_unknown(w: World) -> None:
    await w.put(b"n" * 300, b"x")
    await w.set_row(long_name_key(w.bucket_id, digest_of(b"n" * 300)), None)


async def digest_of_nothing(w: World) -> None:
    await w.set_row(long_name_key(w.bucket_id, digest_of(b"m" * 300)), b"m" * 300)


async def removed_but_not_queued(w: World) -> None:
    inode = await w.make_file(w.bucket_id, b"second")
    await w.meta.unlink(w.bucket_id, b"second")
    await _empty_queue(w)
    assert await w.row(inode_key(inode.inode_id)) is not None


async def _empty_queue(w: World) -> None:
    async def clear(tx: Transaction) -> None:
        tx.clear_range(b"q", b"r")

    await w.edit(clear)


async def usage_is_off(w: World) -> None:
    async def add(tx: Transaction) -> None:
        tx.add(usage_key(w.bucket_id, 3, b"b"), 1000)
        tx.add(usage_key(w.bucket_id, 3, b"o"), -1)

    await w.edit(add)


async def usage_of_a_user_is_off(w: World) -> None:
    async def add(tx: Transaction) -> None:
        tx.add(counter_key(Account(Kind.USER, 4711), 3, b"o"), 1)

    await w.edit(add)


async def usage_of_a_folder_is_off(w: World) -> None:
    folder = await w.meta.create(
        w.bucket_id, b"limited", InodeType.DIRECTORY, mode=0o755, uid=0, gid=0
    )
    account = Account(Kind.DIRECTORY, folder.inode_id)
    await w.meta.set_quota(account, size_bytes=1 << 30, files=0)
    await w.meta.settle_quota(folder.inode_id)

    async def add(tx: Transaction) -> None:
        tx.add(counter_key(account, 3, b"b"), 7)

    await w.edit(add)


async def usage_of_parts_is_off(w: World) -> None:
    async def add(tx: Transaction) -> None:
        tx.add(usage_key(w.bucket_id, 3, b"p"), 5)

    await w.edit(add)


async def counted_too_high(w: World) -> None:
    _, segment = await w.write_in_place(b"large")
    await _count(w, segment, 5)


async def counted_too_low(w: World) -> None:
    _, segment = await w.write_in_place(b"large")
    await _count(w, segment, 0)
    record = RemovalRecord(0, segment, w.meta.layout_of(segment, in_place=True), 0)
    await w.set_row(removal_key(w.clock.wall_ns() + 10**12, 1), encode(record))


async def not_counted(w: World) -> None:
    _, segment = await w.write_in_place(b"large")
    await w.set_row(segment_key(segment), None)


async def held_by_nobody(w: World) -> None:
    await w.meta.ensure_ids(1)
    await _count(w, w.meta.new_segment_id(), 1)


async def freed_but_not_queued(w: World) -> None:
    await w.meta.ensure_ids(1)
    await _count(w, w.meta.new_segment_id(), 0)


async def _count(w: World, segment: int, references: int) -> None:
    layout = w.meta.layout_of(segment, in_place=True)
    await w.set_row(segment_key(segment), encode(SegmentRecord(references, layout)))


async def inline_content_gone(w: World) -> None:
    await w.set_row(inline_key((await w.key(b"plain")).inode_id), None)


async def inline_content_of_nobody(w: World) -> None:
    await w.set_row(inline_key(NOWHERE), b"content")


async def attribute_of_nobody(w: World) -> None:
    await w.set_row(xattr_key(NOWHERE, b"user.x"), b"value")


async def time_of_nobody(w: World) -> None:
    await w.set_row(directory_time_key(NOWHERE), pack_number(5))


async def session_of_nobody(w: World) -> None:
    inode = await w.key(b"plain")
    await w.set_row(session_key(inode.inode_id, 99, 1), b"w")


async def ids_of_nobody(w: World) -> None:
    await w.set_row(id_block_key(99, 1024), pack_number(1030))


async def usage_of_nobody(w: World) -> None:
    await w.set_row(usage_key(NOWHERE, 0, b"b"), bytes(8))


async def _upload(w: World) -> str:
    upload = await w.meta.create_upload(
        "bucket", b"multi", ObjectAttributes(), Owner(), checksum_algorithm="", checksum_type=""
    )
    _, segment = await w.write_in_place(b"large")
    inode = await w.key(b"large")
    extent = msgspec.structs.replace(inode.extents[0], length_bytes=1 << 20)
    assert extent.segment_id == segment
    await w.meta.put_part(upload, Part(1, 1 << 20, "etag", 0, {}, (extent,)))
    return upload.upload_id


async def part_without_upload(w: World) -> None:
    upload_id = await _upload(w)
    await w.set_row(upload_key(w.bucket_id, b"multi", upload_id), None)


async def bucket_without_record(w: World) -> None:
    await w.set_row(bucket_key("bucket"), None)


async def unreadable_inode(w: World) -> None:
    await w.set_row(inode_key((await w.key(b"plain")).inode_id), b"\x01rubbish")


async def extents_overlap(w: World) -> None:
    inode, _ = await w.write_in_place(b"large")
    first = inode.extents[0]
    await w.change_inode(
        inode.inode_id, lambda one: msgspec.structs.replace(one, extents=(first, first))
    )


async def _versions(w: World) -> tuple[int, int]:
    """A key with a noncurrent version (its inode and sequence), a deleted one, a hidden folder."""
    await w.meta.set_bucket_versioning("bucket", enabled=True)
    await w.put(b"key", b"first")
    inode = await w.key(b"key")
    await w.put(b"key", b"second")
    await w.meta.delete_object("bucket", b"deleted")
    await w.put(b"hidden/key", b"third")
    await w.meta.delete_object("bucket", b"hidden/key")
    page = await w.meta.list_object_versions("bucket", prefix=b"key")
    sequence = parse_version_id(page.entries[1].version_id)
    assert sequence is not None
    return inode.inode_id, sequence


async def version_without_record(w: World) -> None:
    _, sequence = await _versions(w)
    await w.set_row(version_key(w.bucket_id, b"key", sequence), None)


async def version_not_marked(w: World) -> None:
    number, _ = await _versions(w)
    await w.change_inode(number, lambda one: msgspec.structs.replace(one, noncurrent=False))


async def version_of_nothing(w: World) -> None:
    await _versions(w)
    record = VersionRecord(NOWHERE, InodeType.FILE, False, 5)
    await w.set_row(version_key(w.bucket_id, b"key", 5), encode(record))


async def version_in_no_folder(w: World) -> None:
    number, sequence = await _versions(w)
    await w.set_row(version_key(w.bucket_id, b"key", sequence), None)
    record = VersionRecord(number, InodeType.FILE, False, 5)
    await w.set_row(version_key(NOWHERE, b"key", sequence), encode(record))


async def marker_in_no_folder(w: World) -> None:
    await _versions(w)
    await w.set_row(version_key(NOWHERE, b"key", 5), encode(VersionRecord(0, 0, False, 5)))


async def marker_gone(w: World) -> None:
    await _versions(w)
    gone = await w.meta.delete_object("bucket", b"key")
    sequence = parse_version_id(gone.version_id)
    assert sequence is not None
    await w.set_row(version_key(w.bucket_id, b"key", sequence), None)


async def version_too_new(w: World) -> None:
    await _versions(w)
    record = encode(VersionRecord(0, 0, False, 5))
    await w.set_row(version_key(w.bucket_id, b"key", SEQUENCE_MAX), record)


async def null_not_told_of(w: World) -> None:
    await _versions(w)
    await w.put(b"plain", b"new")
    await w.set_row(null_version_key(w.bucket_id, b"plain"), None)


async def null_told_of_nothing(w: World) -> None:
    await _versions(w)
    await w.set_row(null_version_key(w.bucket_id, b"key"), pack_number(7))


async def hidden_folder_of_nothing(w: World) -> None:
    await _versions(w)
    gone = await w.meta.delete_object("bucket", b"empty/key")
    page = await w.meta.list_object_versions("bucket", prefix=b"empty/key")
    assert page.entries[0].version_id == gone.version_id
    sequence = parse_version_id(gone.version_id)
    assert sequence is not None
    value = await w.row(hidden_folder_key(w.bucket_id, b"empty"))
    assert value is not None
    folder = decode_version(value).inode_id
    await w.set_row(version_key(folder, b"key", sequence), None)


async def hidden_folder_with_a_name(w: World) -> None:
    await _versions(w)
    folder = await w.make_folder(w.bucket_id, b"folder")
    record = VersionRecord(folder, InodeType.DIRECTORY, False, 5)
    await w.set_row(hidden_folder_key(w.bucket_id, b"folder"), encode(record))


async def name_in_hidden_folder(w: World) -> None:
    await _versions(w)
    value = await w.row(hidden_folder_key(w.bucket_id, b"hidden"))
    assert value is not None
    inode = await w.key(b"plain")
    await w.set_row(directory_prefix(w.bucket_id) + b"plain", None)
    entry = encode_entry(Entry(inode.inode_id, InodeType.FILE, 0))
    await w.set_row(directory_prefix(decode_version(value).inode_id) + b"plain", entry)


SAFE: list[tuple[Plant, str, str]] = [
    (version_without_record, "inode-without-name", "has no name"),
    (version_not_marked, "version-inode", "bucket/key (version"),
    (version_in_no_folder, "version-without-folder", "key (version"),
    (marker_in_no_folder, "version-without-folder", ""),
    (marker_gone, "version-newest", "bucket/key (version"),
    (null_not_told_of, "version-null", "bucket/plain (version null)"),
    (null_told_of_nothing, "null-leftover", ""),
    (hidden_folder_of_nothing, "hidden-empty", ""),
    (hidden_folder_with_a_name, "hidden-folder", "bucket/folder"),
    (name_in_hidden_folder, "entry-hidden", "bucket/hidden/plain"),
    (too_many_links, "link-count", "bucket/plain"),
    (named_with_no_links, "link-count", "bucket/back"),
    (file_without_name, "inode-without-name", "has no name"),
    (folder_without_name, "folder-without-name", "has no name"),
    (folder_whose_name_is_taken, "folder-without-name", "has no name"),
    (folder_elsewhere, "folder-place", "bucket/folder/"),
    (folder_below_itself, "folder-cycle", "upper"),
    (empty_implicit_folder, "folder-empty", "bucket/folder/"),
    (name_without_folder, "entry-without-folder", "plain"),
    (wrong_type, "entry-type", "bucket/plain"),
    (wrong_flag, "entry-flag", "bucket/folder/"),
    (long_name_unknown, "long-name", "bucket/nnn"),
    (digest_of_nothing, "digest-leftover", ""),
    (removed_but_not_queued, "inode-unqueued", ""),
    (usage_is_off, "usage", ""),
    (usage_of_a_user_is_off, "usage", ""),
    (usage_of_a_folder_is_off, "usage", ""),
    (usage_of_parts_is_off, "usage", ""),
    (counted_too_high, "segment-overcounted", ""),
    (counted_too_low, "segment-undercounted", "bucket/large"),
    (not_counted, "segment-undercounted", "bucket/large"),
    (freed_but_not_queued, "segment-unqueued", ""),
    (time_of_nobody, "time-leftover", ""),
    (session_of_nobody, "session-leftover", ""),
    (ids_of_nobody, "ids-leftover", ""),
    (usage_of_nobody, "usage-leftover", ""),
]
TRACES: list[tuple[Plant, str, str]] = [
    (name_without_inode, "entry-without-inode", "bucket/ghost"),
    (version_of_nothing, "version-without-inode", "bucket/key (version"),
    (held_by_nobody, "segment-unheld", ""),
    (inline_content_of_nobody, "inline-leftover", ""),
    (attribute_of_nobody, "attribute-leftover", ""),
    (part_without_upload, "parts-without-upload", ""),
]
REPORTED: list[tuple[Plant, str, str]] = [
    (inline_content_gone, "inline-missing", "bucket/plain"),
    (version_too_new, "version-order", ""),
    (bucket_without_record, "bucket-record", "bucket/"),
    (unreadable_inode, "record-unreadable", ""),
    (extents_overlap, "extents", "bucket/large"),
]


def names(cases: list[tuple[Plant, str, str]]) -> list[str]:
    return [plant.__name__ for plant, _, _ in cases]


async def planted(plant: Plant, kind: str, file: str) -> World:
    """A world with damage, which a check without repairs finds, names and leaves as it is."""
    w = await World.make()
    assert (await w.check()).counts.total() == 0
    await plant(w)
    before = await problems(w.kv) if kind != "record-unreadable" else []
    found = await w.check()
    assert kind in found.counts, found.all
    finding = next(one for one in found.all if one.kind == kind)
    if file:
        assert any(file in name for name in finding.files), finding.files
    assert not finding.settled
    assert finding.advice
    assert not found.incomplete
    assert not found.unsettled
    if kind != "record-unreadable":
        assert await problems(w.kv) == before
    return w


@pytest.mark.parametrize(("plant", "kind", "file"), SAFE, ids=names(SAFE))
def test_what_is_safe_is_repaired(plant: Plant, kind: str, file: str) -> None:
    async def scene() -> None:
        w = await planted(plant, kind, file)
        repaired = await w.check(repair=True)
        assert repaired.problems_left() == 0, repaired.all
        assert not repaired.incomplete
        assert next(one for one in repaired.all if one.kind == kind).done
        assert await problems(w.kv) == []
        again = await w.check()
        assert again.counts.total() == 0, again.all

    asyncio.run(scene())


@pytest.mark.parametrize(("plant", "kind", "file"), TRACES, ids=names(TRACES))
def test_traces_of_lost_metadata_go_only_by_consent(plant: Plant, kind: str, file: str) -> None:
    async def scene() -> None:
        w = await planted(plant, kind, file)
        careful = await w.check(repair=True)
        assert not next(one for one in careful.all if one.kind == kind).settled
        assert kind in (await w.check()).counts
        accepted = await w.check(repair=True, accept_loss=True)
        assert accepted.problems_left() == 0, accepted.all
        assert await problems(w.kv) == []
        assert (await w.check()).counts.total() == 0

    asyncio.run(scene())


@pytest.mark.parametrize(("plant", "kind", "file"), REPORTED, ids=names(REPORTED))
def test_what_cannot_be_repaired_is_told(plant: Plant, kind: str, file: str) -> None:
    async def scene() -> None:
        w = await planted(plant, kind, file)
        tried = await w.check(repair=True, accept_loss=True)
        assert not next(one for one in tried.all if one.kind == kind).settled
        assert tried.problems_left() > 0

    asyncio.run(scene())


def test_nothing_is_freed_while_metadata_seems_lost() -> None:
    async def scene() -> None:
        w = await World.make()
        await freed_but_not_queued(w)
        await name_without_inode(w)
        found = await w.check(repair=True)
        unqueued = next(one for one in found.all if one.kind == "segment-unqueued")
        assert not unqueued.settled
        assert "metadata was lost" in unqueued.advice

    asyncio.run(scene())


def test_content_comes_back_in_lost_and_found() -> None:
    async def scene() -> None:
        w = await World.make()
        inode = await w.key(b"plain")
        await file_without_name(w)
        await w.check(repair=True)
        view = await w.meta.get_object("bucket", f"lost+found/inode-{inode.inode_id:x}".encode())
        assert view.inline_data == b"content"

    asyncio.run(scene())


def test_a_count_that_was_too_low_no_longer_frees_the_file() -> None:
    async def scene() -> None:
        w = await World.make()
        await counted_too_low(w)
        await w.check(repair=True)
        inode = await w.key(b"large")
        value = await w.row(segment_key(inode.extents[0].segment_id))
        assert value is not None
        assert decode_segment(value).references == 1
        w.clock.advance(10_000)
        assert await w.meta.due_removals(limit=10) == []

    asyncio.run(scene())


async def busy(
    w: World, stop: asyncio.Event, chooser: random.Random, *, versioned: bool = False
) -> int:
    """Everything that a namespace is asked to do, until told to stop; return how much."""
    done = 0
    while not stop.is_set():
        keys = [f"dir{chooser.randrange(4)}/k{number}".encode() for number in range(6)]
        key, other = chooser.sample(keys, 2)
        step = chooser.randrange(12 if versioned else 9)
        try:
            if step == 0:
                await w.put(key, b"x" * chooser.randrange(1, 50))
            elif step == 1:
                await w.meta.delete_object("bucket", key)
            elif step == 2:
                await w.write_in_place(f"f{chooser.randrange(5)}".encode())
            elif step == 3:
                await w.meta.unlink(w.bucket_id, f"f{chooser.randrange(5)}".encode())
            elif step == 4:
                name = f"f{chooser.randrange(5)}".encode()
                await w.meta.rename(w.bucket_id, name, w.bucket_id, name + b"2")
            elif step == 5:
                inode = await w.meta.lookup(w.bucket_id, f"f{chooser.randrange(5)}".encode())
                await w.meta.link(inode.inode_id, w.bucket_id, f"l{done}".encode())
                await w.meta.unlink(w.bucket_id, f"l{done}".encode())
            elif step == 6:
                name = f"f{chooser.randrange(5)}".encode()
                await w.meta.copy_object(
                    "bucket", name, "bucket", other, Owner(), attributes=None,
                    source_generation=None,
                )  # fmt: skip
            elif step == 7:
                await _complete(w, f"f{chooser.randrange(5)}".encode(), key)
            elif step == 9:
                await w.meta.set_bucket_versioning("bucket", enabled=chooser.random() < 0.7)
            elif step > 9:
                page = await w.meta.list_object_versions("bucket")
                for entry in chooser.sample(page.entries, 2 * len(page.entries) // 3):
                    await w.meta.delete_object("bucket", entry.key, version_id=entry.version_id)
            else:
                w.clock.advance(70)
                await w.meta.renew_client()
                items = await w.meta.due_removals(limit=100)
                await w.meta.finish_removal(items)
        except (CallerError, ConflictError):
            pass
        done += 1
        await asyncio.sleep(0)
    return done


async def _complete(w: World, source: bytes, key: bytes) -> None:
    """A multipart upload whose only part refers to another file's bytes."""
    view = await w.meta.get_object("bucket", source)
    upload = await w.meta.create_upload(
        "bucket", key, ObjectAttributes(), Owner(), checksum_algorithm="", checksum_type=""
    )
    await asyncio.sleep(0)
    part = await w.meta.copy_part(upload, 1, view, 0, view.inode.size, "e", {})
    await asyncio.sleep(0)
    await w.meta.complete_upload(upload, [CompletedPart(1, part.etag)], etag="m", checksums={})


@pytest.mark.parametrize("seed", range(4))
def test_a_busy_namespace_gives_no_false_alarm(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few rows, so that hundreds of changes fall between them."""
    monkeypatch.setattr("craqen.core.fsck.scan.PAGE_ROWS", 3)
    for module in ("scan", "holders", "uploads", "leftovers"):
        monkeypatch.setattr(f"craqen.core.fsck.{module}.LARGE_PAGE_ROWS", 2)
    monkeypatch.setattr("craqen.core.fsck.inodes.INODES_PER_PAGE", 2)
    for name in ("REFERENCE_WINDOW_IDS", "LINK_WINDOW_IDS"):
        monkeypatch.setattr(f"craqen.core.fsck.run.{name}", 512)

    async def scene() -> None:
        w = await World.make()
        stop = asyncio.Event()
        users = [
            asyncio.create_task(
                busy(w, stop, random.Random(10 * seed + number), versioned=seed > 1)
            )
            for number in range(3)
        ]
        for _ in range(3):
            found = await w.check(repair=True, interleaved=True)
            assert found.counts.total() == 0, found.all
            assert not found.incomplete
        stop.set()
        assert sum(await asyncio.gather(*users)) > 100
        assert await problems(w.kv) == []
        quiet = await w.check()
        assert quiet.counts.total() == 0, quiet.all
        assert not quiet.unsettled

    asyncio.run(scene())


def test_the_root_and_a_fresh_store_are_clean() -> None:
    async def scene() -> None:
        w = await World.make()
        await w.set_row(completed_key("0" * 40), b"")
        found = await w.check()
        assert found.counts.total() == 0
        assert await w.row(inode_key(ROOT_INODE_ID)) is not None

    asyncio.run(scene())
