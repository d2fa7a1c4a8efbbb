"""Names of things: small types that keep one kind of number from passing for another.

They are plain integers at run time (``NewType``), since every hot path handles them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
"""A storage node (one storage process). From 1."""

TargetId = NewType("TargetId", int)
"""One storage unit on one disk of one node. From 1."""

ChainId = NewType("ChainId", int)
"""An ordered list of targets that replicate the same chunks. From 1."""

TableId = NewType("TableId", int)
"""An ordered list of chains. From 1."""

InodeId = NewType("InodeId", int)
"""A file, directory or other inode. 1 is the root directory, which holds the buckets."""

SegmentId = NewType("SegmentId", int)
"""A numbered run of chunks that files refer to by extents. Drawn from the inode id blocks."""

ClientId = NewType("ClientId", int)
"""One client process's life: 63 random bits, drawn at start."""

ROOT_INODE_ID = InodeId(1)

_CHUNK_KEY = struct.Struct(">QI")


class ChunkId(NamedTuple):
    """Chunk *index* of segment *segment_id*. Its packed form sorts like the pair."""

    segment_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an id

    def pack(self) -> bytes:
        """Return the 12-byte big-endian key."""
        return _CHUNK_KEY.pack(self.segment_id, self.index)

    @classmethod
    def unpack(cls, key: bytes) -> ChunkId:
        """Return the id that ``pack`` made *key* of. Raises struct.error for another length."""
        return cls(*_CHUNK_KEY.unpack(key))


class UpdateToken(NamedTuple):
    """Names one update for good: a retry carries the same token and never applies twice."""

    client_id: int
    channel: int
    sequence: int
