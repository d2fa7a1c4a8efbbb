"""The aspect ``ownership``: OwnershipControls, which say whom new objects belong to and whether
ACLs count. Pure. Rules: docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html.
"""

from __future__ import annotations

from ..bucket_info import BucketInfo
from ..xml import SMALL_DOCUMENT_BYTES_MAX, malformed, parse_document
from .elements import document, element, needed, text_of
from .stored import Stored

ENFORCED = "BucketOwnerEnforced"
"""All objects are the bucket owner's, and ACLs are off."""
PREFERRED = "BucketOwnerPreferred"
"""ACLs count; objects that come with ``bucket-owner-full-control`` are the bucket owner's."""
WRITER = "ObjectWriter"
"""ACLs count; objects are theirs who put them."""
MODES = frozenset({ENFORCED, PREFERRED, WRITER})
HEADER = "x-amz-object-ownership"

STORED: Stored[str] = Stored("ownership", str)


def mode_of(info: BucketInfo, default: str) -> str:
    """What holds for a bucket; *default* for those that say nothing."""
    if STORED.aspect not in info.settings:
        return default
    return STORED.of(info) or default


def parse(body: bytes) -> str:
    """The mode. Raises S3Error: MalformedXML, MaxMessageLengthExceeded."""
    root = parse_document(body, "OwnershipControls", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    return checked((text_of(needed(root, "Rule"), "ObjectOwnership") or "").strip())


def checked(mode: str) -> str:
    """*mode*, if it is one. Raises S3Error MalformedXML."""
    if mode not in MODES:
        raise malformed()
    return mode


def render(mode: str) -> bytes:
    """OwnershipControls."""
    return document("OwnershipControls", f"<Rule>{element('ObjectOwnership', mode)}</Rule>")
