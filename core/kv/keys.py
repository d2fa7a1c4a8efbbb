"""Order-preserving packing of tuples into keys, and subspaces.

Pure. ``pack(a) < pack(b)`` exactly when ``a < b`` element by element, within one type (strings as
their UTF-8 bytes); bytes sort before strings, strings before integers. The encoding is
FoundationDB's tuple layer restricted to bytes, str and int, so its tools can read our keys. Packed
keys never reach the reserved ``b"\\xff"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Element = bytes | str | int

_BYTES_CODE: Final = 0x01
_STRING_CODE: Final = 0x02
_NEGATIVE_BIG_CODE: Final = 0x0B
_ZERO_CODE: Final = 0x14
_POSITIVE_BIG_CODE: Final = 0x1D
_INT_BYTES_DIRECT: Final = 8  # integers of up to this many bytes carry their length in the code
_INT_BYTES_MAX: Final = 255  # a longer length does not fit its length byte

_POSITIVE_HEADS: Final = tuple(bytes([_ZERO_CODE + n]) for n in range(_INT_BYTES_DIRECT + 1))
_NEGATIVE_HEADS: Final = tuple(bytes([_ZERO_CODE - n]) for n in range(_INT_BYTES_DIRECT + 1))


def pack(items: tuple[Element, ...]) -> bytes:
    """Return the key of *items*. Raises KeyError for other types, OverflowError past 2,040 bits."""
    return b"".join([_ENCODERS[type(item)](item) for item in items])


def unpack(key: bytes) -> tuple[Element, ...]:
    """Return the tuple that ``pack`` made *key* of. Raises ValueError for any other bytes."""
    items: list[Element] = []
    position = 0
    while position < len(key):
        code = key[position]
        item: Element
        if code == _BYTES_CODE:
            item, position = _unescape(key, position + 1)
        elif code == _STRING_CODE:
            raw, position = _unescape(key, position + 1)
            item = raw.decode("utf-8", "surrogateescape")
        elif _NEGATIVE_BIG_CODE <= code <= _POSITIVE_BIG_CODE:
            item, position = _decode_int(key, position)
        else:
            raise ValueError(f"unknown type code {code:#04x} at byte {position} of a packed key")
        items.append(item)
    return tuple(items)


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after every key that starts with *prefix*.

    Raises ValueError when there is none (*prefix* is empty or all ``0xff``).
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        raise ValueError("no key follows every key with an empty or all-0xff prefix")
    return stripped[:-1] + bytes([stripped[-1] + 1])


class Subspace:
    """All keys that start with one prefix; the prefix is packed once."""

    __slots__ = ("_unpack_from", "prefix")

    def __init__(self, items: tuple[Element, ...] = (), *, prefix: bytes = b"") -> None:
        self.prefix: Final = prefix + pack(items)
        self._unpack_from = len(self.prefix)

    def subspace(self, *items: Element) -> Subspace:
        """Return the subspace of *items* inside this one."""
        return Subspace(items, prefix=self.prefix)

    def pack(self, *items: Element) -> bytes:
        """Return the key of *items* in this subspace."""
        return self.prefix + b"".join([_ENCODERS[type(item)](item) for item in items])

    def unpack(self, key: bytes) -> tuple[Element, ...]:
        """Return what ``pack`` was given for *key*. Raises ValueError for a key outside."""
        if not key.startswith(self.prefix):
            raise ValueError("the key is not in this subspace")
        return unpack(key[self._unpack_from :])

    def contains(self, key: bytes) -> bool:
        """Tell whether *key* starts with the prefix."""
        return key.startswith(self.prefix)

    def range(self, *items: Element) -> tuple[bytes, bytes]:
        """Return ``(begin, end)`` of all keys that have elements after *items*."""
        prefix = self.pack(*items)
        return prefix + b"\x00", prefix + b"\xff"


def _encode_bytes(value: bytes) -> bytes:
    if b"\x00" in value:
        value = value.replace(b"\x00", b"\x00\xff")
    return b"\x01" + value + b"\x00"


def _encode_string(value: str) -> bytes:
    # Names that are not UTF-8 come from the kernel with surrogateescape; they go back the same.
    raw = value.encode("utf-8", "surrogateescape")
    if b"\x00" in raw:
        raw = raw.replace(b"\x00", b"\x00\xff")
    return b"\x02" + raw + b"\x00"


def _encode_int(value: int) -> bytes:
    if value >= 0:
        length = (value.bit_length() + 7) >> 3
        if length <= _INT_BYTES_DIRECT:
            return _POSITIVE_HEADS[length] + value.to_bytes(length, "big")
        head = bytes([_POSITIVE_BIG_CODE, _checked(length)])
        return head + value.to_bytes(length, "big")
    length = (value.bit_length() + 7) >> 3
    complement = ((1 << (8 * length)) - 1 + value).to_bytes(length, "big")
    if length <= _INT_BYTES_DIRECT:
        return _NEGATIVE_HEADS[length] + complement
    return bytes([_NEGATIVE_BIG_CODE, _checked(length) ^ 0xFF]) + complement


def _checked(length: int) -> int:
    if length > _INT_BYTES_MAX:
        raise OverflowError(f"an integer of {length} bytes does not fit a key ({_INT_BYTES_MAX})")
    return length


_ENCODERS: Final[dict[type, Callable[..., bytes]]] = {
    bytes: _encode_bytes,
    str: _encode_string,
    int: _encode_int,
}


def _unescape(key: bytes, start: int) -> tuple[bytes, int]:
    """Return the escaped bytes from *start* and the position after their terminator."""
    end = key.find(b"\x00", start)
    escaped = False
    while end != -1 and key[end + 1 : end + 2] == b"\xff":
        escaped = True
        end = key.find(b"\x00", end + 2)
    if end == -1:
        raise ValueError(f"unterminated element at byte {start} of a packed key")
    raw = key[start:end]
    return (raw.replace(b"\x00\xff", b"\x00") if escaped else raw), end + 1


def _decode_int(key: bytes, position: int) -> tuple[int, int]:
    code = key[position]
    position += 1
    negative = code < _ZERO_CODE
    if code in (_POSITIVE_BIG_CODE, _NEGATIVE_BIG_CODE):
        if position >= len(key):
            raise ValueError("truncated integer in a packed key")
        length = key[position] ^ (0xFF if negative else 0)
        position += 1
    else:
        length = abs(code - _ZERO_CODE)
    raw = key[position : position + length]
    if len(raw) != length:
        raise ValueError("truncated integer in a packed key")
    value = int.from_bytes(raw, "big")
    if negative:
        value -= (1 << (8 * length)) - 1
    return value, position + length
