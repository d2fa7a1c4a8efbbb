"""Which events are told to whom, and what the messages of them say."""

from __future__ import annotations

import json

import msgspec

from craqen.core.events.message import message_of
from craqen.core.events.outbox import (
    COUNTS_PREFIX,
    Event,
    Queue,
    decode_event,
    encode_event,
    events_range,
    queue_of,
    sequencer_of,
)
from craqen.core.events.records import (
    EVENT_BRIDGE,
    HAPPENING,
    TEST_EVENT,
    Configuration,
    Notification,
    decode_notification,
)
from craqen.core.events.rules import Rules, Told, covers

EVENT = Event(
    "ObjectCreated:Put",
    "images",
    "holiday",
    "owner-id",
    "eu-1",
    "Fotos/año 1+1.jpg".encode(),
    1_700_000_000_123_456_789,
    size=3,
    etag="abc",
    version_id="v1",
    principal="key-id",
    address="192.0.2.1",
    request_id="ABCD",
)


def _rules(*configurations: Configuration, event_bridge: bool = False) -> Rules:
    return Rules(Notification(configurations, event_bridge))


def _queue(rule_id: str, target: str, *events: str, **filters: str) -> Configuration:
    arn = f"arn:aws:sqs:us-east-1:123456789012:{target}"
    return Configuration("QueueConfiguration", rule_id, arn, events, **filters)


def test_names_are_matched_exactly_or_up_to_the_star() -> None:
    assert covers("s3:ObjectCreated:*", "s3:ObjectCreated:Put")
    assert covers("s3:ObjectCreated:Put", "s3:ObjectCreated:Put")
    assert not covers("s3:ObjectCreated:Put", "s3:ObjectCreated:Post")
    assert not covers("s3:ObjectCreated:*", "s3:ObjectRemoved:Delete")


def test_filters_are_about_both_ends_of_the_key() -> None:
    rules = _rules(
        _queue("a", "one", "s3:ObjectCreated:*", prefix="in/", suffix=".jpg"),
        _queue("b", "two", "s3:ObjectRemoved:Delete"),
    )
    assert rules.told("ObjectCreated:Copy", b"in/x.jpg") == [Told("one", "a")]
    assert rules.told("ObjectCreated:Copy", b"in/x.png") == []
    assert rules.told("ObjectCreated:Copy", b"out/x.jpg") == []
    assert rules.told("ObjectRemoved:Delete", b"in/x.jpg") == [Told("two", "b")]
    assert rules.told("ObjectRemoved:DeleteMarkerCreated", b"in/x.jpg") == []
    assert rules.wants("ObjectRemoved:Delete")
    assert not rules.wants("ObjectTagging:Put")


def test_two_configurations_of_one_event_are_both_told() -> None:
    rules = _rules(
        _queue("a", "one", "s3:ObjectCreated:*", prefix="a"),
        _queue("b", "two", "s3:ObjectCreated:Put", suffix="z"),
    )
    assert rules.told("ObjectCreated:Put", b"az") == [Told("one", "a"), Told("two", "b")]


def test_the_event_bridge_is_told_everything() -> None:
    rules = _rules(event_bridge=True)
    for name in HAPPENING:
        assert rules.told(name, b"x") == [Told(EVENT_BRIDGE, EVENT_BRIDGE)]


def test_the_setting_is_read_as_it_was_stored() -> None:
    record = Notification((_queue("a", "one", "s3:ObjectCreated:*", prefix="p"),))
    assert decode_notification(msgspec.msgpack.encode(record)) == record
    assert record.targets == ("one",)
    assert Notification(event_bridge=True).targets == (EVENT_BRIDGE,)


def test_a_message_is_as_aws_writes_it() -> None:
    message = json.loads(message_of([(EVENT, "0055")]))
    assert message == {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "eu-1",
                "eventTime": "2023-11-14T22:13:20.123Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "key-id"},
                "requestParameters": {"sourceIPAddress": "192.0.2.1"},
                "responseElements": {"x-amz-request-id": "ABCD", "x-amz-id-2": "ABCD"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "images",
                    "bucket": {
                        "name": "holiday",
                        "ownerIdentity": {"principalId": "owner-id"},
                        "arn": "arn:aws:s3:::holiday",
                    },
                    "object": {
                        "key": "Fotos/a%C3%B1o+1%2B1.jpg",
                        "size": 3,
                        "eTag": "abc",
                        "versionId": "v1",
                        "sequencer": "0055",
                    },
                },
            }
        ]
    }


def test_a_removal_has_neither_size_nor_etag() -> None:
    event = msgspec.structs.replace(EVENT, name="ObjectRemoved:Delete", size=None, etag="")
    about = json.loads(message_of([(event, "1")]))["Records"][0]["s3"]["object"]
    assert about == {"key": "Fotos/a%C3%B1o+1%2B1.jpg", "versionId": "v1", "sequencer": "1"}


def test_a_test_event_has_a_form_of_its_own() -> None:
    event = msgspec.structs.replace(EVENT, name=TEST_EVENT)
    assert json.loads(message_of([(event, "1")])) == {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2023-11-14T22:13:20.123Z",
        "Bucket": "holiday",
        "RequestId": "ABCD",
        "HostId": "ABCD",
    }


def test_events_wait_in_the_order_of_commits_each_queue_for_itself() -> None:
    one, longer, other = Queue(7, "hook"), Queue(7, "hook2"), Queue(8, "hook")
    begin, end = events_range(one)
    first = one.prefix + b"\x00" * 9 + b"\x01" + b"\xff" * 8
    second = one.prefix + b"\x00" * 9 + b"\x02" + b"\x00" * 8
    assert begin < first < second < end
    assert sequencer_of(first) < sequencer_of(second)
    for queue in (longer, other):
        assert not begin <= queue.prefix + b"\x00" * 18 < end
    assert queue_of(one.count_key) == one
    assert one.count_key.startswith(COUNTS_PREFIX)
    assert decode_event(encode_event(EVENT)) == EVENT
