"""One line of an access log: docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote_from_bytes

NOTHING = "-"
TEXT_CHARACTERS_MAX = 4096
"""Of what a client sends and a line tells: request line, referer, user agent, host."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[^\x20\x21\x23-\x7e]")
_SPACES = re.compile(r"[^\x21-\x7e]")


class Visit(NamedTuple):
    """One request, as a line tells of it. Empty texts and None are what is not known."""

    bucket_owner: str
    """Canonical id."""
    bucket: str
    time_ns: int
    address: str
    requester: str
    """Canonical id of an account, ARN of a user or role; empty: who signs nothing."""
    request_id: str
    operation: str
    """As ``operations.name_of`` gives it."""
    key: bytes
    request_line: str
    """Method, target and version; empty where a line tells of a part of a request."""
    status: int
    error_code: str
    sent_bytes: int
    """Of the answer's body."""
    object_bytes: int | None
    total_ns: int | None
    turnaround_ns: int | None
    """From the end of the request to the beginning of its answer."""
    referer: str
    user_agent: str
    version_id: str
    host_id: str
    signature_version: str
    cipher: str
    auth_method: str
    host: str
    tls_version: str
    region: str


def render(visit: Visit) -> str:
    """The line, without its end. What a client sent cannot begin another field or line."""
    return " ".join(
        (
            visit.bucket_owner,
            visit.bucket,
            f"[{time_text(visit.time_ns)}]",
            _word(visit.address),
            _word(visit.requester),
            visit.request_id,
            visit.operation,
            _word(quote_from_bytes(visit.key)),
            _quoted(visit.request_line),
            _number(visit.status or None),
            _word(visit.error_code),
            _number(visit.sent_bytes or None),
            _number(visit.object_bytes),
            _milliseconds(visit.total_ns),
            _milliseconds(visit.turnaround_ns),
            _quoted(visit.referer),
            _quoted(visit.user_agent),
            _word(visit.version_id),
            visit.host_id,
            _word(visit.signature_version),
            _word(visit.cipher),
            _word(visit.auth_method),
            _word(visit.host),
            _word(visit.tls_version),
            NOTHING,  # ARN of an access point: there are none
            NOTHING,  # whether an ACL was needed: not told
            _word(visit.region),
        )
    )


def time_text(time_ns: int) -> str:
    """As ``06/Feb/2019:00:00:38 +0000``; months have their English names in every locale."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    month = MONTHS[moment.month - 1]
    return f"{moment.day:02d}/{month}/{moment.year:04d}:{moment:%H:%M:%S} +0000"


def _word(text: str) -> str:
    return _SPACES.sub(_escape, text[:TEXT_CHARACTERS_MAX]) or NOTHING


def _quoted(text: str) -> str:
    return f'"{_UNSAFE.sub(_escape, text[:TEXT_CHARACTERS_MAX]) or NOTHING}"'


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape"))


def _number(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _milliseconds(value_ns: int | None) -> str:
    return NOTHING if value_ns is None else str(value_ns // 1_000_000)
