"""Explicit write conflict ranges, kept in the store so that every process's transactions see them.

Commits are validated by value, and these ranges change no value; so each is logged under the LMDB
transaction that brought it. The log is bounded: a transaction older than what was dropped
conflicts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import lmdb

    from .write_buffer import Range

    Txn = lmdb.Transaction[bytes]

ENTRIES_MAX: Final = 1024
"""Half of them are dropped when there are so many: transactions live for seconds only."""

_STATE_ROW: Final = b"\xffC"
_ENTRY_ROWS: Final = b"\xffc"
_ENTRIES_END: Final = b"\xffd"
_STATE: Final = struct.Struct(">QQI")  # last version logged, last version dropped, entries
_ENTRY_KEY: Final = struct.Struct(">QI")
_LENGTH: Final = struct.Struct(">I")


def append(txn: Txn, version: int, ranges: list[Range]) -> None:
    """Log *ranges* as written by LMDB transaction *version*."""
    _, dropped, count = _state(txn)
    for position, (begin, end) in enumerate(ranges, start=count):
        txn.put(
            _ENTRY_ROWS + _ENTRY_KEY.pack(version, position),
            _LENGTH.pack(len(begin)) + begin + end,
        )
    count += len(ranges)
    if count > ENTRIES_MAX:
        kept = 0
        for row_key in [row_key for row_key, _ in _entries(txn, 0)][: -ENTRIES_MAX // 2]:
            dropped = max(dropped, _version(row_key))
            txn.delete(row_key)
            kept += 1
        count -= kept
    txn.put(_STATE_ROW, _STATE.pack(version, dropped, count))


def ranges_since(txn: Txn, version: int) -> list[Range] | None:
    """Return the ranges logged after *version*; None when some of them were dropped."""
    last, dropped, _ = _state(txn)
    if version >= last:
        return []
    if version < dropped:
        return None
    ranges = []
    for _, value in _entries(txn, version + 1):
        split = _LENGTH.size + _LENGTH.unpack_from(value)[0]
        ranges.append((value[_LENGTH.size : split], value[split:]))
    return ranges


def is_from_another_life(txn: Txn) -> bool:
    """Tell whether the log is ahead of the store: a compacted copy counts transactions from 1."""
    last, _, _ = _state(txn)
    return last > txn.id()


def clear(txn: Txn) -> None:
    """Forget everything."""
    for row_key in [row_key for row_key, _ in _entries(txn, 0)]:
        txn.delete(row_key)
    txn.delete(_STATE_ROW)


def _state(txn: Txn) -> tuple[int, int, int]:
    stored = txn.get(_STATE_ROW)
    return _STATE.unpack(stored) if stored else (0, 0, 0)


def _version(row_key: bytes) -> int:
    version: int = _ENTRY_KEY.unpack(row_key[len(_ENTRY_ROWS) :])[0]
    return version


def _entries(txn: Txn, version: int) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    if cursor.set_range(_ENTRY_ROWS + _ENTRY_KEY.pack(version, 0)):
        for row in cursor.iternext():
            if row[0] >= _ENTRIES_END:
                return
            yield row
