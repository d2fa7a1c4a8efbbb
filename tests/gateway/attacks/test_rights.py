"""Rights that somebody takes who was not given them: policies that can be read in two ways, sources
of copies, buckets that come back, ids of something else, locks, and IAM itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from craqen.core.access.decide import Policies, Request, decide
from craqen.core.access.errors import PolicyError
from craqen.core.access.patterns import Pattern, matches_glob
from craqen.core.access.policy import Asker, Effect, parse_bucket_policy, parse_identity_policy
from craqen.core.errors import NotFoundError, ObjectLockedError, PermissionDeniedError
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.core.ids import ROOT_INODE_ID
from craqen.tests.gateway.attacks.attack_support import code_of, new_bucket, open_to_all
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway

OWNER, OTHER = "111111111111", "222222222222"
ANN = Asker(OWNER, (f"arn:aws:iam::{OWNER}:user/ann",))
EVE = Asker(OTHER, (f"arn:aws:iam::{OTHER}:user/eve",))
NewUser = Callable[..., Any]


def asked(
    asker: Asker,
    document: Any,
    resource: str = "arn:aws:s3:::b/k",
    action: str = "s3:GetObject",
    **context: Any,
) -> Effect:
    """What *document*, a policy of the asker's own, lets it do."""
    text = document if isinstance(document, str) else json.dumps({"Statement": document})
    keys = {name.replace("__", ":"): (value,) for name, value in context.items()}
    own = Policies((parse_identity_policy(text),))
    return decide(Request(asker, action, resource, keys.get, OWNER), own)


