"""Single objects by boto3: bytes, headers, checksums, conditions, ranges, tags, odd keys."""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import os
import urllib.error
import urllib.request
import zlib
from typing import Any

import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError

from craqen.core.limits import INLINE_BYTES_MAX, KIB, MIB
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_buckets import failure

SIZES = [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 64 * KIB, 200_000, MIB, MIB + 1, 5 * MIB + 3]


def crc64nvme(data: bytes) -> str:
    return base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert got["ContentType"] == "binary/octet-stream"
    assert got["AcceptRanges"] == "bytes"
    assert got["Body"].read() == data
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])


def test_an_object_is_replaced_and_its_bytes_too(s3: Any, bucket: str) -> None:
    for data in (b"small", os.urandom(MIB), b"small again"):
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


def test_what_the_client_says_of_an_object_is_kept(s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket,
        Key="k",
        Body=b"x",
        CacheControl="max-age=3",
        ContentDisposition="attachment",
        ContentEncoding="zstd",
        ContentLanguage="de",
        ContentType="text/plain; charset=utf-8",
        Expires=datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC),
        Metadata={"Colour": "blue", "empty": ""},
        StorageClass="STANDARD_IA",
        WebsiteRedirectLocation="/elsewhere",
    )
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert answer["CacheControl"] == "max-age=3"
        assert answer["ContentDisposition"] == "attachment"
        assert answer["ContentEncoding"] == "zstd"
        assert answer["ContentLanguage"] == "de"
        assert answer["ContentType"] == "text/plain; charset=utf-8"
        assert answer["ExpiresString"] == "Wed, 02 Jan 2030 00:00:00 GMT"
        assert answer["Metadata"] == {"colour": "blue", "empty": ""}
        assert answer["StorageClass"] == "STANDARD_IA"
        assert answer["WebsiteRedirectLocation"] == "/elsewhere"


def test_an_answer_can_be_given_other_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="image/png",
        ResponseContentDisposition="inline",
        ResponseCacheControl="no-store",
    )
    assert got["ContentType"] == "image/png"
    assert got["ContentDisposition"] == "inline"
    assert got["CacheControl"] == "no-store"


def test_a_compressed_object_stays_compressed(s3: Any, bucket: str) -> None:
    packed = gzip.compress(b"text" * 50_000)
    for data in (packed, packed + os.urandom(MIB)):
        s3.put_object(Bucket=bucket, Key="k", Body=data, ContentEncoding="gzip")
        got = s3.get_object(Bucket=bucket, Key="k")
        assert got["ContentEncoding"] == "gzip"
        assert got["Body"].read() == data


def test_user_metadata_has_a_limit(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2047})
    assert len(s3.head_object(Bucket=bucket, Key="k")["Metadata"]["m"]) == 2047
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2048})
    assert failure(error) == (400, "MetadataTooLarge")


KEYS = [
    "plain",
    "with space",
    "plus+plus",
    "per%cent",
    "per%20cent",
    "umlaut-ä-€-😀",
    "a//b",
    "/leading",
    "trailing/",
    "./dot",
    "../dotdot",
    "a/../b",
    "question?mark",
    "hash#mark",
    "amper&sand=equals",
    "semi;colon",
    "quote\"'<>",
    "control\x01\x1f",
    "x" * 1024,
]


@pytest.mark.parametrize("key", KEYS)
def test_any_key_keeps_its_object(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_key_and_keys_below_it_live_together(s3: Any, bucket: str) -> None:
    for key in ("a", "a/", "a/b", "a//"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ("a", "a/", "a/b", "a//"):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_too_long_a_key_is_refused(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")
    assert failure(error) == (400, "KeyTooLongError")


def test_what_is_missing_is_404(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="missing")
    assert failure(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="missing/")
    assert failure(error) == (404, "404")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="no-such-bucket", Key="k")
    assert failure(error) == (404, "NoSuchBucket")
    for body in (b"x", os.urandom(MIB)):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="no-such-bucket", Key="k", Body=body)
        assert failure(error) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="missing", VersionId="3sL4kqtJlcpXroDTDmJ")
    assert failure(error) == (400, "InvalidArgument")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="missing", VersionId="null")
    assert failure(error) == (404, "NoSuchVersion")


def test_removing_is_idempotent(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="k")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


