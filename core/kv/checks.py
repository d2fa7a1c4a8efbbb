"""Rules that every backend applies before it acts: limits, reserved keys, counters, retry delays.

Pure. One place, so that what one backend refuses every backend refuses, with the same error.
"""

from __future__ import annotations

from typing import Final

from ..errors import InvalidArgumentError, LimitExceededError
from ..limits import KV_KEY_BYTES_MAX, KV_TRANSACTION_BYTES_MAX, KV_VALUE_BYTES_MAX
from .store import VERSIONSTAMP_BYTES

RESERVED: Final = b"\xff"
"""The first key that is not the caller's."""

WATCHES_MAX: Final = 10_000
"""Watches of one store at a time; FoundationDB's default."""

RETRY_DELAY_SECONDS_FIRST: Final = 0.001
RETRY_DELAY_SECONDS_MAX: Final = 0.25

_COUNTER_MASK: Final = (1 << 64) - 1
_STAMP_LOW: Final = bytes(VERSIONSTAMP_BYTES)
_STAMP_HIGH: Final = b"\xff" * VERSIONSTAMP_BYTES


def check_key(key: bytes) -> None:
    """Raise LimitExceededError for a long key, InvalidArgumentError for a reserved one."""
    if len(key) > KV_KEY_BYTES_MAX:
        raise LimitExceededError(f"a key of {len(key)} bytes is over {KV_KEY_BYTES_MAX}")
    if key >= RESERVED:
        raise InvalidArgumentError("keys from 0xff up are reserved")


def check_value(value: bytes) -> None:
    """Raise LimitExceededError for a long value."""
    if len(value) > KV_VALUE_BYTES_MAX:
        raise LimitExceededError(f"a value of {len(value)} bytes is over {KV_VALUE_BYTES_MAX}")


def check_range(begin: bytes, end: bytes) -> None:
    """Raise what ``check_key`` does for bounds; the end may be the first reserved key itself."""
    if begin > RESERVED or end > RESERVED:
        raise InvalidArgumentError("keys from 0xff up are reserved")
    # One byte more: the first key after the longest one is a fair bound.
    if len(begin) > KV_KEY_BYTES_MAX + 1 or len(end) > KV_KEY_BYTES_MAX + 1:
        raise LimitExceededError(f"a range bound is over {KV_KEY_BYTES_MAX} bytes")


def check_transaction_size(size_bytes: int) -> None:
    """Raise LimitExceededError for a transaction that holds too much."""
    if size_bytes > KV_TRANSACTION_BYTES_MAX:
        raise LimitExceededError(
            f"a transaction of {size_bytes} bytes is over {KV_TRANSACTION_BYTES_MAX}: split it"
        )


def add_to_counter(value: bytes | None, delta: int) -> bytes:
    """Return the 8-byte little-endian counter *value* plus *delta*, wrapping at 64 bits.

    Absent is 0; a shorter value is extended with zero bytes, a longer one cut: FoundationDB's rule.
    """
    base = int.from_bytes(value[:8], "little") if value else 0
    return ((base + delta) & _COUNTER_MASK).to_bytes(8, "little")


def stamped_key_bounds(prefix: bytes, suffix: bytes) -> tuple[bytes, bytes]:
    """Return the least possible stamped key, and the first key after the greatest."""
    return prefix + _STAMP_LOW + suffix, prefix + _STAMP_HIGH + suffix + b"\x00"


def unreadable_error() -> InvalidArgumentError:
    """Return the error for reading what will be known only after the commit."""
    return InvalidArgumentError(
        "a transaction cannot read a versionstamped key or value that it wrote itself"
    )


def retry_delay_seconds(attempt: int, unit_random: float) -> float:
    """Return the wait before retry *attempt* (from 0): exponential, bounded, jittered.

    *unit_random* is a random number in [0, 1).
    """
    ceiling = min(RETRY_DELAY_SECONDS_MAX, RETRY_DELAY_SECONDS_FIRST * (1 << min(attempt, 10)))
    return ceiling * unit_random
