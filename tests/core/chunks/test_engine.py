"""What only the chunk store on disk can be asked: reopening, damage, full disks, failing disks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.index import ChunkIndex
from craqen.core.chunks.store import Abandon, Drop, Install, Stage
from craqen.core.clock import ManualClock
from craqen.core.errors import DataLossError, DiskError, NoSpaceError, OperatorError
from craqen.core.ids import ChunkId, TargetId, UpdateToken
from craqen.tests.core.chunks.support import (
    QUARANTINE_SECONDS,
    content,
    install,
    open_store,
    replacement,
)

A, B = ChunkId(1, 0), ChunkId(1, 1)


def test_everything_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    async def write() -> dict[ChunkId, bytes]:
        store = open_store(tmp_path)
        chooser, model = random.Random(6), {}
        for number in range(60):
            chunk_id = ChunkId(chooser.randrange(3), chooser.randrange(10))
            data = chooser.randbytes(chooser.randrange(1, 200_000))
            await store.apply(
                [Install(chunk_id, replacement(store, data, number + 1))], durable=number < 50
            )
            model[chunk_id] = data
        store.reserve(5000)
        await store.close()
        return model

    async def check(model: dict[ChunkId, bytes]) -> None:
        clock = ManualClock()
        store = open_store(tmp_path, clock)
        for chunk_id, data in model.items():
            assert content(store, chunk_id) == data
        space = store.space()
        assert (space.chunks, space.blocks_used) == (len(model), len(model))
        assert space.blocks_reserved == 0
        taken = {
            record.committed.block for record in store.scan(ChunkId(0, 0), 1000) if record.committed
        }
        before = {store.reserve(100_000) for _ in range(10)}
        clock.advance(QUARANTINE_SECONDS + 1)
        store.tick()
        assert store.space().blocks_quarantined == 0
        fresh = [store.reserve(100_000) for _ in range(80)]
        assert not taken & set(fresh)
        assert not before & set(fresh)
        assert len(set(fresh)) == 80
        await store.close()

    asyncio.run(check(asyncio.run(write())))


def test_blocks_free_at_open_are_in_quarantine(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"x")
        dropped = replacement(store, b"y", 1)
        await store.apply([Install(B, dropped)])
        await store.apply([Drop(B, None)])
        await store.close()
        clock = ManualClock()
        store = open_store(tmp_path, clock)
        on_disk = store.space().blocks_quarantined
        assert on_disk >= 1
        assert dropped.block not in {store.reserve(1) for _ in range(on_disk + 1)}
        clock.advance(QUARANTINE_SECONDS)
        assert dropped.block in {store.reserve(1) for _ in range(2 * on_disk + 1)}
        await store.close()

    asyncio.run(scenario())


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        with pytest.raises(OperatorError, match="another process"):
            open_store(tmp_path)
        await store.close()
        await store.close()
        await open_store(tmp_path).close()

    asyncio.run(scenario())


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"x")
        await store.close()

        def other(target: int, cluster: str) -> FileChunkStore:
            return FileChunkStore(
                tmp_path,
                ManualClock(),
                target_id=TargetId(target),
                cluster_id=cluster,
                quarantine_seconds=1,
            )

        with pytest.raises(OperatorError, match="target_id is 7, expected 8"):
            other(8, "test")
        with pytest.raises(OperatorError, match="cluster_id is 'test', expected 'else'"):
            other(7, "else")
        header = tmp_path / "target.yaml"
        text = header.read_text()
        header.write_text(text.replace("format: 1", "format: 2"))
        with pytest.raises(OperatorError, match="format is 2"):
            open_store(tmp_path)
        header.write_text("{")
        with pytest.raises(OperatorError, match="cannot be understood"):
            open_store(tmp_path)
        header.unlink()
        with pytest.raises(OperatorError, match="block files but no"):
            open_store(tmp_path)
        header.write_text(text)
        (tmp_path / "index" / "data.mdb").rename(tmp_path / "elsewhere")
        with pytest.raises(DataLossError, match="index is gone"):
            open_store(tmp_path)
        (tmp_path / "elsewhere").rename(tmp_path / "index" / "data.mdb")
        store = open_store(tmp_path)
        assert content(store, A) == b"x"
        await store.close()

    asyncio.run(scenario())


def test_a_creation_cut_short_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(bytes(8192))

    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"x")
        await store.close()

    asyncio.run(scenario())


def damage_record(folder: Path, crc: int) -> None:
    """Flip a bit of every stored record that has this chunk checksum."""
    index = folder / "index" / "data.mdb"
    data = bytearray(index.read_bytes())
    wanted = crc.to_bytes(4, "big")
    position = data.find(wanted)
    assert position >= 0
    while position >= 0:
        data[position] ^= 1
        position = data.find(wanted, position + 1)
    index.write_bytes(data)


def test_a_damaged_index_record_costs_its_chunk_only(tmp_path: Path) -> None:
    damaged = ChunkId(1, 3)

    async def fill() -> int:
        store = open_store(tmp_path)
        for number in range(5):
            await install(store, ChunkId(1, number), b"content %d" % number)
        record = store.get(damaged)
        assert record is not None
        assert record.committed is not None
        await store.close()
        return record.committed.crc32c

    damage_record(tmp_path, asyncio.run(fill()))

    async def check() -> None:
        clock = ManualClock()
        store = open_store(tmp_path, clock)
        with pytest.raises(DataLossError, match=r"1\.3"):
            store.get(damaged)
        with pytest.raises(DataLossError, match=r"1\.3"):
            await store.apply([Drop(A, None), Abandon(damaged)])
        for number in (0, 1, 2, 4):
            assert content(store, ChunkId(1, number)) == b"content %d" % number
        assert [record.chunk_id.index for record in store.scan(A, 9)] == [0, 1, 2, 4]
        assert store.damaged() == {damaged}
        # Nobody knows which block the damaged chunk has: none is given out again, until it is
        # replaced. Blocks freed since are no such riddle.
        await store.apply([Drop(A, None)])
        clock.advance(QUARANTINE_SECONDS + 1)
        store.tick()
        held = store.space().blocks_quarantined
        assert held > 0
        freed = store.reserve(1)
        await install(store, damaged, b"mended")
        assert store.damaged() == frozenset()
        assert content(store, damaged) == b"mended"
        assert store.space().chunks == 4
        assert store.space().blocks_quarantined == held
        clock.advance(QUARANTINE_SECONDS + 1)
        store.tick()
        assert store.space().blocks_quarantined == 0
        assert freed.file_id == store.reserve(1).file_id
        await store.close()
        store = open_store(tmp_path)
        assert store.damaged() == frozenset()
        assert content(store, damaged) == b"mended"
        await store.close()

    asyncio.run(check())


def test_one_block_for_two_chunks_is_not_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"x")
        record = store.get(A)
        assert record is not None
        await store.close()
        index = ChunkIndex(tmp_path / "index")
        index.write([(B, record)], [], [])
        index.close()
        with pytest.raises(DataLossError, match="to two chunks"):
            open_store(tmp_path)

    asyncio.run(scenario())


def test_a_block_file_gone_or_cut_short(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"small")
        await install(store, B, bytes(100_000))
        await store.close()
        (tmp_path / "blocks" / "blocks-0-0").unlink()
        os.truncate(tmp_path / "blocks" / "blocks-1-0", 1000)
        store = open_store(tmp_path)
        for chunk_id in (A, B):
            with pytest.raises(DataLossError):
                content(store, chunk_id)
        other = ChunkId(2, 0)
        await install(store, other, b"fits")
        assert content(store, other) == b"fits"
        with pytest.raises(DataLossError):
            content(store, A)
        await store.close()

    asyncio.run(scenario())


def test_a_flipped_byte_of_a_block_is_never_data(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        data = random.Random(1).randbytes(200_000)
        kept = replacement(store, data, 1)
        await store.apply([Install(A, kept)])
        place = kept.block.offset_bytes + 70_000
        os.pwrite(store.open_file(kept.block.file_id), bytes([data[70_000] ^ 4]), place)
        with pytest.raises(DataLossError, match=r"chunk 1\.0: page 1 "):
            content(store, A)
        await store.close()

    asyncio.run(scenario())


def test_a_full_disk_by_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"kept")

        def full(descriptor: int, offset: int, length: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            for _ in range(3):
                with pytest.raises(NoSpaceError):
                    store.reserve(1 << 20)
            assert content(store, A) == b"kept"
            assert store.space().blocks_reserved == 0
        await install(store, B, bytes(1 << 20))
        assert content(store, B) == bytes(1 << 20)
        await store.close()

    asyncio.run(scenario())


def test_an_allocation_that_fails_stops_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)

        def broken(descriptor: int, offset: int, length: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", broken)
            with pytest.raises(DiskError, match="EIO"):
                store.reserve(1)
        with pytest.raises(DiskError, match="takes no writes"):
            store.reserve(1)
        assert isinstance(store.failure(), DiskError)
        await store.close()

    asyncio.run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = open_store(small_disk / "target", clock)
        filler = random.Random(1).randbytes(1 << 20)
        stored = 0
        with contextlib.suppress(NoSpaceError):
            while True:
                await install(store, ChunkId(1, stored), filler)
                stored += 1
        assert 44 < stored < 64  # the last blocks come one by one, not in steps of eight
        with pytest.raises(NoSpaceError):
            store.reserve(64 << 20)
        for number in range(stored):
            assert content(store, ChunkId(1, number)) == filler
        with contextlib.suppress(OSError), (small_disk / "other").open("wb", buffering=0) as other:
            while True:
                other.write(bytes(4096))
        # Not a byte is left: still the index finds room for what it must remember.
        for group in range(20):
            tokens = [UpdateToken(10 + group, channel, 1) for channel in range(100)]
            await store.apply([Drop(ChunkId(9, group), token) for token in tokens])
        await store.apply([Drop(ChunkId(1, number), None) for number in range(5)])
        clock.advance(QUARANTINE_SECONDS + 1)
        for number in range(4):
            await install(store, ChunkId(2, number), filler)
            assert content(store, ChunkId(2, number)) == filler
        # When the class of small blocks cannot grow any more, the larger free block serves.
        small = 0
        with contextlib.suppress(NoSpaceError):
            while True:
                await install(store, ChunkId(3, small), b"small %d" % small)
                small += 1
        record = store.get(ChunkId(3, small - 1))
        assert record is not None
        assert record.committed is not None
        assert record.committed.block.capacity_bytes == 1 << 20
        await store.close()
        store = open_store(small_disk / "target", clock)
        assert store.space().blocks_used == stored - 1 + small
        for number in range(small):
            assert content(store, ChunkId(3, number)) == b"small %d" % number
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("call", ["fdatasync", "index"])
def test_a_failed_flush_stops_writes_but_not_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await install(store, A, b"kept")

        def broken(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            if call == "fdatasync":
                patch.setattr(os, "fdatasync", broken)
            else:
                patch.setattr(ChunkIndex, "write", broken)
            await store.apply([Stage(A, replacement(store, b"lost", 2))], durable=False)
            outcomes = await asyncio.gather(
                *(install(store, ChunkId(2, number), b"x") for number in range(3)),
                return_exceptions=True,
            )
        assert [type(outcome) for outcome in outcomes] == [DiskError] * 3
        # The disk works again, but what the kernel dropped meanwhile cannot be known.
        for change in (Drop(A, None), Abandon(A)):
            with pytest.raises(DiskError, match="takes no writes"):
                await store.apply([change])
        with pytest.raises(DiskError):
            store.reserve(1)
        assert content(store, A) == b"kept"
        await store.close()
        again = open_store(tmp_path)
        assert content(again, A) == b"kept"
        assert again.get(ChunkId(2, 0)) is None
        await again.close()

    asyncio.run(scenario())


def test_a_failed_last_flush_is_told_at_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        await store.apply([Install(A, replacement(store, b"x", 1))], durable=False)

        def broken(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(DiskError, match="Input/output error"):
            await store.close()
        await open_store(tmp_path).close()

    asyncio.run(scenario())


def test_concurrent_callers_share_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = open_store(tmp_path)
        writes = 0
        real = ChunkIndex.write

        def counted(self: ChunkIndex, *arguments: object) -> None:
            nonlocal writes
            writes += 1
            real(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ChunkIndex, "write", counted)

        async def worker(number: int) -> None:
            for index in range(10):
                await install(store, ChunkId(number, index), b"x")

        await asyncio.gather(*(worker(number) for number in range(16)))
        assert 10 <= writes <= 20
        assert store.space().blocks_used == 160
        await store.close()

    asyncio.run(scenario())


def test_a_late_caller_falls_into_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller ahead of the others does not split the rounds into a small and a large one."""

    async def scenario() -> None:
        store = open_store(tmp_path)
        rounds: list[int] = []
        real = ChunkIndex.write

        def counted(self: ChunkIndex, records: object, *arguments: object) -> None:
            rounds.append(len(records))  # type: ignore[arg-type]
            real(self, records, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ChunkIndex, "write", counted)

        async def worker(number: int) -> None:
            for index in range(10):
                await install(store, ChunkId(number, index), b"x")

        first = asyncio.create_task(worker(0))
        while not rounds:
            await asyncio.sleep(0)
        await asyncio.gather(first, *(worker(number) for number in range(1, 16)))
        assert sum(rounds) == 160
        assert len(rounds) <= 13
        await store.close()

    asyncio.run(scenario())


