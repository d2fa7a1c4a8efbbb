"""Content of new versions: whatever the writes, the bytes of a plain bytearray, with right
checksums."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from craqen.core.checksum import crc32c, page_checksums
from craqen.core.chunks import content as content_module
from craqen.core.chunks.content import Draft, plan_replace, plan_truncate, plan_write, read_verified
from craqen.core.chunks.memory import MemoryChunkStore
from craqen.core.chunks.store import ChunkVersion
from craqen.core.clock import ManualClock
from craqen.core.errors import DataLossError, DiskError, InvalidArgumentError, NoSpaceError
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.limits import MIB
from craqen.tests.core.chunks.support import version_content

A = ChunkId(1, 0)
TOKEN = UpdateToken(9, 1, 1)


@pytest.fixture
def store() -> Iterator[MemoryChunkStore]:
    made = MemoryChunkStore(ManualClock(), quarantine_seconds=60)
    yield made
    for descriptor in made._files.values():
        os.close(descriptor)


def finish(draft: Draft, number: int = 1) -> ChunkVersion:
    return draft.write().version(number, 1, TOKEN)


def soil(store: MemoryChunkStore) -> None:
    """Leave old bytes in every block that will be given out: nothing may show through."""
    blocks = [store.reserve(size) for size in (1, 65_537, 131_073, 300_000, MIB) for _ in range(3)]
    for block in blocks:
        os.pwrite(
            store.open_file(block.file_id), b"\xee" * block.capacity_bytes, block.offset_bytes
        )
    for block in blocks:
        store.release(block)


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_writes_equals_a_bytearray(store: MemoryChunkStore, seed: int) -> None:
    soil(store)
    chooser = random.Random(seed)
    model = bytearray()
    current: ChunkVersion | None = None
    edges = [0, 1, 65_535, 65_536, 65_537, 262_144, 262_143, 500_000]
    for number in range(1, 60):
        near_end = max(0, len(model) + chooser.choice([-1, 0, 0, 1]))
        offset = chooser.choice([chooser.randrange(900_000), chooser.choice(edges), near_end])
        length = chooser.choice([0, 1, 5000, 65_536, 140_000, 300_000])
        data = chooser.randbytes(length)
        old, old_bytes = current, bytes(model)
        if chooser.random() < 0.2:
            draft = plan_truncate(store, A, current, offset)
            model = model[:offset] + bytes(max(0, offset - len(model)))
        else:
            draft = plan_write(store, A, current, offset, memoryview(data))
            model += bytes(max(0, offset + length - len(model)))
            model[offset : offset + length] = data
        current = finish(draft, number)
        assert version_content(store, A, current) == model, number
        if draft.fresh_block:
            assert current.block.capacity_bytes == smallest(len(model))
        if old is not None:
            assert version_content(store, A, old) == old_bytes, number
            if draft.fresh_block:
                store.release(old.block)
    assert store.space().blocks_reserved == 1


def smallest(length: int) -> int:
    capacity = 65_536
    while capacity < length:
        capacity *= 2
    return capacity


def test_what_is_read_and_written(store: MemoryChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing and appending read nothing; a copy on write moves each byte once."""
    reads: list[int] = []
    writes: list[int] = []
    real_read, real_write = os.preadv, os.pwrite

    def read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        reads.append(len(buffers[0]))
        return real_read(descriptor, buffers, offset)

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        writes.append(len(data))
        return real_write(descriptor, data, offset)

    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(os, "pwrite", write)
    present = finish(plan_replace(store, memoryview(bytes(700_000))))
    draft = plan_write(store, A, present, 700_000, memoryview(b"x" * 10))
    assert (draft.fresh_block, draft.work_bytes) == (False, 10)
    finish(draft)
    finish(plan_write(store, A, present, 0, memoryview(bytes(700_000))))
    assert reads == []
    assert sum(writes) == 2 * 700_000 + 10
    writes.clear()
    finish(plan_write(store, A, present, 300_000, memoryview(b"x" * 200_000)))
    covered = 7 * 65_536 - 5 * 65_536  # pages that are overwritten as a whole are not read
    assert sum(reads) == 700_000 - covered
    assert sum(writes) == 700_000
    assert max(reads + writes) <= MIB


