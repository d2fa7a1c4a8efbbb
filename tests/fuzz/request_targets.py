"""What stands in a request's line and headers: signatures, routes, ranges, conditions, times, copy
sources, tags, tokens, preflights."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from craqen.core.errors import InvalidArgumentError
from craqen.core.identity.credentials import NOBODY, Credentials
from craqen.core.meta.version_ids import parse_version_id, version_id
from craqen.gateway import conditions, ranges, times
from craqen.gateway.attributes import header_tags
from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.canonical import (
    canonical_path,
    canonical_query,
    canonical_request,
    signed_names,
)
from craqen.gateway.auth.chunked import decoded_length_bytes, stored_content_encoding, trailer_names
from craqen.gateway.auth.credentials import account_identity
from craqen.gateway.auth.request import SignedRequest
from craqen.gateway.auth.signing import SigningKeys, parse_credential
from craqen.gateway.copy_source import parse_copy_source
from craqen.gateway.errors import S3Error
from craqen.gateway.headers import fold_headers
from craqen.gateway.iam.query import Parameters, QueryError, parse_form
from craqen.gateway.iam.tokens import check_token, parse_keys, parse_token
from craqen.gateway.listings import decode_token, encode_token
from craqen.gateway.routing import Router, parse_query, split_target
from craqen.gateway.settings import acl, cors

from .target import Draw, Target, expect, text_of

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "eu-test-1"
NOW = 1_780_000_000.0
"""The clock of all signatures here."""

_TIMESTAMP = "20260528T202640Z"


class OneKey:
    """A credential store with one entry, found without waiting."""

    credentials = Credentials(ACCESS_KEY, SECRET_KEY, account_identity("tester"))

    def get(self, access_key: str) -> Credentials | None:
        return self.credentials if access_key == ACCESS_KEY else None

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        return None


def parse_wire(data: bytes) -> SignedRequest | None:
    """A request from lines: method and target, then headers; None if it has no such form."""
    lines = data.split(b"\n")
    method, space, target = lines[0].partition(b" ")
    if not space:
        return None
    pairs = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            pairs.append((name, value))
    raw_path, raw_query = split_target(text_of(target))
    return SignedRequest(text_of(method), raw_path, raw_query, fold_headers(pairs))


def meaning(request: SignedRequest, names: set[str]) -> tuple[object, ...]:
    """What a signature over headers *names* says, found out in the simplest way."""

    def pair(item: str) -> tuple[bytes, bytes]:
        name, _, value = item.replace("+", " ").encode("utf-8", "surrogateescape").partition(b"=")
        return unquote_to_bytes(name), unquote_to_bytes(value)

    path = unquote_to_bytes(request.raw_path.encode("utf-8", "surrogateescape"))
    query = sorted(pair(item) for item in request.raw_query.split("&") if item)
    signed = {
        name: re.sub(r"[ \t]+", " ", value)
        for name, value in request.headers.items()
        if name in names or name.startswith("x-amz-")
    }
    return request.method, path, [one for one in query if one[0] != b"X-Amz-Signature"], signed


class Signer(NamedTuple):
    """Signs requests at one time."""

    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    timestamp: str = _TIMESTAMP
    host: str = "h"
    service: str = "s3"

    @property
    def scope(self) -> str:
        return f"{self.timestamp[:8]}/{REGION}/{self.service}/aws4_request"

    def signature(self, request: SignedRequest, names: str, payload: str) -> str:
        """The signature of *request* over headers *names*."""
        query = canonical_query(request.raw_query)
        text = canonical_request(request, query, signed_names(names, ""), payload)
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        scope = parse_credential(f"{self.access_key}/{self.scope}", "")
        key = SigningKeys().get(scope, self.secret_key)
        return key.sign(f"AWS4-HMAC-SHA256\n{self.timestamp}\n{self.scope}\n{digest}".encode())

    def headers(
        self, method: str, target: str, extra: dict[str, str], payload: str = "UNSIGNED-PAYLOAD"
    ) -> dict[str, str]:
        """All headers of a request that an authenticator takes."""
        given = {
            "host": self.host,
            "x-amz-content-sha256": payload,
            "x-amz-date": self.timestamp,
            **extra,
        }
        names = ";".join(sorted(given))
        request = SignedRequest(method, *split_target(target), given)
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope}, SignedHeaders={names}, "
            f"Signature={self.signature(request, names, payload)}"
        )
        return {"authorization": authorization, **given}


def _signed_seed(target: str, extra: dict[str, str]) -> bytes:
    """A request that the authenticator takes, as lines."""
    headers = Signer().headers("GET", target, extra)
    return "\n".join([f"GET {target}", *(f"{name}:{headers[name]}" for name in headers)]).encode()


def _presigned_seed(target: str) -> bytes:
    """A presigned request that the authenticator takes, as lines."""
    credential = f"{ACCESS_KEY}/{Signer().scope}".replace("/", "%2F")
    target += (
        f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={_TIMESTAMP}"
        "&X-Amz-Expires=600&X-Amz-SignedHeaders=host&response-expires=x"
    )
    request = SignedRequest("GET", *split_target(target), {"host": "h"})
    signature = Signer().signature(request, "host", "UNSIGNED-PAYLOAD")
    return f"GET {target}&X-Amz-Signature={signature}\nhost:h".encode()


SIGNED = (
    _signed_seed("/bucket/key%20one?versionId=1&list-type=2", {"x-amz-meta-a": "1 2"}),
    _signed_seed("/bucket/~%7E//x", {"range": "bytes=0-1"}),
    _presigned_seed("/bucket/key"),
)
_V2 = b"GET /bucket/key?acl\nhost:h\ndate:Thu, 28 May 2026 20:26:40 GMT\nauthorization:AWS A:bz8="
_V4A = (
    f"GET /b/k\nhost:h\nx-amz-date:{_TIMESTAMP}\nx-amz-region-set:*\n"
    "x-amz-content-sha256:UNSIGNED-PAYLOAD\nauthorization:AWS4-ECDSA-P256-SHA256 "
    f"Credential={ACCESS_KEY}/20260528/s3/aws4_request, "
    "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-region-set, "
    f"Signature={'30450220' + '11' * 32 + '022100' + '22' * 32}"
).encode()

_names_of = re.compile(r"SignedHeaders=([^, &]*)")


def _said(data: bytes) -> list[tuple[object, ...]]:
    request = parse_wire(data)
    assert request is not None
    return [meaning(request, _signed_names(request))]


def _signed_names(request: SignedRequest) -> set[str]:
    text = request.headers.get("authorization", "") + " " + request.raw_query
    found = _names_of.search(text)
    return set() if found is None else set(found[1].lower().replace("%3b", ";").split(";"))


_MEANT = [said for seed in SIGNED for said in _said(seed)]
_authenticator = Authenticator(
    OneKey(), region=REGION, signature_v2=True, bucket_of_host=Router(["s3.test"]).bucket_of_host
)


def run_signatures(data: bytes) -> None:
    """Whatever is done to a signed request: it is refused, or still says what was signed."""
    try:
        request = parse_wire(data)
        if request is None:
            return
        found = asyncio.run(_authenticator.authenticate(request, NOW))
    except S3Error:
        return
    if found.credentials is not NOBODY:
        expect(
            meaning(request, _signed_names(request)) in _MEANT,
            f"a signature over something else was taken: {request}",
        )


_router = Router(["s3.test"])


def run_routes(data: bytes) -> None:
    """A target gives a route or an S3 error, and the canonical forms are stable."""
    method, _, rest = data.partition(b" ")
    try:
        raw_path, raw_query = split_target(text_of(rest))
        canonical = canonical_path(raw_path)
        expect(canonical_path(canonical) == canonical, f"the path {raw_path!r} is not stable")
        query = canonical_query(raw_query)
        expect(canonical_query(query) == query, f"the query {raw_query!r} is not stable")
        parse_query(raw_query)
        headers = {"host": "b.s3.test" if b"@" in data else "h", "content-type": "text/plain"}
        route = _router.route(text_of(method), raw_path, raw_query, headers)
    except S3Error:
        return
    expect("\0" not in route.bucket and "/" not in route.bucket, f"bucket {route.bucket!r}")
    expect(len(route.key) <= 1024, "a long key")


_CONDITIONS = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "x-amz-if-match-size",
    "x-amz-if-match-last-modified-time",
    "if-range",
)


def _quietly(work: Callable[[], object]) -> Any:
    try:
        return work()
    except (S3Error, QueryError, InvalidArgumentError):
        return None


def run_headers(data: bytes) -> None:
    """Header values of every kind: an answer or an S3 error."""
    draw = Draw(data)
    kind, size = draw.number(15), draw.number(1 << 42)
    text = text_of(draw.rest())
    match kind:
        case 0:
            part = _quietly(lambda: ranges.parse_range(text, size))
            expect(part is None or 0 <= part.start < part.start + part.length <= size, text)
        case 1:
            part = _quietly(lambda: ranges.parse_copy_range(text, size))
            expect(part is None or 0 <= part.start < part.start + part.length <= size, text)
        case 2:
            source = _quietly(lambda: parse_copy_source(text))
            expect(source is None or 1 <= len(source.key) <= 1024, text)
        case 3:
            _quietly(lambda: ranges.parse_part_number(text))
        case 4:
            seconds = times.parse_http_date(text)
            expect(seconds is None or isinstance(seconds, int), text)
            moment = times.parse_time_ns(text)
            expect(moment is None or isinstance(moment, int), text)
        case 5:
            place = _quietly(lambda: decode_token(text))
            expect(place is None or decode_token(encode_token(place)) == place, text)
        case 6:
            sequence = _quietly(lambda: parse_version_id(text))
            expect(sequence is None or version_id(sequence, is_null=False) == text, text)
        case 7:
            tags = _quietly(lambda: header_tags({"x-amz-tagging": text}))
            expect(tags is None or len(tags) <= 10, text)
        case 8 | 9:
            values = text.split("\n")
            headers = dict(zip(_CONDITIONS, values, strict=False))
            _quietly(lambda: conditions.write_conditions(headers))
            _quietly(lambda: conditions.delete_conditions(headers))
            _quietly(lambda: conditions.is_not_modified(headers, "etag", size))
            conditions.range_applies(headers, "etag", size)
            conditions.rename_conditions(headers)
        case 10:
            origin, method, asked = (*text.split("\n"), "", "")[:3]
            headers = {
                "origin": origin,
                "access-control-request-method": method,
                "access-control-request-headers": asked,
            }
            answer = _quietly(lambda: cors.preflight(_CORS, headers, "OBJECT"))
            expect(answer is None or origin.endswith(".org"), text)
        case 11:
            names = sorted(acl.HEADERS)
            headers = dict(zip(names[size % len(names) :], text.split("\n"), strict=False))
            _quietly(lambda: acl.asked_by_headers(headers))
        case 12:
            stored_content_encoding(text)
            trailer_names({"x-amz-trailer": text})
            length = _quietly(lambda: decoded_length_bytes({"x-amz-decoded-content-length": text}))
            expect(length is None or length >= 0, text)
        case _:
            found = _quietly(lambda: parse_form(text.encode("utf-8", "surrogateescape")))
            if found is not None:
                parameters = Parameters(found)
                _quietly(lambda: parameters.members("PolicyArns"))
                _quietly(lambda: parameters.tags())
                _quietly(lambda: parameters.number("MaxItems", 1, 1, 1000))


_CORS = cors.parse(
    b"<CORSConfiguration><CORSRule><AllowedOrigin>https://*.org</AllowedOrigin>"
    b"<AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-*</AllowedHeader></CORSRule>"
    b"</CORSConfiguration>"
)
_JWKS = (
    b'{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","use":"sig","e":"AQAB","n":"'
    + b"q" * 342
    + b'"},{"kty":"EC","crv":"P-256","kid":"b","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",'
    b'"y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}]}'
)
_KEYS = parse_keys(_JWKS)


def run_tokens(data: bytes) -> None:
    """Identity tokens and key sets: no token is good, since nobody signed one."""
    try:
        parse_keys(data)
    except ValueError:
        pass
    try:
        token = parse_token(text_of(data))
        check_token(token, _KEYS, NOW)
    except QueryError:
        return
    expect(False, "a token that nobody signed was taken")


_TOKEN = (
    b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJodHRwczovL2kiLCJzdWIiOiJzIiwiYXVkIjoiYSIs"
    b"ImV4cCI6OTk5OTk5OTk5OX0.AAAA"
)

TARGETS = (
    Target(
        "signatures",
        run_signatures,
        (*SIGNED, _V2, _V4A),
        (b"AWS4-HMAC-SHA256", b"SignedHeaders=", b"Credential=", b"Signature=", b"X-Amz-Expires="),
    ),
    Target(
        "routes",
        run_routes,
        (
            b"GET /bucket/key?versionId=x",
            b"PUT /bucket/a%2F..%2Fb?partNumber=1&uploadId=u",
            b"POST /bucket?delete",
            b"GET http://h/bucket?list-type=2&prefix=%00",
            b"GET /@?uploads",
        ),
        (b"%2e%2e%2f", b"%00", b"%c0%ae", b"?acl", b"&", b"..", b"//", b"https://"),
    ),
    Target(
        "headers",
        run_headers,
        (
            b"\0\0\0\0\0\x10\0bytes=0-9",
            b"\1\0\0\0\0\x10\0bytes=0-9",
            b"\2\0\0\0\0\0\0/bucket/a%2Fkey?versionId=null",
            b"\4\0\0\0\0\0\0Thu, 28 May 2026 20:26:40 GMT",
            b"\4\0\0\0\0\0\x002026-05-28T20:26:40.123+01:00",
            b"\5\0\0\0\0\0\0a2V5",
            b"\6\0\0\0\0\0\0" + b"0" * 32,
            b"\7\0\0\0\0\0\0a=1&b=%20",
            b'\x08\0\0\0\0\0\0"a", W/"b"\n*\nThu, 28 May 2026 20:26:40 GMT\n\n12\n1\n"x"',
            b"\x0a\0\0\0\0\0\0https://a.org\nPUT\nx-a, x-b",
            b'\x0b\0\0\0\0\0\0id="1", uri=http://acs.amazonaws.com/groups/global/AllUsers\nid=2',
            b"\x0c\0\0\0\0\0\0aws-chunked,gzip",
            b"\x0d\0\0\0\0\0\0Tags.member.1.Key=a&Tags.member.1.Value=b&MaxItems=7",
        ),
        (b"bytes=", b"-", b"GMT", b"T00:00:00Z", b"+99:99", b"versionId=", b"%", b"null"),
    ),
    Target("identity-tokens", run_tokens, (_TOKEN, _JWKS), (b'"alg":"none"', b"eyJ", b".")),
)
