"""Names of the objects that logs are delivered as:
docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html, "Log object key format". Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from ..settings.logging import Logging
from .line import MONTHS

UNIQUE_DIGITS = 16


def object_key(
    target: Logging,
    bucket: str,
    account: str,
    region: str,
    *,
    day: str,
    delivered_seconds: float,
    unique: str,
) -> bytes:
    """The key of an object with lines of *bucket*. *day*: ``YYYY-MM-DD``, of its lines if the
    target names objects by EventTime. *unique*: from what it was made; the same gives the same
    key."""
    moment = datetime.fromtimestamp(int(delivered_seconds), UTC)
    digest = hashlib.sha256(f"{unique} {bucket} {day}".encode()).hexdigest()
    ending = digest[:UNIQUE_DIGITS].upper()
    if target.key_format != "partitioned":
        return f"{target.prefix}{moment:%Y-%m-%d-%H-%M-%S}-{ending}".encode()
    stamp = f"{moment:%Y-%m-%d-%H-%M-%S}"
    if target.date_source == "EventTime":
        stamp = f"{day}-00-00-00"
    year, month, date = stamp.split("-")[:3]
    folders = f"{account}/{region}/{bucket}/{year}/{month}/{date}"
    return f"{target.prefix}{folders}/{stamp}-{ending}".encode()


def day_of(line: bytes) -> str:
    """The day of a line as ``YYYY-MM-DD``; empty if it is none. Its time is its third field."""
    fields = line.split(b" ", 4)
    if len(fields) < 5:
        return ""
    date, _, _ = fields[2].removeprefix(b"[").partition(b":")
    day, _, rest = date.decode("ascii", "replace").partition("/")
    month, _, year = rest.partition("/")
    if month not in MONTHS or not (day.isdigit() and year.isdigit()):
        return ""
    return f"{int(year):04d}-{MONTHS.index(month) + 1:02d}-{int(day):02d}"
