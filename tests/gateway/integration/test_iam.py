"""The IAM and STS APIs, by boto3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway

ROOT_ARN = f"arn:aws:iam::{FIRST_ACCOUNT_ID}:root"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::a b/*"}],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ROOT_ARN},
            "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
        }
    ],
}
OTHER = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}],
}


@pytest.fixture
def iam(gateway: Gateway) -> Iterator[Any]:
    client = gateway.client(service="iam")
    yield client
    client.close()


def code_of(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_life_of_a_user(iam: Any) -> None:
    made = iam.create_user(
        UserName="alice", Path="/staff/", Tags=[{"Key": "team", "Value": "<a&b>"}]
    )["User"]
    assert made["Arn"] == f"arn:aws:iam::{FIRST_ACCOUNT_ID}:user/staff/alice"
    assert made["UserId"].startswith("AIDA")
    assert len(made["UserId"]) == 21
    assert iam.get_user(UserName="ALICE")["User"] == made
    assert code_of(iam.create_user, UserName="Alice") == (409, "EntityAlreadyExists")
    assert code_of(iam.get_user, UserName="nobody") == (404, "NoSuchEntity")
    assert code_of(iam.create_user, UserName="a b") == (400, "ValidationError")
    iam.tag_user(UserName="alice", Tags=[{"Key": "site", "Value": "x"}])
    iam.untag_user(UserName="alice", TagKeys=["team"])
    assert iam.list_user_tags(UserName="alice")["Tags"] == [{"Key": "site", "Value": "x"}]
    iam.put_user_policy(UserName="alice", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    assert iam.get_user_policy(UserName="alice", PolicyName="p")["PolicyDocument"] == POLICY
    assert iam.list_user_policies(UserName="alice")["PolicyNames"] == ["p"]
    assert code_of(iam.delete_user, UserName="alice") == (409, "DeleteConflict")
    iam.delete_user_policy(UserName="alice", PolicyName="p")
    iam.update_user(UserName="alice", NewUserName="bob", NewPath="/")
    assert iam.get_user(UserName="bob")["User"]["UserId"] == made["UserId"]
    iam.delete_user(UserName="bob")
    assert code_of(iam.delete_user, UserName="bob") == (404, "NoSuchEntity")


def test_who_names_no_user_means_himself(iam: Any) -> None:
    me = iam.get_user()["User"]
    assert me["Arn"] == ROOT_ARN
    key = iam.create_access_key()["AccessKey"]
    listed = iam.list_access_keys()["AccessKeyMetadata"]
    assert [one["AccessKeyId"] for one in listed] == [key["AccessKeyId"]]
    iam.delete_access_key(AccessKeyId=key["AccessKeyId"])
    assert iam.list_access_keys()["AccessKeyMetadata"] == []


def test_keys_work_at_once_and_no_longer(gateway: Gateway, iam: Any) -> None:
    iam.create_user(UserName="keyed")
    key = iam.create_access_key(UserName="keyed")["AccessKey"]
    sts = gateway.client(service="sts", keys=(key["AccessKeyId"], key["SecretAccessKey"]))
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{FIRST_ACCOUNT_ID}:user/keyed"
    iam.update_access_key(UserName="keyed", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert code_of(sts.get_caller_identity) == (403, "InvalidClientTokenId")
    iam.update_access_key(UserName="keyed", AccessKeyId=key["AccessKeyId"], Status="Active")
    sts.get_caller_identity()
    assert iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["UserName"] == "keyed"
    assert code_of(iam.delete_user, UserName="keyed") == (409, "DeleteConflict")
    iam.delete_access_key(UserName="keyed", AccessKeyId=key["AccessKeyId"])
    assert code_of(sts.get_caller_identity) == (403, "InvalidClientTokenId")
    iam.delete_user(UserName="keyed")
    sts.close()


def test_listings_in_pages(iam: Any) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        iam.create_user(UserName=name, Path="/pages/")
    pages = list(
        iam.get_paginator("list_users").paginate(
            PathPrefix="/pages/", PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["Users"]) for page in pages] == [2, 2, 1]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    for name in names:
        iam.delete_user(UserName=name)


def test_groups(iam: Any) -> None:
    iam.create_user(UserName="member")
    made = iam.create_group(GroupName="crew", Path="/g/")["Group"]
    assert made["Arn"].endswith(":group/g/crew")
    iam.add_user_to_group(GroupName="crew", UserName="member")
    iam.add_user_to_group(GroupName="crew", UserName="member")
    assert [one["UserName"] for one in iam.get_group(GroupName="crew")["Users"]] == ["member"]
    groups = iam.list_groups_for_user(UserName="member")["Groups"]
    assert [one["GroupName"] for one in groups] == ["crew"]
    iam.put_group_policy(GroupName="crew", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    assert code_of(iam.delete_group, GroupName="crew") == (409, "DeleteConflict")
    iam.update_group(GroupName="crew", NewGroupName="team")
    assert [one["GroupName"] for one in iam.list_groups(PathPrefix="/g/")["Groups"]] == ["team"]
    iam.delete_group_policy(GroupName="team", PolicyName="p")
    iam.remove_user_from_group(GroupName="team", UserName="member")
    iam.delete_group(GroupName="team")
    iam.delete_user(UserName="member")


def test_managed_policies(iam: Any) -> None:
    arn = iam.create_policy(
        PolicyName="managed", PolicyDocument=json.dumps(POLICY), Description="d"
    )["Policy"]["Arn"]
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.attach_role_policy(RoleName="worker", PolicyArn=arn)
    attached = iam.list_attached_role_policies(RoleName="worker")["AttachedPolicies"]
    assert attached == [{"PolicyName": "managed", "PolicyArn": arn}]
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    roles = iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]
    assert [one["RoleName"] for one in roles] == ["worker"]
    assert code_of(iam.delete_policy, PolicyArn=arn) == (409, "DeleteConflict")
    version = iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=json.dumps(OTHER), SetAsDefault=True
    )["PolicyVersion"]
    assert (version["VersionId"], version["IsDefaultVersion"]) == ("v2", True)
    shown = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert shown["Document"] == POLICY
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    listed = iam.list_policies(Scope="Local")["Policies"]
    assert [one["PolicyName"] for one in listed] == ["managed"]
    everything = [
        one["PolicyName"]
        for page in iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 1})
        for one in page["Policies"]
    ]
    assert everything[0] == "managed"
    assert "AmazonS3FullAccess" in everything
    iam.detach_role_policy(RoleName="worker", PolicyArn=arn)
    assert code_of(iam.detach_role_policy, RoleName="worker", PolicyArn=arn)[1] == "NoSuchEntity"
    iam.delete_policy(PolicyArn=arn)
    iam.delete_role(RoleName="worker")


def test_what_terraform_reads_of_a_role(iam: Any) -> None:
    iam.create_role(
        RoleName="tf",
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Description="a role",
        MaxSessionDuration=7200,
        Tags=[{"Key": "k", "Value": "v"}],
    )
    role = iam.get_role(RoleName="tf")["Role"]
    assert role["AssumeRolePolicyDocument"] == TRUST
    assert (role["Description"], role["MaxSessionDuration"]) == ("a role", 7200)
    assert role["Tags"] == [{"Key": "k", "Value": "v"}]
    iam.update_assume_role_policy(RoleName="tf", PolicyDocument=json.dumps(TRUST))
    iam.update_role(RoleName="tf", Description="changed")
    role = iam.get_role(RoleName="tf")["Role"]
    assert (role["Description"], role["MaxSessionDuration"]) == ("changed", 7200)
    assert iam.list_role_policies(RoleName="tf")["PolicyNames"] == []
    assert iam.list_instance_profiles_for_role(RoleName="tf")["InstanceProfiles"] == []
    iam.delete_role(RoleName="tf")


def test_what_terraform_reads_of_a_user(iam: Any) -> None:
    iam.create_user(UserName="tf")
    assert iam.list_mfa_devices(UserName="tf")["MFADevices"] == []
    assert iam.list_ssh_public_keys(UserName="tf")["SSHPublicKeys"] == []
    assert iam.list_signing_certificates(UserName="tf")["Certificates"] == []
    assert iam.list_service_specific_credentials(UserName="tf")["ServiceSpecificCredentials"] == []
    assert code_of(iam.get_login_profile, UserName="tf") == (404, "NoSuchEntity")
    iam.delete_user(UserName="tf")
    assert iam.get_account_summary()["SummaryMap"]["GroupsPerUserQuota"] == 10
    assert iam.list_account_aliases()["AccountAliases"] == []


def test_policies_that_are_none(iam: Any) -> None:
    iam.create_user(UserName="wrong")
    for document in ("{", "[]", "{}", '{"Statement": []}', '{"Statement": "x"}', "\u20ac"):
        answer = code_of(
            iam.put_user_policy, UserName="wrong", PolicyName="p", PolicyDocument=document
        )
        assert answer == (400, "MalformedPolicyDocument")
    iam.delete_user(UserName="wrong")


def test_users_and_other_accounts_may_do_nothing_by_themselves(gateway: Gateway, iam: Any) -> None:
    iam.create_user(UserName="powerless")
    key = iam.create_access_key(UserName="powerless")["AccessKey"]
    theirs = gateway.client(service="iam", keys=(key["AccessKeyId"], key["SecretAccessKey"]))
    assert code_of(theirs.list_users) == (403, "AccessDenied")
    other = gateway.call(gateway.identities.create_account("other"))
    made, secret = gateway.call(gateway.identities.create_access_key(other.account_id, ""))
    foreign = gateway.client(service="iam", keys=(made.access_key, secret))
    assert foreign.list_users()["Users"] == []
    assert code_of(foreign.get_user, UserName="powerless") == (404, "NoSuchEntity")
    iam.delete_access_key(UserName="powerless", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="powerless")
    gateway.call(gateway.identities.delete_account(other.account_id))
    theirs.close()
    foreign.close()


def test_session_tokens(gateway: Gateway, bucket: str) -> None:
    sts = gateway.client(service="sts")
    given = sts.get_session_token(DurationSeconds=900)["Credentials"]
    keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    s3 = gateway.client(keys=keys)
    s3.put_object(Bucket=bucket, Key="k", Body=b"by session")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"by session"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert "X-Amz-Security-Token" in url
    with RawClient(gateway) as raw:
        raw.send(f"GET {url[len(gateway.url) :]} HTTP/1.1\r\nHost: {gateway.host}\r\n\r\n".encode())
        assert raw.answer().status == 200
    again = gateway.client(service="sts", keys=keys)
    assert code_of(again.get_session_token) == (403, "AccessDenied")
    without = gateway.client(keys=keys[:2])
    assert code_of(without.get_object, Bucket=bucket, Key="k") == (403, "InvalidAccessKeyId")
    changed = gateway.client(keys=(*keys[:2], keys[2][:-8] + "AAAAAAA="))
    assert code_of(changed.get_object, Bucket=bucket, Key="k") == (400, "InvalidToken")
    for client in (sts, s3, again, without, changed):
        client.close()


def test_roles_are_assumed(gateway: Gateway, iam: Any, bucket: str) -> None:
    made = iam.create_role(RoleName="actor", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    sts = gateway.client(service="sts")
    answer = sts.assume_role(
        RoleArn=made["Arn"],
        RoleSessionName="job",
        Policy=json.dumps(POLICY),
        SourceIdentity="me@example",
        Tags=[{"Key": "t", "Value": "v"}],
    )
    assert answer["AssumedRoleUser"] == {
        "AssumedRoleId": f"{made['RoleId']}:job",
        "Arn": f"arn:aws:sts::{FIRST_ACCOUNT_ID}:assumed-role/actor/job",
    }
    assert answer["SourceIdentity"] == "me@example"
    given = answer["Credentials"]
    keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    acting = gateway.client(service="sts", keys=keys)
    who = acting.get_caller_identity()
    assert who["Arn"] == answer["AssumedRoleUser"]["Arn"]
    assert who["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    for wrong in ("nobody", "Actor/x"):
        arn = f"arn:aws:iam::{FIRST_ACCOUNT_ID}:role/{wrong}"
        arguments = {"RoleArn": arn, "RoleSessionName": "job"}
        assert code_of(sts.assume_role, **arguments) == (403, "AccessDenied")
    long = {"RoleArn": made["Arn"], "RoleSessionName": "job", "DurationSeconds": 7200}
    assert code_of(sts.assume_role, **long) == (400, "ValidationError")
    iam.delete_role(RoleName="actor")
    assert code_of(acting.get_caller_identity) == (403, "InvalidClientTokenId")
    sts.close()
    acting.close()


def test_calls_that_are_none(raw: RawClient, gateway: Gateway) -> None:
    def answer(body: str) -> tuple[int, str]:
        raw.send(
            (
                f"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        found = raw.answer()
        return found.status, found.code

    assert answer("") == (400, "ValidationError")
    assert answer("Action=Nothing") == (400, "InvalidAction")
    assert answer("Action=ListUsers") == (403, "MissingAuthenticationToken")
    assert answer("Action=%ff") == (400, "MalformedInput")
    assert answer("&".join(f"a{number}=b" for number in range(600))) == (400, "MalformedInput")


def test_accounts_see_their_own_buckets_only(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    other = gateway.call(gateway.identities.create_account("buckets"))
    made, secret = gateway.call(gateway.identities.create_access_key(other.account_id, ""))
    theirs = gateway.client(keys=(made.access_key, secret))
    assert theirs.list_buckets()["Buckets"] == []
    assert code_of(theirs.get_object, Bucket=bucket, Key="k") == (403, "AccessDenied")
    assert code_of(theirs.list_objects_v2, Bucket=bucket) == (403, "AccessDenied")
    region = {"LocationConstraint": s3.meta.region_name}
    again = code_of(theirs.create_bucket, Bucket=bucket, CreateBucketConfiguration=region)
    assert again == (409, "BucketAlreadyExists")
    theirs.create_bucket(Bucket="of-another-account", CreateBucketConfiguration=region)
    listed = theirs.list_buckets()
    assert [one["Name"] for one in listed["Buckets"]] == ["of-another-account"]
    assert listed["Owner"] == {"ID": other.canonical_id, "DisplayName": "buckets"}
    source = {"Bucket": bucket, "Key": "k"}
    stolen = {"Bucket": "of-another-account", "Key": "k", "CopySource": source}
    assert code_of(theirs.copy_object, **stolen) == (403, "AccessDenied")
    theirs.put_object(Bucket="of-another-account", Key="k", Body=b"theirs")
    theirs.delete_object(Bucket="of-another-account", Key="k")
    theirs.delete_bucket(Bucket="of-another-account")
    theirs.close()
