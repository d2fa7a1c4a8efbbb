"""How far the rules of each bucket were applied, in the KV: so that a crash costs no more than the
last pages, and operators see what happens."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import msgspec

from ..errors import UNREADABLE
from ..kv.keys import prefix_end
from ..kv.store import KeyValueStore, ReadTransaction, Transaction

PREFIX = b"C/lifecycle/"
_NUMBER = struct.Struct(">Q")


class Tally(msgspec.Struct):
    """What one pass did."""

    scanned: int = 0
    """Keys, versions, markers and uploads that were looked at."""
    objects: int = 0
    """Current objects that ended."""
    versions: int = 0
    """Noncurrent versions, and markers that were."""
    markers: int = 0
    """Delete markers with nothing behind them."""
    uploads: int = 0
    size_bytes: int = 0
    """Of the objects and versions that ended. In a versioned bucket the former still take space."""
    kept: int = 0
    """What had ended when it was looked at, and had changed or was locked when it was to be
    removed."""

    @property
    def ended(self) -> int:
        """How much ended in all."""
        return self.objects + self.versions + self.markers + self.uploads


class Position(msgspec.Struct, frozen=True):
    """Where a pass goes on."""

    region: int = 0
    """Which of the plan's prefixes: those of objects first, then those of uploads."""
    key: bytes = b""
    sequence: int | None = None
    newer: int = 0
    made_ns: int = 0
    upload_id: str = ""


class Progress(msgspec.Struct):
    """The last pass over a bucket, or the one under way."""

    bucket: str
    rules: bytes
    """Digest of the rules."""
    now_ns: int
    """The moment that the pass is for."""
    finished_ns: int = 0
    """0: it is under way."""
    position: Position = Position()
    tally: Tally = msgspec.field(default_factory=Tally)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Progress)


def digest_of(setting: bytes, versioning: int) -> bytes:
    """Names the rules *setting* in a bucket with *versioning*."""
    return hashlib.sha256(bytes([versioning]) + setting).digest()[:16]


def _key(bucket_id: int) -> bytes:
    return PREFIX + _NUMBER.pack(bucket_id)


async def read_all(kv: KeyValueStore) -> dict[int, Progress]:
    """The progress of all buckets, by the bucket's inode. Records that are damaged are left out:
    those buckets are gone over anew."""

    async def read(tx: ReadTransaction) -> dict[int, Progress]:
        found: dict[int, Progress] = {}
        for key, value in await tx.get_range(PREFIX, prefix_end(PREFIX)):
            with contextlib.suppress(*UNREADABLE, struct.error):
                found[_NUMBER.unpack(key[len(PREFIX) :])[0]] = _decoder.decode(value)
        return found

    return await kv.read(read)


async def write(kv: KeyValueStore, bucket_id: int, progress: Progress | None) -> None:
    """Keep the progress of a bucket; None: forget it."""

    async def change(tx: Transaction) -> None:
        if progress is None:
            tx.clear(_key(bucket_id))
        else:
            tx.set(_key(bucket_id), _encoder.encode(progress))

    await kv.transact(change)
