"""The S3 door itself, on a socket: bytes of any kind, and requests to every operation.

After each input the gateway must have answered and closed, with no 500 and nothing in its log but
what it says of clients. One gateway serves many inputs, so that what they leave behind is met by
those that follow; then it is replaced, which bounds what they can pile up.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import json
import logging
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.gateway.operations import BUCKET, OBJECT, OPERATIONS, SERVICE
from craqen.gateway.settings import bucket_policy
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY as KEY
from craqen.tests.gateway.unit.signing_client import SECRET_KEY as SECRET
from craqen.tests.gateway.unit.signing_client import TESTER

from .document_targets import DOCUMENTS, FORM
from .request_targets import REGION, Signer
from .target import Draw, FindingError, Target, expect, split_randomly, text_of

INPUTS_PER_GATEWAY = 1500
ANSWER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 8 << 20
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")
_GUARDED = ["s3:DeleteBucket", "s3:*BucketPolicy", "s3:*PublicAccessBlock", "s3:*Ownership*"]
_PLACES = ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]
_POLICY = {
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": _PLACES},
        {"Effect": "Deny", "Principal": "*", "Action": _GUARDED, "Resource": _PLACES},
    ]
}


class _Log(logging.Handler):
    """Keeps what should not have been logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.lines.append(logging.Formatter("%(name)s: %(message)s").format(record))


