"""Pure: how the trash of a bucket names what is in it."""

from __future__ import annotations

from datetime import UTC, datetime

from ..limits import NAME_BYTES_MAX

FOLDER = b".trash"
PREFIX = FOLDER + b"/"
"""What the keys of all that is in the trash begin with."""
REMOVED = b"removed"
"""Instead of an hour: what is to be removed as soon as somebody comes to it."""
HOUR_SECONDS = 3600

_FORMAT = "%Y-%m-%dT%H"


def hour_of(time_ns: int) -> bytes:
    """The folder for what is removed at that time: ``2026-11-24T13``, in UTC."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(_FORMAT).encode()


def end_of_hour(name: bytes) -> float | None:
    """When the hour of a folder ended, in seconds since 1970; None: it is no such folder."""
    try:
        began = datetime.strptime(name.decode("ascii"), _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return began.timestamp() + HOUR_SECONDS


def another_name(stored: bytes, number: int) -> bytes:
    """A name for inode *number*, whose own *stored* name is taken: the two differ, and those of
    different inodes do."""
    slash = b"/" if stored.endswith(b"/") else b""
    ending = b"~%016x" % number
    return stored.removesuffix(b"/")[: NAME_BYTES_MAX - len(ending)] + ending + slash


def path_of(key: bytes) -> tuple[bytes, bytes] | None:
    """The folder of the hour, and the key that something in the trash had; None: *key* is of
    nothing that was removed."""
    if not key.startswith(PREFIX):
        return None
    hour, separator, rest = key[len(PREFIX) :].partition(b"/")
    return (hour, rest) if separator and rest.strip(b"/") else None
