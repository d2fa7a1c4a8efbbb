"""Messages as AWS writes them: the event record, version 2.1 of its form. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import msgspec

from .outbox import Event
from .records import TEST_EVENT

EVENT_VERSION = "2.1"
SCHEMA_VERSION = "1.0"

_encode = msgspec.json.Encoder().encode


def time_text(time_ns: int) -> str:
    """A time in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 1_000_000 % 1000:03d}Z"


def record_of(event: Event, sequencer: str) -> dict[str, Any]:
    """One element of ``Records``. The key's bytes are escaped as in a form."""
    about: dict[str, Any] = {"key": quote_plus(event.key, safe="/")}
    if event.size is not None:
        about["size"] = event.size
    if event.etag:
        about["eTag"] = event.etag
    if event.version_id:
        about["versionId"] = event.version_id
    about["sequencer"] = sequencer
    return {
        "eventVersion": EVENT_VERSION,
        "eventSource": "aws:s3",
        "awsRegion": event.region,
        "eventTime": time_text(event.time_ns),
        "eventName": event.name,
        "userIdentity": {"principalId": event.principal},
        "requestParameters": {"sourceIPAddress": event.address},
        "responseElements": {"x-amz-request-id": event.request_id, "x-amz-id-2": event.request_id},
        "s3": {
            "s3SchemaVersion": SCHEMA_VERSION,
            "configurationId": event.rule_id,
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": {"principalId": event.owner},
                "arn": f"arn:aws:s3:::{event.bucket}",
            },
            "object": about,
        },
    }


def test_message(event: Event) -> bytes:
    """What a destination gets when a configuration begins to name it."""
    return _encode(
        {
            "Service": "Amazon S3",
            "Event": TEST_EVENT,
            "Time": time_text(event.time_ns),
            "Bucket": event.bucket,
            "RequestId": event.request_id,
            "HostId": event.request_id,
        }
    )


def message_of(events: Sequence[tuple[Event, str]]) -> bytes:
    """A message of *events*, each with its sequencer. A test event is a message by itself."""
    if events[0][0].name == TEST_EVENT:
        assert len(events) == 1, "a test event is told alone"
        return test_message(events[0][0])
    return _encode({"Records": [record_of(event, sequencer) for event, sequencer in events]})