class TestChecksums:
    def test_a_checksum_is_always_there(self, raw: RawClient, s3: Any, bucket: str) -> None:
        """A client that states none gets CRC64NVME, as with AWS."""
        for data in (b"some bytes", os.urandom(MIB)):
            put = raw.put(f"/{bucket}/k", data)
            assert put.headers["x-amz-checksum-crc64nvme"] == crc64nvme(data)
            assert put.headers["x-amz-checksum-type"] == "FULL_OBJECT"
            head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
            assert head["ChecksumCRC64NVME"] == crc64nvme(data)
            assert head["ChecksumType"] == "FULL_OBJECT"
            assert "ChecksumCRC64NVME" not in s3.head_object(Bucket=bucket, Key="k")

    @pytest.mark.parametrize(
        ("algorithm", "member", "compute"),
        [
            ("CRC32", "ChecksumCRC32", lambda data: zlib.crc32(data).to_bytes(4, "big")),
            ("CRC32C", "ChecksumCRC32C", lambda data: crt.crc32c(data).to_bytes(4, "big")),
            ("SHA1", "ChecksumSHA1", lambda data: hashlib.sha1(data).digest()),
            ("SHA256", "ChecksumSHA256", lambda data: hashlib.sha256(data).digest()),
            ("CRC64NVME", "ChecksumCRC64NVME", lambda d: crt.crc64nvme(d).to_bytes(8, "big")),
        ],
    )
    def test_a_stated_checksum_is_checked_and_kept(
        self, s3: Any, bucket: str, algorithm: str, member: str, compute: Any
    ) -> None:
        for data in (b"some bytes", os.urandom(300_000)):
            value = base64.b64encode(compute(data)).decode()
            put = s3.put_object(Bucket=bucket, Key="k", Body=data, ChecksumAlgorithm=algorithm)
            assert put[member] == value
            got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
            assert got[member] == value
            assert got["Body"].read() == data
            wrong = base64.b64encode(compute(data + b"!")).decode()
            with pytest.raises(ClientError) as error:
                s3.put_object(Bucket=bucket, Key="other", Body=data, **{member: wrong})
            assert failure(error) == (400, "BadDigest")
        assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]

    def test_content_md5_is_checked(self, raw: RawClient, s3: Any, bucket: str) -> None:
        data = os.urandom(100_000)
        right = base64.b64encode(hashlib.md5(data).digest()).decode()
        wrong = base64.b64encode(hashlib.md5(b"").digest()).decode()
        assert raw.put(f"/{bucket}/k", data, {"content-md5": right}).status == 200
        for body in (data, b"short"):
            answer = raw.put(f"/{bucket}/other", body, {"content-md5": wrong})
            assert (answer.status, answer.code) == (400, "BadDigest")
        answer = raw.put(f"/{bucket}/other", b"", {"content-md5": "nonsense"})
        assert (answer.status, answer.code) == (400, "InvalidDigest")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

    def test_a_signed_digest_is_checked(self, raw: RawClient, bucket: str) -> None:
        for data in (b"signed", os.urandom(200_000)):
            request = raw.signed("PUT", f"/{bucket}/k", body=data)
            raw.send_head(request, {"content-length": str(len(data))})
            raw.send(data[:-1] + b"!")
            answer = raw.answer()
            assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
            assert raw.get(f"/{bucket}/k").status == 404


