"""Modes of opening, as the built-in ``open`` has them."""

from __future__ import annotations

import io
from typing import NamedTuple


class Mode(NamedTuple):
    """What may be done with an open file, and what opening does."""

    reads: bool
    writes: bool
    creates: bool
    exclusive: bool
    truncates: bool
    append: bool
    text: bool

    def check_reads(self, path: str) -> None:
        """Raises io.UnsupportedOperation, which is an OSError, if it is not open for reading."""
        if not self.reads:
            raise io.UnsupportedOperation(f"{path}: not open for reading")

    def check_writes(self, path: str) -> None:
        """Raises io.UnsupportedOperation, which is an OSError, if it is not open for writing."""
        if not self.writes:
            raise io.UnsupportedOperation(f"{path}: not open for writing")


def parse_mode(text: str) -> Mode:
    """The mode of *text*: one of r, w, x, a; b or t; +. Raises ValueError."""
    letters = set(text)
    kind = letters & set("rwxa")
    if len(kind) != 1 or len(letters) != len(text) or letters - set("rwxabt+"):
        raise ValueError(f"mode {text!r}: one of r, w, x, a, with b or t, and perhaps +")
    if {"b", "t"} <= letters:
        raise ValueError(f"mode {text!r}: either b or t")
    way, both = kind.pop(), "+" in letters
    return Mode(
        reads=way == "r" or both,
        writes=way != "r" or both,
        creates=way != "r",
        exclusive=way == "x",
        truncates=way == "w",
        append=way == "a",
        text="b" not in letters,
    )
