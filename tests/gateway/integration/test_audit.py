"""The audit log of a gateway: what it says of requests, and what it never says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.gateway.audit.log import AuditFile
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import (
    Gateway,
    running_gateway,
    wait_until,
)
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, REGION, SECRET_KEY

ROOT_ARN = f"arn:aws:iam::{FIRST_ACCOUNT_ID}:root"
BUCKET = "audited"
CUSTOMER_KEY = b"0123456789abcdefghijklmnopqrstuv"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ROOT_ARN}, "Action": "sts:AssumeRole"},
    ],
}


class Audited:
    """A gateway with an audit log, and a client of it."""

    def __init__(self, gateway: Gateway, path: Path) -> None:
        self.gateway = gateway
        self.path = path
        self.s3 = gateway.client()

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def after(self, answer: Any) -> dict[str, Any]:
        """The record of a request that was answered so."""
        return self.of(answer["ResponseMetadata"]["RequestId"])

    def of(self, request_id: str) -> dict[str, Any]:
        """The one record of a request."""
        wait_until(lambda: any(request_id in line for line in self.lines()))
        records = [json.loads(line) for line in self.lines()]
        found = [record for record in records if record["requestID"] == request_id]
        assert len(found) == 1
        return found[0]  # type: ignore[no-any-return]

    def refused(self, call: Any, **arguments: Any) -> dict[str, Any]:
        """The record of a call that fails."""
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        return self.after(caught.value.response)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    path = tmp_path_factory.mktemp("audit") / "audit.json"
    audit = AuditFile(path, 1 << 20, 3)
    with running_gateway(tmp_path_factory.mktemp("segments"), audit=audit) as gateway:
        found = Audited(gateway, path)
        found.s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield found
        found.s3.close()
    audit.close()


def test_a_put(audited: Audited) -> None:
    answer = audited.s3.put_object(
        Bucket=BUCKET, Key="a b/ü", Body=b"x" * 10, StorageClass="STANDARD_IA"
    )
    record = audited.after(answer)
    arn = f"arn:aws:s3:::{BUCKET}"
    parameters = record["requestParameters"]
    assert record["eventSource"] == "s3.amazonaws.com"
    assert record["eventName"] == "PutObject"
    assert record["awsRegion"] == REGION
    assert record["sourceIPAddress"] == "127.0.0.1"
    assert record["userAgent"].startswith("Boto3/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventTime"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record["eventID"])
    assert parameters["bucketName"] == BUCKET
    assert parameters["key"] == "a b/ü"
    assert parameters["x-amz-storage-class"] == "STANDARD_IA"
    assert record["resources"] == [
        {"type": "AWS::S3::Object", "ARN": f"{arn}/a b/ü"},
        {"type": "AWS::S3::Bucket", "ARN": arn, "accountId": FIRST_ACCOUNT_ID},
    ]
    assert record["userIdentity"] == {
        "type": "Root",
        "principalId": FIRST_ACCOUNT_ID,
        "arn": ROOT_ARN,
        "accountId": FIRST_ACCOUNT_ID,
        "accessKeyId": ACCESS_KEY,
    }
    assert not record["readOnly"]
    assert (record["eventCategory"], record["managementEvent"]) == ("Data", False)
    assert record["additionalEventData"]["httpStatusCode"] == 200
    assert record["additionalEventData"]["SignatureVersion"] == "SigV4"
    assert record["additionalEventData"]["AuthenticationMethod"] == "AuthHeader"
    assert "errorCode" not in record


def test_a_large_body_counts_whole(audited: Audited) -> None:
    size = 3_000_000
    answer = audited.s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(size))
    assert audited.after(answer)["additionalEventData"]["bytesTransferredIn"] >= size
    answer = audited.s3.get_object(Bucket=BUCKET, Key="large")
    assert len(answer["Body"].read()) == size
    record = audited.after(answer)
    assert (record["eventName"], record["readOnly"]) == ("GetObject", True)
    assert record["additionalEventData"]["httpStatusCode"] == 200


def test_a_setting_is_management(audited: Audited) -> None:
    record = audited.after(audited.s3.get_bucket_versioning(Bucket=BUCKET))
    assert (record["eventName"], record["eventCategory"]) == ("GetBucketVersioning", "Management")
    assert record["managementEvent"]
    assert record["readOnly"]


def test_failures_have_their_code(audited: Audited) -> None:
    record = audited.refused(audited.s3.get_object, Bucket=BUCKET, Key="missing")
    assert record["errorCode"] == "NoSuchKey"
    assert record["additionalEventData"]["httpStatusCode"] == 404
    record = audited.refused(audited.s3.list_objects_v2, Bucket="none-such")
    assert record["errorCode"] == "NoSuchBucket"
    stranger = audited.gateway.client(keys=(ACCESS_KEY, "wrong"))
    record = audited.refused(stranger.get_object, Bucket=BUCKET, Key="k")
    assert record["errorCode"] == "SignatureDoesNotMatch"
    assert record["userIdentity"] == {"type": "Unknown"}


def test_nobody_in_particular(audited: Audited) -> None:
    with RawClient(audited.gateway) as raw:
        raw.socket.sendall(f"GET /{BUCKET}/k HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = raw.answer()
    record = audited.of(answer.headers["x-amz-request-id"])
    assert record["errorCode"] == "AccessDenied"
    assert record["userIdentity"]["accountId"] == "anonymous"
    assert "AuthenticationMethod" not in record["additionalEventData"]


def test_a_forged_line_stays_one_line(audited: Audited) -> None:
    before = len(audited.lines())
    with RawClient(audited.gateway) as raw:
        raw.socket.sendall(
            f'GET /{BUCKET}/a%0A%7B%7D HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff"\x85{{}}'
            "\r\n\r\n".encode("latin-1")
        )
        answer = raw.answer()
    record = audited.of(answer.headers["x-amz-request-id"])
    assert record["requestParameters"]["key"] == "a\n{}"
    assert record["userAgent"] == '\\udcff"\\udc85{}'
    assert len(audited.lines()) == before + 1


def test_a_client_that_goes_away_is_recorded(audited: Audited) -> None:
    with RawClient(audited.gateway) as raw:
        request = raw.signed("PUT", f"/{BUCKET}/cut", {"content-length": "100000"})
        raw.send_head(request)
        raw.socket.sendall(b"x" * 10)
    wait_until(lambda: any('"key":"cut"' in line for line in audited.lines()))
    (record,) = [json.loads(line) for line in audited.lines() if '"key":"cut"' in line]
    assert record["eventName"] == "PutObject"
    assert record["additionalEventData"].get("httpStatusCode") != 200


def test_users_roles_and_no_secrets(audited: Audited) -> None:
    """Everything that proves who one is, and keys of objects, comes by; nothing of it is kept."""
    iam, sts = audited.gateway.client(service="iam"), audited.gateway.client(service="sts")
    assert audited.after(iam.create_user(UserName="carol"))["requestParameters"] == {
        "userName": "carol"
    }
    key = iam.create_access_key(UserName="carol")["AccessKey"]
    policy = json.dumps({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    answer = iam.put_user_policy(UserName="carol", PolicyName="all", PolicyDocument=policy)
    record = audited.after(answer)
    assert (record["eventSource"], record["eventName"]) == ("iam.amazonaws.com", "PutUserPolicy")
    assert record["requestParameters"]["policyDocument"] == policy
    carol = audited.gateway.client(keys=(key["AccessKeyId"], key["SecretAccessKey"]))
    record = audited.after(carol.list_objects_v2(Bucket=BUCKET))
    assert record["userIdentity"]["type"] == "IAMUser"
    assert record["userIdentity"]["userName"] == "carol"

    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName="reader", PolicyName="all", PolicyDocument=policy)
    role_arn = f"arn:aws:iam::{FIRST_ACCOUNT_ID}:role/reader"
    answer = sts.assume_role(RoleArn=role_arn, RoleSessionName="night", ExternalId="told-nobody")
    record = audited.after(answer)
    assert (record["eventSource"], record["eventName"]) == ("sts.amazonaws.com", "AssumeRole")
    assert record["requestParameters"] == {"roleArn": role_arn, "roleSessionName": "night"}
    session = answer["Credentials"]
    keys = (session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    as_role = audited.gateway.client(keys=keys)
    record = audited.after(as_role.list_objects_v2(Bucket=BUCKET))
    issuer = record["userIdentity"]["sessionContext"]["sessionIssuer"]
    assert record["userIdentity"]["type"] == "AssumedRole"
    assert (issuer["arn"], issuer["userName"]) == (role_arn, "reader")

    customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CUSTOMER_KEY}
    last = audited.s3.put_object(Bucket=BUCKET, Key="sealed", Body=b"x", **customer)
    audited.after(last)
    secrets = [
        SECRET_KEY,
        key["SecretAccessKey"],
        *keys[1:],
        "told-nobody",
        CUSTOMER_KEY.decode(),
        base64.b64encode(CUSTOMER_KEY).decode(),
        base64.b64encode(hashlib.md5(CUSTOMER_KEY).digest()).decode(),
    ]
    url = as_role.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "signed"})
    query = urlsplit(url).query
    with RawClient(audited.gateway) as raw:
        host = urlsplit(url).netloc
        target = f"/{BUCKET}/signed?{query}"
        raw.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = raw.answer()
        request = raw.signed("GET", f"/{BUCKET}/k", {"x-amz-meta-note": "a private note"})
        raw.send_head(request)
        second = raw.answer()
    record = audited.of(answer.headers["x-amz-request-id"])
    assert answer.status == 404
    assert record["additionalEventData"]["AuthenticationMethod"] == "QueryString"
    audited.of(second.headers["x-amz-request-id"])
    secrets += [request.headers["authorization"].rpartition("=")[2], "a private note"]
    secrets.append(re.search(r"X-Amz-Signature=(\w+)", query)[1])  # type: ignore[index]
    written = audited.path.read_text()
    assert [secret for secret in secrets if secret in written] == []
    assert "Signature=" not in written
    assert "ecurity-Token" not in written
