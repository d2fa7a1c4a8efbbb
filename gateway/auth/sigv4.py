"""Signature Version 4 in the Authorization header. Pure.

The order of checks is that of AWS: form, region and service, clock, key, headers, signature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from time import gmtime, strftime

from ..errors import S3Error
from ..headers import Headers
from ..times import parse_http_date
from .asymmetric import VerifyingKeys, check_region_set
from .canonical import canonical_query, canonical_request, check_signed_headers, signed_names
from .claim import Claim
from .credentials import Credentials
from .request import Authentication, Payload, SignedRequest
from .signing import (
    ALGORITHM,
    ALGORITHM_ASYMMETRIC,
    CLOCK_SKEW_SECONDS_MAX,
    GLOBAL_REGION,
    SIGNATURE_CHARACTERS,
    SIGNING_KEYS_MAX,
    Scope,
    Signer,
    SigningKeys,
    check_scope,
    check_signature,
    chunk_signing,
    literal_digest,
    parse_credential,
    parse_timestamp,
    payload_kind,
    time_too_skewed,
)
from .signing_key import CheckingKey

AUTHORIZATION_CHARACTERS_CACHED = 1024  # longer ones are parsed every time: bounds the cache

_CODE = "AuthorizationHeaderMalformed"
_MALFORMED = "The authorization header is malformed"
_USUAL_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^, ]+), ?SignedHeaders=([^, ]+), ?Signature="
)
_NOTHING_HOISTED: Mapping[str, str] = {}


class HeaderVerifier:
    """Checks requests signed in the Authorization header."""

    def __init__(self, region: str, keys: SigningKeys, asymmetric: VerifyingKeys) -> None:
        self._region = region
        self._regions = (region,)
        self._keys = keys
        self._asymmetric = asymmetric

    def claim(self, request: SignedRequest, now_seconds: float) -> Claim:
        """Who is said to have signed *request*.

        Raises S3Error: AuthorizationHeaderMalformed, AccessDenied, RequestTimeTooSkewed; its check:
        AccessDenied, InvalidRequest, InvalidArgument, SignatureDoesNotMatch, NotImplemented.
        """
        headers = request.headers
        signer, signature = _parse_authorization(headers["authorization"])
        scope = signer.scope
        check_scope(scope, self._regions, _CODE, _MALFORMED)
        timestamp = self._checked_time(scope, headers, now_seconds)
        return Claim(
            scope.access_key,
            headers.get("x-amz-security-token", ""),
            partial(self._check, request, signer, signature, timestamp),
        )

    def claim_query(
        self,
        request: SignedRequest,
        now_seconds: float,
        *,
        body_sha256: str,
        services: tuple[str, ...],
    ) -> Claim:
        """As ``claim``, for another service's request whose body is here already, with its
        digest in hex. Such services have one more region, the one they live in at AWS; and since
        they have one place for all regions, a client may name none."""
        headers = request.headers
        signer, signature = _parse_authorization(headers["authorization"])
        scope = signer.scope
        check_scope(scope, (*self._regions, GLOBAL_REGION, ""), _CODE, _MALFORMED, services)
        timestamp = self._checked_time(scope, headers, now_seconds)
        return Claim(
            scope.access_key,
            headers.get("x-amz-security-token", ""),
            partial(self._check_whole, request, signer, signature, timestamp, body_sha256),
        )

    def _checked_time(self, scope: Scope, headers: Headers, now_seconds: float) -> str:
        if scope.is_asymmetric:
            check_region_set(headers.get("x-amz-region-set", ""), self._region, _CODE)
        timestamp, requested_seconds = _request_time(headers)
        if timestamp[:8] != scope.date:
            raise S3Error(
                _CODE,
                f'{_MALFORMED}; Invalid credential date "{scope.date}". This date is not the same '
                f'as X-Amz-Date: "{timestamp[:8]}".',
            )
        if abs(now_seconds - requested_seconds) > CLOCK_SKEW_SECONDS_MAX:
            raise time_too_skewed(timestamp, now_seconds)
        return timestamp

    def _check(
        self,
        request: SignedRequest,
        signer: Signer,
        signature: str,
        timestamp: str,
        credentials: Credentials,
    ) -> Authentication:
        headers = request.headers
        content_sha256 = headers.get("x-amz-content-sha256")
        if content_sha256 is None:
            raise S3Error(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
            )
        payload = payload_kind(content_sha256)
        key = self._check_as(request, signer, signature, timestamp, content_sha256, credentials)
        return Authentication(
            credentials,
            payload,
            literal_digest(payload, content_sha256),
            chunk_signing(payload, timestamp, signer, key, signature),
            False,
            _NOTHING_HOISTED,
        )

    def _check_whole(
        self,
        request: SignedRequest,
        signer: Signer,
        signature: str,
        timestamp: str,
        body_sha256: str,
        credentials: Credentials,
    ) -> Authentication:
        self._check_as(request, signer, signature, timestamp, body_sha256, credentials)
        return Authentication(
            credentials, Payload.LITERAL, body_sha256, None, False, _NOTHING_HOISTED
        )

    def _check_as(
        self,
        request: SignedRequest,
        signer: Signer,
        signature: str,
        timestamp: str,
        content_sha256: str,
        credentials: Credentials,
    ) -> CheckingKey:
        check_signed_headers(signer.names, request.headers)
        query = canonical_query(request.raw_query)
        canonical = canonical_request(request, query, signer.names, content_sha256)
        key: CheckingKey
        if signer.scope.is_asymmetric:
            key = self._asymmetric.get(credentials.access_key, credentials.secret_key)
        else:
            key = self._keys.get(signer.scope, credentials.secret_key)
        check_signature(canonical, timestamp, signer, key, signature)
        return key


def _parse_authorization(value: str) -> tuple[Signer, str]:
    """Who signed, and the signature. All but the signature repeats from request to request."""
    if len(value) < AUTHORIZATION_CHARACTERS_CACHED:
        signer = _usual_signer(value[:-SIGNATURE_CHARACTERS])
        if signer is not None:
            return signer, value[-SIGNATURE_CHARACTERS:]
    algorithm, _, rest = value.partition(" ")
    if algorithm not in (ALGORITHM, ALGORITHM_ASYMMETRIC):
        raise S3Error(_CODE, f"{_MALFORMED}; the algorithm is not known.")
    parameters: dict[str, str] = {}
    for item in rest.split(","):
        name, _, text = item.strip().partition("=")
        if name in parameters:
            raise S3Error(_CODE, f"{_MALFORMED}; {name} appears twice.")
        parameters[name] = text
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parameters.get(name):
            raise S3Error(_CODE, f'{_MALFORMED}; the authorization component "{name}" is missing.')
    signer = _signer(parameters["Credential"], parameters["SignedHeaders"], algorithm)
    return signer, parameters["Signature"]


@lru_cache(maxsize=SIGNING_KEYS_MAX)
def _usual_signer(text: str) -> Signer | None:
    match = _USUAL_AUTHORIZATION.fullmatch(text)
    return None if match is None else _signer(match[1], match[2])


def _signer(credential: str, signed_headers: str, algorithm: str = ALGORITHM) -> Signer:
    scope = parse_credential(credential, _CODE, algorithm=algorithm)
    return Signer(scope, scope.text(), signed_names(signed_headers, _CODE))


def _request_time(headers: Headers) -> tuple[str, float]:
    """Timestamp in basic form and seconds since 1970, from x-amz-date or Date."""
    value = headers.get("x-amz-date")
    if value is not None:
        seconds = parse_timestamp(value)
        if seconds is not None:
            return value, seconds
    else:
        date = parse_http_date(headers.get("date", ""))
        if date is not None:
            return strftime("%Y%m%dT%H%M%SZ", gmtime(date)), float(date)
    raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
