"""Routing against the service model of botocore, and odd paths and queries."""

from __future__ import annotations

import re

import botocore.loaders
import pytest

from craqen.gateway.errors import S3Error
from craqen.gateway.operations import OPERATIONS
from craqen.gateway.routing import Route, Router, parse_query, split_target

MODEL = botocore.loaders.Loader().load_service_model("s3", "service-2")

CURRENT_NAMES = {
    # Older names of the same call: nothing in a request tells them apart.
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
BESIDE_THE_MODEL = {"PostObject", "PreflightBucket", "PreflightObject"}


def route(
    method: str, target: str, headers: dict[str, str] | None = None, domains: tuple[str, ...] = ()
) -> Route:
    path, query = split_target(target)
    return Router(domains).route(method, path, query, headers or {})


def request_of(operation: str) -> tuple[str, str, dict[str, str]]:
    """A request with the required parameters of *operation* and every optional one of its query."""
    description = MODEL["operations"][operation]
    path, _, query = description["http"]["requestUri"].partition("?")
    path = path.replace("{Bucket}", "some-bucket").replace("{Key+}", "some/key")
    items = [query] if query else []
    headers: dict[str, str] = {}
    if "input" in description:
        shape = MODEL["shapes"][description["input"]["shape"]]
        for name, member in shape["members"].items():
            if member.get("location") == "querystring":
                if name in shape.get("required", ()) or name not in ("UploadId", "PartNumber"):
                    items.append(f"{member['locationName']}=1")
            elif member.get("location") == "header" and name in shape.get("required", ()):
                headers[member["locationName"].lower()] = "value"
    items.append(f"x-id={operation}")
    return description["http"]["method"], f"{path}?{'&'.join(items)}", headers


@pytest.mark.parametrize("operation", sorted(MODEL["operations"]))
def test_every_operation_of_the_model_routes_to_itself(operation: str) -> None:
    method, target, headers = request_of(operation)
    answer = route(method, target, headers)
    assert answer.operation == CURRENT_NAMES.get(operation, operation)
    if operation != "WriteGetObjectResponse":
        uri = MODEL["operations"][operation]["http"]["requestUri"]
        assert answer.bucket == ("some-bucket" if "{Bucket}" in uri else "")
        assert answer.key == (b"some/key" if "{Key+}" in uri else b"")


def test_the_table_holds_nothing_that_the_model_lacks() -> None:
    assert set(OPERATIONS.values()) - BESIDE_THE_MODEL <= set(MODEL["operations"])


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("a//b", b"a//b"),
        ("/", b"/"),
        ("/a", b"/a"),
        ("a/../b/./c/..", b"a/../b/./c/.."),
        ("a%2Fb%2f..", b"a/b/.."),
        ("%2e%2E", b".."),
        ("a+b%20c%2Bd", b"a+b c+d"),
        ("a%2520b", b"a%20b"),
        ("%C3%A9", "é".encode()),
        ("é", "é".encode()),
        ("a%3Fb%23c", b"a?b#c"),
        ("a%00b%0D", b"a\0b\r"),
        ("dir/", b"dir/"),
        ("k" * 1024, b"k" * 1024),
    ],
)
def test_keys_are_decoded_once_and_not_otherwise_touched(raw: str, key: bytes) -> None:
    answer = route("GET", f"/bucket/{raw}")
    assert (answer.operation, answer.bucket, answer.key) == ("GetObject", "bucket", key)


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/bucket/%zz", "InvalidURI"),
        ("GET", "/bucket/a%", "InvalidURI"),
        ("GET", "/bucket/%ff%fe", "InvalidURI"),
        ("GET", "/bucket/" + "k" * 1025, "KeyTooLongError"),
        ("GET", "/bucket/" + "%C3%A9" * 513, "KeyTooLongError"),
        ("GET", "/Bucket/key", "InvalidBucketName"),
        ("GET", "/..%2f/key", "InvalidBucketName"),
        ("GET", "//key", "InvalidBucketName"),
        ("GET", "/bucket?prefix=%zz", "InvalidURI"),
        ("GET", "/bucket?prefix=%ff", "InvalidURI"),
        ("GET", "/bucket?" + "&".join(["a=1"] * 300), "InvalidArgument"),
        ("GET", "/bucket?acl&policy", "InvalidArgument"),
        ("GET", "/bucket?list-type=3", "InvalidArgument"),
        ("GET", "/bucket?torrent", "InvalidArgument"),
        ("PUT", "/bucket/key?partNumber=1", "InvalidArgument"),
        ("PUT", "/bucket/key?uploadId=u", "InvalidArgument"),
        ("GET", "/bucket?someFutureThing", "NotImplemented"),
        ("GET", "/bucket?someFutureThing=", "NotImplemented"),
        ("PUT", "/bucket/key?someFutureThing", "NotImplemented"),
        ("POST", "/bucket/key", "MethodNotAllowed"),
        ("POST", "/bucket", "MethodNotAllowed"),
        ("PATCH", "/bucket/key", "MethodNotAllowed"),
        ("DELETE", "/", "MethodNotAllowed"),
        ("POST", "/bucket?acl", "MethodNotAllowed"),
        ("GET", "*", "InvalidURI"),
    ],
)
def test_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        route(method, target)
    assert caught.value.code == code


