"""The aspect ``public-access-block``: PublicAccessBlockConfiguration. Pure."""

from __future__ import annotations

import msgspec

from ..xml import SMALL_DOCUMENT_BYTES_MAX, parse_document
from .elements import document, flag, truth_of
from .stored import Stored


class PublicAccessBlock(msgspec.Struct, frozen=True):
    """What keeps a bucket from becoming public."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False


STORED: Stored[PublicAccessBlock] = Stored("public-access-block", PublicAccessBlock)


def parse(body: bytes) -> PublicAccessBlock:
    """Raises S3Error: MalformedXML, MaxMessageLengthExceeded."""
    root = parse_document(
        body, "PublicAccessBlockConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX
    )
    return PublicAccessBlock(
        bool(truth_of(root, "BlockPublicAcls")),
        bool(truth_of(root, "IgnorePublicAcls")),
        bool(truth_of(root, "BlockPublicPolicy")),
        bool(truth_of(root, "RestrictPublicBuckets")),
    )


def render(block: PublicAccessBlock) -> bytes:
    """PublicAccessBlockConfiguration."""
    return document(
        "PublicAccessBlockConfiguration",
        flag("BlockPublicAcls", block.block_public_acls),
        flag("IgnorePublicAcls", block.ignore_public_acls),
        flag("BlockPublicPolicy", block.block_public_policy),
        flag("RestrictPublicBuckets", block.restrict_public_buckets),
    )
