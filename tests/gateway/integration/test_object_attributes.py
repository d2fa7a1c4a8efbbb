"""GetObjectAttributes, by boto3."""

from __future__ import annotations

import os
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import MIB
from craqen.gateway.body.checksums import ALGORITHMS, combine_full_object, compute
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.test_buckets import failure
from craqen.tests.gateway.integration.test_multipart import PART, Upload

EVERYTHING = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def attributes(s3: Any, bucket: str, key: str = "k", **options: Any) -> dict[str, Any]:
    options.setdefault("ObjectAttributes", EVERYTHING)
    answer: dict[str, Any] = s3.get_object_attributes(Bucket=bucket, Key=key, **options)
    return answer


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_object_in_one_piece(s3: Any, bucket: str, name: str) -> None:
    label = name.upper()
    data = os.urandom(1000)
    value = compute(ALGORITHMS[name], data)
    stated = {} if name == "md5" else {"ChecksumAlgorithm": label}
    put = s3.put_object(
        Bucket=bucket,
        Key="k",
        Body=data,
        StorageClass="GLACIER_IR",
        **{f"Checksum{label}": value},
        **stated,
    )
    assert put[f"Checksum{label}"] == value
    told = attributes(s3, bucket)
    assert told["ETag"] == put["ETag"].strip('"')
    assert told["Checksum"] == {f"Checksum{label}": value, "ChecksumType": "FULL_OBJECT"}
    assert told["StorageClass"] == "GLACIER_IR"
    assert told["ObjectSize"] == 1000
    assert "ObjectParts" not in told
    assert told["LastModified"] == s3.head_object(Bucket=bucket, Key="k")["LastModified"]


def test_only_what_is_asked_for_comes(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"four")
    told = attributes(s3, bucket, ObjectAttributes=["ObjectSize"])
    assert told["ObjectSize"] == 4
    assert not {"ETag", "Checksum", "ObjectParts", "StorageClass"} & told.keys()


def test_parts_come_in_pages(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    pieces = {2: os.urandom(PART), 5: os.urandom(PART), 9: b"last"}
    values = {number: compute(ALGORITHMS["crc32"], data) for number, data in pieces.items()}
    for number, data in pieces.items():
        upload.part(number, data, ChecksumAlgorithm="CRC32")
    upload.complete()
    told = attributes(s3, bucket, MaxParts=2)
    parts = told["ObjectParts"]
    assert told["Checksum"]["ChecksumCRC32"] == combine_full_object(
        ALGORITHMS["crc32"], [(values[number], len(data)) for number, data in pieces.items()]
    )
    assert (parts["TotalPartsCount"], parts["MaxParts"], parts["IsTruncated"]) == (3, 2, True)
    assert [part["PartNumber"] for part in parts["Parts"]] == [1, 2]
    assert [part["ChecksumCRC32"] for part in parts["Parts"]] == [values[2], values[5]]
    behind = attributes(s3, bucket, PartNumberMarker=parts["NextPartNumberMarker"])["ObjectParts"]
    assert (behind["PartNumberMarker"], behind["IsTruncated"]) == (2, False)
    assert [(part["PartNumber"], part["Size"]) for part in behind["Parts"]] == [(3, 4)]
    nothing = attributes(s3, bucket, PartNumberMarker=7)["ObjectParts"]
    assert (nothing["NextPartNumberMarker"], nothing["IsTruncated"]) == (7, False)
    assert "Parts" not in nothing


def test_what_cannot_be_asked(s3: Any, bucket: str, raw: RawClient) -> None:
    with pytest.raises(ClientError) as error:
        attributes(s3, bucket, "absent")
    assert failure(error) == (404, "NoSuchKey")
    s3.put_object(Bucket=bucket, Key="k", Body=os.urandom(MIB))
    for value, code in (("", "InvalidRequest"), ("ETag,Colour", "InvalidArgument")):
        headers = {"x-amz-object-attributes": value} if value else {}
        raw.send_head(raw.signed("GET", f"/{bucket}/k?attributes", headers))
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, code)
