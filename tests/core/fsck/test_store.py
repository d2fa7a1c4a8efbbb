"""A real store with two replicas: chunks lost, damaged, left over; and a busy one."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import yaml

from craqen.core.bench.store import LocalStore
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.store import Drop
from craqen.core.client.connect import Client, connect
from craqen.core.client.files import FileClient
from craqen.core.clock import SystemClock
from craqen.core.cluster.records import TargetRecord
from craqen.core.config import load_config
from craqen.core.fsck.findings import Finding, Findings, Silence
from craqen.core.fsck.run import Choice, run_check
from craqen.core.fsck.scan import Check
from craqen.core.ids import ChunkId, TargetId
from craqen.core.kv.store import Transaction
from craqen.core.limits import KIB, MIB
from craqen.core.meta.context import MetaContext
from craqen.core.meta.records import (
    Extent,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
)
from craqen.core.meta.schema import (
    NEXT_ID_KEY,
    SegmentRecord,
    encode,
    id_block_range,
    pack_number,
    segment_key,
    unpack_number,
)
from craqen.core.options import Config
from craqen.core.wire.messages import ChunkRange, LocateReply, LocateRequest, Method

T = TypeVar("T")
GRACE_SECONDS = 0.2
DEADLINE_SECONDS = 20.0


class Store:
    """The store under test, and what is done to it behind its back."""

    def __init__(self, local: LocalStore) -> None:
        self.local = local

    @property
    def config(self) -> Config:
        """What its processes run with."""
        return load_config(f"{self.local.folder}/run/effective.yaml", {})

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run *work* with a client of its own."""

        async def scene() -> T:
            client = await connect(self.config, "test")
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(scene())

    def check(
        self, *, data: bool = False, repair: bool = False, accept_loss: bool = False
    ) -> Findings:
        """A whole check."""

        async def work(client: Client) -> Findings:
            return await checked(self.config, client, Choice(repair, accept_loss), data=data)

        return self.run(work)


async def checked(
    config: Config, client: Client, choice: Choice, *, data: bool = False
) -> Findings:
    """A whole check by *client*."""
    context = MetaContext(
        client.kv,
        SystemClock(),
        removal_grace_seconds=config.meta.removal_grace_seconds,
        feed_retention_seconds=config.meta.feed_retention_seconds,
        client_lease_seconds=config.meta.client_lease_seconds,
    )
    context.client_id = client.meta.client_id
    check = Check(
        client.kv,
        client.meta,
        context,
        client.routing,
        client.connections,
        Findings(),
        Silence(),
        data,
    )
    return await run_check(check, choice)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    options = [
        "CRAQEN_STORAGE_DISKS=['disk1', 'disk2']",
        "CRAQEN_STORAGE_REPLICAS=2",
        f"CRAQEN_META_REMOVAL_GRACE_SECONDS={GRACE_SECONDS}",
        # On a busy host a node may take long to come back, and must not be filled by one that a
        # test has damaged meanwhile.
        "CRAQEN_CLUSTER_LEASE_SECONDS=40",
        "CRAQEN_LOG_LEVEL=error",
    ]
    with LocalStore(workers=1, options=options) as local:
        made = Store(local)
        made.run(make_bucket)
        yield made


@pytest.fixture
def clean(store: Store) -> Iterator[Store]:
    """The store; after the test it is clean as soon as what was deleted is freed."""
    yield store
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := store.check(data=True)).counts.total():
        assert time.monotonic() < deadline, found.all
    assert not found.incomplete


async def make_bucket(client: Client) -> None:
    await client.meta.create_bucket("bucket", owner="me", region="", as_owner=Owner())


async def segment(client: Client, data: bytes) -> tuple[Extent, ...]:
    """Data in a segment that nobody refers to yet."""
    await client.meta.ensure_ids(1)
    number = client.meta.new_segment_id()
    layout = client.meta.layout_of(number, in_place=False)
    writer = client.data.new_segment(number, layout, length_bytes=len(data))
    await writer.write(memoryview(data))
    return await writer.finish()


async def put(client: Client, key: bytes, data: bytes) -> Extent:
    """What an S3 PUT does."""
    extents = await segment(client, data)
    content = NewContent(len(data), None, extents)
    await client.meta.put_object("bucket", key, content, ObjectAttributes(), Owner())
    return extents[0]


