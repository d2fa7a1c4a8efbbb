"""The aspect ``object-lock``: default retention; and the documents that lock one version. Pure.

That a bucket's versions may be locked at all is in its record (``Bucket.object_lock``); the setting
holds the default for new objects, encoded by ``encode_default``.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ...core.meta.locks import COMPLIANCE, GOVERNANCE, OFF, ON
from ...core.meta.records import Lock
from ..errors import S3Error
from ..times import iso_milliseconds, parse_time_ns
from ..xml import SMALL_DOCUMENT_BYTES_MAX, Element, children, malformed, parse_document, texts
from ..xml_text import NAMESPACE, XML_DECLARATION

ASPECT = "object-lock"
MODES = (GOVERNANCE, COMPLIANCE)
DAYS_MAX = 36_500  # as AWS
YEARS_MAX = 100
DAYS_PER_YEAR = 365
_DAY_NS = 86_400 * 1_000_000_000


class DefaultRetention(msgspec.Struct, frozen=True, array_like=True):
    """What objects get that are put without a word about retention; no mode: nothing."""

    mode: str = ""
    days: int = 0
    years: int = 0

    def lock(self, now_ns: int) -> Lock | None:
        """The lock of an object put at *now_ns*."""
        if not self.mode:
            return None
        days = self.days or self.years * DAYS_PER_YEAR
        return Lock(self.mode, now_ns + days * _DAY_NS)


class Retention(NamedTuple):
    """A Retention document; mode and time empty: none any more."""

    mode: str
    retain_until_ns: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DefaultRetention)


def encode_default(default: DefaultRetention) -> bytes:
    """The stored setting."""
    return _encoder.encode(default)


def decode_default(value: bytes) -> DefaultRetention:
    """The inverse of ``encode_default``."""
    return _decoder.decode(value)


def parse_configuration(body: bytes) -> DefaultRetention:
    """An ObjectLockConfiguration. Raises S3Error: MalformedXML, InvalidRetentionPeriod,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "ObjectLockConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    if texts(root).get("ObjectLockEnabled", "").strip() != "Enabled":
        raise malformed()
    rule = _only(root, "Rule")
    if rule is None:
        return DefaultRetention()
    retention = _only(rule, "DefaultRetention")
    if retention is None:
        raise malformed()
    found = {name: text.strip() for name, text in texts(retention).items()}
    if found.get("Mode") not in MODES or ("Days" in found) == ("Years" in found):
        raise malformed()
    if "Days" in found:
        return DefaultRetention(found["Mode"], days=_period(found["Days"], DAYS_MAX))
    return DefaultRetention(found["Mode"], years=_period(found["Years"], YEARS_MAX))


def _only(element: Element, name: str) -> Element | None:
    found = list(children(element, name))
    if len(found) > 1:
        raise malformed()
    return found[0] if found else None


def _period(text: str, most: int) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10:
        raise malformed()
    number = int(text)
    if number <= 0:
        raise S3Error(
            "InvalidRetentionPeriod", "Default retention period must be a positive integer value."
        )
    if number > most:
        raise S3Error("InvalidRetentionPeriod", "Default retention period too large")
    return number


def configuration_document(default: DefaultRetention) -> bytes:
    """ObjectLockConfiguration."""
    rule = ""
    if default.mode:
        period = (
            f"<Days>{default.days}</Days>" if default.days else f"<Years>{default.years}</Years>"
        )
        rule = (
            f"<Rule><DefaultRetention><Mode>{default.mode}</Mode>{period}</DefaultRetention></Rule>"
        )
    body = f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}"
    return _document("ObjectLockConfiguration", body)


def parse_retention(body: bytes) -> Retention:
    """A Retention document. Raises S3Error: MalformedXML, MaxMessageLengthExceeded."""
    root = parse_document(body, "Retention", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    found = {name: text.strip() for name, text in texts(root).items()}
    if not found:
        return Retention("", 0)
    until_ns = parse_time_ns(found.get("RetainUntilDate", ""))
    if found.get("Mode") not in MODES or until_ns is None or until_ns <= 0:
        raise malformed()
    return Retention(found["Mode"], whole_milliseconds(until_ns))


def retention_document(lock: Lock) -> bytes:
    """Retention."""
    until = iso_milliseconds(lock.retain_until_ns)
    return _document(
        "Retention", f"<Mode>{lock.mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>"
    )


def whole_milliseconds(time_ns: int) -> int:
    """A time as it is told: who waits until then finds nothing locked any more."""
    return time_ns - time_ns % 1_000_000


def parse_legal_hold(body: bytes) -> bool:
    """Whether a LegalHold document says ON. Raises S3Error: MalformedXML,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "LegalHold", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    status = texts(root).get("Status", "").strip()
    if status not in (ON, OFF):
        raise malformed()
    return status == ON


def legal_hold_document(lock: Lock) -> bytes:
    """LegalHold."""
    return _document("LegalHold", f"<Status>{lock.legal_hold}</Status>")


def _document(root: str, body: str) -> bytes:
    return f'{XML_DECLARATION}<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode()
