"""Small pieces that the documents of settings are read with and made of. Pure."""

from __future__ import annotations

from ..xml import Element, children, local_name, malformed
from ..xml_text import NAMESPACE, XML_DECLARATION, escape

_DIGITS_MAX = 18  # of a number in a document: more is no number that means anything


def document(root: str, *parts: str) -> bytes:
    """The document *root* of *parts*."""
    body = "".join(parts)
    return f'{XML_DECLARATION}<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode()


def element(name: str, text: str) -> str:
    """An element that holds *text*."""
    return f"<{name}>{escape(text)}</{name}>"


def optional(name: str, text: str | int | None) -> str:
    """An element that holds *text*; nothing if that is None or empty."""
    return "" if text is None or text == "" else element(name, str(text))


def flag(name: str, value: bool) -> str:
    """An element that says true or false."""
    return element(name, "true" if value else "false")


def only(parent: Element, name: str) -> Element | None:
    """The child of *parent* called *name*; None if there is none. Raises S3Error MalformedXML if
    there are several."""
    found = list(children(parent, name))
    if len(found) > 1:
        raise malformed()
    return found[0] if found else None


def needed(parent: Element, name: str) -> Element:
    """The one child of *parent* called *name*. Raises S3Error MalformedXML."""
    found = only(parent, name)
    if found is None:
        raise malformed()
    return found


def text_of(parent: Element, name: str) -> str | None:
    """The text of the child *name*; None if there is none. Raises S3Error MalformedXML if there are
    several, or if it has elements in it."""
    found = only(parent, name)
    if found is None:
        return None
    if len(found):
        raise malformed()
    return found.text or ""


def all_texts(parent: Element, name: str) -> tuple[str, ...]:
    """The texts of all children called *name*."""
    return tuple(child.text or "" for child in children(parent, name))


def number_of(parent: Element, name: str) -> int | None:
    """The whole number in the child *name*, which may be negative; None if there is none. Raises
    S3Error MalformedXML."""
    text = text_of(parent, name)
    if text is None:
        return None
    text = text.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS_MAX:
        raise malformed()
    return int(text)


def truth_of(parent: Element, name: str) -> bool | None:
    """What the child *name* says; None if there is none. Raises S3Error MalformedXML."""
    text = text_of(parent, name)
    if text is None:
        return None
    text = text.strip().lower()
    if text not in ("true", "false"):
        raise malformed()
    return text == "true"


def only_these(parent: Element, names: frozenset[str]) -> None:
    """Raise S3Error MalformedXML if *parent* has children other than *names*."""
    if any(local_name(child) not in names for child in parent):
        raise malformed()
