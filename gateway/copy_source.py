"""The ``x-amz-copy-source`` header. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import S3Error, invalid_argument
from .names import check_key, has_bucket_shape, invalid_bucket_name

_HEADER = "x-amz-copy-source"
_VERSION = "?versionId="
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class CopySource(NamedTuple):
    bucket: str
    key: bytes
    version_id: str
    """Empty: the current version."""


def parse_copy_source(value: str) -> CopySource:
    """Read ``[/]bucket/key[?versionId=…]``, percent-decoded once; ``+`` is a plus.

    Some clients do not encode: a value that no encoder can have made is taken as it is. Raises
    S3Error: InvalidArgument, InvalidBucketName, KeyTooLongError, InvalidURI.
    """
    path, _, version_id = value.partition(_VERSION)
    raw = path.encode("utf-8", "surrogateescape")
    if not _BAD_PERCENT.search(raw):
        raw = unquote_to_bytes(raw)
    raw_bucket, slash, key = raw.removeprefix(b"/").partition(b"/")
    if not slash or not raw_bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            name=_HEADER,
            value=value,
        )
    bucket = raw_bucket.decode("utf-8", "replace")
    if bucket.startswith("arn:"):
        raise S3Error("NotImplemented", "Copying from an access point is not implemented")
    if not has_bucket_shape(bucket):
        raise invalid_bucket_name(bucket)
    check_key(key)
    return CopySource(bucket, key, version_id)
