"""Which way a request is signed, and the check of that way. The clock is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import S3Error, invalid_argument
from .asymmetric import VerifyingKeys
from .claim import Claim
from .credentials import NOBODY, Credentials, CredentialStore
from .form import FormVerifier
from .presigned import PresignedVerifier
from .request import Authentication, Payload, SignedRequest
from .signing import (
    ALGORITHM,
    ALGORITHM_ASYMMETRIC,
    SigningKeys,
    checked_credentials,
    payload_kind,
)
from .sigv2 import Version2Verifier
from .sigv4 import HeaderVerifier

_ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
    "string parameter or the Authorization header should be specified"
)
_VERSION_2_REFUSED = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)
_NOTHING_HOISTED: Mapping[str, str] = {}
_UNSIGNED = Authentication(NOBODY, Payload.UNSIGNED, "", None, False, _NOTHING_HOISTED)


def _no_bucket(host: str) -> str:
    return ""


class Authenticator:
    """Finds out who sent a request. One per process; shares one cache of signing keys."""

    def __init__(
        self,
        store: CredentialStore,
        *,
        region: str,
        signature_v2: bool = False,
        bucket_of_host: Callable[[str], str] = _no_bucket,
    ) -> None:
        """*signature_v2*: also take the old signatures, which do not cover the body.
        *bucket_of_host*: the bucket that a Host header names, which those sign; empty: none."""
        keys = SigningKeys()
        asymmetric = VerifyingKeys()
        self._store = store
        self._header = HeaderVerifier(region, keys, asymmetric)
        self._presigned = PresignedVerifier(region, keys, asymmetric)
        self._version2 = Version2Verifier(bucket_of_host) if signature_v2 else None
        self._form = FormVerifier(region, keys, signature_v2=signature_v2)

    async def authenticate(self, request: SignedRequest, now_seconds: float) -> Authentication:
        """Return who signed *request*: nobody (``ANONYMOUS``) if it is not signed at all;
        *now_seconds* since 1970.

        Raises S3Error: InvalidAccessKeyId, InvalidToken, ExpiredToken, InvalidRequest for Signature
        Version 2 if that is off, InvalidArgument for two ways at once, and whatever the verifiers
        of the ways raise.
        """
        claim = self._claim(request, now_seconds)
        if claim is None:
            return _unsigned(request)
        return claim.check(await self._credentials(claim, now_seconds))

    async def authenticate_query(
        self,
        request: SignedRequest,
        now_seconds: float,
        *,
        body_sha256: str,
        services: tuple[str, ...],
    ) -> Authentication:
        """As ``authenticate``, for a request to another of *services*, which has its parameters in
        the body."""
        authorization = request.headers.get("authorization", "")
        if not authorization:
            return _UNSIGNED
        if not authorization.startswith((ALGORITHM, ALGORITHM_ASYMMETRIC)):
            raise _unsupported(authorization)
        claim = self._header.claim_query(
            request, now_seconds, body_sha256=body_sha256, services=services
        )
        return claim.check(await self._credentials(claim, now_seconds))

    async def verify_form(self, fields: Mapping[str, str], now_seconds: float) -> Authentication:
        """Who signed the policy among the *fields* of an upload form (names in lower case): nobody
        if there is no policy. What the policy says, and when it ends, is for the caller to check.

        Raises S3Error as ``authenticate`` does.
        """
        claim = self._form.claim(fields)
        if claim is None:
            return _UNSIGNED
        return claim.check(await self._credentials(claim, now_seconds))

    async def _credentials(self, claim: Claim, now_seconds: float) -> Credentials:
        credentials = self._store.get(claim.access_key)
        if credentials is None:
            credentials = await self._store.find(claim.access_key, claim.token)
        return checked_credentials(credentials, claim.access_key, claim.token, now_seconds)

    def _claim(self, request: SignedRequest, now_seconds: float) -> Claim | None:
        authorization = request.headers.get("authorization")
        query = request.raw_query
        in_query = "X-Amz-" in query and (
            "X-Amz-Algorithm=" in query or "X-Amz-Signature=" in query
        )
        if not authorization:
            if in_query:
                return self._presigned.claim(request, now_seconds)
            if "AWSAccessKeyId=" in query and "Signature=" in query:
                if self._version2 is None:
                    raise S3Error("InvalidRequest", _VERSION_2_REFUSED)
                return self._version2.claim_query(request, now_seconds)
            return None
        if in_query:
            raise S3Error("InvalidArgument", _ONE_MECHANISM)
        if authorization.startswith((ALGORITHM, ALGORITHM_ASYMMETRIC)):
            return self._header.claim(request, now_seconds)
        if authorization.startswith("AWS "):
            if self._version2 is None:
                raise S3Error("InvalidRequest", _VERSION_2_REFUSED)
            return self._version2.claim_header(request, now_seconds)
        raise _unsupported(authorization)


def _unsigned(request: SignedRequest) -> Authentication:
    """Raises S3Error AccessDenied for a body whose chunks are signed by nobody."""
    content_sha256 = request.headers.get("x-amz-content-sha256")
    if content_sha256 is None:
        return _UNSIGNED
    payload = payload_kind(content_sha256)
    if payload.has_signed_chunks:
        raise S3Error("AccessDenied")
    digest = content_sha256.lower() if payload is Payload.LITERAL else ""
    return Authentication(NOBODY, payload, digest, None, False, _NOTHING_HOISTED)


def _unsupported(authorization: str) -> S3Error:
    return invalid_argument(
        "Unsupported Authorization Type",
        name="Authorization",
        value=authorization.split(" ")[0],
    )