class Door:
    """A gateway in a thread, with a bucket that is open to everybody."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._folder = ""
        self._inputs = 0
        self._log = _Log()

    def send(self, pieces: list[bytes], *, host: str = "") -> bytes:
        """What the gateway answers to *pieces* on one connection, up to its end. Raises
        FindingError."""
        gateway = self.gateway()
        found = b""
        address = ("127.0.0.1", gateway.port)
        with socket.create_connection(address, ANSWER_SECONDS_MAX) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in pieces:
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                while data := client.recv(1 << 16):
                    found += data
                    expect(len(found) < ANSWER_BYTES_MAX, "an answer without end")
            except TimeoutError:
                raise FindingError(f"no end of the answer, which begins {found[:200]!r}") from None
            except OSError:
                pass  # it may close on what it refuses
        self._check(found)
        return found

    def gateway(self) -> Gateway:
        """The present one."""
        self._inputs += 1
        if self._gateway is None or self._inputs % INPUTS_PER_GATEWAY == 0:
            self._restart()
        assert self._gateway is not None
        return self._gateway

    def _restart(self) -> None:
        self.close()
        self._folder = tempfile.mkdtemp(prefix="craqen-fuzz-")
        self._gateway = Gateway(Path(self._folder), None, 64, 60.0)
        self._gateway.start()
        self._gateway.call(self._fill(self._gateway))
        logging.getLogger().addHandler(self._log)

    def close(self) -> None:
        """End the gateway, and remove what it stored."""
        logging.getLogger().removeHandler(self._log)
        if self._gateway is not None:
            self._gateway.stop()
            self._gateway = None
            shutil.rmtree(self._folder)

    async def _fill(self, gateway: Gateway) -> None:
        policy = bucket_policy.parse_policy(json.dumps(_POLICY).encode(), "bucket")
        await gateway.meta.create_bucket(
            "bucket",
            owner=TESTER.canonical_id,
            region=REGION,
            as_owner=Owner(7, 8),
            settings={"policy": bucket_policy.STORED.encode(policy)},
        )
        content = NewContent(5, inline_data=b"a,b\n1")
        attributes = ObjectAttributes("etag")
        await gateway.meta.put_object("bucket", b"key", content, attributes, Owner(7, 8))

    def _check(self, answer: bytes) -> None:
        lines, self._log.lines = self._log.lines, []
        expect(not lines, "\n".join(lines))
        for status in _STATUS.findall(answer):
            expect(status not in (b"500", b"502"), f"the answer {answer[:1000]!r}")
        expect(b"<Code>InternalError" not in answer, f"the answer {answer[:1000]!r}")


DOOR = Door()
atexit.register(DOOR.close)


def run_http(data: bytes) -> None:
    """Bytes of any kind on a connection, cut in any way."""
    draw = Draw(data)
    cut = Draw(draw.some(16))
    DOOR.send(split_randomly(draw.rest(), cut)[:64])


_LEVELS = {SERVICE: "/", BUCKET: "/bucket", OBJECT: "/bucket/key"}
_ROUTES = sorted(OPERATIONS)
_PARAMETERS = (
    "versionId=", "versionId=null", "uploadId=x", "partNumber=1", "max-keys=-1", "max-keys=2",
    "prefix=", "delimiter=/", "encoding-type=url", "marker=%FF", "start-after=%00", "id=x",
    "continuation-token=", "key-marker=k", "version-id-marker=v", "upload-id-marker=u",
    "response-content-type=a%0d%0aX:b", "response-expires=x", "part-number-marker=99999999999",
    "max-parts=0", "max-uploads=1001", "list-type=2", "fetch-owner=true", "select-type=2",
    "x-id=PutObject",
)  # fmt: skip
_HEADERS = (
    "x-amz-copy-source", "x-amz-copy-source-range", "x-amz-copy-source-if-match", "range",
    "if-match", "if-none-match", "if-modified-since", "if-range", "content-md5", "content-type",
    "content-encoding", "x-amz-meta-a", "x-amz-tagging", "x-amz-acl", "x-amz-grant-read",
    "x-amz-storage-class", "x-amz-write-offset-bytes", "x-amz-rename-source", "expect",
    "x-amz-object-attributes", "x-amz-checksum-algorithm", "x-amz-checksum-crc32",
    "x-amz-checksum-mode", "x-amz-trailer", "x-amz-decoded-content-length", "x-amz-mfa",
    "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context", "x-amz-object-lock-mode", "origin",
    "x-amz-server-side-encryption-customer-algorithm", "x-amz-object-lock-retain-until-date",
    "x-amz-server-side-encryption-customer-key", "x-amz-bypass-governance-retention",
    "x-amz-server-side-encryption-customer-key-md5", "x-amz-expected-bucket-owner", "date",
    "x-amz-request-payer", "x-amz-website-redirect-location", "x-amz-metadata-directive",
    "x-amz-tagging-directive", "x-amz-mp-object-size", "x-amz-checksum-type", "cache-control",
    "access-control-request-method", "x-amz-object-ownership", "x-amz-max-parts",
    "x-amz-part-number-marker", "x-amz-delete-marker", "expires", "user-agent", "referer",
)  # fmt: skip
_VALUES = (
    "", "*", "0", "-1", "1", "5", "AES256", "aws:kms", "/bucket/key", "bytes=0-1", "bytes=-1",
    '"etag"', "private", "public-read", "id=x", "a=b&c=d", "GOVERNANCE", "2099-01-01T00:00:00Z",
    "CRC32", "SHA256", "ETag,ObjectSize,ObjectParts", "AAAAAA==", "REPLACE", "100-continue", "ON",
    "x-amz-checksum-crc32", "ENABLED", "requester", "STANDARD",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "multipart/form-data; boundary=b", "aws-chunked", "https://a.org", "GET", "testkey-1", "e30=",
    "FULL_OBJECT", "COMPOSITE", "gzip", "Thu, 28 May 2026 20:26:40 GMT", "111111111111",
)  # fmt: skip
_BODIES = (b"", b"body", *DOCUMENTS, FORM, b"{}", json.dumps(_POLICY).encode())
_CALLS = (
    "CreateUser", "GetUser", "ListUsers", "PutUserPolicy", "CreateRole", "AssumeRole",
    "GetSessionToken", "AssumeRoleWithWebIdentity", "GetCallerIdentity", "CreateAccessKey",
    "CreateGroup", "AddUserToGroup", "ListAccessKeys", "CreatePolicy", "AttachUserPolicy",
    "CreateOpenIDConnectProvider", "DeleteUser", "TagUser", "UpdateAssumeRolePolicy",
)  # fmt: skip
_MEMBERS = (
    "UserName", "RoleName", "GroupName", "PolicyName", "PolicyDocument", "RoleArn", "Marker",
    "RoleSessionName", "DurationSeconds", "WebIdentityToken", "MaxItems", "Path", "PathPrefix",
    "AssumeRolePolicyDocument", "Tags.member.1.Key", "Tags.member.1.Value", "PolicyArn", "Url",
    "ThumbprintList.member.1", "ClientIDList.member.1", "AccessKeyId", "Status", "SerialNumber",
)  # fmt: skip


def run_requests(data: bytes) -> None:
    """A few requests, each to some operation, signed by the store's account or by nobody."""
    draw = Draw(data)
    for _ in range(1 + draw.number(2)):
        if draw.chance(8):
            _send_call(draw)
        else:
            _send_request(draw)


