"""PORT: file bytes as the doors use them: extents in, bytes out. No names, no HTTP, no FUSE.

``DataStore`` splits extents into chunks, finds their chains, chooses replicas, reads blocks on the
same host directly (descriptor, offset, length under a lease) and others by the transport, verifies
checksums, retries what is retryable (bounded), and never holds more than its memory budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..meta.records import Extent, Layout


class FilePiece(NamedTuple):
    """Bytes that lie in an open file: send them by sendfile or read them by pread, before the lease
    ends."""

    descriptor: int
    offset: int
    length: int


class ZeroPiece(NamedTuple):
    """A hole."""

    length: int


class MemoryPiece(NamedTuple):
    """Bytes fetched from another host."""

    data: memoryview


Piece = FilePiece | ZeroPiece | MemoryPiece


class SegmentWriter(Protocol):
    """Writes one new immutable segment from offset 0, in order, with bounded memory."""

    async def write(self, data: memoryview) -> None:
        """Append *data*, which may be reused after the return. Raises NoSpaceError,
        UnavailableError …; then only abort."""
        ...

    async def finish(self) -> tuple[Extent, ...]:
        """Make all of it durable on every replica; return extents from file offset 0 (empty for no
        bytes)."""
        ...

    async def abort(self) -> None:
        """Free everything that was written or reserved. Safe at any time before and after an error;
        idempotent."""
        ...


class DataStore(Protocol):
    """Reads and writes chunks. Any number of calls at once."""

    def new_segment(
        self, segment_id: int, layout: Layout, *, length_bytes: int | None
    ) -> SegmentWriter:
        """A writer for a segment; *length_bytes* is the final length if known (blocks are then
        sized exactly)."""
        ...

    async def read(
        self, extents: Sequence[Extent], offset: int, into: memoryview, *, generation: int = 0
    ) -> None:
        """Fill *into* with file bytes from *offset*, verified; holes are zeros.

        *generation* (``Inode.generation`` as just read) lets places of in-place-written chunks that
        were
        looked up for the same generation be used again; 0 looks them up anew.

        Raises DataLossError (damaged or missing on every replica), UnavailableError.
        """
        ...

    def read_now(
        self, extents: Sequence[Extent], offset: int, into: memoryview, generation: int
    ) -> bool:
        """Fill *into* at once, if the place of the bytes is known, and large ones are in the
        system's memory; else return False (``read`` then gets them, or says what is the matter).
        For hot paths."""
        ...

    async def read_batch(
        self, reads: Sequence[tuple[Sequence[Extent], int, memoryview, int]]
    ) -> list[Exception | None]:
        """Many reads at once: (extents, file offset, buffer, generation); one outcome each."""
        ...

    async def locate(
        self, extents: Sequence[Extent], offset: int, length: int, *, generation: int = 0
    ) -> list[Piece]:
        """Pieces covering exactly ``[offset, offset+length)``, in order, verified before they are
        handed out.

        Call it for at most a few chunks ahead: descriptors stay valid (and blocks unchanged) until
        ``lease_seconds``
        after the call. Bytes of an in-place-written chunk are those of one version of that chunk.
        """
        ...

    @property
    def lease_seconds(self) -> float:
        """For how long pieces may be used."""
        ...

    async def write(self, extents: Sequence[Extent], offset: int, data: memoryview) -> None:
        """Write file bytes in place into private extents that cover the range (WritePlan.extents);
        durable on return."""
        ...

    async def write_many(
        self, extents: Sequence[Extent], writes: Sequence[tuple[int, memoryview]]
    ) -> None:
        """Several ranges at once, sharing flushes. Each chunk's writes are applied in order."""
        ...

    async def copy(self, source: Extent | None, target: Extent, inline_data: bytes) -> None:
        """Carry out one CopyOut: bytes of *source* (or *inline_data*) into *target*."""
        ...

    async def remove_chunks(self, segment_id: int, layout: Layout, first_chunk: int) -> int:
        """Remove all chunks of a segment from *first_chunk* on, on every chain; returns how many
        there were."""
        ...

    async def list_segment_ids(self, first: int, last: int) -> set[int]:
        """Segments in the id range that have chunks somewhere (for the orphan hunt)."""
        ...

    async def space(self) -> tuple[int, int]:
        """(capacity, free) bytes over all targets, replicas counted once."""
        ...

    async def close(self) -> None: ...
