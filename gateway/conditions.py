"""Conditional requests: what holds for a read or a copy's source, what a write must check. Pure.

Precedence is that of RFC 9110 and of S3: If-Match beats If-Unmodified-Since, If-None-Match beats
If-Modified-Since. A date that is none is ignored. Times compare in whole seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.meta.records import NO_CONDITIONS, WriteConditions
from .body.digest import unquote_etag
from .errors import S3Error, invalid_argument, not_implemented
from .headers import Headers
from .times import NANOSECONDS, parse_http_date, parse_time_ns

ANY = "*"


class _Names(NamedTuple):
    """Header names of one set of read conditions, and as errors spell them."""

    match: str
    unmodified: str
    none_match: str
    modified: str
    label: str


_READ = _Names("if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "")
_SOURCE = _Names(
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-",
)


def is_not_modified(headers: Headers, etag: str, mtime_ns: int) -> bool:
    """Whether GET or HEAD shall answer 304 for an object with *etag* (unquoted) and *mtime_ns*.

    Raises S3Error PreconditionFailed.
    """
    return _failed_freshness(headers, etag, mtime_ns, _READ) is not None


def check_copy_source(headers: Headers, etag: str, mtime_ns: int) -> None:
    """Check the ``x-amz-copy-source-if-*`` headers. Raises S3Error PreconditionFailed."""
    failed = _failed_freshness(headers, etag, mtime_ns, _SOURCE)
    if failed is not None:
        raise _failed(failed)


def range_applies(headers: Headers, etag: str, mtime_ns: int) -> bool:
    """Whether If-Range, if there is one, lets the Range header count."""
    value = headers.get("if-range")
    if value is None:
        return True
    seconds = parse_http_date(value)
    if seconds is not None:
        return seconds == mtime_ns // NANOSECONDS
    return not value.startswith("W/") and unquote_etag(value) == etag


def write_conditions(headers: Headers) -> WriteConditions:
    """The conditions of PutObject, CopyObject (its destination) and CompleteMultipartUpload.

    Raises S3Error NotImplemented for conditions that only reads have.
    """
    match = headers.get("if-match")
    none_match = headers.get("if-none-match")
    for name in ("if-modified-since", "if-unmodified-since"):
        if name in headers:
            raise not_implemented(f"{name} on a write")
    if match is None and none_match is None:
        return NO_CONDITIONS
    return WriteConditions(if_match=_etags(match), if_none_match=_etags(none_match))


def rename_conditions(headers: Headers) -> tuple[WriteConditions, WriteConditions]:
    """The conditions of RenameObject on source and target."""
    return _all_conditions(headers, "x-amz-rename-source-"), _all_conditions(headers, "")


def _all_conditions(headers: Headers, prefix: str) -> WriteConditions:
    dates: list[int | None] = []
    for name in ("if-unmodified-since", "if-modified-since"):
        seconds = parse_http_date(headers.get(prefix + name, ""))
        dates.append(None if seconds is None else seconds * NANOSECONDS)
    return WriteConditions(
        if_match=_etags(headers.get(prefix + "if-match")),
        if_none_match=_etags(headers.get(prefix + "if-none-match")),
        if_unmodified_since_ns=dates[0],
        if_modified_since_ns=dates[1],
    )


def delete_conditions(headers: Headers) -> WriteConditions:
    """The conditions of DeleteObject. Raises S3Error: InvalidArgument, NotImplemented."""
    match = headers.get("if-match")
    size = headers.get("x-amz-if-match-size")
    mtime = headers.get("x-amz-if-match-last-modified-time")
    if "if-none-match" in headers:
        raise not_implemented("if-none-match on a delete")
    if match is None and size is None and mtime is None:
        return NO_CONDITIONS
    return member_conditions(match, size, mtime)


def member_conditions(match: str | None, size: str | None, mtime: str | None) -> WriteConditions:
    """Conditions of one deletion, from headers or a DeleteObjects document.

    Raises S3Error InvalidArgument.
    """
    size_bytes = None
    if size is not None:
        if not (size.isascii() and size.isdigit()) or len(size) > 18:
            raise invalid_argument("The size is not a number", name="if-match-size", value=size)
        size_bytes = int(size)
    mtime_ns = None
    if mtime is not None:
        mtime_ns = parse_time_ns(mtime)
        if mtime_ns is None:
            raise invalid_argument(
                "The time is not a date", name="if-match-last-modified-time", value=mtime
            )
    return WriteConditions(
        if_match=_etags(match), if_match_size=size_bytes, if_match_mtime_ns=mtime_ns
    )


def _failed_freshness(headers: Headers, etag: str, mtime_ns: int, names: _Names) -> str | None:
    """The condition by which the client's copy is fresh; None if there is none.

    Raises S3Error PreconditionFailed for the other two conditions.
    """
    match = headers.get(names.match)
    if match is not None:
        if not _contains(match, etag):
            raise _failed(names.label + "If-Match")
    elif (unmodified := headers.get(names.unmodified)) is not None:
        seconds = parse_http_date(unmodified)
        if seconds is not None and mtime_ns // NANOSECONDS > seconds:
            raise _failed(names.label + "If-Unmodified-Since")
    none_match = headers.get(names.none_match)
    if none_match is not None:
        return names.label + "If-None-Match" if _contains(none_match, etag) else None
    modified = headers.get(names.modified)
    if modified is not None:
        seconds = parse_http_date(modified)
        if seconds is not None and mtime_ns // NANOSECONDS <= seconds:
            return names.label + "If-Modified-Since"
    return None


def _contains(value: str, etag: str) -> bool:
    etags = _etags(value)
    return ANY in etags or etag in etags


def _etags(value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(unquote_etag(item) for item in value.split(","))


def _failed(condition: str) -> S3Error:
    return S3Error("PreconditionFailed", fields={"Condition": condition})
