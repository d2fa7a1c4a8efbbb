"""Object lock by boto3: configuration, retention, legal hold, default retention, headers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.errors import PermissionDeniedError
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_buckets import failure

NEXT_YEAR = datetime.datetime(2099, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LATER = NEXT_YEAR + datetime.timedelta(days=1)


@pytest.fixture
def locked(s3: Any, bucket: str) -> str:
    name = f"locked-{bucket}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def test_configuration(s3: Any, bucket: str, locked: str) -> None:
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled"
    }
    with pytest.raises(ClientError) as error:
        s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Suspended"})
    assert failure(error) == (409, "InvalidBucketState")
    with pytest.raises(ClientError) as error:
        s3.get_object_lock_configuration(Bucket=bucket)
    assert failure(error) == (404, "ObjectLockConfigurationNotFoundError")
    wanted = {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
    }
    with pytest.raises(ClientError) as error:
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=wanted)
    assert failure(error) == (409, "InvalidBucketState")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=wanted)
    found = s3.get_object_lock_configuration(Bucket=bucket)
    assert found["ObjectLockConfiguration"] == wanted


@pytest.mark.parametrize(
    ("period", "code"),
    [
        ({"Mode": "GOVERNANCE", "Days": 0}, "InvalidRetentionPeriod"),
        ({"Mode": "GOVERNANCE", "Years": -1}, "InvalidRetentionPeriod"),
        ({"Mode": "GOVERNANCE", "Years": 101}, "InvalidRetentionPeriod"),
        ({"Mode": "GOVERNANCE", "Days": 1, "Years": 1}, "MalformedXML"),
        ({"Mode": "GOVERNANCE"}, "MalformedXML"),
        ({"Mode": "other", "Days": 1}, "MalformedXML"),
    ],
)
def test_bad_configurations(s3: Any, locked: str, period: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object_lock_configuration(
            Bucket=locked,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": period},
            },
        )
    assert failure(error) == (400, code)


def test_default_retention(s3: Any, locked: str) -> None:
    s3.put_object_lock_configuration(
        Bucket=locked,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}},
        },
    )
    place = {"Bucket": locked, "Key": "k"}
    s3.put_object(**place, Body=b"x")
    s3.copy_object(Bucket=locked, Key="copy", CopySource=place)
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts")["UploadId"]
    target = {"Bucket": locked, "Key": "parts", "UploadId": upload}
    part = s3.upload_part(**target, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(
        **target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=364)
    for key in ("k", "copy", "parts"):
        head = s3.head_object(Bucket=locked, Key=key)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"] > soon


def test_a_locked_version_cannot_be_removed(s3: Any, locked: str) -> None:
    place = {"Bucket": locked, "Key": "k"}
    put = s3.put_object(
        **place,
        Body=b"x",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=NEXT_YEAR,
        ObjectLockLegalHoldStatus="ON",
    )
    version = {"VersionId": put["VersionId"]}
    for answer in (s3.head_object(**place), s3.get_object(**place)):
        assert answer["ObjectLockMode"] == "GOVERNANCE"
        assert answer["ObjectLockRetainUntilDate"] == NEXT_YEAR
        assert answer["ObjectLockLegalHoldStatus"] == "ON"
    for bypass in (False, True):
        with pytest.raises(ClientError) as error:
            s3.delete_object(**place, **version, BypassGovernanceRetention=bypass)
        assert failure(error) == (403, "AccessDenied")
    s3.put_object_legal_hold(**place, LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(**place)["LegalHold"] == {"Status": "OFF"}
    objects = {"Objects": [{"Key": "k", **version}]}
    answer = s3.delete_objects(Bucket=locked, Delete=objects)
    assert [row["Code"] for row in answer["Errors"]] == ["AccessDenied"]
    assert s3.delete_object(**place)["DeleteMarker"] is True
    answer = s3.delete_objects(Bucket=locked, Delete=objects, BypassGovernanceRetention=True)
    assert [row["Key"] for row in answer["Deleted"]] == ["k"]


def test_retention(s3: Any, locked: str) -> None:
    place = {"Bucket": locked, "Key": "k"}
    one = s3.put_object(**place, Body=b"x")["VersionId"]
    s3.put_object(**place, Body=b"y")
    with pytest.raises(ClientError) as error:
        s3.get_object_retention(**place)
    assert failure(error) == (404, "NoSuchObjectLockConfiguration")
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": NEXT_YEAR}
    s3.put_object_retention(**place, VersionId=one, Retention=retention)
    assert s3.get_object_retention(**place, VersionId=one)["Retention"] == retention
    assert "ObjectLockMode" not in s3.head_object(**place)
    s3.put_object_retention(
        **place, VersionId=one, Retention={**retention, "RetainUntilDate": LATER}
    )
    with pytest.raises(ClientError) as error:
        s3.put_object_retention(**place, VersionId=one, Retention=retention)
    assert failure(error) == (403, "AccessDenied")
    s3.put_object_retention(
        **place, VersionId=one, Retention=retention, BypassGovernanceRetention=True
    )
    s3.put_object_retention(**place, VersionId=one, Retention={}, BypassGovernanceRetention=True)
    s3.delete_object(**place, VersionId=one)


def test_what_cannot_be_locked(s3: Any, bucket: str, locked: str, gateway: Gateway) -> None:
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    for place, more, expected in (
        (bucket, {"ObjectLockLegalHoldStatus": "ON"}, (400, "InvalidRequest")),
        (locked, {"ObjectLockMode": "GOVERNANCE"}, (400, "InvalidArgument")),
        (locked, {"ObjectLockRetainUntilDate": NEXT_YEAR}, (400, "InvalidArgument")),
        (
            locked,
            {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": past},
            (400, "InvalidArgument"),
        ),
        (
            locked,
            {"ObjectLockMode": "other", "ObjectLockRetainUntilDate": NEXT_YEAR},
            (400, "InvalidArgument"),
        ),
        (locked, {"ObjectLockLegalHoldStatus": "PERHAPS"}, (400, "InvalidArgument")),
    ):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=place, Key="k", Body=b"x", **more)
        assert failure(error) == expected
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": NEXT_YEAR}
    with pytest.raises(ClientError) as error:
        s3.put_object_retention(Bucket=bucket, Key="k", Retention=retention)
    assert failure(error) == (400, "InvalidRequest")
    marker = s3.delete_object(Bucket=locked, Key="k")["VersionId"]
    with pytest.raises(ClientError) as error:
        s3.put_object_legal_hold(
            Bucket=locked, Key="k", VersionId=marker, LegalHold={"Status": "ON"}
        )
    assert failure(error) == (405, "MethodNotAllowed")


def test_the_other_door_is_bound_too(s3: Any, locked: str, gateway: Gateway) -> None:
    """What a mount does with the same namespace."""
    s3.put_object(Bucket=locked, Key="k", Body=b"kept", ObjectLockLegalHoldStatus="ON")
    meta = gateway.meta
    bucket_id = gateway.call(meta.get_bucket(locked)).inode_id
    number = gateway.inode_id(locked, b"k")
    calls: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
        lambda: meta.write_inline(number, 0, b"gone"),
        lambda: meta.rename(bucket_id, b"k", bucket_id, b"other"),
    )
    for call in calls:
        with pytest.raises(PermissionDeniedError):
            gateway.call(call())
    gateway.call(meta.unlink(bucket_id, b"k"))
    marker, *_ = s3.list_object_versions(Bucket=locked)["DeleteMarkers"]
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=locked, Key="k")["Body"].read() == b"kept"
