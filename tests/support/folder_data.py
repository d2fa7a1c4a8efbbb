"""A ``DataStore`` that keeps each segment as one sparse file of a folder: real bytes, real fsync,
several processes at once; no chunks, replicas or checksums."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from craqen.core.client.plan import ChunkSpan, plan_range
from craqen.core.client.port import FilePiece, Piece, SegmentWriter, ZeroPiece
from craqen.core.errors import CraqenError, DataLossError
from craqen.core.limits import GIB
from craqen.core.meta.records import Extent, Layout


class FolderSegmentWriter:
    """Appends to a segment's file."""

    def __init__(self, path: Path, segment_id: int, layout: Layout) -> None:
        self._path = path
        self._segment_id = segment_id
        self._layout = layout
        self._file = path.open("wb")

    async def write(self, data: memoryview) -> None:
        self._file.write(data)

    async def finish(self) -> tuple[Extent, ...]:
        length = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return (Extent(0, length, self._segment_id, 0, self._layout, True),) if length else ()

    async def abort(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class FolderDataStore:
    """See the module."""

    lease_seconds = 30.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: dict[int, int] = {}
        self.written: list[tuple[int, int]] = []
        """(file offset, length) of every write, in order."""
        self.copied_bytes = 0
        self.fail_writes_with: CraqenError | None = None

    def _path(self, segment_id: int) -> Path:
        return self._folder / f"{segment_id:x}"

    def _descriptor(self, segment_id: int, *, create: bool = False) -> int | None:
        descriptor = self._descriptors.get(segment_id)
        if descriptor is None:
            try:
                flags = os.O_RDWR | (os.O_CREAT if create else 0)
                descriptor = os.open(self._path(segment_id), flags, 0o600)
            except FileNotFoundError:
                return None
            self._descriptors[segment_id] = descriptor
        return descriptor

    def new_segment(
        self, segment_id: int, layout: Layout, *, length_bytes: int | None
    ) -> SegmentWriter:
        return FolderSegmentWriter(self._path(segment_id), segment_id, layout)

    def read_now(
        self, extents: Sequence[Extent], offset: int, into: memoryview, generation: int
    ) -> bool:
        self._read(extents, offset, into)
        return True

    async def read(
        self, extents: Sequence[Extent], offset: int, into: memoryview, *, generation: int = 0
    ) -> None:
        self._read(extents, offset, into)

    def _read(self, extents: Sequence[Extent], offset: int, into: memoryview) -> None:
        for span in plan_range(extents, offset, len(into)):
            target = into[span.file_offset - offset :][: span.length]
            count = 0
            if isinstance(span, ChunkSpan):
                descriptor = self._descriptor(span.chunk_id.segment_id)
                if descriptor is not None:
                    count = os.preadv(descriptor, [target], _place(span))
                if count < span.length and span.dense:
                    raise DataLossError(f"segment {span.chunk_id.segment_id:x}: bytes are missing")
            target[count:] = bytes(span.length - count)

    async def read_batch(
        self, reads: Sequence[tuple[Sequence[Extent], int, memoryview, int]]
    ) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        for extents, offset, into, _ in reads:
            try:
                self._read(extents, offset, into)
                outcomes.append(None)
            except CraqenError as error:
                outcomes.append(error)
        return outcomes

    async def locate(
        self, extents: Sequence[Extent], offset: int, length: int, *, generation: int = 0
    ) -> list[Piece]:
        pieces: list[Piece] = []
        for span in plan_range(extents, offset, length):
            descriptor = None
            if isinstance(span, ChunkSpan):
                descriptor = self._descriptor(span.chunk_id.segment_id)
            if descriptor is None or not isinstance(span, ChunkSpan):
                pieces.append(ZeroPiece(span.length))
                continue
            present = os.fstat(descriptor).st_size - _place(span)
            present = max(0, min(present, span.length))
            pieces.append(FilePiece(descriptor, _place(span), present))
            pieces.append(ZeroPiece(span.length - present))
        return pieces

    async def write(self, extents: Sequence[Extent], offset: int, data: memoryview) -> None:
        await self.write_many(extents, [(offset, data)])

    async def write_many(
        self, extents: Sequence[Extent], writes: Sequence[tuple[int, memoryview]]
    ) -> None:
        if self.fail_writes_with is not None:
            raise self.fail_writes_with
        touched: set[int] = set()
        for offset, data in writes:
            self.written.append((offset, len(data)))
            for span in plan_range(extents, offset, len(data)):
                assert isinstance(span, ChunkSpan), "writes go into private extents only"
                descriptor = self._descriptor(span.chunk_id.segment_id, create=True)
                assert descriptor is not None
                start = span.file_offset - offset
                os.pwrite(descriptor, data[start : start + span.length], _place(span))
                touched.add(descriptor)
        for descriptor in touched:
            os.fdatasync(descriptor)

    async def copy(self, source: Extent | None, target: Extent, inline_data: bytes) -> None:
        if source is None:
            if inline_data:
                await self.write([target], target.file_offset, memoryview(inline_data))
            return
        data = memoryview(bytearray(source.length_bytes))
        self._read([source], source.file_offset, data)
        await self.write([target], source.file_offset, data)
        self.copied_bytes += len(data)

    async def remove_chunks(self, segment_id: int, layout: Layout, first_chunk: int) -> int:
        path = self._path(segment_id)
        if not path.exists():
            return 0
        if first_chunk:
            os.truncate(path, min(path.stat().st_size, first_chunk * layout.chunk_size_bytes))
        else:
            path.unlink()
            self._descriptors.pop(segment_id, None)
        return 1

    async def list_segment_ids(self, first: int, last: int) -> set[int]:
        present = {int(path.name, 16) for path in self._folder.iterdir()}
        return {number for number in present if first <= number <= last}

    async def space(self) -> tuple[int, int]:
        return 100 * GIB, 60 * GIB

    async def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def _place(span: ChunkSpan) -> int:
    return span.chunk_id.index * span.layout.chunk_size_bytes + span.chunk_offset
