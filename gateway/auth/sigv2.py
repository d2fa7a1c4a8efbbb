"""Signature Version 2, which AWS takes for old buckets only: HMAC-SHA1, the body not covered.
Pure."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from functools import partial

from ..errors import S3Error, invalid_argument
from ..routing import parse_query
from ..times import iso_seconds, parse_http_date
from .claim import Claim
from .credentials import Credentials
from .request import Authentication, Payload, SignedRequest
from .signing import CLOCK_SKEW_SECONDS_MAX, literal_digest, payload_kind, time_too_skewed

_SIGNED_PARAMETERS = frozenset(
    {
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "delete",
        "encryption",
        "inventory",
        "legal-hold",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "partNumber",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "retention",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    }
)
_NOTHING_HOISTED: Mapping[str, str] = {}
_EXPIRES_DIGITS_MAX = 12


def sign_text(secret_key: str, text: str) -> str:
    """The signature of *text*: HMAC-SHA1 in Base64."""
    data = text.encode("utf-8", "surrogateescape")
    return base64.b64encode(hmac.digest(secret_key.encode(), data, "sha1")).decode()


def is_signature(credentials: Credentials, text: str, signature: str) -> bool:
    """Whether *signature* is that of *text*, compared in constant time."""
    expected = sign_text(credentials.secret_key, text)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))


def check_text(
    credentials: Credentials, text: str, signature: str, *, fields: Mapping[str, str]
) -> None:
    """Compare in constant time. Raises S3Error SignatureDoesNotMatch."""
    if not is_signature(credentials, text, signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            fields={
                "AWSAccessKeyId": credentials.access_key,
                "SignatureProvided": signature,
                **fields,
            },
        )


class Version2Verifier:
    """Checks requests signed in the Authorization header or the query."""

    def __init__(self, bucket_of_host: Callable[[str], str]) -> None:
        self._bucket_of_host = bucket_of_host

    def claim_header(self, request: SignedRequest, now_seconds: float) -> Claim:
        """Who is said to have signed *request*.

        Raises S3Error: InvalidArgument, AccessDenied, RequestTimeTooSkewed; its check:
        SignatureDoesNotMatch, InvalidArgument.
        """
        headers = request.headers
        access_key, colon, signature = headers["authorization"][4:].strip().rpartition(":")
        if not colon or not access_key or not signature:
            raise invalid_argument(
                "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                name="Authorization",
                value=headers["authorization"][:64],
            )
        stated = headers.get("x-amz-date", headers.get("date", ""))
        seconds = parse_http_date(stated)
        if seconds is None or seconds < 0:  # before 1970 there is no date, to AWS
            raise S3Error(
                "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
            )
        if abs(now_seconds - seconds) > CLOCK_SKEW_SECONDS_MAX:
            raise time_too_skewed(stated, now_seconds)
        date = "" if "x-amz-date" in headers else headers.get("date", "")
        check = partial(self._check, request, date, signature, False)
        return Claim(access_key, headers.get("x-amz-security-token", ""), check)

    def claim_query(self, request: SignedRequest, now_seconds: float) -> Claim:
        """As ``claim_header``, of a URL that ends at a certain time. Raises S3Error
        AccessDenied."""
        query = parse_query(request.raw_query)
        expires = query.get("Expires", "")
        if not expires.isascii() or not expires.isdigit() or len(expires) > _EXPIRES_DIGITS_MAX:
            raise S3Error(
                "AccessDenied",
                "Query-string authentication requires the Signature, Expires and "
                "AWSAccessKeyId parameters",
            )
        if now_seconds > int(expires):
            raise S3Error(
                "AccessDenied",
                "Request has expired",
                fields={
                    "Expires": iso_seconds(int(expires)),
                    "ServerTime": iso_seconds(now_seconds),
                },
            )
        token = query.get("x-amz-security-token") or request.headers.get("x-amz-security-token", "")
        check = partial(self._check, request, expires, query.get("Signature", ""), True)
        return Claim(query.get("AWSAccessKeyId", ""), token, check)

    def _check(
        self,
        request: SignedRequest,
        date: str,
        signature: str,
        presigned: bool,
        credentials: Credentials,
    ) -> Authentication:
        text = self._text_to_sign(request, date, request.raw_path)
        # Clients sign a bucket as "/bucket/", also where they send "/bucket", as AWS lets them.
        closed = self._text_to_sign(request, date, request.raw_path + "/")
        is_bucket = request.raw_path.rfind("/") == 0 and len(request.raw_path) > 1
        if not (is_bucket and is_signature(credentials, closed, signature)):
            check_text(credentials, text, signature, fields={"StringToSign": text})
        content_sha256 = request.headers.get("x-amz-content-sha256", Payload.UNSIGNED.value)
        payload = payload_kind(content_sha256)
        if payload.has_signed_chunks:
            raise invalid_argument(
                "x-amz-content-sha256 does not go with Signature Version 2",
                name="x-amz-content-sha256",
                value=content_sha256,
            )
        digest = literal_digest(payload, content_sha256)
        return Authentication(credentials, payload, digest, None, presigned, _NOTHING_HOISTED)

    def _text_to_sign(self, request: SignedRequest, date: str, path: str) -> str:
        headers = request.headers
        amz = "".join(
            f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-amz-")
        )
        bucket = self._bucket_of_host(headers.get("host", ""))
        resource = (f"/{bucket}" if bucket else "") + path
        parameters = _signed_parameters(request.raw_query)
        return (
            f"{request.method}\n{headers.get('content-md5', '')}\n"
            f"{headers.get('content-type', '')}\n{date}\n{amz}{resource}{parameters}"
        )


def _signed_parameters(raw_query: str) -> str:
    if not raw_query:
        return ""
    named = {item.partition("=")[0] for item in raw_query.split("&") if "=" in item}
    found = sorted(
        f"{name}={value}" if name in named else name
        for name, value in parse_query(raw_query).items()
        if name in _SIGNED_PARAMETERS
    )
    return "?" + "&".join(found) if found else ""
