"""ETags: their forms, and how one comes from content or from parts. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

EMPTY_MD5 = hashlib.md5(b"", usedforsecurity=False).hexdigest()

_MD5_FORM = re.compile(r"[0-9a-f]{32}")


def quote_etag(etag: str) -> str:
    """As it stands in a header."""
    return f'"{etag}"'


def unquote_etag(value: str) -> str:
    """The opaque text of an ETag from a header or document: no quotes, no weakness mark.

    Clients send both quoted and bare ones; S3 takes both.
    """
    value = value.strip()
    if value.startswith("W/"):
        value = value[2:]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value.strip('"')


def multipart_etag(part_etags: Iterable[str]) -> str:
    """The ETag of an object made of parts: MD5 over their MD5s, and their number.

    A part whose ETag is not an MD5 (it was copied from a file written in place) enters by the MD5
    of its ETag's text: stable, and no MD5 of content is claimed by the result anyway.
    """
    whole = hashlib.md5(usedforsecurity=False)
    count = 0
    for etag in part_etags:
        if _MD5_FORM.fullmatch(etag):
            whole.update(bytes.fromhex(etag))
        else:
            whole.update(hashlib.md5(etag.encode(), usedforsecurity=False).digest())
        count += 1
    return f"{whole.hexdigest()}-{count}"
