"""One suite for every chunk store, and what only the one on disk can be asked: crashes, damage,
full disks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.checksum import crc32c, page_checksums
from craqen.core.chunks.content import NewContent as Made
from craqen.core.chunks.content import (
    appended,
    can_append,
    overlaid,
    present_content,
    replaced,
    truncated,
)
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.memory import MemoryChunkStore
from craqen.core.chunks.store import (
    Abandon,
    ChunkStore,
    ChunkVersion,
    Commit,
    Drop,
    Install,
    Stage,
    StageRemove,
)
from craqen.core.clock import ManualClock
from craqen.core.errors import DataLossError, InvalidArgumentError, NoSpaceError, OperatorError
from craqen.core.ids import ChunkId, UpdateToken

A, B = ChunkId(1, 0), ChunkId(1, 1)
Scenario = Callable[[ChunkStore, ManualClock], Awaitable[None]]


def version(made: Made, number: int, sequence: int = 1) -> ChunkVersion:
    token = UpdateToken(9, 1, sequence)
    return ChunkVersion(
        number, 1, made.length_bytes, made.crc32c, made.page_crcs, made.block, token
    )


def content(store: ChunkStore, chunk_id: ChunkId) -> bytes:
    record = store.get(chunk_id)
    assert record is not None
    assert record.committed is not None
    into = bytearray(record.committed.length_bytes)
    present_content(store, chunk_id, record.committed).read_into(0, memoryview(into))
    assert crc32c(into) == record.committed.crc32c
    assert page_checksums(into) == record.committed.page_crcs
    return bytes(into)


@pytest.fixture(params=["memory", "file"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    async def scene(scenario: Scenario) -> None:
        clock = ManualClock()
        store: ChunkStore
        if request.param == "memory":
            store = MemoryChunkStore(clock, quarantine_seconds=60)
        else:
            store = FileChunkStore(tmp_path / "target", clock, quarantine_seconds=60)
        try:
            await scenario(store, clock)
        finally:
            await store.close()

    return lambda scenario: asyncio.run(scene(scenario))


def test_stage_commit_read_drop(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        data = random.Random(1).randbytes(200_000)
        made = replaced(store, memoryview(data))
        await store.apply([Stage(A, version(made, 1))])
        record = store.get(A)
        assert record is not None
        assert record.committed is None
        assert store.outcome(9, 1) is None
        await store.apply([Commit(A, 1, 1)])
        assert content(store, A) == data
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert (outcome.version, outcome.length_bytes) == (1, 200_000)
        await store.apply([Commit(A, 1, 1)])
        await store.apply([StageRemove(A, UpdateToken(9, 1, 2), 1)])
        assert content(store, A) == data
        await store.apply([Commit(A, 2, 1)])
        assert store.get(A) is None
        assert store.space().blocks_used == 0

    run(scenario)


def test_freed_blocks_wait_out_their_quarantine(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        made = replaced(store, memoryview(b"old"))
        await store.apply([Install(A, version(made, 1))])
        await store.apply([Drop(A, None)])
        clock.advance(59)
        store.tick()
        other = store.reserve(3)
        assert other != made.block
        clock.advance(2)
        store.tick()
        assert store.reserve(3) == made.block
        store.release(other)
        assert store.reserve(3) == other

    run(scenario)


def test_versions_share_an_appended_block(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        data = random.Random(2).randbytes(70_000)
        first = version(replaced(store, memoryview(data)), 1)
        await store.apply([Install(A, first)])
        more = random.Random(3).randbytes(30_000)
        made = appended(store, first, 80_000, memoryview(more))
        assert made.block == first.block
        await store.apply([Stage(A, version(made, 2, 2))])
        assert content(store, A) == data
        await store.apply([Abandon(A)])
        assert content(store, A) == data
        assert store.space().blocks_used == 1
        made = appended(store, first, 70_000, memoryview(more))
        await store.apply([Install(A, version(made, 2, 3))])
        assert content(store, A) == data + more
        assert store.space().blocks_used == 1

    run(scenario)


def test_any_sequence_of_writes_equals_a_bytearray(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        chooser = random.Random(4)
        model = bytearray()
        current: ChunkVersion | None = None
        for number in range(1, 120):
            offset, length = (
                chooser.randrange(300_000),
                chooser.choice([0, 1, 5000, 65536, 140_000]),
            )
            data = chooser.randbytes(length)
            if chooser.random() < 0.15:
                made = truncated(store, A, current, offset)
                model = model[:offset] + bytes(max(0, offset - len(model)))
            else:
                if current is not None and can_append(current, offset, length):
                    made = appended(store, current, offset, memoryview(data))
                else:
                    made = overlaid(store, A, current, offset, memoryview(data))
                model += bytes(max(0, offset + length - len(model)))
                model[offset : offset + length] = data
            current = version(made, number, number)
            await store.apply([Install(A, current)], durable=number % 3 == 0)
            assert content(store, A) == model, number
        await store.apply([])  # freed blocks count as used until their freeing is durable
        assert store.space().blocks_used == 1

    run(scenario)


def test_scan_in_order_with_changes_on_their_way(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        ids = [ChunkId(segment, index) for segment in (1, 2, 300) for index in range(4)]
        for number, chunk_id in enumerate(random.Random(5).sample(ids, len(ids))):
            made = replaced(store, memoryview(b"x"))
            await store.apply([Install(chunk_id, version(made, 1))], durable=number % 2 == 0)
        await store.apply([Drop(ChunkId(2, 1), None)], durable=False)
        ids.remove(ChunkId(2, 1))
        assert [record.chunk_id for record in store.scan(ChunkId(0, 0), 100)] == ids
        assert [record.chunk_id for record in store.scan(ChunkId(2, 1), 2)] == ids[5:7]

    run(scenario)


def test_sizes_out_of_range(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        for size in (0, (64 << 20) + 1):
            with pytest.raises(InvalidArgumentError):
                store.reserve(size)
        assert store.reserve(65_537).capacity_bytes == 131_072

    run(scenario)


def test_a_client_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ChunkStore, clock: ManualClock) -> None:
        await store.apply([Install(A, version(replaced(store, memoryview(b"x")), 1))])
        assert store.outcome(9, 1) is not None
        store.forget_client(9)
        await store.apply([Install(B, version(replaced(store, memoryview(b"x")), 1, 5))])
        outcome = store.outcome(9, 1)
        assert outcome is not None
        assert outcome.chunk_id == B

    run(scenario)


def test_everything_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    async def write() -> dict[ChunkId, bytes]:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        chooser, model = random.Random(6), {}
        for number in range(60):
            chunk_id = ChunkId(chooser.randrange(3), chooser.randrange(10))
            data = chooser.randbytes(chooser.randrange(1, 200_000))
            record = store.get(chunk_id)
            next_version = (
                1 if record is None or record.committed is None else record.committed.version + 1
            )
            made = replaced(store, memoryview(data))
            await store.apply([Install(chunk_id, version(made, next_version, number + 1))])
            model[chunk_id] = data
        store.reserve(5000)
        await store.close()
        return model

    async def check(model: dict[ChunkId, bytes]) -> None:
        clock = ManualClock()
        store = FileChunkStore(tmp_path, clock, quarantine_seconds=60)
        for chunk_id, data in model.items():
            assert content(store, chunk_id) == data
        space = store.space()
        assert (space.chunks, space.blocks_used, space.blocks_reserved) == (
            len(model),
            len(model),
            0,
        )
        taken = {
            record.committed.block for record in store.scan(ChunkId(0, 0), 1000) if record.committed
        }
        clock.advance(61)
        store.tick()
        fresh = [store.reserve(100_000) for _ in range(80)]
        assert not taken & set(fresh)
        assert len(set(fresh)) == 80
        await store.close()

    asyncio.run(check(asyncio.run(write())))


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        with pytest.raises(OperatorError, match="another process"):
            FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        await store.close()
        await FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60).close()

    asyncio.run(scenario())


def test_a_damaged_index_record_costs_its_chunk_only(tmp_path: Path) -> None:
    async def fill() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        for number in range(5):
            made = replaced(store, memoryview(b"content %d" % number))
            await store.apply([Install(ChunkId(1, number), version(made, 1, number + 1))])
        await store.close()

    asyncio.run(fill())
    index = tmp_path / "index" / "data.mdb"
    data = bytearray(index.read_bytes())
    wanted = crc32c(b"content 3").to_bytes(4, "big")
    places = [at for at in range(len(data)) if data[at : at + 4] == wanted]
    assert places
    for at in places:
        data[at] ^= 1
    index.write_bytes(data)

    async def check() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        with pytest.raises(DataLossError, match=r"1\.3"):
            store.get(ChunkId(1, 3))
        assert store.damaged() == {ChunkId(1, 3)}
        for number in (0, 1, 2, 4):
            assert content(store, ChunkId(1, number)) == b"content %d" % number
        await store.close()

    asyncio.run(check())


def test_a_full_disk_and_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        await store.apply([Install(A, version(replaced(store, memoryview(b"kept")), 1))])

        def full(descriptor: int, offset: int, length: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            for _ in range(3):
                with pytest.raises(NoSpaceError):
                    store.reserve(1 << 20)
            assert content(store, A) == b"kept"
            assert store.space().blocks_reserved == 0
        await store.apply([Install(B, version(replaced(store, memoryview(b"more")), 1, 2))])
        assert content(store, B) == b"more"
        await store.close()

    asyncio.run(scenario())


WRITER = """
import asyncio, random, sys
from pathlib import Path
from craqen.core.chunks.content import replaced
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.store import ChunkVersion, Install
from craqen.core.clock import SystemClock
from craqen.core.ids import ChunkId, UpdateToken

