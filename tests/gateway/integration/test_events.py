"""What requests leave for those who are told of events: who did what, by which request."""

from __future__ import annotations

from typing import Any

import pytest

from craqen.core.events.records import TEST_EVENT
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_forms import encode, post, presigned


@pytest.fixture
def told(s3: Any, bucket: str) -> str:
    """A bucket that tells ``hook`` of everything."""
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": "all",
                    "QueueArn": "arn:aws:sqs:us-east-1:000000000001:hook",
                    "Events": [
                        "s3:ObjectCreated:*",
                        "s3:ObjectRemoved:*",
                        "s3:ObjectTagging:*",
                        "s3:ObjectAcl:Put",
                    ],
                }
            ]
        },
    )
    return bucket


def test_each_way_to_change_an_object_has_its_event(
    s3: Any, raw: RawClient, told: str, gateway: Gateway
) -> None:
    put = s3.put_object(Bucket=told, Key="put", Body=b"data")
    s3.copy_object(Bucket=told, Key="copy", CopySource=f"{told}/put")
    fields = presigned(s3, told, "form")
    assert post(raw, told, encode(fields, b"data")).status == 204
    upload = s3.create_multipart_upload(Bucket=told, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=told, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=told,
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    s3.put_object_tagging(Bucket=told, Key="put", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_object_tagging(Bucket=told, Key="put")
    s3.delete_object(Bucket=told, Key="copy")
    s3.delete_objects(Bucket=told, Delete={"Objects": [{"Key": "put"}, {"Key": "none"}]})
    events = gateway.events(told, "hook")
    assert [(one.name, one.key.decode()) for one in events] == [
        (TEST_EVENT, ""),
        ("ObjectCreated:Put", "put"),
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:Post", "form"),
        ("ObjectCreated:CompleteMultipartUpload", "parts"),
        ("ObjectTagging:Put", "put"),
        ("ObjectTagging:Delete", "put"),
        ("ObjectRemoved:Delete", "copy"),
        ("ObjectRemoved:Delete", "put"),
    ]
    one = events[1]
    assert (one.size, one.etag) == (4, put["ETag"].strip('"'))
    assert one.request_id == put["ResponseMetadata"]["RequestId"]
    assert (one.principal, one.address) == (FIRST_ACCOUNT_ID, "127.0.0.1")
    assert len({each.request_id for each in events[1:]}) == len(events) - 1


def test_a_bucket_without_a_configuration_tells_nobody(
    s3: Any, told: str, gateway: Gateway
) -> None:
    s3.put_bucket_notification_configuration(Bucket=told, NotificationConfiguration={})
    s3.put_object(Bucket=told, Key="put", Body=b"data")
    assert [one.name for one in gateway.events(told, "hook")] == [TEST_EVENT]
