"""Which events of a bucket are told to whom: the stored setting ``notification``.

The S3 door makes the records from documents that it has checked; the transactions that change
objects hold each event against them.
"""

from __future__ import annotations

import msgspec

ASPECT = "notification"
"""Name of the setting."""

EVENT_BRIDGE = "eventbridge"
"""Name of the destination that ``EventBridgeConfiguration`` means."""

TEST_EVENT = "s3:TestEvent"
"""Told once to each destination of a configuration that is new."""

CREATED_PUT = "ObjectCreated:Put"
CREATED_POST = "ObjectCreated:Post"
CREATED_COPY = "ObjectCreated:Copy"
CREATED_MULTIPART = "ObjectCreated:CompleteMultipartUpload"
REMOVED = "ObjectRemoved:Delete"
REMOVED_MARKER = "ObjectRemoved:DeleteMarkerCreated"
EXPIRED = "LifecycleExpiration:Delete"
EXPIRED_MARKER = "LifecycleExpiration:DeleteMarkerCreated"
TAGS_PUT = "ObjectTagging:Put"
TAGS_DELETED = "ObjectTagging:Delete"
ACL_PUT = "ObjectAcl:Put"
RETENTION_PUT = "ObjectRetention:Put"

HAPPENING = frozenset(
    {
        CREATED_PUT,
        CREATED_POST,
        CREATED_COPY,
        CREATED_MULTIPART,
        REMOVED,
        REMOVED_MARKER,
        EXPIRED,
        EXPIRED_MARKER,
        TAGS_PUT,
        TAGS_DELETED,
        ACL_PUT,
        RETENTION_PUT,
    }
)
"""The events that there are, as messages name them; configurations say ``s3:`` in front."""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Events that one destination is told."""

    kind: str
    """Its element: TopicConfiguration, QueueConfiguration or CloudFunctionConfiguration."""
    id: str
    arn: str
    events: tuple[str, ...]
    prefix: str | None = None
    suffix: str | None = None

    @property
    def target(self) -> str:
        """Name of the destination."""
        return self.arn.rpartition(":")[2]


class Notification(msgspec.Struct, frozen=True, omit_defaults=True):
    """All configurations of a bucket."""

    configurations: tuple[Configuration, ...] = ()
    event_bridge: bool = False
    """Everything is told to the destination ``EVENT_BRIDGE``."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of all destinations, each once."""
        names = [each.target for each in self.configurations]
        if self.event_bridge:
            names.append(EVENT_BRIDGE)
        return tuple(dict.fromkeys(names))


_decode = msgspec.msgpack.Decoder(Notification).decode


def decode_notification(value: bytes) -> Notification:
    """The setting's value. Raises what msgspec raises for damaged ones (errors.UNREADABLE)."""
    return _decode(value)
