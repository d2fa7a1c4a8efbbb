"""Keys of any length, in order, on LMDB, whose keys end at 511 bytes.

A key of 1 to 510 bytes is a row under its own bytes, at no cost. A longer key hangs below a
*branch*: the row ``first 510 bytes + 00`` holds the number of a node, and the rest of the key is a
row below ``ff 6e <node number>``, by the same rule with 500 bytes a level. A branch row is told by
its length alone (511), and sorts exactly where its keys belong: after the 510-byte key that it
extends and before the next key that does not begin with these 510 bytes. So a scan is one walk that
steps down at branches, any number of long keys with a common beginning cost O(log n) each, and a
key of 10,000 bytes takes 20 steps. The empty key, which LMDB refuses, is the row ``ff 65``. Rows
from ``ff`` up are the store's own: the caller's keys end there.

Every function takes the LMDB transaction it works in and calls nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import lmdb

    from .store import KeyValue

    Txn = lmdb.Transaction[bytes]

DIRECT_KEY_BYTES: Final = 510
"""Longest key that is a row of its own."""

EMPTY_KEY_ROW: Final = b"\xffe"
NODE_ROWS: Final = b"\xffn"
NODE_COUNTER_ROW: Final = b"\xffN"

_NODE: Final = struct.Struct(">Q")
_NODE_PREFIX_BYTES: Final = len(NODE_ROWS) + _NODE.size
_BRANCH_ROW_BYTES: Final = 511  # LMDB's compiled limit
_NODE_WIDTH: Final = _BRANCH_ROW_BYTES - 1 - _NODE_PREFIX_BYTES
_DELETE_BATCH_ROWS: Final = 1024  # bounds the memory that clearing a large range takes


def get(txn: Txn, key: bytes) -> bytes | None:
    """Return the value of *key*, or None."""
    row = _find_row(txn, key)
    return None if row is None else txn.get(row)


def put(txn: Txn, key: bytes, value: bytes) -> None:
    """Set *key* to *value*."""
    if 0 < len(key) <= DIRECT_KEY_BYTES:
        txn.put(key, value)
        return
    if not key:
        txn.put(EMPTY_KEY_ROW, value)
        return
    base, width, rest = b"", DIRECT_KEY_BYTES, key
    while len(rest) > width:
        branch = base + rest[:width] + b"\x00"
        number = txn.get(branch)
        if number is None:
            number = _new_node(txn)
            txn.put(branch, number)
        base, rest, width = NODE_ROWS + number, rest[width:], _NODE_WIDTH
    txn.put(base + rest, value)


def delete(txn: Txn, key: bytes) -> None:
    """Remove *key* if present, with every branch that it leaves empty."""
    if 0 < len(key) <= DIRECT_KEY_BYTES:
        txn.delete(key)
        return
    if not key:
        txn.delete(EMPTY_KEY_ROW)
        return
    branches: list[bytes] = []
    base, width, rest = b"", DIRECT_KEY_BYTES, key
    while len(rest) > width:
        branch = base + rest[:width] + b"\x00"
        number = txn.get(branch)
        if number is None:
            return
        branches.append(branch)
        base, rest, width = NODE_ROWS + number, rest[width:], _NODE_WIDTH
    txn.delete(base + rest)
    for branch in reversed(branches):
        if not _prune(txn, branch):
            return


def scan(
    txn: Txn, begin: bytes, end: bytes, *, limit: int = 0, reverse: bool = False
) -> list[KeyValue]:
    """Return the pairs with ``begin <= key < end``, at most *limit* when positive."""
    if not begin or len(begin) > DIRECT_KEY_BYTES or len(end) > DIRECT_KEY_BYTES or reverse:
        return _take(iterate(txn, begin, end, reverse=reverse), limit)
    rows: list[KeyValue] = []
    cursor = txn.cursor()
    if not cursor.set_range(begin):
        return rows
    append = rows.append
    for row in cursor.iternext():
        key = row[0]
        if key >= end:
            break
        if len(key) > DIRECT_KEY_BYTES:
            # The first branch: from here on, the walk that knows how to step down. As a key of the
            # caller's, the branch row itself is the least that can hang below it.
            rest = iterate(txn, key, end, reverse=False)
            rows += _take(rest, limit - len(rows) if limit else 0)
            break
        append(row)
        if len(rows) == limit:
            break
    return rows


def iterate(txn: Txn, begin: bytes, end: bytes, *, reverse: bool) -> Iterator[KeyValue]:
    """Yield the pairs with ``begin <= key < end`` in order or reversed.

    Nothing may be written through *txn* meanwhile.
    """
    if begin >= end:
        return
    empty = txn.get(EMPTY_KEY_ROW) if not begin else None
    if empty is not None and not reverse:
        yield b"", empty
    yield from _walk(txn, b"", b"", begin, end, reverse)
    if empty is not None and reverse:
        yield b"", empty


def delete_range(txn: Txn, begin: bytes, end: bytes) -> None:
    """Remove every key with ``begin <= key < end``."""
    if begin >= end:
        return
    if not begin:
        txn.delete(EMPTY_KEY_ROW)
    _delete_range(txn, b"", begin, end)


def _take(pairs: Iterator[KeyValue], limit: int) -> list[KeyValue]:
    rows: list[KeyValue] = []
    for pair in pairs:
        rows.append(pair)
        if len(rows) == limit:
            break
    return rows


def _find_row(txn: Txn, key: bytes) -> bytes | None:
    """Return the LMDB key that *key* has, or None when its branches do not exist."""
    if 0 < len(key) <= DIRECT_KEY_BYTES:
        return key
    if not key:
        return EMPTY_KEY_ROW
    base, width, rest = b"", DIRECT_KEY_BYTES, key
    while len(rest) > width:
        number = txn.get(base + rest[:width] + b"\x00")
        if number is None:
            return None
        base, rest, width = NODE_ROWS + number, rest[width:], _NODE_WIDTH
    return base + rest


def _new_node(txn: Txn) -> bytes:
    last = txn.get(NODE_COUNTER_ROW)
    number = _NODE.pack(_NODE.unpack(last)[0] + 1 if last else 1)
    txn.put(NODE_COUNTER_ROW, number)
    return number


def _prune(txn: Txn, branch: bytes) -> bool:
    """Remove *branch* if its node is empty; tell whether it was."""
    number = txn.get(branch)
    assert number is not None, "a branch was removed twice"
    base = NODE_ROWS + number
    cursor = txn.cursor()
    if cursor.set_range(base) and cursor.key().startswith(base):
        return False
    txn.delete(branch)
    return True


def _bound(base: bytes, bound: bytes) -> bytes:
    """Return the least row of the node that can hold keys from *bound* up."""
    width = _NODE_WIDTH if base else DIRECT_KEY_BYTES
    return base + bound if len(bound) <= width else base + bound[:width] + b"\x00"


def _below(bound: bytes | None, stem: bytes) -> bytes | None:
    """Return *bound* as seen inside the branch of *stem*; None when it does not cut the branch."""
    if bound is not None and len(bound) > len(stem) and bound.startswith(stem):
        return bound[len(stem) :]
    return None


def _rows(
    txn: Txn, base: bytes, begin: bytes, end: bytes | None, reverse: bool
) -> Iterator[KeyValue]:
    """Yield the raw rows of one node that are or may lead to keys in ``[begin, end)``."""
    cursor = txn.cursor()
    low = _bound(base, begin)
    skip = len(base)
    if not reverse:
        if not (cursor.set_range(low) if low else cursor.first()):
            return
        for row in cursor.iternext():
            if row[0][:skip] != base or (end is not None and _stem(row[0])[skip:] >= end):
                return
            yield row
        return
    # From the first row past the range, backwards.
    if end is None:
        found = cursor.set_range(NODE_ROWS + _NODE.pack(_NODE.unpack(base[2:])[0] + 1))
    else:
        found = cursor.set_range(_bound(base, end))
    if not found and not cursor.last():
        return
    for row in cursor.iterprev():
        if row[0] < low:
            return
        if end is not None and (row[0][:skip] > base or _stem(row[0])[skip:] >= end):
            continue
        if row[0][:skip] != base:
            continue
        yield row


def _stem(row_key: bytes) -> bytes:
    """Return the bytes of a row's key that belong to the caller's key."""
    return row_key[:-1] if len(row_key) == _BRANCH_ROW_BYTES else row_key


def _walk(
    txn: Txn, base: bytes, stem: bytes, begin: bytes, end: bytes | None, reverse: bool
) -> Iterator[KeyValue]:
    """Yield the pairs of one node whose keys, less *stem*, are in ``[begin, end)``."""
    skip = len(base)
    for row_key, value in _rows(txn, base, begin, end, reverse):
        part = _stem(row_key)[skip:]
        if len(row_key) == _BRANCH_ROW_BYTES:
            inner_begin = _below(begin, part) or b""
            inner_end = _below(end, part)
            yield from _walk(txn, NODE_ROWS + value, stem + part, inner_begin, inner_end, reverse)
        else:
            yield stem + part, value


def _delete_range(txn: Txn, base: bytes, begin: bytes, end: bytes | None) -> None:
    skip = len(base)
    while True:
        batch: list[KeyValue] = []
        for row_key, value in _rows(txn, base, begin, end, False):
            branch = len(row_key) == _BRANCH_ROW_BYTES
            batch.append((row_key, value if branch else b""))
            if len(batch) == _DELETE_BATCH_ROWS:
                break
        for row_key, number in batch:
            if len(row_key) == _BRANCH_ROW_BYTES:
                part = _stem(row_key)[skip:]
                inner_begin = _below(begin, part) or b""
                _delete_range(txn, NODE_ROWS + number, inner_begin, _below(end, part))
                _prune(txn, row_key)
            else:
                txn.delete(row_key)
        if len(batch) < _DELETE_BATCH_ROWS:
            return
        begin = _stem(batch[-1][0])[skip:] + b"\x00"
