"""The aspect ``request-payment``: who pays for requests, the owner or who asks. Pure.

Nobody is charged here; but as in AWS, with ``Requester`` others than the owner must say that they
know of it.
"""

from __future__ import annotations

from ..xml import SMALL_DOCUMENT_BYTES_MAX, malformed, parse_document
from .elements import document, element, text_of
from .stored import Stored

OWNER, REQUESTER = "BucketOwner", "Requester"

STORED: Stored[str] = Stored("request-payment", str)


def parse(body: bytes) -> str:
    """Who pays. Raises S3Error: MalformedXML, MaxMessageLengthExceeded."""
    root = parse_document(body, "RequestPaymentConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    payer = (text_of(root, "Payer") or "").strip()
    if payer not in (OWNER, REQUESTER):
        raise malformed()
    return payer


def render(payer: str) -> bytes:
    """RequestPaymentConfiguration."""
    return document("RequestPaymentConfiguration", element("Payer", payer))
