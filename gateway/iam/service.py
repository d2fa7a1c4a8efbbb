"""DRIVER: the IAM and STS APIs at the S3 door: which calls are theirs, who asks, what is
answered."""

from __future__ import annotations

import asyncio
import hashlib
import logging

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from ...core import errors as core
from ...core.identity.records import Principal
from ...core.identity.store import IdentityStore
from ..auth.authenticator import Authenticator
from ..auth.credentials import Credentials
from ..auth.request import SignedRequest
from ..errors import S3Error
from ..headers import Headers
from ..protocol import IDLE_TIMEOUT_SECONDS, Incoming
from ..reply import Reply
from . import holders, keys, policies, providers, roles, sts
from .call import Call, Operation
from .issuers import Issuers
from .query import (
    BODY_BYTES_MAX,
    FORM_TYPE,
    IAM,
    Answer,
    Parameters,
    QueryError,
    answer_document,
    failure_document,
    parse_form,
)
from .rights import ControlRights
from .trace import CallTrace

OPERATIONS: dict[str, Operation] = {
    **holders.OPERATIONS,
    **keys.OPERATIONS,
    **policies.OPERATIONS,
    **providers.OPERATIONS,
    **roles.OPERATIONS,
    **sts.OPERATIONS,
}

_CODES: dict[type[core.CraqenError], tuple[str, int]] = {
    core.NotFoundError: ("NoSuchEntity", 404),
    core.AlreadyExistsError: ("EntityAlreadyExists", 409),
    core.NotEmptyError: ("DeleteConflict", 409),
    core.LimitExceededError: ("LimitExceeded", 409),
    core.CallerError: ("ValidationError", 400),
    core.ConflictError: ("ConcurrentModification", 409),
    core.RetryableError: ("ServiceUnavailable", 503),
    core.CraqenError: ("ServiceFailure", 500),
}
"""The nearest base of an error's type decides."""

_SIGNATURE_CODES = {
    "InvalidAccessKeyId": ("InvalidClientTokenId", 403),
    "InvalidToken": ("InvalidClientTokenId", 403),
    "ExpiredToken": ("ExpiredToken", 403),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", 403),
    "RequestTimeTooSkewed": ("SignatureDoesNotMatch", 403),
    "AuthorizationHeaderMalformed": ("IncompleteSignature", 400),
}

_LOST = (
    ClientPayloadError,
    RequestPayloadError,
    HttpProcessingError,
    EOFError,
)

_log = logging.getLogger("craqen.gateway")


def is_query_call(method: str, raw_path: str, headers: Headers) -> bool:
    """Whether a request is one of these APIs': a form posted to the service itself, which S3 does
    not have."""
    return (
        method == "POST"
        and raw_path == "/"
        and headers.get("content-type", "").lower().startswith(FORM_TYPE)
    )


class QueryService:
    """Answers calls."""

    def __init__(
        self,
        store: IdentityStore,
        rights: ControlRights,
        issuers: Issuers,
        authenticator: Authenticator,
    ) -> None:
        self._store = store
        self._rights = rights
        self._issuers = issuers
        self._authenticator = authenticator

    async def answer(
        self,
        incoming: Incoming,
        signed: SignedRequest,
        now_seconds: float,
        request_id: str,
        trace: CallTrace,
    ) -> Reply:
        """Answer one call, and note in *trace* what becomes of it. Errors become documents here.
        Raises ConnectionError if the client is gone."""
        service, status = IAM, 200
        try:
            body = await _read(incoming, signed.headers)
            trace.parameters = parse_form(body)
            parameters = Parameters(trace.parameters)
            action = parameters.need("Action")
            operation = OPERATIONS.get(action)
            if operation is None:
                version = parameters.get("Version")[:32]
                raise QueryError(
                    "InvalidAction",
                    f"Could not find operation {action[:128]} for version {version}",
                )
            service = trace.service = operation.service
            trace.action = action
            credentials = await self._credentials(signed, body, operation, now_seconds)
            identity = trace.identity = credentials.identity
            trace.access_key = credentials.access_key
            call = Call(self._store, self._rights, self._issuers, identity, parameters, now_seconds)
            answer = await self._carry_out(action, operation, call)
            document = answer_document(service, action, answer, request_id)
        except (QueryError, S3Error, core.CraqenError) as error:
            failure = _failure(error)
            status = failure.status
            trace.error_code, trace.error_message = failure.code, failure.message
            document = failure_document(service, failure, request_id)
        headers = {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}
        return Reply(status, headers, document)

    async def _credentials(
        self, signed: SignedRequest, body: bytes, operation: Operation, now_seconds: float
    ) -> Credentials:
        authentication = await self._authenticator.authenticate_query(
            signed,
            now_seconds,
            body_sha256=hashlib.sha256(body).hexdigest(),
            services=(operation.service,),
        )
        credentials = authentication.credentials
        if credentials.identity.principal is Principal.ANONYMOUS and not operation.unsigned:
            raise QueryError(
                "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
            )
        return credentials

    async def _carry_out(self, action: str, operation: Operation, call: Call) -> Answer | None:
        if operation.resource is not None:
            resource = await operation.resource(call)
            name = f"{operation.service}:{action}"
            if not self._rights.allows(call.identity, name, resource, {}):
                raise QueryError(
                    "AccessDenied",
                    f"User: {call.identity.arn} is not authorized to perform: {name} on resource: "
                    f"{resource}",
                    status=403,
                )
            session = call.identity.session
            if session is not None and not session.name:
                # As at AWS: a session that is no role's calls IAM only after a second factor.
                raise QueryError(
                    "InvalidClientTokenId",
                    "The security token included in the request is invalid",
                    status=403,
                )
        return await operation.handler(call)


async def _read(incoming: Incoming, headers: Headers) -> bytes:
    """The body. Raises QueryError, ConnectionError."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > BODY_BYTES_MAX:
        raise QueryError("RequestEntityTooLarge", "The request is too large", status=413)
    if headers.get("expect", "").lower() == "100-continue":
        incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = incoming.content
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
            while part := await content.readany():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise QueryError(
                        "RequestEntityTooLarge", "The request is too large", status=413
                    )
                parts.append(part)
    except TimeoutError as error:
        raise QueryError("RequestExpired", "The request's body did not arrive") from error
    except _LOST as error:
        raise QueryError("IncompleteBody", "The request's body ended early") from error
    return b"".join(parts)


def _failure(error: Exception) -> QueryError:
    if isinstance(error, QueryError):
        return error
    if isinstance(error, S3Error):
        code, status = _SIGNATURE_CODES.get(error.code, (error.code, error.status))
        return QueryError(code, error.message, status=status)
    code, status = next(_CODES[base] for base in type(error).__mro__ if base in _CODES)
    if status >= 500:
        _log.warning("an IAM or STS call failed: %s", error)
        return QueryError(code, "The request could not be carried out. Try again.", status=status)
    return QueryError(code, str(error), status=status)
