"""Condition keys: what policies may ask about a request. Each is found when it is asked for. Keys:
docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html and the service
authorization reference of S3."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ...core.access.conditions import Values
from ...core.identity.records import Identity, Principal
from ..exchange import Exchange

_QUERY = {
    "s3:delimiter": "delimiter",
    "s3:max-keys": "max-keys",
    "s3:prefix": "prefix",
    "s3:versionid": "versionId",
}
_HEADERS = frozenset(
    {
        "x-amz-acl",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-metadata-directive",
        "x-amz-object-ownership",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
        "if-match",
        "if-none-match",
    }
)
_LOCK = {
    "s3:object-lock-mode": "x-amz-object-lock-mode",
    "s3:object-lock-retain-until-date": "x-amz-object-lock-retain-until-date",
    "s3:object-lock-legal-hold": "x-amz-object-lock-legal-hold",
}


def identity_value(identity: Identity, key: str) -> Values | None:
    """A condition key that is about who asks, not about the request."""
    session = identity.session
    if key.startswith("aws:principaltag/"):
        return _tagged(identity.tags, key.partition("/")[2])
    match key:
        case "aws:principalarn":
            return _one(identity.role_arn or identity.arn)
        case "aws:principalaccount":
            return _one(identity.account_id)
        case "aws:principaltype":
            return _one(_TYPES[identity.principal])
        case "aws:userid":
            return _one(identity.user_id)
        case "aws:username":
            return _one(identity.user_name)
        case "aws:sourceidentity":
            return None if session is None else _one(session.source_identity)
        case "aws:federatedprovider":
            return None if session is None else _one(session.provider)
        case "aws:tokenissuetime":
            return None if session is None else _one(_moment(session.issued_seconds))
    return None


_TYPES = {
    Principal.ACCOUNT: "Account",
    Principal.USER: "User",
    Principal.ROLE: "AssumedRole",
    Principal.ANONYMOUS: "Anonymous",
}


class RequestContext:
    """The condition keys of one request."""

    __slots__ = ("_exchange", "existing_tags")

    def __init__(self, exchange: Exchange, existing_tags: Mapping[str, str] | None) -> None:
        """*existing_tags*: of the object that the request is about; None: not known, or none."""
        self._exchange = exchange
        self.existing_tags = existing_tags

    def __call__(self, key: str) -> Values | None:
        """The values of *key*, in lower case."""
        exchange = self._exchange
        if key.startswith("s3:"):
            return self._of_s3(key)
        headers = exchange.headers
        match key:
            case "aws:sourceip":
                return _one(exchange.client_address)
            case "aws:securetransport":
                secure = exchange.request.protocol.ssl_context is not None
                return ("true" if secure else "false",)
            case "aws:useragent":
                return _header(headers, "user-agent")
            case "aws:referer":
                return _header(headers, "referer")
            case "aws:currenttime":
                return _one(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            case "aws:epochtime":
                return _one(str(int(datetime.now(UTC).timestamp())))
            case "aws:requestedregion":
                return _one(exchange.services.region)
        return identity_value(exchange.identity, key)

    def _of_s3(self, key: str) -> Values | None:
        exchange = self._exchange
        headers, query = exchange.headers, exchange.query
        if key in _QUERY:
            value = query.get(_QUERY[key])
            return None if value is None else (value,)
        if key in _LOCK:
            return _header(headers, _LOCK[key])
        name = key[3:]
        if name in _HEADERS:
            return _header(headers, name)
        if name.startswith("existingobjecttag/"):
            return _tagged(self.existing_tags or {}, name.partition("/")[2])
        if name.startswith("requestobjecttag/") or name == "requestobjecttagkeys":
            tags = exchange.request_tags()
            if name == "requestobjecttagkeys":
                return tuple(tags) or None
            return _tagged(tags, name.partition("/")[2])
        if name == "signatureversion":
            return _one("AWS4-HMAC-SHA256" if exchange.identity.account_id else "")
        if name == "authtype":
            if not exchange.identity.account_id:
                return None
            presigned = exchange.authentication.presigned
            return ("REST-QUERY-STRING" if presigned else "REST-HEADER",)
        return None


def _one(value: str) -> Values | None:
    return (value,) if value else None


def _header(headers: Mapping[str, str], name: str) -> Values | None:
    value = headers.get(name)
    return None if value is None else (value,)


def _tagged(tags: Mapping[str, str], name: str) -> Values | None:
    """A tag by its name, whose case policies do not keep here."""
    for key, value in tags.items():
        if key.lower() == name:
            return (value,)
    return None


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
