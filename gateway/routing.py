"""From request line to operation: which S3 operation, on which bucket and key. Pure.

Paths are taken as they came and decoded exactly once, so that ``//``, ``/../``, ``%2F`` and ``+``
in keys survive. A subresource that nothing here knows never falls through to the plain operation:
an unknown ``?something`` is refused, since a client would take a listing for an empty answer to
what it asked, and a PUT would overwrite the object.

The operation names are those of the S3 service model; the server answers 501 for those it does not
have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import S3Error, invalid_argument, not_implemented
from .headers import Headers
from .names import check_key, has_bucket_shape, invalid_bucket_name
from .operations import (
    ALLOWED_METHODS,
    BUCKET,
    FORM_UPLOAD,
    OBJECT,
    OPERATIONS,
    PARAMETERS,
    SERVICE,
    SUBRESOURCES,
    WITHOUT_NAMED_MEMBER,
)


class Route(NamedTuple):
    """What a request asks for. *bucket* is empty for the service, *key* for service and bucket."""

    operation: str
    bucket: str
    key: bytes
    query: Mapping[str, str]
    """Decoded parameters; of a repeated one, the first."""


_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_QUERY: Mapping[str, str] = {}
_QUERY_PARAMETERS_MAX = 256  # S3 knows a few dozen; bounds the work for a hostile request line
_LAMBDA_PATH = "WriteGetObjectResponse"


class Router:
    """Routes requests. *base_domains*: hosts whose subdomains name buckets (virtual-host style)."""

    def __init__(self, base_domains: Sequence[str] = ()) -> None:
        suffixes = {f".{domain.lower().strip('.')}" for domain in base_domains}
        self._suffixes = tuple(sorted(suffixes, key=len, reverse=True))

    def route(self, method: str, raw_path: str, raw_query: str, headers: Headers) -> Route:
        """Return the route of a request; path and query as ``split_target`` gives them.

        Raises S3Error: InvalidURI, InvalidBucketName, KeyTooLongError, MethodNotAllowed,
        InvalidArgument, NotImplemented (a subresource that S3 does not have).
        """
        bucket = self.bucket_of_host(headers.get("host", "")) if self._suffixes else ""
        if bucket:
            raw_key = raw_path[1:]
        else:
            raw_bucket, _, raw_key = raw_path[1:].partition("/")
            bucket = _decode_bucket(raw_bucket)
        query = parse_query(raw_query) if raw_query else _NO_QUERY
        if raw_key:
            key = decode_key(raw_key)
            level = OBJECT
        else:
            key = b""
            level = BUCKET if bucket else SERVICE
        if bucket and not has_bucket_shape(bucket):
            if bucket == _LAMBDA_PATH and method == "POST" and level == BUCKET:
                return Route(_LAMBDA_PATH, "", b"", query)
            raise invalid_bucket_name(bucket)
        if not bucket and key:
            raise S3Error("InvalidBucketName", fields={"BucketName": ""})
        preflight = method == "OPTIONS"  # whatever the query: it is about the request to come
        subresource = _subresource(query) if query and not preflight else ""
        operation = OPERATIONS.get((method, level, subresource))
        if operation is None:
            raise _no_operation(method, level, subresource)
        if query or method == "PUT" or operation == FORM_UPLOAD:
            operation = _refine(operation, query, headers)
        return Route(operation, bucket, key, query)

    def bucket_of_host(self, host: str) -> str:
        """The bucket that a Host header names; empty: none."""
        name = _without_port(host).lower().rstrip(".")
        for suffix in self._suffixes:
            if name.endswith(suffix):
                return name[: -len(suffix)]
        return ""


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target, undecoded. Of the absolute form, which proxies send, the
    scheme and host are dropped: the Host header names the host.

    Raises S3Error InvalidURI for any other form.
    """
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise S3Error("InvalidURI", fields={"URI": target})
        path_start = rest.find("/")
        target = rest[path_start:] if path_start >= 0 else "/"
    path, _, query = target.partition("?")
    return path, query


