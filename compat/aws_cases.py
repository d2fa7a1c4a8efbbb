"""The aws CLI beyond copying: settings of buckets, IAM and STS, sync with odd names, versions."""

from __future__ import annotations

import json
from pathlib import Path

from setting import Setting, expect_equal, python_tool

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::iamcase/open/*"}
    ],
}
ODD_KEYS = ("a//b", "folder/", "/leading", "./dot", "x/../y", "%2F", "a+b c", "ü/名前", "?#&=;")


class Aws:
    """The aws CLI from PyPI against one store."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._tool = python_tool("awscli", ["awscli"]) / "aws"

    def text(self, *words: str | Path, environment: tuple[str, ...] = ()) -> str:
        """What a command prints. Raises RuntimeError if it fails."""
        return self._setting.run(
            "env", *environment, self._tool, "--endpoint-url", self._setting.endpoint, *words
        )

    def answer(self, *words: str | Path) -> dict[str, object]:
        """What a command answers, as JSON; {} if nothing."""
        said = self.text(*words, "--output", "json")
        return dict(json.loads(said)) if said.strip() else {}

    def refused(self, code: str, *words: str | Path, environment: tuple[str, ...] = ()) -> None:
        """Check that a command fails with this error code."""
        said = ""
        try:
            self.text(*words, environment=environment)
        except RuntimeError as error:
            said = str(error)
        assert f"({code})" in said, f"{' '.join(map(str, words))}: {code} expected, not: {said}"

    def version(self) -> str:
        """Name and version."""
        return self._setting.run(self._tool, "--version").split()[0]


# Aspect, its document, the option that takes it (None: the document is several options), what a
# bucket without it answers (an error code, or None if it has a value from the beginning).
_RULE = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 9}}
_CORS = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://a.test"], "MaxAgeSeconds": 5}
_WEBSITE = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}
_NO_SSE = "ServerSideEncryptionConfigurationNotFoundError"
_SSE = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
_BLOCK = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
_OWNER = {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
SETTINGS = (
    ("cors", "cors-configuration", {"CORSRules": [_CORS]}, "NoSuchCORSConfiguration"),
    (
        "lifecycle-configuration",
        "lifecycle-configuration",
        {"Rules": [_RULE]},
        "NoSuchLifecycleConfiguration",
    ),
    ("tagging", "tagging", {"TagSet": [{"Key": "k", "Value": "ü 1"}]}, "NoSuchTagSet"),
    ("website", "website-configuration", _WEBSITE, "NoSuchWebsiteConfiguration"),
    ("encryption", "server-side-encryption-configuration", _SSE, _NO_SSE),
    ("public-access-block", "public-access-block-configuration", _BLOCK, None),
    ("ownership-controls", "ownership-controls", _OWNER, None),
    ("versioning", "versioning-configuration", {"Status": "Suspended"}, None),
    ("request-payment", "request-payment-configuration", {"Payer": "Requester"}, None),
    ("logging", "bucket-logging-status", {}, None),
    ("notification-configuration", "notification-configuration", {}, None),
    ("accelerate-configuration", "accelerate-configuration", None, None),
    ("acl", "acl", None, None),
    ("location", "", None, None),
    ("policy-status", "", None, None),
    ("replication", "", None, "ReplicationConfigurationNotFoundError"),
    ("object-lock-configuration", "", None, "ObjectLockConfigurationNotFoundError"),
)
DELETABLE = {
    "cors": "cors",
    "lifecycle-configuration": "lifecycle",
    "tagging": "tagging",
    "website": "website",
    "encryption": "encryption",
    "public-access-block": "public-access-block",
    "ownership-controls": "ownership-controls",
}


def _contains(whole: object, part: object) -> bool:
    """True if *whole* has all that *part* has."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            _contains(whole.get(name), value) for name, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(
            any(_contains(one, wanted) for one in whole) for wanted in part
        )
    return whole == part


def bucket_settings(setting: Setting) -> str:
    """aws s3api: every setting of a bucket: what a fresh one answers, put, get, delete"""
    aws = Aws(setting)
    bucket = "settingscase"
    aws.text("s3", "mb", f"s3://{bucket}")
    for aspect, option, document, absent in SETTINGS:
        read = ("s3api", f"get-bucket-{aspect}", "--bucket", bucket)
        if aspect in ("public-access-block", "object-lock-configuration"):
            read = ("s3api", f"get-{aspect}", "--bucket", bucket)
        if absent:
            aws.refused(absent, *read)
        elif aspect != "public-access-block":
            aws.answer(*read)
        if document is None:
            continue
        write = read[1].replace("get-", "put-")
        aws.text("s3api", write, "--bucket", bucket, f"--{option}", json.dumps(document))
        said = aws.answer(*read)
        inner = next(iter(said.values())) if aspect in _WRAPPED else said
        assert _contains(inner, document), (aspect, said)
        if aspect in DELETABLE:
            name = "delete-" if aspect == "public-access-block" else "delete-bucket-"
            aws.text("s3api", f"{name}{DELETABLE[aspect]}", "--bucket", bucket)
            if absent:
                aws.refused(absent, *read)
    policy = (
        json.dumps(POLICY)
        .replace("iamcase", bucket)
        .replace('"Allow",', '"Allow", "Principal": "*",')
    )
    aws.text("s3api", "put-bucket-policy", "--bucket", bucket, "--policy", policy)
    said = aws.answer("s3api", "get-bucket-policy", "--bucket", bucket)
    assert json.loads(str(said["Policy"])) == json.loads(policy)
    status = aws.answer("s3api", "get-bucket-policy-status", "--bucket", bucket)
    assert status == {"PolicyStatus": {"IsPublic": True}}, status
    aws.text("s3api", "delete-bucket-policy", "--bucket", bucket)
    aws.text("s3", "rb", f"s3://{bucket}")
    return aws.version()


_WRAPPED = {"encryption", "public-access-block", "ownership-controls"}


def iam_and_sts(setting: Setting) -> str:
    """aws iam and sts: user, key, policies, group, role, assume-role, session's rights, all
    removed"""
    aws = Aws(setting)
    aws.text("s3", "mb", "s3://iamcase")
    for key in ("open/1", "closed/1"):
        aws.text("s3api", "put-object", "--bucket", "iamcase", "--key", key)
    me = aws.answer("sts", "get-caller-identity")
    assert str(me["Arn"]).startswith("arn:aws:iam::"), me

    def iam(*words: str) -> dict[str, object]:
        return aws.answer("iam", *words)

    def may(key: str, environment: tuple[str, ...]) -> None:
        words = ("s3api", "head-object", "--bucket", "iamcase", "--key", key)
        aws.text(*words, environment=environment)

    def may_not(key: str, environment: tuple[str, ...]) -> None:
        words = ("s3api", "get-object", "--bucket", "iamcase", "--key", key, "/dev/null")
        aws.refused("AccessDenied", *words, environment=environment)

    def as_environment(answer: dict[str, object], name: str) -> tuple[str, ...]:
        key = answer[name]
        assert isinstance(key, dict)
        token = key.get("SessionToken", "")
        words = [f"AWS_ACCESS_KEY_ID={key['AccessKeyId']}"]
        words.append(f"AWS_SECRET_ACCESS_KEY={key['SecretAccessKey']}")
        return (*words, f"AWS_SESSION_TOKEN={token}") if token else tuple(words)

    document = json.dumps(POLICY)
    iam("create-user", "--user-name", "reader")
    created = iam("create-access-key", "--user-name", "reader")
    reader = as_environment(created, "AccessKey")
    may_not("open/1", reader)
    iam(
        "put-user-policy",
        "--user-name",
        "reader",
        "--policy-name",
        "p",
        "--policy-document",
        document,
    )
    may("open/1", reader)
    may_not("closed/1", reader)
    iam("delete-user-policy", "--user-name", "reader", "--policy-name", "p")
    may_not("open/1", reader)
    managed = iam("create-policy", "--policy-name", "managed", "--policy-document", document)
    arn = str(managed["Policy"]["Arn"])  # type: ignore[index]
    iam("create-group", "--group-name", "readers")
    iam("add-user-to-group", "--user-name", "reader", "--group-name", "readers")
    iam("attach-group-policy", "--group-name", "readers", "--policy-arn", arn)
    may("open/1", reader)
    account = str(me["Account"])
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    role = iam(
        "create-role", "--role-name", "r", "--assume-role-policy-document", json.dumps(trust)
    )
    iam("attach-role-policy", "--role-name", "r", "--policy-arn", arn)
    role_arn = str(role["Role"]["Arn"])  # type: ignore[index]
    assumed = aws.answer(
        "sts", "assume-role", "--role-arn", role_arn, "--role-session-name", "session"
    )
    session = as_environment(assumed, "Credentials")
    may("open/1", session)
    may_not("closed/1", session)
    token = as_environment(aws.answer("sts", "get-session-token"), "Credentials")
    may("closed/1", token)
    listed = iam("list-users")
    assert _contains(listed, {"Users": [{"UserName": "reader"}]}), listed
    iam("detach-role-policy", "--role-name", "r", "--policy-arn", arn)
    iam("delete-role", "--role-name", "r")
    iam("detach-group-policy", "--group-name", "readers", "--policy-arn", arn)
    iam("remove-user-from-group", "--user-name", "reader", "--group-name", "readers")
    iam("delete-group", "--group-name", "readers")
    identifier = str(created["AccessKey"]["AccessKeyId"])  # type: ignore[index]
    iam("delete-access-key", "--user-name", "reader", "--access-key-id", identifier)
    iam("delete-user", "--user-name", "reader")
    iam("delete-policy", "--policy-arn", arn)
    aws.refused("InvalidClientTokenId", "sts", "get-caller-identity", environment=reader)
    return aws.version()


def sync_and_odd_keys(setting: Setting) -> str:
    """aws s3 sync --delete with odd names; keys with //, ., .., a slash at either end; versions"""
    aws = Aws(setting)
    bucket = "oddcase"
    aws.text("s3", "mb", f"s3://{bucket}")
    tree = setting.folder("odd-up")
    for name in ("a b", "ü 名前", "a+b", "100%", "%20", "semi;colon", "q'uote", "x/y z/deep"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    sync = ("s3", "sync", "--only-show-errors", "--delete")
    aws.text(*sync, tree, f"s3://{bucket}/tree")
    expect_equal(tree, setting.mount / bucket / "tree")
    (tree / "a+b").unlink()
    (tree / "x" / "y z" / "deep").rename(tree / "moved")
    aws.text(*sync, tree, f"s3://{bucket}/tree")
    expect_equal(tree, setting.mount / bucket / "tree")
    down = setting.folder("odd-down")
    (down / "surplus").write_text("goes")
    aws.text(*sync, f"s3://{bucket}/tree", down)
    expect_equal(tree, down)
    aws.text("s3", "rm", f"s3://{bucket}/tree", "--recursive", "--quiet")
    one, got = setting.work / "odd-one", setting.work / "odd-got"
    where = ("--bucket", bucket)
    for key in ODD_KEYS:
        one.write_bytes(b"" if key.endswith("/") else key.encode())
        aws.text("s3api", "put-object", *where, "--key", key, "--body", one, "--metadata", "k=v")
        said = aws.answer("s3api", "get-object", *where, "--key", key, got)
        assert got.read_bytes() == one.read_bytes(), key
        assert said["Metadata"] == {"k": "v"}, key
    listed = aws.answer("s3api", "list-objects-v2", *where)["Contents"]
    assert isinstance(listed, list)
    assert [entry["Key"] for entry in listed] == sorted(ODD_KEYS, key=str.encode), listed
    status = ("s3api", "put-bucket-versioning", *where, "--versioning-configuration")
    aws.text(*status, "Status=Enabled")
    one.write_text("second")
    aws.text("s3api", "put-object", *where, "--key", "a//b", "--body", one)
    versions = aws.answer("s3api", "list-object-versions", *where, "--prefix", "a//")["Versions"]
    assert isinstance(versions, list)
    assert [version["IsLatest"] for version in versions] == [True, False]
    old = str(versions[1]["VersionId"])
    aws.answer("s3api", "get-object", *where, "--key", "a//b", "--version-id", old, got)
    assert got.read_text() == "a//b"
    return aws.version()


CASES = [bucket_settings, iam_and_sts, sync_and_odd_keys]
