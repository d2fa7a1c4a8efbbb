"""The aspect ``website``: the bucket as a web site, and where its rules send a visitor. Pure.

See docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote_from_bytes

import msgspec

from ..errors import S3Error, invalid_argument
from ..xml import SMALL_DOCUMENT_BYTES_MAX, Element, children, malformed, parse_document
from .elements import document, element, needed, only, only_these, optional, text_of
from .stored import Stored

RULES_MAX = 50  # as AWS
PROTOCOLS = ("http", "https")
REDIRECT_STATUS = 301
_PATH_SAFE = "/*'()!$&,;=:@+~"


class Redirect(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to; what is empty stays as it was asked for."""

    host: str = ""
    protocol: str = ""
    status: int = 0
    """0: REDIRECT_STATUS."""
    key: str | None = None
    key_prefix: str | None = None
    """In place of the prefix that the rule asks for."""


class RoutingRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom to send elsewhere."""

    redirect: Redirect
    key_prefix: str | None = None
    error_status: int | None = None
    """Only if this would be the answer."""
    conditional: bool = False
    """Whether the document has a condition."""


class Website(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bucket's web site: an index, or one address for everything."""

    index: str = ""
    error: str = ""
    everything: Redirect | None = None
    rules: tuple[RoutingRule, ...] = ()


class Redirection(NamedTuple):
    """An answer that sends the visitor elsewhere."""

    status: int
    location: str


STORED: Stored[Website] = Stored("website", Website)


