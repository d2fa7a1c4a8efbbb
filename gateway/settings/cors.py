"""The aspect ``cors``: which pages of other origins may use the bucket, and the headers that tell
browsers so. Pure.

See docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html and the Fetch standard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from ..errors import S3Error
from ..headers import Headers
from ..xml import SMALL_DOCUMENT_BYTES_MAX, Element, children, malformed, parse_document
from .elements import all_texts, document, element, number_of, only_these, optional, text_of
from .stored import Stored

RULES_MAX = 100  # as AWS
ID_CHARACTERS_MAX = 255
METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})

_MEMBERS = frozenset(
    {"ID", "AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader", "MaxAgeSeconds"}
)
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """One rule. A pattern holds at most one ``*``."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    id: str = ""


STORED: Stored[tuple[Rule, ...]] = Stored("cors", tuple[Rule, ...])


def parse(body: bytes) -> tuple[Rule, ...]:
    """The rules of a CORSConfiguration. Raises S3Error: MalformedXML, InvalidRequest,
    MaxMessageLengthExceeded."""
    root = parse_document(body, "CORSConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX)
    only_these(root, frozenset({"CORSRule"}))
    rules = tuple(_rule(child) for child in children(root, "CORSRule"))
    if not 1 <= len(rules) <= RULES_MAX:
        raise malformed()
    ids = [rule.id for rule in rules if rule.id]
    if len(set(ids)) < len(ids):
        raise S3Error("InvalidRequest", "Rule ID must be unique.")
    return rules


def _rule(found: Element) -> Rule:
    only_these(found, _MEMBERS)
    rule = Rule(
        all_texts(found, "AllowedOrigin"),
        all_texts(found, "AllowedMethod"),
        all_texts(found, "AllowedHeader"),
        all_texts(found, "ExposeHeader"),
        number_of(found, "MaxAgeSeconds"),
        text_of(found, "ID") or "",
    )
    if not rule.origins or not rule.methods or (rule.max_age_seconds or 0) < 0:
        raise malformed()
    if len(rule.id) > ID_CHARACTERS_MAX:
        raise malformed()
    for method in rule.methods:
        if method not in METHODS:
            raise S3Error(
                "InvalidRequest",
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}",
            )
    for name, patterns in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.headers)):
        for pattern in patterns:
            if pattern.count("*") > 1:
                raise S3Error(
                    "InvalidRequest", f'{name} "{pattern}" can not have more than one wildcard.'
                )
    for header in rule.exposed:
        if "*" in header:
            raise S3Error(
                "InvalidRequest",
                f'ExposeHeader "{header}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader.",
            )
    return rule


def render(rules: Sequence[Rule]) -> bytes:
    """CORSConfiguration."""
    return document("CORSConfiguration", *(_rendered(rule) for rule in rules))


def _rendered(rule: Rule) -> str:
    parts = [optional("ID", rule.id)]
    parts += [element("AllowedMethod", method) for method in rule.methods]
    parts += [element("AllowedOrigin", origin) for origin in rule.origins]
    parts += [element("AllowedHeader", header) for header in rule.headers]
    parts.append(optional("MaxAgeSeconds", rule.max_age_seconds))
    parts += [element("ExposeHeader", header) for header in rule.exposed]
    return f"<CORSRule>{''.join(parts)}</CORSRule>"


def preflight(rules: Sequence[Rule] | None, headers: Headers, resource_type: str) -> dict[str, str]:
    """The headers that answer a preflight request; *rules* None: the bucket has none.

    Raises S3Error: BadRequest (the request is no preflight), AccessForbidden.
    """
    origin = headers.get("origin", "")
    method = headers.get("access-control-request-method", "")
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    fields = {"Method": method, "ResourceType": resource_type}
    if rules is None:
        raise S3Error(
            "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.", fields=fields
        )
    asked = _names(headers.get("access-control-request-headers", ""))
    rule = _matching(rules, origin, method, asked)
    if rule is None:
        raise S3Error("AccessForbidden", fields=fields, headers={"Vary": _VARY})
    answer = _allowed(rule, origin)
    if asked:
        answer["Access-Control-Allow-Headers"] = ", ".join(asked)
    return answer


def response_headers(rules: Sequence[Rule], method: str, headers: Headers) -> dict[str, str]:
    """What the answer to a request that is no preflight says besides, if its bucket has *rules*."""
    origin = headers.get("origin")
    if origin is not None:
        meant = headers.get("access-control-request-method", method)
        asked = _names(headers.get("access-control-request-headers", ""))
        rule = _matching(rules, origin, meant, asked)
        if rule is not None:
            return _allowed(rule, origin)
    return {"Vary": _VARY}  # a cache that gave this to another origin would be wrong


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip().lower())]


def _matching(rules: Sequence[Rule], origin: str, method: str, asked: Sequence[str]) -> Rule | None:
    """The first rule that allows it."""
    for rule in rules:
        if (
            method in rule.methods
            and any(_pattern(pattern).fullmatch(origin) for pattern in rule.origins)
            and all(
                any(_pattern(pattern.lower()).fullmatch(name) for pattern in rule.headers)
                for name in asked
            )
        ):
            return rule
    return None


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def _allowed(rule: Rule, origin: str) -> dict[str, str]:
    anyone = "*" in rule.origins
    answer = {
        "Access-Control-Allow-Origin": "*" if anyone else origin,
        "Access-Control-Allow-Methods": ", ".join(rule.methods),
    }
    if rule.exposed:
        answer["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_seconds is not None:
        answer["Access-Control-Max-Age"] = str(rule.max_age_seconds)
    if not anyone:
        answer["Access-Control-Allow-Credentials"] = "true"
    answer["Vary"] = _VARY
    return answer
