"""Settings of buckets, by boto3: tags, CORS, request payment, and what no bucket has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.tests.gateway.integration.raw_client import Answer, RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.unit.signing_client import REGION


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.fixture(scope="module")
def other_s3(plain_gateway: Gateway) -> Iterator[Any]:
    """A client of another account."""
    identities = plain_gateway.identities
    account = plain_gateway.call(identities.create_account("someone-else"))
    key, secret = plain_gateway.call(identities.create_access_key(account.account_id, ""))
    client = plain_gateway.client(keys=(key.access_key, secret))
    yield client
    client.close()


def tags_of(s3: Any, bucket: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}


def tag_set(tags: dict[str, str]) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def test_tags_of_a_bucket(s3: Any, bucket: str) -> None:
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")
    tags = {"Grüße": "an alle", "cost:center": "a/b=c@d+1_2-3.", "empty": ""}
    made = s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(tags))
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags_of(s3, bucket) == tags
    assert s3.delete_bucket_tagging(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")
    missing = "not-there-at-all"
    assert refused(s3.get_bucket_tagging, Bucket=missing) == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({str(number): "" for number in range(51)}, "InvalidTag"),
        ({"aws:own": "x"}, "InvalidTag"),
        ({"semi;colon": "x"}, "InvalidTag"),
        ({"k": "v<w"}, "InvalidTag"),
        ({"k" * 129: "v"}, "InvalidTag"),
        ({"k": "v" * 257}, "InvalidTag"),
    ],
)
def test_tags_that_no_bucket_may_have(
    s3: Any, bucket: str, tags: dict[str, str], code: str
) -> None:
    assert refused(s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(tags)) == (400, code)
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")


def test_fifty_tags_are_allowed(s3: Any, bucket: str) -> None:
    tags = {f"key {number}": str(number) for number in range(50)}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(tags))
    assert tags_of(s3, bucket) == tags


RULES = [
    {
        "ID": "first",
        "AllowedOrigins": ["https://*.example.com", "https://app.test"],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["x-amz-*", "Content-Type"],
        "ExposeHeaders": ["ETag", "x-amz-request-id"],
        "MaxAgeSeconds": 300,
    },
    {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]},
]


def ask(raw: RawClient, method: str, path: str, headers: dict[str, str]) -> Answer:
    """A request that nobody signs."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    raw.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    return raw.answer(head_only=method == "HEAD")


def preflight(raw: RawClient, path: str, origin: str, method: str, headers: str = "") -> Answer:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return ask(raw, "OPTIONS", path, asked)


def allowed(answer: Answer) -> dict[str, str]:
    return {
        name.removeprefix("access-control-"): value
        for name, value in answer.headers.items()
        if name.startswith("access-control-")
    }


FIRST = {
    "allow-origin": "https://a.example.com",
    "allow-methods": "GET, PUT",
    "expose-headers": "ETag, x-amz-request-id",
    "max-age": "300",
    "allow-credentials": "true",
}


