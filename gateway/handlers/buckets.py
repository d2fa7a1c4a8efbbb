"""Buckets: create, head, delete, list, location."""

from __future__ import annotations

import re

from ...core.errors import AlreadyExistsError
from ...core.meta.records import Acl, Bucket
from .. import documents
from ..access.acls import grants_of
from ..access.authorizer import owns
from ..errors import S3Error, invalid_argument, not_implemented
from ..exchange import Exchange
from ..listings import decode_token, encode_token
from ..names import check_new_bucket_name
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..request_documents import NewBucket, parse_create_bucket
from ..settings import acl, ownership, tagging

MAX_BUCKETS_DEFAULT = 10_000
_OBJECT_LOCK = "x-amz-bucket-object-lock-enabled"
_REGION = re.compile(r"EU|[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")


async def list_buckets(exchange: Exchange) -> Reply:
    """ListBuckets: the account's own, in pages."""
    query = exchange.query
    limit = MAX_BUCKETS_DEFAULT
    if "max-buckets" in query:
        text = query["max-buckets"]
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_BUCKETS_DEFAULT):
            raise invalid_argument(
                f"max-buckets must be 1 to {MAX_BUCKETS_DEFAULT}", name="max-buckets", value=text
            )
        limit = int(text)
    token = query.get("continuation-token")
    after = decode_token(token).decode("utf-8", "replace") if token else ""
    prefix = query.get("prefix", "")
    buckets = await _own_buckets(exchange, prefix, after, limit + 1)
    next_token = encode_token(buckets[limit - 1].name.encode()) if len(buckets) > limit else None
    return xml_reply(
        documents.list_buckets(
            buckets[:limit],
            exchange.person,
            region=exchange.services.region,
            prefix=prefix,
            next_token=next_token,
        )
    )


async def _own_buckets(exchange: Exchange, prefix: str, after: str, limit: int) -> list[Bucket]:
    """The account's first *limit* buckets behind *after*, in the region asked for."""
    here = exchange.services.region
    region = exchange.query.get("bucket-region")
    found: list[Bucket] = []
    while True:
        page = await exchange.services.meta.list_buckets(prefix=prefix, after=after, limit=limit)
        found += [
            bucket
            for bucket in page
            if owns(exchange.identity, bucket) and region in (None, bucket.region or here)
        ]
        if len(page) < limit or len(found) >= limit:
            return found[:limit]
        after = page[-1].name


async def create_bucket(exchange: Exchange) -> Reply:
    """CreateBucket. Creating one's own again: 200 in us-east-1 if nothing else is asked for, else
    409, as AWS has it."""
    services, name = exchange.services, exchange.bucket
    check_new_bucket_name(name)
    _check_headers(exchange)
    wanted = parse_create_bucket(await read_document(exchange))
    _check_location(exchange, wanted.location)
    settings = _first_settings(wanted) | await _first_rights(exchange)
    try:
        await services.meta.create_bucket(
            name,
            owner=exchange.person.id,
            region=services.region,
            as_owner=exchange.owner,
            object_lock=exchange.headers.get(_OBJECT_LOCK, "").lower() == "true",
            settings=settings,
        )
    except AlreadyExistsError as error:
        present = await services.buckets.get(name)
        if not owns(exchange.identity, present.record):
            raise S3Error("BucketAlreadyExists", fields={"BucketName": name}) from error
        if present.settings.get(acl.STORED.aspect) != settings.get(acl.STORED.aspect):
            # Another ACL than it has; the suite of Ceph wants just this of the two codes.
            raise S3Error("BucketAlreadyExists", fields={"BucketName": name}) from error
        if services.region != "us-east-1" or settings:
            raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": name}) from error
    return Reply(200, {"Location": f"/{name}", "x-amz-bucket-arn": documents.bucket_arn(name)})


def _check_headers(exchange: Exchange) -> None:
    namespace = exchange.headers.get("x-amz-bucket-namespace", "global")
    if namespace == "account-regional":
        raise not_implemented("x-amz-bucket-namespace: account-regional")
    if namespace != "global":
        raise invalid_argument(
            "Invalid bucket namespace", name="x-amz-bucket-namespace", value=namespace
        )


def _check_location(exchange: Exchange, location: str) -> None:
    """A bucket is made where it is asked for, or nowhere; without a word, here."""
    if not location or location == exchange.services.region:
        return
    if not _REGION.fullmatch(location):
        raise S3Error("InvalidLocationConstraint", fields={"LocationConstraint": location})
    raise S3Error(
        "IllegalLocationConstraintException",
        f"The {location} location constraint is incompatible for the region specific endpoint this "
        "request was sent to.",
    )


def _first_settings(wanted: NewBucket) -> dict[str, bytes]:
    """The settings that the bucket has from the beginning, by aspect. Raises S3Error."""
    settings: dict[str, bytes] = {}
    if wanted.tags:
        tags = tagging.of_new_bucket(wanted.tags)
        settings[tagging.STORED.aspect] = tagging.STORED.encode(tags)
    return settings


async def _first_rights(exchange: Exchange) -> dict[str, bytes]:
    """Ownership and ACL of a new bucket, as the headers say. Raises S3Error."""
    settings: dict[str, bytes] = {}
    mode = exchange.services.object_ownership
    stated = exchange.headers.get(ownership.HEADER)
    if stated is not None:
        if stated not in ownership.MODES:
            raise invalid_argument(
                f"Invalid {ownership.HEADER} header", name=ownership.HEADER, value=stated
            )
        mode = stated
        settings[ownership.STORED.aspect] = ownership.STORED.encode(mode)
    asked = acl.asked_by_headers(exchange.headers)
    if asked is None or asked.canned == acl.PRIVATE:
        return settings
    if mode == ownership.ENFORCED:
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    owner = exchange.person
    grants = await grants_of(exchange, asked, owner, owner, of_bucket=True, is_new_bucket=True)
    settings[acl.STORED.aspect] = acl.STORED.encode(Acl("", "", grants))
    return settings


async def head_bucket(exchange: Exchange) -> Reply:
    """HeadBucket."""
    headers = {
        "x-amz-bucket-region": exchange.settings.record.region or exchange.services.region,
        "x-amz-bucket-arn": documents.bucket_arn(exchange.bucket),
        "x-amz-access-point-alias": "false",
        "Content-Type": "application/xml",
    }
    return Reply(200, headers)


async def delete_bucket(exchange: Exchange) -> Reply:
    """DeleteBucket."""
    await exchange.services.meta.delete_bucket(exchange.bucket)
    return Reply(204)


async def get_location(exchange: Exchange) -> Reply:
    """GetBucketLocation."""
    region = exchange.settings.record.region or exchange.services.region
    return xml_reply(documents.location_constraint(region))
