"""A signer for tests: botocore for requests, and an aws-chunked encoder of our own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.credentials import Credentials, account_identity
from craqen.gateway.auth.request import Authentication, SignedRequest
from craqen.gateway.headers import fold_headers

ACCESS_KEY = "TESTACCESSKEY"
SECRET_KEY = "a/secret+key=with%characters"
REGION = "eu-test-1"

TESTER = account_identity("tester", uid=7, gid=8)


class OneUser:
    """A credential store with one entry."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = credentials or Credentials(ACCESS_KEY, SECRET_KEY, TESTER)

    def get(self, access_key: str) -> Credentials | None:
        return self.credentials if access_key == self.credentials.access_key else None

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        return None


def authenticate(
    authenticator: Authenticator, request: SignedRequest, now_seconds: float
) -> Authentication:
    """``Authenticator.authenticate`` for tests without a loop."""
    return asyncio.run(authenticator.authenticate(request, now_seconds))


def _wire(request: botocore.awsrequest.AWSRequest) -> SignedRequest:
    parts = urlsplit(str(request.url))
    pairs = [("Host", parts.netloc), *request.headers.items()]
    headers = fold_headers([(name.encode(), str(value).encode()) for name, value in pairs])
    return SignedRequest(str(request.method), parts.path, parts.query, headers)


def _credentials(token: str) -> botocore.credentials.Credentials:
    return botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY, token or None)


def sign(
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    content_sha256: str = "",
    region: str = REGION,
    service: str = "s3",
    token: str = "",
) -> SignedRequest:
    """Sign in the Authorization header, as boto3 does."""
    request = botocore.awsrequest.AWSRequest(method, url, headers=headers or {}, data=body)
    request.headers["X-Amz-Content-SHA256"] = content_sha256 or hashlib.sha256(body).hexdigest()
    signer = botocore.auth.S3SigV4Auth(_credentials(token), service, region)
    if content_sha256:
        signer.payload = lambda request: content_sha256  # type: ignore[method-assign]
    signer.add_auth(request)
    return _wire(request)


def presign(
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    *,
    expires: int = 3600,
    region: str = REGION,
    token: str = "",
) -> SignedRequest:
    """Sign in the query, as boto3 does."""
    request = botocore.awsrequest.AWSRequest(method, url, headers=headers or {})
    botocore.auth.S3SigV4QueryAuth(_credentials(token), "s3", region, expires=expires).add_auth(
        request
    )
    return _wire(request)


def now() -> float:
    """The clock by which the signer above has just signed."""
    return time.time()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class ChunkEncoder:
    """Frames a body as aws-chunked behind a signed request."""

    def __init__(self, request: SignedRequest) -> None:
        self.timestamp = request.headers["x-amz-date"]
        self.scope = f"{self.timestamp[:8]}/{REGION}/s3/aws4_request"
        key = f"AWS4{SECRET_KEY}".encode()
        for item in self.scope.split("/"):
            key = _hmac(key, item)
        self.key = key
        self.previous = request.headers["authorization"].rpartition("Signature=")[2]

    def signature(self, kind: str, *lines: str) -> str:
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", self.timestamp, self.scope, *lines])
        self.previous = _hmac(self.key, text).hex()
        return self.previous

    def chunk(self, data: bytes) -> bytes:
        signature = self.signature(
            "PAYLOAD",
            self.previous,
            hashlib.sha256(b"").hexdigest(),
            hashlib.sha256(data).hexdigest(),
        )
        header = f"{len(data):x};chunk-signature={signature}\r\n".encode()
        return header + data + (b"\r\n" if data else b"")

    def trailer(self, trailers: dict[str, str]) -> bytes:
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        digest = hashlib.sha256(text.encode()).hexdigest()
        signature = self.signature("TRAILER", self.previous, digest)
        lines = text.replace("\n", "\r\n") + f"x-amz-trailer-signature:{signature}\r\n\r\n"
        return lines.encode()


def encode_signed(
    request: SignedRequest, payload: bytes, chunk_bytes: int, trailers: dict[str, str] | None = None
) -> bytes:
    """*payload* in signed chunks; with *trailers* (may be empty) the kind with a signed trailer."""
    encoder = ChunkEncoder(request)
    starts = range(0, len(payload), chunk_bytes)
    body = b"".join(encoder.chunk(payload[start : start + chunk_bytes]) for start in starts)
    body += encoder.chunk(b"")
    return body + (b"\r\n" if trailers is None else encoder.trailer(trailers))


def encode_unsigned(payload: bytes, chunk_bytes: int, trailers: dict[str, str]) -> bytes:
    """*payload* in unsigned chunks with a trailer, as botocore sends it."""
    body = b""
    for start in range(0, len(payload), chunk_bytes):
        piece = payload[start : start + chunk_bytes]
        body += b"%x\r\n%s\r\n" % (len(piece), piece)
    lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return body + b"0\r\n" + lines.encode() + b"\r\n"
