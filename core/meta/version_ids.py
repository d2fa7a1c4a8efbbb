"""Pure: version ids. A version has a *sequence*, higher for newer ones of its key; its id is the
sequence in a form that clients take for opaque: 32 letters and digits, the newest first in order.

The second half depends on the first, so that what was never an id is told from an id that is gone.
"""

from __future__ import annotations

import re

from ..errors import InvalidArgumentError
from .schema import SEQUENCE_MAX

NULL = "null"
_ID = re.compile(r"[0-9a-f]{32}")
_FACTOR = 0x9E37_79B9_7F4A_7C15  # odd: multiplication mixes, and loses nothing
_OFFSET = 0x5851_F42D_4C95_7F2D


def version_id(sequence: int, *, is_null: bool) -> str:
    """The id of a version."""
    return NULL if is_null else sequence_id(sequence)


def sequence_id(sequence: int) -> str:
    """The id that stands for the place of *sequence*, whatever is there."""
    age = SEQUENCE_MAX - sequence
    return f"{age:016x}{_check(age):016x}"


def parse_version_id(text: str) -> int | None:
    """The sequence of a version id; None for the null version. Raises InvalidArgumentError for what
    cannot be an id."""
    if text == NULL:
        return None
    if _ID.fullmatch(text):
        age = int(text[:16], 16)
        if int(text[16:], 16) == _check(age):
            return SEQUENCE_MAX - age
    raise InvalidArgumentError("Invalid version id specified")


def _check(age: int) -> int:
    mixed = ((age ^ _OFFSET) * _FACTOR) & SEQUENCE_MAX
    return mixed ^ (mixed >> 29)
