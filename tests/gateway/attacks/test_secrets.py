"""Secrets where nobody may find them: logs, errors, ETags, processes, files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from craqen.core.clock import SystemClock
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.core.identity.store import IdentityStore
from craqen.core.kv.memory import MemoryStore
from craqen.tests.gateway.attacks.attack_support import code_of
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.integration.whole_store import whole_store
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, SECRET_KEY

KEY = bytes(range(100, 132))
TEXT = base64.b64encode(KEY).decode()
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
OTHER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(32)}
_ALGORITHM = "x-amz-server-side-encryption-customer-algorithm"
_KEY = "x-amz-server-side-encryption-customer-key"


def test_customer_keys_stay_with_the_customer(
    gateway: Gateway, s3: Any, raw: RawClient, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A key is in no answer, no log line, no ETag and no file; what it is named by is its MD5."""
    caplog.set_level(logging.DEBUG, logger="craqen")
    data = os.urandom(100_000)
    answers: list[Any] = [s3.put_object(Bucket=bucket, Key="k", Body=data, **CUSTOMER)]
    answers.append(s3.head_object(Bucket=bucket, Key="k", **CUSTOMER))
    answers.append(s3.list_objects_v2(Bucket=bucket))
    wrong = hashlib.md5(bytes(32)).digest()
    for headers in (
        {_ALGORITHM: "AES256", _KEY: TEXT, f"{_KEY}-md5": base64.b64encode(wrong).decode()},
        {_ALGORITHM: "AES128", _KEY: TEXT},
        {_ALGORITHM: "AES256", _KEY: TEXT + TEXT},
        {_KEY: TEXT},
    ):
        raw.send_head(raw.signed("GET", f"/{bucket}/k", headers))
        answer = raw.answer()
        assert answer.status in (400, 403)
        answers.append((answer.headers, answer.body))
    etag = answers[0]["ETag"].strip('"')
    assert etag not in (hashlib.md5(data).hexdigest(), hashlib.md5(KEY).hexdigest())
    for told in (*map(repr, answers), caplog.text):
        assert TEXT not in told
        assert KEY.hex() not in told
    for path in gateway.folder.iterdir():
        stored = path.read_bytes()
        assert KEY not in stored
        assert data[:64] not in stored


def test_signatures_that_fail_do_not_echo_customer_keys(raw: RawClient, bucket: str) -> None:
    """The canonical request is told to who signed wrongly; the key is one of its lines."""
    request = raw.signed("GET", f"/{bucket}/k", {_ALGORITHM: "AES256", _KEY: TEXT})
    raw.send_head(request._replace(raw_path=f"/{bucket}/j"))
    answer = raw.answer()
    assert answer.code == "SignatureDoesNotMatch"
    assert TEXT.encode() not in answer.body
    assert TEXT.encode().hex(" ").encode() not in answer.body


def test_no_copy_without_the_key(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000, **CUSTOMER)
    source = {"Bucket": bucket, "CopySource": f"{bucket}/k"}
    wrong = {f"CopySource{name}": value for name, value in OTHER.items()}
    assert code_of(s3.copy_object, Key="c", **source) == "InvalidRequest"
    assert code_of(s3.copy_object, Key="c", **source, **wrong) == "AccessDenied"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="u")["UploadId"]
    part = {"UploadId": upload, "PartNumber": 1, "Key": "u"}
    assert code_of(s3.upload_part_copy, **part, **source) == "InvalidRequest"
    for call in (s3.get_object, s3.head_object):
        with pytest.raises(s3.exceptions.ClientError):
            call(Bucket=bucket, Key="k")
        with pytest.raises(s3.exceptions.ClientError):
            call(Bucket=bucket, Key="k", **OTHER)


def test_secrets_are_told_once(gateway: Gateway, iam: Any) -> None:
    iam.create_user(UserName="told")
    key = iam.create_access_key(UserName="told")["AccessKey"]
    for answer in (
        iam.list_access_keys(UserName="told"),
        iam.get_user(UserName="told"),
        iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"]),
    ):
        assert key["SecretAccessKey"] not in repr(answer)
    assert key["SecretAccessKey"] not in repr(gateway.identities)


def test_a_failure_inside_tells_nothing_of_itself(
    gateway: Gateway, raw: RawClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the client nor, from the request, the log sees a secret when the program fails."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a detail of the inside")

    logger = logging.getLogger("craqen.gateway")
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    handler = Keep()
    logger.addHandler(handler)
    try:
        monkeypatch.setattr(gateway.meta, "get_object", fail)
        headers = {_ALGORITHM: "AES256", _KEY: TEXT, "x-amz-meta-secret": "my own secret"}
        request = raw.signed("GET", f"/{bucket}/k?X-Amz-Note=query-secret", headers)
        raw.send_head(request)
        answer = raw.answer()
    finally:
        logger.removeHandler(handler)
    assert (answer.status, answer.code) == (500, "InternalError")
    assert b"detail" not in answer.body
    signature = request.headers["authorization"].rpartition("=")[2]
    told = "\n".join(lines)
    assert "a detail of the inside" in told
    for secret in (TEXT, SECRET_KEY, signature, "my own secret", "query-secret"):
        assert secret not in told


def test_a_key_turned_off_by_one_worker_is_off_for_all() -> None:
    """Workers keep what they have looked up; a change is seen by the next request of each."""

    async def test() -> None:
        kv = MemoryStore()
        one, other = [await IdentityStore.open(kv, SystemClock(), None) for _ in range(2)]
        await one.ensure_account(FIRST_ACCOUNT_ID, "root", 0, 0)
        key, secret = await one.create_access_key(FIRST_ACCOUNT_ID, "")
        for store in (one, other):
            found = await store.directory.find(key.access_key, "")
            assert found is not None
            assert found.secret_key == secret
        await one.set_access_key(FIRST_ACCOUNT_ID, "", key.access_key, active=False)
        for store in (one, other):
            assert await store.directory.find(key.access_key, "") is None
        await kv.close()

    asyncio.run(test())


@pytest.mark.slow
def test_processes_show_no_secrets(tmp_path: Path) -> None:
    """Command lines and environments of a running store, its log, and who may read its files."""
    with whole_store(tmp_path / "store") as store:
        s3 = store.client()
        s3.create_bucket(
            Bucket="bucket-1", CreateBucketConfiguration={"LocationConstraint": "eu-test-1"}
        )
        s3.close()
        secrets = [SECRET_KEY.encode()]
        for path in store.folder.rglob("*"):
            if path.name in ("credentials.yaml", "keys.yaml", "cluster.secret", "private.pem"):
                assert path.stat().st_mode & 0o077 == 0, path
                secrets += [word for word in path.read_bytes().split() if len(word) > 30]
        supervisor = store.local.process_id
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        assert children
        for process in (str(supervisor), *children):
            for name in ("cmdline", "environ"):
                shown = Path(f"/proc/{process}/{name}").read_bytes()
                assert not [one for one in secrets if one in shown], f"{process} {name}"
        log = store.log().encode()
        assert not [one for one in secrets if one in log]
        assert ACCESS_KEY.encode() not in log