class Gate:
    """Index writes that wait for leave, and fail when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.broken = False
        real = ChunkIndex.write

        def write(index: ChunkIndex, *arguments: object) -> None:
            self.entered.release()
            assert self.leave.acquire(timeout=30)
            if self.broken:
                raise OSError(errno.EIO, "Input/output error")
            real(index, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ChunkIndex, "write", write)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


def test_the_newest_change_is_seen_while_older_ones_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        gate = Gate(monkeypatch)
        store = open_store(tmp_path)
        one, two = replacement(store, b"one", 1, 1), replacement(store, b"two", 2, 2)
        first = asyncio.create_task(store.apply([Install(A, one)]))
        await gate.reached()
        second = asyncio.create_task(store.apply([Install(A, two)]))
        gate.leave.release()
        await first
        await gate.reached()  # the first round is durable, the second is on its way
        assert content(store, A) == b"two"
        assert [record.committed for record in store.scan(A, 9)] == [two]
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert outcome.version == 2
        assert not second.done()
        gate.leave.release()
        await second
        assert content(store, A) == b"two"
        gate.leave.release()
        await store.close()

    asyncio.run(scenario())


def test_who_waits_behind_a_failed_flush_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        gate = Gate(monkeypatch)
        store = open_store(tmp_path)
        first = asyncio.create_task(install(store, A, b"x"))
        await gate.reached()
        second = asyncio.create_task(install(store, B, b"y"))
        abandoned = asyncio.create_task(install(store, ChunkId(1, 2), b"z"))
        await asyncio.sleep(0)
        abandoned.cancel()
        gate.broken = True
        gate.leave.release()
        for waiting in (first, second):
            with pytest.raises(DiskError, match="cannot be flushed"):
                await waiting
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        await store.close()

    asyncio.run(scenario())


def test_freed_blocks_count_from_when_their_freeing_is_durable(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = open_store(tmp_path, clock)
        kept = replacement(store, b"x", 1)
        await store.apply([Install(A, kept)])
        await store.apply([Drop(A, None)], durable=False)
        assert store.space().blocks_used == 1
        clock.advance(QUARANTINE_SECONDS + 1)
        store.tick()
        await store.apply([])
        assert (store.space().blocks_used, store.space().blocks_quarantined) == (0, 1)
        clock.advance(QUARANTINE_SECONDS - 1)
        store.tick()
        assert store.space().blocks_quarantined == 1
        clock.advance(1)
        store.tick()
        assert store.space().blocks_quarantined == 0
        await store.close()

    asyncio.run(scenario())
