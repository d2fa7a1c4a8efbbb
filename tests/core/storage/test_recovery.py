"""Replicas that come back, and damaged chunks: what is copied, what is mended, what readers see."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest

from craqen.core.checksum import crc32c
from craqen.core.chunks.store import Block
from craqen.core.errors import DataLossError, NoSpaceError, UnavailableError
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.limits import KIB
from craqen.tests.core.storage.small_chain import (
    OFFLINE,
    SERVING,
    SYNCING,
    SmallChain,
    small_chain,
    until,
)

CHUNKS = [ChunkId(segment, index) for segment in (1, 2) for index in range(20)]


async def fill(chain: SmallChain, seed: int = 1) -> dict[ChunkId, bytes]:
    chooser = random.Random(seed)
    model = {chunk_id: chooser.randbytes(chooser.randrange(1, 100 * KIB)) for chunk_id in CHUNKS}
    for chunk_id, data in model.items():
        await chain.put(chunk_id, data)
    return model


async def come_back(chain: SmallChain, number: int, *serving: int) -> None:
    """*number* starts, is filled, and serves as the tail."""
    await chain.start(number)
    chain.table(*((one, SERVING) for one in serving), (number, SYNCING))
    version = chain.record.version
    await until(lambda: chain.nodes[number].target.synced_chain_version == version)


async def leave(chain: SmallChain, number: int, *serving: int) -> None:
    await chain.stop(number)
    chain.table(*((one, SERVING) for one in serving), (number, OFFLINE))


def test_a_returning_replica_gets_what_changed_and_no_more(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            model = await fill(chain)
            await leave(chain, 2, 1, 3)
            chooser = random.Random(2)
            written = 0
            for chunk_id in CHUNKS[5:10]:
                model[chunk_id] = chooser.randbytes(70_000)
                await chain.put(chunk_id, model[chunk_id])
                written += 70_000
            for chunk_id in CHUNKS[10:13]:
                del model[chunk_id]
                await chain.remove(chunk_id)
            model[ChunkId(9, 9)] = b"new"
            token = chain.token()
            first = await chain.put(ChunkId(9, 9), b"new", token)
            await come_back(chain, 2, 1, 3)
            assert chain.contents(2) == chain.contents(1)
            resyncs = chain.nodes[3].upkeep.resyncs
            await until(lambda: resyncs.completed == 1)
            sent = resyncs.bytes_sent
            assert written <= sent <= 1.1 * written
            chain.table((2, SERVING), (1, SERVING), (3, SERVING))
            for chunk_id, data in model.items():
                assert await chain.read(2, chunk_id, len(data)) == data
            # The new head knows the updates of before its return.
            again = await chain.put(ChunkId(9, 9), b"new", token)
            assert (again.version, again.crc32c) == (first.version, first.crc32c)

    asyncio.run(scene())


def test_writes_go_on_while_a_replica_is_filled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2, resync_mebibytes_per_second=4.0) as chain:
            model = await fill(chain)
            await leave(chain, 2, 1)
            chooser = random.Random(3)
            for chunk_id in CHUNKS:
                model[chunk_id] = chooser.randbytes(chooser.randrange(1, 100 * KIB))
                await chain.put(chunk_id, model[chunk_id])
            back = asyncio.create_task(come_back(chain, 2, 1))
            count = 0
            while not back.done():
                chunk_id = chooser.choice(CHUNKS)
                data = chooser.randbytes(5000)
                await chain.put(chunk_id, data, offset=1000)
                old = model[chunk_id]
                model[chunk_id] = old[:1000].ljust(1000, b"\0") + data + old[6000:]
                count += 1
            await back
            assert count > 3
            assert chain.contents(2) == chain.contents(1)
            # The answer that the successor is filled may still be on its way to the one that fills.
            await until(lambda: chain.nodes[1].upkeep.resync(1) is None)
            chain.table((2, SERVING), (1, OFFLINE))
            for chunk_id, data in model.items():
                assert await chain.read(2, chunk_id, len(data)) == data

    asyncio.run(scene())


def test_progress_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2, resync_mebibytes_per_second=1.0) as chain:
            await leave(chain, 2, 1)
            model = await fill(chain)
            total = sum(len(data) for data in model.values())
            await chain.start(2)
            chain.table((1, SERVING), (2, SYNCING))
            upkeep = chain.nodes[1].upkeep

            def sent() -> int:
                report = upkeep.resync(1)
                return 0 if report is None else report.bytes_sent

            await until(lambda: sent() > 0)
            report = upkeep.resync(1)
            assert report is not None
            assert report.target_id == 2
            assert report.chunks_compared == len(CHUNKS)
            assert report.bytes_to_send == total
            assert 0 < report.chunks_sent < len(CHUNKS)
            assert report.seconds_left > 0
            upkeep.resync_throttle.mebibytes_per_second = 0.0
            version = chain.record.version
            await until(lambda: chain.nodes[2].target.synced_chain_version == version)

    asyncio.run(scene())


def test_a_successor_that_restarts_is_filled_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            await leave(chain, 2, 1)
            await fill(chain)
            await come_back(chain, 2, 1)
            # The successor knows that it is filled a moment before its predecessor has counted.
            await until(lambda: chain.nodes[1].upkeep.resyncs.bytes_sent > 0)
            sent = chain.nodes[1].upkeep.resyncs.bytes_sent
            await chain.stop(2)
            await chain.start(2)
            assert chain.nodes[2].target.synced_chain_version == 0
            version = chain.record.version
            await until(lambda: chain.nodes[2].target.synced_chain_version == version)
            assert chain.nodes[1].upkeep.resyncs.bytes_sent == sent, "nothing differed"

    asyncio.run(scene())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_chunk_is_mended_when_it_is_read(tmp_path: Path, number: int) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            model = await fill(chain)
            data = model[CHUNKS[3]] = random.Random(4).randbytes(150_000)
            await chain.put(CHUNKS[3], data)
            before = chain.contents(number)
            chain.damage(number, data[70_000:70_100])
            with pytest.raises(DataLossError, match="damaged"):
                await chain.read(number, CHUNKS[3], len(data))
            upkeep = chain.nodes[number].upkeep
            await until(lambda: upkeep.repaired_chunks(number) == 1)
            assert await chain.read(number, CHUNKS[3], len(data)) == data
            assert chain.contents(number) == before
            assert upkeep.damaged_chunks(number) == 0

    asyncio.run(scene())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_write_over_damage_succeeds(tmp_path: Path, number: int) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            data = random.Random(5).randbytes(150_000)
            await chain.put(CHUNKS[0], data)
            chain.damage(number, data[70_000:70_100])
            await chain.put(CHUNKS[0], b"x" * 100, offset=10)
            expected = data[:10] + b"x" * 100 + data[110:]
            for one in chain.numbers:
                assert await chain.read(one, CHUNKS[0], len(data)) == expected

    asyncio.run(scene())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_index_record_is_mended(tmp_path: Path, number: int) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            model = await fill(chain)
            before = chain.contents(number)
            await chain.stop(number)
            chain.damage_record(number, crc32c(model[CHUNKS[3]]))
            await chain.start(number)
            upkeep = chain.nodes[number].upkeep
            await until(lambda: upkeep.repaired_chunks(number) == 1)
            data = model[CHUNKS[3]]
            assert await chain.read(number, CHUNKS[3], len(data)) == data
            assert chain.contents(number) == before
            await chain.put(CHUNKS[3], b"after")
            for one in chain.numbers:
                assert await chain.read(one, CHUNKS[3], 5) == b"after"

    asyncio.run(scene())


def test_a_disk_error_takes_that_target_out_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            data = random.Random(6).randbytes(150_000)
            await chain.put(CHUNKS[0], data)
            target = chain.nodes[2].target
            record = target.store.get(CHUNKS[0])
            assert record is not None
            assert record.committed is not None
            broken = target.store.open_file(record.committed.block.file_id)
            preadv = os.preadv

            def failing(descriptor: int, *arguments: object) -> int:
                if descriptor == broken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return preadv(descriptor, *arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(os, "preadv", failing)
            with pytest.raises(UnavailableError, match="offline"):
                await chain.read(2, CHUNKS[0], len(data))
            assert target.offline is not None
            for number in (1, 3):
                assert chain.nodes[number].target.offline is None
                assert await chain.read(number, CHUNKS[0], len(data)) == data
            write = asyncio.create_task(chain.put(CHUNKS[1], b"goes on"))
            await asyncio.sleep(0)
            chain.table((1, SERVING), (3, SERVING), (2, OFFLINE))
            await write
            assert await chain.read(3, CHUNKS[1], 7) == b"goes on"

    asyncio.run(scene())


def test_the_scrubber_finds_damage(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            model = await fill(chain)
            node = chain.nodes[2]
            chain.damage(2, model[CHUNKS[7]][:50])
            node.upkeep.scrub_throttle.mebibytes_per_second = 1000.0
            await node.upkeep.scrubber.scrub(node.target)
            counts = node.upkeep.scrubber.counts(2)
            assert (counts.chunks, counts.damaged, counts.passes) == (len(CHUNKS) - 1, 1, 1)
            assert counts.bytes == sum(map(len, model.values())) - len(model[CHUNKS[7]])
            assert node.upkeep.scrubbed_wall_seconds(2) > 1e9
            await until(lambda: node.upkeep.repaired_chunks(2) == 1)
            await node.upkeep.scrubber.scrub(node.target)
            assert counts.damaged == 1
            assert counts.passes == 2

    asyncio.run(scene())


def test_damage_without_another_replica_is_copied_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craqen.core.storage.resync.PAUSE_SECONDS", 0.01)

    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            await leave(chain, 2, 1)
            model = await fill(chain)
            data = model[CHUNKS[3]] = random.Random(4).randbytes(150_000)
            await chain.put(CHUNKS[3], data)
            chain.damage(1, data[70_000:70_100])
            await come_back(chain, 2, 1)
            assert chain.contents(2) == chain.contents(1)
            chain.table((1, SERVING), (2, SERVING))
            for number in (1, 2):
                with pytest.raises(DataLossError):
                    await chain.read(number, CHUNKS[3], len(data))
                assert await chain.read(number, CHUNKS[3], 65_536) == data[:65_536]

    asyncio.run(scene())


def lost_everywhere(chain: SmallChain, chunk_id: ChunkId) -> bool:
    records = [node.target.store.get(chunk_id) for node in chain.nodes.values()]
    return all(one is not None and one.lost for one in records)


@pytest.mark.parametrize("end", ["replaced", "removed"])
def test_a_record_lost_at_the_only_replica_keeps_no_resync_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("craqen.core.storage.resync.PAUSE_SECONDS", 0.01)

    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            model = await fill(chain)
            await leave(chain, 2, 1)
            model[CHUNKS[3]] = b"newer than what replica 2 has"
            await chain.put(CHUNKS[3], model[CHUNKS[3]])
            await chain.put(
                CHUNKS[4], model[CHUNKS[4]]
            )  # its outcome is remembered, not the former
            await chain.stop(1)
            chain.damage_record(1, crc32c(model[CHUNKS[3]]))
            await chain.start(1)
            await come_back(chain, 2, 1)
            chain.table((1, SERVING), (2, SERVING))
            for chunk_id, data in model.items():
                for number in (1, 2):
                    if chunk_id != CHUNKS[3]:
                        assert await chain.read(number, chunk_id, len(data)) == data
                        continue
                    with pytest.raises(DataLossError, match="lost"):
                        await chain.read(number, chunk_id, 10)
            assert lost_everywhere(chain, CHUNKS[3])
            # It stays so over a restart and another resync.
            await leave(chain, 2, 1)
            await come_back(chain, 2, 1)
            chain.table((1, SERVING), (2, SERVING))
            assert lost_everywhere(chain, CHUNKS[3])
            with pytest.raises(DataLossError, match="lost"):
                await chain.put(CHUNKS[3], b"a part", offset=5)
            if end == "replaced":
                await chain.put(CHUNKS[3], b"whole")
                for number in (1, 2):
                    assert await chain.read(number, CHUNKS[3], 10) == b"whole"
            else:
                await chain.remove(CHUNKS[3])
                for number in (1, 2):
                    assert await chain.read(number, CHUNKS[3], 10) == b""
            assert chain.contents(1) == chain.contents(2)

    asyncio.run(scene())


def test_a_lost_record_at_a_chain_of_one_may_be_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 1) as chain:
            await chain.put(CHUNKS[0], b"once")
            await chain.put(CHUNKS[1], b"its outcome is remembered")
            await chain.stop(1)
            chain.damage_record(1, crc32c(b"once"))
            await chain.start(1)
            with pytest.raises(DataLossError):
                await chain.read(1, CHUNKS[0], 10)
            await chain.put(CHUNKS[0], b"again")
            assert await chain.read(1, CHUNKS[0], 10) == b"again"

    asyncio.run(scene())


def test_a_full_successor_is_told_of_at_once_and_takes_little_space_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 3) as chain:
            await chain.put(CHUNKS[0], b"old")
            full = chain.nodes[2].target.store

            def refuse(length_bytes: int) -> Block:
                raise NoSpaceError(f"no {length_bytes} bytes")

            with monkeypatch.context() as patch:
                patch.setattr(full, "reserve", refuse)
                for chunk_id in CHUNKS:
                    with pytest.raises(NoSpaceError):
                        await chain.put(chunk_id, b"new", UpdateToken(5, 2 + chunk_id.index, 1))
                head = chain.nodes[1].target.store
                held = [one for one in head.scan(ChunkId(0, 0), 1000) if one.pending is not None]
                assert [one.chunk_id for one in held] == [CHUNKS[0]]
                assert await chain.read(3, CHUNKS[0], 3) == b"old"
            # There is space again: what was held is done, and new updates are taken.
            await until(lambda: not any(one.pending for one in head.scan(ChunkId(0, 0), 1000)))
            assert await chain.read(1, CHUNKS[0], 3) == b"new"
            while True:
                try:
                    await chain.put(CHUNKS[1], b"next")
                    break
                except NoSpaceError:
                    await asyncio.sleep(0.1)
            assert chain.contents(1) == chain.contents(2) == chain.contents(3)

    asyncio.run(scene())
