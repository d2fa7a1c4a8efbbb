"""How settings are stored: each aspect is one record of its module, as MessagePack. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from ..bucket_info import BucketInfo

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


class Stored(Generic[T]):
    """One aspect of buckets, and the type of its records."""

    def __init__(self, aspect: str, kind: type[T]) -> None:
        self.aspect = aspect
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def of(self, info: BucketInfo) -> T | None:
        """What *info*'s bucket has; None: it was never set."""
        return info.parsed(self.aspect, self._decode)

    def decode(self, value: bytes) -> T:
        """The record that *value* is."""
        return self._decode(value)

    def encode(self, record: T) -> bytes:
        """The value to store."""
        return _encoder.encode(record)
