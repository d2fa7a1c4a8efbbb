"""The aspect ``ownership``: OwnershipControls. Pure.

Objects belong to the bucket's owner and ACLs are off (BucketOwnerEnforced), which is what AWS gives
to every new bucket. The older modes, in which ACLs count, are not there.
"""

from __future__ import annotations

from ..errors import not_implemented
from ..xml import SMALL_DOCUMENT_BYTES_MAX, malformed, parse_document
from .elements import document, element, needed, text_of
from .stored import Stored

ENFORCED = "BucketOwnerEnforced"
_MODES = frozenset({ENFORCED, "BucketOwnerPreferred", "ObjectWriter"})

STORED: Stored[str] = Stored("ownership", str)


def parse(body: bytes) -> str:
    """The mode. Raises S3Error: MalformedXML, NotImplemented, MaxMessageLengthExceeded."""
    root = parse_document(body, "OwnershipControls", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    return checked((text_of(needed(root, "Rule"), "ObjectOwnership") or "").strip())


def checked(mode: str) -> str:
    """*mode*, if it is there. Raises S3Error MalformedXML, NotImplemented."""
    if mode not in _MODES:
        raise malformed()
    if mode != ENFORCED:
        raise not_implemented(f"object ownership {mode}")
    return mode


def render(mode: str) -> bytes:
    """OwnershipControls."""
    return document("OwnershipControls", f"<Rule>{element('ObjectOwnership', mode)}</Rule>")