async def delete(client: Client, key: bytes) -> None:
    await client.meta.delete_object("bucket", key)


def only(found: Findings, kind: str) -> Finding:
    """The one finding, of this kind."""
    assert dict(found.counts) == {kind: 1}, found.all
    assert not found.incomplete, found.incomplete
    return found.all[0]


def test_a_chunk_that_is_gone_everywhere(clean: Store) -> None:
    async def plant(client: Client) -> None:
        extent = await put(client, b"some/lost.bin", os.urandom(20 * MIB))
        await put(client, b"some/kept.bin", os.urandom(MIB))
        await client.data.remove_chunks(extent.segment_id, extent.layout, 1)

    clean.run(plant)
    finding = only(clean.check(), "chunk-missing")
    assert finding.files == ["bucket/some/lost.bin"]
    assert finding.repair is None
    clean.run(lambda client: delete(client, b"some/lost.bin"))


def test_a_chunk_that_is_too_short(clean: Store) -> None:
    async def plant(client: Client) -> None:
        extents = await segment(client, os.urandom(100 * KIB))
        longer = Extent(0, 300 * KIB, extents[0].segment_id, 0, extents[0].layout)
        content = NewContent(300 * KIB, None, (longer,))
        await client.meta.put_object("bucket", b"short", content, ObjectAttributes(), Owner())

    clean.run(plant)
    finding = only(clean.check(), "chunk-short")
    assert finding.files == ["bucket/short"]
    clean.run(lambda client: delete(client, b"short"))


def test_a_lost_chunk_of_a_part(clean: Store) -> None:
    async def plant(client: Client) -> str:
        upload = await client.meta.create_upload(
            "bucket", b"multi", ObjectAttributes(), Owner(), checksum_algorithm="", checksum_type=""
        )
        extents = await segment(client, os.urandom(MIB))
        await client.meta.put_part(upload, Part(7, MIB, "etag", 0, {}, extents))
        await client.data.remove_chunks(extents[0].segment_id, extents[0].layout, 0)
        return upload.upload_id

    upload_id = clean.run(plant)
    finding = only(clean.check(), "chunk-missing")
    assert finding.subject == f"part 7 of upload {upload_id}"
    clean.run(lambda client: client.meta.abort_upload("bucket", b"multi", upload_id))


def test_a_chunk_that_its_layout_puts_elsewhere(clean: Store) -> None:
    async def plant(client: Client) -> None:
        extent = await put(client, b"moved", os.urandom(MIB))
        layout = extent.layout
        other = msgspec.structs.replace(layout, stripe_seed=layout.stripe_seed + 1)

        async def turn(tx: Transaction) -> None:
            tx.set(segment_key(extent.segment_id), encode(SegmentRecord(1, other)))

        await client.kv.transact(turn)
        found = await checked(clean.config, client, Choice(repair=True))
        finding = only(found, "chunk-misplaced")
        assert not finding.settled

        async def turn_back(tx: Transaction) -> None:
            tx.set(segment_key(extent.segment_id), encode(SegmentRecord(1, layout)))

        await client.kv.transact(turn_back)
        await delete(client, b"moved")

    clean.run(plant)


def test_holes_are_no_damage(clean: Store) -> None:
    async def plant(client: Client) -> None:
        bucket = await client.meta.get_bucket("bucket")
        inode = await client.meta.create(
            bucket.inode_id, b"sparse", InodeType.FILE, mode=0o644, uid=0, gid=0
        )
        files = FileClient(client.meta, client.data, SystemClock())
        file = await files.open(inode.inode_id)
        await files.write(file, 50 * MIB, b"the end")
        await files.release(file)

    clean.run(plant)
    assert clean.check(data=True).counts.total() == 0
    clean.run(lambda client: delete(client, b"sparse"))