class TestConditions:
    @pytest.fixture
    def put(self, s3: Any, bucket: str) -> dict[str, Any]:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        head: dict[str, Any] = s3.head_object(Bucket=bucket, Key="k")
        return head

    def status(self, s3: Any, bucket: str, **conditions: Any) -> int:
        outcomes = set()
        for call in (s3.get_object, s3.head_object):
            try:
                answer = call(Bucket=bucket, Key="k", **conditions)
            except ClientError as error:
                answer = error.response
            outcomes.add(answer["ResponseMetadata"]["HTTPStatusCode"])
        assert len(outcomes) == 1, "GET and HEAD differ"
        return int(outcomes.pop())

    def test_reads(self, s3: Any, bucket: str, put: dict[str, Any]) -> None:
        etag, moment = put["ETag"], put["LastModified"]
        before, after = (moment + datetime.timedelta(seconds=count) for count in (-60, 60))
        for expected, conditions in [
            (200, {"IfMatch": etag}),
            (200, {"IfMatch": "*"}),
            (412, {"IfMatch": '"other"'}),
            (304, {"IfNoneMatch": etag}),
            (304, {"IfNoneMatch": "*"}),
            (200, {"IfNoneMatch": '"other"'}),
            (200, {"IfModifiedSince": before}),
            (304, {"IfModifiedSince": moment}),
            (304, {"IfModifiedSince": after}),
            (412, {"IfUnmodifiedSince": before}),
            (200, {"IfUnmodifiedSince": moment}),
            (200, {"IfMatch": etag, "IfUnmodifiedSince": before}),
            (304, {"IfNoneMatch": etag, "IfModifiedSince": before}),
            (200, {"IfNoneMatch": '"other"', "IfModifiedSince": after}),
        ]:
            assert self.status(s3, bucket, **conditions) == expected, conditions

    def test_304_tells_what_caches_need(
        self, raw: RawClient, bucket: str, put: dict[str, Any]
    ) -> None:
        request = raw.signed("GET", f"/{bucket}/k", {"If-None-Match": put["ETag"]})
        raw.send_head(request)
        answer = raw.answer()
        assert answer.status == 304
        assert answer.headers["etag"] == put["ETag"]
        assert "last-modified" in answer.headers
        assert "content-length" not in answer.headers
        assert raw.get(f"/{bucket}/k").body == b"x"

    def test_writes(self, s3: Any, bucket: str, put: dict[str, Any]) -> None:
        def outcome(key: str, body: bytes, **conditions: str) -> tuple[int, str]:
            try:
                s3.put_object(Bucket=bucket, Key=key, Body=body, **conditions)
            except ClientError as error:
                response = error.response
                return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
            return 200, ""

        for body in (b"new", os.urandom(100_000)):
            assert outcome("k", body, IfNoneMatch="*") == (412, "PreconditionFailed")
            assert outcome("k", body, IfMatch='"other"') == (412, "PreconditionFailed")
            assert outcome("missing", body, IfMatch="*") == (404, "NoSuchKey")
            assert outcome("missing", body, IfMatch='"other"') == (404, "NoSuchKey")
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
        assert outcome("new", b"", IfNoneMatch="*") == (200, "")
        assert outcome("k", b"new", IfMatch=put["ETag"]) == (200, "")
        assert outcome("k", b"newer", IfMatch=put["ETag"]) == (412, "PreconditionFailed")

    def test_refused_content_leaves_nothing(
        self, gateway: Gateway, raw: RawClient, s3: Any, bucket: str, put: dict[str, Any]
    ) -> None:
        """A condition that holds when the body begins, and no longer when it ends."""
        before = gateway.segments()
        data = os.urandom(MIB)
        request = raw.signed(
            "PUT", f"/{bucket}/k", {"If-Match": put["ETag"]}, content_sha256="UNSIGNED-PAYLOAD"
        )
        raw.send_head(request, {"content-length": str(len(data)), "expect": "100-continue"})
        assert raw.status_line() == "HTTP/1.1 100 Continue"
        s3.put_object(Bucket=bucket, Key="k", Body=b"changed")
        raw.send(data)
        answer = raw.answer()
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
        assert gateway.segments() == before

    def test_removal(self, s3: Any, bucket: str, put: dict[str, Any]) -> None:
        with pytest.raises(ClientError) as error:
            s3.delete_object(Bucket=bucket, Key="k", IfMatch='"other"')
        assert failure(error) == (412, "PreconditionFailed")
        with pytest.raises(ClientError) as error:
            s3.delete_object(Bucket=bucket, Key="missing", IfMatch="*")
        assert failure(error) == (404, "NoSuchKey")
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=put["ETag"])
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


