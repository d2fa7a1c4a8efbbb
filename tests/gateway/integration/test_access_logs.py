"""Access logs, from the request to the object that has its line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.gateway.access_logs.spool import Spool
from craqen.tests.gateway.integration.running_gateway import Gateway

FIELDS = re.compile(r'("[^"]*"|\[[^\]]*\]|\S+)')


@pytest.fixture
def logs(s3: Any, bucket: str) -> str:
    """A bucket that takes the log of ``bucket``."""
    target = f"{bucket}-logs"
    s3.create_bucket(Bucket=target)
    s3.put_bucket_logging(
        Bucket=bucket,
        BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": "log/"}},
    )
    return target


def delivered(gateway: Gateway, s3: Any, logs: str) -> list[list[str]]:
    """The fields of all lines, in the order of their requests."""
    gateway.call(gateway.access_log.deliver())
    listed = s3.list_objects_v2(Bucket=logs, Prefix="log/").get("Contents", [])
    lines = [
        line
        for one in listed
        for line in s3.get_object(Bucket=logs, Key=one["Key"])["Body"].read().decode().splitlines()
    ]
    return [FIELDS.findall(line) for line in lines]


def test_each_request_has_its_line(s3: Any, bucket: str, logs: str, gateway: Gateway) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"data")
    got = s3.get_object(Bucket=bucket, Key="a b", Range="bytes=1-2")
    got["Body"].read()
    with pytest.raises(ClientError):
        s3.get_object(Bucket=bucket, Key="none")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/a b")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b"}, {"Key": "x"}]})
    lines = delivered(gateway, s3, logs)
    found = [(one[6], one[7], one[9], one[10], one[11], one[12]) for one in lines]
    size = str(len(b"data"))
    assert found[0] == ("REST.PUT.OBJECT", "a%20b", "200", "-", "-", size)
    assert found[1] == ("REST.GET.OBJECT", "a%20b", "206", "-", "2", size)
    assert found[2][:4] == ("REST.GET.OBJECT", "none", "404", "NoSuchKey")
    assert found[3][:3] == ("REST.COPY.OBJECT", "copy", "200")
    assert found[4][:3] == ("REST.COPY.OBJECT_GET", "a%20b", "200")
    assert found[5][:3] == ("REST.POST.MULTI_OBJECT_DELETE", "-", "200")
    assert [one[:3] for one in found[6:]] == [
        ("BATCH.DELETE.OBJECT", "a%20b", "204"),
        ("BATCH.DELETE.OBJECT", "x", "204"),
    ]
    line = lines[1]
    assert line[1] == bucket
    assert line[5] == got["ResponseMetadata"]["RequestId"]
    assert line[3] == "127.0.0.1"
    assert line[19:22] == ["SigV4", "-", "AuthHeader"]
    assert line[8] == f'"GET /{bucket}/a%20b HTTP/1.1"'
    assert len({len(one) for one in lines}) == 1


def test_a_request_that_is_refused_has_a_line_too(
    s3: Any, bucket: str, logs: str, gateway: Gateway
) -> None:
    s3.head_bucket(Bucket=bucket)
    stranger = gateway.client(keys=("AKIAUNKNOWN000000000", "secret"))
    with pytest.raises(ClientError):
        stranger.get_object(Bucket=bucket, Key="key")
    line = delivered(gateway, s3, logs)[-1]
    assert (line[4], line[6], line[9], line[10]) == (
        "-",
        "REST.GET.OBJECT",
        "403",
        "InvalidAccessKeyId",
    )


def test_the_log_of_a_log_bucket_comes_to_rest(
    s3: Any, bucket: str, logs: str, gateway: Gateway
) -> None:
    target = {"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": "log/"}}
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus=target)
    gateway.call(gateway.access_log.deliver())
    gateway.call(gateway.access_log.deliver())
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 1


def test_lines_are_encrypted_as_the_target_says_and_large_ones_delivered(
    s3: Any, bucket: str, logs: str, gateway: Gateway
) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=logs, ServerSideEncryptionConfiguration={"Rules": [rule]})
    key = "k" * 900
    for _ in range(30):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert len(delivered(gateway, s3, logs)) == 30
    [one] = s3.list_objects_v2(Bucket=logs)["Contents"]
    head = s3.head_object(Bucket=logs, Key=one["Key"])
    assert head["ServerSideEncryption"] == "AES256"
    assert head["ContentLength"] > 32 * 1024


def test_a_file_that_is_delivered_twice_makes_one_object(
    s3: Any, bucket: str, logs: str, gateway: Gateway
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    delivered(gateway, s3, logs)
    before = s3.list_objects_v2(Bucket=logs)["Contents"]
    line = s3.get_object(Bucket=logs, Key=before[0]["Key"])["Body"].read()
    spool = Spool(gateway.folder / "access-logs")
    assert spool.append(line)
    spool.end_file()
    [file] = spool.take()
    work = gateway.access_log._delivery
    for _ in range(2):
        gateway.call(work.deliver(*file.read(), file.name))
    file.close()
    file.remove()
    assert len(s3.list_objects_v2(Bucket=logs)["Contents"]) == len(before) + 1


def test_lines_for_a_bucket_that_is_gone_are_counted(
    s3: Any, bucket: str, logs: str, gateway: Gateway
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    s3.delete_bucket(Bucket=logs)
    lost = gateway.access_log.lost
    gateway.call(gateway.access_log.deliver())
    assert gateway.access_log.lost == lost + 1
