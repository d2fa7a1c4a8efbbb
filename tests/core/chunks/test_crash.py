"""Whatever was acknowledged is there after kill -9 and after a power cut, and nothing else is
trusted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from craqen.core.chunks.content import plan_write
from craqen.core.chunks.index import ChunkIndex
from craqen.core.chunks.store import Abandon, ChunkStore, Commit, Install, Stage
from craqen.core.clock import ManualClock
from craqen.core.ids import ChunkId, UpdateToken
from craqen.tests.core.chunks.support import (
    QUARANTINE_SECONDS,
    content,
    open_store,
    version_content,
)

WRITER = """
import asyncio, random, sys
from pathlib import Path
from craqen.core.chunks.content import plan_replace
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.store import Drop, Install
from craqen.core.clock import SystemClock
from craqen.core.ids import ChunkId, UpdateToken

async def one(store, number):
    data = random.Random(number).randbytes(1 + number * 977 % 150_000)
    token = UpdateToken(1, number % 50, number)
    content = plan_replace(store, memoryview(data)).write().version(1, 1, token)
    store.reserve(1 + number)
    await store.apply([Install(ChunkId(1, number), content)])
    if number % 3 == 0:
        await store.apply([Drop(ChunkId(1, number), None)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()

async def main():
    store = FileChunkStore(
        Path(sys.argv[1]), SystemClock(), target_id=7, cluster_id="test", quarantine_seconds=60
    )
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
        clock = ManualClock()
        store = open_store(tmp_path, clock)
        for number in acknowledged:
            chunk_id = ChunkId(1, number)
            if number % 3 == 0:
                assert store.get(chunk_id) is None
            else:
                wanted = random.Random(number).randbytes(1 + number * 977 % 150_000)
                assert content(store, chunk_id) == wanted
        space = store.space()
        assert space.blocks_used == space.chunks == len(store.scan(ChunkId(0, 0), 100_000))
        assert space.chunks >= sum(number % 3 != 0 for number in acknowledged)
        assert space.blocks_reserved == 0
        # No block is leaked: after the quarantine all that is on disk and not used is given out
        # again before a file grows.
        clock.advance(QUARANTINE_SECONDS)
        sizes = {path.name: path.stat().st_size for path in (tmp_path / "blocks").iterdir()}
        used = [
            record.committed.block.capacity_bytes
            for record in store.scan(ChunkId(0, 0), 100_000)
            if record.committed
        ]
        for name, size in sizes.items():
            capacity = 65_536 << int(name.split("-")[1])
            for _ in range(size // capacity - used.count(capacity)):
                store.reserve(capacity)
        assert store.space().blocks_quarantined == 0
        for path in (tmp_path / "blocks").iterdir():
            assert path.stat().st_size == sizes[path.name]
        await store.close()

    asyncio.run(check())


class PowerSupply:
    """Records what block files would hold if the power failed now, and makes folders of it.

    Of what was not flushed, any sector may be on the disk or not.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, on_step: Callable[[], None]):
        self._blocks = folder / "blocks"
        self._folder = folder
        self._flushed: dict[str, list[tuple[int, bytes]]] = {}
        self._pending: dict[str, list[tuple[int, bytes]]] = {}
        self._lock = threading.Lock()
        real_write, real_sync, real_index = os.pwrite, os.fdatasync, ChunkIndex.write

        def write(descriptor: int, data: memoryview, offset: int) -> int:
            count = real_write(descriptor, data, offset)
            with self._lock:
                self._pending.setdefault(self._name(descriptor), []).append(
                    (offset, bytes(data[:count]))
                )
            return count

        def sync(descriptor: int) -> None:
            on_step()
            name = self._name(descriptor)
            with self._lock:
                covered = len(self._pending.get(name, []))
            real_sync(descriptor)
            with self._lock:
                pending = self._pending.get(name, [])
                self._flushed.setdefault(name, []).extend(pending[:covered])
                self._pending[name] = pending[covered:]

        def index_write(index: ChunkIndex, *arguments: object) -> None:
            on_step()
            real_index(index, *arguments)  # type: ignore[arg-type]
            on_step()

        patch.setattr(os, "pwrite", write)
        patch.setattr(os, "fdatasync", sync)
        patch.setattr(ChunkIndex, "write", index_write)

    def cut(self, image: Path, generator: random.Random) -> None:
        """Make *image* what the disk holds if the power fails now."""
        (image / "blocks").mkdir(parents=True)
        (image / "index").mkdir()
        (image / "target.yaml").write_bytes((self._folder / "target.yaml").read_bytes())
        index = (self._folder / "index" / "data.mdb").read_bytes()
        (image / "index" / "data.mdb").write_bytes(index.rstrip(b"\0").ljust(len(index), b"\0"))
        with self._lock:
            for path in self._blocks.iterdir():
                with (image / "blocks" / path.name).open("wb") as file:
                    file.truncate(path.stat().st_size)
                    for offset, data in self._flushed.get(path.name, []):
                        file.seek(offset)
                        file.write(data)
                    for offset, data in self._pending.get(path.name, []):
                        for start, piece in _sectors(offset, data):
                            if generator.random() < 0.5:
                                file.seek(start)
                                file.write(piece)

    @staticmethod
    def _name(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    pieces = []
    position = 0
    while position < len(data):
        size = min(512 - (offset + position) % 512, len(data) - position)
        pieces.append((offset + position, data[position : position + size]))
        position += size
    return pieces


class Writers:
    """Workers that change a chunk each, and what they know to be durable."""

    def __init__(self, store: ChunkStore) -> None:
        self.store = store
        self.submitted: dict[tuple[ChunkId, int, int], bytes] = {}
        self.acknowledged: dict[ChunkId, int] = {}

    async def work(self, chunk_id: ChunkId, steps: int, chooser: random.Random) -> None:
        model, number = b"", 0
        for sequence in range(1, steps + 1):
            record = self.store.get(chunk_id)
            present = None if record is None else record.committed
            data = chooser.randbytes(chooser.choice([10, 3000, 70_000]))
            offset = chooser.choice([len(model), chooser.randrange(100_000)])
            draft = plan_write(self.store, chunk_id, present, offset, memoryview(data))
            token = UpdateToken(chunk_id.index, 1, sequence)
            made = draft.write().version(number + 1, 1, token)
            changed = bytearray(model.ljust(offset + len(data), b"\0"))
            changed[offset : offset + len(data)] = data
            self.submitted[chunk_id, number + 1, made.crc32c] = bytes(changed)
            kind = chooser.randrange(3)
            if kind == 0:
                await self.store.apply([Install(chunk_id, made)])
            else:
                await self.store.apply([Stage(chunk_id, made)])
                if kind == 1:
                    await self.store.apply([Abandon(chunk_id)])
                    continue
                await self.store.apply([Commit(chunk_id, number + 1, 1)])
            number, model = number + 1, bytes(changed)
            self.acknowledged[chunk_id] = number


def check_image(image: Path, writers: Writers, acknowledged: dict[ChunkId, int]) -> None:
    """All that was acknowledged is there, and every version in the index is whole."""

    async def check() -> None:
        store = open_store(image)
        for chunk_id, number in acknowledged.items():
            record = store.get(chunk_id)
            assert record is not None
            assert record.committed is not None
            assert record.committed.version >= number
        blocks = set()
        for record in store.scan(ChunkId(0, 0), 1000):
            for kept in (record.committed, record.pending):
                if kept is not None:
                    name = (record.chunk_id, kept.version, kept.crc32c)
                    assert version_content(store, record.chunk_id, kept) == writers.submitted[name]
                    blocks.add(kept.block)
        assert store.space().blocks_used == len(blocks)
        await store.close()

    asyncio.run(check())


def test_power_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = random.Random(1)
    images: list[tuple[Path, dict[ChunkId, int]]] = []
    taken = 0

    async def scenario() -> Writers:
        nonlocal taken
        clock = ManualClock()
        store = open_store(tmp_path / "target", clock)
        writers = Writers(store)

        def on_step() -> None:
            nonlocal taken
            taken += 1
            if taken % 5 == 0 and len(images) < 24:
                image = tmp_path / f"image{len(images)}"
                acknowledged = dict(writers.acknowledged)
                supply.cut(image, chooser)
                images.append((image, acknowledged))

        supply = PowerSupply(tmp_path / "target", monkeypatch, on_step)
        await asyncio.gather(
            *(writers.work(ChunkId(1, number), 20, random.Random(number)) for number in range(8))
        )
        await store.close()
        return writers

    writers = asyncio.run(scenario())
    monkeypatch.undo()
    assert len(images) == 24
    assert any(acknowledged for _, acknowledged in images)
    for image, acknowledged in images:
        check_image(image, writers, acknowledged)


@pytest.mark.parametrize("stage", ["folder", "index", "header"])
def test_killed_while_being_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """A store whose making was cut short opens as a new one."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            if stage == "folder":
                patch.setattr(ChunkIndex, "__init__", killed)
            elif stage == "index":
                patch.setattr(os, "fsync", killed)
            else:
                patch.setattr(Path, "rename", killed)
            with pytest.raises(Killed):
                open_store(tmp_path / "target")
        store = open_store(tmp_path / "target")
        assert store.scan(ChunkId(0, 0), 1) == []
        await store.close()

    asyncio.run(scenario())