def test_cors_rules_are_kept(s3: Any, bucket: str) -> None:
    assert refused(s3.get_bucket_cors, Bucket=bucket) == (404, "NoSuchCORSConfiguration")
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == RULES
    s3.delete_bucket_cors(Bucket=bucket)
    assert refused(s3.get_bucket_cors, Bucket=bucket) == (404, "NoSuchCORSConfiguration")


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"AllowedOrigins": ["a*b*"], "AllowedMethods": ["GET"]}, "InvalidRequest"),
        ({"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}, "InvalidRequest"),
        (
            {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*-*"]},
            "InvalidRequest",
        ),
        (
            {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "ExposeHeaders": ["x-*"]},
            "InvalidRequest",
        ),
        ({"AllowedOrigins": ["*"], "AllowedMethods": []}, "MalformedXML"),
    ],
)
def test_cors_rules_that_are_none(s3: Any, bucket: str, rule: Any, code: str) -> None:
    configuration = {"CORSRules": [rule]}
    answer = refused(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration=configuration)
    assert answer == (400, code)


def test_preflight(s3: Any, raw: RawClient, bucket: str) -> None:
    path = f"/{bucket}/some/key?partNumber=1&uploadId=x"
    unset = preflight(raw, path, "https://a.example.com", "GET")
    assert (unset.status, unset.code) == (403, "AccessForbidden")
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    yes = preflight(raw, path, "https://a.example.com", "PUT", "X-Amz-Date, content-type,x-amz-acl")
    assert yes.status == 200
    assert allowed(yes) == {**FIRST, "allow-headers": "x-amz-date, content-type, x-amz-acl"}
    assert "Origin" in yes.headers["vary"]
    anyone = preflight(raw, f"/{bucket}", "http://other.test", "HEAD")
    assert allowed(anyone) == {"allow-origin": "*", "allow-methods": "HEAD"}
    for origin, method, headers in (
        ("https://a.example.org", "GET", ""),
        ("https://a.example.com", "DELETE", ""),
        ("https://a.example.com", "GET", "authorization"),
        ("http://other.test", "HEAD", "x-amz-date"),
    ):
        no = preflight(raw, path, origin, method, headers)
        assert (no.status, no.code, allowed(no)) == (403, "AccessForbidden", {})
    for asked in ({}, {"Origin": "https://app.test"}, {"Access-Control-Request-Method": "GET"}):
        bad = ask(raw, "OPTIONS", path, asked)
        assert (bad.status, bad.code) == (400, "BadRequest")
    missing = preflight(raw, "/no-such-bucket-here/k", "https://app.test", "GET")
    assert (missing.status, missing.code) == (404, "NoSuchBucket")


def test_answers_tell_browsers(s3: Any, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=bytes(300_000))
    s3.put_object(Bucket=bucket, Key="small", Body=b"x")
    origin = {"origin": "https://a.example.com"}
    raw.send_head(raw.signed("GET", f"/{bucket}/small"), origin)
    assert "vary" not in raw.answer().headers
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    for key, status in (("small", 200), ("large", 200), ("missing", 404)):
        raw.send_head(raw.signed("GET", f"/{bucket}/{key}"), origin)
        answer = raw.answer()
        assert (answer.status, allowed(answer)) == (status, FIRST)
    denied = ask(raw, "GET", f"/{bucket}/small", origin)
    assert (denied.status, allowed(denied)) == (403, FIRST)
    forged = ask(
        raw, "GET", f"/{bucket}/small", {**origin, "Authorization": "AWS4-HMAC-SHA256 nonsense"}
    )
    assert (forged.status, allowed(forged)) == (400, FIRST)
    plain = raw.get(f"/{bucket}/small")
    assert allowed(plain) == {}
    assert plain.headers["vary"].startswith("Origin")


def test_who_pays(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    for payer in ("Requester", "BucketOwner"):
        s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": payer})
        assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == payer
    configuration = {"Payer": "Nobody"}
    assert refused(
        s3.put_bucket_request_payment, Bucket=bucket, RequestPaymentConfiguration=configuration
    ) == (400, "MalformedXML")


def test_who_must_say_that_he_pays(s3: Any, other_s3: Any) -> None:
    """The bucket belongs to the other account; the store's own may use it, too."""
    bucket = "paid-by-whom"
    other_s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    other_s3.put_bucket_request_payment(
        Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"}
    )
    other_s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert "RequestCharged" not in other_s3.get_object(Bucket=bucket, Key="k")
    assert refused(s3.get_object, Bucket=bucket, Key="k") == (403, "AccessDenied")
    assert refused(s3.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")
    read = s3.get_object(Bucket=bucket, Key="k", RequestPayer="requester")
    assert (read["Body"].read(), read["RequestCharged"]) == (b"x", "requester")


def test_what_no_bucket_has(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert s3.get_bucket_abac(Bucket=bucket)["AbacStatus"]["Status"] == "Disabled"
    for name in ("analytics", "inventory", "metrics", "intelligent_tiering"):
        page = getattr(s3, f"list_bucket_{name}_configurations")(Bucket=bucket)
        assert page["IsTruncated"] is False
        for verb in ("get", "delete"):
            call = getattr(s3, f"{verb}_bucket_{name}_configuration")
            assert refused(call, Bucket=bucket, Id="one") == (404, "NoSuchConfiguration")
    assert refused(s3.get_bucket_replication, Bucket=bucket) == (
        404,
        "ReplicationConfigurationNotFoundError",
    )
    s3.delete_bucket_replication(Bucket=bucket)
    assert refused(s3.get_bucket_metadata_table_configuration, Bucket=bucket) == (
        404,
        "MetadataConfigurationNotFound",
    )
    assert refused(
        s3.put_bucket_accelerate_configuration,
        Bucket=bucket,
        AccelerateConfiguration={"Status": "Enabled"},
    ) == (501, "NotImplemented")
    assert refused(
        s3.put_bucket_metrics_configuration,
        Bucket=bucket,
        Id="one",
        MetricsConfiguration={"Id": "one"},
    ) == (501, "NotImplemented")
    assert refused(s3.get_bucket_replication, Bucket="no-such-bucket-here") == (
        404,
        "NoSuchBucket",
    )


def test_the_owner_may_be_expected(s3: Any, bucket: str) -> None:
    right, wrong = FIRST_ACCOUNT_ID, "210987654321"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner=right)
    denied = (403, "AccessDenied")
    calls: list[tuple[Any, dict[str, Any]]] = [
        (s3.put_object, {"Key": "k", "Body": b"y"}),
        (s3.list_objects_v2, {}),
        (s3.get_bucket_location, {}),
        (s3.get_bucket_tagging, {}),
        (s3.delete_object, {"Key": "k"}),
        (s3.delete_bucket, {}),
    ]
    for call, arguments in calls:
        answer = refused(call, Bucket=bucket, ExpectedBucketOwner=wrong, **arguments)
        assert answer == denied
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "k"}}
    assert refused(s3.copy_object, ExpectedSourceBucketOwner=wrong, **copy) == denied
    s3.copy_object(ExpectedSourceBucketOwner=right, ExpectedBucketOwner=right, **copy)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"x"
