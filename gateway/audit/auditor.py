"""Makes audit records of requests that were answered."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, NamedTuple

from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, canonical_id_of
from ..bucket_guard import owner_of
from ..headers import Headers, fold_headers
from ..iam.trace import CallTrace
from ..protocol import Incoming
from ..routing import Route
from .facts import S3, Facts
from .log import AuditFile
from .record import render

if TYPE_CHECKING:
    from ..exchange import Exchange

_log = logging.getLogger("craqen.gateway")

_NO_TLS = ("", "")
_NO_PARAMETERS: dict[str, str] = {}


class Answered(NamedTuple):
    """A request and what became of it."""

    incoming: Incoming
    request_id: str
    began_ns: int
    """By the wall clock."""
    elapsed_ns: int
    status: int
    """0: it was not answered."""
    route: Route | None
    exchange: Exchange | None
    call: CallTrace | None
    error: tuple[str, str]
    """Code and message."""


class Auditor:
    """Writes a record for each request."""

    def __init__(self, file: AuditFile, region: str, host_id: str) -> None:
        self.file = file
        self._region = region
        self._host_id = host_id

    def note(self, answered: Answered) -> None:
        """Write the record of a request.

        Never raises: an answer that is given is not taken back for the sake of its record.
        """
        try:
            self.file.write(render(self._facts(answered), str(uuid.uuid4())))
        except Exception:
            _log.exception("request %s: no audit record could be made", answered.request_id)
            self.file.lost += 1

    def _facts(self, answered: Answered) -> Facts:
        incoming, exchange, call = answered.incoming, answered.exchange, answered.call
        route, error = answered.route, answered.error
        headers = fold_headers(incoming.message.raw_headers)
        identity, access_key, bucket_account = None, "", ""
        service, operation, bucket, key, parameters = S3, "", "", "", _NO_PARAMETERS
        if call is not None:
            service, operation, identity = call.service, call.action, call.identity
            access_key, parameters = call.access_key, dict(call.parameters)
            error = (call.error_code, call.error_message)
        elif exchange is not None:
            identity = exchange.identity
            access_key = exchange.authentication.credentials.access_key
            operation, bucket, parameters = _of_route(exchange.route)
            key = exchange.key.decode("utf-8", "replace")
            if exchange.bucket_info is not None:
                bucket_account = _account_of(owner_of(exchange.bucket_info.record), identity)
        elif route is not None:
            operation, bucket, parameters = _of_route(route)
            key = route.key.decode("utf-8", "replace")
        auth_method, version = _signing(incoming.message.path, headers.get("authorization", ""))
        return Facts(
            answered.request_id,
            self._host_id,
            answered.began_ns,
            answered.elapsed_ns,
            self._region,
            service,
            operation,
            headers,
            _address(incoming),
            identity,
            access_key,
            auth_method,
            version,
            _tls(incoming),
            bucket,
            bucket_account,
            key,
            parameters,
            answered.status,
            *error,
            _received(incoming, exchange, headers),
        )


def _account_of(owner: str, identity: Identity) -> str:
    """The account of a bucket's owner where that can be told without a look at the accounts."""
    if owner == identity.canonical_id:
        return identity.account_id
    return FIRST_ACCOUNT_ID if owner == canonical_id_of(FIRST_ACCOUNT_ID) else ""


def _received(incoming: Incoming, exchange: Exchange | None, headers: Headers) -> int:
    """Bytes of the body that arrived."""
    if exchange is not None and exchange.receiver is not None:
        return int(headers.get("content-length", "0")) - exchange.receiver.remaining_bytes
    return incoming.content.total_bytes


def _of_route(route: Route) -> tuple[str, str, dict[str, str]]:
    return route.operation, route.bucket, dict(route.query)


def _signing(target: str, authorization: str) -> tuple[str, str]:
    """How and by which version a request says that it is signed."""
    if authorization:
        return "AuthHeader", "SigV4" if authorization.startswith("AWS4-") else "SigV2"
    query = target.partition("?")[2]
    if "X-Amz-Signature=" in query:
        return "QueryString", "SigV4"
    if "Signature=" in query:
        return "QueryString", "SigV2"
    return "", ""


def _address(incoming: Incoming) -> str:
    transport = incoming.protocol.transport
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def _tls(incoming: Incoming) -> tuple[str, str]:
    transport = incoming.protocol.transport
    cipher = None if transport is None else transport.get_extra_info("cipher")
    return (cipher[1], cipher[0]) if cipher else _NO_TLS
