"""Documents of bucket settings, by boto3: what is put comes back, and what AWS refuses is
refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.lifecycle.records import decode_lifecycle
from craqen.tests.gateway.integration.running_gateway import Gateway

MIDNIGHT = datetime(2031, 5, 1, tzinfo=UTC)


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def rule(**members: Any) -> dict[str, Any]:
    return {"ID": "one", "Status": "Enabled", "Filter": {"Prefix": "a/"}, **members}


RULES = [
    {"ID": "old form", "Status": "Disabled", "Prefix": "", "Expiration": {"Days": 3}},
    rule(ID="dated", Expiration={"Date": MIDNIGHT}),
    rule(ID="everything", Filter={}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}),
    rule(ID="empty prefix", Filter={"Prefix": ""}, Expiration={"ExpiredObjectDeleteMarker": True}),
    rule(ID="tagged", Filter={"Tag": {"Key": "k", "Value": "<v>"}}, Expiration={"Days": 1}),
    rule(ID="large", Filter={"ObjectSizeGreaterThan": 1 << 40}, Expiration={"Days": 1}),
    rule(
        ID="and",
        Filter={
            "And": {
                "Prefix": "ü/",
                "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}],
                "ObjectSizeGreaterThan": 0,
                "ObjectSizeLessThan": 100,
            }
        },
        NoncurrentVersionExpiration={"NoncurrentDays": 7, "NewerNoncurrentVersions": 3},
    ),
]


def put_rules(s3: Any, bucket: str, rules: list[dict[str, Any]], **more: Any) -> Any:
    return s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": rules}, **more
    )


def test_lifecycle(gateway: Gateway, s3: Any, bucket: str) -> None:
    get = s3.get_bucket_lifecycle_configuration
    assert refused(get, Bucket=bucket) == (404, "NoSuchLifecycleConfiguration")
    size = "varies_by_storage_class"
    made = put_rules(s3, bucket, RULES, TransitionDefaultMinimumObjectSize=size)
    assert made["TransitionDefaultMinimumObjectSize"] == size
    found = get(Bucket=bucket)
    assert found["Rules"] == RULES
    assert found["TransitionDefaultMinimumObjectSize"] == size
    value = gateway.call(gateway.meta.get_bucket_setting(bucket, "lifecycle"))
    assert value is not None
    records = decode_lifecycle(value).rules
    assert [record.enabled for record in records] == [False] + [True] * 6
    assert records[1].expiration_date_ns == int(MIDNIGHT.timestamp()) * 1_000_000_000
    assert records[6].filter.tags == {"a": "1", "b": ""}
    assert (records[6].noncurrent_days, records[6].newer_noncurrent_versions) == (7, 3)
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert refused(get, Bucket=bucket) == (404, "NoSuchLifecycleConfiguration")


def test_rules_without_id_get_one(s3: Any, bucket: str) -> None:
    nameless = {"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}
    put_rules(s3, bucket, [nameless, nameless])
    ids = {found["ID"] for found in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        ([rule(Expiration={"Days": 1})] * 2, (400, "InvalidArgument")),
        ([rule(ID="x" * 256, Expiration={"Days": 1})], (400, "InvalidArgument")),
        ([rule(Expiration={"Days": 0})], (400, "InvalidArgument")),
        (
            [rule(Expiration={"Date": datetime(2031, 5, 1, 1, tzinfo=UTC)})],
            (400, "InvalidArgument"),
        ),
        ([rule(Expiration={"Days": 1, "Date": MIDNIGHT})], (400, "MalformedXML")),
        ([rule(Expiration={})], (400, "MalformedXML")),
        ([rule(Status="enabled", Expiration={"Days": 1})], (400, "MalformedXML")),
        ([rule(Prefix="b", Expiration={"Days": 1})], (400, "MalformedXML")),
        ([{"ID": "x", "Status": "Enabled", "Expiration": {"Days": 1}}], (400, "MalformedXML")),
        ([rule()], (400, "InvalidRequest")),
        (
            [rule(Filter={"Prefix": "a", "And": {"Prefix": "b"}}, Expiration={"Days": 1})],
            (400, "MalformedXML"),
        ),
        (
            [
                rule(
                    Filter={
                        "Tag": {"Key": "k", "Value": "1"},
                        "And": {"Prefix": "b", "Tags": [{"Key": "k", "Value": "2"}]},
                    },
                    Expiration={"Days": 1},
                )
            ],
            (400, "MalformedXML"),
        ),
        (
            [
                rule(
                    Filter={"ObjectSizeLessThan": 9, "And": {"ObjectSizeLessThan": 8}},
                    Expiration={"Days": 1},
                )
            ],
            (400, "MalformedXML"),
        ),
        ([rule(Filter={"And": {"Prefix": "a"}}, Expiration={"Days": 1})], (400, "MalformedXML")),
        (
            [
                rule(
                    Filter={"And": {"ObjectSizeGreaterThan": 9, "ObjectSizeLessThan": 9}},
                    Expiration={"Days": 1},
                )
            ],
            (400, "InvalidRequest"),
        ),
        (
            [
                rule(
                    Filter={"Tag": {"Key": "k", "Value": "v"}},
                    AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1},
                )
            ],
            (400, "InvalidRequest"),
        ),
        (
            [
                rule(
                    Filter={"ObjectSizeLessThan": 5}, Expiration={"ExpiredObjectDeleteMarker": True}
                )
            ],
            (400, "InvalidRequest"),
        ),
        ([rule(NoncurrentVersionExpiration={"NewerNoncurrentVersions": 2})], (400, "MalformedXML")),
        (
            [
                rule(
                    NoncurrentVersionExpiration={
                        "NoncurrentDays": 1,
                        "NewerNoncurrentVersions": 101,
                    }
                )
            ],
            (400, "InvalidArgument"),
        ),
        (
            [rule(ID=str(number), Expiration={"Days": 1}) for number in range(1001)],
            (400, "MalformedXML"),
        ),
        (
            [rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER"}])],
            (501, "NotImplemented"),
        ),
        (
            [rule(Transitions=[{"Days": -1, "StorageClass": "GLACIER"}])],
            (400, "InvalidArgument"),
        ),
    ],
)
def test_rules_that_are_refused(
    s3: Any, bucket: str, rules: list[dict[str, Any]], answer: tuple[int, str]
) -> None:
    put = s3.put_bucket_lifecycle_configuration
    assert refused(put, Bucket=bucket, LifecycleConfiguration={"Rules": rules}) == answer


def test_predicates_side_by_side_are_taken_for_an_and(s3: Any, bucket: str) -> None:
    tags = [{"Key": "tom", "Value": "sawyer"}, {"Key": "huck", "Value": "finn"}]
    sized = {"Prefix": "a", "ObjectSizeLessThan": 9}
    mixed = {"Prefix": "a/", "Tag": tags[0], "And": {"Prefix": "a", "Tags": tags[1:]}}
    put_rules(
        s3,
        bucket,
        [
            rule(ID="sized", Filter=sized, Expiration={"Days": 1}),
            rule(ID="mixed", Filter=mixed, Expiration={"Days": 1}),
        ],
    )
    found = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [one["Filter"] for one in found] == [
        {"And": sized},
        {"And": {"Prefix": "a/", "Tags": tags}},
    ]


def test_a_thousand_rules_are_allowed(s3: Any, bucket: str) -> None:
    rules = [rule(ID=str(number), Expiration={"Days": 1}) for number in range(1000)]
    put_rules(s3, bucket, rules)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules


def test_encryption_default(s3: Any, bucket: str) -> None:
    def default(**members: str) -> dict[str, Any]:
        return {"Rules": [{"ApplyServerSideEncryptionByDefault": members}]}

    put, get = s3.put_bucket_encryption, s3.get_bucket_encryption
    unset = (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert refused(get, Bucket=bucket) == unset
    blocked = {"Rules": [{"BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]}}]}
    with_key = default(SSEAlgorithm="aws:kms", KMSMasterKeyID="some-key")
    with_key["Rules"][0]["BucketKeyEnabled"] = True
    for configuration in (default(SSEAlgorithm="AES256"), with_key, blocked):
        put(Bucket=bucket, ServerSideEncryptionConfiguration=configuration)
        assert get(Bucket=bucket)["ServerSideEncryptionConfiguration"] == configuration
    for configuration, answer in (
        (default(SSEAlgorithm="ROT13"), (400, "MalformedXML")),
        (default(SSEAlgorithm="AES256", KMSMasterKeyID="k"), (400, "InvalidArgument")),
        ({"Rules": []}, (400, "MalformedXML")),
    ):
        failed = refused(put, Bucket=bucket, ServerSideEncryptionConfiguration=configuration)
        assert failed == answer
    s3.delete_bucket_encryption(Bucket=bucket)
    assert refused(get, Bucket=bucket) == unset


def test_logging(s3: Any, bucket: str) -> None:
    put, get = s3.put_bucket_logging, s3.get_bucket_logging
    assert "LoggingEnabled" not in get(Bucket=bucket)
    everybody = "http://acs.amazonaws.com/groups/global/AllUsers"
    enabled: dict[str, Any] = {
        "TargetBucket": bucket,
        "TargetPrefix": "",
        "TargetGrants": [
            {"Grantee": {"Type": "CanonicalUser", "ID": "a" * 64}, "Permission": "FULL_CONTROL"},
            {
                "Grantee": {"Type": "AmazonCustomerByEmail", "EmailAddress": "a@b.test"},
                "Permission": "READ",
            },
            {"Grantee": {"Type": "Group", "URI": everybody}, "Permission": "WRITE"},
        ],
        "TargetObjectKeyFormat": {"PartitionedPrefix": {"PartitionDateSource": "EventTime"}},
    }
    put(Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": enabled})
    assert get(Bucket=bucket)["LoggingEnabled"] == enabled
    for change, code in (
        ({"TargetBucket": "no-such-bucket-here"}, "InvalidTargetBucketForLogging"),
        (
            {"TargetGrants": [{"Grantee": {"Type": "Group", "URI": "x"}, "Permission": "READ"}]},
            "InvalidArgument",
        ),
        ({"TargetObjectKeyFormat": {}}, "MalformedXML"),
    ):
        status = {"LoggingEnabled": {**enabled, **change}}
        assert refused(put, Bucket=bucket, BucketLoggingStatus=status) == (400, code)
    put(Bucket=bucket, BucketLoggingStatus={})
    assert "LoggingEnabled" not in get(Bucket=bucket)


def configuration(target: str = "hook", service: str = "sns", **members: Any) -> dict[str, Any]:
    name = {"sns": "TopicArn", "sqs": "QueueArn", "lambda": "LambdaFunctionArn"}[service]
    arn = f"arn:aws:{service}:us-east-1:000000000001:{target}"
    return {"Id": "id", name: arn, "Events": ["s3:ObjectCreated:*"], **members}


def key_filter(*rules: tuple[str, str]) -> dict[str, Any]:
    return {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in rules]}}


def test_notifications(s3: Any, bucket: str) -> None:
    put, get = s3.put_bucket_notification_configuration, s3.get_bucket_notification_configuration

    def shown() -> dict[str, Any]:
        return {name: value for name, value in get(Bucket=bucket).items() if "Conf" in name}

    assert shown() == {}
    wanted = {
        "TopicConfigurations": [
            configuration(Filter=key_filter(("Prefix", "a/"), ("Suffix", ".jpg")))
        ],
        "QueueConfigurations": [
            configuration(service="sqs", Id="2", Events=["s3:ObjectRemoved:Delete"])
        ],
        "LambdaFunctionConfigurations": [
            configuration(service="lambda", Id="3", Filter=key_filter(("Prefix", "b/")))
        ],
    }
    put(Bucket=bucket, NotificationConfiguration=wanted)
    assert shown() == wanted
    put(Bucket=bucket, NotificationConfiguration={})
    assert shown() == {}
    put(
        Bucket=bucket,
        NotificationConfiguration={"TopicConfigurations": [configuration("later")]},
        SkipDestinationValidation=True,
    )
    assert len(shown()["TopicConfigurations"]) == 1


@pytest.mark.parametrize(
    "topics",
    [
        [configuration("unknown")],
        [configuration(Events=["s3:SomethingElse"])],
        [configuration(), configuration()],
        [configuration(), configuration(Id="2", Events=["s3:ObjectCreated:Put"])],
        [configuration(TopicArn="arn:aws:sqs:us-east-1:000000000001:hook")],
        [configuration(Filter=key_filter(("Prefix", "a"), ("Prefix", "b")))],
        [configuration(Filter=key_filter(("Middle", "a")))],
    ],
)
def test_notifications_that_are_refused(s3: Any, bucket: str, topics: list[dict[str, Any]]) -> None:
    put = s3.put_bucket_notification_configuration
    wanted = {"TopicConfigurations": topics}
    answer = refused(put, Bucket=bucket, NotificationConfiguration=wanted)
    assert answer == (400, "InvalidArgument")


def test_event_bridge_is_a_target_too(s3: Any, bucket: str) -> None:
    put = s3.put_bucket_notification_configuration
    wanted: dict[str, Any] = {"EventBridgeConfiguration": {}}
    answer = refused(put, Bucket=bucket, NotificationConfiguration=wanted)
    assert answer == (400, "InvalidArgument")
