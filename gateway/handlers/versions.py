"""Versioning of a bucket, and ListObjectVersions."""

from __future__ import annotations

from ...core.meta.records import Versioning
from ...core.meta.version_ids import NULL
from .. import listings
from ..access.acls import bucket_owner
from ..errors import invalid_argument
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..settings.versioning import parse_versioning, versioning_document
from .listing import key_bytes, list_query, visible


async def get_versioning(exchange: Exchange) -> Reply:
    """GetBucketVersioning."""
    return xml_reply(versioning_document(exchange.settings.record.versioning))


async def put_versioning(exchange: Exchange) -> Reply:
    """PutBucketVersioning."""
    enabled = parse_versioning(await read_document(exchange, checksum_required=True))
    await exchange.services.meta.set_bucket_versioning(exchange.bucket, enabled=enabled)
    return Reply(200)


async def list_versions(exchange: Exchange) -> Reply:
    """ListObjectVersions."""
    query = list_query(exchange)
    marker = key_bytes(exchange.query.get("key-marker", ""))
    version_marker = exchange.query.get("version-id-marker", "")
    if version_marker and not marker:
        raise invalid_argument(
            "A version-id marker cannot be specified without a key marker.",
            name="version-id-marker",
            value=version_marker,
        )
    unversioned = exchange.settings.record.versioning is Versioning.NEVER
    page = await exchange.services.meta.list_object_versions(
        query.bucket,
        prefix=query.prefix,
        delimiter=query.delimiter,
        after_key=marker,
        after_version="" if unversioned else version_marker,
        limit=query.limit,
    )
    next_version = NULL if unversioned and page.next_version else page.next_version
    return xml_reply(
        listings.list_object_versions(
            query,
            await visible(exchange, page.entries),
            key_marker=marker,
            version_id_marker=version_marker,
            next_markers=None if page.next_key is None else (page.next_key, next_version),
            owner=await bucket_owner(exchange),
        )
    )
