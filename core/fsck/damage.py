"""Chunks with something wrong, so that whoever walks the files can name theirs."""

from __future__ import annotations

from collections import defaultdict

from ..ids import ChunkId
from .findings import Finding

DAMAGED_SEGMENTS_MAX = 100_000  # more are found, but their files are not named


class Damage:
    """Findings by chunk."""

    def __init__(self) -> None:
        self._chunks: defaultdict[int, list[tuple[int, Finding]]] = defaultdict(list)

    def add(self, chunk_id: ChunkId, finding: Finding) -> None:
        """Remember *finding* of a chunk."""
        if chunk_id.segment_id in self._chunks or len(self._chunks) < DAMAGED_SEGMENTS_MAX:
            self._chunks[chunk_id.segment_id].append((chunk_id.index, finding))

    def of(self, segment_id: int, first: int, last: int) -> list[Finding]:
        """Findings of the segment's chunks from *first* to *last*."""
        known = self._chunks.get(segment_id)
        if known is None:
            return []
        return [finding for index, finding in known if first <= index <= last]
