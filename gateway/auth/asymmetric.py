"""Signature Version 4A: ECDSA over P-256, with a key derived from the secret. Pure.

The derivation is that of NIST SP 800-108 in counter mode with HMAC-SHA256: the label is the
algorithm's name, the context the access key and a counter that rises until the number drawn is
below the curve's order less one. Only the public key is needed here.
"""

from __future__ import annotations

import hmac
from fnmatch import fnmatchcase
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from ..errors import S3Error
from .signing import ALGORITHM_ASYMMETRIC

KEYS_CACHED_MAX = 1024  # a derivation costs as much as a check
SIGNATURE_CHARACTERS_MAX = 144  # a DER signature over P-256 in hex
REGIONS_MAX = 64  # of a set that a request names

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_COUNTER_MAX = 254
_CURVE = ec.SECP256R1()
_HASH = ec.ECDSA(SHA256())


class VerifyingKey:
    """Checks signatures that the holder of a secret made."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    def check(self, message: bytes, signature: str) -> bool:
        """Whether *signature*, in hex, is one of *message*."""
        if len(signature) > SIGNATURE_CHARACTERS_MAX:
            return False
        try:
            self._key.verify(bytes.fromhex(signature), message, _HASH)
        except (ValueError, InvalidSignature):
            return False
        return True


class VerifyingKeys:
    """Keys by access key; an entry remembers the secret that it came from."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, VerifyingKey]] = {}

    def get(self, access_key: str, secret_key: str) -> VerifyingKey:
        """The key that checks what the holder of *secret_key* signed."""
        cached = self._keys.get(access_key)
        if cached is not None and cached[0] == secret_key:
            return cached[1]
        private = ec.derive_private_key(derive_number(access_key, secret_key), _CURVE)
        key = VerifyingKey(private.public_key())
        self._keys.pop(access_key, None)
        if len(self._keys) >= KEYS_CACHED_MAX:
            del self._keys[next(iter(self._keys))]
        self._keys[access_key] = (secret_key, key)
        return key


def derive_number(access_key: str, secret_key: str) -> int:
    """The private key that belongs to an access key and its secret."""
    secret = b"AWS4A" + secret_key.encode()
    head = (1).to_bytes(4, "big") + ALGORITHM_ASYMMETRIC.encode() + b"\0" + access_key.encode()
    for counter in range(1, _COUNTER_MAX + 1):
        drawn = hmac.digest(secret, head + bytes([counter]) + (256).to_bytes(4, "big"), "sha256")
        number = int.from_bytes(drawn, "big")
        if number <= _ORDER - 2:
            return number + 1
    raise S3Error("InternalError")  # once in 2 ** 8000 secrets


def check_region_set(regions: str, region: str, code: str) -> None:
    """Check that a signature for *regions*, a list that may hold ``*``, is good in *region*.

    Raises S3Error *code*.
    """
    if not _matches(regions, region):
        raise S3Error(
            code,
            f"The region set of the signature does not include this region; expecting '{region}'",
            fields={"Region": region},
        )


@lru_cache(maxsize=256)
def _matches(regions: str, region: str) -> bool:
    patterns = regions.split(",", REGIONS_MAX)[:REGIONS_MAX]
    # A bracket would begin a character class, which region sets do not have.
    return any(fnmatchcase(region, one.strip()) for one in patterns if not set("[?") & set(one))
