"""Rights by policies over real HTTP: of buckets, of users, and what blocks leave of them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.tests.gateway.integration.running_gateway import Gateway


def code_of(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def statement(bucket: str, action: Any = "s3:GetObject", **more: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": "*",
        "Action": action,
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        **more,
    }


def put_policy(s3: Any, bucket: str, *statements: dict[str, Any]) -> str:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    s3.put_bucket_policy(Bucket=bucket, Policy=text)
    return text


def anonymous(gateway: Gateway, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/{path}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture
def user(gateway: Gateway) -> Any:
    """A user without rights, as S3 and STS clients, and what gives it some."""
    iam = gateway.client(service="iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    keys = (key["AccessKeyId"], key["SecretAccessKey"])
    client = gateway.client(keys=keys)

    def give(name: str, *statements: dict[str, Any]) -> None:
        text = json.dumps({"Statement": list(statements)})
        iam.put_user_policy(UserName="ann", PolicyName=name, PolicyDocument=text)

    yield client, give
    client.close()
    for name in iam.list_user_policies(UserName="ann")["PolicyNames"]:
        iam.delete_user_policy(UserName="ann", PolicyName=name)
    iam.delete_access_key(UserName="ann", AccessKeyId=keys[0])
    iam.delete_user(UserName="ann")
    iam.close()


def test_the_document_comes_back_as_it_went(s3: Any, bucket: str) -> None:
    assert code_of(s3.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")
    text = put_policy(s3, bucket, statement(bucket))
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == text
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}
    narrow = statement(bucket, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    put_policy(s3, bucket, narrow)
    assert not s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
    s3.delete_bucket_policy(Bucket=bucket)
    assert code_of(s3.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")
    for wrong in ("{", "{}", json.dumps({"Statement": statement("other-bucket")})):
        assert code_of(s3.put_bucket_policy, Bucket=bucket, Policy=wrong) == (
            400,
            "MalformedPolicy",
        )


def test_everybody_reads_what_a_policy_opens(gateway: Gateway, s3: Any, bucket: str) -> None:
    for key in ("open/k", "shut/k"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert anonymous(gateway, f"{bucket}/open/k") == 403
    open_only = {**statement(bucket), "Resource": f"arn:aws:s3:::{bucket}/open/*"}
    put_policy(s3, bucket, open_only)
    assert anonymous(gateway, f"{bucket}/open/k") == 200
    assert anonymous(gateway, f"{bucket}/shut/k") == 403
    assert anonymous(gateway, f"{bucket}/open/../shut/k") == 403
    assert anonymous(gateway, f"{bucket}?list-type=2") == 403


def test_what_public_access_blocks_leave(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    missing = (404, "NoSuchPublicAccessBlockConfiguration")
    assert code_of(s3.get_public_access_block, Bucket=bucket) == missing
    put_policy(s3, bucket, statement(bucket))
    assert anonymous(gateway, f"{bucket}/k") == 200
    block = {
        "BlockPublicAcls": False,
        "IgnorePublicAcls": False,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert found == block
    assert anonymous(gateway, f"{bucket}/k") == 403
    text = json.dumps({"Statement": statement(bucket)})
    assert code_of(s3.put_bucket_policy, Bucket=bucket, Policy=text) == (403, "AccessDenied")
    s3.delete_public_access_block(Bucket=bucket)
    assert anonymous(gateway, f"{bucket}/k") == 200


def test_a_deny_binds_the_owner_but_for_the_policy_itself(s3: Any, bucket: str) -> None:
    put_policy(s3, bucket, {**statement(bucket, "s3:*"), "Effect": "Deny"})
    assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x") == (403, "AccessDenied")
    assert code_of(s3.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")


def test_users_may_what_their_policies_say(s3: Any, bucket: str, user: Any) -> None:
    ann, give = user
    named = {"Bucket": bucket, "Key": "home/ann/k"}
    assert code_of(ann.put_object, **named, Body=b"x") == (403, "AccessDenied")
    own = f"arn:aws:s3:::{bucket}/home/${{aws:username}}/*"
    give("own", {"Effect": "Allow", "Action": "s3:*Object", "Resource": own})
    ann.put_object(**named, Body=b"mine")
    assert ann.get_object(**named)["Body"].read() == b"mine"
    s3.put_object(Bucket=bucket, Key="home/bob/k", Body=b"his")
    assert code_of(ann.get_object, Bucket=bucket, Key="home/bob/k") == (403, "AccessDenied")
    for source in ("home/bob/k", "home/ann/../bob/k"):
        copy = {"CopySource": {"Bucket": bucket, "Key": source}}
        assert code_of(ann.copy_object, **{**named, "Key": "home/ann/stolen"}, **copy)[0] in (
            403,
            404,
        )
    both = {"Objects": [{"Key": "home/ann/k"}, {"Key": "home/bob/k"}]}
    gone = ann.delete_objects(Bucket=bucket, Delete=both)
    assert [one["Key"] for one in gone["Deleted"]] == ["home/ann/k"]
    assert [(one["Key"], one["Code"]) for one in gone["Errors"]] == [("home/bob/k", "AccessDenied")]
    listing = {"StringLike": {"s3:prefix": "home/ann/*"}}
    give(
        "list",
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
            "Condition": listing,
        },
    )
    ann.list_objects_v2(Bucket=bucket, Prefix="home/ann/")
    assert code_of(ann.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")


@pytest.mark.parametrize("key", ["s3:ResourceAccount", "aws:ResourceAccount"])
def test_a_condition_on_the_account_of_the_bucket(
    s3: Any, bucket: str, user: Any, key: str
) -> None:
    client, give = user[0], user[-1]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for account, allowed in ((FIRST_ACCOUNT_ID, True), ("123456789012", False)):
        condition = {"StringEquals": {key: account}}
        give("p", {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition})
        if allowed:
            client.get_object(Bucket=bucket, Key="k")
        else:
            assert code_of(client.get_object, Bucket=bucket, Key="k") == (403, "AccessDenied")


def test_a_condition_on_the_place_of_new_buckets(s3: Any, bucket: str, user: Any) -> None:
    client, give = user[0], user[-1]
    region = client.meta.region_name
    where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for wanted, allowed in (("elsewhere-1", False), (region, True)):
        condition = {"StringEquals": {"s3:LocationConstraint": wanted}}
        right = {"Effect": "Allow", "Action": "s3:CreateBucket", "Resource": "*"}
        give("p", {**right, "Condition": condition})
        if allowed:
            client.create_bucket(Bucket=f"{bucket}-new", **where)
            s3.delete_bucket(Bucket=f"{bucket}-new")
        else:
            code = code_of(client.create_bucket, Bucket=f"{bucket}-new", **where)
            assert code == (403, "AccessDenied")


def test_a_bucket_lets_a_user_in(s3: Any, bucket: str, user: Any) -> None:
    ann, _ = user
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="class=open")
    s3.put_object(Bucket=bucket, Key="shut", Body=b"x")
    principal = {"AWS": f"arn:aws:iam::{FIRST_ACCOUNT_ID}:user/ann"}
    tagged = {"StringEquals": {"s3:ExistingObjectTag/class": "open"}}
    put_policy(s3, bucket, statement(bucket, Principal=principal, Condition=tagged))
    assert ann.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert code_of(ann.get_object, Bucket=bucket, Key="shut") == (403, "AccessDenied")


def test_requests_that_a_condition_asks_for(s3: Any, bucket: str) -> None:
    plain = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}
    refuse = {**statement(bucket, "s3:PutObject"), "Effect": "Deny", "Condition": plain}
    put_policy(s3, bucket, refuse)
    assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x") == (403, "AccessDenied")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256")


def test_ownership_and_acls(s3: Any, bucket: str) -> None:
    rules = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": rules})
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="bucket-owner-full-control")
    acl = s3.get_object_acl(Bucket=bucket, Key="k")
    (grant,) = acl["Grants"]
    assert (grant["Permission"], grant["Grantee"]["ID"]) == ("FULL_CONTROL", acl["Owner"]["ID"])
    refused = (400, "AccessControlListNotSupported")
    named = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**named, Body=b"x", ACL="private")  # what holds anyway
    assert s3.get_object_acl(**named)["Grants"] == acl["Grants"]
    assert code_of(s3.put_object, **named, Body=b"x", ACL="public-read") == refused
    assert code_of(s3.put_object_acl, **named, ACL="public-read") == refused
    assert code_of(s3.put_bucket_acl, Bucket=bucket, ACL="public-read-write") == refused
    assert code_of(s3.put_bucket_acl, Bucket=bucket, ACL="private") == refused
    policy = {"Owner": acl["Owner"], "Grants": acl["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
