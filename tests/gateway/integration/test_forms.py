"""Upload by HTML forms, as boto3 presigns them and browsers send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import MIB
from craqen.gateway.body.checksums import ALGORITHMS, compute
from craqen.tests.gateway.integration.raw_client import Answer, RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, SECRET_KEY

BOUNDARY = "WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def encode(fields: dict[str, str], content: bytes, name: str = "file.txt") -> bytes:
    """A form as a browser writes it."""
    text = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    text += (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return text.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(raw: RawClient, bucket: str, body: bytes) -> Answer:
    head = f"POST /{bucket} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {TYPE['content-type']}\r\n"
    raw.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    raw.send(body)
    return raw.answer()


def presigned(
    s3: Any, bucket: str, key: str, fields: dict[str, str] | None = None, *conditions: Any
) -> dict[str, str]:
    """Fields that boto3 signs, with a condition for each."""
    fields = fields or {}
    made = s3.generate_presigned_post(
        bucket, key, Fields=fields, Conditions=[{n: v} for n, v in fields.items()] + [*conditions]
    )
    return dict(made["fields"])


@pytest.mark.parametrize("size", [0, 5, 32_000, 32_769, 3 * MIB + 7])
def test_a_form_makes_an_object(s3: Any, raw: RawClient, bucket: str, size: int) -> None:
    data = os.urandom(size)
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b &amp; c</Value></Tag></TagSet></Tagging>"
    fields = presigned(
        s3,
        bucket,
        "up/${filename}",
        {
            "Content-Type": "image/png",
            "x-amz-meta-Colour": "grün",
            "Cache-Control": "no-store",
            "tagging": tagging,
            "acl": "bucket-owner-full-control",
            "x-amz-storage-class": "STANDARD_IA",
        },
        ["content-length-range", 0, 4 * MIB],
    )
    answer = post(raw, bucket, encode(fields, data, "dir/pic.png"))
    assert (answer.status, answer.code) == (204, "")
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    assert answer.headers["etag"] == etag
    assert answer.headers["location"].endswith(f"/{bucket}/up/pic.png")
    got = s3.get_object(Bucket=bucket, Key="up/pic.png")
    assert got["Body"].read() == data
    assert (got["ETag"], got["ContentType"], got["CacheControl"]) == (etag, "image/png", "no-store")
    assert got["ResponseMetadata"]["HTTPHeaders"]["x-amz-meta-colour"].encode("latin-1") == (
        "grün".encode()
    )
    assert got["StorageClass"] == "STANDARD_IA"
    tags = s3.get_object_tagging(Bucket=bucket, Key="up/pic.png")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b & c"}]


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
def test_a_form_may_state_a_checksum(s3: Any, raw: RawClient, bucket: str, algorithm: Any) -> None:
    value = compute(algorithm, b"content")
    fields = presigned(s3, bucket, "k", {algorithm.header: value})
    answer = post(raw, bucket, encode(fields, b"another"))
    assert (answer.status, answer.code) == (400, "BadDigest")
    answer = post(raw, bucket, encode(fields, b"content"))
    assert (answer.status, answer.headers[algorithm.header]) == (204, value)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm.label}"] == value


@pytest.mark.parametrize(
    ("wanted", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)]
)
def test_how_it_is_answered(s3: Any, raw: RawClient, bucket: str, wanted: str, status: int) -> None:
    fields = presigned(s3, bucket, "a&b", {"success_action_status": wanted})
    answer = post(raw, bucket, encode(fields, b"x"))
    assert answer.status == status
    if status == 201:
        etag = hashlib.md5(b"x").hexdigest()
        assert re.search(
            rb"<PostResponse><Location>.*<Bucket>(.*)</Bucket><Key>a&amp;b</Key>", answer.body
        )
        assert f"<ETag>&quot;{etag}&quot;</ETag>".encode() in answer.body


def test_a_browser_is_sent_on(s3: Any, raw: RawClient, bucket: str) -> None:
    for target, separator in (("https://example.com/done", "?"), ("http://h/?a=b", "&")):
        fields = presigned(s3, bucket, "k ä", {"success_action_redirect": target})
        answer = post(raw, bucket, encode(fields, b"x"))
        etag = hashlib.md5(b"x").hexdigest()
        query = f"bucket={bucket}&key=k%20%C3%A4&etag=%22{etag}%22"
        assert (answer.status, answer.headers["location"]) == (303, f"{target}{separator}{query}")
    fields = presigned(s3, bucket, "k", {"success_action_redirect": "javascript:alert(1)"})
    assert post(raw, bucket, encode(fields, b"x")).status == 204


def test_what_is_refused_leaves_nothing(
    gateway: Gateway, s3: Any, raw: RawClient, bucket: str
) -> None:
    before = gateway.segments()
    good = presigned(s3, bucket, "k", {}, ["content-length-range", 2, 100_000])

    def without(*names: str) -> dict[str, str]:
        return {name: value for name, value in good.items() if name not in names}

    for fields, content, expected in (
        (good | {"x-amz-signature": "0" * 64}, b"xx", (403, "SignatureDoesNotMatch")),
        (good | {"key": "other"}, b"xx", (403, "AccessDenied")),
        (good | {"x-amz-meta-a": "b"}, b"xx", (403, "AccessDenied")),
        (good | {"policy": good["policy"][:-4]}, b"xx", (403, "SignatureDoesNotMatch")),
        (without("policy"), b"xx", (403, "AccessDenied")),
        (without("x-amz-signature"), b"xx", (400, "InvalidArgument")),
        (without("key"), b"xx", (400, "InvalidArgument")),
        ({"key": "k"}, b"xx", (403, "AccessDenied")),
        (good, b"x", (400, "EntityTooSmall")),
        (good, bytes(100_001), (400, "EntityTooLarge")),
    ):
        with RawClient(gateway) as client:
            answer = post(client, bucket, encode(fields, content))
        assert (answer.status, answer.code) == expected
    body = encode(good, bytes(50_000))
    with RawClient(gateway) as client:
        answer = post(client, bucket, body[:-10])
    assert (answer.status, answer.code) == (400, "MalformedPOSTRequest")
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="k")
    assert gateway.segments() == before
    assert post(raw, bucket, body).status == 204


def test_a_signature_of_version_2_is_refused(raw: RawClient, bucket: str) -> None:
    document = {"expiration": "2099-01-01T00:00:00Z", "conditions": [{"key": "k"}]}
    policy = base64.b64encode(json.dumps(document).encode())
    digest = hmac.digest(SECRET_KEY.encode(), policy, "sha1")
    fields = {
        "key": "k",
        "AWSAccessKeyId": ACCESS_KEY,
        "policy": policy.decode(),
        "signature": base64.b64encode(digest).decode(),
    }
    answer = post(raw, bucket, encode(fields, b"x"))
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_the_connection_goes_on(s3: Any, raw: RawClient, bucket: str) -> None:
    fields = presigned(s3, bucket, "k")
    for content in (b"small", os.urandom(MIB)):
        assert post(raw, bucket, encode(fields, content)).status == 204
        assert raw.get(f"/{bucket}/k").body == content
