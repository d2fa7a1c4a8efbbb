"""Names that S3 allows for buckets and keys. Pure."""

from __future__ import annotations

import re

from ..core.limits import KEY_BYTES_MAX
from ..core.meta.bucket_names import is_bucket_name
from .errors import S3Error

_SHAPE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")


def has_bucket_shape(name: str) -> bool:
    """Whether *name* has the length and characters of a bucket name; the cheap test of routing."""
    return _SHAPE.fullmatch(name) is not None


def check_new_bucket_name(name: str) -> None:
    """Check every rule that AWS has for a new bucket. Raises S3Error InvalidBucketName."""
    if not is_bucket_name(name):
        raise invalid_bucket_name(name)


def invalid_bucket_name(name: str) -> S3Error:
    """The error for a name that no bucket can have."""
    return S3Error("InvalidBucketName", fields={"BucketName": name})


def check_key(key: bytes) -> None:
    """Check that *key* is 1 to 1,024 bytes of UTF-8.

    Raises S3Error: KeyTooLongError, InvalidURI, UserKeyMustBeSpecified.
    """
    if len(key) > KEY_BYTES_MAX:
        raise S3Error(
            "KeyTooLongError",
            fields={"Size": str(len(key)), "MaxSizeAllowed": str(KEY_BYTES_MAX)},
        )
    if not key:
        raise S3Error("UserKeyMustBeSpecified")
    if not key.isascii():
        try:
            key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise S3Error("InvalidURI") from error
