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
    exchange.refuse_version()
    view = await exchange.services.meta.get_object(exchange.bucket, exchange.key, with_data=False)
    attributes = view.inode.object
    return xml_reply(documents.tagging({} if attributes is None else attributes.tags))


async def put_tags(exchange: Exchange) -> Reply:
    """PutObjectTagging."""
    exchange.refuse_version()
    tags = parse_tagging(await read_document(exchange, checksum_required=True))
    await _set(exchange, tags)
    return Reply(200)


async def delete_tags(exchange: Exchange) -> Reply:
    """DeleteObjectTagging."""
    exchange.refuse_version()
    await _set(exchange, {})
    return Reply(204)


async def _set(exchange: Exchange, tags: dict[str, str]) -> None:
    meta = exchange.services.meta
    view = await meta.get_object(exchange.bucket, exchange.key, with_data=False)
    attributes = view.inode.object or ObjectAttributes()
    await meta.set_object_attributes(
        exchange.bucket,
        exchange.key,
        view.inode.inode_id,
        msgspec.structs.replace(attributes, tags=tags),
    )