def parse(body: bytes) -> Website:
    """A WebsiteConfiguration. Raises S3Error: MalformedXML, InvalidArgument, InvalidRequest,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "WebsiteConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    members = {"ErrorDocument", "IndexDocument", "RedirectAllRequestsTo", "RoutingRules"}
    only_these(root, frozenset(members))
    everything = only(root, "RedirectAllRequestsTo")
    if everything is not None:
        if len(root) > 1:
            raise S3Error(
                "InvalidRequest",
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.",
            )
        host = (text_of(everything, "HostName") or "").strip()
        if not host:
            raise malformed()
        return Website(everything=Redirect(host, _protocol(everything)))
    index = _document_name(root, "IndexDocument", "Suffix")
    if index is None:
        raise invalid_argument(
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
            name="IndexDocument",
            value="null",
        )
    if not index or "/" in index:
        raise invalid_argument(
            "The IndexDocument Suffix is not well formed", name="IndexDocument", value=index
        )
    error = _document_name(root, "ErrorDocument", "Key")
    if error == "":
        raise invalid_argument(
            "The ErrorDocument Key is not well formed", name="ErrorDocument", value=""
        )
    listed = only(root, "RoutingRules")
    rules = () if listed is None else tuple(map(_rule, children(listed, "RoutingRule")))
    if len(rules) > RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"{len(rules)} routing rules provided, the number of routing rules in a website "
            f"configuration is limited to {RULES_MAX}.",
        )
    return Website(index, error or "", None, rules)


def _document_name(root: Element, name: str, member: str) -> str | None:
    found = only(root, name)
    if found is None:
        return None
    needed(found, member)
    return text_of(found, member) or ""


def _protocol(found: Element) -> str:
    protocol = (text_of(found, "Protocol") or "").strip()
    if protocol and protocol not in PROTOCOLS:
        raise S3Error(
            "InvalidRequest",
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be "
            "selected automatically.",
        )
    return protocol


def _rule(found: Element) -> RoutingRule:
    only_these(found, frozenset({"Condition", "Redirect"}))
    redirect = _redirect(needed(found, "Redirect"))
    condition = only(found, "Condition")
    if condition is None:
        return RoutingRule(redirect)
    only_these(condition, frozenset({"KeyPrefixEquals", "HttpErrorCodeReturnedEquals"}))
    prefix = text_of(condition, "KeyPrefixEquals")
    code = text_of(condition, "HttpErrorCodeReturnedEquals")
    if prefix is None and code is None:
        raise S3Error(
            "InvalidRequest",
            "Condition cannot be empty. To redirect all requests without a condition, the "
            "condition element shouldn't be present.",
        )
    if code is not None and not (code.strip().isdecimal() and 400 <= int(code) <= 599):
        raise S3Error(
            "InvalidRequest",
            f"The provided HTTP error code ({code}) is not valid. Valid codes are 4XX or 5XX.",
        )
    return RoutingRule(redirect, prefix, None if code is None else int(code), conditional=True)


def _redirect(found: Element) -> Redirect:
    members = {
        "HostName",
        "HttpRedirectCode",
        "Protocol",
        "ReplaceKeyPrefixWith",
        "ReplaceKeyWith",
    }
    only_these(found, frozenset(members))
    if not len(found):
        raise S3Error(
            "InvalidRequest", "Redirect cannot be empty. It must say where or how to redirect."
        )
    key, key_prefix = text_of(found, "ReplaceKeyWith"), text_of(found, "ReplaceKeyPrefixWith")
    if key is not None and key_prefix is not None:
        raise S3Error(
            "InvalidRequest", "You can only define ReplaceKeyPrefix or ReplaceKey but not both."
        )
    code = text_of(found, "HttpRedirectCode")
    if code is not None and not (code.strip().isdecimal() and 301 <= int(code) <= 399):
        raise S3Error(
            "InvalidRequest",
            f"The provided HTTP redirect code ({code}) is not valid. Valid codes are 3XX except "
            "300.",
        )
    host = (text_of(found, "HostName") or "").strip()
    return Redirect(host, _protocol(found), int(code or 0), key, key_prefix)


def render(website: Website) -> bytes:
    """WebsiteConfiguration."""
    everything = website.everything
    if everything is not None:
        inner = element("HostName", everything.host) + optional("Protocol", everything.protocol)
        return document(
            "WebsiteConfiguration", f"<RedirectAllRequestsTo>{inner}</RedirectAllRequestsTo>"
        )
    parts = [f"<IndexDocument>{element('Suffix', website.index)}</IndexDocument>"]
    if website.error:
        parts.append(f"<ErrorDocument>{element('Key', website.error)}</ErrorDocument>")
    if website.rules:
        rules = "".join(_rendered(rule) for rule in website.rules)
        parts.append(f"<RoutingRules>{rules}</RoutingRules>")
    return document("WebsiteConfiguration", *parts)


def _rendered(rule: RoutingRule) -> str:
    condition = ""
    if rule.conditional:
        if rule.key_prefix is not None:
            condition = element("KeyPrefixEquals", rule.key_prefix)
        condition += optional("HttpErrorCodeReturnedEquals", rule.error_status)
        condition = f"<Condition>{condition}</Condition>"
    redirect = rule.redirect
    inner = (
        optional("HostName", redirect.host)
        + optional("HttpRedirectCode", redirect.status or None)
        + optional("Protocol", redirect.protocol)
    )
    if redirect.key_prefix is not None:
        inner += element("ReplaceKeyPrefixWith", redirect.key_prefix)
    if redirect.key is not None:
        inner += element("ReplaceKeyWith", redirect.key)
    return f"<RoutingRule>{condition}<Redirect>{inner}</Redirect></RoutingRule>"


def redirection(
    website: Website, key: bytes, *, scheme: str, host: str, error_status: int | None = None
) -> Redirection | None:
    """Where a visitor who asks for *key* is sent; None: nowhere. *error_status*: what the answer
    would be; None: it is not known yet. *scheme* and *host* are those of the request."""
    everything = website.everything
    if everything is not None:
        return _redirection(everything, key, key, scheme, host)
    for rule in website.rules:
        if rule.error_status != error_status:
            continue
        prefix = (rule.key_prefix or "").encode()
        if key.startswith(prefix):
            return _redirection(
                rule.redirect, _target(rule.redirect, prefix, key), key, scheme, host
            )
    return None


def _target(redirect: Redirect, prefix: bytes, key: bytes) -> bytes:
    if redirect.key is not None:
        return redirect.key.encode()
    if redirect.key_prefix is not None:
        return redirect.key_prefix.encode() + key[len(prefix) :]
    return key


def _redirection(
    redirect: Redirect, target: bytes, key: bytes, scheme: str, host: str
) -> Redirection | None:
    if target == key and redirect.host in ("", host) and redirect.protocol in ("", scheme):
        return None  # it would go round in circles
    path = quote_from_bytes(target, _PATH_SAFE)
    location = f"{redirect.protocol or scheme}://{redirect.host or host}/{path}"
    return Redirection(redirect.status or REDIRECT_STATUS, location)
