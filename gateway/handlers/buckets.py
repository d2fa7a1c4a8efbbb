"""Buckets: create, head, delete, list, location."""

from __future__ import annotations

from ...core.errors import AlreadyExistsError
from ...core.meta.records import Bucket
from .. import documents
from ..access.account import owns
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange
from ..listings import decode_token, encode_token
from ..names import check_new_bucket_name
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..request_documents import parse_create_bucket

MAX_BUCKETS_DEFAULT = 10_000
_OBJECT_LOCK = "x-amz-bucket-object-lock-enabled"


async def list_buckets(exchange: Exchange) -> Reply:
    """ListBuckets, with paging."""
    query = exchange.query
    limit = MAX_BUCKETS_DEFAULT
    if "max-buckets" in query:
        text = query["max-buckets"]
        if not text.isdigit() or not 1 <= int(text) <= MAX_BUCKETS_DEFAULT:
            raise invalid_argument(
                f"max-buckets must be 1 to {MAX_BUCKETS_DEFAULT}", name="max-buckets", value=text
            )
        limit = int(text)
    token = query.get("continuation-token")
    after = decode_token(token).decode() if token else ""
    prefix = query.get("prefix", "")
    buckets = await _own_buckets(exchange, prefix, after, limit + 1)
    next_token = encode_token(buckets[limit - 1].name.encode()) if len(buckets) > limit else None
    region = query.get("bucket-region")
    shown = [bucket for bucket in buckets[:limit] if not region or _region(exchange) == region]
    return xml_reply(
        documents.list_buckets(shown, exchange.person, prefix=prefix, next_token=next_token)
    )


async def _own_buckets(exchange: Exchange, prefix: str, after: str, limit: int) -> list[Bucket]:
    """The account's first *limit* buckets behind *after*."""
    found: list[Bucket] = []
    while True:
        page = await exchange.services.meta.list_buckets(prefix=prefix, after=after, limit=limit)
        found += [bucket for bucket in page if owns(exchange.identity, bucket.owner)]
        if len(page) < limit or len(found) >= limit:
            return found[:limit]
        after = page[-1].name


def _region(exchange: Exchange) -> str:
    return exchange.services.region


async def create_bucket(exchange: Exchange) -> Reply:
    """CreateBucket. Creating one's own again: 200 in us-east-1, else 409, as AWS has it."""
    services = exchange.services
    check_new_bucket_name(exchange.bucket)
    constraint = parse_create_bucket(await read_document(exchange))
    if constraint and constraint != services.region:
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {constraint} location constraint is incompatible with the region specific "
            f"endpoint this request was sent to.",
        )
    try:
        await services.meta.create_bucket(
            exchange.bucket,
            owner=exchange.person.id,
            region=services.region,
            as_owner=exchange.owner,
            object_lock=exchange.headers.get(_OBJECT_LOCK, "").lower() == "true",
        )
    except AlreadyExistsError:
        record = (await services.buckets.get(exchange.bucket)).record
        if not owns(exchange.identity, record.owner):
            raise S3Error("BucketAlreadyExists") from None
        if services.region != "us-east-1":
            raise
    return Reply(200, {"Location": f"/{exchange.bucket}"})


async def head_bucket(exchange: Exchange) -> Reply:
    """HeadBucket."""
    await exchange.services.meta.get_bucket(exchange.bucket)
    headers = {"x-amz-bucket-region": _region(exchange), "Content-Type": "application/xml"}
    return Reply(200, headers)


async def delete_bucket(exchange: Exchange) -> Reply:
    """DeleteBucket."""
    await exchange.services.meta.delete_bucket(exchange.bucket)
    return Reply(204)


async def get_location(exchange: Exchange) -> Reply:
    """GetBucketLocation."""
    await exchange.services.meta.get_bucket(exchange.bucket)
    return xml_reply(documents.location_constraint(_region(exchange)))
