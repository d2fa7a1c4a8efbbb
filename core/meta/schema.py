"""Every key and value of the namespace, in one place.

Keys are one letter, then fixed-width big-endian numbers, then (last) a name, so that a scan of a
prefix gives numeric and byte order. Values are a format-version byte and MessagePack. Letters:

    a  inode, name           extended attribute
    b  bucket name           Bucket
    c  upload id             what a completed upload became (for repeated completions)
    d  directory, name       entry; a directory's name carries a ``/``
    e  inode, client, handle open session
    f  versionstamp          change feed
    g  client                client lease
    h  directory, digest     a name over 255 bytes, for its escaped form in the mount
    i  inode                 Inode
    j  client, first id      id block
    k  bucket, aspect        bucket setting
    l  inode                 inline content
    m  bucket, key, upload   Upload
    n                        next id
    o  inode, page           part sizes of a completed upload
    p  upload id, number     Part
    q  due time, number      removal queue
    r  bucket, shard, kind   usage counters
    s  segment               reference count
    t  directory             modification time (written blindly: no conflicts between creates)
    u  (core/meta/accounts)  limits of buckets, folders and users, and counters of the latter two
    v                        stamp of the last feed entry, to be watched
    w  directory, name, age  noncurrent version or delete marker, newest first; without an age, a
                             folder that holds nothing current (its name carries a ``/``)
    x  inode, page           extents beyond EXTENTS_INLINE_MAX
    y  inode, client         when a write in place was planned, if its version may be locked
    z  directory, name       sequence of the name's ``null`` version, if that is in ``w``
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from ..errors import UNREADABLE, DataLossError
from ..kv.keys import pack, prefix_end
from .records import Bucket, Extent, FeedEvent, Inode, Layout, Part, PartSize, Record, Upload

FORMAT_VERSION = 1
_FORMAT = bytes([FORMAT_VERSION])

ENTRY_EXPLICIT = 1
"""Entry flag of a directory that mkdir or PUT ``dir/`` made."""

ENTRY_NULL = 2
"""Entry flag of an object with a sequence whose version id is ``null``."""

SEQUENCE_MAX = (1 << 64) - 1
NAME_END = b"\0\0"
"""Ends a name in keys that go on behind it; a NUL inside the name is NUL 0xff."""

_U64 = struct.Struct(">Q")
_LETTER_U64 = struct.Struct(">cQ")
_U64_U64 = struct.Struct(">QQ")
_U64_U32 = struct.Struct(">QI")
_U64_U64_U64 = struct.Struct(">QQQ")
_ENTRY = struct.Struct(">BQBB")
_ENTRY_SEQUENCE = struct.Struct(">BQBBQ")
ENTRY_BYTES = _ENTRY.size
ENTRY_SEQUENCE_BYTES = _ENTRY_SEQUENCE.size

NEXT_ID_KEY = b"n"
FEED_PREFIX = b"f"
FEED_WATCH_KEY = b"v"
REMOVAL_PREFIX = b"q"
BUCKET_PREFIX = b"b"
CLIENT_PREFIX = b"g"


class Entry(NamedTuple):
    """A directory entry's value."""

    inode_id: int
    type: int
    flags: int
    sequence: int = 0
    """Of an object's version: higher is newer. 0: made before the bucket was ever versioned."""

    @property
    def is_null(self) -> bool:
        """Whether the object's version id is ``null``."""
        return self.sequence == 0 or bool(self.flags & ENTRY_NULL)


class VersionRecord(Record, frozen=True):
    """A noncurrent version, a delete marker, or a folder that holds nothing current."""

    inode_id: int
    """0: a delete marker."""
    type: int
    is_null: bool
    since_ns: int
    """When the marker was made, or the version or folder stopped being current."""


class SegmentRecord(Record, frozen=True):
    """How many inodes and parts refer to a segment."""

    references: int
    layout: Layout


class RemovalRecord(Record, frozen=True):
    """An entry of the removal queue: an inode (segment_id 0), or chunks of a segment."""

    inode_id: int
    segment_id: int
    layout: Layout | None
    first_chunk: int


class ClientRecord(Record, frozen=True):
    """A client process and its lease."""

    description: str
    expires_ns: int
    """By the client's own wall clock, for people; it rises with every renewal."""
    declared_dead: bool = False
    """From now on nothing that needs the lease succeeds: what it left behind may be removed."""
    lease_ns: int = 0
    """How long it may go without a renewal. 0: as long as clients of whoever asks."""


