"""What the tests of the chunk stores share."""

from __future__ import annotations

from pathlib import Path

from craqen.core.checksum import crc32c, page_checksums
from craqen.core.chunks.content import Draft, plan_replace, read_verified
from craqen.core.chunks.engine import FileChunkStore
from craqen.core.chunks.store import ChunkStore, ChunkVersion, Install
from craqen.core.clock import Clock, ManualClock
from craqen.core.ids import ChunkId, TargetId, UpdateToken

QUARANTINE_SECONDS = 60.0


def open_store(folder: Path, clock: Clock | None = None) -> FileChunkStore:
    return FileChunkStore(
        folder,
        clock or ManualClock(),
        target_id=TargetId(7),
        cluster_id="test",
        quarantine_seconds=QUARANTINE_SECONDS,
    )


def version(draft: Draft, number: int, sequence: int = 1) -> ChunkVersion:
    return draft.write().version(number, 1, UpdateToken(9, 1, sequence))


def replacement(store: ChunkStore, data: bytes, number: int, sequence: int = 1) -> ChunkVersion:
    return version(plan_replace(store, memoryview(data)), number, sequence)


async def install(store: ChunkStore, chunk_id: ChunkId, data: bytes, number: int = 1) -> None:
    await store.apply([Install(chunk_id, replacement(store, data, number))])


def content(store: ChunkStore, chunk_id: ChunkId) -> bytes:
    """The committed bytes, with every checksum held against them."""
    record = store.get(chunk_id)
    assert record is not None
    assert record.committed is not None
    return version_content(store, chunk_id, record.committed)


def version_content(store: ChunkStore, chunk_id: ChunkId, kept: ChunkVersion) -> bytes:
    into = bytearray(kept.length_bytes)
    read_verified(store, chunk_id, kept, 0, memoryview(into))
    assert crc32c(into) == kept.crc32c
    assert page_checksums(into) == kept.page_crcs
    return bytes(into)
