"""Appending to objects of ordinary buckets, by boto3."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import INLINE_BYTES_MAX, KIB, MIB
from craqen.core.meta.records import InodeType, SetAttributes
from craqen.gateway.body.checksums import ALGORITHMS, compute
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.test_buckets import failure
from craqen.tests.gateway.integration.test_multipart import PART, Upload


def append(s3: Any, bucket: str, offset: int, data: bytes, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = s3.put_object(
        Bucket=bucket, Key="k", Body=data, WriteOffsetBytes=offset, **options
    )
    assert answer["Size"] == offset + len(data)
    return answer


def content(s3: Any, bucket: str) -> bytes:
    data: bytes = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    return data


@pytest.mark.parametrize(
    "sizes",
    [
        [0, 5, 0, 7],
        [INLINE_BYTES_MAX - 1, 1, 1, 100],
        [MIB, 10, 20, 300_000, 5],
        [200_000] * 40,
        [100] * 50,
    ],
    ids=["tiny", "out of the record", "mixed", "runs", "small"],
)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_an_object_grows(s3: Any, bucket: str, sizes: list[int], algorithm: str) -> None:
    whole = b""
    for size in sizes:
        data = os.urandom(size)
        answer = append(s3, bucket, len(whole), data, ChecksumAlgorithm=algorithm)
        whole += data
        expected = compute(ALGORITHMS[algorithm.lower()], whole)
        assert answer[f"Checksum{algorithm}"] == expected
    assert content(s3, bucket) == whole
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ETag"], head["ContentLength"]) == (answer["ETag"], len(whole))
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (expected, "FULL_OBJECT")


def test_pieces_may_be_checked_otherwise_than_the_whole(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"one ", ChecksumAlgorithm="CRC64NVME")
    answer = append(s3, bucket, 4, b"two ", ChecksumAlgorithm="SHA256")
    whole = compute(ALGORITHMS["crc64nvme"], b"one two ")
    assert (answer["ChecksumCRC64NVME"], "ChecksumSHA256" in answer) == (whole, False)
    with pytest.raises(ClientError) as error:
        append(s3, bucket, 8, b"three", ChecksumSHA256=compute(ALGORITHMS["sha256"], b"four"))
    assert failure(error) == (400, "BadDigest")
    assert content(s3, bucket) == b"one two "


def test_what_cannot_be_combined_ends(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"one ", ChecksumAlgorithm="SHA256")
    append(s3, bucket, 4, b"two")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert not [name for name in head if name.startswith("Checksum")]
    assert len(head["ETag"].strip('"')) != 32


def test_an_object_of_parts_grows(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    first = os.urandom(PART)
    upload.part(1, first, ChecksumAlgorithm="CRC32")
    upload.part(2, b"second", ChecksumAlgorithm="CRC32")
    upload.complete()
    answer = append(s3, bucket, PART + 6, b" third")
    assert answer["ChecksumCRC32"] == compute(ALGORITHMS["crc32"], first + b"second third")
    assert content(s3, bucket) == first + b"second third"
    assert "PartsCount" not in s3.head_object(Bucket=bucket, Key="k", PartNumber=1)


def test_the_rest_of_the_object_stays(s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "b"}, Tagging="t=1", ContentType="text/x"
    )
    append(s3, bucket, 1, b"y", Metadata={"c": "d"})
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["Metadata"], head["ContentType"]) == ({"a": "b"}, "text/x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "t", "Value": "1"}]


def test_the_offset_must_be_the_size(
    gateway: Gateway, s3: Any, bucket: str, raw: RawClient
) -> None:
    for offset in (1, 5):
        with pytest.raises(ClientError) as error:
            append(s3, bucket, offset, b"x")
        assert failure(error) == (400, "InvalidWriteOffset")
    append(s3, bucket, 0, b"four")
    for offset in (0, 3, 5):
        with pytest.raises(ClientError) as error:
            append(s3, bucket, offset, b"x")
        assert failure(error) == (400, "InvalidWriteOffset")
    with pytest.raises(ClientError) as error:
        append(s3, bucket, 4, b"x", IfNoneMatch="*")
    assert failure(error) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        append(s3, bucket, 4, b"x", IfMatch='"other"')
    assert failure(error) == (412, "PreconditionFailed")
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    append(s3, bucket, 4, b"x", IfMatch=etag)
    for value in ("-1", "x", "1" * 30):
        request = raw.signed("PUT", f"/{bucket}/k", {"x-amz-write-offset-bytes": value}, b"x")
        with RawClient(gateway) as client:
            client.send_head(request, {"content-length": "1"})
            client.send(b"x")
            assert client.answer().code == "InvalidArgument"
    assert content(s3, bucket) == b"fourx"


def test_nothing_is_lost_or_doubled_in_a_race(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")

    def writer(number: int) -> None:
        generator = random.Random(number)
        client = gateway.client()
        for turn in range(6):
            line = f"{number}:{turn};".encode() * generator.randint(1, 4000)
            while True:
                size = client.head_object(Bucket=bucket, Key="k")["ContentLength"]
                try:
                    append(client, bucket, size, line)
                    break
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    assert code in ("InvalidWriteOffset", "OperationAborted")
        client.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer, range(4)))
    found: list[str] = []
    for word in content(s3, bucket).decode().strip(";").split(";"):
        if not found or found[-1] != word:
            found.append(word)
    assert sorted(found) == sorted(f"{number}:{turn}" for number in range(4) for turn in range(6))


def test_both_doors_append(gateway: Gateway, s3: Any, bucket: str) -> None:
    """The file door sees what S3 appended, and S3 appends to what the file door wrote."""
    meta = gateway.meta
    append(s3, bucket, 0, b"from S3\n")
    folder = gateway.call(meta.get_bucket(bucket)).inode_id
    inode = gateway.call(meta.lookup(folder, b"k"))
    assert (inode.type, inode.size) == (InodeType.FILE, 8)
    gateway.call(meta.write_inline(inode.inode_id, 8, b"from a mount\n"))
    with pytest.raises(ClientError) as error:
        append(s3, bucket, 8, b"late\n")
    assert failure(error) == (400, "InvalidWriteOffset")
    append(s3, bucket, 21, b"again from S3\n")
    assert content(s3, bucket) == b"from S3\nfrom a mount\nagain from S3\n"
    assert gateway.call(meta.lookup(folder, b"k")).inode_id == inode.inode_id


def test_a_file_that_ends_in_a_hole(gateway: Gateway, s3: Any, bucket: str) -> None:
    append(s3, bucket, 0, b"x" * 100 * KIB)
    inode_id = gateway.inode_id(bucket, b"k")
    gateway.call(gateway.meta.set_attributes(inode_id, SetAttributes(size=150 * KIB)))
    append(s3, bucket, 150 * KIB, b"end")
    assert content(s3, bucket) == b"x" * 100 * KIB + bytes(50 * KIB) + b"end"


def test_a_deleted_object_of_a_versioned_bucket_begins_anew(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = append(s3, bucket, 0, b"one")
    second = append(s3, bucket, 3, b" two")["VersionId"]
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [row["VersionId"] for row in versions] == [second, first["VersionId"]]
    s3.delete_object(Bucket=bucket, Key="k")
    append(s3, bucket, 0, b"new")
    for version, body in ((first["VersionId"], b"one"), (second, b"one two")):
        old = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert old["Body"].read() == body
