"""Sealing what must not be read by who has only the metadata: secrets of keys, session tokens.

AES-256-GCM under a key derived from the cluster's secret file, which is not in the KV, and a random
salt, which is. A store without such a file seals with the salt alone: then who can read the
metadata can read the secrets, and nobody else.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..challenge import ClusterSecret
from ..errors import DataLossError

SALT_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_PURPOSE = b"craqen identity 1"


class Sealer:
    """Seals and opens. The key shows itself in no text."""

    __slots__ = ("_cipher",)

    def __init__(self, secret: ClusterSecret | None, salt: bytes) -> None:
        material = b"" if secret is None else secret.derived(_PURPOSE)
        kdf = HKDF(algorithm=SHA256(), length=32, salt=salt, info=_PURPOSE)
        self._cipher = AESGCM(kdf.derive(material or salt))

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """*plain* so that only ``open`` with the same *context* gives it back."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The inverse of ``seal``. Raises DataLossError if it was not sealed by this key, for this
        *context*, or was changed."""
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise DataLossError(f"{context.decode()}: a sealed value of {len(sealed)} bytes is cut")
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except InvalidTag:
            raise DataLossError(
                f"{context.decode(errors='replace')}: cannot be unsealed; it was sealed under "
                f"another cluster secret, or is damaged: restore the secret file, or make a new key"
            ) from None
