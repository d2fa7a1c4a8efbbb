"""A data store in a folder that can be told to fail, and that counts what is left unfinished."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from craqen.core.client.port import Piece, SegmentWriter
from craqen.core.errors import CraqenError
from craqen.core.meta.records import Extent, Layout
from craqen.tests.support.folder_data import FolderDataStore


class _WatchedWriter:
    """Passes calls on; fails and counts as its store says."""

    def __init__(self, inner: SegmentWriter, store: FaultyDataStore) -> None:
        self._inner = inner
        self._store = store
        store.open_writers += 1
        self._open = True

    async def write(self, data: memoryview) -> None:
        if self._store.write_error is not None:
            raise self._store.write_error
        await self._inner.write(data)
        self._store.written_bytes += len(data)

    async def finish(self) -> tuple[Extent, ...]:
        extents = await self._inner.finish()
        self._ended()
        return extents

    async def abort(self) -> None:
        await self._inner.abort()
        self._ended()
        self._store.aborted.set()

    def _ended(self) -> None:
        if self._open:
            self._open = False
            self._store.open_writers -= 1


class FaultyDataStore(FolderDataStore):
    """See the module. Switches are set by tests and apply from then on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.open_writers = 0
        self.written_bytes = 0
        self.locate_calls = 0
        self.mend()

    def mend(self) -> None:
        """No more faults."""
        self.write_error: CraqenError | None = None
        self.locate_error: CraqenError | None = None
        self.locate_error_from = 0  # offset from which it strikes
        self.aborted = threading.Event()

    def new_segment(
        self, segment_id: int, layout: Layout, *, length_bytes: int | None
    ) -> SegmentWriter:
        inner = super().new_segment(segment_id, layout, length_bytes=length_bytes)
        return _WatchedWriter(inner, self)

    async def locate(
        self, extents: Sequence[Extent], offset: int, length: int, *, generation: int = 0
    ) -> list[Piece]:
        self.locate_calls += 1
        if self.locate_error is not None and offset + length > self.locate_error_from:
            raise self.locate_error
        return await super().locate(extents, offset, length, generation=generation)