def _signer(service: str = "s3") -> Signer:
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return Signer(KEY, SECRET, now, DOOR.gateway().host, service)


def _send_request(draw: Draw) -> None:
    method, level, subresource = draw.pick(_ROUTES)
    target = _LEVELS[level]
    if draw.chance(4) and level == OBJECT:
        target = "/bucket/" + quote(draw.some(20) or b"other")
    parameters = [subresource] if subresource else []
    for _ in range(draw.number(2)):
        parameters.append(draw.pick(_PARAMETERS))
    if draw.chance(6):
        parameters.append(f"{draw.pick(_PARAMETERS).partition('=')[0]}={quote(draw.some(12))}")
    if parameters:
        target += "?" + "&".join(parameters)
    extra: dict[str, str] = {}
    for _ in range(draw.number(4)):
        value = _value(draw.some(24)) if draw.chance(4) else draw.pick(_VALUES)
        extra[draw.pick(_HEADERS)] = value
    body = draw.some(200) if draw.chance(5) else draw.pick(_BODIES)
    signer = _signer()
    headers = (
        {"host": signer.host, **extra} if draw.chance(4) else signer.headers(method, target, extra)
    )
    if draw.chance(3):
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        headers.setdefault("content-md5", digest)
    headers["content-length"] = str(len(body))
    if method == "DELETE" and level == BUCKET and not subresource:
        return  # the bucket is for all that follow
    _send(method, target, headers, body)


def _send_call(draw: Draw) -> None:
    """A call to the IAM or STS API."""
    form = f"Action={draw.pick(_CALLS)}&Version=2010-05-08"
    for _ in range(draw.number(5)):
        value = quote(draw.some(20)) if draw.chance(2) else quote(draw.pick(_VALUES))
        form += f"&{draw.pick(_MEMBERS)}={value}"
    body = form.encode()
    signer = _signer(draw.pick(("iam", "sts")))
    extra = {"content-type": "application/x-www-form-urlencoded"}
    headers = signer.headers("POST", "/", extra, hashlib.sha256(body).hexdigest())
    headers["content-length"] = str(len(body))
    _send("POST", "/", headers, body)


def _value(data: bytes) -> str:
    """Something that may stand in a header's line."""
    return text_of(re.sub(rb"[\0\r\n]", b"?", data)).strip(" \t")


def _send(method: str, target: str, headers: dict[str, str], body: bytes) -> None:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    answer = DOOR.send([head + body])
    expect(answer.startswith(b"HTTP/1.1 "), f"{method} {target}: the answer is {answer[:80]!r}")


_HTTP = (
    b"\0GET /bucket/key HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n",
    b"\0PUT /bucket/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"GET /bucket/k HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\4\1\2\3\4PUT /bucket/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\nX-Trailer: x\r\n\r\n",
    b"\0POST /bucket?delete HTTP/1.1\r\nHost: h\r\nContent-MD5: x\r\nContent-Length: 9\r\n"
    b"\r\n<Delete/>",
    b"\0POST /bucket HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 234\r\n\r\n" + FORM,
    b"\0OPTIONS /bucket/k HTTP/1.1\r\nOrigin: o\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    b"\0GET http://h/bucket?list-type=2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"\0HEAD /bucket/key HTTP/1.1\r\nHost: x.website.test\r\nExpect: 100-continue\r\n\r\n",
)

TARGETS = (
    Target(
        "http",
        run_http,
        _HTTP,
        (
            b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n", b"\r\n\r\n", b"\r\n ",
            b"HTTP/1.1", b"Host: h\r\n", b"%2e%2e/", b"%00", b"\0", b"x-amz-", b"Upgrade: h2c\r\n",
            b"Expect: 100-continue\r\n", b"Authorization: AWS4-HMAC-SHA256 ", b"\n", b"chunked, ",
            b"Connection: close\r\n", b"GET / HTTP/1.1\r\n\r\n", b"ffffffffffffffff\r\n",
        ),
        seconds_max=20.0,
    ),
    Target(
        "requests",
        run_requests,
        tuple(hashlib.sha512(bytes([number])).digest() for number in range(40)),
        input_bytes_max=512,
        seconds_max=30.0,
    ),
)  # fmt: skip
