"""Real storage processes, a real client: chains of one and of three, losses and damage."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from craqen.core.client.connect import Client, connect
from craqen.core.client.port import FilePiece
from craqen.core.client.reclaim import Reclaimer
from craqen.core.config import load_config
from craqen.core.errors import CraqenError, DataLossError
from craqen.core.limits import MIB
from craqen.core.meta.extents import home_extent
from craqen.core.meta.records import Extent
from craqen.core.wire.messages import Method, TargetStatusReply, TargetStatusRequest

MANAGER = 0
Scenario = Callable[[Client], Awaitable[None]]


class Cluster:
    """Storage processes of one host on a temporary folder."""

    def __init__(self, folder: Path, replicas: int) -> None:
        self.folder = folder
        self.replicas = replicas
        self.environment = {
            "CRAQEN_DATA_FOLDER": str(folder),
            "CRAQEN_STORAGE_DISKS": str([f"disk{number}" for number in range(replicas)]),
            "CRAQEN_STORAGE_REPLICAS": str(replicas),
            "CRAQEN_META_REMOVAL_GRACE_SECONDS": "0",
        }
        self.config = load_config(None, self.environment)
        (folder / "run").mkdir(parents=True)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.start(MANAGER)
        for number in range(1, replicas + 1):
            self.start(number)

    def start(self, number: int) -> None:
        words = ["storage", "--disk", str(number)] if number != MANAGER else ["manager"]
        receive, send = os.pipe()
        self.processes[number] = subprocess.Popen(
            [sys.executable, "-m", "craqen.core.cli", *words],
            env={**os.environ, **self.environment, "CRAQEN_READY_FD": str(send)},
            pass_fds=(send,),
        )
        os.close(send)
        with os.fdopen(receive) as ready:
            assert ready.readline().startswith("READY")

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def stop(self) -> None:
        for number in sorted(self.processes, reverse=True):
            self.processes[number].terminate()
            self.processes[number].wait()

    def run(self, scenario: Scenario) -> None:
        async def scene() -> None:
            client = await connect(self.config, "test")
            try:
                await client.meta.ensure_ids(50)
                await scenario(client)
            finally:
                await client.close()

        asyncio.run(scene())

    def expect_no_blocks(self) -> None:
        """Commits of removals are flushed within a moment: asked again until they are."""
        deadline = time.monotonic() + 10
        while (found := self.blocks()) != (0, 0):
            assert time.monotonic() < deadline, f"{found} blocks are used, reserved"

    def blocks(self) -> tuple[int, int]:
        """(used, reserved) blocks over all targets."""
        counts: list[tuple[int, int]] = []

        async def scenario(client: Client) -> None:
            for node in client.data._routes.nodes():
                connection = await client.data._routes.connection(node)
                reply = await connection.call(
                    Method.TARGET_STATUS, TargetStatusRequest(), TargetStatusReply
                )
                counts.extend((one.blocks_used, one.blocks_reserved) for one in reply.targets)

        self.run(scenario)
        return sum(used for used, _ in counts), sum(reserved for _, reserved in counts)


@pytest.fixture(params=[1, 3], ids=["one replica", "three replicas"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "data", request.param)
    yield made
    made.stop()


async def put(client: Client, data: bytes) -> tuple[Extent, ...]:
    await client.meta.ensure_ids(1)
    segment = client.meta.new_segment_id()
    layout = client.meta.layout_of(segment, in_place=False)
    writer = client.data.new_segment(segment, layout, length_bytes=len(data))
    for start in range(0, len(data), MIB):
        await writer.write(memoryview(data)[start : start + MIB])
    return await writer.finish()


async def get(
    client: Client, extents: tuple[Extent, ...], length: int, generation: int = 0
) -> bytes:
    into = bytearray(length)
    await client.data.read(extents, 0, memoryview(into), generation=generation)
    return bytes(into)


def test_segments(cluster: Cluster) -> None:
    chooser = random.Random(1)
    sizes = [1, 65_536, 100_001, 8 * MIB, 8 * MIB + 1]
    contents = [chooser.randbytes(size) for size in sizes]
    kept: list[tuple[Extent, ...]] = []

    async def write(client: Client) -> None:
        for data in contents:
            kept.append(await put(client, data))

    async def check(client: Client) -> None:
        for data, extents in zip(contents, kept, strict=True):
            assert await get(client, extents, len(data)) == data
            if len(data) > 70_000:
                into = bytearray(5000)
                await client.data.read(extents, 65_000, memoryview(into))
                assert into == data[65_000:70_000]
            pieces = await client.data.locate(extents, 0, len(data))
            found = b""
            for piece in pieces:
                assert isinstance(piece, FilePiece)
                found += os.pread(piece.descriptor, piece.length, piece.offset)
            assert found == data

    cluster.run(write)
    cluster.run(check)
    for number in list(cluster.processes):
        cluster.kill(number)
        cluster.start(number)
    cluster.run(check)


def test_writes_in_place_equal_a_bytearray(cluster: Cluster) -> None:
    async def scenario(client: Client) -> None:
        chooser = random.Random(2)
        segment = client.meta.new_segment_id()
        layout = client.meta.layout_of(segment, in_place=True)
        extents = (home_extent(segment, layout, 0, 1 << 62),)
        model = bytearray(3 * MIB)
        for generation in range(1, 25):
            offset = chooser.randrange(2 * MIB)
            data = chooser.randbytes(chooser.choice([1, 4096, 70_000, MIB]))
            await client.data.write(extents, offset, memoryview(data))
            model[offset : offset + len(data)] = data
            assert await get(client, extents, len(model), generation) == model
        assert await client.data.remove_chunks(segment, layout, 0) == 3

    cluster.run(scenario)
    cluster.expect_no_blocks()


def test_what_was_given_up_leaves_no_block(cluster: Cluster) -> None:
    async def scenario(client: Client) -> None:
        segment = client.meta.new_segment_id()
        layout = client.meta.layout_of(segment, in_place=False)
        writer = client.data.new_segment(segment, layout, length_bytes=20 * MIB)
        for _ in range(10):
            await writer.write(memoryview(bytes(MIB)))
        await writer.abort()
        abandoned = client.data.new_segment(
            client.meta.new_segment_id(), layout, length_bytes=20 * MIB
        )
        await abandoned.write(memoryview(bytes(MIB)))  # its connection ends without a word

    cluster.run(scenario)
    cluster.expect_no_blocks()


def test_orphans_of_a_dead_client_are_freed(cluster: Cluster) -> None:
    async def leave(client: Client) -> None:
        await put(client, bytes(9 * MIB))  # no file ever refers to it

    async def reclaim(client: Client) -> None:
        assert await Reclaimer(client.meta, client.data).free_orphans() == 1

    cluster.run(leave)
    cluster.run(reclaim)
    cluster.expect_no_blocks()


def test_a_damaged_block_is_an_error_unless_a_replica_has_it_whole(cluster: Cluster) -> None:
    data, other = (random.Random(seed).randbytes(3 * MIB) for seed in (3, 4))
    kept: list[tuple[Extent, ...]] = []

    async def write(client: Client) -> None:
        for one in (data, other):
            kept.append(await put(client, one))
            assert await get(client, kept[-1], len(one)) == one

    def damage(whole: bytes, count: int) -> None:
        """In the first *count* places."""
        sought = whole[2 * MIB : 2 * MIB + 64]
        for path in sorted(cluster.folder.glob("disk*/target-*/blocks/*")):
            at = path.read_bytes().find(sought)
            if at >= 0 and count:
                count -= 1
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([whole[2 * MIB] ^ 1]))
        assert count == 0, "there was less to damage"

    async def read_damaged(client: Client) -> None:
        with pytest.raises(DataLossError, match="damaged"):
            await get(client, kept[0], len(data))
        with pytest.raises(DataLossError, match="damaged"):
            await client.data.locate(kept[0], 0, len(data))
        into = bytearray(MIB)
        await client.data.read(kept[0], 0, memoryview(into))
        assert into == data[:MIB]

    async def read_whole(client: Client) -> None:
        assert await get(client, kept[1], len(other)) == other

    cluster.run(write)
    if cluster.replicas > 1:
        # Of another chunk: its repair, at any time, puts none of the first back.
        damage(other, cluster.replicas - 1)
        for _ in range(cluster.replicas):
            cluster.run(read_whole)
    damage(data, cluster.replicas)
    cluster.run(read_damaged)


def test_a_killed_process_comes_back_in_mid_write(cluster: Cluster) -> None:
    async def scenario(client: Client) -> None:
        chooser = random.Random(4)
        contents = [chooser.randbytes(200_000) for _ in range(30)]

        async def write(data: bytes) -> tuple[Extent, ...]:
            while True:
                try:
                    return await put(client, data)
                except CraqenError:
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(write(data)) for data in contents]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, cluster.kill, 1)
        await loop.run_in_executor(None, cluster.start, 1)
        for data, extents in zip(contents, await asyncio.gather(*tasks), strict=True):
            assert await get(client, extents, len(data)) == data

    cluster.run(scenario)
