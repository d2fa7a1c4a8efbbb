"""Versions and delete markers by boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.tests.gateway.integration.test_buckets import failure


@pytest.fixture
def versioned(s3: Any, bucket: str) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def put(s3: Any, bucket: str, key: str, data: bytes) -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=data)["VersionId"])


def read(s3: Any, bucket: str, key: str, **version: str) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key, **version)["Body"].read())


def listed(s3: Any, bucket: str) -> list[tuple[str, str, bool]]:
    page = s3.list_object_versions(Bucket=bucket)
    rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [(row["Key"], row["VersionId"], row["IsLatest"]) for row in rows]


def test_status(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    with pytest.raises(ClientError) as error:
        s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"}
        )
    assert failure(error) == (501, "NotImplemented")


def test_versions_are_kept_and_come_back(s3: Any, versioned: str) -> None:
    one, two = put(s3, versioned, "k", b"one"), put(s3, versioned, "k", b"two")
    assert read(s3, versioned, "k") == b"two"
    assert read(s3, versioned, "k", VersionId=one) == b"one"
    assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == two
    assert listed(s3, versioned) == [("k", two, True), ("k", one, False)]
    gone = s3.delete_object(Bucket=versioned, Key="k")
    assert gone["DeleteMarker"] is True
    marker = gone["VersionId"]
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=versioned, Key="k")
    assert failure(error) == (404, "NoSuchKey")
    headers = error.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=versioned, Key="k", VersionId=marker)
    assert failure(error) == (405, "MethodNotAllowed")
    headers = error.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-delete-marker"] == "true"
    assert "last-modified" in headers
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    back = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (back["DeleteMarker"], back["VersionId"]) == (True, marker)
    assert read(s3, versioned, "k") == b"two"
    s3.delete_object(Bucket=versioned, Key="k", VersionId=two)
    assert read(s3, versioned, "k") == b"one"


def test_bad_version_ids(s3: Any, versioned: str) -> None:
    one = put(s3, versioned, "k", b"one")
    s3.delete_object(Bucket=versioned, Key="k", VersionId=one)
    put(s3, versioned, "k", b"two")
    for version, expected in (
        (one, (404, "NoSuchVersion")),
        ("null", (404, "NoSuchVersion")),
        ("nonsense", (400, "InvalidArgument")),
    ):
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=versioned, Key="k", VersionId=version)
        assert failure(error) == expected
    s3.delete_object(Bucket=versioned, Key="k", VersionId=one)
    with pytest.raises(ClientError) as error:
        s3.delete_object(Bucket=versioned, Key="k", VersionId="nonsense")
    assert failure(error) == (400, "InvalidArgument")


def test_many_deletes_tell_of_markers(s3: Any, versioned: str) -> None:
    one = put(s3, versioned, "a", b"one")
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert all(row["DeleteMarker"] for row in answer["Deleted"])
    markers = {row["Key"]: row["DeleteMarkerVersionId"] for row in answer["Deleted"]}
    wanted = [
        {"Key": "a", "VersionId": markers["a"]},
        {"Key": "b", "VersionId": markers["b"]},
        {"Key": "a", "VersionId": one},
        {"Key": "a", "VersionId": "nonsense"},
    ]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": wanted})
    rows = answer["Deleted"]
    assert [row["VersionId"] for row in rows] == [markers["a"], markers["b"], one]
    assert [row.get("DeleteMarkerVersionId") for row in rows] == [markers["a"], markers["b"], None]
    assert [row["Code"] for row in answer["Errors"]] == ["InvalidArgument"]
    assert listed(s3, versioned) == []


def test_copies_tags_and_uploads_have_versions(s3: Any, versioned: str) -> None:
    one = put(s3, versioned, "k", b"one")
    put(s3, versioned, "k", b"two")
    source = {"Bucket": versioned, "Key": "k", "VersionId": one}
    copy = s3.copy_object(Bucket=versioned, Key="copy", CopySource=source)
    assert copy["CopySourceVersionId"] == one
    assert read(s3, versioned, "copy", VersionId=copy["VersionId"]) == b"one"
    place = {"Bucket": versioned, "Key": "k"}
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    s3.put_object_tagging(**place, VersionId=one, Tagging=tags)
    assert s3.get_object_tagging(**place, VersionId=one)["TagSet"] == tags["TagSet"]
    assert s3.get_object_tagging(**place)["TagSet"] == []
    s3.delete_object_tagging(**place, VersionId=one)
    assert s3.get_object_tagging(**place, VersionId=one)["TagSet"] == []
    upload = s3.create_multipart_upload(**place)["UploadId"]
    part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"part")
    done = s3.complete_multipart_upload(
        **place,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert s3.head_object(**place)["VersionId"] == done["VersionId"]
    attributes = s3.get_object_attributes(
        **place, VersionId=one, ObjectAttributes=["ObjectSize", "ETag"]
    )
    assert (attributes["ObjectSize"], attributes["VersionId"]) == (3, one)
    marker = s3.delete_object(**place)["VersionId"]
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=versioned, Key="copy", CopySource={**source, "VersionId": marker})
    assert failure(error) == (400, "InvalidRequest")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_of_versions(s3: Any, versioned: str, size: int) -> None:
    keys = ["a", "a/b", "a/c/d", "a-b", "b/", "b/x", "e0"]
    for number in range(3):
        for key in keys:
            s3.put_object(Bucket=versioned, Key=key, Body=b"%d" % number)
    s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": key} for key in keys[1:4]]})
    whole = listed(s3, versioned)
    assert len(whole) == 3 * 7 + 3
    for delimiter, prefix in (("", ""), ("/", ""), ("/", "a/"), ("b", ""), ("", "a")):
        found: list[tuple[str, str]] = []
        markers: dict[str, str] = {}
        while True:
            page = s3.list_object_versions(
                Bucket=versioned, MaxKeys=size, Delimiter=delimiter, Prefix=prefix, **markers
            )
            rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            found += [(row["Key"], row["VersionId"]) for row in rows]
            found += [(row["Prefix"], "") for row in page.get("CommonPrefixes", [])]
            if not page["IsTruncated"]:
                break
            markers = {"KeyMarker": page["NextKeyMarker"]}
            if "NextVersionIdMarker" in page:
                markers["VersionIdMarker"] = page["NextVersionIdMarker"]
        wanted = set()
        for key, version, _ in whole:
            if key.startswith(prefix):
                at = key.find(delimiter, len(prefix)) if delimiter else -1
                wanted.add((key, version) if at < 0 else (key[: at + 1], ""))
        assert sorted(found) == sorted(wanted)
