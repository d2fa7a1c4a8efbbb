"""The aspect ``lifecycle``: when objects, versions and unfinished uploads end. Pure: documents to
the records of core/lifecycle, and back.

Checks and errors are AWS's (docs.aws.amazon.com/AmazonS3/latest/userguide/
intro-lifecycle-rules.html). Transitions are checked as well, and then refused: there is no other
storage to move objects to, and a rule that is kept but does nothing would be a lie.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

from ...core.lifecycle.records import (
    ASPECT,
    MINIMUM_SIZE_DEFAULT,
    MINIMUM_SIZES,
    Filter,
    Lifecycle,
    Rule,
)
from ..errors import S3Error, invalid_argument
from ..request_documents import checked_tags, tag_pairs
from ..times import NANOSECONDS, iso_milliseconds
from ..xml import Element, children, local_name, malformed, parse_document
from .elements import (
    document,
    element,
    flag,
    number_of,
    only,
    only_these,
    optional,
    text_of,
    truth_of,
)
from .stored import Stored

DOCUMENT_BYTES_MAX = 2 << 20  # a thousand rules with long prefixes
RULES_MAX = 1000
ID_CHARACTERS_MAX = 255
NEWER_VERSIONS_MAX = 100
PREFIX_BYTES_MAX = 1024
MINIMUM_SIZE_HEADER = "x-amz-transition-default-minimum-object-size"
TRANSITION_CLASSES = frozenset(
    {"GLACIER", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "DEEP_ARCHIVE", "GLACIER_IR"}
)

STORED: Stored[Lifecycle] = Stored(ASPECT, Lifecycle)

_PREDICATES = ("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan", "And")
_RULE_MEMBERS = frozenset(
    {
        "ID",
        "Status",
        "Prefix",
        "Filter",
        "Expiration",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
        "Transition",
        "NoncurrentVersionTransition",
    }
)
_DAY_NS = 86_400 * NANOSECONDS


def parse(body: bytes, minimum_size: str = "") -> Lifecycle:
    """The rules of a LifecycleConfiguration; *minimum_size* is the header of that name.

    Raises S3Error: MalformedXML, InvalidArgument, InvalidRequest, InvalidTag, NotImplemented
    (transitions), MaxMessageLengthExceeded.
    """
    if minimum_size and minimum_size not in MINIMUM_SIZES:
        raise invalid_argument(
            "Invalid transition default minimum object size",
            name=MINIMUM_SIZE_HEADER,
            value=minimum_size,
        )
    root = parse_document(body, "LifecycleConfiguration", bytes_max=DOCUMENT_BYTES_MAX)
    only_these(root, frozenset({"Rule"}))
    found = list(children(root, "Rule"))
    if not 1 <= len(found) <= RULES_MAX:
        raise malformed()
    rules = tuple(_rule(child, number) for number, child in enumerate(found))
    if len({rule.id for rule in rules}) < len(rules):
        raise S3Error(
            "InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule"
        )
    if any(local_name(child).endswith("Transition") for rule in found for child in rule):
        raise S3Error(
            "NotImplemented",
            "Lifecycle transitions are not implemented: all storage classes are the same storage",
        )
    return Lifecycle(rules, minimum_size or MINIMUM_SIZE_DEFAULT)


def _rule(found: Element, number: int) -> Rule:
    only_these(found, _RULE_MEMBERS)
    rule_id = text_of(found, "ID") or ""
    if len(rule_id) > ID_CHARACTERS_MAX:
        raise invalid_argument(
            f"ID length should not exceed allowed limit of {ID_CHARACTERS_MAX}",
            name="ID",
            value=rule_id,
        )
    status = text_of(found, "Status")
    if status not in ("Enabled", "Disabled"):
        raise malformed()
    prefix = text_of(found, "Prefix")
    chosen = only(found, "Filter")
    if (prefix is None) == (chosen is None):
        raise malformed()
    rule = Rule(
        rule_id,
        status == "Enabled",
        Filter(prefix=_prefix(prefix)) if chosen is None else _filter(chosen),
        prefix_alone=chosen is None,
    )
    acting = _with_actions(rule, found)
    if acting == rule and not any(local_name(child).endswith("Transition") for child in found):
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    _check_together(acting)
    return acting if rule_id else msgspec.structs.replace(acting, id=_own_id(acting, number))


def _own_id(rule: Rule, number: int) -> str:
    """An id for a rule without one."""
    return hashlib.sha256(b"%d " % number + msgspec.msgpack.encode(rule)).hexdigest()[:48]


def _prefix(text: str | None) -> str | None:
    if text is not None and len(text.encode()) > PREFIX_BYTES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"The maximum size of a prefix is {PREFIX_BYTES_MAX}.",
        )
    return text


def _filter(found: Element) -> Filter:
    """AWS wants one predicate, or several in an And. Several side by side are taken, as Ceph takes
    them, for an And: that is the reading by which the least ends."""
    only_these(found, frozenset(_PREDICATES))
    direct = _predicates(found)
    together = only(found, "And")
    if together is None:
        return direct if len(found) <= 1 else msgspec.structs.replace(direct, together=True)
    only_these(together, frozenset(_PREDICATES[:-1]))
    if len(together) + len(found) - 1 < 2:
        raise malformed()
    return _both(direct, _predicates(together))


def _both(one: Filter, other: Filter) -> Filter:
    """What both let through. Raises S3Error MalformedXML where that is nothing, or no filter."""
    prefixes = sorted((one.prefix or "", other.prefix or ""), key=len)
    if not prefixes[1].startswith(prefixes[0]) or one.tags.keys() & other.tags.keys():
        raise malformed()
    for name in ("size_greater_than", "size_less_than"):
        if getattr(one, name) is not None and getattr(other, name) is not None:
            raise malformed()
    given = one.prefix is not None or other.prefix is not None
    return Filter(
        prefixes[1] if given else None,
        {**one.tags, **other.tags},
        other.size_greater_than if one.size_greater_than is None else one.size_greater_than,
        other.size_less_than if one.size_less_than is None else one.size_less_than,
        together=True,
    )


def _predicates(found: Element) -> Filter:
    pairs = tag_pairs(found)
    if len({key for key, _ in pairs}) < len(pairs):
        raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    greater = number_of(found, "ObjectSizeGreaterThan")
    less = number_of(found, "ObjectSizeLessThan")
    if (greater or 0) < 0 or (less is not None and less < 1):
        raise S3Error("InvalidRequest", "Object sizes of a filter must not be negative")
    if greater is not None and less is not None and less <= greater + 1:
        raise S3Error(
            "InvalidRequest", "'ObjectSizeLessThan' has to be a value greater than "
            "'ObjectSizeGreaterThan' by more than one"
        )  # fmt: skip
    return Filter(
        _prefix(text_of(found, "Prefix")), checked_tags(pairs, tags_max=len(pairs)), greater, less
    )


def _with_actions(rule: Rule, found: Element) -> Rule:
    """*rule* with what it does. Raises S3Error."""
    actions: dict[str, object] = {}
    expiration = only(found, "Expiration")
    if expiration is not None:
        only_these(expiration, frozenset({"Days", "Date", "ExpiredObjectDeleteMarker"}))
        marker = truth_of(expiration, "ExpiredObjectDeleteMarker")
        days = _days(expiration, "Days", "Expiration")
        date_ns = _date_ns(expiration)
        given = [days is not None, date_ns is not None, marker is True]
        if sum(given) > 1 or (not any(given) and marker is None):
            raise malformed()
        actions["expiration_days"] = days
        actions["expiration_date_ns"] = date_ns
        actions["expired_delete_marker"] = marker
    noncurrent = only(found, "NoncurrentVersionExpiration")
    if noncurrent is not None:
        only_these(noncurrent, frozenset({"NoncurrentDays", "NewerNoncurrentVersions"}))
        days = _days(noncurrent, "NoncurrentDays", "NoncurrentVersionExpiration")
        if days is None:
            raise malformed()
        actions["noncurrent_days"] = days
        actions["newer_noncurrent_versions"] = _newer(noncurrent)
    abort = only(found, "AbortIncompleteMultipartUpload")
    if abort is not None:
        days = _days(abort, "DaysAfterInitiation", "AbortIncompleteMultipartUpload")
        if days is None:
            raise malformed()
        actions["abort_multipart_days"] = days
    for child in found:
        if local_name(child).endswith("Transition"):
            _check_transition(child)
    return msgspec.structs.replace(rule, **actions) if actions else rule


def _days(found: Element, name: str, action: str) -> int | None:
    days = number_of(found, name)
    if days is not None and not 1 <= days < 1 << 31:
        raise invalid_argument(
            f"'{name}' for {action} action must be a positive integer", name=name, value=str(days)
        )
    return days


def _newer(found: Element) -> int | None:
    newer = number_of(found, "NewerNoncurrentVersions")
    if newer is not None and not 1 <= newer <= NEWER_VERSIONS_MAX:
        raise invalid_argument(
            f"'NewerNoncurrentVersions' must be between 1 and {NEWER_VERSIONS_MAX}",
            name="NewerNoncurrentVersions",
            value=str(newer),
        )
    return newer


def _date_ns(found: Element) -> int | None:
    text = text_of(found, "Date")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise malformed() from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    date_ns = int(moment.timestamp()) * NANOSECONDS + moment.microsecond * 1000
    if date_ns % _DAY_NS:
        raise invalid_argument("'Date' must be at midnight GMT", name="Date", value=text)
    return date_ns


def _check_transition(found: Element) -> None:
    """Raises S3Error for one that AWS refuses, too."""
    if text_of(found, "StorageClass") not in TRANSITION_CLASSES:
        raise malformed()
    _newer(found)
    _date_ns(found)
    for name in ("Days", "NoncurrentDays"):
        days = number_of(found, name)
        if days is not None and days < 0:
            raise invalid_argument(
                f"'{name}' in Transition action must be nonnegative", name=name, value=str(days)
            )


def _check_together(rule: Rule) -> None:
    """Raise S3Error InvalidRequest for actions that know neither tags nor sizes."""
    chosen = rule.filter
    sized = chosen.size_greater_than is not None or chosen.size_less_than is not None
    for name, given in (
        ("ExpiredObjectDeleteMarker", rule.expired_delete_marker),
        ("AbortIncompleteMultipartUpload", rule.abort_multipart_days is not None),
    ):
        if given and chosen.tags:
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Tags.")
        if given and sized:
            raise S3Error("InvalidRequest", f"{name} cannot be specified with Object Size.")


def render(lifecycle: Lifecycle) -> bytes:
    """LifecycleConfiguration."""
    return document("LifecycleConfiguration", *(_rendered(rule) for rule in lifecycle.rules))


def _rendered(rule: Rule) -> str:
    if rule.prefix_alone:
        chosen = element("Prefix", rule.filter.prefix or "")
    else:
        inner = _rendered_filter(rule.filter)
        chosen = f"<Filter><And>{inner}</And></Filter>" if rule.filter.together else ""
        chosen = chosen or f"<Filter>{inner}</Filter>"
    parts = [
        element("ID", rule.id),
        chosen,
        element("Status", "Enabled" if rule.enabled else "Disabled"),
    ]
    expiration = optional("Days", rule.expiration_days)
    if rule.expiration_date_ns is not None:
        expiration += element("Date", iso_milliseconds(rule.expiration_date_ns))
    if rule.expired_delete_marker is not None:
        expiration += flag("ExpiredObjectDeleteMarker", rule.expired_delete_marker)
    if expiration:
        parts.append(f"<Expiration>{expiration}</Expiration>")
    if rule.noncurrent_days is not None:
        parts.append(
            "<NoncurrentVersionExpiration>"
            + optional("NoncurrentDays", rule.noncurrent_days)
            + optional("NewerNoncurrentVersions", rule.newer_noncurrent_versions)
            + "</NoncurrentVersionExpiration>"
        )
    if rule.abort_multipart_days is not None:
        parts.append(
            "<AbortIncompleteMultipartUpload>"
            + optional("DaysAfterInitiation", rule.abort_multipart_days)
            + "</AbortIncompleteMultipartUpload>"
        )
    return f"<Rule>{''.join(parts)}</Rule>"


def _rendered_filter(chosen: Filter) -> str:
    prefix = "" if chosen.prefix is None else element("Prefix", chosen.prefix)
    tags = "".join(
        f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>"
        for key, value in chosen.tags.items()
    )
    return (
        prefix
        + tags
        + optional("ObjectSizeGreaterThan", chosen.size_greater_than)
        + optional("ObjectSizeLessThan", chosen.size_less_than)
    )
