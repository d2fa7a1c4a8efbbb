"""PutObject."""

from __future__ import annotations

import msgspec

from ..attributes import attributes_of, checksum_headers
from ..body.checksums import FULL_OBJECT
from ..body.digest import quote_etag
from ..conditions import write_conditions
from ..errors import S3Error
from ..exchange import Exchange
from ..receive import receive_content
from ..reply import Reply


async def put_object(exchange: Exchange) -> Reply:
    """PutObject: the body becomes a new inode, swapped in under the key in one transaction."""
    headers, services = exchange.headers, exchange.services
    if "x-amz-write-offset-bytes" in headers:
        raise S3Error("NotImplemented", "Appending is not implemented by this release")
    attributes = attributes_of(headers)
    conditions = write_conditions(headers)
    if exchange.headers.get("expect"):
        # Before a client that asks first sends gigabytes: is there such a bucket?
        await services.meta.get_bucket(exchange.bucket)
    content, result = await receive_content(exchange, inline=True)
    attributes = msgspec.structs.replace(
        attributes,
        etag=result.md5,
        checksums=result.checksums,
        checksum_type=FULL_OBJECT,
    )
    put = await services.meta.put_object(
        exchange.bucket,
        exchange.key,
        content,
        attributes,
        services.owner,
        conditions=conditions,
    )
    return Reply(
        200,
        {
            "ETag": quote_etag(put.inode.effective_etag()),
            **checksum_headers(result.checksums, FULL_OBJECT),
        },
    )
