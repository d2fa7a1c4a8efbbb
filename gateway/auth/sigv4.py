"""Signature Version 4 in the Authorization header, and what presigned URLs share with it. Pure.

The order of checks is that of AWS: form, region and service, clock, key, headers, signature. A
canonical request is built from the undecoded request target: path and query are decoded and encoded
again in the one canonical way, so that ``%7e`` and ``~`` sign alike; nothing else is normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from functools import lru_cache
from time import gmtime, strftime, strptime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from ..errors import S3Error, invalid_argument, not_implemented
from ..headers import Headers
from ..routing import split_query
from ..times import iso_seconds, parse_http_date
from .credentials import Credentials, CredentialStore
from .request import Authentication, ChunkSigning, Payload, SignedRequest

ALGORITHM = "AWS4-HMAC-SHA256"
ALGORITHM_ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
CLOCK_SKEW_SECONDS_MAX = 15 * 60  # what AWS allows
SIGNING_KEYS_MAX = 1024  # one per (access key, day): a thousand active users, 100 bytes each
SIGNED_HEADERS_CHARACTERS_MAX = 4096  # far above any client's list; bounds a cached text

_SERVICE = "s3"
_TERMINATOR = "aws4_request"

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^, ]+), ?SignedHeaders=([^, ]+), ?Signature=([0-9a-f]{64})"
)
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")
_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9\-._~/]*")
_PLAIN_QUERY_ITEM = re.compile(r"[A-Za-z0-9\-._~]*=?[A-Za-z0-9\-._~]*")
_BLANKS = re.compile(r"[ \t]{2,}|\t")

_PAYLOADS = {payload.value: payload for payload in Payload if payload is not Payload.LITERAL}


class Scope(NamedTuple):
    """The credential of a signature, split."""

    access_key: str
    date: str
    region: str
    service: str

    def text(self) -> str:
        """As it stands in the string to sign."""
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


class SignedNames(NamedTuple):
    """The list of signed headers: sorted, as a set, and as it goes into the canonical request."""

    ordered: tuple[str, ...]
    members: frozenset[str]
    text: str


class SigningKeys:
    """Signing keys by (access key, date, region, service); bounded, the oldest goes first.

    An entry remembers the secret it came from, so that a changed secret counts at once.
    """

    def __init__(self, capacity: int = SIGNING_KEYS_MAX) -> None:
        self._capacity = capacity
        self._keys: dict[Scope, tuple[str, bytes]] = {}

    def get(self, scope: Scope, secret_key: str) -> bytes:
        """The signing key of *scope*. Only for scopes whose date and region were checked."""
        cached = self._keys.get(scope)
        if cached is not None and cached[0] == secret_key:
            return cached[1]
        key = derive_signing_key(secret_key, scope)
        self._keys.pop(scope, None)
        if len(self._keys) >= self._capacity:
            del self._keys[next(iter(self._keys))]
        self._keys[scope] = (secret_key, key)
        return key

    def __len__(self) -> int:
        return len(self._keys)


def derive_signing_key(secret_key: str, scope: Scope) -> bytes:
    """The key that signs for one day, region and service."""
    key = f"AWS4{secret_key}".encode()
    for item in (scope.date, scope.region, scope.service, _TERMINATOR):
        key = hmac.digest(key, item.encode(), "sha256")
    return key


class HeaderVerifier:
    """Checks requests signed in the Authorization header."""

    def __init__(self, store: CredentialStore, region: str, keys: SigningKeys) -> None:
        self._store = store
        self._region = region
        self._keys = keys

    def verify(self, request: SignedRequest, now_seconds: float) -> Authentication:
        """Return who signed *request*.

        Raises S3Error: AuthorizationHeaderMalformed, AccessDenied, RequestTimeTooSkewed,
        InvalidAccessKeyId, InvalidToken, ExpiredToken, InvalidRequest, InvalidArgument,
        SignatureDoesNotMatch, NotImplemented.
        """
        headers = request.headers
        scope, signed_headers, signature = _parse_authorization(headers["authorization"])
        check_scope(scope, self._region, "AuthorizationHeaderMalformed", _MALFORMED)
        timestamp, requested_seconds = _request_time(headers)
        if timestamp[:8] != scope.date:
            raise S3Error(
                "AuthorizationHeaderMalformed",
                f'{_MALFORMED}; Invalid credential date "{scope.date}". This date is not the same '
                f'as X-Amz-Date: "{timestamp[:8]}".',
            )
        if abs(now_seconds - requested_seconds) > CLOCK_SKEW_SECONDS_MAX:
            raise time_too_skewed(timestamp, now_seconds)
        credentials = find_credentials(
            self._store, scope.access_key, headers.get("x-amz-security-token", ""), now_seconds
        )
        content_sha256 = headers.get("x-amz-content-sha256")
        if content_sha256 is None:
            raise S3Error(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
            )
        payload = payload_kind(content_sha256)
        names = signed_names(signed_headers)
        check_signed_headers(names, headers)
        canonical = canonical_request(
            request, canonical_query(request.raw_query), names, content_sha256
        )
        key = self._keys.get(scope, credentials.secret_key)
        scope_text = scope.text()
        check_signature(canonical, timestamp, scope_text, key, signature, scope.access_key)
        literal = payload is Payload.LITERAL
        signing = None
        if payload is Payload.CHUNKS_SIGNED or payload is Payload.CHUNKS_SIGNED_TRAILER:
            signing = ChunkSigning(key, timestamp, scope_text, signature)
        return Authentication(
            credentials, payload, content_sha256.lower() if literal else "", signing, False, {}
        )


_MALFORMED = "The authorization header is malformed"


def _parse_authorization(value: str) -> tuple[Scope, str, str]:
    match = _AUTHORIZATION.fullmatch(value)
    if match is not None:
        credential, signed_headers, signature = match.groups()
        return (
            parse_credential(credential, "AuthorizationHeaderMalformed"),
            (signed_headers),
            signature,
        )
    parameters: dict[str, str] = {}
    for item in value.removeprefix(ALGORITHM).split(","):
        name, _, text = item.strip().partition("=")
        if name in parameters:
            raise S3Error("AuthorizationHeaderMalformed", f"{_MALFORMED}; {name} appears twice.")
        parameters[name] = text
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parameters.get(name):
            raise S3Error(
                "AuthorizationHeaderMalformed",
                f'{_MALFORMED}; the authorization component "{name}" is missing.',
            )
    scope = parse_credential(parameters["Credential"], "AuthorizationHeaderMalformed")
    return scope, parameters["SignedHeaders"], parameters["Signature"]


def parse_credential(credential: str, code: str) -> Scope:
    """Split ``key/date/region/service/aws4_request``; the key may hold slashes.

    Raises S3Error *code*.
    """
    items = credential.rsplit("/", 4)
    if len(items) != 5 or not items[0] or items[4] != _TERMINATOR or len(items[1]) != 8:
        raise S3Error(
            code,
            "The Credential is malformed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
        )
    return Scope(items[0], items[1], items[2], items[3])


def check_scope(scope: Scope, region: str, code: str, prefix: str) -> None:
    """Check region and service. Raises S3Error *code*, with the right region in its fields."""
    if scope.region != region:
        raise S3Error(
            code,
            f"{prefix}; the region '{scope.region}' is wrong; expecting '{region}'",
            fields={"Region": region},
        )
    if scope.service != _SERVICE:
        raise S3Error(
            code,
            f'{prefix}; incorrect service "{scope.service}". This endpoint belongs to '
            f'"{_SERVICE}".',
        )


def _request_time(headers: Headers) -> tuple[str, float]:
    """Timestamp in basic form and seconds since 1970, from x-amz-date or Date."""
    value = headers.get("x-amz-date")
    if value is not None:
        return value, parse_timestamp(value)
    value = headers.get("date")
    if value is not None:
        seconds = parse_http_date(value)
        if seconds is not None:
            return strftime("%Y%m%dT%H%M%SZ", gmtime(seconds)), seconds
    raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


def parse_timestamp(value: str) -> float:
    """Seconds since 1970 of ``20130524T000000Z``. Raises S3Error AccessDenied."""
    if _TIMESTAMP.fullmatch(value):
        try:
            return _timestamp_seconds(value)
        except ValueError:
            pass  # digits, but no date
    raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


@lru_cache(maxsize=64)
def _timestamp_seconds(value: str) -> float:
    return float(timegm(strptime(value, "%Y%m%dT%H%M%SZ")))


def time_too_skewed(timestamp: str, now_seconds: float) -> S3Error:
    """The error for a clock that is too far off."""
    return S3Error(
        "RequestTimeTooSkewed",
        fields={
            "RequestTime": timestamp,
            "ServerTime": iso_seconds(now_seconds),
            "MaxAllowedSkewMilliseconds": str(CLOCK_SKEW_SECONDS_MAX * 1000),
        },
    )


def find_credentials(
    store: CredentialStore, access_key: str, token: str, now_seconds: float
) -> Credentials:
    """The credentials of *access_key*, whose session token must be *token* (both may be empty).

    Raises S3Error: InvalidAccessKeyId, InvalidToken, ExpiredToken.
    """
    credentials = store.get(access_key)
    if credentials is None:
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key})
    if token or credentials.session_token:
        expected = credentials.session_token.encode()
        if not hmac.compare_digest(expected, token.encode("utf-8", "surrogateescape")):
            raise S3Error("InvalidToken")
    if credentials.expires_seconds is not None and now_seconds >= credentials.expires_seconds:
        raise S3Error("ExpiredToken")
    return credentials


def payload_kind(content_sha256: str) -> Payload:
    """How ``x-amz-content-sha256`` says that the body is covered.

    Raises S3Error: InvalidArgument, NotImplemented (asymmetric signatures).
    """
    payload = _PAYLOADS.get(content_sha256)
    if payload is not None:
        return payload
    if _HEX_SHA256.fullmatch(content_sha256):
        return Payload.LITERAL
    if content_sha256.startswith("STREAMING-AWS4-ECDSA"):
        raise not_implemented(f"x-amz-content-sha256: {content_sha256}")
    raise invalid_argument(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a "
        "valid sha256 value.",
        name="x-amz-content-sha256",
        value=content_sha256,
    )


def signed_names(text: str) -> SignedNames:
    """Split a ``SignedHeaders`` list. Raises S3Error AuthorizationHeaderMalformed if too long."""
    if len(text) > SIGNED_HEADERS_CHARACTERS_MAX:
        raise S3Error("AuthorizationHeaderMalformed", f"{_MALFORMED}; SignedHeaders is too long.")
    return _split_names(text)


@lru_cache(maxsize=256)
def _split_names(text: str) -> SignedNames:
    ordered = tuple(sorted({name for name in text.lower().split(";") if name}))
    return SignedNames(ordered, frozenset(ordered), ";".join(ordered))


def check_signed_headers(names: SignedNames, headers: Headers) -> None:
    """Check that host and every ``x-amz-*`` header are signed. Raises S3Error AccessDenied."""
    members = names.members
    missing = [name for name in headers if name.startswith("x-amz-") and name not in members]
    if "host" not in members:
        missing.insert(0, "host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(missing)},
        )


def canonical_request(
    request: SignedRequest, query: str, names: SignedNames, content_sha256: str
) -> str:
    """The canonical request, with *query* already canonical. A signed header that did not arrive
    leaves its line out: no signature over it can match."""
    lines = [request.method, canonical_path(request.raw_path), query]
    headers = request.headers
    for name in names.ordered:
        value = headers.get(name)
        if value is None:
            continue
        if "  " in value or "\t" in value:
            value = _BLANKS.sub(" ", value)
        lines.append(f"{name}:{value}")
    lines += ("", names.text, content_sha256)
    return "\n".join(lines)


def canonical_path(raw_path: str) -> str:
    """The path, encoded once as S3 does it: only unreserved characters and slashes stay."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path or "/"
    return quote(unquote_to_bytes(raw_path.encode("utf-8", "surrogateescape")), safe="/~")