def parse_query(raw_query: str) -> dict[str, str]:
    """Decode a query string; ``+`` is a space. Of a repeated parameter the first counts.

    Raises S3Error InvalidURI (bad percent-encoding, not UTF-8), InvalidArgument (too many).
    """
    parameters: dict[str, str] = {}
    for item in split_query(raw_query):
        name, _, value = item.partition("=")
        parameters.setdefault(_decode_parameter(name), _decode_parameter(value))
    return parameters


def split_query(raw_query: str) -> list[str]:
    """The non-empty ``name=value`` items of a query string, undecoded.

    Raises S3Error InvalidArgument if there are too many.
    """
    items = raw_query.split("&", _QUERY_PARAMETERS_MAX)
    if len(items) > _QUERY_PARAMETERS_MAX:
        raise invalid_argument("Too many query parameters", name="query", value="")
    return [item for item in items if item]


def decode_key(raw_key: str) -> bytes:
    """Percent-decode a key once and check it. Raises S3Error InvalidURI, KeyTooLongError."""
    key = _percent_decode(raw_key) if "%" in raw_key else _encode_raw(raw_key)
    check_key(key)
    return key


def _decode_bucket(raw_bucket: str) -> str:
    if "%" not in raw_bucket:
        return raw_bucket
    return _percent_decode(raw_bucket).decode("utf-8", "replace")


def _percent_decode(text: str) -> bytes:
    if _BAD_PERCENT.search(text):
        raise S3Error("InvalidURI", fields={"URI": text})
    return unquote_to_bytes(_encode_raw(text))


def _encode_raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode_parameter(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text and text.isascii():
        return text
    try:
        return _percent_decode(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", fields={"URI": text}) from error


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _subresource(query: Mapping[str, str]) -> str:
    """The one subresource that *query* names, or empty.

    Raises S3Error: InvalidArgument for two, NotImplemented for one that S3 does not have.
    """
    found = ""
    for name, value in query.items():
        if name in SUBRESOURCES:
            if found:
                raise invalid_argument(
                    f"Conflicting query string parameters: {found}, {name}",
                    name="ResourceType",
                    value=name,
                )
            found = name
        elif not value and name not in PARAMETERS and not name.startswith(("x-", "X-")):
            raise not_implemented(f"subresource {name}")
    return found


def _no_operation(method: str, level: int, subresource: str) -> S3Error:
    allowed = ALLOWED_METHODS.get((level, subresource), ())
    if subresource and not allowed:
        return invalid_argument(
            f"The subresource {subresource} does not exist on this kind of resource",
            name="ResourceType",
            value=subresource,
        )
    fields = {"Method": method, "ResourceType": subresource.upper() or _LEVEL_NAMES[level]}
    return S3Error("MethodNotAllowed", fields=fields, headers={"Allow": ", ".join(allowed)})


_LEVEL_NAMES = {SERVICE: "SERVICE", BUCKET: "BUCKET", OBJECT: "OBJECT"}


def _refine(operation: str, query: Mapping[str, str], headers: Headers) -> str:
    """The operation, where a parameter or header decides between two with one subresource."""
    if operation == "PutObject":
        if "partNumber" in query:
            raise invalid_argument(
                "partNumber needs an uploadId", name="partNumber", value=query["partNumber"]
            )
        return "CopyObject" if "x-amz-copy-source" in headers else operation
    if operation == "UploadPart":
        if "partNumber" not in query:
            raise invalid_argument(
                "uploadId needs a partNumber", name="uploadId", value=query["uploadId"]
            )
        return "UploadPartCopy" if "x-amz-copy-source" in headers else operation
    if operation == "ListObjectsV2" and query["list-type"] != "2":
        raise invalid_argument(
            "Invalid List Type specified in Request", name="list-type", value=query["list-type"]
        )
    if operation == FORM_UPLOAD:
        if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise _no_operation("POST", BUCKET, "")
        return operation
    other = WITHOUT_NAMED_MEMBER.get(operation)
    if other is not None and other.parameter not in query:
        return other.operation
    return operation
