"""Parsing request documents safely: bounded, no DTD, no entities, the namespace optional. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from xml.etree import ElementTree
from xml.parsers import expat

from .errors import S3Error

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024  # 10,000 parts with SHA-512, or 1,000 keys of any content
SMALL_DOCUMENT_BYTES_MAX = 64 * 1024  # settings and tags
MARKUP_MAX = 250_000  # tags in a document; 10,000 parts with a checksum need 100,000

NAMESPACE_CHARACTERS_MAX = 128
"""Of a namespace's name: every element and attribute in it carries the whole of it in memory."""

_NAME_CHARACTERS_KEPT = 256  # of names that are remembered
_LONG_NAMESPACE = re.compile(rb"xmlns[^<]{%d}" % NAMESPACE_CHARACTERS_MAX)
_DECLARATION = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]*)["']""")
_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Element = ElementTree.Element


def parse_document(body: bytes, root: str, *, bytes_max: int = DOCUMENT_BYTES_MAX) -> Element:
    """The root element of *body*, whose local name must be *root*.

    Raises S3Error: MalformedXML (also for DTDs, entities and encodings other than UTF-8),
    MaxMessageLengthExceeded.
    """
    if len(body) > bytes_max:
        raise S3Error("MaxMessageLengthExceeded", fields={"MaxMessageLengthBytes": str(bytes_max)})
    # UTF-8 alone lets the markup that must not occur be found as plain bytes.
    declared = _DECLARATION.match(body.removeprefix(_BYTE_ORDER_MARK).lstrip())
    if declared is not None and declared[1].lower() not in _ENCODINGS:
        raise malformed()
    if b"\0" in body or b"<!DOCTYPE" in body or body.count(b"<") > MARKUP_MAX:
        raise malformed()
    try:
        if _LONG_NAMESPACE.search(body):
            _check_namespaces(body)
        element = ElementTree.fromstring(body)
    except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise malformed() from error
    if local_name(element) != root:
        raise malformed()
    return element


def _check_namespaces(body: bytes) -> None:
    """Raises ValueError if a namespace has a name that is too long, ExpatError."""

    def check(prefix: str | None, name: str | None) -> None:
        if name is not None and len(name) > NAMESPACE_CHARACTERS_MAX:
            raise ValueError("a namespace's name is too long")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartNamespaceDeclHandler = check
    parser.Parse(body, True)


def malformed() -> S3Error:
    """The error for a document that is not what the operation takes."""
    return S3Error("MalformedXML")


@lru_cache(maxsize=1024)
def _local(tag: str) -> str:
    return tag[tag.rfind("}") + 1 :]


def _name(tag: str) -> str:
    return _local(tag) if len(tag) <= _NAME_CHARACTERS_KEPT else tag[tag.rfind("}") + 1 :]


def local_name(element: Element) -> str:
    """The element's name without its namespace."""
    return _name(element.tag)


def texts(element: Element) -> dict[str, str]:
    """The text of each child of *element* by its name; of a repeated one, the last."""
    return {_name(child.tag): child.text or "" for child in element}


def children(element: Element, name: str) -> Iterator[Element]:
    """The children of *element* called *name*."""
    for child in element:
        if _name(child.tag) == name:
            yield child
