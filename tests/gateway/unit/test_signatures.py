"""Signature Version 4 against botocore's signer: what it signs verifies, and nothing else does."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.canonical import canonical_path, canonical_query
from craqen.gateway.auth.credentials import Credentials
from craqen.gateway.auth.request import Authentication, Payload, SignedRequest
from craqen.gateway.auth.signing import Scope, SigningKeys, derive_signing_key
from craqen.gateway.auth.signing_key import SigningKey
from craqen.gateway.errors import S3Error, error_document
from craqen.gateway.headers import fold_headers
from craqen.tests.gateway.unit.signing_client import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    TESTER,
    OneUser,
    authenticate,
    now,
    presign,
    sign,
)

URL = "http://store.example:9000/bucket/some/key"


def check(
    request: SignedRequest, *, at: float | None = None, credentials: Credentials | None = None
) -> Authentication:
    authenticator = Authenticator(OneUser(credentials), region=REGION)
    return authenticate(authenticator, request, now() if at is None else at)


def refusal(
    request: SignedRequest, *, at: float | None = None, credentials: Credentials | None = None
) -> S3Error:
    with pytest.raises(S3Error) as caught:
        check(request, at=at, credentials=credentials)
    return caught.value


def with_header(request: SignedRequest, name: str, value: str | None) -> SignedRequest:
    headers = dict(request.headers)
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    return request._replace(headers=headers)


# What must verify


@pytest.mark.parametrize(
    ("method", "url", "headers", "body"),
    [
        ("GET", URL, {}, b""),
        ("GET", "http://h/", {}, b""),
        ("PUT", URL, {"Content-Type": "text/plain", "x-amz-meta-a": "b"}, b"body"),
        ("GET", URL, {"x-amz-meta-blanks": "  a   b \t c  "}, b""),
        ("GET", "http://h/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F", {}, b""),
        ("GET", "http://h/bucket?b=2&a=1&a=0&acl", {}, b""),
        ("GET", "http://h/bucket?acl=", {}, b""),
        ("GET", "http://h/bucket?prefix=%3B%3D%26%2B", {}, b""),
        ("GET", "http://h/bucket/" + quote("a b/ü+&=@:,$!*'()[]{}|^~_-.%25 \u20ac"), {}, b""),
        ("GET", "http://h/bucket//a///b", {}, b""),
        ("DELETE", "https://bucket.store.example/key", {"Accept-Encoding": "identity"}, b""),
    ],
)
def test_what_boto_signs_verifies(
    method: str, url: str, headers: dict[str, str], body: bytes
) -> None:
    answer = check(sign(method, url, headers, body))
    assert answer.credentials.identity.display_name == "tester"
    assert answer.payload is Payload.LITERAL
    assert answer.content_sha256 == hashlib.sha256(body).hexdigest()
    assert answer.chunk_signing is None


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    query=st.dictionaries(st.text("aB-_ +/&=%é€;", min_size=1), st.text("aB-_ +/&=%é€;")),
)
def test_any_key_and_query_verifies(key: str, query: dict[str, str]) -> None:
    items = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in query)
    request = sign(
        "GET", f"http://h/bucket/x{quote(key, safe='/~')}" + (f"?{items}" if items else "")
    )
    assert check(request).credentials.access_key == ACCESS_KEY


@pytest.mark.parametrize(
    "payload", [kind for kind in Payload if kind is not Payload.LITERAL and not kind.is_asymmetric]
)
def test_payload_kinds(payload: Payload) -> None:
    answer = check(sign("PUT", URL, content_sha256=payload.value))
    assert answer.payload is payload
    assert answer.content_sha256 == ""
    signed = payload in (Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER)
    assert (answer.chunk_signing is not None) is signed
    assert payload.is_chunked is (payload is not Payload.UNSIGNED)


def test_repeated_headers_are_joined() -> None:
    request = sign("GET", URL, {"x-amz-meta-list": "one,two"})
    pairs = [(name.encode(), value.encode()) for name, value in request.headers.items()]
    index = pairs.index((b"x-amz-meta-list", b"one,two"))
    pairs[index : index + 1] = [(b"X-Amz-Meta-List", b" one "), (b"x-amz-meta-list", b"two\t")]
    folded = fold_headers(pairs)
    assert folded["x-amz-meta-list"] == "one,two"
    assert check(request._replace(headers=folded)).payload is Payload.LITERAL


def test_headers_that_are_not_utf8_survive() -> None:
    assert fold_headers([(b"X-Amz-Meta-A", b"\xff")])["x-amz-meta-a"].encode(
        "utf-8", "surrogateescape"
    ) == (b"\xff")


def test_components_in_any_order() -> None:
    request = sign("GET", URL)
    scheme, _, rest = request.headers["authorization"].partition(" ")
    credential, names, signature = rest.split(", ")
    other = f"{scheme} {signature},{names} , {credential}"
    assert check(with_header(request, "authorization", other)).payload is Payload.LITERAL


def test_presigned_with_hoisted_headers_and_token() -> None:
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, TESTER, session_token="a/token+=")
    request = presign("PUT", URL + "?x-amz-storage-class=STANDARD", token="a/token+=")
    answer = check(request, credentials=credentials)
    assert answer.presigned
    assert answer.payload is Payload.UNSIGNED
    assert answer.hoisted_headers == {
        "x-amz-storage-class": "STANDARD",
        "x-amz-security-token": "a/token+=",
    }


def test_presigned_with_a_signed_header() -> None:
    request = presign("PUT", URL, {"Content-MD5": "abc", "x-amz-meta-a": "b"})
    assert check(request).presigned
    assert refusal(with_header(request, "content-md5", "abd")).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", "/"),
        ("/a%7eb", "/a~b"),
        ("/a%2fb", "/a/b"),
        ("/a b(c)", "/a%20b%28c%29"),
        ("/%41%zz", "/A%25zz"),
        ("/a+b%2B", "/a%2Bb%2B"),
        ("/é%ff", "/%C3%A9%FF"),
    ],
)
def test_canonical_path(raw: str, canonical: str) -> None:
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("b=1&a", "a=&b=1"),
        ("a=2&a=1", "a=1&a=2"),
        ("a=b/c&d=e+f;", "a=b%2Fc&d=e%20f%3B"),
        ("a%2fb=%7E", "a%2Fb=~"),
        ("&&a=1&", "a=1"),
        ("a=b=c", "a=b%3Dc"),
        ("a-b=1&a=2", "a=2&a-b=1"),
    ],
)
def test_canonical_query(raw: str, canonical: str) -> None:
    assert canonical_query(raw) == canonical


# What must not


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_character_of_what_is_signed_is_refused(data: st.DataObject) -> None:
    request = sign(
        "PUT",
        "http://h/bucket/some/key?partNumber=1&uploadId=abc",
        {"Content-Type": "text/plain", "x-amz-meta-a": "value"},
        b"body",
    )
    assert check(request).payload is Payload.LITERAL
    place = data.draw(
        st.sampled_from(["method", "raw_path", "raw_query", *sorted(request.headers)])
    )
    text = getattr(request, place) if place in request._fields else request.headers[place]
    index = data.draw(st.integers(0, len(text) - 1))
    flipped = chr(ord(text[index]) ^ (1 << data.draw(st.integers(0, 6))))
    changed = text[:index] + flipped + text[index + 1 :]
    if place in request._fields:
        other = SignedRequest(**{**request._asdict(), place: changed})
        if place == "raw_query" and canonical_query(changed) == canonical_query(text):
            return
    else:
        other = with_header(request, place, changed)
        if changed.lower() == text.lower() and place == "authorization":
            return  # case of the names of signed headers
    assert 400 <= refusal(other).status < 500


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_changed_character_of_a_presigned_url_is_refused(data: st.DataObject) -> None:
    request = presign("GET", URL + "?versionId=abc")
    assert check(request).presigned
    place = data.draw(st.sampled_from(["method", "raw_path", "raw_query"]))
    text = getattr(request, place)
    index = data.draw(st.integers(0, len(text) - 1))
    flipped = chr(ord(text[index]) ^ (1 << data.draw(st.integers(0, 6))))
    changed = text[:index] + flipped + text[index + 1 :]
    if place == "raw_query" and canonical_query(changed) == canonical_query(text):
        return
    assert 400 <= refusal(SignedRequest(**{**request._asdict(), place: changed})).status < 500


def test_wrong_secret_shows_what_was_signed_and_no_secret() -> None:
    credentials = Credentials(ACCESS_KEY, "another secret", TESTER)
    error = refusal(sign("GET", URL), credentials=credentials)
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)
    assert error.fields["StringToSign"].startswith("AWS4-HMAC-SHA256\n")
    assert error.fields["CanonicalRequest"].startswith("GET\n/bucket/some/key\n")
    assert bytes.fromhex(error.fields["StringToSignBytes"]).decode() == error.fields["StringToSign"]
    document = error_document(error, resource="/", request_id="r", host_id="h")
    assert b"another secret" not in document


def test_unsigned_amz_header_is_refused() -> None:
    for request in (sign("GET", URL), presign("GET", URL)):
        error = refusal(with_header(request, "x-amz-copy-source", "/other/key"))
        assert (error.code, error.fields["HeadersNotSigned"]) == (
            "AccessDenied",
            "x-amz-copy-source",
        )


def test_host_must_be_signed() -> None:
    request = sign("GET", URL)
    text = request.headers["authorization"].replace("host;", "")
    error = refusal(with_header(request, "authorization", text))
    assert (error.code, error.fields["HeadersNotSigned"]) == ("AccessDenied", "host")


def test_signed_header_that_was_dropped_is_refused() -> None:
    request = sign("GET", URL, {"Content-Type": ""})
    assert check(request).payload is Payload.LITERAL
    assert refusal(with_header(request, "content-type", None)).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("offset", [-901, 901])
def test_clock_skew(offset: int) -> None:
    request = sign("GET", URL)
    signed_at = now()
    assert check(request, at=signed_at + offset * 0.99).payload is Payload.LITERAL
    error = refusal(request, at=signed_at + offset + (1 if offset > 0 else -1))
    assert (error.code, error.status) == ("RequestTimeTooSkewed", 403)
    assert error.fields["RequestTime"] == request.headers["x-amz-date"]
    assert error.fields["MaxAllowedSkewMilliseconds"] == "900000"


def test_unknown_key() -> None:
    error = refusal(sign("GET", URL), credentials=Credentials("OTHER", SECRET_KEY, TESTER))
    assert (error.code, error.fields["AWSAccessKeyId"]) == ("InvalidAccessKeyId", ACCESS_KEY)


def test_wrong_region_is_told_with_the_right_one() -> None:
    error = refusal(sign("GET", URL, region="us-west-9"))
    assert (error.code, error.fields["Region"]) == ("AuthorizationHeaderMalformed", REGION)
    error = refusal(presign("GET", URL, region="us-west-9"))
    assert (error.code, error.fields["Region"]) == ("AuthorizationQueryParametersError", REGION)


def test_wrong_service() -> None:
    error = refusal(sign("GET", URL, service="sts"))
    assert error.code == "AuthorizationHeaderMalformed"
    assert '"s3"' in error.message


def test_tokens() -> None:
    temporary = Credentials(
        ACCESS_KEY, SECRET_KEY, TESTER, session_token="token", expires_seconds=now() + 60
    )
    assert check(sign("GET", URL, token="token"), credentials=temporary).credentials == temporary
    assert refusal(sign("GET", URL, token="other"), credentials=temporary).code == "InvalidToken"
    assert refusal(sign("GET", URL), credentials=temporary).code == "InvalidToken"
    assert refusal(sign("GET", URL, token="token")).code == "InvalidToken"
    ended = replace(temporary, expires_seconds=now() - 1)
    assert refusal(sign("GET", URL, token="token"), credentials=ended).code == "ExpiredToken"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("authorization", "Bearer abc", "InvalidArgument"),
        ("authorization", "AWS key:signature", "InvalidRequest"),
        ("authorization", "AWS4-ECDSA-P256-SHA256 Credential=a", "AuthorizationHeaderMalformed"),
        ("authorization", "AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=" + "0" * 64,
            "AuthorizationHeaderMalformed",
        ),
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential=a/20200101/{REGION}/s3/aws4_request, "
            f"Credential=b/20200101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0",
            "AuthorizationHeaderMalformed",
        ),
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential=a/20200101/{REGION}/s3/aws4_request, "
            "SignedHeaders=host, Signature=" + "0" * 64,
            "AuthorizationHeaderMalformed",
        ),
        ("x-amz-date", None, "AccessDenied"),
        ("x-amz-date", "yesterday", "AccessDenied"),
        ("x-amz-date", "20269999T000000Z", "AccessDenied"),
        ("x-amz-date", "２0261123T000000Z", "AccessDenied"),
        ("x-amz-content-sha256", None, "InvalidRequest"),
        ("x-amz-content-sha256", "abc", "InvalidArgument"),
        (
            "x-amz-content-sha256",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "SignatureDoesNotMatch",
        ),
    ],
)
def test_malformed_headers(name: str, value: str | None, code: str) -> None:
    assert refusal(with_header(sign("GET", URL), name, value)).code == code


def test_signature_version_2_in_the_query_is_refused_plainly() -> None:
    request = SignedRequest("GET", "/b/k", "AWSAccessKeyId=a&Signature=b&Expires=1", {"host": "h"})
    error = refusal(request)
    assert error.code == "InvalidRequest"
    assert "AWS4-HMAC-SHA256" in error.message


def test_two_mechanisms_are_refused() -> None:
    request = presign("GET", URL)
    both = with_header(request, "authorization", "AWS4-HMAC-SHA256 Credential=x")
    assert refusal(both).code == "InvalidArgument"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("X-Amz-Expires", "0", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "-1", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "604801", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "soon", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "9" * 40, "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires", "604800", "SignatureDoesNotMatch"),
        ("X-Amz-Date", "2026-11-23", "AuthorizationQueryParametersError"),
        ("X-Amz-Date", "29991231T000000Z", "AccessDenied"),
        ("X-Amz-Credential", "abc", "AuthorizationQueryParametersError"),
        (
            "X-Amz-Credential",
            f"{ACCESS_KEY}%2F20200101%2F{REGION}%2Fs3%2Faws4_request",
            "AuthorizationQueryParametersError",
        ),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA512", "AuthorizationQueryParametersError"),
        ("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256", "AuthorizationQueryParametersError"),
        ("X-Amz-SignedHeaders", "date", "AccessDenied"),
        ("X-Amz-Signature", "0" * 64, "SignatureDoesNotMatch"),
        ("X-Amz-Signature", "%E2%82%AC", "SignatureDoesNotMatch"),
    ],
)
def test_malformed_presigned(name: str, value: str, code: str) -> None:
    request = presign("GET", URL)
    items = dict(item.split("=") for item in request.raw_query.split("&"))
    assert name in items
    items[name] = value
    query = "&".join(f"{item}={text}" for item, text in items.items())
    assert refusal(request._replace(raw_query=query)).code == code
    del items[name]
    query = "&".join(f"{item}={text}" for item, text in items.items())
    assert refusal(request._replace(raw_query=query)).code == "AuthorizationQueryParametersError"


def test_presigned_expiry() -> None:
    request = presign("GET", URL, expires=10)
    signed_at = now()
    assert check(request, at=signed_at + 8).presigned
    assert refusal(request, at=signed_at + 12).message == "Request has expired"
    assert check(request, at=signed_at - 800).presigned
    assert refusal(request, at=signed_at - 1000).message == "Request is not yet valid"


# Keys


@settings(max_examples=50, deadline=None)
@given(key=st.binary(max_size=64), message=st.binary(max_size=300))
def test_signing_key_is_hmac(key: bytes, message: bytes) -> None:
    signing_key = SigningKey(key)
    for _ in range(2):
        assert signing_key.sign(message) == hmac.digest(key, message, "sha256").hex()


def test_key_derivation_as_documented() -> None:
    scope = Scope("AKIDEXAMPLE", "20120215", "us-east-1", "iam")
    key = derive_signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", scope)
    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def test_cached_keys_are_bounded_and_follow_the_secret() -> None:
    keys = SigningKeys(capacity=3)
    scopes = [Scope(f"key{number}", "20260101", REGION, "s3") for number in range(5)]
    for scope in scopes:
        keys.get(scope, "secret")
    assert len(keys) == 3
    assert keys.get(scopes[4], "secret") is keys.get(scopes[4], "secret")
    before = keys.get(scopes[4], "secret").sign(b"x")
    assert keys.get(scopes[4], "changed").sign(b"x") != before
    assert len(keys) == 3


def test_a_changed_secret_counts_at_once() -> None:
    users = OneUser()
    authenticator = Authenticator(users, region=REGION)
    request = sign("GET", URL)
    authenticate(authenticator, request, now())
    users.credentials = Credentials(ACCESS_KEY, "rotated", TESTER)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        authenticate(authenticator, request, now())


def test_secrets_do_not_show() -> None:
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, TESTER, session_token="hidden token")
    assert SECRET_KEY not in repr(credentials)
    assert "hidden" not in repr(credentials)
    answer = check(sign("PUT", URL, content_sha256=Payload.CHUNKS_SIGNED.value))
    assert SECRET_KEY not in repr(answer)
