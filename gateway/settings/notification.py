"""The aspect ``notification``: which events of the bucket are told to whom. Pure.

ARNs name targets that the operator has configured: the last part of the ARN is the target's name.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec

from ...core.events.records import ASPECT, EVENT_BRIDGE, Configuration, Notification
from ...core.events.rules import covers
from ..errors import S3Error, invalid_argument
from ..xml import Element, children, local_name, malformed, parse_document
from .elements import all_texts, document, element, only, only_these, optional, text_of
from .stored import Stored

DOCUMENT_BYTES_MAX = 1 << 20
CONFIGURATIONS_MAX = 100  # as AWS
FILTER_CHARACTERS_MAX = 1024
ID_CHARACTERS_MAX = 255

EVENTS = frozenset(
    f"s3:{name}"
    for name in (
        "ReducedRedundancyLostObject",
        "ObjectCreated:*",
        "ObjectCreated:Put",
        "ObjectCreated:Post",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectRemoved:*",
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "ObjectRestore:*",
        "ObjectRestore:Post",
        "ObjectRestore:Completed",
        "ObjectRestore:Delete",
        "Replication:*",
        "Replication:OperationFailedReplication",
        "Replication:OperationNotTracked",
        "Replication:OperationMissedThreshold",
        "Replication:OperationReplicatedAfterThreshold",
        "LifecycleTransition",
        "IntelligentTiering",
        "ObjectAcl:Put",
        "LifecycleExpiration:*",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectTagging:*",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "ObjectAnnotation:*",
        "ObjectAnnotation:Put",
        "ObjectAnnotation:Delete",
        "ObjectRetention:Put",
    )
)

_KINDS = {
    "TopicConfiguration": ("Topic", "sns"),
    "QueueConfiguration": ("Queue", "sqs"),
    "CloudFunctionConfiguration": ("CloudFunction", "lambda"),
}
"""Element of a configuration: element of its ARN, and the service that the ARN names."""


STORED: Stored[Notification] = Stored(ASPECT, Notification)


def parse(body: bytes) -> Notification:
    """A NotificationConfiguration. Raises S3Error: MalformedXML, InvalidArgument,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "NotificationConfiguration", bytes_max=DOCUMENT_BYTES_MAX)
    only_these(root, frozenset({*_KINDS, "EventBridgeConfiguration"}))
    found = tuple(_configuration(child) for child in root if local_name(child) in _KINDS)
    if len(found) > CONFIGURATIONS_MAX:
        raise malformed()
    found = tuple(
        each if each.id else msgspec.structs.replace(each, id=f"configuration-{number}")
        for number, each in enumerate(found, 1)
    )
    if len({each.id for each in found}) < len(found):
        raise S3Error("InvalidArgument", "Configuration IDs must be unique")
    for number, one in enumerate(found):
        if any(_overlap(one, other) for other in found[:number]):
            raise S3Error(
                "InvalidArgument",
                "Configurations overlap. Configurations on the same bucket cannot share a common "
                "event type.",
            )
    return Notification(found, only(root, "EventBridgeConfiguration") is not None)


def _configuration(found: Element) -> Configuration:
    kind = local_name(found)
    arn_name, service = _KINDS[kind]
    only_these(found, frozenset({"Id", arn_name, "Event", "Filter"}))
    arn = (text_of(found, arn_name) or "").strip()
    events = all_texts(found, "Event")
    rule_id = text_of(found, "Id") or ""
    if not arn or not events or len(rule_id) > ID_CHARACTERS_MAX:
        raise malformed()
    for event in events:
        if event not in EVENTS:
            raise invalid_argument(
                "A specified event is not supported for notifications.", name="Event", value=event
            )
    parts = arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != service or not parts[-1]:
        raise invalid_argument("The ARN could not be parsed", name=arn_name, value=arn)
    prefix, suffix = _filter(only(found, "Filter"))
    return Configuration(kind, rule_id, arn, events, prefix, suffix)


def _filter(found: Element | None) -> tuple[str | None, str | None]:
    """Prefix and suffix. Raises S3Error."""
    if found is None:
        return None, None
    only_these(found, frozenset({"S3Key"}))
    keys = only(found, "S3Key")
    values: dict[str, str] = {}
    for rule in () if keys is None else children(keys, "FilterRule"):
        name = (text_of(rule, "Name") or "").strip().lower()
        value = text_of(rule, "Value")
        if name not in ("prefix", "suffix"):
            raise S3Error("InvalidArgument", "filter rule name must be either prefix or suffix")
        if name in values:
            raise S3Error(
                "InvalidArgument", f"Cannot specify more than one {name} rule in a filter."
            )
        if value is None or len(value) > FILTER_CHARACTERS_MAX:
            raise S3Error(
                "InvalidArgument",
                f"Size of filter rule value cannot exceed {FILTER_CHARACTERS_MAX} bytes in UTF-8 "
                "representation",
            )
        values[name] = value
    return values.get("prefix"), values.get("suffix")


def _overlap(one: Configuration, other: Configuration) -> bool:
    """Whether some event of some key would be told to both."""
    same_events = any(covers(a, b) or covers(b, a) for a in one.events for b in other.events)
    prefixes, suffixes = (
        (one.prefix or "", other.prefix or ""),
        (one.suffix or "", other.suffix or ""),
    )
    return (
        same_events
        and (prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0]))
        and (suffixes[0].endswith(suffixes[1]) or suffixes[1].endswith(suffixes[0]))
    )


def check_targets(notification: Notification, known: AbstractSet[str]) -> None:
    """Raise S3Error InvalidArgument if a target is not one of *known*."""
    wanted = [(each.target, each.arn) for each in notification.configurations]
    if notification.event_bridge:
        wanted.append((EVENT_BRIDGE, EVENT_BRIDGE))
    for target, arn in wanted:
        if target not in known:
            raise invalid_argument(
                "Unable to validate the following destination configurations: no target "
                f"{target} is configured at this store",
                name=arn,
                value="The destination does not exist",
            )


def render(notification: Notification) -> bytes:
    """NotificationConfiguration."""
    parts = [_rendered(each) for each in notification.configurations]
    if notification.event_bridge:
        parts.append("<EventBridgeConfiguration/>")
    return document("NotificationConfiguration", *parts)


def _rendered(each: Configuration) -> str:
    rules = "".join(
        f"<FilterRule>{element('Name', name)}{element('Value', value)}</FilterRule>"
        for name, value in (("Prefix", each.prefix), ("Suffix", each.suffix))
        if value is not None
    )
    return (
        f"<{each.kind}>{optional('Id', each.id)}{element(_KINDS[each.kind][0], each.arn)}"
        + "".join(element("Event", event) for event in each.events)
        + (f"<Filter><S3Key>{rules}</S3Key></Filter>" if rules else "")
        + f"</{each.kind}>"
    )
