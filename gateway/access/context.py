"""Condition keys: what policies may ask about a request. Each is found when it is asked for. Keys:
docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html and the service
authorization reference of S3."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ...core.access.conditions import Values
from ...core.identity.records import Identity, Principal
from ..exchange import Exchange
from ..times import NANOSECONDS, parse_time_ns

_QUERY = {"delimiter": "delimiter", "max-keys": "max-keys", "prefix": "prefix"}
"""Keys, without ``s3:``, and the parameters that they are about."""
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
        "x-amz-website-redirect-location",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "if-match",
        "if-none-match",
        "object-lock-mode",
        "object-lock-retain-until-date",
        "object-lock-legal-hold",
    }
)
"""The same, and the headers; those about locks have ``x-amz-`` in front."""


def identity_value(identity: Identity, key: str) -> Values | None:
    """A condition key that is about who asks, not about the request."""
    session = identity.session
    if key.startswith("aws:principaltag/"):
        return _tagged(identity.tags, key.partition("/")[2])
    match key:
        case "aws:principalarn":
            return _one(identity.role_arn or identity.arn) if identity.account_id else None
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
    """The condition keys of one question about one request."""

    __slots__ = ("_exchange", "_resource_account", "_version_id", "existing_tags", "prefix")

    def __init__(
        self,
        exchange: Exchange,
        *,
        version_id: str = "",
        existing_tags: Mapping[str, str] | None = None,
        prefix: str | None = None,
        resource_account: str = "",
    ) -> None:
        """*version_id*, *existing_tags*: of the object that the question is about. *prefix*: of the
        listing that it is about, if that is not the request itself. *resource_account*: the
        bucket's."""
        self._resource_account = resource_account
        self._exchange = exchange
        self._version_id = version_id
        self.existing_tags = existing_tags or {}
        self.prefix = prefix

    def __call__(self, key: str) -> Values | None:
        """The values of *key*, in lower case."""
        if key.startswith("s3:"):
            return self._of_s3(key[3:])
        exchange = self._exchange
        match key:
            case "aws:sourceip":
                return _one(exchange.client_address)
            case "aws:securetransport":
                secure = exchange.request.protocol.ssl_context is not None
                return ("true" if secure else "false",)
            case "aws:useragent":
                return _header(exchange.headers, "user-agent")
            case "aws:referer":
                return _header(exchange.headers, "referer")
            case "aws:currenttime":
                return (_moment(self._now_seconds()),)
            case "aws:epochtime":
                return (str(int(self._now_seconds())),)
            case "aws:resourceaccount":
                return _one(self._resource_account)
            case "aws:requestedregion":
                return _one(exchange.services.region)
            case "aws:principalisawsservice" | "aws:viaawsservice":
                return ("false",)
        return identity_value(exchange.identity, key)

    def _of_s3(self, name: str) -> Values | None:
        exchange = self._exchange
        if name == "prefix" and self.prefix is not None:
            return (self.prefix,)
        if name in _QUERY:
            value = exchange.query.get(_QUERY[name])
            return None if value is None else (value,)
        if name in _HEADERS:
            header = f"x-amz-{name}" if name.startswith("object-lock-") else name
            return _header(exchange.headers, header)
        kind, _, tag = name.partition("/")
        match kind:
            case "existingobjecttag":
                return _tagged(self.existing_tags, tag)
            case "requestobjecttag":
                return _tagged(exchange.request_tags(), tag)
            case "requestobjecttagkeys":
                return tuple(exchange.request_tags()) or None
            case "resourceaccount":
                return _one(self._resource_account)
            case "locationconstraint" if exchange.route.operation == "CreateBucket":
                return _one(exchange.services.region)  # buckets are made nowhere else
            case "versionid":
                return _one(self._version_id)
            case "signatureversion":
                return _one(self._signature_version())
            case "authtype":
                return _one(self._way_of_signing())
            case "signatureage":
                return self._signature_age()
            case "tlsversion":
                return _one(self._tls_version())
            case "object-lock-remaining-retention-days":
                return self._days_of_retention()
        return None

    def _now_seconds(self) -> float:
        return self._exchange.services.clock.wall_ns() / NANOSECONDS

    def _signature_version(self) -> str:
        exchange = self._exchange
        if not exchange.identity.account_id:
            return ""
        authorization = exchange.headers.get("authorization", "")
        if authorization.startswith("AWS ") or "AWSAccessKeyId" in exchange.query:
            return "AWS"
        algorithm = exchange.query.get("X-Amz-Algorithm") or authorization.partition(" ")[0]
        return algorithm or "AWS4-HMAC-SHA256"

    def _way_of_signing(self) -> str:
        exchange = self._exchange
        if not exchange.identity.account_id:
            return ""
        if exchange.authentication.presigned:
            return "REST-QUERY-STRING"
        is_form = exchange.request.message.method == "POST" and not exchange.headers.get(
            "authorization"
        )
        return "POST" if is_form else "REST-HEADER"

    def _signature_age(self) -> Values | None:
        """Milliseconds since the request was signed."""
        exchange = self._exchange
        text = exchange.query.get("X-Amz-Date") or exchange.headers.get("x-amz-date", "")
        try:
            signed = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None
        return (str(int((self._now_seconds() - signed.timestamp()) * 1000)),)

    def _tls_version(self) -> str:
        found = self._exchange.request.transport.get_extra_info("ssl_object")
        version = None if found is None else found.version()
        return (version or "").removeprefix("TLSv")

    def _days_of_retention(self) -> Values | None:
        until_ns = parse_time_ns(
            self._exchange.headers.get("x-amz-object-lock-retain-until-date", "")
        )
        if until_ns is None:
            return None
        return (str(int((until_ns / NANOSECONDS - self._now_seconds()) // 86_400)),)


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


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
