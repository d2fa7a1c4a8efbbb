"""Wildcards of policies: ``*`` for any text, ``?`` for one character. Pure.

Matching takes time in proportion to text and pattern, whatever they are: a pattern is cut at its
``*``, and of each piece the first place is the best one, since what lies behind it then has the
most room. No regular expressions, and nothing ever goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

GLOBS_KEPT_MAX = 4096  # compiled patterns of a process


class Wild(Enum):
    """What stands for other text."""

    MANY = "*"
    ONE = "?"


Token = str | Wild
Lookup = Callable[[str], str | None]
"""The value of a policy variable; None: there is none."""

_HOLE = "\0"
_SPECIAL = frozenset("*?")


class Pattern:
    """One pattern, ready to be held against texts."""

    __slots__ = ("_fixed", "_pieces", "_plain", "_prefix", "begins", "ends", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = _pieces(text) if "${" in text else None
        """Texts and names of variables, if there are variables."""
        self._plain = self._pieces is None and not _SPECIAL.intersection(text)
        self._prefix: str | None = None
        if self._pieces is None and text.endswith("*") and not _SPECIAL.intersection(text[:-1]):
            self._prefix = text[:-1]
        self._fixed = _Glob(_tokens(text)) if self._pieces is None else None
        self.begins = _literal_start(text)
        """With this begins whatever matches, in every request."""
        self.ends = text if self._plain else _literal_end(text)
        """With this it ends."""

    @property
    def prefix(self) -> str | None:
        """What a text must begin with to match; it is then enough for patterns ``text*``. None: no
        quick answer."""
        return self.text if self._plain else self._prefix

    def matches(self, text: str, lookup: Lookup) -> bool:
        """Whether *text* matches; *lookup* gives the variables. Their values, and ``${*}``, are
        taken as they stand: wildcards in them are none."""
        if self._plain:
            return text == self.text
        if self._prefix is not None:
            return text.startswith(self._prefix)
        if self._fixed is not None:
            return self._fixed.matches(text)
        assert self._pieces is not None
        tokens: list[Token] = []
        for is_variable, piece in self._pieces:
            if is_variable:
                value = lookup(piece)
                if value is None:
                    return False
                tokens.append(value)
            else:
                tokens += _tokens(piece)
        return _Glob(tokens).matches(text)


def matches_glob(text: str, pattern: str) -> bool:
    """Whether *text* matches *pattern*, which has no variables."""
    return _glob(pattern).matches(text)


class _Segment:
    """What stands between two ``*``: text with holes for single characters."""

    __slots__ = ("_holes", "_literals", "_masks", "_text", "length")

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._text = "".join(token if isinstance(token, str) else _HOLE for token in tokens)
        self.length = len(self._text)
        self._literals: list[tuple[int, str]] = []
        self._holes = 0
        self._masks: dict[str, int] | None = None
        place = 0
        for token in tokens:
            if isinstance(token, str):
                self._literals.append((place, token))
                place += len(token)
            else:
                self._holes |= 1 << place
                place += 1

    def is_at(self, text: str, start: int) -> bool:
        """Whether it stands in *text* from *start* on, where there is room for it."""
        return all(text.startswith(piece, start + offset) for offset, piece in self._literals)

    def find(self, text: str, start: int, end: int) -> int:
        """Where it stands first in ``text[start:end]``; -1: nowhere."""
        if not self._holes:
            return text.find(self._text, start, end)
        # All places at once, a bit each: bit n says that the first n + 1 characters of the segment
        # stand in front of here.
        found, last, holes, masks = 0, 1 << (self.length - 1), self._holes, self._bits()
        for place in range(start, end):
            found = (found << 1 | 1) & (masks.get(text[place], 0) | holes)
            if found & last:
                return place - self.length + 1
        return -1

    def _bits(self) -> dict[str, int]:
        """Of each character, where it stands in the segment."""
        if self._masks is None:
            masks: dict[str, int] = {}
            for start, piece in self._literals:
                for offset, character in enumerate(piece, start):
                    masks[character] = masks.get(character, 0) | 1 << offset
            self._masks = masks
        return self._masks


class _Glob:
    """Segments with any text between them."""

    __slots__ = ("_alone", "_end", "_first", "_last", "_least", "_middle", "_start")

    def __init__(self, tokens: Sequence[Token]) -> None:
        runs: list[list[Token]] = [[]]
        for token in tokens:
            if token is Wild.MANY:
                runs.append([])
            else:
                runs[-1].append(token)
        segments = [_Segment(run) for run in runs]
        self._alone = len(segments) == 1
        self._first, self._last = segments[0], segments[-1]
        self._middle = [segment for segment in segments[1:-1] if segment.length]
        self._least = sum(segment.length for segment in segments)
        # The plain text at both ends: most texts are told apart by it.
        self._start = tokens[0] if tokens and isinstance(tokens[0], str) else ""
        self._end = tokens[-1] if tokens and isinstance(tokens[-1], str) else ""

    def matches(self, text: str) -> bool:
        if not text.endswith(self._end) or not text.startswith(self._start):
            return False
        size = len(text)
        if self._alone:
            return size == self._least and self._first.is_at(text, 0)
        if size < self._least or not self._first.is_at(text, 0):
            return False
        end = size - self._last.length
        if not self._last.is_at(text, end):
            return False
        place = self._first.length
        for segment in self._middle:
            place = segment.find(text, place, end)
            if place < 0:
                return False
            place += segment.length
        return True


@lru_cache(maxsize=GLOBS_KEPT_MAX)
def _glob(pattern: str) -> _Glob:
    return _Glob(_tokens(pattern))


def _tokens(pattern: str) -> list[Token]:
    tokens: list[Token] = []
    start = 0
    for place, character in enumerate(pattern):
        if character in _SPECIAL:
            if place > start:
                tokens.append(pattern[start:place])
            tokens.append(Wild(character))
            start = place + 1
    if start < len(pattern):
        tokens.append(pattern[start:])
    return tokens


def _literal_start(text: str) -> str:
    for special in ("*", "?", "${"):
        text = text.partition(special)[0]
    return text


def _literal_end(text: str) -> str:
    for special in ("*", "?", "}"):  # a brace may close a variable
        text = text.rpartition(special)[2]
    return text


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
