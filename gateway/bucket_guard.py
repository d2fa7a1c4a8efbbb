"""What a bucket asks of every request on it, whatever the operation: that its owner is who the
sender believes, and that others know that they pay. And what its answers say to browsers."""

from __future__ import annotations

from ..core.identity.records import FIRST_ACCOUNT_ID, canonical_id_of
from ..core.meta.records import Bucket
from .copy_source import parse_copy_source
from .errors import S3Error
from .exchange import Exchange
from .settings import cors, request_payment

_OWNER_HEADER = "x-amz-expected-bucket-owner"
_SOURCE_OWNER_HEADER = "x-amz-source-expected-bucket-owner"
_PAYER_HEADER = "x-amz-request-payer"
_REQUESTER = "requester"


async def check_owners(exchange: Exchange) -> None:
    """Raises S3Error AccessDenied if the bucket, or that of a copy's source, is not owned by the
    account that the request expects."""
    headers = exchange.headers
    expected = headers.get(_OWNER_HEADER)
    if expected is not None and exchange.bucket_info is not None:
        _check_owner(exchange.bucket_info.record, expected)
    expected = headers.get(_SOURCE_OWNER_HEADER)
    if expected is not None and "x-amz-copy-source" in headers:
        source = parse_copy_source(headers["x-amz-copy-source"])
        info = await exchange.services.buckets.get(source.bucket)
        _check_owner(info.record, expected)


def owner_of(bucket: Bucket) -> str:
    """Canonical id of the account that owns *bucket*; one that was made in a mount belongs to the
    store's first account."""
    return bucket.owner if len(bucket.owner) == _CANONICAL_DIGITS else _FIRST


_FIRST = canonical_id_of(FIRST_ACCOUNT_ID)
_CANONICAL_DIGITS = len(_FIRST)


def _check_owner(bucket: Bucket, expected: str) -> None:
    if canonical_id_of(expected) != owner_of(bucket):
        raise S3Error("AccessDenied")


def check_payer(exchange: Exchange) -> None:
    """Raises S3Error AccessDenied if the requester would pay and does not say that it knows."""
    info = exchange.bucket_info
    if info is None or request_payment.STORED.aspect not in info.settings:
        return
    if request_payment.STORED.of(info) != request_payment.REQUESTER:
        return
    if exchange.identity.canonical_id == owner_of(info.record):
        return
    anonymous = not exchange.identity.account_id
    if anonymous or exchange.headers.get(_PAYER_HEADER) != _REQUESTER:
        raise S3Error("AccessDenied")
    exchange.answer_headers["x-amz-request-charged"] = _REQUESTER


def tell_browsers(exchange: Exchange) -> None:
    """Give the answer the headers that the bucket's CORS rules ask for, if it has any."""
    info = exchange.bucket_info
    if info is None or cors.STORED.aspect not in info.settings:
        return
    rules = cors.STORED.of(info)
    if rules:
        method = exchange.request.message.method
        exchange.answer_headers |= cors.response_headers(rules, method, exchange.headers)
