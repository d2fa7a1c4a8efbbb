"""No signature, Signature Version 4A, Version 2, upload forms and temporary credentials."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from email.utils import formatdate
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.crt.auth
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from craqen.core.identity.records import ANONYMOUS
from craqen.gateway.auth.asymmetric import check_region_set, derive_number
from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.chunked import ChunkDecoder
from craqen.gateway.auth.credentials import Credentials
from craqen.gateway.auth.request import Authentication, Payload, SignedRequest
from craqen.gateway.errors import S3Error
from craqen.gateway.headers import fold_headers
from craqen.tests.gateway.unit.signing_client import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    TESTER,
    OneUser,
    authenticate,
    now,
    sign,
)

URL = "http://store.example:9000/bucket/some/key"
BOTO = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)


def wire(request: botocore.awsrequest.AWSRequest) -> SignedRequest:
    parts = urlsplit(str(request.url))
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    headers["host"] = parts.netloc
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest(str(request.method), parts.path, parts.query, fold_headers(raw))


def check(request: SignedRequest, *, signature_v2: bool = False) -> Authentication:
    authenticator = Authenticator(
        OneUser(),
        region=REGION,
        signature_v2=signature_v2,
        bucket_of_host=lambda host: host.removesuffix(".s3.test") if "s3.test" in host else "",
    )
    return authenticate(authenticator, request, now())


def code_of(request: SignedRequest, *, signature_v2: bool = False) -> str:
    with pytest.raises(S3Error) as caught:
        check(request, signature_v2=signature_v2)
    return caught.value.code


# No signature


@pytest.mark.parametrize("headers", [{"host": "h"}, {"host": "h", "authorization": ""}])
def test_a_request_without_signature_is_anonymous(headers: dict[str, str]) -> None:
    answer = check(SignedRequest("GET", "/b/k", "", headers))
    assert answer.credentials.identity is ANONYMOUS
    assert answer.payload is Payload.UNSIGNED


def test_anonymous_bodies() -> None:
    def unsigned(kind: str) -> SignedRequest:
        return SignedRequest("PUT", "/b/k", "", {"host": "h", "x-amz-content-sha256": kind})

    digest = hashlib.sha256(b"body").hexdigest()
    assert check(unsigned(digest)).content_sha256 == digest
    trailer = check(unsigned("STREAMING-UNSIGNED-PAYLOAD-TRAILER"))
    assert trailer.payload is Payload.CHUNKS_UNSIGNED_TRAILER
    assert code_of(unsigned("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")) == "AccessDenied"


# Version 4A, against the signer of the AWS Common Runtime


def asymmetric(method: str = "GET", url: str = URL, regions: str = REGION) -> SignedRequest:
    request = botocore.awsrequest.AWSRequest(
        method, url, headers={"x-amz-meta-a": " b  c "}, data=b"body"
    )
    botocore.crt.auth.CrtS3SigV4AsymAuth(BOTO, "s3", regions).add_auth(request)
    return wire(request)


@pytest.mark.parametrize("regions", [REGION, "*", f"us-west-2,{REGION}", "eu-*"])
def test_what_the_common_runtime_signs_verifies(regions: str) -> None:
    request = asymmetric(regions=regions)
    assert request.headers["authorization"].startswith("AWS4-ECDSA-P256-SHA256 ")
    assert check(request).credentials.identity is TESTER


def test_asymmetric_presigned() -> None:
    request = botocore.awsrequest.AWSRequest("GET", URL + "?versionId=a%20b")
    botocore.crt.auth.CrtS3SigV4AsymQueryAuth(BOTO, "s3", REGION, expires=60).add_auth(request)
    signed = wire(request)
    answer = check(signed)
    assert answer.presigned
    assert "x-amz-region-set" not in answer.hoisted_headers
    changed = signed.raw_query.replace("versionId=a", "versionId=b")
    assert code_of(signed._replace(raw_query=changed)) == "SignatureDoesNotMatch"


def test_what_changed_does_not_verify() -> None:
    request = asymmetric()
    headers = request.headers
    assert code_of(request._replace(raw_path="/bucket/other")) == "SignatureDoesNotMatch"
    assert code_of(request._replace(method="PUT")) == "SignatureDoesNotMatch"
    for name, value, code in (
        ("x-amz-meta-a", "d", "SignatureDoesNotMatch"),
        ("x-amz-meta-new", "d", "AccessDenied"),
        ("x-amz-region-set", "us-west-2", "AuthorizationHeaderMalformed"),
        ("authorization", headers["authorization"][:-2] + "zz", "SignatureDoesNotMatch"),
        ("authorization", headers["authorization"] + "00" * 80, "SignatureDoesNotMatch"),
        (
            "x-amz-content-sha256",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "SignatureDoesNotMatch",
        ),
    ):
        assert code_of(request._replace(headers={**headers, name: value})) == code
    other = SignedRequest("GET", request.raw_path, "", asymmetric(regions="us-west-2").headers)
    assert code_of(other) == "AuthorizationHeaderMalformed"


class ChunkedAsymmetric(botocore.crt.auth.CrtS3SigV4AsymAuth):
    """Keeps what the request says of its payload."""

    def _get_existing_sha256(self, request: botocore.awsrequest.AWSRequest) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])


def asymmetric_chunks(payload: Payload, *, padded: bool) -> tuple[ChunkDecoder, bytes]:
    """A decoder for a request of this kind, and a body of three chunks with a trailer perhaps."""
    request = botocore.awsrequest.AWSRequest(
        "PUT", URL, headers={"X-Amz-Content-SHA256": payload.value}, data=b"body"
    )
    ChunkedAsymmetric(BOTO, "s3", REGION).add_auth(request)
    answer = check(wire(request))
    signing = answer.chunk_signing
    assert signing is not None
    curve, kind = ec.SECP256R1(), "AWS4-ECDSA-P256-SHA256"
    key = ec.derive_private_key(derive_number(ACCESS_KEY, SECRET_KEY), curve)
    previous = signing.seed_signature

    def signed(suffix: str, *digests: str) -> str:
        nonlocal previous
        lines = (f"{kind}-{suffix}", signing.timestamp, signing.scope, previous, *digests)
        previous = key.sign("\n".join(lines).encode(), ec.ECDSA(SHA256())).hex()
        return previous.ljust(144, "*") if padded else previous

    body = b""
    for data in (b"one", b"two", b""):
        digests = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(data).hexdigest())
        head = f"{len(data):x};chunk-signature={signed('PAYLOAD', *digests)}\r\n"
        body += head.encode() + data + (b"\r\n" if data else b"")
    if payload.has_trailer:
        line = b"x-amz-checksum-crc32:AAAAAA=="
        digest = hashlib.sha256(line + b"\n").hexdigest()
        body += line + b"\r\nx-amz-trailer-signature:" + signed("TRAILER", digest).encode()
    names = ("x-amz-checksum-crc32",) if payload.has_trailer else ()
    decoder = ChunkDecoder(payload, decoded_length_bytes=6, signing=signing, trailer_names=names)
    return decoder, body + b"\r\n\r\n"


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("payload", [kind for kind in Payload if kind.is_asymmetric])
def test_asymmetric_chunks(payload: Payload, padded: bool) -> None:
    decoder, body = asymmetric_chunks(payload, padded=padded)
    assert b"".join(decoder.feed(body)) == b"onetwo"
    decoder.finish()
    assert bool(decoder.trailers) is payload.has_trailer
    decoder, body = asymmetric_chunks(payload, padded=padded)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decoder.feed(body.replace(b"two", b"2.0"))
    decoder, body = asymmetric_chunks(payload, padded=padded)
    if payload.has_trailer:
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            decoder.feed(body.replace(b"AAAAAA==", b"BBBBBA=="))


def test_the_derived_key_is_that_of_the_published_example() -> None:
    """The key pair of aws-c-auth's tests, for AWS's example credentials."""
    number = derive_number("AKISORANDOMAASORANDOM", "q+jcrXGc+0zWN6uzclKVhvMmUsIfRPa4rlRandom")
    assert f"{number:064x}" == "7fd3bd010c0d9c292141c2b77bfbde1042c92e6836fff749d1269ec890fca1bd"


def test_region_sets() -> None:
    for good in ("*", "eu-1", "a,eu-1", "a, eu-* ,b"):
        check_region_set(good, "eu-1", "AccessDenied")
    for bad in ("", "eu-2", "eu", "[e]u-1", "eu-?", ",".join(["x"] * 64 + ["eu-1"])):
        with pytest.raises(S3Error):
            check_region_set(bad, "eu-1", "AccessDenied")


# Version 2


def version2(url: str = URL, headers: dict[str, str] | None = None) -> SignedRequest:
    request = botocore.awsrequest.AWSRequest("PUT", url, headers=headers or {})
    request.headers["Content-Type"] = "text/plain"
    request.headers["Date"] = formatdate(time.time(), usegmt=True)
    request.auth_path = urlsplit(url).path
    botocore.auth.HmacV1Auth(BOTO).add_auth(request)
    return wire(request)


def test_version_2_is_off_unless_asked_for() -> None:
    assert code_of(version2()) == "InvalidRequest"
    query = f"AWSAccessKeyId={ACCESS_KEY}&Signature=x&Expires=99999999999"
    assert code_of(SignedRequest("GET", "/b/k", query, {})) == "InvalidRequest"


@pytest.mark.parametrize(
    "url",
    [URL, URL + "?acl", URL + "?uploadId=a&partNumber=1", URL + "?response-expires=a%20b&x=y"],
)
def test_version_2_headers(url: str) -> None:
    request = version2(url, {"x-amz-meta-b": "2", "x-amz-acl": "private"})
    assert check(request, signature_v2=True).payload is Payload.UNSIGNED
    changed = {**request.headers, "x-amz-acl": "public-read"}
    assert code_of(request._replace(headers=changed), signature_v2=True) == "SignatureDoesNotMatch"
    late = {**request.headers, "date": formatdate(time.time() - 3600, usegmt=True)}
    assert code_of(request._replace(headers=late), signature_v2=True) == "RequestTimeTooSkewed"
    wrong = {**request.headers, "authorization": "AWS HAHAHA"}
    assert code_of(request._replace(headers=wrong), signature_v2=True) == "InvalidArgument"


def test_version_2_signs_a_bucket_with_a_slash_at_its_end() -> None:
    """As clients do, whether they send the slash or not."""
    request = version2("http://127.0.0.1:9000/bucket/")
    for path in ("/bucket/", "/bucket"):
        assert check(request._replace(raw_path=path), signature_v2=True).credentials
    for path in ("/bucket/k", "/other", "/"):
        code = code_of(request._replace(raw_path=path), signature_v2=True)
        assert code == "SignatureDoesNotMatch"
    bare = version2("http://127.0.0.1:9000/bucket")
    assert check(bare, signature_v2=True).credentials
    assert code_of(bare._replace(raw_path="/bucket/"), signature_v2=True) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("date", ["", "Bad Date", "Tue, 07 Jul 1950 21:53:04 GMT"])
def test_version_2_wants_a_date(date: str) -> None:
    assert code_of(version2(headers={"x-amz-date": date}), signature_v2=True) == "AccessDenied"


def test_version_2_query_of_a_virtual_host() -> None:
    expires = int(now()) + 60
    text = f"GET\n\n\n{expires}\n/bucket/key?versionId=3"
    digest = hmac.digest(SECRET_KEY.encode(), text.encode(), "sha1")
    signature = base64.b64encode(digest).decode().replace("+", "%2B")
    query = f"versionId=3&AWSAccessKeyId={ACCESS_KEY}&Expires={expires}&Signature={signature}"
    request = SignedRequest("GET", "/key", query, {"host": "bucket.s3.test"})
    assert check(request, signature_v2=True).presigned
    late = query.replace(str(expires), str(int(now()) - 1))
    assert code_of(request._replace(raw_query=late), signature_v2=True) == "AccessDenied"
    other = request._replace(headers={"host": "other.s3.test"})
    assert code_of(other, signature_v2=True) == "SignatureDoesNotMatch"


# Upload forms


def form(**changes: str) -> dict[str, str]:
    policy = base64.b64encode(b'{"expiration":"2099-01-01T00:00:00Z","conditions":[]}').decode()
    date = time.strftime("%Y%m%d", time.gmtime(now()))
    key = f"AWS4{SECRET_KEY}".encode()
    for item in (date, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, item.encode(), "sha256")
    fields = {
        "policy": policy,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{ACCESS_KEY}/{date}/{REGION}/s3/aws4_request",
        "x-amz-date": f"{date}T000000Z",
        "x-amz-signature": hmac.digest(key, policy.encode(), "sha256").hex(),
    }
    return {name: text for name, text in (fields | changes).items() if text != "-"}


def verify_form(fields: dict[str, str], *, signature_v2: bool = False) -> Authentication:
    authenticator = Authenticator(OneUser(), region=REGION, signature_v2=signature_v2)
    return asyncio.run(authenticator.verify_form(fields, now()))


def test_forms() -> None:
    assert verify_form(form()).credentials.identity is TESTER
    assert verify_form({"key": "k"}).credentials.identity is ANONYMOUS


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": "e30="}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "-"}, "InvalidArgument"),
        ({"x-amz-algorithm": "-"}, "InvalidArgument"),
        ({"x-amz-algorithm": "AWS4-HMAC-SHA512"}, "InvalidArgument"),
        ({"x-amz-date": "yesterday"}, "InvalidArgument"),
        ({"x-amz-credential": "a/b"}, "AuthorizationQueryParametersError"),
        ({"x-amz-security-token": "token"}, "InvalidToken"),
    ],
)
def test_malformed_forms(changes: dict[str, str], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        verify_form(form(**changes))
    assert caught.value.code == code


def test_forms_of_version_2() -> None:
    digest = hmac.digest(SECRET_KEY.encode(), b"e30=", "sha1")
    fields = {
        "policy": "e30=",
        "awsaccesskeyid": ACCESS_KEY,
        "signature": base64.b64encode(digest).decode(),
    }
    assert verify_form(fields, signature_v2=True).credentials.identity is TESTER
    with pytest.raises(S3Error) as caught:
        verify_form(fields)
    assert caught.value.code == "InvalidRequest"
    for wrong, code in (
        ({"policy": "e30"}, "SignatureDoesNotMatch"),
        ({"awsaccesskeyid": "OTHER"}, "InvalidAccessKeyId"),
        ({"signature": ""}, "InvalidArgument"),
    ):
        with pytest.raises(S3Error) as caught:
            verify_form(fields | wrong, signature_v2=True)
        assert caught.value.code == code


# Keys that are looked up


class Found(OneUser):
    """A store that knows its key by asking only."""

    def get(self, access_key: str) -> Credentials | None:
        return None

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        await asyncio.sleep(0)
        return self.credentials if access_key == self.credentials.access_key else None


def test_keys_that_are_looked_up() -> None:
    authenticator = Authenticator(Found(), region=REGION)
    assert authenticate(authenticator, sign("GET", URL), now()).credentials.identity is TESTER
    temporary = Credentials(
        ACCESS_KEY, SECRET_KEY, TESTER, session_token="token", expires_seconds=now() + 5
    )
    authenticator = Authenticator(Found(temporary), region=REGION)
    request = sign("GET", URL, token="token")
    assert authenticate(authenticator, request, now()).credentials is temporary
    for wrong, at, code in (
        (sign("GET", URL), now(), "InvalidToken"),
        (sign("GET", URL, token="other"), now(), "InvalidToken"),
        (request, now() + 6, "ExpiredToken"),
    ):
        with pytest.raises(S3Error) as caught:
            authenticate(authenticator, wrong, at)
        assert caught.value.code == code
