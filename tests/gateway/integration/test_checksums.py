"""All ten checksum algorithms on every way in, by boto3: stated, verified, kept, told."""

from __future__ import annotations

import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.gateway.body.checksums import (
    ALGORITHMS,
    Algorithm,
    combine_full_object,
    composite,
    compute,
)
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.test_buckets import failure
from craqen.tests.gateway.integration.test_multipart import PART, Upload
from craqen.tests.gateway.unit.signing_client import encode_unsigned

SMALL, LARGE = b"few bytes", os.urandom(300_000)
CRCS = ["crc32", "crc32c", "crc64nvme"]


def field(algorithm: Algorithm) -> str:
    """As boto3 names it."""
    return f"Checksum{algorithm.label}"


def told(s3: Any, bucket: str, key: str = "k", **options: Any) -> dict[str, str]:
    """The checksums that HEAD shows."""
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **options)
    return {name: value for name, value in head.items() if name.startswith("Checksum")}


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_stated_in_a_header(s3: Any, bucket: str, algorithm: Algorithm, data: bytes) -> None:
    value = compute(algorithm, data)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **{field(algorithm): value})
    assert (put[field(algorithm)], put["ChecksumType"]) == (value, "FULL_OBJECT")
    assert told(s3, bucket) == {field(algorithm): value, "ChecksumType": "FULL_OBJECT"}
    assert field(algorithm) not in s3.head_object(Bucket=bucket, Key="k")
    for wrong in (compute(algorithm, b"other"), "bad"):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=bucket, Key="k", Body=b"new", **{field(algorithm): wrong})
        assert failure(error) == (400, "BadDigest")
    assert told(s3, bucket)[field(algorithm)] == value


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_stated_in_a_trailer(
    s3: Any, raw: RawClient, bucket: str, algorithm: Algorithm, data: bytes
) -> None:
    for content, status, code in ((b"other", 400, "BadDigest"), (data, 200, "")):
        value = compute(algorithm, content)
        request = raw.signed(
            "PUT",
            f"/{bucket}/k",
            {
                "x-amz-trailer": algorithm.header,
                "x-amz-decoded-content-length": str(len(data)),
                "content-encoding": "aws-chunked",
            },
            content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        )
        body = encode_unsigned(data, 65536, {algorithm.header: value})
        raw.send_head(request, {"content-length": str(len(body))})
        raw.send(body)
        answer = raw.answer()
        assert (answer.status, answer.code) == (status, code)
    assert answer.headers[algorithm.header] == value
    assert told(s3, bucket)[field(algorithm)] == value


@pytest.mark.parametrize(
    "algorithm",
    [one for one in ALGORITHMS.values() if one.name != "md5"],
    ids=[name for name in ALGORITHMS if name != "md5"],
)
def test_as_boto3_sends_them_over_https(
    secure_s3: Any, secure_bucket: str, algorithm: Algorithm
) -> None:
    put = secure_s3.put_object(
        Bucket=secure_bucket, Key="k", Body=LARGE, ChecksumAlgorithm=algorithm.label
    )
    assert put[field(algorithm)] == compute(algorithm, LARGE)
    got = secure_s3.get_object(Bucket=secure_bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == LARGE  # and botocore has compared
    assert got[field(algorithm)] == put[field(algorithm)]


def parts_of(upload: Upload, algorithm: Algorithm, *pieces: bytes) -> list[dict[str, Any]]:
    """Upload *pieces* with stated checksums; the parts as a completion names them."""
    named = []
    for number, piece in enumerate(pieces, 1):
        value = compute(algorithm, piece)
        answer = upload.part(number, piece, **{field(algorithm): value})
        assert answer[field(algorithm)] == value
        named.append({"PartNumber": number, "ETag": answer["ETag"], field(algorithm): value})
    return named


@pytest.mark.parametrize(
    "algorithm",
    [one for one in ALGORITHMS.values() if one.name != "crc64nvme"],
    ids=[name for name in ALGORITHMS if name != "crc64nvme"],
)
def test_composite(s3: Any, bucket: str, algorithm: Algorithm) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm.label)
    assert upload.made["ChecksumType"] == "COMPOSITE"
    pieces = [os.urandom(PART), SMALL]
    named = parts_of(upload, algorithm, *pieces)
    listed = s3.list_parts(**upload.target)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm.label, "COMPOSITE")
    values = [compute(algorithm, piece) for piece in pieces]
    assert [part[field(algorithm)] for part in listed["Parts"]] == values
    whole = composite(algorithm, values)
    done = s3.complete_multipart_upload(**upload.target, MultipartUpload={"Parts": named})
    assert (done[field(algorithm)], done["ChecksumType"]) == (whole, "COMPOSITE")
    assert told(s3, bucket) == {field(algorithm): whole, "ChecksumType": "COMPOSITE"}
    part = {field(algorithm): values[1], "ChecksumType": "COMPOSITE"}
    assert told(s3, bucket, PartNumber=2) == part
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert got["Body"].read() == SMALL  # and botocore has compared


