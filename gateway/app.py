"""From a request on the wire to its handler and back: route, authenticate, dispatch, map errors. No
middlewares."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp.web import BaseRequest

from ..core.errors import CraqenError, DataLossError
from .auth.request import SignedRequest
from .errors import S3Error, error_document, from_core, not_implemented
from .exchange import Exchange, Services, new_request_id
from .handlers import HANDLERS
from .headers import fold_headers
from .reply import XML_TYPE, Reply, Sent
from .routing import Route, split_target

_log = logging.getLogger("craqen.gateway")


class Application:
    """Answers requests; ``handle`` is what aiohttp's low-level server calls."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def handle(self, request: BaseRequest) -> Sent:
        """Answer one request. Errors become S3 error documents here and nowhere else."""
        request_id = new_request_id()
        route: Route | None = None
        raw_path = ""
        exchange: Exchange | None = None
        try:
            message = request._message
            headers = fold_headers(message.raw_headers)
            raw_path, raw_query = split_target(message.path)
            services = self._services
            route = services.router.route(message.method, raw_path, raw_query, headers)
            handler = HANDLERS.get(route.operation)
            if handler is None:
                raise not_implemented(route.operation)
            signed = SignedRequest(message.method, raw_path, raw_query, headers)
            authentication = services.authenticator.authenticate(signed, time.time())
            if authentication.hoisted_headers:
                headers = {**headers, **authentication.hoisted_headers}
            exchange = Exchange(services, request, headers, route, authentication, request_id)
            answer = await handler(exchange)
            if isinstance(answer, Sent):
                return answer
            return self._send(request, answer, request_id, exchange)
        except S3Error as error:
            return self._fail(request, error, raw_path, request_id, exchange)
        except CraqenError as error:
            if isinstance(error, DataLossError):
                _log.error("%s %s: data is lost: %s", request.method, raw_path, error)
            mapped = _mapped(error, route)
            if mapped.status >= 500 and not isinstance(error, DataLossError):
                _log.warning("%s %s: %s", request.method, raw_path, error)
            return self._fail(request, mapped, raw_path, request_id, exchange)
        except (ConnectionError, asyncio.CancelledError):
            raise  # the client is gone
        except Exception:
            _log.exception("%s %s failed", request.method, raw_path)
            failure = S3Error("InternalError")
            return self._fail(request, failure, raw_path, request_id, exchange)

    def _send(
        self, request: BaseRequest, reply: Reply, request_id: str, exchange: Exchange | None
    ) -> Sent:
        """Write head and body in one piece."""
        if not request.keep_alive or _unread_body(request, exchange):
            reply.keep_alive = False
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        head = reply.head(self._services.head, request_id)
        transport.write(head + reply.body if reply.body else head)
        return Sent(reply.status, reply.keep_alive)

    def _fail(
        self,
        request: BaseRequest,
        error: S3Error,
        raw_path: str,
        request_id: str,
        exchange: Exchange | None,
    ) -> Sent:
        body = b""
        headers = dict(error.headers)
        if request.method != "HEAD" and error.status != 304:
            body = error_document(
                error,
                resource=raw_path,
                request_id=request_id,
                host_id=self._services.head.host_id,
            )
            headers["Content-Type"] = XML_TYPE
        return self._send(request, Reply(error.status, headers, body), request_id, exchange)


def _mapped(error: CraqenError, route: Route | None) -> S3Error:
    if route is None:
        return from_core(error)
    return from_core(
        error,
        bucket=route.bucket,
        key=route.key,
        upload_id=route.query.get("uploadId", ""),
    )


def _unread_body(request: BaseRequest, exchange: Exchange | None) -> bool:
    """Whether a body is still to come that nobody will read: the connection must end with the
    answer.

    A client that waits for "100 Continue" and did not get it may send its body or not: nothing
    tells.
    """
    if request.content.is_eof():
        return False
    return exchange is None or not exchange.continued or not request.content.at_eof()
