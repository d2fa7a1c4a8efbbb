"""Pure: the rows of a cache in the metadata store, written down in one place.

Keys are ``K``, the number of the cache's folder, a letter, and what the letter says:

    b  batch            Batch: what was put together, and what it takes
    c                   counter of the bytes of all batches
    e                   lease of the process that makes room
    t                   when it was last tidied
    u  digest           when the value was last asked for; kept roughly
    v  digest           a value, or where it lies
    x  expiry, batch    batches all of whose values expire

A digest is the BLAKE2b of the caller's key, 16 bytes. A batch is its time (nanoseconds, 8 bytes)
and 8 random bytes: oldest first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..core.meta.records import Extent, Layout

PREFIX = b"K"
DIGEST_BYTES = 16
BATCH_BYTES = 16

_INLINE = 1
_PACKED = 2
_HEAD = struct.Struct(">BQ16s")
_PLACE = struct.Struct(">BQ16sQQQIIQ")
_BATCH = struct.Struct(">BQQB")
_NUMBER = struct.Struct(">Q")
_COUNTER = struct.Struct("<q")
_FORMAT = 1


class Value(NamedTuple):
    """A row ``v``."""

    expires_ns: int
    """0: never."""
    batch: bytes
    data: bytes | None
    """The bytes, if they are in the row."""
    extent: Extent | None
    """Else where they are."""

    @property
    def length(self) -> int:
        """Of the value, in bytes."""
        if self.extent is not None:
            return self.extent.length_bytes
        assert self.data is not None
        return len(self.data)

    def is_expired(self, now_ns: int) -> bool:
        """Whether its time is over."""
        return 0 < self.expires_ns <= now_ns


class Batch(NamedTuple):
    """A row ``b``."""

    size_bytes: int
    """Of its file, or of its values if they are in their rows."""
    expires_ns: int
    """Of the value that lives longest; 0: never."""
    has_file: bool
    digests: tuple[bytes, ...]


class Keys:
    """The keys of the cache in one folder."""

    __slots__ = ("bytes", "lease", "prefix", "tidied")

    def __init__(self, folder_id: int) -> None:
        self.prefix = PREFIX + _NUMBER.pack(folder_id)
        self.bytes = self.prefix + b"c"
        self.lease = self.prefix + b"e"
        self.tidied = self.prefix + b"t"

    def value(self, digest: bytes) -> bytes:
        """Of a value."""
        return self.prefix + b"v" + digest

    def used(self, digest: bytes) -> bytes:
        """Of the time of its last use."""
        return self.prefix + b"u" + digest

    def batch(self, batch: bytes) -> bytes:
        """Of a batch."""
        return self.prefix + b"b" + batch

    def expiry(self, expires_ns: int, batch: bytes) -> bytes:
        """Of a batch that expires."""
        return self.prefix + b"x" + _NUMBER.pack(expires_ns) + batch

    def batches(self) -> tuple[bytes, bytes]:
        """The range of all batches, oldest first."""
        return self.prefix + b"b", self.prefix + b"c"

    def expired(self, now_ns: int) -> tuple[bytes, bytes]:
        """The range of batches whose time is over."""
        return self.prefix + b"x", self.prefix + b"x" + _NUMBER.pack(now_ns + 1)

    def all(self) -> tuple[bytes, bytes]:
        """The range of everything."""
        return self.prefix, self.prefix + b"\xff"


def folder_of(key: bytes) -> int:
    """The folder whose cache a row belongs to."""
    number: int = _NUMBER.unpack_from(key, len(PREFIX))[0]
    return number


def digest_of(key: bytes | str) -> bytes:
    """The digest of the caller's *key*; text counts as its UTF-8 bytes."""
    raw = key.encode() if isinstance(key, str) else key
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()


def batch_name(now_ns: int, chance: bytes) -> bytes:
    """A new batch."""
    return _NUMBER.pack(now_ns) + chance


def made_ns(batch: bytes) -> int:
    """When a batch was put."""
    number: int = _NUMBER.unpack_from(batch)[0]
    return number


def file_name(batch: bytes) -> bytes:
    """Of the file with the values of a batch."""
    return batch.hex().encode() + b".pack"


def batch_of_file(name: str) -> bytes | None:
    """The batch of a file; None: it is not one of a cache."""
    stem, dot, kind = name.partition(".")
    if not dot or kind != "pack" or len(stem) != 2 * BATCH_BYTES:
        return None
    try:
        return bytes.fromhex(stem)
    except ValueError:
        return None


def encode_inline(expires_ns: int, batch: bytes, data: bytes | memoryview) -> bytes:
    """The row of a value that it holds itself."""
    return b"".join((_HEAD.pack(_INLINE, expires_ns, batch), data))


def encode_packed(expires_ns: int, batch: bytes, extent: Extent) -> bytes:
    """The row of a value that lies in a segment."""
    layout = extent.layout
    return _PLACE.pack(
        _PACKED,
        expires_ns,
        batch,
        extent.length_bytes,
        extent.segment_id,
        extent.segment_offset,
        layout.chunk_size_bytes,
        layout.table_id,
        layout.stripe_seed,
    )


def decode_value(row: bytes) -> Value | None:
    """The value of a row; None: it is of a release that writes them otherwise."""
    kind = row[0]
    if kind == _INLINE:
        _, expires_ns, batch = _HEAD.unpack_from(row)
        return Value(expires_ns, batch, row[_HEAD.size :], None)
    if kind != _PACKED:
        return None
    _, expires_ns, batch, length, segment_id, offset, chunk_size, table_id, seed = _PLACE.unpack(
        row
    )
    extent = Extent(0, length, segment_id, offset, Layout(chunk_size, table_id, seed))
    return Value(expires_ns, batch, None, extent)


def encode_batch(batch: Batch) -> bytes:
    """The row of a batch."""
    head = _BATCH.pack(_FORMAT, batch.size_bytes, batch.expires_ns, batch.has_file)
    return head + b"".join(batch.digests)


def decode_batch(row: bytes) -> Batch:
    """The batch of a row."""
    _, size_bytes, expires_ns, has_file = _BATCH.unpack_from(row)
    rest = row[_BATCH.size :]
    digests = tuple(
        rest[start : start + DIGEST_BYTES] for start in range(0, len(rest), DIGEST_BYTES)
    )
    return Batch(size_bytes, expires_ns, bool(has_file), digests)


def encode_number(number: int) -> bytes:
    """A time."""
    return _NUMBER.pack(number)


def decode_number(row: bytes | None) -> int:
    """A time; 0: none."""
    number: int = 0 if row is None else _NUMBER.unpack(row)[0]
    return number


def decode_counter(row: bytes | None) -> int:
    """The counter."""
    number: int = 0 if row is None else _COUNTER.unpack(row)[0]
    return number


def runs(sizes: Sequence[int], bytes_max: int, count_max: int) -> list[range]:
    """Numbers of *sizes* in runs of at most so many bytes and members; a size over *bytes_max* is
    a run of its own."""
    found: list[range] = []
    start = total = 0
    for number, size in enumerate(sizes):
        if number > start and (total + size > bytes_max or number - start == count_max):
            found.append(range(start, number))
            start, total = number, 0
        total += size
    if start < len(sizes):
        found.append(range(start, len(sizes)))
    return found
