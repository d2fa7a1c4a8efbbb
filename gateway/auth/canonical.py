"""The canonical form of a request, which both kinds of Signature Version 4 sign. Pure.

It is built from the undecoded request target: path and query are decoded and encoded again in the
one canonical way, so that ``%7e`` and ``~`` sign alike; nothing else is normalised.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from ..errors import S3Error
from ..headers import Headers
from ..routing import split_query
from .request import SignedRequest

SIGNED_HEADERS_CHARACTERS_MAX = 4096  # far above any client's list; bounds a cached text

_UNRESERVED = r"A-Za-z0-9\-._~"
# Bytes that must be encoded, encoded: all but unreserved ones and the slash.
_ENCODED = r"%(?:[01][0-9A-F]|2[0-9A-C]|3[A-F]|40|5[B-E]|60|7[BCDF]|[89A-F][0-9A-F])"
_CANONICAL_PATH = re.compile(rf"(?:[{_UNRESERVED}/]++|{_ENCODED})*+")
_CANONICAL_TEXT = rf"(?:[{_UNRESERVED}]++|{_ENCODED}|%2F)*+"
_CANONICAL_ITEM = re.compile(rf"{_CANONICAL_TEXT}=?{_CANONICAL_TEXT}")
_BLANKS = re.compile(r"[ \t]{2,}|\t")


class SignedNames(NamedTuple):
    """The list of signed headers: sorted, as a set, and as it goes into the canonical request."""

    ordered: tuple[str, ...]
    members: frozenset[str]
    text: str


def signed_names(text: str, code: str) -> SignedNames:
    """Split a ``SignedHeaders`` list. Raises S3Error *code* if it is absurdly long."""
    if len(text) > SIGNED_HEADERS_CHARACTERS_MAX:
        raise S3Error(code, "The list of signed headers is too long.")
    return _split_names(text)


@lru_cache(maxsize=256)
def _split_names(text: str) -> SignedNames:
    ordered = tuple(sorted({name for name in text.lower().split(";") if name}))
    return SignedNames(ordered, frozenset(ordered), ";".join(ordered))


def check_signed_headers(names: SignedNames, headers: Headers) -> None:
    """Check that host and every ``x-amz-*`` header are signed. Raises S3Error AccessDenied."""
    members = names.members
    missing = [name for name in headers if name not in members and name.startswith("x-amz-")]
    if "host" not in members:
        missing.insert(0, "host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(missing)},
        )


def canonical_request(
    request: SignedRequest, query: str, names: SignedNames, content_sha256: str
) -> str:
    """The canonical request, with *query* already canonical. A signed header that did not arrive
    leaves its line out: no signature over it can match."""
    lines = [request.method, canonical_path(request.raw_path), query]
    headers = request.headers
    for name in names.ordered:
        value = headers.get(name)
        if value is None:
            continue
        if "  " in value or "\t" in value:
            value = _BLANKS.sub(" ", value)
        lines.append(f"{name}:{value}")
    lines += ("", names.text, content_sha256)
    return "\n".join(lines)


def canonical_path(raw_path: str) -> str:
    """The path, encoded once as S3 does it: only unreserved characters and slashes stay."""
    if _CANONICAL_PATH.fullmatch(raw_path):
        return raw_path or "/"
    return quote(unquote_to_bytes(raw_path.encode("utf-8", "surrogateescape")), safe="/~")


def canonical_query(raw_query: str, *, without: str = "") -> str:
    """The query's items, encoded canonically and sorted; parameter *without* is left out.

    Raises S3Error InvalidArgument if there are too many.
    """
    if not raw_query:
        return ""
    items: list[tuple[str, str]] = []
    for item in split_query(raw_query):
        name, _, value = item.partition("=")
        if not _CANONICAL_ITEM.fullmatch(item):
            name, value = _encode_again(name), _encode_again(value)
        if name != without:
            items.append((name, value))
    items.sort()
    return "&".join([f"{name}={value}" for name, value in items])


def _encode_again(text: str) -> str:
    plain = text.replace("+", " ").encode("utf-8", "surrogateescape")
    return quote(unquote_to_bytes(plain), safe="-_.~")
