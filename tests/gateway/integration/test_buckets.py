"""Buckets, by boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.unit.signing_client import REGION

HERE = {"LocationConstraint": REGION}


def failure(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_bucket_lives_and_dies(s3: Any) -> None:
    made = s3.create_bucket(Bucket="life-and-death", CreateBucketConfiguration=HERE)
    assert made["Location"] == "/life-and-death"
    assert "life-and-death" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    head = s3.head_bucket(Bucket="life-and-death")
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == REGION
    assert s3.get_bucket_location(Bucket="life-and-death")["LocationConstraint"] == REGION
    assert "Status" not in s3.get_bucket_versioning(Bucket="life-and-death")
    s3.delete_bucket(Bucket="life-and-death")
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket="life-and-death")
    assert failure(error) == (404, "404")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket="life-and-death")
    assert failure(error) == (404, "NoSuchBucket")


def test_making_a_bucket_twice_is_told(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=HERE)
    assert failure(error) == (409, "BucketAlreadyOwnedByYou")


def test_a_bucket_of_another_region_is_refused(s3: Any) -> None:
    with pytest.raises(ClientError) as error:
        s3.create_bucket(
            Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "us-west-7"}
        )
    assert failure(error) == (400, "IllegalLocationConstraintException")
    with pytest.raises(ClientError) as error:
        s3.create_bucket(
            Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "the moon"}
        )
    assert failure(error) == (400, "InvalidLocationConstraint")


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Upper",
        "under_score",
        "dots..dots",
        "dot.-dash",
        "dash-.dot",
        "192.168.1.1",
        "-start",
        "end-",
        ".start",
        "xn--name",
        "sthree-name",
        "amzn-s3-demo-name",
        "name-s3alias",
        "name--ol-s3",
        "name.mrap",
        "name--x-s3",
        "name--table-s3",
    ],
)
def test_bad_names_are_refused(raw: RawClient, name: str) -> None:
    raw.send_head(raw.signed("PUT", f"/{name}"), {"content-length": "0"})
    answer = raw.answer()
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_what_a_bucket_is_made_with(s3: Any) -> None:
    made = s3.create_bucket(
        Bucket="made-with-tags",
        CreateBucketConfiguration={**HERE, "Tags": [{"Key": "k", "Value": "v"}]},
    )
    arn = "arn:aws:s3:::made-with-tags"
    assert made["BucketArn"] == arn
    assert s3.get_bucket_tagging(Bucket="made-with-tags")["TagSet"] == [{"Key": "k", "Value": "v"}]
    head = s3.head_bucket(Bucket="made-with-tags")
    assert (head["BucketArn"], head["BucketRegion"]) == (arn, REGION)
    assert head["AccessPointAlias"] is False
    [listed] = s3.list_buckets(Prefix="made-with-")["Buckets"]
    assert (listed["BucketArn"], listed["BucketRegion"]) == (arn, REGION)
    twice = [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]
    with pytest.raises(ClientError) as error:
        s3.create_bucket(Bucket="badly-tagged", CreateBucketConfiguration={**HERE, "Tags": twice})
    assert failure(error) == (400, "InvalidTag")
    assert s3.list_buckets(Prefix="badly-tagged")["Buckets"] == []


def test_a_bucket_of_somebody_else(gateway: Gateway, s3: Any, bucket: str) -> None:
    identities = gateway.identities
    account = gateway.call(identities.create_account("neighbour"))
    key, secret = gateway.call(identities.create_access_key(account.account_id, ""))
    other = gateway.client(keys=(key.access_key, secret))
    with pytest.raises(ClientError) as error:
        other.create_bucket(Bucket=bucket, CreateBucketConfiguration=HERE)
    assert failure(error) == (409, "BucketAlreadyExists")
    other.create_bucket(Bucket="of-the-neighbour", CreateBucketConfiguration=HERE)
    assert [found["Name"] for found in other.list_buckets()["Buckets"]] == ["of-the-neighbour"]
    other.close()


@pytest.mark.parametrize("query", ["max-buckets=%C2%B2", "max-buckets=0", "max-buckets=10001"])
def test_bad_limits_are_refused(raw: RawClient, query: str) -> None:
    answer = raw.get(f"/?{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_bucket_that_holds_something_stays(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    with pytest.raises(ClientError) as error:
        s3.delete_bucket(Bucket=bucket)
    assert failure(error) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=bucket, Key="a/b")
    s3.delete_bucket(Bucket=bucket)


def test_buckets_come_in_pages(s3: Any) -> None:
    names = [f"paged-{letter}" for letter in "abcde"]
    for name in names:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=HERE)
    found: list[str] = []
    token: dict[str, str] = {}
    pages = 0
    while True:
        page = s3.list_buckets(Prefix="paged-", MaxBuckets=2, **token)
        found += [bucket["Name"] for bucket in page["Buckets"]]
        pages += 1
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert (found, pages) == (names, 3)
    assert s3.list_buckets(Prefix="paged-", BucketRegion="mars")["Buckets"] == []
    with pytest.raises(ClientError) as error:
        s3.list_buckets(ContinuationToken="%%%")
    assert failure(error)[0] == 400


@pytest.mark.parametrize(
    "call",
    [
        lambda s3, bucket: s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1}),
    ],
)
def test_what_is_not_there_says_so(s3: Any, bucket: str, call: Any) -> None:
    with pytest.raises(ClientError) as error:
        call(s3, bucket)
    assert failure(error) == (501, "NotImplemented")


def test_an_unknown_subresource_is_never_a_listing(raw: RawClient, bucket: str) -> None:
    answer = raw.get(f"/{bucket}?frobnicate")
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_the_host_may_name_the_bucket(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="some/key", Body=b"by host")
    with RawClient(gateway) as client:
        client.send_head(client.signed("GET", "/some/key", host=f"{bucket}.s3.test"))
        assert client.answer().body == b"by host"


def test_answers_are_identified(raw: RawClient, bucket: str) -> None:
    first, second = raw.get(f"/{bucket}?location"), raw.get(f"/{bucket}/missing")
    assert first.headers["x-amz-request-id"] != second.headers["x-amz-request-id"]
    assert first.headers["x-amz-id-2"] == second.headers["x-amz-id-2"]
    assert second.headers["x-amz-request-id"].encode() in second.body
    assert second.headers["date"].endswith("GMT")
    assert second.headers["server"] == "Craqen"
