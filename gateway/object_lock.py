"""Object lock in headers: asked for on PUT, copy and upload, told on GET and HEAD."""

from __future__ import annotations

from ..core.meta.locks import OFF, ON
from ..core.meta.records import Inode, Lock
from .body.checksums import HEADER_PREFIX
from .errors import S3Error, invalid_argument
from .exchange import Exchange
from .headers import Headers
from .settings.object_lock import ASPECT, MODES, decode_default, whole_milliseconds
from .times import iso_milliseconds, parse_time_ns

MODE = "x-amz-object-lock-mode"
RETAIN_UNTIL = "x-amz-object-lock-retain-until-date"
LEGAL_HOLD = "x-amz-object-lock-legal-hold"


async def lock_of_request(exchange: Exchange, *, with_body: bool = False) -> Lock | None:
    """The lock that the object to be made shall have: as the headers say, or the bucket's default.

    *with_body*: the request carries the object, and must state a checksum of it to lock it. Raises
    S3Error: InvalidArgument, InvalidRequest, AccessDenied.
    """
    headers = exchange.headers
    if not exchange.settings.record.object_lock:
        if MODE in headers or RETAIN_UNTIL in headers or LEGAL_HOLD in headers:
            raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
        return None
    now_ns = exchange.services.clock.wall_ns()
    retention = _retention(headers, now_ns)
    hold = headers.get(LEGAL_HOLD)
    if hold not in (None, ON, OFF):
        raise invalid_argument(
            "Legal Hold must be either of 'ON' or 'OFF'", name=LEGAL_HOLD, value=hold or ""
        )
    if with_body and (retention or hold) and not _is_checked(headers):
        raise S3Error(
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters",
        )
    for wanted, action in ((retention, "s3:PutObjectRetention"), (hold, "s3:PutObjectLegalHold")):
        if wanted:
            await exchange.services.authorizer.require(
                exchange, action, exchange.bucket, exchange.key
            )
    if retention is None:
        default = exchange.settings.parsed(ASPECT, decode_default)
        retention = None if default is None else default.lock(now_ns)
    if hold is None:
        return retention
    if retention is None:
        return Lock(legal_hold=hold)
    return Lock(retention.mode, retention.retain_until_ns, hold)


def _retention(headers: Headers, now_ns: int) -> Lock | None:
    mode, until = headers.get(MODE), headers.get(RETAIN_UNTIL)
    if mode is None and until is None:
        return None
    if mode is None or until is None:
        raise invalid_argument(
            f"{RETAIN_UNTIL} and {MODE} must both be supplied",
            name=RETAIN_UNTIL if mode is None else MODE,
            value="",
        )
    if mode not in MODES:
        raise invalid_argument("Unknown wormMode directive.", name=MODE, value=mode)
    until_ns = parse_time_ns(until)
    if until_ns is None:
        raise invalid_argument(
            "The retain until date must be provided in ISO 8601 format",
            name=RETAIN_UNTIL,
            value=until,
        )
    if until_ns <= now_ns:
        raise invalid_argument(
            "The retain until date must be in the future!", name=RETAIN_UNTIL, value=until
        )
    return Lock(mode, whole_milliseconds(until_ns))


def _is_checked(headers: Headers) -> bool:
    return (
        "content-md5" in headers
        or "x-amz-trailer" in headers
        or any(name.startswith(HEADER_PREFIX) for name in headers)
    )


def lock_headers(inode: Inode) -> dict[str, str]:
    """What GET and HEAD tell of a lock."""
    attributes = inode.object
    if attributes is None or attributes.lock is None:
        return {}
    lock = attributes.lock
    answer = {}
    if lock.mode:
        answer[MODE] = lock.mode
        answer[RETAIN_UNTIL] = iso_milliseconds(lock.retain_until_ns)
    if lock.legal_hold:
        answer[LEGAL_HOLD] = lock.legal_hold
    return answer
