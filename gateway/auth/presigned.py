"""Signature Version 4 in the query: presigned URLs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..errors import S3Error
from ..routing import parse_query
from ..times import iso_seconds
from .asymmetric import VerifyingKeys, check_region_set
from .canonical import canonical_query, canonical_request, check_signed_headers, signed_names
from .claim import Claim
from .credentials import Credentials
from .request import Authentication, Payload, SignedRequest
from .signing import (
    ALGORITHM,
    ALGORITHM_ASYMMETRIC,
    CLOCK_SKEW_SECONDS_MAX,
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
)
from .signing_key import CheckingKey

EXPIRES_SECONDS_MAX = 7 * 24 * 3600  # what AWS allows; also bounds the dates of cached signing keys

_CODE = "AuthorizationQueryParametersError"
_OUT_OF_RANGE = 403  # as the conformance suite has it; AWS answers 400 with the same code
_NEEDED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_OWN_PARAMETERS = frozenset(
    {*(name.lower() for name in _NEEDED), "x-amz-content-sha256", "x-amz-region-set"}
)


class PresignedVerifier:
    """Checks requests signed in their query."""

    def __init__(self, region: str, keys: SigningKeys, asymmetric: VerifyingKeys) -> None:
        self._region = region
        self._regions = (region,)
        self._keys = keys
        self._asymmetric = asymmetric

    def claim(self, request: SignedRequest, now_seconds: float) -> Claim:
        """Who is said to have signed *request*.

        Raises S3Error: AuthorizationQueryParametersError, AccessDenied (expired, not yet valid);
        its check: AccessDenied (headers not signed), InvalidArgument, SignatureDoesNotMatch,
        NotImplemented.
        """
        query = parse_query(request.raw_query)
        _check_parameters(query)
        algorithm = query["X-Amz-Algorithm"]
        scope = parse_credential(query["X-Amz-Credential"], _CODE, algorithm=algorithm)
        check_scope(scope, self._regions, _CODE, "Error parsing the X-Amz-Credential parameter")
        if scope.is_asymmetric:
            check_region_set(query.get("X-Amz-Region-Set", ""), self._region, _CODE)
        timestamp = query["X-Amz-Date"]
        _check_validity(timestamp, _expires_seconds(query["X-Amz-Expires"]), now_seconds)
        if timestamp[:8] != scope.date:
            raise S3Error(
                _CODE,
                f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date: '
                f'"{timestamp[:8]}".',
            )
        headers = request.headers
        token = query.get("X-Amz-Security-Token") or headers.get("x-amz-security-token", "")
        return Claim(scope.access_key, token, partial(self._check, request, query, scope))

    def _check(
        self,
        request: SignedRequest,
        query: Mapping[str, str],
        scope: Scope,
        credentials: Credentials,
    ) -> Authentication:
        headers = request.headers
        content_sha256 = query.get("X-Amz-Content-Sha256") or headers.get(
            "x-amz-content-sha256", Payload.UNSIGNED.value
        )
        payload = payload_kind(content_sha256)
        names = signed_names(query["X-Amz-SignedHeaders"], _CODE)
        check_signed_headers(names, headers)
        signed_query = canonical_query(request.raw_query, without="X-Amz-Signature")
        canonical = canonical_request(request, signed_query, names, content_sha256)
        signer = Signer(scope, scope.text(), names)
        key: CheckingKey
        if scope.is_asymmetric:
            key = self._asymmetric.get(credentials.access_key, credentials.secret_key)
        else:
            key = self._keys.get(scope, credentials.secret_key)
        timestamp, signature = query["X-Amz-Date"], query["X-Amz-Signature"]
        check_signature(canonical, timestamp, signer, key, signature)
        return Authentication(
            credentials,
            payload,
            literal_digest(payload, content_sha256),
            chunk_signing(payload, timestamp, signer, key, signature),
            True,
            hoisted_headers(query),
        )


def hoisted_headers(query: Mapping[str, str]) -> dict[str, str]:
    """The ``x-amz-*`` parameters that a signer moved from headers to the query, as headers."""
    return {
        name.lower(): value
        for name, value in query.items()
        if name[:6].lower() == "x-amz-" and name.lower() not in _OWN_PARAMETERS
    }


def _check_parameters(query: Mapping[str, str]) -> None:
    algorithm = query.get("X-Amz-Algorithm")
    if algorithm is not None and algorithm not in (ALGORITHM, ALGORITHM_ASYMMETRIC):
        raise S3Error(_CODE, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    if any(not query.get(name) for name in _NEEDED):
        raise S3Error(
            _CODE,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters.",
        )


def _expires_seconds(value: str) -> int:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise S3Error(_CODE, "X-Amz-Expires should be a number")
    seconds = int(value)
    if seconds < 1:
        raise S3Error(_CODE, "X-Amz-Expires must be positive", status=_OUT_OF_RANGE)
    if seconds > EXPIRES_SECONDS_MAX:
        raise S3Error(
            _CODE,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires "
            f"must be less than {EXPIRES_SECONDS_MAX} seconds",
            status=_OUT_OF_RANGE,
        )
    return seconds


def _check_validity(timestamp: str, expires_seconds: int, now_seconds: float) -> None:
    signed_seconds = parse_timestamp(timestamp)
    if signed_seconds is None:
        raise S3Error(
            _CODE, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    if signed_seconds > now_seconds + CLOCK_SKEW_SECONDS_MAX:
        raise S3Error("AccessDenied", "Request is not yet valid")
    ends_seconds = signed_seconds + expires_seconds
    if now_seconds > ends_seconds:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            fields={
                "X-Amz-Expires": str(expires_seconds),
                "Expires": iso_seconds(ends_seconds),
                "ServerTime": iso_seconds(now_seconds),
            },
        )
