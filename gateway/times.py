"""Times as HTTP headers and S3 documents write them. Pure; formatting is cached."""

from __future__ import annotations

from calendar import timegm
from datetime import UTC, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from time import gmtime, strftime

NANOSECONDS = 1_000_000_000

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_SECONDS = tuple(f"{second:02d}." for second in range(60))
_MILLISECONDS = tuple(f"{millisecond:03d}Z" for millisecond in range(1000))
_DATE_CHARACTERS_MAX = 64  # every form of an HTTP date is far shorter


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """``Fri, 24 May 2013 00:00:00 GMT``, whatever the locale."""
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year:04d} "
        f"{hour:02d}:{minute:02d}:{second:02d} GMT"
    )


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:", gmtime(minutes * 60))


def iso_milliseconds(time_ns: int) -> str:
    """``2013-05-24T00:00:00.000Z``, as documents have it."""
    milliseconds = time_ns // 1_000_000
    seconds = milliseconds // 1000
    return _minute(seconds // 60) + _SECONDS[seconds % 60] + _MILLISECONDS[milliseconds % 1000]


def iso_seconds(seconds: float) -> str:
    """``2013-05-24T00:00:00Z``, as error fields have it."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


def parse_http_date(text: str) -> int | None:
    """Seconds since 1970 of a date in any of the three forms of HTTP; None if it is none."""
    if len(text) > _DATE_CHARACTERS_MAX:
        return None
    try:
        parsed = parsedate_tz(text)
        if parsed is None:
            return None
        # datetime refuses what is no date, where timegm would count on.
        return timegm(datetime(*parsed[:6]).timetuple()) - (parsed[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def parse_time_ns(text: str) -> int | None:
    """Nanoseconds since 1970 of an HTTP date or an ISO 8601 time; None if it is neither."""
    seconds = parse_http_date(text)
    if seconds is not None:
        return seconds * NANOSECONDS
    if len(text) > _DATE_CHARACTERS_MAX:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * NANOSECONDS + moment.microsecond * 1000
