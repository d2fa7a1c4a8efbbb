"""Contents that are written and read past the page cache are the same as through it."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.chunks import direct
from craqen.core.chunks.content import content_of, plan_replace
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.store import Install
from craqen.core.clock import SystemClock
from craqen.core.errors import DataLossError
from craqen.core.ids import ChunkId, TargetId, UpdateToken
from craqen.core.limits import KIB, MIB

CHUNK = ChunkId(1, 0)


def pages(length: int) -> memoryview:
    """Random bytes that begin on a page of memory."""
    view = memoryview(mmap.mmap(-1, max(1, length)))[:length]
    view[:] = os.urandom(length)
    return view


def run(folder: Path, scene: Callable[[FileChunkStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = FileChunkStore(
            folder,
            SystemClock(),
            quarantine_seconds=1.0,
            target_id=TargetId(1),
            cluster_id="test",
        )
        try:
            await scene(store)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("length", [MIB, MIB + 1, 2 * MIB - 4095, 512 * KIB, 512 * KIB - 1])
@pytest.mark.parametrize("shift", [0, 1])
def test_any_length_and_place_in_memory(tmp_path: Path, length: int, shift: int) -> None:
    async def scene(store: FileChunkStore) -> None:
        data = pages(length + shift)[shift:]
        draft = plan_replace(store, data)
        content = draft.write().version(1, 1, UpdateToken(1, 1, 1))
        await store.apply([Install(CHUNK, content)])
        descriptor = store.open_file(content.block.file_id)
        assert os.pread(descriptor, length, content.block.offset_bytes) == data
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        into = pages(length + shift)[shift:]
        content_of(store, CHUNK, content).read_into(0, into)
        assert into == data
        # Damage is found past the cache as well, however the bytes got there.
        place = content.block.offset_bytes + length // 2
        flipped = bytes([os.pread(descriptor, 1, place)[0] ^ 1])
        os.pwrite(descriptor, flipped, place)
        with pytest.raises(DataLossError):
            content_of(store, CHUNK, content).read_into(0, into)

    run(tmp_path / "target", scene)


def test_a_file_system_that_wants_it_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refusing(descriptor: int, data: memoryview, offset: int) -> int:
        asked.append(len(data))
        return 0

    monkeypatch.setattr("craqen.core.chunks.content.write_pages", refusing)

    async def scene(store: FileChunkStore) -> None:
        data = pages(MIB)
        made = plan_replace(store, data).write()
        descriptor = store.open_file(made.block.file_id)
        assert os.pread(descriptor, MIB, made.block.offset_bytes) == data
        assert asked == [MIB]

    run(tmp_path / "target", scene)


def test_what_is_not_whole_pages_does_not_fit() -> None:
    data = pages(2 * MIB)
    assert direct.fits(data, 4096)
    assert not direct.fits(data, 100)
    assert not direct.fits(data[1:], 0)
    assert not direct.fits(data[: direct.DIRECT_BYTES_MIN - 1], 0)
    assert not direct.fits(memoryview(bytes(MIB)), 0)
