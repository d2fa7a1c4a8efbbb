"""Text inside XML: escaping only. Knows no document and no error.

S3 keys may hold characters that XML 1.0 cannot carry at all. As AWS does, they are written as
numeric references: not well-formed, but exact; clients that care ask for ``encoding-type=url``.
"""

from __future__ import annotations

import re

XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_SPECIAL = re.compile('[&<>"\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
_UNCARRIED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def needs_escape(text: str) -> bool:
    """Whether *text* holds anything that ``escape`` would change."""
    return _SPECIAL.search(text) is not None


def escape(text: str) -> str:
    """Return *text* ready for element content; characters outside XML 1.0 as numeric references.

    Lone surrogates (bytes that were not UTF-8) become U+FFFD.
    """
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNCARRIED.sub(_reference, text.replace('"', "&quot;"))


def _reference(match: re.Match[str]) -> str:
    character = match.group()
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    return f"&#x{ord(character):x};"
