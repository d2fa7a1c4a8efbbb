"""No operation forgets to ask: each of them by nobody, by another account, and by a user without
rights, on a bucket and an object that are there."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import pytest

from craqen.gateway.operations import BUCKET, OBJECT, OPERATIONS, PREFLIGHTS, SERVICE
from craqen.tests.fuzz.request_targets import Signer
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway

_OPEN = {"ListBuckets", "CreateBucket"}
"""What every account may do for itself."""
_BODIES = {
    "DeleteObjects": b"<Delete><Object><Key>k</Key></Object></Delete>",
    "PutObjectTagging": b"<Tagging><TagSet/></Tagging>",
}
"""Of operations that ask only when they know what it is about."""
_ROUTES = sorted(
    (operation, method, level, subresource)
    for (method, level, subresource), operation in OPERATIONS.items()
    if operation not in PREFLIGHTS | _OPEN
)


@pytest.fixture(scope="module")
def guarded(s3: Any) -> str:
    """A bucket of the store's account with an object in it."""
    s3.create_bucket(
        Bucket="guarded", CreateBucketConfiguration={"LocationConstraint": "eu-test-1"}
    )
    s3.put_object(Bucket="guarded", Key="k", Body=b"the secret")
    return "guarded"


@pytest.fixture(scope="module")
def user_keys(iam: Any) -> tuple[str, str]:
    iam.create_user(UserName="without-rights")
    key = iam.create_access_key(UserName="without-rights")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.mark.parametrize(("operation", "method", "level", "subresource"), _ROUTES)
@pytest.mark.parametrize("who", ["nobody", "another account", "a user"])
def test_is_refused(
    gateway: Gateway,
    s3: Any,
    guarded: str,
    stranger_keys: tuple[str, str],
    user_keys: tuple[str, str],
    who: str,
    operation: str,
    method: str,
    level: int,
    subresource: str,
) -> None:
    target = {SERVICE: "/", BUCKET: f"/{guarded}", OBJECT: f"/{guarded}/k"}[level]
    value = {"list-type": "=2", "uploadId": "=x&partNumber=1"}.get(subresource, "")
    target += f"?{subresource}{value}" if subresource else ""
    body = _BODIES.get(operation, b"")
    extra = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    headers = {"host": gateway.host, **extra}
    if who != "nobody":
        keys = stranger_keys if who == "another account" else user_keys
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = Signer(*keys, now, gateway.host).headers(method, target, extra)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    head = "\r\n".join([*lines, f"content-length: {len(body)}"]) + "\r\n\r\n"
    with RawClient(gateway) as raw:
        raw.send(head.encode() + body)
        answer = raw.answer(head_only=method == "HEAD")
    assert b"the secret" not in answer.body
    if operation == "DeleteObjects" and answer.status == 200:
        assert answer.code == "AccessDenied"  # told for each key
    else:
        assert answer.status in (403, 405, 501), answer
    assert s3.get_object(Bucket=guarded, Key="k")["Body"].read() == b"the secret"


def test_all_of_them_are_here() -> None:
    assert len(_ROUTES) > 90