@pytest.mark.parametrize("name", CRCS)
def test_full_object_without_reading_a_byte(s3: Any, bucket: str, name: str) -> None:
    algorithm = ALGORITHMS[name]
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm.label, ChecksumType="FULL_OBJECT")
    pieces = [os.urandom(PART), os.urandom(PART), SMALL]
    named = parts_of(upload, algorithm, *pieces)
    whole = compute(algorithm, b"".join(pieces))
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(
            **upload.target,
            MultipartUpload={"Parts": named},
            **{field(algorithm): compute(algorithm, b"other")},
        )
    assert failure(error) == (400, "BadDigest")
    done = s3.complete_multipart_upload(
        **upload.target,
        MultipartUpload={"Parts": named},
        ChecksumType="FULL_OBJECT",
        MpuObjectSize=sum(map(len, pieces)),
        **{field(algorithm): whole},
    )
    assert done[field(algorithm)] == whole
    assert told(s3, bucket) == {field(algorithm): whole, "ChecksumType": "FULL_OBJECT"}


def test_an_upload_without_an_algorithm_has_the_default_one(s3: Any, bucket: str) -> None:
    crc64nvme = ALGORITHMS["crc64nvme"]
    upload = Upload(s3, bucket)
    first = os.urandom(PART)
    upload.part(1, first, ChecksumSHA1=compute(ALGORITHMS["sha1"], first))
    upload.part(2, SMALL, ChecksumCRC32=compute(ALGORITHMS["crc32"], SMALL))
    upload.complete()
    expected = {field(crc64nvme): compute(crc64nvme, first + SMALL), "ChecksumType": "FULL_OBJECT"}
    assert told(s3, bucket) == expected
    assert (
        combine_full_object(
            crc64nvme,
            [(compute(crc64nvme, first), PART), (compute(crc64nvme, SMALL), len(SMALL))],
        )
        == expected[field(crc64nvme)]
    )


def test_parts_that_do_not_fit_their_upload(s3: Any, bucket: str, raw: RawClient) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError) as error:
        upload.part(1, b"x", ChecksumAlgorithm="CRC32")
    assert failure(error) == (400, "InvalidRequest")
    answer = raw.put(f"/{bucket}/k?partNumber=1&uploadId={upload.target['UploadId']}", b"x")
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert b"actual checksum Type: null" in answer.body
    upload.part(1, b"x", ChecksumAlgorithm="SHA256")
    other = {**upload.parts[1], "ChecksumSHA256": compute(ALGORITHMS["sha256"], b"y")}
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**upload.target, MultipartUpload={"Parts": [other]})
    assert failure(error) == (400, "InvalidPart")
    right = {**upload.parts[1], "ChecksumSHA256": compute(ALGORITHMS["sha256"], b"x")}
    for options in ({"ChecksumType": "FULL_OBJECT"}, {"ChecksumCRC32": "AAAAAA=="}):
        with pytest.raises(ClientError) as error:
            s3.complete_multipart_upload(
                **upload.target, MultipartUpload={"Parts": [right]}, **options
            )
        assert failure(error) == (400, "InvalidRequest")
    s3.complete_multipart_upload(**upload.target, MultipartUpload={"Parts": [right]})


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_copy_with_another_algorithm(
    s3: Any, bucket: str, algorithm: Algorithm, data: bytes
) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=data, ChecksumAlgorithm="CRC32")
    source = {"Bucket": bucket, "Key": "source"}
    plain = s3.copy_object(Bucket=bucket, Key="k", CopySource=source)["CopyObjectResult"]
    assert plain["ChecksumCRC32"] == compute(ALGORITHMS["crc32"], data)
    done = s3.copy_object(
        Bucket=bucket, Key="source", CopySource=source, ChecksumAlgorithm=algorithm.label
    )
    expected = {field(algorithm): compute(algorithm, data), "ChecksumType": "FULL_OBJECT"}
    assert done["CopyObjectResult"].items() >= expected.items()
    assert told(s3, bucket, "source") == expected
