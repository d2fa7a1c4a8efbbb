"""Signature Version 4 in the Authorization header. Pure.

The order of checks is that of AWS: form, region and service, clock, key, headers, signature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from time import gmtime, strftime

from ..errors import S3Error
from ..headers import Headers
from ..times import iso_seconds, parse_http_date
from .canonical import canonical_query, canonical_request, check_signed_headers, signed_names
from .credentials import CredentialStore
from .request import Authentication, SignedRequest
from .signing import (
    ALGORITHM,
    CLOCK_SKEW_SECONDS_MAX,
    SIGNATURE_CHARACTERS,
    SIGNING_KEYS_MAX,
    Signer,
    SigningKeys,
    check_scope,
    check_signature,
    chunk_signing,
    find_credentials,
    literal_digest,
    parse_credential,
    parse_timestamp,
    payload_kind,
)

AUTHORIZATION_CHARACTERS_CACHED = 1024  # longer ones are parsed every time: bounds the cache

_CODE = "AuthorizationHeaderMalformed"
_MALFORMED = "The authorization header is malformed"
_USUAL_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^, ]+), ?SignedHeaders=([^, ]+), ?Signature="
)
_NOTHING_HOISTED: Mapping[str, str] = {}


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
        signer, signature = _parse_authorization(headers["authorization"])
        scope = signer.scope
        check_scope(scope, self._region, _CODE, _MALFORMED)
        timestamp, requested_seconds = _request_time(headers)
        if timestamp[:8] != scope.date:
            raise S3Error(
                _CODE,
                f'{_MALFORMED}; Invalid credential date "{scope.date}". This date is not the same '
                f'as X-Amz-Date: "{timestamp[:8]}".',
            )
        if abs(now_seconds - requested_seconds) > CLOCK_SKEW_SECONDS_MAX:
            raise _time_too_skewed(timestamp, now_seconds)
        credentials = find_credentials(
            self._store, scope.access_key, headers.get("x-amz-security-token", ""), now_seconds
        )
        content_sha256 = headers.get("x-amz-content-sha256")
        if content_sha256 is None:
            raise S3Error(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
            )
        payload = payload_kind(content_sha256)
        check_signed_headers(signer.names, headers)
        query = canonical_query(request.raw_query)
        canonical = canonical_request(request, query, signer.names, content_sha256)
        key = self._keys.get(scope, credentials.secret_key)
        check_signature(canonical, timestamp, signer, key, signature)
        return Authentication(
            credentials,
            payload,
            literal_digest(payload, content_sha256),
            chunk_signing(payload, timestamp, signer, key, signature),
            False,
            _NOTHING_HOISTED,
        )


def _parse_authorization(value: str) -> tuple[Signer, str]:
    """Who signed, and the signature. All but the signature repeats from request to request."""
    if len(value) < AUTHORIZATION_CHARACTERS_CACHED:
        signer = _usual_signer(value[:-SIGNATURE_CHARACTERS])
        if signer is not None:
            return signer, value[-SIGNATURE_CHARACTERS:]
    parameters: dict[str, str] = {}
    for item in value.removeprefix(ALGORITHM).split(","):
        name, _, text = item.strip().partition("=")
        if name in parameters:
            raise S3Error(_CODE, f"{_MALFORMED}; {name} appears twice.")
        parameters[name] = text
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parameters.get(name):
            raise S3Error(_CODE, f'{_MALFORMED}; the authorization component "{name}" is missing.')
    signer = _signer(parameters["Credential"], parameters["SignedHeaders"])
    return signer, parameters["Signature"]


@lru_cache(maxsize=SIGNING_KEYS_MAX)
def _usual_signer(text: str) -> Signer | None:
    match = _USUAL_AUTHORIZATION.fullmatch(text)
    return None if match is None else _signer(match[1], match[2])


def _signer(credential: str, signed_headers: str) -> Signer:
    scope = parse_credential(credential, _CODE)
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


def _time_too_skewed(timestamp: str, now_seconds: float) -> S3Error:
    return S3Error(
        "RequestTimeTooSkewed",
        fields={
            "RequestTime": timestamp,
            "ServerTime": iso_seconds(now_seconds),
            "MaxAllowedSkewMilliseconds": str(CLOCK_SKEW_SECONDS_MAX * 1000),
        },
    )
