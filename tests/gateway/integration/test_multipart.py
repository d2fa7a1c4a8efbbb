"""Multipart uploads and copies, by boto3."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import MIB
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_buckets import failure
from craqen.tests.gateway.integration.test_objects import crc64nvme

PART = 5 * MIB


class Upload:
    """One multipart upload under way."""

    def __init__(self, s3: Any, bucket: str, key: str = "k", **options: Any) -> None:
        made = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)
        self.made = made
        self.target = {"Bucket": bucket, "Key": key, "UploadId": made["UploadId"]}
        self.s3 = s3
        self.parts: dict[int, dict[str, Any]] = {}

    def part(self, number: int, data: bytes, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.s3.upload_part(
            **self.target, PartNumber=number, Body=data, **options
        )
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return answer

    def complete(self, numbers: list[int] | None = None, **options: Any) -> dict[str, Any]:
        named = [self.parts[number] for number in numbers or sorted(self.parts)]
        answer: dict[str, Any] = self.s3.complete_multipart_upload(
            **self.target, MultipartUpload={"Parts": named}, **options
        )
        return answer


@pytest.fixture(scope="module")
def first() -> bytes:
    return os.urandom(PART)


def etag_of(*parts: bytes) -> str:
    together = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(together).hexdigest()}-{len(parts)}"'


def test_parts_in_any_order_make_one_object(s3: Any, bucket: str, first: bytes) -> None:
    upload = Upload(s3, bucket, Metadata={"m": "v"}, ContentType="text/x", Tagging="t=1")
    upload.part(7, b"!")
    upload.part(2, first)
    upload.part(3, b"replaced soon")
    upload.part(3, first[::-1])
    done = upload.complete()
    data = first + first[::-1] + b"!"
    assert done["ETag"] == etag_of(first, first[::-1], b"!")
    assert done["Location"].endswith(f"/{bucket}/k")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert (got["Metadata"], got["ContentType"], got["TagCount"]) == ({"m": "v"}, "text/x", 1)
    across = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={PART - 3}-{PART + 2}")
    assert across["Body"].read() == data[PART - 3 : PART + 3]
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["PartsCount"] == 3
    assert second["ContentRange"] == f"bytes {PART}-{2 * PART - 1}/{len(data)}"
    assert second["Body"].read() == first[::-1]
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=3)["ContentLength"] == 1


def test_only_named_parts_count_and_the_rest_is_freed(
    gateway: Gateway, s3: Any, bucket: str, first: bytes
) -> None:
    upload = Upload(s3, bucket)
    upload.part(1, first)
    upload.part(2, b"not named")
    upload.part(3, b"end")
    upload.complete([1, 3])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == first + b"end"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_completing_twice_answers_alike(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.part(1, b"all")
    assert upload.complete()["ETag"] == upload.complete()["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"since replaced")
    s3.delete_object(Bucket=bucket, Key="k")


def test_what_cannot_be_completed(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    for number in (1, 2, 3):
        upload.part(number, b"small")
    for parts, code in [
        ([(1, upload.parts[1]["ETag"]), (2, upload.parts[2]["ETag"])], "EntityTooSmall"),
        ([(2, upload.parts[2]["ETag"]), (1, upload.parts[1]["ETag"])], "InvalidPartOrder"),
        ([(1, '"00000000000000000000000000000000"')], "InvalidPart"),
        ([(1, "nonsense")], "InvalidPart"),
        ([(9, upload.parts[1]["ETag"])], "InvalidPart"),
    ]:
        named = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(**upload.target, MultipartUpload={"Parts": named})
        assert failure(error) == (400, code)
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**upload.target, MultipartUpload={"Parts": []})
    assert failure(error)[0] == 400
    upload.complete([3])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"small"


def test_an_aborted_upload_is_gone(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.part(1, b"part")
    s3.abort_multipart_upload(**upload.target)
    for call in (
        lambda: s3.abort_multipart_upload(**upload.target),
        lambda: s3.list_parts(**upload.target),
        lambda: upload.part(2, b"late"),
        lambda: upload.complete([1]),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert failure(error) == (404, "NoSuchUpload")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k")
    assert failure(error) == (404, "NoSuchKey")


def test_uploads_in_progress_go_with_their_bucket(s3: Any, bucket: str) -> None:
    uploads = [Upload(s3, bucket, f"k{number}") for number in range(10)]
    for upload in uploads:
        upload.part(1, b"part")
    s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert failure(error) == (409, "BucketNotEmpty")
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 10
    s3.delete_object(Bucket=bucket, Key="object")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        uploads[7].part(2, b"late")
    assert failure(error) == (404, "NoSuchBucket")


def test_a_part_of_a_vanished_upload_leaves_nothing(
    gateway: Gateway, raw: RawClient, s3: Any, bucket: str
) -> None:
    upload = Upload(s3, bucket)
    before = gateway.segments()
    target = f"/{bucket}/k?partNumber=1&uploadId={upload.target['UploadId']}"
    request = raw.signed("PUT", target, content_sha256="UNSIGNED-PAYLOAD")
    raw.send_head(request, {"content-length": str(MIB), "expect": "100-continue"})
    assert raw.status_line() == "HTTP/1.1 100 Continue"
    s3.abort_multipart_upload(**upload.target)
    raw.send(bytes(MIB))
    assert raw.answer().code == "NoSuchUpload"
    assert gateway.segments() == before


@pytest.mark.parametrize("number", ["0", "10001", "x", "-1"])
def test_part_numbers_have_bounds(raw: RawClient, s3: Any, bucket: str, number: str) -> None:
    upload = Upload(s3, bucket)
    target = f"/{bucket}/k?partNumber={number}&uploadId={upload.target['UploadId']}"
    assert raw.put(target, b"x").code == "InvalidArgument"


def test_conditions_of_completion(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"there")
    upload = Upload(s3, bucket)
    upload.part(1, b"new")
    refused: list[dict[str, Any]] = [{"IfNoneMatch": "*"}, {"IfMatch": '"other"'}]
    for conditions in refused:
        with pytest.raises(ClientError) as error:
            upload.complete(**conditions)
        assert failure(error) == (412, "PreconditionFailed")
    upload.complete(IfMatch=s3.head_object(Bucket=bucket, Key="k")["ETag"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_parts_in_pages(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    for number in (1, 3, 5, 7, 9):
        upload.part(number, b"x" * number)
    found: list[tuple[int, int]] = []
    marker = 0
    while True:
        page = s3.list_parts(**upload.target, MaxParts=2, PartNumberMarker=marker)
        found += [(part["PartNumber"], part["Size"]) for part in page.get("Parts", [])]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    assert found == [(number, number) for number in (1, 3, 5, 7, 9)]


class TestUploadsListed:
    KEYS = ("a", "d/1", "d/2", "d/2", "e", "f/g/h", "z")

    @pytest.fixture
    def uploads(self, s3: Any, bucket: str) -> list[tuple[str, str]]:
        made = [(key, Upload(s3, bucket, key).target["UploadId"]) for key in self.KEYS]
        return sorted(made)

    @pytest.mark.parametrize("limit", [1, 2, 3, 1000])
    def test_in_pages(
        self, s3: Any, bucket: str, uploads: list[tuple[str, str]], limit: int
    ) -> None:
        found: list[tuple[str, str]] = []
        markers: dict[str, str] = {}
        while True:
            page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=limit, **markers)
            found += [(item["Key"], item["UploadId"]) for item in page["Uploads"]]
            if not page["IsTruncated"]:
                break
            markers = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }
        assert found == uploads

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
    def test_rolled_up(
        self, s3: Any, bucket: str, uploads: list[tuple[str, str]], limit: int
    ) -> None:
        lines: list[str] = []
        markers: dict[str, str] = {}
        pages = 0
        while True:
            page = s3.list_multipart_uploads(
                Bucket=bucket, MaxUploads=limit, Delimiter="/", **markers
            )
            lines += [item["Key"] for item in page.get("Uploads", [])]
            lines += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
            pages += 1
            if not page["IsTruncated"]:
                break
            markers = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextUploadIdMarker"):
                markers["UploadIdMarker"] = page["NextUploadIdMarker"]
        assert sorted(lines) == ["a", "d/", "e", "f/", "z"]
        assert pages == -(-5 // limit)

    def test_below_a_prefix(self, s3: Any, bucket: str, uploads: list[tuple[str, str]]) -> None:
        page = s3.list_multipart_uploads(Bucket=bucket, Prefix="d/")
        assert [item["Key"] for item in page["Uploads"]] == ["d/1", "d/2", "d/2"]


class TestChecksums:
    def test_the_whole_has_a_checksum_without_asking(
        self, raw: RawClient, s3: Any, bucket: str, first: bytes
    ) -> None:
        raw.send_head(raw.signed("POST", f"/{bucket}/k?uploads"), {"content-length": "0"})
        body = raw.answer().body.decode()
        upload_id = body.partition("<UploadId>")[2].partition("<")[0]
        listed = ""
        for number, data in ((1, first), (2, b"end")):
            target = f"/{bucket}/k?partNumber={number}&uploadId={upload_id}"
            etag = raw.put(target, data).headers["etag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        request = raw.signed("POST", f"/{bucket}/k?uploadId={upload_id}", body=document)
        raw.send_head(request, {"content-length": str(len(document))})
        raw.send(document)
        assert raw.answer().status == 200
        head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert head["ChecksumCRC64NVME"] == crc64nvme(first + b"end")
        assert head["ChecksumType"] == "FULL_OBJECT"

    def test_full_object_crc(self, s3: Any, bucket: str, first: bytes) -> None:
        upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        assert upload.made["ChecksumType"] == "FULL_OBJECT"
        upload.part(1, first, ChecksumAlgorithm="CRC32")
        upload.part(2, b"end", ChecksumAlgorithm="CRC32")
        crc = zlib.crc32(first + b"end").to_bytes(4, "big")
        wrong = base64.b64encode(b"\0\0\0\0").decode()
        with pytest.raises(ClientError) as error:
            upload.complete(ChecksumCRC32=wrong, ChecksumType="FULL_OBJECT")
        assert failure(error) == (400, "BadDigest")
        value = base64.b64encode(crc).decode()
        done = upload.complete(ChecksumCRC32=value, ChecksumType="FULL_OBJECT")
        assert (done["ChecksumCRC32"], done["ChecksumType"]) == (value, "FULL_OBJECT")

    def test_composite_sha256(self, s3: Any, bucket: str, first: bytes) -> None:
        upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
        for number, data in ((1, first), (2, b"end")):
            answer = upload.part(number, data, ChecksumAlgorithm="SHA256")
            upload.parts[number]["ChecksumSHA256"] = answer["ChecksumSHA256"]
        upload.complete()
        digests = hashlib.sha256(first).digest() + hashlib.sha256(b"end").digest()
        expected = base64.b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
        head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert (head["ChecksumSHA256"], head["ChecksumType"]) == (expected, "COMPOSITE")

    def test_a_part_with_another_algorithm_is_refused(self, s3: Any, bucket: str) -> None:
        upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
        with pytest.raises(ClientError) as error:
            upload.part(1, b"x", ChecksumAlgorithm="CRC32")
        assert failure(error) == (400, "InvalidRequest")

    def test_the_size_may_be_stated(self, s3: Any, bucket: str) -> None:
        upload = Upload(s3, bucket)
        upload.part(1, b"12345")
        with pytest.raises(ClientError) as error:
            upload.complete(MpuObjectSize=6)
        assert failure(error) == (400, "InvalidRequest")
        upload.complete(MpuObjectSize=5)


class TestCopies:
    @pytest.fixture(params=[10, 200_000], ids=["small", "large"])
    def source(self, s3: Any, bucket: str, request: pytest.FixtureRequest) -> bytes:
        data = os.urandom(request.param)
        s3.put_object(
            Bucket=bucket,
            Key="the source+ü",
            Body=data,
            Metadata={"m": "old"},
            ContentType="text/old",
            Tagging="t=old",
        )
        return data

    def copy(self, s3: Any, bucket: str, key: str = "copy", **options: Any) -> dict[str, Any]:
        source = {"Bucket": bucket, "Key": "the source+ü"}
        answer: dict[str, Any] = s3.copy_object(
            Bucket=bucket, Key=key, CopySource=source, **options
        )
        return answer

    def test_everything_is_copied(
        self, gateway: Gateway, s3: Any, bucket: str, source: bytes
    ) -> None:
        before = gateway.segments()
        done = self.copy(s3, bucket)["CopyObjectResult"]
        assert gateway.segments() == before, "a copy moves no bytes"
        got = s3.get_object(Bucket=bucket, Key="copy")
        assert got["Body"].read() == source
        assert (got["Metadata"], got["ContentType"]) == ({"m": "old"}, "text/old")
        assert done["ETag"] == got["ETag"] == f'"{hashlib.md5(source).hexdigest()}"'
        assert s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"][0]["Value"] == "old"
        s3.delete_object(Bucket=bucket, Key="the source+ü")
        assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == source

    def test_metadata_can_be_replaced(self, s3: Any, bucket: str, source: bytes) -> None:
        self.copy(
            s3, bucket, Metadata={"n": "new"}, MetadataDirective="REPLACE", ContentType="text/new"
        )
        got = s3.head_object(Bucket=bucket, Key="copy")
        assert (got["Metadata"], got["ContentType"]) == ({"n": "new"}, "text/new")
        self.copy(s3, bucket, Tagging="t=new", TaggingDirective="REPLACE")
        got = s3.head_object(Bucket=bucket, Key="copy")
        assert got["Metadata"] == {"m": "old"}
        assert s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"][0]["Value"] == "new"

    def test_onto_itself(self, s3: Any, bucket: str, source: bytes) -> None:
        with pytest.raises(ClientError) as error:
            self.copy(s3, bucket, "the source+ü")
        assert failure(error) == (400, "InvalidRequest")
        self.copy(s3, bucket, "the source+ü", Metadata={"n": "new"}, MetadataDirective="REPLACE")
        got = s3.get_object(Bucket=bucket, Key="the source+ü")
        assert (got["Metadata"], got["Body"].read()) == ({"n": "new"}, source)

    def test_conditions(self, s3: Any, bucket: str, source: bytes) -> None:
        etag = s3.head_object(Bucket=bucket, Key="the source+ü")["ETag"]
        for conditions in (
            {"CopySourceIfMatch": '"other"'},
            {"CopySourceIfNoneMatch": etag},
            {"CopySourceIfModifiedSince": "2099-01-01"},
            {"CopySourceIfUnmodifiedSince": "2001-01-01"},
        ):
            with pytest.raises(ClientError) as error:
                self.copy(s3, bucket, **conditions)
            assert failure(error) == (412, "PreconditionFailed")
        self.copy(s3, bucket, CopySourceIfMatch=etag, IfNoneMatch="*")
        with pytest.raises(ClientError) as error:
            self.copy(s3, bucket, IfNoneMatch="*")
        assert failure(error) == (412, "PreconditionFailed")

    def test_another_checksum(self, s3: Any, bucket: str, source: bytes) -> None:
        done = self.copy(s3, bucket, ChecksumAlgorithm="SHA256")["CopyObjectResult"]
        expected = base64.b64encode(hashlib.sha256(source).digest()).decode()
        assert done["ChecksumSHA256"] == expected
        head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
        assert (head["ChecksumSHA256"], head["ETag"]) == (expected, done["ETag"])
        assert done["ETag"] == f'"{hashlib.md5(source).hexdigest()}"'

    def test_missing_sources(self, s3: Any, bucket: str) -> None:
        for source, code in (
            ({"Bucket": bucket, "Key": "missing"}, "NoSuchKey"),
            ({"Bucket": "no-such-bucket", "Key": "k"}, "NoSuchBucket"),
        ):
            with pytest.raises(ClientError) as error:
                s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
            assert failure(error) == (404, code)

    def test_parts_from_objects(self, s3: Any, bucket: str, source: bytes, first: bytes) -> None:
        s3.put_object(Bucket=bucket, Key="big", Body=first + b"tail")
        upload = Upload(s3, bucket)

        def copy_part(number: int, key: str, **options: Any) -> None:
            answer = s3.upload_part_copy(
                **upload.target,
                PartNumber=number,
                CopySource={"Bucket": bucket, "Key": key},
                **options,
            )
            etag = answer["CopyPartResult"]["ETag"]
            upload.parts[number] = {"PartNumber": number, "ETag": etag}

        copy_part(1, "big", CopySourceRange=f"bytes=4-{PART + 3}")
        copy_part(2, "the source+ü", CopySourceRange=f"bytes=0-{len(source) - 1}")
        with pytest.raises(ClientError) as error:
            copy_part(3, "big", CopySourceRange=f"bytes=0-{PART + 4}")
        assert failure(error) == (416, "InvalidRange")
        with pytest.raises(ClientError) as error:
            copy_part(3, "big", CopySourceIfMatch='"other"')
        assert failure(error) == (412, "PreconditionFailed")
        done = upload.complete()
        whole = (first + b"tail")[4:]
        assert done["ETag"] == etag_of(whole, source)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == whole + source
