"""RenameObject in ordinary buckets, by boto3: objects, prefixes, conditions, tokens."""

from __future__ import annotations

import datetime
import os
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import MIB
from craqen.core.meta.records import InodeType
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_buckets import failure

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


def put(s3: Any, bucket: str, *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"was": "here"})


def keys(s3: Any, bucket: str) -> list[str]:
    return [row["Key"] for row in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def rename(s3: Any, bucket: str, source: str, target: str, **options: Any) -> None:
    s3.rename_object(Bucket=bucket, Key=target, RenameSource=quote(source), **options)


def refused(s3: Any, bucket: str, source: str, target: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as error:
        rename(s3, bucket, source, target, **options)
    return failure(error)


@pytest.mark.parametrize("size", [3, MIB])
def test_an_object_takes_another_key(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    before = s3.put_object(Bucket=bucket, Key="a/b ä+%", Body=data, Metadata={"m": "v"})
    rename(s3, bucket, "a/b ä+%", "c/d/e")
    assert keys(s3, bucket) == ["c/d/e"]
    got = s3.get_object(Bucket=bucket, Key="c/d/e")
    assert (got["Body"].read(), got["ETag"], got["Metadata"]) == (data, before["ETag"], {"m": "v"})
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Prefix="a", Delimiter="/")


def test_the_bucket_may_stand_in_front(s3: Any, bucket: str) -> None:
    put(s3, bucket, "k")
    rename(s3, bucket, f"/{bucket}/k", "l")
    assert keys(s3, bucket) == ["l"]


def test_what_is_there_is_replaced(s3: Any, bucket: str) -> None:
    put(s3, bucket, "a", "b", "b/below")
    rename(s3, bucket, "a", "b")
    assert keys(s3, bucket) == ["b", "b/below"]
    assert s3.get_object(Bucket=bucket, Key="b")["Body"].read() == b"a"
    rename(s3, bucket, "b", "b")
    assert keys(s3, bucket) == ["b", "b/below"]


def test_a_prefix_with_all_below_it(gateway: Gateway, s3: Any, bucket: str) -> None:
    below = [f"run/{part}/{number}" for part in ("a", "b") for number in range(20)]
    put(s3, bucket, *below, "run", "run/", "running")
    folder = gateway.call(gateway.meta.get_bucket(bucket)).inode_id
    inode = gateway.call(gateway.meta.lookup(folder, b"run"))
    rename(s3, bucket, "run/", "old/2026/run/")
    moved = sorted(f"old/2026/{key}" for key in [*below, "run/"])
    assert keys(s3, bucket) == sorted([*moved, "run", "running"])
    assert s3.get_object(Bucket=bucket, Key="old/2026/run/a/7")["Body"].read() == b"run/a/7"
    assert s3.get_object(Bucket=bucket, Key="old/2026/run/")["Body"].read() == b"run/"
    # One entry has moved: the folder is the same one in a mount.
    names = [b"old", b"2026", b"run"]
    parent = folder
    for name in names:
        found = gateway.call(gateway.meta.lookup(parent, name))
        parent = found.inode_id
    assert (found.inode_id, found.type) == (inode.inode_id, InodeType.DIRECTORY)


def test_prefixes_that_cannot_move(s3: Any, bucket: str) -> None:
    put(s3, bucket, "a/x", "b/y", "k")
    assert refused(s3, bucket, "a/", "b/") == (400, "InvalidRequest")
    assert refused(s3, bucket, "a/", "a/below/") == (400, "InvalidArgument")
    assert refused(s3, bucket, "a/", "c") == (400, "InvalidArgument")
    assert refused(s3, bucket, "k", "c/") == (400, "InvalidArgument")
    assert refused(s3, bucket, "none/", "c/") == (404, "NoSuchKey")
    assert refused(s3, bucket, "a/", "b/", DestinationIfNoneMatch="*") == (
        412,
        "PreconditionFailed",
    )
    assert keys(s3, bucket) == ["a/x", "b/y", "k"]


def test_missing_sources(s3: Any, bucket: str) -> None:
    put(s3, bucket, "a/x")
    for source in ("none", "a", "a/none", "none/none"):
        assert refused(s3, bucket, source, "k") == (404, "NoSuchKey")
    assert keys(s3, bucket) == ["a/x"]


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({"DestinationIfNoneMatch": "*"}, False),
        ({"DestinationIfMatch": '"other"'}, False),
        ({"DestinationIfMatch": "*"}, True),
        ({"DestinationIfUnmodifiedSince": PAST}, False),
        ({"DestinationIfUnmodifiedSince": FUTURE}, True),
        ({"DestinationIfModifiedSince": FUTURE}, False),
        ({"DestinationIfModifiedSince": PAST}, True),
        ({"SourceIfMatch": '"other"'}, False),
        ({"SourceIfMatch": '"source"'}, True),
        ({"SourceIfMatch": '"source"', "SourceIfUnmodifiedSince": PAST}, True),
        ({"SourceIfNoneMatch": '"source"'}, False),
        ({"SourceIfNoneMatch": '"other"', "SourceIfModifiedSince": FUTURE}, True),
        ({"SourceIfUnmodifiedSince": PAST}, False),
        ({"SourceIfModifiedSince": FUTURE}, False),
    ],
)
def test_conditions(s3: Any, bucket: str, options: dict[str, Any], holds: bool) -> None:
    put(s3, bucket, "source", "target")
    etag = s3.head_object(Bucket=bucket, Key="source")["ETag"]
    given = {name: etag if value == '"source"' else value for name, value in options.items()}
    if holds:
        rename(s3, bucket, "source", "target", **given)
        assert keys(s3, bucket) == ["target"]
    else:
        assert refused(s3, bucket, "source", "target", **given) == (412, "PreconditionFailed")
        assert keys(s3, bucket) == ["source", "target"]


def test_conditions_on_what_is_absent(s3: Any, bucket: str) -> None:
    put(s3, bucket, "source")
    assert refused(s3, bucket, "source", "target", DestinationIfMatch="*") == (404, "NoSuchKey")
    rename(s3, bucket, "source", "target", DestinationIfNoneMatch="*")
    assert keys(s3, bucket) == ["target"]


def test_a_token_counts_once(s3: Any, bucket: str) -> None:
    put(s3, bucket, "a", "b")
    rename(s3, bucket, "a", "c", ClientToken="token")
    rename(s3, bucket, "a", "c", ClientToken="token")
    assert refused(s3, bucket, "b", "c", ClientToken="token") == (
        400,
        "IdempotencyParameterMismatch",
    )
    assert refused(s3, bucket, "a", "c", ClientToken="another") == (404, "NoSuchKey")
    assert keys(s3, bucket) == ["b", "c"]


def test_a_versioned_bucket_keeps_what_is_replaced(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(s3, bucket, "a", "b")
    rename(s3, bucket, "a", "b")
    assert keys(s3, bucket) == ["b"]
    versions = s3.list_object_versions(Bucket=bucket, Prefix="b")["Versions"]
    bodies = [
        s3.get_object(Bucket=bucket, Key="b", VersionId=version["VersionId"])["Body"].read()
        for version in versions
    ]
    assert bodies == [b"a", b"b"]


def test_requests_that_make_no_sense(raw: RawClient, s3: Any, bucket: str) -> None:
    for value, code in (("", "InvalidArgument"), ("x" * 1025, "KeyTooLongError")):
        headers = {"x-amz-rename-source": value} if value else {}
        raw.send_head(raw.signed("PUT", f"/{bucket}/k?renameObject", headers))
        assert raw.answer().code == code
