"""Rules by which objects of a bucket end: the stored setting ``lifecycle``.

The S3 door makes the records from documents that it has checked; the engine that applies them reads
nothing else.
"""

from __future__ import annotations

import msgspec

ASPECT = "lifecycle"
"""Name of the setting."""

MINIMUM_SIZE_DEFAULT = "all_storage_classes_128K"
MINIMUM_SIZES = (MINIMUM_SIZE_DEFAULT, "varies_by_storage_class")


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which objects a rule is for: those for which everything holds that is set."""

    prefix: str | None = None
    tags: dict[str, str] = {}
    size_greater_than: int | None = None
    size_less_than: int | None = None
    together: bool = False
    """The document says ``And``. No matter but to who reads it again."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule. What is None does not happen by it."""

    id: str
    enabled: bool
    filter: Filter = Filter()
    prefix_alone: bool = False
    """The document has no ``Filter`` but the older ``Prefix``."""
    expiration_days: int | None = None
    """Days after its last change, at the next midnight UTC."""
    expiration_date_ns: int | None = None
    """A midnight UTC, from which on everything that matches ends."""
    expired_delete_marker: bool | None = None
    """Whether delete markers go that are the last version of their key."""
    noncurrent_days: int | None = None
    """Days after it was replaced."""
    newer_noncurrent_versions: int | None = None
    """How many of the noncurrent versions stay nevertheless, the newest ones."""
    abort_multipart_days: int | None = None
    """Days after it was begun."""


class Lifecycle(msgspec.Struct, frozen=True, omit_defaults=True):
    """All rules of a bucket, in the order of the document."""

    rules: tuple[Rule, ...]
    minimum_size: str = MINIMUM_SIZE_DEFAULT
    """``x-amz-transition-default-minimum-object-size``: about transitions, of which there are
    none; kept since clients compare it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Lifecycle)


def encode_lifecycle(lifecycle: Lifecycle) -> bytes:
    """The stored setting."""
    return _encoder.encode(lifecycle)


def decode_lifecycle(value: bytes) -> Lifecycle:
    """The inverse of ``encode_lifecycle``."""
    return _decoder.decode(value)
