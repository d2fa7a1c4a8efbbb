"""The writes of one transaction before it commits, and how its own reads see them.

Pure. Clears of ranges come first, then what is known of single keys, then versionstamped keys: the
buffer keeps the three apart so that the order in which they were called does not matter any more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from ..limits import KV_KEY_BYTES_MAX, KV_TRANSACTION_BYTES_MAX, KV_VALUE_BYTES_MAX
from .checks import (
    RESERVED,
    add_to_counter,
    check_key,
    check_range,
    check_transaction_size,
    check_value,
    stamped_key_bounds,
    unreadable_error,
)
from .store import KeyValue

Range = tuple[bytes, bytes]

Known = bytes | int | None
"""What a transaction wrote to a key: a value, a number to add to the stored one, or None."""

_UNTOUCHED: Final = object()
_INSERTED_MAX: Final = 32  # keys put into order one by one; more are sorted together


class WriteBuffer:
    """Writes in order of effect. Every method that takes keys raises what core/kv/checks.py says.

    ATTRIBUTES ``values`` by key; ``cleared``, disjoint ascending ranges; ``stamped_values`` by key
    (prefix, suffix); ``stamped_keys`` (prefix, suffix, value); ``conflicts``, explicit write
    conflict ranges; ``size_bytes`` counts towards the transaction's limit.
    """

    __slots__ = (
        "_ordered",
        "_stamped_hull",
        "cleared",
        "conflicts",
        "size_bytes",
        "stamped_keys",
        "stamped_values",
        "values",
    )

    def __init__(self) -> None:
        self.values: dict[bytes, Known] = {}
        self._ordered: list[bytes] = []
        """The first keys of ``values``, ascending; the others follow at the next range read."""
        self.cleared: list[Range] = []
        self.stamped_values: dict[bytes, tuple[bytes, bytes]] = {}
        self.stamped_keys: list[tuple[bytes, bytes, bytes]] = []
        self._stamped_hull: Range | None = None
        """All stamped keys lie in it: most reads are far away from them."""
        self.conflicts: list[Range] = []
        self.size_bytes = 0

    def set(self, key: bytes, value: bytes) -> None:
        """Set *key*."""
        key_bytes, value_bytes = len(key), len(value)
        # The hot path of every commit: the checks are called only to raise.
        if key_bytes > KV_KEY_BYTES_MAX or value_bytes > KV_VALUE_BYTES_MAX or key >= RESERVED:
            check_key(key)
            check_value(value)
        self.size_bytes += key_bytes + value_bytes
        if self.size_bytes > KV_TRANSACTION_BYTES_MAX:
            check_transaction_size(self.size_bytes)
        if self.stamped_values:
            self.stamped_values.pop(key, None)
        self.values[key] = value

    def clear(self, key: bytes) -> None:
        """Remove *key*."""
        check_key(key)
        self.grow(len(key))
        self.stamped_values.pop(key, None)
        self.values[key] = None

    def clear_range(self, begin: bytes, end: bytes) -> None:
        """Remove ``[begin, end)``, with what was written there before."""
        check_range(begin, end)
        if begin >= end:
            return
        self.grow(len(begin) + len(end))
        for key in self.keys_in(begin, end):
            self._forget(key)
        for key in [key for key in self.stamped_values if begin <= key < end]:
            del self.stamped_values[key]
        self.stamped_keys = [
            stamped
            for stamped in self.stamped_keys
            if not begin <= stamped_key_bounds(stamped[0], stamped[1])[0] < end
        ]
        self.cleared = _merged(self.cleared, begin, end)

    def add(self, key: bytes, delta: int) -> None:
        """Add *delta* to the counter at *key*."""
        check_key(key)
        if key in self.stamped_values:
            raise unreadable_error()
        self.grow(len(key) + 8)
        known = self.values.get(key, _UNTOUCHED)
        if known is _UNTOUCHED:
            self.values[key] = add_to_counter(None, delta) if self.in_cleared(key) else delta
        elif isinstance(known, int):
            self.values[key] = known + delta
        else:
            assert known is None or isinstance(known, bytes)
            self.values[key] = add_to_counter(known, delta)

    def set_versionstamped_key(self, prefix: bytes, suffix: bytes, value: bytes) -> None:
        """Set ``prefix + versionstamp + suffix``."""
        low, high = stamped_key_bounds(prefix, suffix)
        check_key(low)
        check_value(value)
        self.grow(len(low) + len(value))
        self.stamped_keys.append((prefix, suffix, value))
        hull = self._stamped_hull or (low, high)
        self._stamped_hull = min(hull[0], low), max(hull[1], high)

    def set_versionstamped_value(self, key: bytes, prefix: bytes, suffix: bytes) -> None:
        """Set *key* to ``prefix + versionstamp + suffix``."""
        check_key(key)
        stamped = stamped_key_bounds(prefix, suffix)[0]
        check_value(stamped)
        self.grow(len(key) + len(stamped))
        if key in self.values:
            self._forget(key)
        self.stamped_values[key] = (prefix, suffix)

    def add_conflict_range(self, begin: bytes, end: bytes) -> None:
        """Make readers of ``[begin, end)`` conflict."""
        check_range(begin, end)
        if begin < end:
            self.grow(len(begin) + len(end))
            self.conflicts.append((begin, end))

    def grow(self, size_bytes: int) -> None:
        """Count *size_bytes* more. Raises LimitExceededError at the transaction's limit."""
        self.size_bytes += size_bytes
        check_transaction_size(self.size_bytes)

    def in_cleared(self, key: bytes) -> bool:
        """Tell whether a cleared range covers *key*."""
        cleared = self.cleared
        if not cleared:
            return False
        index = bisect_left(cleared, (key + b"\x00",)) - 1
        return index >= 0 and key < cleared[index][1]

    def covers(self, key: bytes) -> bool:
        """Tell whether the value of *key* is known without the store."""
        known = self.values.get(key, _UNTOUCHED)
        if known is _UNTOUCHED:
            return self.in_cleared(key)
        return not isinstance(known, int)

    def read(self, key: bytes, stored: bytes | None) -> bytes | None:
        """Return what the transaction sees at *key* where the store has *stored*."""
        known = self.values.get(key, _UNTOUCHED)
        if known is _UNTOUCHED:
            return None if self.in_cleared(key) else stored
        if isinstance(known, int):
            return add_to_counter(stored, known)
        assert known is None or isinstance(known, bytes)
        return known

    def check_readable(self, begin: bytes, end: bytes) -> None:
        """Raise InvalidArgumentError when ``[begin, end)`` may hold a versionstamp to come."""
        for key in self.stamped_values:
            if begin <= key < end:
                raise unreadable_error()
        hull = self._stamped_hull
        if hull is None or end <= hull[0] or hull[1] <= begin:
            return
        for prefix, suffix, _ in self.stamped_keys:
            low, high = stamped_key_bounds(prefix, suffix)
            if begin < high and low < end:
                raise unreadable_error()

    def keys_in(self, begin: bytes, end: bytes) -> list[bytes]:
        """Keys of ``values`` in ``[begin, end)``, ascending."""
        ordered = self._in_order()
        return ordered[bisect_left(ordered, begin) : bisect_left(ordered, end)]

    def _in_order(self) -> list[bytes]:
        """All keys. A transaction reads many ranges between its writes: each read pays for the
        keys since the last one, not for all."""
        ordered = self._ordered
        missing = len(self.values) - len(ordered)
        if missing > _INSERTED_MAX:
            ordered.extend(islice(reversed(self.values), missing))
            ordered.sort()
        elif missing:
            for key in islice(reversed(self.values), missing):
                insort(ordered, key)
        return ordered

    def _forget(self, key: bytes) -> None:
        ordered = self._in_order()
        del ordered[bisect_left(ordered, key)]
        del self.values[key]

    def touches(self, begin: bytes, end: bytes) -> bool:
        """Tell whether anything written can change what a read of ``[begin, end)`` sees."""
        ordered = self._in_order()
        index = bisect_left(ordered, begin)
        if index < len(ordered) and ordered[index] < end:
            return True
        return any(begin < high and low < end for low, high in self.cleared)

    def merge(
        self, stored: Iterable[KeyValue], begin: bytes, end: bytes, *, reverse: bool
    ) -> Iterator[KeyValue]:
        """Yield what the transaction sees in ``[begin, end)`` where the store has *stored*.

        *stored* must be the pairs of that range in the order asked for; it is consumed lazily.
        """
        own = self.keys_in(begin, end)
        if reverse:
            own.reverse()
        position = 0
        for key, value in stored:
            while position < len(own) and (own[position] > key if reverse else own[position] < key):
                yield from self._own_pair(own[position])
                position += 1
            if position < len(own) and own[position] == key:
                position += 1
            seen = self.read(key, value)
            if seen is not None:
                yield key, seen
        for key in own[position:]:
            yield from self._own_pair(key)

    def _own_pair(self, key: bytes) -> Iterator[KeyValue]:
        seen = self.read(key, None)
        if seen is not None:
            yield key, seen


def _merged(ranges: list[Range], begin: bytes, end: bytes) -> list[Range]:
    """Return *ranges* with ``[begin, end)`` added, still disjoint and ascending."""
    apart = []
    for low, high in ranges:
        if high < begin or end < low:
            apart.append((low, high))
        else:
            begin, end = min(begin, low), max(end, high)
    apart.append((begin, end))
    apart.sort()
    return apart
