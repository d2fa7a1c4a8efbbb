"""Object tagging."""

from __future__ import annotations

import msgspec

from ...core.meta.records import ObjectAttributes
from .. import documents
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..request_documents import parse_tagging


async def get_tags(exchange: Exchange) -> Reply:
    """GetObjectTagging."""
    view = await exchange.services.meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
    )
    attributes = view.inode.object
    reply = xml_reply(documents.tagging({} if attributes is None else attributes.tags))
    reply.headers = {**reply.headers, **_version(view.version_id)}
    return reply


async def put_tags(exchange: Exchange) -> Reply:
    """PutObjectTagging. Policies may ask about the tags in the body: only then is it known whether
    they may be set."""
    tags = parse_tagging(await read_document(exchange, checksum_required=True))
    exchange.given_tags = tags
    await exchange.services.authorizer.require(
        exchange, "s3:PutObjectTagging", exchange.bucket, exchange.key, exchange.version_id
    )
    return Reply(200, _version(await _set(exchange, tags)))


async def delete_tags(exchange: Exchange) -> Reply:
    """DeleteObjectTagging."""
    return Reply(204, _version(await _set(exchange, {})))


def _version(version_id: str) -> dict[str, str]:
    return {"x-amz-version-id": version_id} if version_id else {}


async def _set(exchange: Exchange, tags: dict[str, str]) -> str:
    """Give the version that the request means *tags*; return its id."""
    meta = exchange.services.meta
    view = await meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
    )
    attributes = view.inode.object or ObjectAttributes()
    await meta.set_object_attributes(
        exchange.bucket,
        exchange.key,
        view.inode.inode_id,
        msgspec.structs.replace(attributes, tags=tags),
        version_id=view.version_id,
    )
    return view.version_id
