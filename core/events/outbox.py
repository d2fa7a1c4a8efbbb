"""How events wait for their delivery: keys and values in the KV. Pure.

Each destination of each bucket has a queue. An event is written by the transaction that makes the
change, behind a versionstamp, so that a queue is in the order of commits. Keys, behind ``E``:

    q  bucket id, destination, NUL, versionstamp, number   an event
    c  bucket id, destination                              how many wait (a counter)
    l  bucket id, destination                              how many were lost (a counter)
    w                                                      changes with each event, to be watched

(``En`` are names of files: core/meta/file_names.py.)
"""

from __future__ import annotations

import struct

import msgspec

from ..kv.keys import prefix_end
from ..kv.store import VERSIONSTAMP_BYTES

QUEUES_PREFIX = b"Eq"
COUNTS_PREFIX = b"Ec"
LOST_PREFIX = b"El"
WATCH_KEY = b"Ew"
NUMBER_BYTES = 8
_SEQUENCER_BYTES = VERSIONSTAMP_BYTES + NUMBER_BYTES
_U64 = struct.Struct(">Q")


class Queue(msgspec.Struct, frozen=True, order=True):
    """Whose events wait, for whom."""

    bucket_id: int
    destination: str

    @property
    def name(self) -> bytes:
        """As keys have it."""
        return _U64.pack(self.bucket_id) + self.destination.encode()

    @property
    def prefix(self) -> bytes:
        """What the keys of its events begin with."""
        return QUEUES_PREFIX + self.name + b"\0"

    @property
    def count_key(self) -> bytes:
        """Counter of what waits."""
        return COUNTS_PREFIX + self.name

    @property
    def lost_key(self) -> bytes:
        """Counter of what was not told."""
        return LOST_PREFIX + self.name


def events_range(queue: Queue) -> tuple[bytes, bytes]:
    """The keys of a queue's events."""
    return queue.prefix, prefix_end(queue.prefix)


def counts_range() -> tuple[bytes, bytes]:
    """The counters of what waits, of all queues."""
    return COUNTS_PREFIX, prefix_end(COUNTS_PREFIX)


def lost_range() -> tuple[bytes, bytes]:
    """The counters of what was lost, of all queues."""
    return LOST_PREFIX, prefix_end(LOST_PREFIX)


def queue_of(key: bytes) -> Queue:
    """The queue of a counter's key."""
    own = key[len(COUNTS_PREFIX) :]
    return Queue(_U64.unpack_from(own)[0], own[_U64.size :].decode())


def waiting_of(value: bytes | None) -> int:
    """What a counter says."""
    return 0 if value is None else int.from_bytes(value, "little", signed=True)


def sequencer_of(key: bytes) -> str:
    """What orders the events of an object: a later one has the greater text."""
    return key[-_SEQUENCER_BYTES:].hex().upper()


class Event(msgspec.Struct, frozen=True, array_like=True):
    """What happened, as it waits."""

    name: str
    """Without ``s3:``, or ``TEST_EVENT``."""
    rule_id: str
    bucket: str
    owner: str
    """Canonical id of the bucket's owner."""
    region: str
    key: bytes
    """With ``folder_id``: what the keys below the folder begin with."""
    time_ns: int
    size: int | None = None
    etag: str = ""
    version_id: str = ""
    principal: str = ""
    address: str = ""
    request_id: str = ""
    folder_id: int = 0
    """Not 0: it happened to all below this folder, which is still to be walked."""
    after: bytes = b""
    """How far it was walked: a key, without what it begins with."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode


def encode_event(event: Event) -> bytes:
    """The value of an event."""
    return _encode(event)


def decode_event(value: bytes) -> Event:
    """An event. Raises what msgspec raises for damaged ones (errors.UNREADABLE)."""
    return _decode(value)
