"""From a request on the wire to its handler and back: route, authenticate, dispatch, map errors. No
middlewares."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence

from ..core.errors import CraqenError, DataLossError, NotFoundError
from .answered import Answered, Witness
from .auth.credentials import NOBODY
from .auth.request import SignedRequest
from .bucket_guard import check_owners, check_payer, tell_browsers
from .errors import S3Error, from_core, not_implemented
from .exchange import Exchange, Services
from .handlers import HANDLERS
from .headers import Headers, fold_headers
from .iam.service import is_query_call
from .iam.trace import CallTrace
from .operations import FORM_UPLOAD, PREFLIGHTS
from .protocol import Incoming
from .reply import Reply, Sent, ServerHead, error_reply, new_request_id
from .routing import Route, split_target
from .settings import cors
from .website import Visit

_log = logging.getLogger("craqen.gateway")


class _Request:
    """How far a request has come: what its answer needs to know, whichever way it went."""

    __slots__ = (
        "answer_headers",
        "call",
        "error",
        "exchange",
        "id",
        "incoming",
        "raw_path",
        "route",
    )

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.id = new_request_id()
        self.raw_path = ""
        self.route: Route | None = None
        self.exchange: Exchange | None = None
        self.call: CallTrace | None = None
        """Set for IAM and STS."""
        self.error: S3Error | None = None
        self.answer_headers: dict[str, str] = {}
        """What the answer says besides, if it comes before there is an exchange."""


class Application:
    """Answers requests: the ``Endpoint`` of all connections of a worker."""

    def __init__(self, services: Services, witnesses: Sequence[Witness] = ()) -> None:
        """*witnesses* are told of each request."""
        self._services = services
        self._witnesses = witnesses
        self.head: ServerHead = services.head

    async def handle(self, incoming: Incoming) -> Sent:
        """Answer one request. Errors become S3 error documents here and nowhere else."""
        request = _Request(incoming)
        if self._witnesses:
            return await self._answer_witnessed(request)
        try:
            return await self._answer(request)
        except ConnectionError:
            return Sent(0, keep_alive=False)  # the client is gone

    async def _answer_witnessed(self, request: _Request) -> Sent:
        """Also a request that is cancelled, or whose client goes away, may have changed
        something: witnesses are told of each."""
        began_ns, began = time.time_ns(), time.monotonic_ns()
        sent = Sent(0, keep_alive=False)
        try:
            sent = await self._answer(request)
        except ConnectionError:
            pass
        finally:
            error = request.error
            answered = Answered(
                request.incoming,
                request.id,
                began_ns,
                time.monotonic_ns() - began,
                sent.status,
                request.route,
                request.exchange,
                request.call,
                ("", "") if error is None else (error.code, error.message),
                sent.body_bytes,
            )
            for witness in self._witnesses:
                witness.note(answered)
        return sent

    async def _answer(self, request: _Request) -> Sent:
        """Raises ConnectionError if the client is gone."""
        try:
            answer = await self._dispatch(request)
            if isinstance(answer, Sent):
                return answer
            return self._send(request, answer)
        except S3Error as error:
            if request.exchange is None:
                await self._tell_browsers(request)
            return self._fail(request, error)
        except CraqenError as error:
            return self._fail(request, _mapped(request, error))
        except ConnectionError:
            raise
        except UnicodeEncodeError:
            # Bytes of a header that are no UTF-8 came to where only text can stand.
            return self._fail(request, S3Error("InvalidArgument", "A header is not UTF-8"))
        except Exception:
            _log.exception("%s %s failed", request.incoming.message.method, request.raw_path)
            return self._fail(request, S3Error("InternalError"))

    async def _dispatch(self, request: _Request) -> Reply | Sent:
        services = self._services
        message = request.incoming.message
        headers = fold_headers(message.raw_headers)
        raw_path, raw_query = split_target(message.path)
        request.raw_path = raw_path
        signed = SignedRequest(message.method, raw_path, raw_query, headers)
        if services.websites is not None:
            bucket = services.websites.bucket_of_host(headers.get("host", ""))
            if bucket:
                return await self._visit(request, headers, bucket)
        if is_query_call(message.method, raw_path, headers):
            call = request.call = CallTrace()
            return await services.control.answer(
                request.incoming, signed, time.time(), request.id, call
            )
        route = request.route = services.router.route(message.method, raw_path, raw_query, headers)
        if route.operation in PREFLIGHTS:
            return await self._preflight(route, headers)
        authentication = await services.authenticator.authenticate(signed, time.time())
        handler = HANDLERS.get(route.operation)
        if handler is None:
            if authentication.credentials is NOBODY:
                raise S3Error("AccessDenied")
            raise not_implemented(route.operation)
        if authentication.hoisted_headers:
            headers = {**headers, **authentication.hoisted_headers}
        exchange = request.exchange = Exchange(
            services,
            request.incoming,
            headers,
            route,
            authentication,
            authentication.credentials.identity,
            request.id,
        )
        if route.bucket and route.operation != "CreateBucket":
            exchange.bucket_info = await services.buckets.get(route.bucket)
            tell_browsers(exchange)
        await check_owners(exchange)
        if route.operation != FORM_UPLOAD:  # who sends a form is known once its fields are read
            check_payer(exchange)
            await services.authorizer.authorize(exchange)
            exchange.note_origin()
        try:
            return await handler(exchange)
        except NotFoundError:
            if route.operation in ("GetObject", "HeadObject"):
                # Whether a key exists is told to those who may list: the others see AccessDenied.
                await services.authorizer.require_listing(exchange, route.key)
            raise

    async def _visit(self, request: _Request, headers: Headers, bucket: str) -> Reply | Sent:
        """A page of a web site."""
        visit = Visit(self._services, request.incoming, headers, bucket, request.id)
        try:
            return await visit.answer(request.raw_path)
        finally:
            request.exchange = visit.exchange

    async def _preflight(self, route: Route, headers: Headers) -> Reply:
        """Whether a page of another origin may send a request. Nobody signs this question."""
        info = await self._services.buckets.get(route.bucket)
        kind = "OBJECT" if route.key else "BUCKET"
        return Reply(200, cors.preflight(cors.STORED.of(info), headers, kind))

    async def _tell_browsers(self, request: _Request) -> None:
        """A page must be able to read why its request was refused, even if nobody knows by whom it
        was sent."""
        message = request.incoming.message
        route = request.route
        if route is None or not route.bucket or "Origin" not in message.headers:
            return
        with contextlib.suppress(CraqenError):
            rules = cors.STORED.of(await self._services.buckets.get(route.bucket))
            if rules and message.method != "OPTIONS":
                headers = fold_headers(message.raw_headers)
                request.answer_headers = cors.response_headers(rules, message.method, headers)

    def _send(self, request: _Request, reply: Reply) -> Sent:
        """Write head and body in one piece."""
        incoming = request.incoming
        protocol = incoming.protocol
        finish = protocol.drained if protocol.writing_paused else None
        if incoming.is_last:
            reply.keep_alive = False
        if not incoming.content.is_eof():
            receiver = None if request.exchange is None else request.exchange.receiver
            if receiver is not None:
                finish = receiver.discard
            elif _waits_to_send(request):
                protocol.close_without_lingering()
        if request.exchange is not None:
            head = request.exchange.head_of(reply)
        else:
            if request.answer_headers:
                reply.headers = {**reply.headers, **request.answer_headers}
            head = reply.head(self.head, request.id)
        incoming.transport.write(head + reply.body if reply.body else head)
        return Sent(
            reply.status,
            keep_alive=reply.keep_alive,
            finish=finish,
            body_bytes=len(reply.body),
        )

    def _fail(self, request: _Request, error: S3Error) -> Sent:
        request.error = error
        reply = error_reply(error, request.raw_path, request.id, self.head)
        if request.incoming.message.method == "HEAD":
            reply.body = b""
        return self._send(request, reply)


def _waits_to_send(request: _Request) -> bool:
    """Whether the client waits for "100 Continue" and has not got it: it sends nothing yet."""
    exchange = request.exchange
    if exchange is not None and exchange.continued:
        return False
    expects = request.incoming.message.headers.get("Expect", "")
    return expects.lower() == "100-continue" and not request.incoming.content.total_bytes


def _mapped(request: _Request, error: CraqenError) -> S3Error:
    """The S3 error for one of the core's; those that an operator should see are logged."""
    route = request.route
    if route is None:
        mapped = from_core(error)
    else:
        headers = request.incoming.message.headers
        mapped = from_core(
            error,
            bucket=route.bucket,
            key=route.key,
            upload_id=route.query.get("uploadId", ""),
            conditional="If-Match" in headers or "If-None-Match" in headers,
        )
    method = request.incoming.message.method
    if isinstance(error, DataLossError):
        _log.error("%s %s: data is lost: %s", method, request.raw_path, error)
    elif mapped.status >= 500:
        _log.warning("%s %s: %s", method, request.raw_path, error)
    return mapped