def test_method_not_allowed_names_the_methods() -> None:
    with pytest.raises(S3Error) as caught:
        route("POST", "/bucket/key")
    assert caught.value.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        ("/bucket/key?x-id=GetObject", "GetObject"),
        ("/bucket/key?response-content-type=text%2Fplain&response-expires=", "GetObject"),
        ("/bucket/key?partNumber=3", "GetObject"),
        ("/bucket/key?versionId=null", "GetObject"),
        ("/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Security-Token=", "GetObject"),
        ("/bucket?prefix=&delimiter=&marker=&encoding-type=url", "ListObjects"),
        ("/bucket/?list-type=2&start-after=", "ListObjectsV2"),
        ("/bucket?allow-unordered=true", "ListObjects"),
        ("/", "ListBuckets"),
        ("/?x-id=ListBuckets&max-buckets=5", "ListBuckets"),
    ],
)
def test_parameters_that_are_no_subresource(target: str, operation: str) -> None:
    assert route("GET", target).operation == operation


def test_form_upload_is_told_by_its_content_type() -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert route("POST", "/bucket", headers).operation == "PostObject"


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("bucket.s3.example:9000", "/a/b", "bucket", b"a/b"),
        ("BUCKET.S3.Example.", "/a", "bucket", b"a"),
        ("my.dotted.bucket.s3.example", "/", "my.dotted.bucket", b""),
        ("bucket.eu.s3.example", "/a", "bucket", b"a"),
        ("s3.example", "/bucket/a", "bucket", b"a"),
        ("other.example", "/bucket/a", "bucket", b"a"),
        ("[::1]:9000", "/bucket/a", "bucket", b"a"),
        ("", "/bucket/a", "bucket", b"a"),
        ("bucket.s3.example", "//a", "bucket", b"/a"),
    ],
)
def test_virtual_host_style(host: str, target: str, bucket: str, key: bytes) -> None:
    answer = route("GET", target, {"host": host}, ("s3.example", "eu.s3.example"))
    assert (answer.bucket, answer.key) == (bucket, key)


def test_path_style_only_by_default() -> None:
    assert route("GET", "/bucket/a", {"host": "other.s3.example"}).bucket == "bucket"


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/a?b=c?d", ("/a", "b=c?d")),
        ("http://host:1/bucket/a%2F?x", ("/bucket/a%2F", "x")),
        ("HTTPS://host", ("/", "")),
        ("/a%3Fb", ("/a%3Fb", "")),
    ],
)
def test_split_target(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


def test_query_decoding() -> None:
    assert parse_query("a=1&a=2&b=x+y%2B&c&=d&%C3%A9=%E2%82%AC&&e=f=g") == {
        "a": "1",
        "b": "x y+",
        "c": "",
        "": "d",
        "é": "€",
        "e": "f=g",
    }


def test_model_test_covers_every_uri() -> None:
    """The requests above are built from the model's own templates, without leftovers."""
    for operation in MODEL["operations"]:
        assert not re.search(r"[{}]", request_of(operation)[1])
