"""The words of a query. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import SelectError

TOKENS_MAX = 10_000

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | '(?P<text>(?:[^']|'')*)'
    | "(?P<quoted>(?:[^"]|"")*)"
    | `(?P<ion>[^`]*)`
    | (?P<operator><>|!=|<=|>=|\|\||[-+*/%=<>(),.\[\]])
    )""",
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    kind: str
    """``number``, ``word``, ``text``, ``quoted``, ``ion``, ``operator`` or ``end``."""
    text: str
    position: int


def tokens(text: str) -> list[Token]:
    """Raises SelectError LexerInvalidChar, ExpressionTooLong."""
    found: list[Token] = []
    position = 0
    end = len(text.rstrip().removesuffix(";").rstrip())
    while position < end:
        match = _TOKEN.match(text, position, end)
        if match is None or match.lastgroup is None:
            raise SelectError(
                "LexerInvalidChar",
                f"The SQL expression contains an invalid character at position {position + 1}.",
            )
        value = match[match.lastgroup]
        if match.lastgroup == "text":
            value = value.replace("''", "'")
        elif match.lastgroup == "quoted":
            value = value.replace('""', '"')
        found.append(Token(match.lastgroup, value, position))
        if len(found) > TOKENS_MAX:
            raise SelectError("ExpressionTooLong")
        position = match.end()
    found.append(Token("end", "the end", end))
    return found
