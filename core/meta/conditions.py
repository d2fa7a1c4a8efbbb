"""Pure: do the conditions of a write hold for what is there now?"""

from __future__ import annotations

from ..errors import NotFoundError, PreconditionFailedError
from .records import Inode, WriteConditions

_SECOND = 1_000_000_000


def check_conditions(conditions: WriteConditions, present: Inode | None, what: str) -> None:
    """Raise PreconditionFailedError if a condition does not hold, NotFoundError if one asks for an
    object
    that is absent (S3: If-Match on a missing key is NoSuchKey)."""
    wants_presence = (
        conditions.if_match
        or conditions.if_match_size is not None
        or conditions.if_match_mtime_ns is not None
    )
    if present is None:
        if wants_presence:
            raise NotFoundError(f"{what}: does not exist")
        return
    etag = present.effective_etag()
    if conditions.if_match and not _matches(etag, conditions.if_match):
        raise PreconditionFailedError(f"{what}: its ETag is another one", condition="If-Match")
    if conditions.if_none_match and _matches(etag, conditions.if_none_match):
        raise PreconditionFailedError(f"{what}: exists", condition="If-None-Match")
    if conditions.if_match_size is not None and conditions.if_match_size != present.size:
        raise PreconditionFailedError(
            f"{what}: its size is {present.size}", condition="x-amz-if-match-size"
        )
    wanted = conditions.if_match_mtime_ns
    if wanted is not None and wanted // _SECOND != present.mtime_ns // _SECOND:
        raise PreconditionFailedError(
            f"{what}: was modified at another time",
            condition="x-amz-if-match-last-modified-time",
        )
    _check_dates(conditions, present, what)


def _check_dates(conditions: WriteConditions, present: Inode, what: str) -> None:
    """As HTTP has it, entity tags beat dates."""
    modified = present.mtime_ns // _SECOND
    limit = conditions.if_unmodified_since_ns
    if limit is not None and not conditions.if_match and modified > limit // _SECOND:
        raise PreconditionFailedError(f"{what}: was modified", condition="If-Unmodified-Since")
    limit = conditions.if_modified_since_ns
    if limit is not None and not conditions.if_none_match and modified <= limit // _SECOND:
        raise PreconditionFailedError(f"{what}: was not modified", condition="If-Modified-Since")


def _matches(etag: str, wanted: tuple[str, ...]) -> bool:
    return "*" in wanted or etag in wanted
