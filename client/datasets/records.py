"""Record files: many samples in one file, each to be read by its number.

A file has the framing of TFRecord: for each record its length (8 bytes, little-endian), the masked
CRC32C of these, the bytes, and their masked CRC32C. So other programs read it. Beside ``name`` lies
``name.index``: 8 bytes of magic, then for each record, little-endian in 8 bytes, where it ends. It
is written last: records without it are not complete.
"""

from __future__ import annotations

import itertools
import struct
import sys
from array import array
from types import TracebackType
from typing import Any

from ...core.checksum import crc32c
from ...core.limits import MIB
from ..batches import bytes_of
from ..store import Store

INDEX_SUFFIX = ".index"
INDEX_MAGIC = b"CRQNREC1"
RECORD_BYTES_MAX = 1 << 30
INDEX_BYTES_MAX = 1 << 30  # of 134 million records
BUFFER_BYTES = 8 * MIB

_HEAD = struct.Struct("<QI")
_FOOT = struct.Struct("<I")
FRAME_BYTES = _HEAD.size + _FOOT.size
_MASK = 0xA282EAD8


class RecordWriter:
    """Writes a record file; use it in ``with``. After an error in the block there is no index."""

    def __init__(self, store: Store, path: str) -> None:
        """Raises OSError."""
        self._store = store
        self._path = path
        self._ends = array("Q")
        self._end = 0
        if store.exists(path + INDEX_SUFFIX):
            store.remove(path + INDEX_SUFFIX)  # of the file that goes now
        self._file = store.open(path, "wb", BUFFER_BYTES)

    def write(self, record: Any) -> None:
        """Add a record: bytes, or whatever has the buffer protocol. Raises OSError, ValueError (it
        is longer than RECORD_BYTES_MAX)."""
        view = bytes_of(record)
        if len(view) > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {len(view)} bytes; limit {RECORD_BYTES_MAX}")
        length = struct.pack("<Q", len(view))
        self._file.write(_HEAD.pack(len(view), _masked(crc32c(length))))
        self._file.write(view)
        self._file.write(_FOOT.pack(_masked(crc32c(view))))
        self._end += len(view) + FRAME_BYTES
        self._ends.append(self._end)

    def close(self) -> None:
        """Make the records durable, then their index. Raises OSError."""
        if self._file.closed:
            return
        self._file.close()
        self._store.write_bytes(
            self._path + INDEX_SUFFIX, INDEX_MAGIC + _little_endian(self._ends).tobytes()
        )

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()


def read_ends(store: Store, path: str) -> array[int]:
    """Where each record of the file *path* ends. Raises OSError, ValueError (what lies beside the
    file is no index of it)."""
    index = path + INDEX_SUFFIX
    size = store.stat(index).st_size
    if size > INDEX_BYTES_MAX or size % 8 or size < len(INDEX_MAGIC):
        raise ValueError(f"{index}: {size} bytes: is no index of records; write them anew")
    data = store.read_bytes(index)
    if not data.startswith(INDEX_MAGIC):
        raise ValueError(f"{index}: is no index of records; write them anew")
    ends = array("Q")
    ends.frombytes(data[len(INDEX_MAGIC) :])
    ends = _little_endian(ends)
    rises = all(
        FRAME_BYTES <= end - start <= RECORD_BYTES_MAX + FRAME_BYTES
        for start, end in itertools.pairwise(itertools.chain((0,), ends))
    )
    if not rises or (ends[-1] if ends else 0) != store.stat(path).st_size:
        raise ValueError(f"{index}: does not fit {path}; write both anew")
    return ends


def content_of(frame: memoryview, path: str, number: int) -> bytes:
    """The record in its *frame*. Raises ValueError (its length or its bytes are not what was
    written)."""
    length, length_sum = _HEAD.unpack_from(frame)
    content = frame[_HEAD.size : -_FOOT.size]
    (content_sum,) = _FOOT.unpack_from(frame, len(frame) - _FOOT.size)
    if (
        length != len(content)
        or length_sum != _masked(crc32c(frame[:8]))
        or content_sum != _masked(crc32c(content))
    ):
        raise ValueError(f"{path}: record {number} is not what was written; write it anew")
    return bytes(content)


def _masked(crc: int) -> int:
    """A checksum of bytes that contain checksums, as TFRecord has them."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFF_FFFF


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return numbers
    swapped = array("Q", numbers)
    swapped.byteswap()
    return swapped
