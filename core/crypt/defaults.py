"""How a bucket encrypts new content that says nothing itself: the setting as both doors read it.
Pure."""

from __future__ import annotations

import msgspec

ASPECT = "encryption"
"""The name of the setting."""


class DefaultEncryption(msgspec.Struct, frozen=True, omit_defaults=True):
    """The default of a bucket."""

    algorithm: str = ""
    """Empty: none; the rule says something else."""
    key_id: str = ""
    """Of aws:kms; empty: the store's own key."""
    bucket_key: bool | None = None
    blocked: tuple[str, ...] = ()
    """Kinds of encryption that requests may not choose."""


encode_default = msgspec.msgpack.Encoder().encode
decode_default = msgspec.msgpack.Decoder(DefaultEncryption).decode
