"""Envelopes: an object's data key, wrapped under a key of somebody who keeps keys. Pure but for
nonces and new keys.

What is stored with an object is an ``Encryption``; changing the outer key rewrites that record and
no byte of the content.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import DataLossError, PermissionDeniedError
from .pages import DATA_KEY_BYTES, NONCE_BYTES

SSE_S3 = "AES256"
SSE_KMS = "aws:kms"
SSE_KMS_DUAL = "aws:kms:dsse"
SSE_C = "SSE-C"

CUSTOMER_KEY_BYTES = 32
_CUSTOMER = b"SSE-C"


class Encryption(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an object's content is encrypted."""

    algorithm: str
    """SSE_S3, SSE_KMS, SSE_KMS_DUAL or SSE_C."""
    wrapped_key: bytes
    """The data key under the outer key."""
    key_id: str = ""
    """SSE_S3, SSE_KMS: the outer key's name, as its keeper knows it."""
    key_version: int = 0
    context: str = ""
    """SSE_KMS: the encryption context, base64 of JSON as the client gave it."""
    customer_key_md5: str = ""
    """SSE_C: base64 of the key's MD5, by which clients name it."""
    has_bucket_key: bool = False

    @property
    def is_customer_held(self) -> bool:
        """Whether only who asks can decrypt it."""
        return self.algorithm == SSE_C


def new_data_key() -> bytes:
    """A fresh data key."""
    return os.urandom(DATA_KEY_BYTES)


def wrap(outer_key: bytes, data_key: bytes, bound_to: bytes) -> bytes:
    """*data_key* under *outer_key*; it unwraps only together with the same *bound_to*."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(outer_key).encrypt(nonce, data_key, bound_to)


def unwrap(outer_key: bytes, wrapped: bytes, bound_to: bytes) -> bytes:
    """What ``wrap`` wrapped. Raises DataLossError if it was damaged, or another key's."""
    try:
        return AESGCM(outer_key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise DataLossError("a data key does not unwrap: damaged, or another key's") from error


def customer_encryption(customer_key: bytes, data_key: bytes, key_md5: str) -> Encryption:
    """The envelope of SSE-C: nothing that is stored tells the key."""
    return Encryption(SSE_C, wrap(customer_key, data_key, _CUSTOMER), customer_key_md5=key_md5)


def customer_data_key(encryption: Encryption, customer_key: bytes) -> bytes:
    """The data key. Raises PermissionDeniedError if it was not stored with this key."""
    try:
        return unwrap(customer_key, encryption.wrapped_key, _CUSTOMER)
    except DataLossError as error:
        raise PermissionDeniedError("the object was stored with another key") from error


def opaque_etag(data_key: bytes, md5: str) -> str:
    """An ETag in the form of an MD5 that tells nothing of the content: under SSE-C and SSE-KMS, AWS
    promises only that it is not the content's."""
    return hmac.digest(data_key, b"etag" + md5.encode(), hashlib.sha256).hex()[:32]