class TestPolicies:
    @pytest.mark.parametrize(
        "text",
        [
            '{"Statement":[{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}]}',
            '{"Statement":[{"Effect":"Allow","Action":"s3:X","Action":"*","Resource":"*"}]}',
            '{"Statement":[],"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
            '{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}',
            '{"Statement":{"Effect":["Allow"],"Action":"*","Resource":"*"}}',
            '{"Statement":{"Effect":true,"Action":"*","Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":{"a":"*"},"Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":[["*"]],"Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":1,"Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":"*","NotAction":"s3:X","Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","condition":{}}}',
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":[]}}',
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"No":{}}}}',
            '{"Statement":{"effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"}}',
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}',
        ],
    )
    def test_documents_with_two_meanings_are_refused(self, text: str) -> None:
        with pytest.raises(PolicyError):
            parse_identity_policy(text)

    @pytest.mark.parametrize(
        "principal",
        [
            {"NotPrincipal": {"AWS": f"arn:aws:iam::{OWNER}:user/ann"}},
            {"Principal": {"AWS": ["arn:aws:iam::*:user/ann"]}},
            {"Principal": {"AWS": f"arn:aws:iam::{OWNER}:user/a*"}},
            {"Principal": "arn:aws:iam::*"},
            {"Principal": {"*": "*"}},
            {},
        ],
    )
    def test_principals_that_mean_more_than_they_say(self, principal: Any) -> None:
        """Allow with NotPrincipal, or wildcards in an ARN, would open a bucket to strangers."""
        statement = {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/*", **principal}
        text = json.dumps({"Statement": statement})
        try:
            policy = parse_bucket_policy(text, "b")
        except PolicyError:
            return
        request = Request(EVE, "s3:GetObject", "arn:aws:s3:::b/k", lambda _: None, OWNER)
        everything = parse_identity_policy(
            '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'
        )
        assert decide(request, Policies((everything,), None, None, policy)) is not Effect.ALLOW

    def test_case_decides_where_it_should(self) -> None:
        allow = {"Effect": "Allow", "Action": "S3:getobject", "Resource": "arn:aws:s3:::b/Key"}
        assert asked(ANN, allow, "arn:aws:s3:::b/Key") is Effect.ALLOW
        assert asked(ANN, allow, "arn:aws:s3:::b/key") is Effect.NOTHING
        deny = [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "s3:GETOBJECT", "Resource": "*"},
        ]
        assert asked(ANN, deny) is Effect.DENY

    @pytest.mark.parametrize("name", ["*", "a*", "?nn", "${aws:username}", "ann/../eve", "[a-z]*"])
    def test_what_a_variable_holds_is_no_pattern(self, name: str) -> None:
        own = {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::b/home/${aws:username}/*",
            "Condition": {"StringLike": {"s3:prefix": "home/${aws:username}/*"}},
        }
        for victim in ("ann", "eve", "abc"):
            place = f"arn:aws:s3:::b/home/{victim}/k"
            context = {"aws__username": name, "s3__prefix": f"home/{victim}/"}
            assert asked(ANN, own, place, **context) is Effect.NOTHING
        place = f"arn:aws:s3:::b/home/{name}/k"
        context = {"aws__username": name, "s3__prefix": f"home/{name}/"}
        assert asked(ANN, own, place, **context) is Effect.ALLOW
        assert not Pattern("x/${aws:username}").matches("x/eve", lambda _: name)

    def test_a_variable_that_is_not_there_fits_nothing(self) -> None:
        own = {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/${aws:username}*"}
        for key in ("", "k", "${aws:username}"):
            assert asked(ANN, own, f"arn:aws:s3:::b/{key}") is Effect.NOTHING

    def test_nested_conditions_do_not_take_for_ever(self) -> None:
        began = time.process_time()
        assert not matches_glob("a" * 20_000, "*a" * 5_000 + "b")
        assert not Pattern("*a?" * 3_000 + "c").matches("a" * 20_000, lambda _: None)
        assert time.process_time() - began < 5

    def test_users_have_no_names_that_are_patterns(self, iam: Any) -> None:
        for name in ("*", "a*", "a?", "${aws:username}", "a/b", "a:b", "ann\n"):
            assert code_of(iam.create_user, UserName=name) == "ValidationError"


class TestCopies:
    def test_the_source_must_be_readable(
        self, s3: Any, new_user: NewUser, bucket: str, raw: RawClient
    ) -> None:
        """Who may write somewhere does not read elsewhere by it."""
        s3.put_object(Bucket=bucket, Key="secret", Body=b"the secret")
        target = new_bucket(s3)
        open_to_all(s3, target)
        user = new_user("s3:PutObject")
        source = f"{bucket}/secret"
        for copied in (source, f"/{source}", f"{bucket}%2Fsecret", f"{source}?versionId=null"):
            named = {"Bucket": target, "Key": "out", "CopySource": copied}
            assert code_of(user.copy_object, **named) in ("AccessDenied", "InvalidArgument")
        upload = user.create_multipart_upload(Bucket=target, Key="out")["UploadId"]
        part = {"UploadId": upload, "PartNumber": 1, "Bucket": target, "Key": "out"}
        assert code_of(user.upload_part_copy, **part, CopySource=source) == "AccessDenied"
        raw.send(
            f"PUT /{target}/out HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n"
            f"x-amz-copy-source: /{source}\r\n\r\n".encode()
        )
        assert raw.answer().status == 403
        assert "Contents" not in s3.list_objects_v2(Bucket=target)

    def test_renaming_needs_rights_on_both_names(
        self, s3: Any, new_user: NewUser, bucket: str
    ) -> None:
        s3.put_object(Bucket=bucket, Key="secret/k", Body=b"the secret")
        place = f"arn:aws:s3:::{bucket}/mine/*"
        user = new_user(document={"Effect": "Allow", "Action": "s3:*", "Resource": place})
        for key, source in (("mine/k", "secret/k"), ("mine/f/", "secret/")):
            named = {"Bucket": bucket, "Key": key, "RenameSource": source}
            assert code_of(user.rename_object, **named) == "AccessDenied"
        assert s3.get_object(Bucket=bucket, Key="secret/k")["Body"].read() == b"the secret"

    def test_the_expected_owner_is_checked_of_both(self, s3: Any, bucket: str) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            named = {"Bucket": bucket, "Key": "c", "CopySource": f"{bucket}/k", name: OTHER}
            assert code_of(s3.copy_object, **named) == "AccessDenied"


class TestBuckets:
    def test_one_that_comes_back_is_another(self, s3: Any, stranger: Any, raw: RawClient) -> None:
        """Nothing of what its former namesake allowed, or was, is left: not in this worker's memory
        either."""
        bucket = new_bucket(s3)
        open_to_all(s3, bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=b"old")
        url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
        upload = s3.create_multipart_upload(Bucket=bucket, Key="up")["UploadId"]
        request = f"GET /{bucket}/k HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        raw.send(request)
        assert raw.answer().body == b"old"
        s3.delete_object(Bucket=bucket, Key="k")
        s3.delete_bucket(Bucket=bucket)
        stranger.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-test-1"}
        )
        stranger.put_object(Bucket=bucket, Key="k", Body=b"new")
        raw.send(request)
        assert raw.answer().status == 403
        assert code_of(stranger.get_bucket_policy, Bucket=bucket) == "NoSuchBucketPolicy"
        named = {"Bucket": bucket, "Key": "up", "UploadId": upload}
        assert code_of(stranger.list_parts, **named) == "NoSuchUpload"
        expected = {"Bucket": bucket, "Key": "k", "ExpectedBucketOwner": FIRST_ACCOUNT_ID}
        assert code_of(s3.get_object, **expected) == "AccessDenied"
        assert "X-Amz-Signature" in url

    def test_a_taken_name_is_not_given_again(self, s3: Any, stranger: Any, bucket: str) -> None:
        where = {"LocationConstraint": "eu-test-1"}
        taken = {"Bucket": bucket, "CreateBucketConfiguration": where}
        assert code_of(stranger.create_bucket, **taken) == "BucketAlreadyExists"
        assert code_of(stranger.list_objects_v2, Bucket=bucket) == "AccessDenied"
        assert bucket not in [one["Name"] for one in stranger.list_buckets()["Buckets"]]
        assert code_of(stranger.delete_bucket, Bucket=bucket) == "AccessDenied"
        assert code_of(stranger.put_bucket_policy, Bucket=bucket, Policy="{}") == "AccessDenied"
        assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]


class TestIdsOfSomethingElse:
    def test_versions(self, s3: Any, bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        other = new_bucket(s3)
        s3.put_bucket_versioning(Bucket=other, VersioningConfiguration={"Status": "Enabled"})
        secret = s3.put_object(Bucket=bucket, Key="secret", Body=b"1")["VersionId"]
        s3.put_object(Bucket=bucket, Key="k", Body=b"2")
        for place, key in ((bucket, "k"), (other, "secret"), (other, "k")):
            named = {"Bucket": place, "Key": key, "VersionId": secret}
            assert code_of(s3.get_object, **named) in ("NoSuchVersion", "NoSuchKey")
            s3.delete_object(**named)
        assert s3.get_object(Bucket=bucket, Key="secret")["Body"].read() == b"1"

    def test_one_version_needs_a_right_of_its_own(
        self, s3: Any, new_user: NewUser, bucket: str
    ) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        old = s3.put_object(Bucket=bucket, Key="k", Body=b"old")["VersionId"]
        s3.put_object(Bucket=bucket, Key="k", Body=b"new")
        user = new_user("s3:GetObject", "s3:DeleteObject")
        named = {"Bucket": bucket, "Key": "k", "VersionId": old}
        assert code_of(user.get_object, **named) == "AccessDenied"
        assert code_of(user.delete_object, **named) == "AccessDenied"
        source = {"Bucket": bucket, "Key": "k", "VersionId": old}
        assert code_of(user.copy_object, Bucket=bucket, Key="c", CopySource=source) == (
            "AccessDenied"
        )
        several = {"Objects": [{"Key": "k", "VersionId": old}]}
        answer = user.delete_objects(Bucket=bucket, Delete=several)
        assert [one["Code"] for one in answer["Errors"]] == ["AccessDenied"]

    def test_uploads(self, s3: Any, bucket: str) -> None:
        other = new_bucket(s3)
        upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
        for place, key in ((bucket, "b"), (other, "a")):
            named = {"Bucket": place, "Key": key, "UploadId": upload}
            assert code_of(s3.upload_part, **named, PartNumber=1, Body=b"x") == "NoSuchUpload"
            assert code_of(s3.list_parts, **named) == "NoSuchUpload"
            assert code_of(s3.abort_multipart_upload, **named) == "NoSuchUpload"
        s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"x")

    def test_continuation_tokens(self, s3: Any, new_user: NewUser, bucket: str) -> None:
        """A token says where to go on, not in which bucket, nor with which rights."""
        for key in ("a", "b", "secret/c"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        token = s3.list_objects_v2(Bucket=bucket, MaxKeys=1)["NextContinuationToken"]
        other = new_bucket(s3)
        s3.put_object(Bucket=other, Key="z", Body=b"")
        page = s3.list_objects_v2(Bucket=other, ContinuationToken=token)
        assert [one["Key"] for one in page["Contents"]] == ["z"]
        only = {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": "*",
            "Condition": {"StringEquals": {"s3:prefix": "a"}},
        }
        user = new_user(document=only)
        named = {"Bucket": bucket, "ContinuationToken": token}
        assert code_of(user.list_objects_v2, **named) == "AccessDenied"
        listed = user.list_objects_v2(**named, Prefix="a")
        assert "Contents" not in listed


class TestLocks:
    @pytest.fixture
    def locked(self, s3: Any) -> tuple[str, str]:
        """A bucket, and the version of its object ``k``, which nobody may remove."""
        bucket = new_bucket(s3, ObjectLockEnabledForBucket=True)
        until = datetime.now(UTC) + timedelta(days=1)
        version = s3.put_object(
            Bucket=bucket,
            Key="k",
            Body=b"kept",
            ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate=until,
            ChecksumAlgorithm="CRC32",
        )["VersionId"]
        return bucket, version

    def test_no_way_around_a_lock(self, s3: Any, gateway: Gateway, locked: tuple[str, str]) -> None:
        bucket, version = locked
        named = {"Bucket": bucket, "Key": "k", "VersionId": version}
        assert code_of(s3.delete_object, **named) == "AccessDenied"
        s3.put_object(Bucket=bucket, Key="k", Body=b"over")
        s3.delete_object(Bucket=bucket, Key="k")
        suspended = {"Bucket": bucket, "VersioningConfiguration": {"Status": "Suspended"}}
        assert code_of(s3.put_bucket_versioning, **suspended) == "InvalidBucketState"
        several = {"Objects": [{"Key": "k", "VersionId": version}]}
        answer = s3.delete_objects(Bucket=bucket, Delete=several)
        assert [one["Code"] for one in answer["Errors"]] == ["AccessDenied"]
        for until in (datetime.now(UTC) + timedelta(hours=1), datetime(2001, 1, 1, tzinfo=UTC)):
            retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
            assert code_of(s3.put_object_retention, **named, Retention=retention) in (
                "AccessDenied",
                "InvalidArgument",
            )
        assert code_of(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty"
        assert s3.get_object(**named)["Body"].read() == b"kept"

    def test_the_mount_is_bound(self, s3: Any, gateway: Gateway, locked: tuple[str, str]) -> None:
        bucket, version = locked
        meta, call = gateway.meta, gateway.call
        folder = call(meta.lookup(ROOT_INODE_ID, bucket.encode()))
        file = call(meta.lookup(folder.inode_id, b"k"))
        with pytest.raises((ObjectLockedError, PermissionDeniedError)):
            call(meta.plan_write(file.inode_id, 0, 4))
        for work in (
            lambda: call(meta.unlink(folder.inode_id, b"k")),
            lambda: call(meta.rename(folder.inode_id, b"k", folder.inode_id, b"j")),
        ):
            try:
                work()
            except (PermissionDeniedError, NotFoundError):
                continue
        named = {"Bucket": bucket, "Key": "k", "VersionId": version}
        assert s3.get_object(**named)["Body"].read() == b"kept"
        renamed = {"Bucket": bucket, "Key": "j", "RenameSource": "k"}
        with pytest.raises(s3.exceptions.ClientError):
            s3.rename_object(**renamed)

    def test_who_may_lift_it(self, s3: Any, new_user: NewUser, locked: tuple[str, str]) -> None:
        bucket, version = locked
        named = {"Bucket": bucket, "Key": "k", "VersionId": version}
        user = new_user("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectRetention")
        lifted = {**named, "BypassGovernanceRetention": True}
        assert code_of(user.delete_object, **lifted) == "AccessDenied"
        several = {"Objects": [{"Key": "k", "VersionId": version}]}
        answer = user.delete_objects(Bucket=bucket, Delete=several, BypassGovernanceRetention=True)
        assert [one["Code"] for one in answer["Errors"]] == ["AccessDenied"]
        assert code_of(user.put_object_retention, **lifted, Retention={}) in (
            "AccessDenied",
            "MalformedXML",
        )
        s3.delete_object(**lifted)


class TestIdentities:
    def test_users_give_themselves_nothing(
        self, s3: Any, iam: Any, new_user: NewUser, bucket: str
    ) -> None:
        user = new_user("s3:ListAllMyBuckets", service="iam", name="climber")
        everything = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
        me = {"UserName": "climber"}
        policy = {"PolicyName": "p", "PolicyDocument": everything}
        administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
        attempts: list[tuple[Any, dict[str, Any]]] = [
            (user.put_user_policy, {**me, **policy}),
            (user.create_policy, policy),
            (user.attach_user_policy, {**me, "PolicyArn": administrator}),
            (user.create_user, {"UserName": "accomplice"}),
            (user.create_access_key, {"UserName": "root"}),
            (user.create_group, {"GroupName": "g"}),
            (user.add_user_to_group, {"GroupName": "g", **me}),
            (user.create_role, {"RoleName": "r", "AssumeRolePolicyDocument": everything}),
            (user.update_assume_role_policy, {"RoleName": "r", "PolicyDocument": everything}),
            (user.delete_user_policy, {**me, "PolicyName": "p"}),
            (user.delete_user_permissions_boundary, me),
        ]  # fmt: skip
        for call, arguments in attempts:
            assert code_of(call, **arguments) == "AccessDenied"

    def test_a_boundary_holds_whatever_is_granted(
        self, gateway: Gateway, iam: Any, bucket: str
    ) -> None:
        everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
        little = {"Statement": {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}}
        arn = iam.create_policy(PolicyName="edge", PolicyDocument=json.dumps(little))["Policy"][
            "Arn"
        ]
        iam.create_user(UserName="bounded", PermissionsBoundary=arn)
        iam.put_user_policy(
            UserName="bounded", PolicyName="p", PolicyDocument=json.dumps(everything)
        )
        key = iam.create_access_key(UserName="bounded")["AccessKey"]
        keys = key["AccessKeyId"], key["SecretAccessKey"]
        user, own_iam = gateway.client(keys=keys), gateway.client(service="iam", keys=keys)
        assert code_of(user.create_bucket, Bucket="over-the-edge") == "AccessDenied"
        assert code_of(own_iam.create_user, UserName="over") == "AccessDenied"
        user.close()
        own_iam.close()

    def test_another_account_is_out_of_reach(
        self, gateway: Gateway, iam: Any, stranger_keys: tuple[str, str]
    ) -> None:
        iam.create_user(UserName="victim")
        other = gateway.client(service="iam", keys=stranger_keys)
        assert code_of(other.get_user, UserName="victim") == "NoSuchEntity"
        assert code_of(other.create_access_key, UserName="victim") == "NoSuchEntity"
        assert "victim" not in json.dumps(other.list_users()["Users"], default=str)
        key = iam.create_access_key(UserName="victim")["AccessKey"]["AccessKeyId"]
        assert code_of(other.delete_access_key, AccessKeyId=key) == "NoSuchEntity"
        other.close()

    def test_a_key_that_was_turned_off_is_refused_at_once(
        self, gateway: Gateway, iam: Any, stranger: Any
    ) -> None:
        iam.create_user(UserName="leaver")
        key = iam.create_access_key(UserName="leaver")["AccessKey"]
        sts = gateway.client(service="sts", keys=(key["AccessKeyId"], key["SecretAccessKey"]))
        session = sts.get_session_token()["Credentials"]
        names = "AccessKeyId", "SecretAccessKey", "SessionToken"
        acting = gateway.client(service="sts", keys=tuple(session[name] for name in names))
        acting.get_caller_identity()
        named = {"UserName": "leaver", "AccessKeyId": key["AccessKeyId"]}
        iam.update_access_key(**named, Status="Inactive")
        assert code_of(sts.get_caller_identity) == "InvalidClientTokenId"
        iam.delete_access_key(**named)
        iam.delete_user(UserName="leaver")
        assert code_of(acting.get_caller_identity) == "InvalidClientTokenId"
        sts.close()
        acting.close()


class TestKeys:
    def test_keys_belong_to_the_store(self, s3: Any, stranger: Any, bucket: str) -> None:
        """Any account may name a key of the store; it opens nothing for who may not read, and a
        policy can say which keys a bucket takes, however they are spelt."""
        s3.put_object(
            Bucket=bucket,
            Key="k",
            Body=b"x",
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId="testkey-1",
        )
        assert code_of(stranger.get_object, Bucket=bucket, Key="k") == "AccessDenied"
        condition = "s3:x-amz-server-side-encryption-aws-kms-key-id"
        only = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
            "Condition": {"StringNotEquals": {condition: "testkey-1"}},
        }
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": only}))
        named = {"Bucket": bucket, "Key": "k", "Body": b"x", "ServerSideEncryption": "aws:kms"}
        arn = f"arn:aws:kms:eu-test-1:{FIRST_ACCOUNT_ID}:key/testkey-2"
        for key in ("testkey-2", "alias/testkey-2", arn):
            assert code_of(s3.put_object, **named, SSEKMSKeyId=key) == "AccessDenied"
        assert code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x") == "AccessDenied"
        s3.put_object(**named, SSEKMSKeyId="testkey-1")
