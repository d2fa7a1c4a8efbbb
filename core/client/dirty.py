"""MACHINE: bytes of one file that were written but not stored yet, as ranges in order of offset.

Large pieces are kept as they came (no copy); small ones grow together in buffers of at most one
chunk. Knows nothing of files, stores or time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ..limits import FILE_CHUNK_BYTES, KIB

KEEP_WHOLE_BYTES = 64 * KIB  # from here on a piece is kept uncopied: a list entry costs less
GROW_BYTES_MAX = FILE_CHUNK_BYTES  # a buffer that small writes grow: what is stored at once

Piece = bytearray | memoryview
"""A buffer of our own, or a view of immutable bytes."""


class DirtyRanges:
    """Sorted pieces that do not overlap."""

    __slots__ = ("_pieces", "_starts", "size_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        self.size_bytes = 0
        """Bytes held."""

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def end(self) -> int:
        """Offset behind the last byte; 0 if there is none."""
        return self._starts[-1] + len(self._pieces[-1]) if self._starts else 0

    def write(self, offset: int, data: bytes) -> None:
        """Put *data* (kept, so it must not change) at *offset*, over what is there."""
        if not data:
            return
        end = offset + len(data)
        starts, pieces = self._starts, self._pieces
        index = bisect_right(starts, offset) - 1
        if index >= 0:
            piece, start = pieces[index], starts[index]
            piece_end = start + len(piece)
            if type(piece) is bytearray:
                if end <= piece_end:
                    piece[offset - start : end - start] = data
                    return
                alone = index + 1 == len(starts) or starts[index + 1] >= end
                if offset == piece_end and alone and end - start <= GROW_BYTES_MAX:
                    try:
                        piece += data
                    except BufferError:
                        pass  # somebody still looks at it: begin another piece
                    else:
                        self.size_bytes += len(data)
                        return
        self._clear(offset, end)
        self._insert(offset, memoryview(data) if len(data) >= KEEP_WHOLE_BYTES else bytearray(data))

    def cut(self, size: int) -> None:
        """Forget everything from *size* on."""
        if self.end > size:
            self._clear(size, self.end)

    def overlapping(self, offset: int, length: int) -> list[tuple[int, bytes]]:
        """Copies of what lies in ``[offset, offset + length)``: (offset, bytes) in order."""
        end = offset + length
        found: list[tuple[int, bytes]] = []
        for index in range(max(bisect_right(self._starts, offset) - 1, 0), len(self._starts)):
            start, piece = self._starts[index], self._pieces[index]
            if start >= end:
                break
            low, high = max(start, offset), min(start + len(piece), end)
            if low < high:
                found.append((low, bytes(piece[low - start : high - start])))
        return found

    def covers(self, offset: int, length: int) -> bool:
        """Whether every byte of ``[offset, offset + length)`` is here."""
        position, end = offset, offset + length
        for start, stop in self.runs():
            if start <= position < stop:
                position = stop
                break
        return position >= end

    def runs(self) -> Iterator[tuple[int, int]]:
        """The ``(start, end)`` of each stretch without a gap."""
        begin = end = -1
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start != end:
                if end > begin:
                    yield begin, end
                begin = start
            end = start + len(piece)
        if end > begin:
            yield begin, end

    def take_whole_units(self, unit_bytes: int) -> DirtyRanges:
        """Move out what fills whole units of *unit_bytes* (aligned); the rest stays."""
        taken = DirtyRanges()
        for start, end in list(self.runs()):
            low = -(-start // unit_bytes) * unit_bytes
            high = end - end % unit_bytes
            if low < high:
                self._move(low, high, taken)
        return taken

    def put_below(self, older: DirtyRanges) -> None:
        """Take *older* back in, under what has been written since; *older* is empty afterwards."""
        newer_starts, newer_pieces = self._starts, self._pieces
        self._starts, self._pieces, self.size_bytes = (
            older._starts,
            older._pieces,
            older.size_bytes,
        )
        for start, piece in zip(newer_starts, newer_pieces, strict=True):
            self._clear(start, start + len(piece))
            self._insert(start, piece)
        older._starts, older._pieces, older.size_bytes = [], [], 0

    def by_unit(self, unit_bytes: int) -> list[tuple[int, memoryview]]:
        """The bytes, one view for each stretch inside one unit. Write nothing while they live."""
        found: list[tuple[int, memoryview]] = []
        parts: list[Piece] = []
        begin = position = -1
        for start, piece in zip(self._starts, self._pieces, strict=True):
            view = memoryview(piece)
            while len(view):
                if parts and (start != position or start % unit_bytes == 0):
                    found.append((begin, _joined(parts)))
                    parts = []
                if not parts:
                    begin = start
                part = view[: unit_bytes - start % unit_bytes]
                parts.append(part)
                view = view[len(part) :]
                start += len(part)
                position = start
        if parts:
            found.append((begin, _joined(parts)))
        return found

    def _insert(self, offset: int, piece: Piece) -> None:
        """Add *piece* where nothing is."""
        index = bisect_right(self._starts, offset)
        self._starts.insert(index, offset)
        self._pieces.insert(index, piece)
        self.size_bytes += len(piece)

    def _clear(self, begin: int, end: int) -> None:
        """Forget ``[begin, end)``."""
        self._move(begin, end, None)

    def _move(self, begin: int, end: int, target: DirtyRanges | None) -> None:
        """Take ``[begin, end)`` out, into *target* if there is one (which has nothing there)."""
        first = bisect_right(self._starts, begin) - 1
        if first < 0 or self._starts[first] + len(self._pieces[first]) <= begin:
            first += 1
        last = first
        kept: list[tuple[int, Piece]] = []
        while last < len(self._starts) and self._starts[last] < end:
            start, piece = self._starts[last], self._pieces[last]
            stop = start + len(piece)
            low, high = max(start, begin), min(stop, end)
            if start < low:
                kept.append((start, _part(piece, 0, low - start)))
            if high < stop:
                kept.append((high, _part(piece, high - start, stop - start)))
            if target is not None:
                whole = low == start and high == stop
                target._insert(low, piece if whole else _part(piece, low - start, high - start))
            self.size_bytes -= high - low
            last += 1
        if last > first:
            self._starts[first:last] = [start for start, _ in kept]
            self._pieces[first:last] = [piece for _, piece in kept]


def _part(piece: Piece, begin: int, end: int) -> Piece:
    """A part of *piece*: a copy if it is small (so that it does not hold all of the bytes) or may
    change."""
    if type(piece) is bytearray or end - begin < KEEP_WHOLE_BYTES:
        return bytearray(piece[begin:end])
    return piece[begin:end]


def _joined(parts: list[Piece]) -> memoryview:
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