def test_a_damaged_byte_on_one_replica(clean: Store) -> None:
    async def plant(client: Client) -> None:
        extent = await put(client, b"rotten", os.urandom(MIB))
        damaged.append(await damage(client, extent))

    damaged: list[int] = []
    clean.run(plant)
    assert clean.check().counts.total() == 0, "only reading shows it"
    finding = only(clean.check(data=True), "chunk-damaged")
    assert finding.files == ["bucket/rotten"]
    assert finding.subject.endswith(f"on target {damaged[0]}")
    repaired = clean.check(data=True, repair=True)
    assert repaired.problems_left() == 0
    assert clean.check(data=True).counts.total() == 0
    clean.run(lambda client: delete(client, b"rotten"))


async def damage(client: Client, extent: Extent) -> int:
    """Turn a byte of the segment's first chunk on the last target of its chain; return which."""
    layout = extent.layout
    chain = client.routing.routing.chain_for(layout.table_id, layout.stripe_seed, 0)
    target_id = chain.targets[-1].target_id
    connection = await client.connections.get(client.routing.routing.node_of(target_id))
    wanted = ChunkRange(extent.segment_id, 0, chain.chain_id, chain.version, 0, 1, relaxed=True)
    reply = await connection.call(Method.LOCATE, LocateRequest((wanted,)), LocateReply)
    place = reply.located[0].place
    descriptor = connection.descriptor(place.file_key)
    at = place.offset_bytes + 70_000
    old = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([old[0] ^ 1]), at)
    return target_id


