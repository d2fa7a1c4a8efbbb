"""File permissions at the S3 door: what a user may not do in a mount, no request of its may."""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.core.errors import NotFoundError
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.core.identity.schema import Kind
from craqen.core.meta.records import SetAttributes
from craqen.tests.gateway.integration.running_gateway import Gateway

DENIED = (403, "AccessDenied")
ALL = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
SHARED_GROUP = 4000
_numbers = itertools.count(1)


def code_of(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


class Person:
    """A user with POSIX ids of its own."""

    def __init__(self, gateway: Gateway, *, policy: str = ALL, uid: int = 0) -> None:
        self.name = f"person-{next(_numbers)}"
        self.uid = uid or 1000 + next(_numbers)
        store = gateway.identities

        async def make() -> tuple[str, str]:
            await store.create_user(
                FIRST_ACCOUNT_ID, self.name, uid=self.uid, gid=self.uid, groups=(SHARED_GROUP,)
            )
            if policy:
                await store.put_inline(Kind.USER, FIRST_ACCOUNT_ID, self.name, "all", policy)
            key, secret = await store.create_access_key(FIRST_ACCOUNT_ID, self.name)
            return key.access_key, secret

        self.s3 = gateway.client(keys=gateway.call(make()))


@pytest.fixture
def ann(gateway: Gateway) -> Iterator[Person]:
    """A user whom all policies let do everything."""
    person = Person(gateway)
    yield person
    person.s3.close()


def change(gateway: Gateway, bucket: str, path: str = "", **changes: int) -> None:
    """chmod and chown of the bucket itself, or of what is at *path* in it."""

    async def work() -> None:
        meta = gateway.meta
        inode_id = (await meta.get_bucket(bucket)).inode_id
        for name in filter(None, path.split("/")):
            inode_id = (await meta.lookup(inode_id, name.encode())).inode_id
        await meta.set_attributes(inode_id, SetAttributes(**changes))

    gateway.call(work())


def set_mode(gateway: Gateway, bucket: str, mode: str) -> None:
    gateway.call(gateway.meta.set_bucket_setting(bucket, "access-mode", mode.encode()))


def get(gateway: Gateway, path: str) -> int:
    """The status of a request that nobody signs."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/{path}") as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_reading_needs_the_file_and_the_way_to_it(
    gateway: Gateway, s3: Any, bucket: str, ann: Person
) -> None:
    named = {"Bucket": bucket, "Key": "a/b/k"}
    s3.put_object(**named, Body=b"x")
    assert ann.s3.get_object(**named)["Body"].read() == b"x"
    for path, mode, back in (("a/b/k", 0o640, 0o644), ("a/b", 0o754, 0o755), ("a", 0o700, 0o755)):
        change(gateway, bucket, path, mode=mode)
        assert code_of(ann.s3.get_object, **named) == DENIED
        assert code_of(ann.s3.head_object, **named)[0] == 403
        assert code_of(ann.s3.get_object_tagging, **named) == DENIED
        copy = {"Bucket": bucket, "Key": "stolen", "CopySource": {"Bucket": bucket, "Key": "a/b/k"}}
        assert code_of(ann.s3.copy_object, **copy) == DENIED
        s3.get_object(**named)  # the owner's way is open
        change(gateway, bucket, path, mode=back)
    change(gateway, bucket, "a/b/k", mode=0o640, gid=SHARED_GROUP)
    assert ann.s3.get_object(**named)["Body"].read() == b"x"


def test_writing_needs_the_directory(gateway: Gateway, s3: Any, bucket: str, ann: Person) -> None:
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"x")
    named = {"Bucket": bucket, "Key": "mine"}
    assert code_of(ann.s3.put_object, **named, Body=b"y") == DENIED
    assert code_of(ann.s3.put_object, Bucket=bucket, Key="new/k", Body=b"y") == DENIED
    assert code_of(ann.s3.delete_object, Bucket=bucket, Key="theirs") == DENIED
    assert code_of(ann.s3.create_multipart_upload, **named) == DENIED
    change(gateway, bucket, mode=0o1777)
    ann.s3.put_object(**named, Body=b"y")
    ann.s3.put_object(Bucket=bucket, Key="new/k", Body=b"y")
    for call in (ann.s3.delete_object, ann.s3.put_object):  # the sticky bit
        assert code_of(call, Bucket=bucket, Key="theirs") == DENIED
    both = {"Objects": [{"Key": "mine"}, {"Key": "theirs"}]}
    gone = ann.s3.delete_objects(Bucket=bucket, Delete=both)
    assert [one["Key"] for one in gone["Deleted"]] == ["mine"]
    assert [(one["Key"], one["Code"]) for one in gone["Errors"]] == [("theirs", "AccessDenied")]
    change(gateway, bucket, mode=0o777)
    ann.s3.delete_object(Bucket=bucket, Key="theirs")


def test_changing_needs_the_file(gateway: Gateway, s3: Any, bucket: str, ann: Person) -> None:
    change(gateway, bucket, mode=0o777)
    named = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**named, Body=b"x")
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    assert code_of(ann.s3.put_object_tagging, **named, Tagging=tags) == DENIED
    assert code_of(ann.s3.delete_object_tagging, **named) == DENIED
    assert code_of(ann.s3.put_object, **named, Body=b"y", WriteOffsetBytes=1) == DENIED
    change(gateway, bucket, "k", mode=0o666)
    ann.s3.put_object_tagging(**named, Tagging=tags)
    ann.s3.put_object(**named, Body=b"y", WriteOffsetBytes=1)
    assert s3.get_object(**named)["Body"].read() == b"xy"


def test_listings_show_what_a_mount_would(
    gateway: Gateway, s3: Any, bucket: str, ann: Person
) -> None:
    for key in ("open/k", "shut/k", "shut/below/k", "way/k", "top"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    change(gateway, bucket, "shut", mode=0o700)
    change(gateway, bucket, "way", mode=0o711)
    for call, rows in (
        (ann.s3.list_objects_v2, "Contents"),
        (ann.s3.list_object_versions, "Versions"),
    ):
        assert [one["Key"] for one in call(Bucket=bucket)[rows]] == ["open/k", "top"]
        assert code_of(call, Bucket=bucket, Prefix="shut/") == DENIED
        assert code_of(call, Bucket=bucket, Prefix="shut/below/k") == DENIED
        assert code_of(call, Bucket=bucket, Prefix="way/k") == DENIED
    shown = ann.s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in shown["CommonPrefixes"]] == ["open/", "shut/", "way/"]
    assert ann.s3.get_object(Bucket=bucket, Key="way/k")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 5


def test_renames_need_both_ends(gateway: Gateway, s3: Any, bucket: str, ann: Person) -> None:
    s3.put_object(Bucket=bucket, Key="from/k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="to/k", Body=b"x")
    rename = {"Bucket": bucket, "Key": "to/n", "RenameSource": "from/k"}
    change(gateway, bucket, "to", mode=0o777)
    assert code_of(ann.s3.rename_object, **rename) == DENIED
    change(gateway, bucket, "from", mode=0o777)
    ann.s3.rename_object(**rename)
    assert s3.get_object(Bucket=bucket, Key="to/n")["Body"].read() == b"x"


def test_policy_mode_knows_no_permissions(
    gateway: Gateway, s3: Any, bucket: str, ann: Person
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    change(gateway, bucket, "k", mode=0)
    change(gateway, bucket, mode=0o700)
    assert code_of(ann.s3.get_object, Bucket=bucket, Key="k") == DENIED
    set_mode(gateway, bucket, "policy")
    assert ann.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    ann.s3.put_object(Bucket=bucket, Key="n", Body=b"x")


def test_posix_mode_needs_no_policy(gateway: Gateway, s3: Any, bucket: str) -> None:
    bob = Person(gateway, policy="")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="secret", Body=b"x")
    change(gateway, bucket, "secret", mode=0o600)
    assert code_of(bob.s3.get_object, Bucket=bucket, Key="k") == DENIED
    set_mode(gateway, bucket, "posix")
    assert bob.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert code_of(bob.s3.get_object, Bucket=bucket, Key="secret") == DENIED
    assert code_of(bob.s3.put_object, Bucket=bucket, Key="n", Body=b"") == DENIED
    assert code_of(bob.s3.get_bucket_policy, Bucket=bucket) == DENIED  # no matter of files
    assert get(gateway, f"{bucket}/k") == 403  # nobody in particular still needs a policy
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statement}))
    assert code_of(bob.s3.get_object, Bucket=bucket, Key="k") == DENIED
    bob.s3.close()


def test_root_of_another_account_is_nobody_here(gateway: Gateway, s3: Any, bucket: str) -> None:
    account = gateway.call(gateway.identities.create_account("elsewhere"))
    key, secret = gateway.call(gateway.identities.create_access_key(account.account_id, ""))
    stranger = gateway.client(keys=(key.access_key, secret))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for mode in ("posix", "both", "policy"):
        set_mode(gateway, bucket, mode)
        assert code_of(stranger.get_object, Bucket=bucket, Key="k") == DENIED
        assert code_of(stranger.list_objects_v2, Bucket=bucket) == DENIED
    stranger.close()


def test_what_everybody_may_read_is_readable_for_others(
    gateway: Gateway, s3: Any, bucket: str
) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:PutObject"],
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statement}))
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert get(gateway, f"{bucket}/k") == 200
    change(gateway, bucket, "k", mode=0o640)
    assert get(gateway, f"{bucket}/k") == 403


def test_a_trail_ends_where_nothing_is(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b/k", Body=b"x")
    for key, directories, is_whole, found in (
        (b"a/b/k", 3, True, True),
        (b"a/b/n", 3, True, False),
        (b"a/c/d/k", 2, False, False),
        (b"k", 1, True, False),
    ):
        trail = gateway.call(gateway.meta.trail(bucket, key))
        assert (len(trail.directories), trail.is_whole, trail.inode is not None) == (
            directories,
            is_whole,
            found,
        )
    with pytest.raises(NotFoundError):
        gateway.call(gateway.meta.trail("no-such-bucket", b"k"))
