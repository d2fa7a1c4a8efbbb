"""Timestamp patterns of TO_STRING (letters as in Java's date formats), as the engine's. Pure.

All times are UTC: offsets are known by their letters, and are none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import SelectError

_PARTS = {
    "yyyy": "%Y",
    "y": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "a": "%p",
    "hh": "%I",
    "h": "%-I",
    "HH": "%H",
    "H": "%-H",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    **{"X" * count: "Z" for count in range(1, 6)},
    "x": "+00",
    "xx": "+0000",
    "xxx": "+00:00",
    "xxxx": "+0000",
    "xxxxx": "+00:00",
}
_NANOSECONDS = "%n"  # nine digits
_FRACTION_DIGITS_MAX = 9
_PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


class TimePiece(NamedTuple):
    """A pattern of the engine, and how much of what it gives counts."""

    pattern: str
    characters_max: int | None = None
    is_number: bool = False
    """Whether zeros at its beginning go."""


def time_pieces(pattern: str) -> list[TimePiece]:
    """What a time's text is put together from. Raises SelectError for a letter that is not
    known."""
    found: list[TimePiece] = []
    plain: list[str] = []
    position = 0
    while position < len(pattern):
        match = _PIECE.match(pattern, position)
        if match is None:
            raise SelectError("EvaluatorInvalidTimestampFormatPattern")
        position = match.end()
        if match[2] is None:
            text = match[0] if match[1] is None else match[1].replace("''", "'")
            plain.append(text.replace("%", "%%"))
        elif match[0] in _PARTS:
            plain.append(_PARTS[match[0]])
        else:
            found += [TimePiece("".join(plain)), _cut(match[0])]
            plain = []
    return [*found, TimePiece("".join(plain))]


def _cut(letters: str) -> TimePiece:
    """Letters of which the engine knows more than is asked for. Raises SelectError."""
    if letters == "MMMMM":
        return TimePiece("%B", 1)
    if letters == "n":
        return TimePiece(_NANOSECONDS, is_number=True)
    if letters[0] == "S" and len(letters) <= _FRACTION_DIGITS_MAX:
        return TimePiece(_NANOSECONDS, len(letters))
    raise SelectError("EvaluatorInvalidTimestampFormatPattern")