class CompletedRecord(Record, frozen=True):
    """What a completed upload became."""

    inode_id: int
    bucket: str
    key: bytes
    replaced: bool
    version_id: str = ""


class FeedRecord(Record, frozen=True):
    """A feed entry with its time."""

    kind: str
    inode_id: int
    parent_id: int
    name: bytes
    client_id: int
    time_ns: int


R = TypeVar("R")

_encoder = msgspec.msgpack.Encoder()


def encode(record: object) -> bytes:
    """Return *record* as a stored value."""
    return _FORMAT + _encoder.encode(record)


class Decoder:
    """Decodes the values of one kind of record."""

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(kind)
        self._kind = getattr(kind, "__name__", str(kind))

    def __call__(self, value: bytes) -> object:
        """Raises DataLossError for a value that is not one of this kind."""
        if value[:1] != _FORMAT:
            raise DataLossError(
                f"a {self._kind} record has format {value[:1].hex()}; this program reads "
                f"{_FORMAT.hex()}"
            )
        try:
            return self._decoder.decode(memoryview(value)[1:])
        except UNREADABLE as error:
            raise DataLossError(f"a {self._kind} record cannot be understood: {error}") from error


_inode = Decoder(Inode)
_raw_inode = msgspec.msgpack.Decoder(Inode).decode
_bucket = Decoder(Bucket)
_upload = Decoder(Upload)
_part = Decoder(Part)
_segment = Decoder(SegmentRecord)
_removal = Decoder(RemovalRecord)
_client = Decoder(ClientRecord)
_completed = Decoder(CompletedRecord)
_feed = Decoder(FeedRecord)
_version = Decoder(VersionRecord)
_extents = Decoder(tuple[Extent, ...])
_part_sizes = Decoder(tuple[PartSize, ...])


def decode_inode(value: bytes) -> Inode:
    """An Inode."""
    return _inode(value)  # type: ignore[return-value]


def decode_inodes(values: Sequence[bytes | None]) -> list[Inode | None]:
    """Many Inodes, None where there is no value: as ``decode_inode``, at a third of the cost."""
    try:
        return [
            None if value is None else _raw_inode(value[1:] if value[:1] == _FORMAT else b"")
            for value in values
        ]
    except UNREADABLE:
        return [None if value is None else decode_inode(value) for value in values]


def decode_bucket(value: bytes) -> Bucket:
    """A Bucket."""
    return _bucket(value)  # type: ignore[return-value]


def decode_upload(value: bytes) -> Upload:
    """An Upload."""
    return _upload(value)  # type: ignore[return-value]


def decode_part(value: bytes) -> Part:
    """A Part."""
    return _part(value)  # type: ignore[return-value]


def decode_segment(value: bytes) -> SegmentRecord:
    """A SegmentRecord."""
    return _segment(value)  # type: ignore[return-value]


def decode_removal(value: bytes) -> RemovalRecord:
    """A RemovalRecord."""
    return _removal(value)  # type: ignore[return-value]


def decode_client(value: bytes) -> ClientRecord:
    """A ClientRecord."""
    return _client(value)  # type: ignore[return-value]


def decode_completed(value: bytes) -> CompletedRecord:
    """A CompletedRecord."""
    return _completed(value)  # type: ignore[return-value]


def decode_feed(value: bytes) -> FeedRecord:
    """A FeedRecord."""
    return _feed(value)  # type: ignore[return-value]


def decode_version(value: bytes) -> VersionRecord:
    """A VersionRecord."""
    return _version(value)  # type: ignore[return-value]


def decode_extents(value: bytes) -> tuple[Extent, ...]:
    """A page of extents."""
    return _extents(value)  # type: ignore[return-value]


def decode_part_sizes(value: bytes) -> tuple[PartSize, ...]:
    """A page of part sizes."""
    return _part_sizes(value)  # type: ignore[return-value]


def feed_value(event: FeedEvent, time_ns: int) -> bytes:
    """The value of a feed entry."""
    return encode(
        FeedRecord(
            event.kind, event.inode_id, event.parent_id, event.name, event.client_id, time_ns
        )
    )


