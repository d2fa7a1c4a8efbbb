"""What header and query signatures share: scope, keys, clock, payload kinds, comparison. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from functools import lru_cache
from time import strptime
from typing import NamedTuple

from ..errors import S3Error, invalid_argument
from ..times import iso_seconds
from .canonical import SignedNames
from .credentials import Credentials
from .request import ChunkSigning, Payload
from .signing_key import CheckingKey, SigningKey

ALGORITHM = "AWS4-HMAC-SHA256"
ALGORITHM_ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
CLOCK_SKEW_SECONDS_MAX = 15 * 60  # what AWS allows
SIGNING_KEYS_MAX = 1024  # one per (access key, day): a thousand active users, 100 bytes each
SIGNATURE_CHARACTERS = 64

S3_SERVICE = ("s3",)
ANY_REGION = "*"
GLOBAL_REGION = "us-east-1"
"""Where IAM and STS live at AWS: clients sign for it whatever their region is."""
_TERMINATOR = "aws4_request"

_TIMESTAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SECRETS = re.compile(r"^(x-amz-security-token|x-amz-[a-z-]+-customer-key):.*$", re.MULTILINE)
_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_PAYLOADS = {
    **{payload.value: payload for payload in Payload if payload is not Payload.LITERAL},
    hashlib.sha256(b"").hexdigest(): Payload.LITERAL,  # every request without a body
}


class Scope(NamedTuple):
    """The credential of a signature, split."""

    access_key: str
    date: str
    region: str
    """ANY_REGION for asymmetric signatures, which hold for a set of regions."""
    service: str

    @property
    def is_asymmetric(self) -> bool:
        """Whether it is one of Version 4A."""
        return self.region == ANY_REGION

    def text(self) -> str:
        """As it stands in the string to sign."""
        if self.is_asymmetric:
            return f"{self.date}/{self.service}/{_TERMINATOR}"
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


class Signer(NamedTuple):
    """What a signature says of itself: all but its value."""

    scope: Scope
    scope_text: str
    names: SignedNames

    @property
    def algorithm(self) -> str:
        """ALGORITHM or ALGORITHM_ASYMMETRIC."""
        return ALGORITHM_ASYMMETRIC if self.scope.is_asymmetric else ALGORITHM


class SigningKeys:
    """Signing keys by (access key, date, region, service); bounded, the oldest goes first.

    An entry remembers the secret it came from, so that a changed secret counts at once.
    """

    def __init__(self, capacity: int = SIGNING_KEYS_MAX) -> None:
        self._capacity = capacity
        self._keys: dict[Scope, tuple[str, SigningKey]] = {}

    def get(self, scope: Scope, secret_key: str) -> SigningKey:
        """The signing key of *scope*. Only for scopes whose date and region were checked."""
        cached = self._keys.get(scope)
        if cached is not None and cached[0] == secret_key:
            return cached[1]
        key = SigningKey(derive_signing_key(secret_key, scope))
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


def parse_credential(credential: str, code: str, *, algorithm: str = ALGORITHM) -> Scope:
    """Split ``key/date/region/service/aws4_request``, without the region for asymmetric signatures;
    the key may hold slashes.

    Raises S3Error *code*.
    """
    if algorithm == ALGORITHM_ASYMMETRIC:
        items = credential.rsplit("/", 3)
        items.insert(2, ANY_REGION)
    else:
        items = credential.rsplit("/", 4)
        if len(items) == 5 and items[2] == ANY_REGION:
            items = []
    if len(items) != 5 or not items[0] or items[4] != _TERMINATOR or len(items[1]) != 8:
        raise S3Error(
            code,
            "The Credential is malformed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
        )
    return Scope(items[0], items[1], items[2], items[3])


def check_scope(
    scope: Scope,
    regions: tuple[str, ...],
    code: str,
    prefix: str,
    services: tuple[str, ...] = S3_SERVICE,
) -> None:
    """Check the region, unless the scope has a set of them, and the service.

    Raises S3Error *code*, with the right region in its fields.
    """
    if scope.region not in regions and not scope.is_asymmetric:
        raise S3Error(
            code,
            f"{prefix}; the region '{scope.region}' is wrong; expecting '{regions[0]}'",
            fields={"Region": regions[0]},
        )
    if scope.service not in services:
        raise S3Error(
            code,
            f'{prefix}; incorrect service "{scope.service}". This endpoint belongs to '
            f'"{services[0]}".',
        )


def parse_timestamp(value: str) -> float | None:
    """Seconds since 1970 of ``20130524T000000Z``; None if it is no such time."""
    if _TIMESTAMP.fullmatch(value) is None:
        return None
    try:
        return _timestamp_seconds(value)
    except ValueError:
        return None  # digits, but no date


@lru_cache(maxsize=64)
def _timestamp_seconds(value: str) -> float:
    return float(timegm(strptime(value, "%Y%m%dT%H%M%SZ")))


def checked_credentials(
    credentials: Credentials | None, access_key: str, token: str, now_seconds: float
) -> Credentials:
    """*credentials* of *access_key*, whose session token must be *token* (both may be empty).

    Raises S3Error: InvalidAccessKeyId, InvalidToken, ExpiredToken.
    """
    if credentials is None:
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key})
    if token or credentials.session_token:
        expected = credentials.session_token.encode()
        if not hmac.compare_digest(expected, token.encode("utf-8", "surrogateescape")):
            raise S3Error("InvalidToken")
    if credentials.expires_seconds is not None and now_seconds >= credentials.expires_seconds:
        raise S3Error("ExpiredToken")
    return credentials


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


def payload_kind(content_sha256: str) -> Payload:
    """How ``x-amz-content-sha256`` says that the body is covered.

    Raises S3Error InvalidArgument.
    """
    payload = _PAYLOADS.get(content_sha256)
    if payload is not None:
        return payload
    if _HEX_SHA256.fullmatch(content_sha256):
        return Payload.LITERAL
    raise invalid_argument(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a "
        "valid sha256 value.",
        name="x-amz-content-sha256",
        value=content_sha256,
    )


def check_signature(
    canonical: str, timestamp: str, signer: Signer, key: CheckingKey, signature: str
) -> None:
    """Check *signature*, in constant time. Raises S3Error SignatureDoesNotMatch."""
    raw = canonical.encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(raw).hexdigest()
    to_sign = f"{signer.algorithm}\n{timestamp}\n{signer.scope_text}\n{digest}".encode()
    if key.check(to_sign, signature):
        return
    # The answer goes through the hands of others than the sender: proxies, logs of clients.
    shown = _SECRETS.sub(r"\1:(not shown)", canonical)
    raise S3Error(
        "SignatureDoesNotMatch",
        fields={
            "AWSAccessKeyId": signer.scope.access_key,
            "StringToSign": to_sign.decode(),
            "SignatureProvided": signature,
            "StringToSignBytes": to_sign.hex(" "),
            "CanonicalRequest": shown,
            "CanonicalRequestBytes": shown.encode("utf-8", "surrogateescape").hex(" "),
        },
    )


def chunk_signing(
    payload: Payload, timestamp: str, signer: Signer, key: CheckingKey, signature: str
) -> ChunkSigning | None:
    """What signed chunks build on; None if *payload* has none. Raises S3Error InvalidArgument if
    the chunks are signed in another way than the request."""
    if payload.has_signed_chunks:
        if payload.is_asymmetric is not signer.scope.is_asymmetric:
            raise invalid_argument(
                f"x-amz-content-sha256 does not go with {signer.algorithm}",
                name="x-amz-content-sha256",
                value=payload.value,
            )
        return ChunkSigning(key, timestamp, signer.scope_text, signature, signer.algorithm)
    return None


def literal_digest(payload: Payload, content_sha256: str) -> str:
    """The digest that the body must have; empty if none is signed."""
    return content_sha256.lower() if payload is Payload.LITERAL else ""