async def one(store, number):
    data = random.Random(number).randbytes(1 + number * 977 % 150_000)
    made = replaced(store, memoryview(data))
    token = UpdateToken(1, number % 50, number)
    content = ChunkVersion(1, 1, made.length_bytes, made.crc32c, made.page_crcs, made.block, token)
    await store.apply([Install(ChunkId(1, number), content)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()

async def main():
    store = FileChunkStore(Path(sys.argv[1]), SystemClock(), quarantine_seconds=60)
    for start in range(0, 100_000, 8):
        await asyncio.gather(*(one(store, start + step) for step in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 37, 200])
def test_killed_under_load(tmp_path: Path, lines: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()

    async def check() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        for number in acknowledged:
            wanted = random.Random(number).randbytes(1 + number * 977 % 150_000)
            assert content(store, ChunkId(1, number)) == wanted
        space = store.space()
        assert space.blocks_used == space.chunks >= len(acknowledged)
        await store.close()

    asyncio.run(check())


def test_bytes_are_flushed_before_the_index_that_refers_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut may take is what was not flushed: at every index commit nothing it refers to
    may be."""
    unsynced: dict[int, list[tuple[int, int]]] = {}
    real_write, real_sync = os.pwrite, os.fdatasync

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        count = real_write(descriptor, data, offset)
        unsynced.setdefault(descriptor, []).append((offset, count))
        return count

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        unsynced.pop(descriptor, None)

    async def scenario() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        real_index = store._index.write
        commits = 0

        def index_write(records: object, outcomes: object, forgotten: object) -> None:
            nonlocal commits
            for _, record in list(records):  # type: ignore[call-overload]
                for kept in (record.committed, record.pending):
                    if kept is None:
                        continue
                    start, stop = (
                        kept.block.offset_bytes,
                        kept.block.offset_bytes + kept.length_bytes,
                    )
                    for offset, count in unsynced.get(store.open_file(kept.block.file_id), []):
                        assert offset + count <= start or stop <= offset
            commits += 1
            real_index(records, outcomes, forgotten)  # type: ignore[arg-type]

        monkeypatch.setattr(store._index, "write", index_write)
        monkeypatch.setattr(os, "pwrite", write)
        monkeypatch.setattr(os, "fdatasync", sync)
        current = version(replaced(store, memoryview(b"first")), 1)
        await store.apply([Stage(A, current)])
        await store.apply([Commit(A, 1, 1)])
        grown = version(appended(store, current, 10, memoryview(b"more")), 2, 2)
        await store.apply([Install(A, grown)])
        await store.apply([Install(B, version(replaced(store, memoryview(bytes(10))), 1, 3))])
        await store.close()
        assert commits == 4

    asyncio.run(scenario())


def test_a_failed_flush_stops_writes_but_not_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        await store.apply([Install(A, version(replaced(store, memoryview(b"kept")), 1))])

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            with pytest.raises(OperatorError, match="Input/output"):
                await store.apply([Install(B, version(replaced(store, memoryview(b"x")), 1, 2))])
        with pytest.raises(OperatorError):
            await store.apply([Drop(A, None)])
        with pytest.raises(OperatorError):
            store.reserve(1)
        assert content(store, A) == b"kept"
        await store.close()
        again = FileChunkStore(tmp_path, ManualClock(), quarantine_seconds=60)
        assert content(again, A) == b"kept"
        assert again.get(B) is None
        await again.close()

    asyncio.run(scenario())