def canonical_query(raw_query: str, *, without: str = "") -> str:
    """The query's items, encoded canonically and sorted; parameter *without* is left out."""
    if not raw_query:
        return ""
    items: list[tuple[str, str]] = []
    for item in split_query(raw_query):
        name, _, value = item.partition("=")
        if not _PLAIN_QUERY_ITEM.fullmatch(item):
            name, value = _encode_again(name), _encode_again(value)
        if name != without:
            items.append((name, value))
    items.sort()
    return "&".join([f"{name}={value}" for name, value in items])


def _encode_again(text: str) -> str:
    plain = text.replace("+", " ").encode("utf-8", "surrogateescape")
    return quote(unquote_to_bytes(plain), safe="-_.~")


def check_signature(
    canonical: str, timestamp: str, scope: str, key: bytes, signature: str, access_key: str
) -> None:
    """Compare *signature* with ours, in constant time. Raises S3Error SignatureDoesNotMatch."""
    raw = canonical.encode("utf-8", "surrogateescape")
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(raw).hexdigest()}"
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    if _SIGNATURE.fullmatch(signature) and hmac.compare_digest(expected, signature):
        return
    raise S3Error(
        "SignatureDoesNotMatch",
        fields={
            "AWSAccessKeyId": access_key,
            "StringToSign": to_sign,
            "SignatureProvided": signature,
            "StringToSignBytes": to_sign.encode().hex(" "),
            "CanonicalRequest": canonical,
            "CanonicalRequestBytes": raw.hex(" "),
        },
    )
