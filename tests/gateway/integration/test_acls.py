"""ACLs and object ownership over real HTTP, with two accounts."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.tests.gateway.integration.running_gateway import Gateway

DENIED = (403, "AccessDenied")


def code_of(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def anonymous(gateway: Gateway, path: str, *, method: str = "GET", body: bytes = b"") -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/{path}", method=method, data=body or None
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture(scope="module")
def other(plain_gateway: Gateway) -> Iterator[tuple[Any, str]]:
    """A client of another account, and its canonical id."""
    identities = plain_gateway.identities
    account = plain_gateway.call(
        identities.create_account("other", email="other@example.org", uid=21, gid=22)
    )
    key, secret = plain_gateway.call(identities.create_access_key(account.account_id, ""))
    client = plain_gateway.client(keys=(key.access_key, secret))
    yield client, account.canonical_id
    client.close()


@pytest.fixture
def open_bucket(gateway: Gateway, s3: Any, bucket: str) -> str:
    """A bucket in which ACLs count, and file permissions do not."""
    rules = [{"ObjectOwnership": "ObjectWriter"}]
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": rules})
    gateway.call(gateway.meta.set_bucket_setting(bucket, "access-mode", b"policy"))
    return bucket


def test_ownership_controls(s3: Any, bucket: str) -> None:
    for mode in ("ObjectWriter", "BucketOwnerPreferred", "BucketOwnerEnforced"):
        rules = [{"ObjectOwnership": mode}]
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": rules})
        found = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
        assert found == {"Rules": rules}
    wrong = {"Rules": [{"ObjectOwnership": "Nobody"}]}
    refused = code_of(s3.put_bucket_ownership_controls, Bucket=bucket, OwnershipControls=wrong)
    assert refused == (400, "MalformedXML")
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    found = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert found == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


def test_acls_are_not_switched_off_while_they_open_something(s3: Any, open_bucket: str) -> None:
    s3.put_bucket_acl(Bucket=open_bucket, ACL="public-read")
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    arguments = {"Bucket": open_bucket, "OwnershipControls": enforced}
    refused = (400, "InvalidBucketAclWithObjectOwnership")
    assert code_of(s3.put_bucket_ownership_controls, **arguments) == refused
    s3.put_bucket_acl(Bucket=open_bucket, ACL="private")
    s3.put_bucket_ownership_controls(**arguments)


def test_a_new_bucket_has_the_acl_of_its_headers(s3: Any, other: tuple[Any, str]) -> None:
    refused = (400, "InvalidBucketAclWithObjectOwnership")
    assert code_of(s3.create_bucket, Bucket="acl-new", ACL="public-read") == refused
    s3.create_bucket(
        Bucket="acl-new",
        ObjectOwnership="BucketOwnerPreferred",
        GrantRead=f'id="{other[1]}"',
        GrantFullControl='emailAddress="other@example.org"',
    )
    grants = s3.get_bucket_acl(Bucket="acl-new")["Grants"]
    assert {(one["Grantee"]["ID"], one["Permission"]) for one in grants} == {
        (other[1], "READ"),
        (other[1], "FULL_CONTROL"),
    }
    assert {one["Grantee"]["DisplayName"] for one in grants} == {"other"}
    s3.delete_bucket(Bucket="acl-new")


def test_what_a_bucket_acl_gives(s3: Any, open_bucket: str, other: tuple[Any, str]) -> None:
    client, canonical_id = other
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"x")
    assert code_of(client.list_objects_v2, Bucket=open_bucket) == DENIED
    s3.put_bucket_acl(Bucket=open_bucket, GrantRead=f"id={canonical_id}")
    assert client.list_objects_v2(Bucket=open_bucket)["KeyCount"] == 1
    assert code_of(client.get_object, Bucket=open_bucket, Key="k") == DENIED
    assert code_of(client.get_object, Bucket=open_bucket, Key="missing") == (404, "NoSuchKey")
    assert code_of(client.put_object, Bucket=open_bucket, Key="n", Body=b"") == DENIED
    assert code_of(client.get_bucket_acl, Bucket=open_bucket) == DENIED
    s3.put_bucket_acl(Bucket=open_bucket, GrantWrite=f"id={canonical_id}")
    assert code_of(client.get_object, Bucket=open_bucket, Key="missing") == DENIED
    client.put_object(Bucket=open_bucket, Key="theirs", Body=b"y")
    assert code_of(client.list_objects_v2, Bucket=open_bucket) == DENIED
    # What somebody else put is theirs: the bucket's owner sees that it is there, and may remove it.
    listed = s3.list_objects_v2(Bucket=open_bucket, FetchOwner=True)["Contents"]
    assert [(one["Key"], one["Owner"]["ID"] == canonical_id) for one in listed] == [
        ("k", False),
        ("theirs", True),
    ]
    assert code_of(s3.get_object, Bucket=open_bucket, Key="theirs") == DENIED
    assert client.get_object(Bucket=open_bucket, Key="theirs")["Body"].read() == b"y"
    client.put_object_acl(Bucket=open_bucket, Key="theirs", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=open_bucket, Key="theirs")["Body"].read() == b"y"
    s3.delete_object(Bucket=open_bucket, Key="theirs")


def test_what_an_object_acl_gives(
    gateway: Gateway, s3: Any, open_bucket: str, other: tuple[Any, str]
) -> None:
    client, canonical_id = other
    named = {"Bucket": open_bucket, "Key": "k"}
    s3.put_object(**named, Body=b"x", ACL="public-read")
    assert anonymous(gateway, f"{open_bucket}/k") == 200
    assert anonymous(gateway, f"{open_bucket}/k", method="DELETE") == 403
    assert anonymous(gateway, f"{open_bucket}/k?acl") == 403
    s3.put_object_acl(**named, ACL="authenticated-read")
    assert anonymous(gateway, f"{open_bucket}/k") == 403
    assert client.get_object(**named)["Body"].read() == b"x"
    s3.put_object_acl(**named, GrantReadACP=f"id={canonical_id}")
    assert code_of(client.get_object, **named) == DENIED
    assert client.get_object_acl(**named)["Grants"][0]["Permission"] == "READ_ACP"
    assert code_of(client.put_object_acl, **named, ACL="public-read") == DENIED
    copied = s3.copy_object(
        **{**named, "Key": "copy"}, CopySource={"Bucket": open_bucket, "Key": "k"}
    )
    assert copied["CopyObjectResult"]["ETag"]
    (grant,) = s3.get_object_acl(**{**named, "Key": "copy"})["Grants"]
    assert grant["Permission"] == "FULL_CONTROL"


def test_uploads_in_parts_are_theirs_who_began_them(
    s3: Any, open_bucket: str, other: tuple[Any, str]
) -> None:
    client, canonical_id = other
    s3.put_bucket_acl(Bucket=open_bucket, GrantWrite=f"id={canonical_id}")
    named = {"Bucket": open_bucket, "Key": "parts"}
    upload = client.create_multipart_upload(**named, ACL="public-read")["UploadId"]
    part = client.upload_part(**named, UploadId=upload, PartNumber=1, Body=b"x")
    assert client.list_parts(**named, UploadId=upload)["Owner"]["ID"] == canonical_id
    own = s3.create_multipart_upload(Bucket=open_bucket, Key="own")["UploadId"]
    listed = s3.list_multipart_uploads(Bucket=open_bucket)["Uploads"]
    assert [(one["Key"], one["Owner"]["ID"] == canonical_id) for one in listed] == [
        ("own", False),
        ("parts", True),
    ]
    s3.abort_multipart_upload(Bucket=open_bucket, Key="own", UploadId=own)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**named, UploadId=upload, MultipartUpload=parts)
    acl = client.get_object_acl(**named)
    assert acl["Owner"]["ID"] == canonical_id
    assert [one["Permission"] for one in acl["Grants"]] == ["READ", "FULL_CONTROL"]


def test_preferred_gives_objects_over(s3: Any, open_bucket: str, other: tuple[Any, str]) -> None:
    client, canonical_id = other
    s3.put_bucket_ownership_controls(
        Bucket=open_bucket,
        OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
    )
    s3.put_bucket_acl(Bucket=open_bucket, GrantWrite=f"id={canonical_id}")
    for key, acl in (("given", "bucket-owner-full-control"), ("kept", "private")):
        client.put_object(Bucket=open_bucket, Key=key, Body=b"x", ACL=acl)
    assert s3.get_object_acl(Bucket=open_bucket, Key="given")["Owner"]["ID"] != canonical_id
    assert code_of(s3.get_object_acl, Bucket=open_bucket, Key="kept") == DENIED
    assert code_of(client.get_object, Bucket=open_bucket, Key="given") == DENIED


def test_acls_that_are_none(s3: Any, open_bucket: str) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"x")
    named = {"Bucket": open_bucket, "Key": "k"}
    invalid = (400, "InvalidArgument")
    assert code_of(s3.put_object_acl, **named, ACL="everybody") == invalid
    assert code_of(s3.put_object_acl, **named, GrantRead="id=" + "0" * 64) == invalid
    assert code_of(s3.put_object_acl, **named, GrantRead="id=short") == invalid
    assert code_of(s3.put_object_acl, **named, GrantRead="uri=http://example.org/all") == invalid
    assert code_of(s3.put_object_acl, **named, GrantRead="emailAddress=no@example.org") == (
        400,
        "UnresolvableGrantByEmailAddress",
    )
    both = {"ACL": "private", "GrantRead": "uri=x"}
    assert code_of(s3.put_object_acl, **named, **both) == (400, "InvalidRequest")
    owner = s3.get_object_acl(**named)["Owner"]
    stranger = {"Owner": {"ID": "0" * 64}, "Grants": []}
    assert code_of(s3.put_object_acl, **named, AccessControlPolicy=stranger) == DENIED
    odd = {"Grantee": {"Type": "CanonicalUser", "ID": owner["ID"]}, "Permission": "EVERYTHING"}
    policy = {"Owner": owner, "Grants": [odd]}
    refused = code_of(s3.put_object_acl, **named, AccessControlPolicy=policy)
    assert refused == (400, "MalformedACLError")
    many = {"Owner": owner, "Grants": [{**odd, "Permission": "READ"}] * 101}
    refused = code_of(s3.put_object_acl, **named, AccessControlPolicy=many)
    assert refused == (400, "MalformedACLError")


def test_public_acls_are_blocked_and_ignored(gateway: Gateway, s3: Any, open_bucket: str) -> None:
    named = {"Bucket": open_bucket, "Key": "k"}
    s3.put_object(**named, Body=b"x", ACL="public-read")
    assert anonymous(gateway, f"{open_bucket}/k") == 200
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
    s3.put_public_access_block(Bucket=open_bucket, PublicAccessBlockConfiguration=block)
    assert anonymous(gateway, f"{open_bucket}/k") == 403
    assert code_of(s3.put_object, **named, Body=b"x", ACL="public-read") == DENIED
    assert code_of(s3.put_object_acl, **named, ACL="public-read") == DENIED
    assert code_of(s3.put_bucket_acl, Bucket=open_bucket, ACL="public-read-write") == DENIED
    s3.delete_public_access_block(Bucket=open_bucket)
    assert anonymous(gateway, f"{open_bucket}/k") == 200


def test_what_nobody_puts_is_the_bucket_owners(gateway: Gateway, s3: Any, open_bucket: str) -> None:
    assert anonymous(gateway, f"{open_bucket}/new", method="PUT", body=b"x") == 403
    s3.put_bucket_acl(Bucket=open_bucket, ACL="public-read-write")
    assert anonymous(gateway, f"{open_bucket}/new", method="PUT", body=b"x") == 200
    assert anonymous(gateway, f"{open_bucket}/new") == 403
    assert s3.get_object(Bucket=open_bucket, Key="new")["Body"].read() == b"x"
    assert s3.get_bucket_policy_status(Bucket=open_bucket)["PolicyStatus"]["IsPublic"]