def test_a_large_chunk_needs_a_small_buffer(
    store: MemoryChunkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(9 * MIB + 5)
    present = finish(plan_replace(store, memoryview(data)))
    largest = 0
    real = os.preadv

    def read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal largest
        largest = max(largest, len(buffers[0]))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)
    changed = finish(plan_write(store, A, present, 5 * MIB + 7, memoryview(b"new")))
    assert largest <= content_module.PIECE_BYTES <= MIB
    monkeypatch.undo()
    wanted = data[: 5 * MIB + 7] + b"new" + data[5 * MIB + 10 :]
    assert version_content(store, A, changed) == wanted


@pytest.mark.parametrize("page", [0, 3, 10])
def test_damage_is_never_copied(store: MemoryChunkStore, page: int) -> None:
    data = random.Random(2).randbytes(700_000)
    present = finish(plan_replace(store, memoryview(data)))
    position = min(page * 65_536 + 100, len(data) - 1)
    os.pwrite(
        store.open_file(present.block.file_id),
        bytes([data[position] ^ 1]),
        present.block.offset_bytes + position,
    )
    for draft in (
        plan_write(store, A, present, position + 1, memoryview(b"x")),
        plan_write(store, A, present, 200_000, memoryview(b"x")),
        plan_truncate(store, A, present, len(data) - 1),
    ):
        with pytest.raises(DataLossError, match=rf"chunk 1\.0: page {page} "):
            draft.write()
        store.release(draft.block)
    with pytest.raises(DataLossError, match=f"page {page} "):
        read_verified(store, A, present, position, memoryview(bytearray(1)))
    # What is overwritten as a whole page, or cut off, may have been damaged.
    start = page * 65_536
    stop = min(start + 65_536, len(data))
    mended = finish(plan_write(store, A, present, start, memoryview(data)[start:stop]))
    assert version_content(store, A, mended) == data
    if page:
        cut = finish(plan_truncate(store, A, present, start))
        assert version_content(store, A, cut) == data[:start]


def test_an_append_does_not_seal_damage(store: MemoryChunkStore) -> None:
    present = finish(plan_replace(store, memoryview(b"committed")))
    os.pwrite(store.open_file(present.block.file_id), b"C", present.block.offset_bytes)
    longer = finish(plan_write(store, A, present, 9, memoryview(b" and more")))
    with pytest.raises(DataLossError):
        version_content(store, A, longer)


def test_limits_and_errors(store: MemoryChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    present = finish(plan_replace(store, memoryview(b"x")))
    with pytest.raises(InvalidArgumentError):
        plan_write(store, A, present, 64 * MIB, memoryview(b"x"))
    with pytest.raises(InvalidArgumentError):
        plan_truncate(store, A, None, 64 * MIB + 1)
    for number, expected in ((28, NoSpaceError), (5, DiskError)):

        def refuse(descriptor: int, data: memoryview, offset: int, number: int = number) -> int:
            raise OSError(number, "refused")

        draft = plan_replace(store, memoryview(b"y"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", refuse)
            with pytest.raises(expected):
                draft.write()
        store.release(draft.block)

    def unreadable(descriptor: int, buffers: object, offset: int) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", unreadable)
        with pytest.raises(DiskError, match=r"chunk 1\.0: byte 0 cannot be read"):
            version_content(store, A, present)
    assert store.space().blocks_reserved == 1


def test_short_writes_and_reads_go_on(
    store: MemoryChunkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read, real_write = os.preadv, os.pwrite
    monkeypatch.setattr(
        os, "preadv", lambda fd, buffers, offset: real_read(fd, [buffers[0][:1000]], offset)
    )
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_write(fd, data[:7001], offset))
    data = random.Random(3).randbytes(150_000)
    present = finish(plan_replace(store, memoryview(data)))
    changed = finish(plan_write(store, A, present, 70_000, memoryview(b"new")))
    assert version_content(store, A, changed) == data[:70_000] + b"new" + data[70_003:]


def test_an_empty_chunk(store: MemoryChunkStore) -> None:
    empty = finish(plan_write(store, A, None, 0, memoryview(b"")))
    assert (empty.length_bytes, empty.page_crcs, empty.crc32c) == (0, b"", 0)
    grown = finish(plan_truncate(store, A, empty, 70_000))
    assert version_content(store, A, grown) == bytes(70_000)
    cut = finish(plan_truncate(store, A, grown, 0))
    assert (cut.length_bytes, cut.page_crcs) == (0, page_checksums(b""))
    assert crc32c(b"") == cut.crc32c
