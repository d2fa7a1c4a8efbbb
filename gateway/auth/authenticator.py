"""Which way a request is signed, and the check of that way. Pure: the clock is an argument."""

from __future__ import annotations

from ..errors import S3Error, not_implemented
from .credentials import CredentialStore
from .presigned import PresignedVerifier
from .request import Authentication, SignedRequest
from .signing import ALGORITHM, ALGORITHM_ASYMMETRIC, SigningKeys
from .sigv4 import HeaderVerifier

_ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
    "string parameter or the Authorization header should be specified"
)
_VERSION_2_REFUSED = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
)


class Authenticator:
    """Finds out who sent a request. One per process; shares one cache of signing keys."""

    def __init__(self, store: CredentialStore, *, region: str) -> None:
        keys = SigningKeys()
        self._header = HeaderVerifier(store, region, keys)
        self._presigned = PresignedVerifier(store, region, keys)

    def authenticate(self, request: SignedRequest, now_seconds: float) -> Authentication:
        """Return who signed *request*; *now_seconds* since 1970.

        Raises S3Error; AccessDenied for an unsigned request, InvalidRequest for Signature
        Version 2, and whatever ``HeaderVerifier`` and ``PresignedVerifier`` raise.
        """
        authorization = request.headers.get("authorization")
        query = request.raw_query
        in_query = "X-Amz-" in query and (
            "X-Amz-Algorithm=" in query or "X-Amz-Signature=" in query
        )
        if authorization is None:
            if in_query:
                return self._presigned.verify(request, now_seconds)
            if "AWSAccessKeyId=" in query and "Signature=" in query:
                raise S3Error("InvalidRequest", _VERSION_2_REFUSED)
            raise S3Error("AccessDenied")
        if in_query:
            raise S3Error("InvalidArgument", _ONE_MECHANISM)
        if authorization.startswith(ALGORITHM):
            return self._header.verify(request, now_seconds)
        if authorization.startswith("AWS "):
            raise S3Error("InvalidRequest", _VERSION_2_REFUSED)
        if authorization.startswith(ALGORITHM_ASYMMETRIC):
            raise not_implemented(ALGORITHM_ASYMMETRIC)
        raise S3Error(
            "InvalidArgument",
            "Unsupported Authorization Type",
            fields={"ArgumentName": "Authorization", "ArgumentValue": authorization.split(" ")[0]},
        )