def encode_entry(entry: Entry) -> bytes:
    """An entry's value: longer if the object has a sequence."""
    if entry.sequence:
        return _ENTRY_SEQUENCE.pack(FORMAT_VERSION, *entry)
    return _ENTRY.pack(FORMAT_VERSION, entry.inode_id, entry.type, entry.flags)


def decode_entry(value: bytes) -> Entry:
    """An entry. Raises DataLossError."""
    if len(value) == ENTRY_SEQUENCE_BYTES and value[0] == FORMAT_VERSION:
        return Entry._make(_ENTRY_SEQUENCE.unpack(value)[1:])
    return Entry(*entry_fields(value)[1:])


def entry_fields(value: bytes) -> tuple[int, int, int, int]:
    """(format version, inode id, type, flags) of an entry, for loops over many. Raises
    DataLossError."""
    if value[:1] != _FORMAT or len(value) not in (ENTRY_BYTES, ENTRY_SEQUENCE_BYTES):
        raise DataLossError(f"a directory entry of {len(value)} bytes cannot be understood")
    return _ENTRY.unpack_from(value)


def inode_key(inode_id: int) -> bytes:
    try:
        return _LETTER_U64.pack(b"i", inode_id)
    except struct.error as error:  # from a damaged record
        raise DataLossError(f"{inode_id} is no inode's number") from error


def inline_key(inode_id: int) -> bytes:
    return _LETTER_U64.pack(b"l", inode_id)


def directory_prefix(inode_id: int) -> bytes:
    return _LETTER_U64.pack(b"d", inode_id)


def directory_end(inode_id: int) -> bytes:
    """The first key behind all entries of the directory."""
    return b"d" + _U64.pack(inode_id + 1)


def escape_name(name: bytes) -> bytes:
    """*name* so that NAME_END behind it keeps the order of names."""
    return name.replace(b"\0", b"\0\xff")


def unescape_name(text: bytes) -> bytes:
    """The inverse of ``escape_name``."""
    return text.replace(b"\0\xff", b"\0")


def versions_prefix(directory_id: int, name: bytes | None = None) -> bytes:
    """What the keys of all versions in the directory, or of one name, begin with."""
    own = _LETTER_U64.pack(b"w", directory_id)
    return own if name is None else own + escape_name(name) + NAME_END


def versions_end(directory_id: int) -> bytes:
    """The first key behind all versions in the directory."""
    return b"w" + _U64.pack(directory_id + 1)


def version_key(directory_id: int, name: bytes, sequence: int) -> bytes:
    return versions_prefix(directory_id, name) + _U64.pack(SEQUENCE_MAX - sequence)


def hidden_folder_key(directory_id: int, name: bytes) -> bytes:
    """Of a folder that holds nothing current; *name* without a slash."""
    return versions_prefix(directory_id, name + b"/")


def sequence_of(key: bytes) -> int:
    """The sequence of a version's key."""
    return SEQUENCE_MAX - unpack_number(key[-8:])


def version_name(key: bytes) -> tuple[bytes, int | None]:
    """(name, sequence) of a key of letter ``w``; the sequence of a hidden folder is None, and its
    name has its slash."""
    end = key.index(NAME_END, 9)  # no escaped name has two NULs in a row
    name = unescape_name(key[9:end])
    return name, None if end + len(NAME_END) == len(key) else sequence_of(key)


def null_version_key(directory_id: int, name: bytes) -> bytes:
    return b"z" + _U64.pack(directory_id) + name


def null_versions_range(directory_id: int) -> tuple[bytes, bytes]:
    return b"z" + _U64.pack(directory_id), b"z" + _U64.pack(directory_id + 1)


def long_name_key(directory_id: int, digest: bytes) -> bytes:
    return b"h" + _U64.pack(directory_id) + digest


def directory_time_key(inode_id: int) -> bytes:
    return b"t" + _U64.pack(inode_id)


def bucket_key(name: str) -> bytes:
    return BUCKET_PREFIX + name.encode()


def setting_key(bucket_id: int, aspect: str) -> bytes:
    return b"k" + _U64.pack(bucket_id) + aspect.encode()


def aspect_of(key: bytes) -> str:
    """The aspect of a setting's key."""
    return key[9:].decode()


def setting_range(bucket_id: int) -> tuple[bytes, bytes]:
    return b"k" + _U64.pack(bucket_id), b"k" + _U64.pack(bucket_id + 1)


def segment_key(segment_id: int) -> bytes:
    return b"s" + _U64.pack(segment_id)


