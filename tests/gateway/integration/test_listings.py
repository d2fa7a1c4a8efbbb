"""Listings: their order, pages, prefixes and encodings, against a plain sorted list."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.test_buckets import failure
from craqen.tests.gateway.unit.signing_client import TESTER

KEYS = sorted(
    [
        "a",
        "a-b",
        "a.txt",
        "a/",
        "a/b",
        "a/c/d",
        "a0",
        "b//c",
        "b/d",
        "folder/one",
        "folder/two",
        "folder/äöü",
        "with space",
        "with+plus",
        "z<&>",
    ],
    key=str.encode,
)


@pytest.fixture
def filled(s3: Any, bucket: str) -> str:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def rolled_up(prefix: str, delimiter: str) -> list[str]:
    """What a listing should show: keys and common prefixes in one order."""
    lines: list[str] = []
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        line = key if at < 0 else key[: at + len(delimiter)]
        if line not in lines:
            lines.append(line)
    return lines


def lines_of(page: dict[str, Any]) -> list[str]:
    lines = [entry["Key"] for entry in page.get("Contents", [])]
    lines += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    return sorted(lines, key=str.encode)


CASES = [("", ""), ("", "/"), ("a", "/"), ("a/", "/"), ("b/", "/"), ("fol", ""), ("", "b")]


@pytest.mark.parametrize(("prefix", "delimiter"), CASES)
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_version_two_in_pages(
    s3: Any, filled: str, prefix: str, delimiter: str, limit: int
) -> None:
    found: list[str] = []
    options = {"Bucket": filled, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": limit}
    token: dict[str, str] = {}
    while True:
        page = s3.list_objects_v2(**options, **token)
        lines = lines_of(page)
        assert page["KeyCount"] == len(lines) <= limit
        found += lines
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert found == rolled_up(prefix, delimiter)


@pytest.mark.parametrize(("prefix", "delimiter"), CASES)
def test_version_one_in_pages(s3: Any, filled: str, prefix: str, delimiter: str) -> None:
    found: list[str] = []
    marker = ""
    while True:
        page = s3.list_objects(
            Bucket=filled, Prefix=prefix, Delimiter=delimiter, MaxKeys=3, Marker=marker
        )
        lines = lines_of(page)
        found += lines
        if not page["IsTruncated"]:
            break
        assert ("NextMarker" in page) == bool(delimiter)
        marker = page.get("NextMarker", lines[-1])
    assert found == rolled_up(prefix, delimiter)


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_versions_of_an_unversioned_bucket(s3: Any, filled: str, delimiter: str) -> None:
    found: list[str] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_object_versions(Bucket=filled, Delimiter=delimiter, MaxKeys=4, **markers)
        for version in page.get("Versions", []):
            assert (version["VersionId"], version["IsLatest"]) == ("null", True)
        lines = [entry["Key"] for entry in page.get("Versions", [])]
        lines += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        found += sorted(lines, key=str.encode)
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if "NextVersionIdMarker" in page:
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]
    assert found == rolled_up("", delimiter)


def test_what_a_listing_says_of_an_object(s3: Any, filled: str) -> None:
    head = s3.head_object(Bucket=filled, Key="a/b")
    page = s3.list_objects_v2(Bucket=filled, Prefix="a/b", FetchOwner=True)
    entry = page["Contents"][0]
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (head["ETag"], 3, "STANDARD")
    assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert entry["Owner"] == {
        "DisplayName": TESTER.display_name,
        "ID": TESTER.canonical_id,
    }
    without = s3.list_objects_v2(Bucket=filled, Prefix="a/b")["Contents"][0]
    assert "Owner" not in without


def test_start_after(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, StartAfter="a/c/d")
    assert page["StartAfter"] == "a/c/d"
    assert lines_of(page) == [key for key in KEYS if key.encode() > b"a/c/d"]
    between = s3.list_objects_v2(Bucket=filled, StartAfter="a/bzz")
    assert lines_of(between) == [key for key in KEYS if key.encode() > b"a/bzz"]


def test_no_keys_at_all(s3: Any, filled: str) -> None:
    for call in (s3.list_objects, s3.list_objects_v2, s3.list_object_versions):
        page = call(Bucket=filled, MaxKeys=0)
        assert (lines_of(page), page["IsTruncated"], page["MaxKeys"]) == ([], False, 0)


def test_an_empty_folder_is_not_a_prefix(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="gone/soon/x", Body=b"")
    s3.delete_object(Bucket=bucket, Key="gone/soon/x")
    page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert lines_of(page) == []


def test_an_empty_token_is_none(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, ContinuationToken="", MaxKeys=2)
    assert page["ContinuationToken"] == ""
    assert page["Contents"] == s3.list_objects_v2(Bucket=filled, MaxKeys=2)["Contents"]


@pytest.mark.parametrize(
    "query",
    [
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=x",
        "max-keys=9999999999",
        "list-type=2&encoding-type=base64",
        "list-type=2&max-keys=%C2%B2",
        "list-type=2&continuation-token=%25%25",
        "list-type=3",
        "versions=&version-id-marker=null",
    ],
)
def test_bad_parameters_are_named(raw: RawClient, filled: str, query: str) -> None:
    answer = raw.get(f"/{filled}?{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_listing_without_encoding_is_well_formed(raw: RawClient, filled: str) -> None:
    body = raw.get(f"/{filled}?list-type=2&prefix=z").body
    assert b"<Key>z&lt;&amp;&gt;</Key>" in body


def test_no_such_bucket(s3: Any) -> None:
    for call in (s3.list_objects, s3.list_objects_v2, s3.list_object_versions):
        with pytest.raises(ClientError) as error:
            call(Bucket="no-such-bucket")
        assert failure(error) == (404, "NoSuchBucket")