def test_a_chunk_that_one_replica_lost(clean: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def plant(client: Client) -> tuple[Extent, TargetRecord]:
        extent = await put(client, b"half", os.urandom(MIB))
        layout, routing = extent.layout, client.routing.routing
        chain = routing.chain_for(layout.table_id, layout.stripe_seed, 0)
        target = routing.target(chain.targets[-1].target_id)
        assert target is not None
        return extent, target

    extent, target = clean.run(plant)
    clean.local.stop()
    monkeypatch.setattr("craqen.core.fsck.inventory.RETRY_DELAYS_SECONDS", (0.0,))
    away = clean.check()
    assert len(away.incomplete) >= 2, "both chains cannot be reached"
    assert away.counts.total() == 0
    asyncio.run(lose_chunk(target, ChunkId(extent.segment_id, 0)))
    clean.local.start()
    finding = only(clean.check(), "replicas-differ")
    assert f"target {target.target_id} does not have it" in finding.text
    assert finding.files == ["bucket/half"]
    assert "--repair" in finding.advice
    mended = only(clean.check(repair=True), "replicas-differ")
    assert mended.settled
    assert f"to target {target.target_id}" in mended.done
    assert clean.check(data=True).counts.total() == 0
    clean.run(lambda client: delete(client, b"half"))


async def lose_chunk(target: TargetRecord, chunk_id: ChunkId) -> None:
    """Drop a chunk from a target that nobody serves now."""
    header = yaml.safe_load((Path(target.folder) / "target.yaml").read_text())
    chunks = FileChunkStore(
        Path(target.folder),
        SystemClock(),
        target_id=TargetId(target.target_id),
        cluster_id=header["cluster_id"],
        quarantine_seconds=1.0,
    )
    assert chunks.get(chunk_id) is not None
    await chunks.apply([Drop(chunk_id, None)])
    await chunks.close()


def test_an_orphan(clean: Store) -> None:
    async def plant(client: Client) -> int:
        """A segment as a client leaves it that was forgotten too early."""
        extents = await segment(client, os.urandom(3 * MIB))

        async def forget(tx: Transaction) -> None:
            tx.clear_range(*id_block_range(client.meta.client_id))

        await client.kv.transact(forget)
        return extents[0].segment_id

    number = clean.run(plant)
    finding = only(clean.check(), "orphan")
    assert finding.subject == f"segment {number:x}"
    assert "3145728 bytes" in finding.text
    repaired = clean.check(repair=True)
    assert repaired.problems_left() == 0, repaired.all
    assert "queued for removal" in only(repaired, "orphan").done

    async def wait(client: Client) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while await client.data.list_segment_ids(number, number):
            assert time.monotonic() < deadline, "the reclaimer does not free the orphan"
            await asyncio.sleep(0.05)

    clean.run(wait)


def test_what_a_client_has_not_finished_is_no_orphan(clean: Store) -> None:
    async def scene(client: Client) -> None:
        extents = await segment(client, os.urandom(MIB))
        found = await checked(clean.config, client, Choice(repair=True))
        assert found.counts.total() == 0, found.all
        content = NewContent(MIB, None, extents)
        await client.meta.put_object("bucket", b"late", content, ObjectAttributes(), Owner())
        into = bytearray(MIB)
        await client.data.read(extents, 0, memoryview(into))
        await delete(client, b"late")

    clean.run(scene)


def test_metadata_that_is_older_than_the_chunks(clean: Store) -> None:
    """As after a restore from an old backup: nothing may be freed."""

    async def scene(client: Client) -> None:
        extents = await segment(client, os.urandom(MIB))
        kept: list[bytes] = []

        async def go_back(tx: Transaction) -> None:
            kept[:] = [await tx.get(NEXT_ID_KEY) or b""]
            tx.set(NEXT_ID_KEY, pack_number(extents[0].segment_id))
            tx.clear_range(*id_block_range(client.meta.client_id))

        await client.kv.transact(go_back)
        found = await checked(clean.config, client, Choice(repair=True))
        finding = only(found, "segment-unknown")
        assert not finding.settled
        assert found.lost_metadata

        async def come_back(tx: Transaction) -> None:
            tx.set(NEXT_ID_KEY, kept[0])

        await client.kv.transact(come_back)
        assert unpack_number(kept[0]) > extents[0].segment_id
        await client.data.remove_chunks(extents[0].segment_id, extents[0].layout, 0)

    clean.run(scene)


def test_a_busy_store_gives_no_false_alarm(clean: Store) -> None:
    async def scene(client: Client) -> None:
        stop = asyncio.Event()
        users = [asyncio.create_task(busy(client, stop, number)) for number in range(4)]
        try:
            for _ in range(2):
                code, text = await asyncio.to_thread(fsck, clean, "--data", "--repair", "--json")
                assert code == 0, text
        finally:
            stop.set()
            done = await asyncio.gather(*users)
        assert sum(done) > 10

    clean.run(scene)


async def busy(client: Client, stop: asyncio.Event, number: int) -> int:
    """Large and small objects come and go; a file is written in place all the time."""
    chooser = random.Random(number)
    bucket = await client.meta.get_bucket("bucket")
    inode = await client.meta.create(
        bucket.inode_id, b"place%d" % number, InodeType.FILE, mode=0o644, uid=0, gid=0
    )
    files = FileClient(client.meta, client.data, SystemClock())
    file = await files.open(inode.inode_id)
    done = 0
    while not stop.is_set():
        key = b"busy/%d/%d" % (number, chooser.randrange(4))
        await put(client, key, chooser.randbytes(chooser.choice([40_000, 300_000, MIB])))
        await files.write(file, chooser.randrange(3 * MIB), chooser.randbytes(100_000))
        await files.flush(file)
        if chooser.random() < 0.5:
            await delete(client, key)
        done += 1
    await files.release(file)
    for place in range(4):
        await delete(client, b"busy/%d/%d" % (number, place))
    await delete(client, b"place%d" % number)
    return done


def fsck(store: Store, *words: str) -> tuple[int, str]:
    """The command in a process of its own; its exit code and what it printed."""
    file = f"{store.local.folder}/run/effective.yaml"
    command = [sys.executable, "-m", "craqen.core.cli", "fsck", "--config", file, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


def test_the_command(clean: Store) -> None:
    assert fsck(clean, "--quiet") == (0, "Clean: no problems were found.\n")

    async def plant(client: Client) -> None:
        extent = await put(client, b"esc\x1b[2Jape", os.urandom(MIB))
        await client.data.remove_chunks(extent.segment_id, extent.layout, 0)

    clean.run(plant)
    code, text = fsck(clean)
    assert code == 1
    assert "file: bucket/esc\\x1b[2Jape" in text
    code, text = fsck(clean, "--json", "--repair")
    told: dict[str, Any] = json.loads(text)
    assert code == told["exit_code"] == 1
    assert told["findings"][0]["kind"] == "chunk-missing"
    clean.run(lambda client: delete(client, b"esc\x1b[2Jape"))
    assert fsck(clean, "--accept-loss")[0] == 2
