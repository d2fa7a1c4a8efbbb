"""The aspect ``versioning``: VersioningConfiguration. Pure. The state is in the bucket's record."""

from __future__ import annotations

from ...core.meta.records import Versioning
from ..errors import S3Error, not_implemented
from ..xml import SMALL_DOCUMENT_BYTES_MAX, malformed, parse_document, texts
from ..xml_text import NAMESPACE, XML_DECLARATION

_STATUS = {Versioning.NEVER: "", Versioning.ENABLED: "Enabled", Versioning.SUSPENDED: "Suspended"}


def parse_versioning(body: bytes) -> bool:
    """Whether versions are to be kept (Enabled) or not any more (Suspended).

    Raises S3Error: MalformedXML, IllegalVersioningConfigurationException, NotImplemented (MFA
    delete), MaxMessageLengthExceeded.
    """
    root = parse_document(body, "VersioningConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    found = {name: text.strip() for name, text in texts(root).items()}
    if found.get("MfaDelete", "Disabled") not in ("Disabled", "Enabled"):
        raise malformed()
    if found.get("MfaDelete") == "Enabled":
        raise not_implemented("MfaDelete")
    status = found.get("Status", "")
    if not status:
        raise S3Error("IllegalVersioningConfigurationException")
    if status not in ("Enabled", "Suspended"):
        raise malformed()
    return status == "Enabled"


def versioning_document(versioning: Versioning) -> bytes:
    """VersioningConfiguration; empty if it was never set."""
    status = _STATUS[versioning]
    body = f"<Status>{status}</Status>" if status else ""
    return (
        f'{XML_DECLARATION}<VersioningConfiguration xmlns="{NAMESPACE}">{body}'
        "</VersioningConfiguration>"
    ).encode()
