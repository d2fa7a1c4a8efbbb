"""Makes audit records of requests that were answered."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, canonical_id_of
from ..answered import Answered, address_of, signing_of, tls_of
from ..bucket_guard import owner_of
from ..headers import Headers, fold_headers
from ..protocol import Incoming
from ..routing import Route
from .facts import S3, Facts
from .log import AuditFile
from .record import render

if TYPE_CHECKING:
    from ..exchange import Exchange

_log = logging.getLogger("craqen.gateway")

_NO_PARAMETERS: dict[str, str] = {}


class Auditor:
    """Writes a record for each request."""

    def __init__(self, file: AuditFile, region: str, host_id: str) -> None:
        self.file = file
        self._region = region
        self._host_id = host_id

    def note(self, answered: Answered) -> None:
        """Write the record of a request."""
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
        auth_method, version = signing_of(incoming.message.path, headers.get("authorization", ""))
        return Facts(
            answered.request_id,
            self._host_id,
            answered.began_ns,
            answered.elapsed_ns,
            self._region,
            service,
            operation,
            headers,
            address_of(incoming),
            identity,
            access_key,
            auth_method,
            version,
            tls_of(incoming),
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