class TestRanges:
    @pytest.mark.parametrize("size", [1000, 300_000])
    @pytest.mark.parametrize(
        ("header", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=990-", 990, None),
            ("bytes=-7", -7, None),
            ("bytes=5-5000000", 5, None),
            ("bytes=-5000000", 0, None),
        ],
    )
    def test_a_range(
        self, s3: Any, bucket: str, size: int, header: str, start: int, end: int | None
    ) -> None:
        data = os.urandom(size)
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        expected = data[start:end]
        got = s3.get_object(Bucket=bucket, Key="k", Range=header)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        first = data.index(expected)
        assert got["ContentRange"] == f"bytes {first}-{first + len(expected) - 1}/{size}"
        assert got["Body"].read() == expected
        head = s3.head_object(Bucket=bucket, Key="k", Range=header)
        assert (head["ContentLength"], head["ContentRange"]) == (
            len(expected),
            got["ContentRange"],
        )

    def test_a_range_that_makes_no_sense_is_ignored(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
        for header in ("bytes=5-2", "bytes=", "lines=1-2", "bytes=0-1,3-4"):
            got = s3.get_object(Bucket=bucket, Key="k", Range=header)
            assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
            assert got["Body"].read() == b"0123456789"

    def test_a_range_outside_is_416(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
        s3.put_object(Bucket=bucket, Key="empty", Body=b"")
        for key, header in (("k", "bytes=10-"), ("k", "bytes=-0"), ("empty", "bytes=0-0")):
            with pytest.raises(ClientError) as error:
                s3.get_object(Bucket=bucket, Key=key, Range=header)
            assert failure(error) == (416, "InvalidRange")

    def test_part_one_of_an_object_in_one_piece(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
        s3.put_object(Bucket=bucket, Key="empty", Body=b"")
        assert s3.get_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == 10
        assert s3.get_object(Bucket=bucket, Key="empty", PartNumber=1)["ContentLength"] == 0
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
        assert failure(error) == (400, "InvalidPart")


class TestTags:
    def test_tags_come_and_go(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=two%20words")
        before = s3.head_object(Bucket=bucket, Key="k")
        assert before["TagCount"] == 2
        tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
        assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
        s3.put_object_tagging(
            Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "<&>", "Value": ""}]}
        )
        tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
        assert tags == [{"Key": "<&>", "Value": ""}]
        s3.delete_object_tagging(Bucket=bucket, Key="k")
        assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
        after = s3.head_object(Bucket=bucket, Key="k")
        assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])

    def test_too_many_tags_are_refused(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        tags = [{"Key": str(number), "Value": ""} for number in range(11)]
        with pytest.raises(ClientError) as error:
            s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
        assert failure(error)[0] == 400
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&a=2")
        assert failure(error) == (400, "InvalidTag")
        with pytest.raises(ClientError) as error:
            s3.get_object_tagging(Bucket=bucket, Key="missing")
        assert failure(error) == (404, "NoSuchKey")


class TestManyRemovals:
    def test_each_key_has_its_outcome(self, s3: Any, bucket: str) -> None:
        keys = ["one", "two/three", "ümlaut <&>", "dir/"]
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        wanted = [*keys, "missing"]
        answer = s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key} for key in wanted]}
        )
        assert sorted(item["Key"] for item in answer["Deleted"]) == sorted(wanted)
        assert "Errors" not in answer
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_quiet_tells_of_failures_alone(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
        answer = s3.delete_objects(
            Bucket=bucket,
            Delete={"Quiet": True, "Objects": [{"Key": "k"}, {"Key": "kept", "ETag": '"other"'}]},
        )
        assert "Deleted" not in answer
        assert [(item["Key"], item["Code"]) for item in answer["Errors"]] == [
            ("kept", "PreconditionFailed")
        ]

    def test_a_document_without_a_digest_is_refused(self, raw: RawClient, bucket: str) -> None:
        document = b"<Delete><Object><Key>k</Key></Object></Delete>"
        request = raw.signed("POST", f"/{bucket}?delete", content_sha256="UNSIGNED-PAYLOAD")
        raw.send_head(request, {"content-length": str(len(document))})
        raw.send(document)
        assert raw.answer().code == "InvalidRequest"

    def test_no_such_bucket(self, s3: Any) -> None:
        with pytest.raises(ClientError) as error:
            s3.delete_objects(Bucket="no-such-bucket", Delete={"Objects": [{"Key": "k"}]})
        assert failure(error) == (404, "NoSuchBucket")


class TestPresigned:
    def test_get_put_and_head(self, s3: Any, bucket: str) -> None:
        url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a key"})
        for data in (b"small", os.urandom(MIB)):
            request = urllib.request.Request(url, data, method="PUT", headers={"Content-Type": ""})
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
            url_of_get = s3.generate_presigned_url(
                "get_object",
                {"Bucket": bucket, "Key": "a key", "ResponseContentType": "text/odd"},
            )
            with urllib.request.urlopen(url_of_get) as answer:
                assert answer.headers["Content-Type"] == "text/odd"
                assert answer.read() == data

    def test_a_changed_url_is_refused(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url.replace("/k?", "/j?"))
        assert error.value.code == 403
        assert b"SignatureDoesNotMatch" in error.value.read()
        error.value.close()
