"""The signature of an upload form: over its policy, as Base64 has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..errors import S3Error, invalid_argument
from .claim import Claim
from .credentials import Credentials
from .request import Authentication, Payload
from .signing import (
    ALGORITHM,
    Scope,
    SigningKeys,
    check_scope,
    parse_credential,
    parse_timestamp,
)
from .sigv2 import check_text

_CODE = "AuthorizationQueryParametersError"
_NOTHING_HOISTED: Mapping[str, str] = {}


class FormVerifier:
    """Checks who signed a form's policy."""

    def __init__(self, region: str, keys: SigningKeys, *, signature_v2: bool) -> None:
        self._regions = (region,)
        self._keys = keys
        self._signature_v2 = signature_v2

    def claim(self, fields: Mapping[str, str]) -> Claim | None:
        """Who is said to have signed the policy among *fields*, names in lower case; None if there
        is none.

        Raises S3Error: InvalidArgument (fields are missing), AuthorizationQueryParametersError,
        InvalidRequest (Signature Version 2 is off); its check: SignatureDoesNotMatch.
        """
        policy = fields.get("policy")
        if policy is None:
            return None
        token = fields.get("x-amz-security-token", "")
        old = "awsaccesskeyid" in fields or "signature" in fields
        if old and "x-amz-algorithm" not in fields:
            if not self._signature_v2:
                raise S3Error(
                    "InvalidRequest",
                    "The authorization mechanism you have provided is not supported. Please use "
                    "AWS4-HMAC-SHA256.",
                )
            access_key = _needed(fields, "AWSAccessKeyId")
            signature = _needed(fields, "signature")
            return Claim(access_key, token, partial(_check_old, policy, signature))
        algorithm = _needed(fields, "x-amz-algorithm")
        if algorithm != ALGORITHM:
            raise invalid_argument(
                f"X-Amz-Algorithm only supports {ALGORITHM!r}",
                name="x-amz-algorithm",
                value=algorithm,
            )
        scope = parse_credential(_needed(fields, "x-amz-credential"), _CODE)
        check_scope(scope, self._regions, _CODE, "Error parsing the X-Amz-Credential parameter")
        timestamp = _needed(fields, "x-amz-date")
        if parse_timestamp(timestamp) is None or timestamp[:8] != scope.date:
            raise invalid_argument(
                "X-Amz-Date must be a time on the day of the credential's scope, such as "
                "20130524T000000Z",
                name="x-amz-date",
                value=timestamp,
            )
        signature = _needed(fields, "x-amz-signature")
        return Claim(scope.access_key, token, partial(self._check, policy, scope, signature))

    def _check(
        self, policy: str, scope: Scope, signature: str, credentials: Credentials
    ) -> Authentication:
        key = self._keys.get(scope, credentials.secret_key)
        if not key.check(policy.encode("utf-8", "surrogateescape"), signature):
            raise S3Error(
                "SignatureDoesNotMatch",
                fields={
                    "AWSAccessKeyId": credentials.access_key,
                    "StringToSign": policy,
                    "SignatureProvided": signature,
                },
            )
        return _proven(credentials)


def _check_old(policy: str, signature: str, credentials: Credentials) -> Authentication:
    check_text(credentials, policy, signature, fields={"StringToSign": policy})
    return _proven(credentials)


def _proven(credentials: Credentials) -> Authentication:
    return Authentication(credentials, Payload.UNSIGNED, "", None, False, _NOTHING_HOISTED)


def _needed(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name.lower())
    if not value:
        raise invalid_argument(
            f"Bucket POST must contain a field named '{name}'.  If it is specified, please check "
            f"the order of the fields.",
            name=name,
            value="",
        )
    return value
