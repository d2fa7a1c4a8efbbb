"""Wildcards of policies: ``*`` for any text, ``?`` for one character. Pure.

Matching takes time in proportion to the lengths of both at worst, whatever the pattern: no regular
expression, so that nothing backtracks.
"""

from __future__ import annotations

from collections.abc import Callable

_SPECIAL = frozenset("*?")
Lookup = Callable[[str], str | None]
"""The value of a policy variable; None: there is none."""


class Pattern:
    """One pattern, ready to be held against texts."""

    __slots__ = ("_pieces", "_plain", "_prefix", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = _pieces(text) if "${" in text else None
        """Texts and names of variables, if there are variables."""
        self._plain = self._pieces is None and not _SPECIAL.intersection(text)
        self._prefix: str | None = None
        if self._pieces is None and text.endswith("*") and not _SPECIAL.intersection(text[:-1]):
            self._prefix = text[:-1]

    @property
    def prefix(self) -> str | None:
        """What a text must begin with to match; it is then enough for patterns ``text*``. None: no
        quick answer."""
        return self.text if self._plain else self._prefix

    def matches(self, text: str, lookup: Lookup) -> bool:
        """Whether *text* matches; *lookup* gives the variables."""
        if self._plain:
            return text == self.text
        if self._prefix is not None:
            return text.startswith(self._prefix)
        if self._pieces is None:
            return matches_glob(text, self.text)
        pattern: list[str] = []
        for is_variable, piece in self._pieces:
            if is_variable:
                value = lookup(piece)
                if value is None:
                    return False
                pattern.extend("\0" + one for one in value)  # taken as it stands
            else:
                pattern.extend(piece)
        return _matches(text, pattern)


def matches_glob(text: str, pattern: str) -> bool:
    """Whether *text* matches *pattern*, which has no variables."""
    return _matches(text, list(pattern))


def _matches(text: str, pattern: list[str]) -> bool:
    position = at = 0
    star, resumed = -1, 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resumed = at, position
            at += 1
        elif at < len(pattern) and _is_one(pattern[at], text[position]):
            at += 1
            position += 1
        elif star >= 0:
            resumed += 1
            position, at = resumed, star + 1
        else:
            return False
    while at < len(pattern) and pattern[at] == "*":
        at += 1
    return at == len(pattern)


def _is_one(piece: str, character: str) -> bool:
    if piece[0] == "\0" and len(piece) == 2:
        return piece[1] == character
    return piece == "?" or piece == character


def _pieces(text: str) -> list[tuple[bool, str]]:
    """*text* cut into (is a variable, text or name); ``${*}``, ``${?}`` and ``${$}`` are those
    characters."""
    found: list[tuple[bool, str]] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = text.find("}", start)
        if end < 0:
            break
        if start > position:
            found.append((False, text[position:start]))
        name = text[start + 2 : end]
        found.append((True, name))
        position = end + 1
    if position < len(text):
        found.append((False, text[position:]))
    return found
