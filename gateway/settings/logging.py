"""The aspect ``logging``: where the bucket's access log goes. Pure."""

from __future__ import annotations

import msgspec

from ..errors import invalid_argument
from ..xml import SMALL_DOCUMENT_BYTES_MAX, Element, children, malformed, parse_document
from ..xml_text import escape
from .elements import document, element, needed, only, only_these, text_of
from .stored import Stored

GRANTS_MAX = 100  # as in ACLs
PERMISSIONS = ("FULL_CONTROL", "READ", "WRITE")
GROUPS = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
    "http://acs.amazonaws.com/groups/s3/LogDelivery",
)
DATE_SOURCES = ("EventTime", "DeliveryTime")

_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_TYPE = f"{{{_INSTANCE}}}type"
_IDENTIFIERS = {
    "CanonicalUser": "ID",
    "AmazonCustomerByEmail": "EmailAddress",
    "Group": "URI",
}


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """Who may do what with the log's objects."""

    kind: str
    """CanonicalUser, AmazonCustomerByEmail or Group."""
    grantee: str
    permission: str
    display_name: str = ""


class Logging(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the log goes."""

    bucket: str = ""
    """Empty: there is none."""
    prefix: str = ""
    grants: tuple[Grant, ...] = ()
    key_format: str = ""
    """``simple``, ``partitioned`` or empty, which means the same as ``simple``."""
    date_source: str = ""
    """With ``partitioned``: by which time its objects are named."""


STORED: Stored[Logging] = Stored("logging", Logging)


def parse(body: bytes) -> Logging:
    """A BucketLoggingStatus. Raises S3Error: MalformedXML, InvalidArgument,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "BucketLoggingStatus", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    only_these(root, frozenset({"LoggingEnabled"}))
    enabled = only(root, "LoggingEnabled")
    if enabled is None:
        return Logging()
    members = {"TargetBucket", "TargetPrefix", "TargetGrants", "TargetObjectKeyFormat"}
    only_these(enabled, frozenset(members))
    bucket = (text_of(enabled, "TargetBucket") or "").strip()
    prefix = text_of(enabled, "TargetPrefix")
    if not bucket or prefix is None:
        raise malformed()
    granted = only(enabled, "TargetGrants")
    grants = () if granted is None else tuple(map(_grant, children(granted, "Grant")))
    if len(grants) > GRANTS_MAX:
        raise malformed()
    return Logging(bucket, prefix, grants, *_key_format(enabled))


def _key_format(enabled: Element) -> tuple[str, str]:
    found = only(enabled, "TargetObjectKeyFormat")
    if found is None:
        return "", ""
    only_these(found, frozenset({"SimplePrefix", "PartitionedPrefix"}))
    if len(found) != 1:
        raise malformed()
    partitioned = only(found, "PartitionedPrefix")
    if partitioned is None:
        return "simple", ""
    source = (text_of(partitioned, "PartitionDateSource") or "").strip()
    if source not in DATE_SOURCES:
        raise malformed()
    return "partitioned", source


def _grant(found: Element) -> Grant:
    grantee = needed(found, "Grantee")
    permission = (text_of(found, "Permission") or "").strip()
    kind = grantee.get(_TYPE, "")
    if permission not in PERMISSIONS or kind not in _IDENTIFIERS:
        raise malformed()
    name = _IDENTIFIERS[kind]
    value = (text_of(grantee, name) or "").strip()
    if not value:
        raise malformed()
    if kind == "Group" and value not in GROUPS:
        raise invalid_argument("Invalid group uri", name="Group/URI", value=value)
    return Grant(kind, value, permission, text_of(grantee, "DisplayName") or "")


def render(logging: Logging) -> bytes:
    """BucketLoggingStatus."""
    if not logging.bucket:
        return document("BucketLoggingStatus")
    grants = "".join(
        f'<Grant><Grantee xmlns:xsi="{_INSTANCE}" xsi:type="{escape(grant.kind)}">'
        + (element("DisplayName", grant.display_name) if grant.display_name else "")
        + element(_IDENTIFIERS[grant.kind], grant.grantee)
        + f"</Grantee>{element('Permission', grant.permission)}</Grant>"
        for grant in logging.grants
    )
    key_format = ""
    if logging.key_format == "simple":
        key_format = "<SimplePrefix/>"
    elif logging.key_format == "partitioned":
        source = element("PartitionDateSource", logging.date_source)
        key_format = f"<PartitionedPrefix>{source}</PartitionedPrefix>"
    return document(
        "BucketLoggingStatus",
        "<LoggingEnabled>",
        element("TargetBucket", logging.bucket),
        element("TargetPrefix", logging.prefix),
        f"<TargetGrants>{grants}</TargetGrants>" if grants else "",
        f"<TargetObjectKeyFormat>{key_format}</TargetObjectKeyFormat>" if key_format else "",
        "</LoggingEnabled>",
    )