def extents_key(inode_id: int, page: int) -> bytes:
    return b"x" + _U64_U32.pack(inode_id, page)


def extents_range(inode_id: int) -> tuple[bytes, bytes]:
    return b"x" + _U64.pack(inode_id), b"x" + _U64.pack(inode_id + 1)


def xattr_key(inode_id: int, name: bytes) -> bytes:
    return b"a" + _U64.pack(inode_id) + name


def xattr_range(inode_id: int) -> tuple[bytes, bytes]:
    return b"a" + _U64.pack(inode_id), b"a" + _U64.pack(inode_id + 1)


def session_key(inode_id: int, client_id: int, handle: int) -> bytes:
    return b"e" + _U64_U64_U64.pack(inode_id, client_id, handle)


def session_range(inode_id: int) -> tuple[bytes, bytes]:
    return b"e" + _U64.pack(inode_id), b"e" + _U64.pack(inode_id + 1)


def session_of(key: bytes) -> tuple[int, int, int]:
    """(inode, client, handle) of a session key."""
    return _U64_U64_U64.unpack(key[1:])


def planned_key(inode_id: int, client_id: int) -> bytes:
    return b"y" + _U64_U64.pack(inode_id, client_id)


def planned_range(inode_id: int) -> tuple[bytes, bytes]:
    return b"y" + _U64.pack(inode_id), b"y" + _U64.pack(inode_id + 1)


def client_key(client_id: int) -> bytes:
    return CLIENT_PREFIX + _U64.pack(client_id)


def client_of(key: bytes) -> int:
    """The client id of a client key."""
    number: int = _U64.unpack(key[1:])[0]
    return number


def id_block_key(client_id: int, first: int) -> bytes:
    return b"j" + _U64_U64.pack(client_id, first)


def id_block_range(client_id: int) -> tuple[bytes, bytes]:
    return b"j" + _U64.pack(client_id), b"j" + _U64.pack(client_id + 1)


def id_block_of(key: bytes, value: bytes) -> tuple[int, int]:
    """(first, last) of an id block. Raises DataLossError."""
    return _U64_U64.unpack(key[1:])[1], unpack_number(value)


def pack_number(number: int) -> bytes:
    """A number as a value."""
    return _U64.pack(number)


def unpack_number(value: bytes) -> int:
    """The number that a value is. Raises DataLossError."""
    if len(value) != _U64.size:
        raise DataLossError(f"a number of {len(value)} bytes cannot be understood")
    return int.from_bytes(value, "big")


def removal_key(due_ns: int, number: int) -> bytes:
    return REMOVAL_PREFIX + _U64_U64.pack(due_ns, number)


def removals_until(now_ns: int) -> bytes:
    """The first key of the queue that is not due at *now_ns*."""
    return REMOVAL_PREFIX + _U64.pack(now_ns + 1)


def upload_key(bucket_id: int, key: bytes, upload_id: str) -> bytes:
    return b"m" + _U64.pack(bucket_id) + pack((key, upload_id))


def uploads_prefix(bucket_id: int, key: bytes = b"") -> bytes:
    """The key before all uploads of the bucket whose key is *key* or comes after it."""
    return b"m" + _U64.pack(bucket_id) + (pack((key,)) if key else b"")


def uploads_end(bucket_id: int) -> bytes:
    return b"m" + _U64.pack(bucket_id + 1)


def part_key(upload_id: str, number: int) -> bytes:
    return b"p" + upload_id.encode() + struct.pack(">H", number)


def part_range(upload_id: str) -> tuple[bytes, bytes]:
    own = b"p" + upload_id.encode()
    return own, prefix_end(own)


def completed_key(upload_id: str) -> bytes:
    return b"c" + upload_id.encode()


def part_sizes_key(inode_id: int, page: int) -> bytes:
    return b"o" + _U64_U32.pack(inode_id, page)


def part_sizes_range(inode_id: int) -> tuple[bytes, bytes]:
    return b"o" + _U64.pack(inode_id), b"o" + _U64.pack(inode_id + 1)


def usage_key(bucket_id: int, shard: int, kind: bytes) -> bytes:
    return b"r" + _U64.pack(bucket_id) + bytes([shard]) + kind


def usage_range(bucket_id: int) -> tuple[bytes, bytes]:
    return b"r" + _U64.pack(bucket_id), b"r" + _U64.pack(bucket_id + 1)
