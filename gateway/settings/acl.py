"""ACLs where the bucket's owner owns every object (BucketOwnerEnforced): they exist, say that the
owner has full control, and cannot be changed. Pure. Rules: docs.aws.amazon.com/AmazonS3/latest/
userguide/about-object-ownership.html."""

from __future__ import annotations

from ..errors import S3Error, invalid_argument
from ..headers import Headers
from ..xml import SMALL_DOCUMENT_BYTES_MAX, children, parse_document, texts
from .elements import document, element, needed

CANNED = frozenset(
    {
        "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read",
        "bucket-owner-read", "bucket-owner-full-control", "log-delivery-write",
    }
)  # fmt: skip
_HARMLESS = frozenset({"private", "bucket-owner-full-control"})
_GRANTS = (
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
)
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def check_headers(headers: Headers, *, needed: bool = False) -> None:
    """Check what a request asks of ACLs. Raises S3Error: AccessControlListNotSupported for anything
    but the owner's own rights, InvalidArgument; MissingSecurityHeader if *needed* and absent."""
    canned = headers.get("x-amz-acl")
    granted = any(name in headers for name in _GRANTS)
    if canned is None and not granted:
        if needed:
            raise S3Error("MissingSecurityHeader", "Your request was missing a required header")
        return
    if canned is not None and canned not in CANNED:
        raise invalid_argument("", name="x-amz-acl", value=canned)
    if granted or canned not in _HARMLESS:
        raise S3Error("AccessControlListNotSupported")


def check_document(body: bytes, owner: str) -> None:
    """Check an AccessControlPolicy. Raises S3Error: MalformedXML, AccessControlListNotSupported for
    anything but the owner's full control."""
    root = parse_document(body, "AccessControlPolicy", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    grants = list(children(needed(root, "AccessControlList"), "Grant"))
    for grant in grants:
        grantee = texts(needed(grant, "Grantee"))
        if texts(grant).get("Permission") != "FULL_CONTROL" or grantee.get("ID") != owner:
            raise S3Error("AccessControlListNotSupported")
    if len(grants) != 1:
        raise S3Error("AccessControlListNotSupported")


def owners_document(owner: str, display_name: str) -> bytes:
    """AccessControlPolicy: full control of *owner*, given by canonical id."""
    person = element("ID", owner)
    if display_name:
        person += element("DisplayName", display_name)
    grantee = f'<Grantee {_XSI} xsi:type="CanonicalUser">{person}</Grantee>'
    grant = f"<Grant>{grantee}{element('Permission', 'FULL_CONTROL')}</Grant>"
    return document(
        "AccessControlPolicy",
        f"<Owner>{person}</Owner><AccessControlList>{grant}</AccessControlList>",
    )
