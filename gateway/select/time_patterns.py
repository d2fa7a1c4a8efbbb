"""Timestamp patterns of TO_STRING (letters as in Java's date formats), as the engine's. Pure."""

from __future__ import annotations

import re

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
    "SSS": "%g",
    "SSSSSS": "%f",
    "SSSSSSSSS": "%n",
    "XXX": "%z",
    "X": "%z",
}
_PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def strftime_pattern(pattern: str) -> str:
    """Raises SelectError for a letter that is not known."""
    found: list[str] = []
    position = 0
    while position < len(pattern):
        match = _PIECE.match(pattern, position)
        if match is None:
            raise SelectError("EvaluatorInvalidTimestampFormatPattern")
        position = match.end()
        if match[2] is not None:
            part = _PARTS.get(match[0])
            if part is None:
                raise SelectError("EvaluatorInvalidTimestampFormatPattern")
            found.append(part)
        else:
            text = match[0] if match[1] is None else match[1].replace("''", "'")
            found.append(text.replace("%", "%%"))
    return "".join(found)
