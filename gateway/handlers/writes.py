"""PutObject."""

from __future__ import annotations

import msgspec

from ...core.errors import NotFoundError
from ...core.limits import INLINE_BYTES_MAX
from ...core.meta.conditions import check_conditions
from ...core.meta.records import NO_CONDITIONS, Inode, WriteConditions
from ..access.acls import acl_of_new_object
from ..attributes import attributes_of, checksum_headers, version_header
from ..body.checksums import FULL_OBJECT
from ..body.digest import quote_etag
from ..conditions import write_conditions
from ..encryption import encryption_headers, seal_new
from ..exchange import Exchange
from ..expiration import expiration_header
from ..headers import Headers
from ..object_lock import lock_of_request
from ..receive import receive_content
from ..reply import Reply
from .appends import append_object


async def put_object(exchange: Exchange) -> Reply:
    """PutObject: the body becomes a new inode, swapped in under the key in one transaction."""
    headers, services = exchange.headers, exchange.services
    if "x-amz-write-offset-bytes" in headers:
        return await append_object(exchange)
    attributes = attributes_of(headers)
    lock = await lock_of_request(exchange, with_body=True)
    acl = await acl_of_new_object(exchange)
    conditions = write_conditions(headers)
    if exchange.expects_continue or _is_large(headers):
        await _check_beforehand(exchange, conditions)
    sealing = await seal_new(exchange)
    received = await receive_content(exchange, inline=True)
    result = received.result
    attributes = msgspec.structs.replace(
        attributes,
        etag=result.md5 if sealing is None else sealing.etag(result.md5),
        encryption=None if sealing is None else sealing.encryption,
        checksums=result.checksums,
        checksum_type=FULL_OBJECT,
        lock=lock,
        acl=acl,
    )
    put = await received.put_by(
        services.meta.put_object(
            exchange.bucket,
            exchange.key,
            received.content,
            attributes,
            exchange.owner,
            conditions=conditions,
        )
    )
    exchange.object_bytes = put.inode.size
    answer = {
        "ETag": quote_etag(put.inode.effective_etag()),
        **checksum_headers(result.checksums, FULL_OBJECT),
        **encryption_headers(attributes.encryption),
    }
    return Reply(200, answer | version_header(put) | expiration_header(exchange, put.inode))


def _is_large(headers: Headers) -> bool:
    """Whether it pays to look whether the request can succeed before its body is received."""
    length = headers.get("content-length")
    return length is None or int(length) > INLINE_BYTES_MAX


async def _check_beforehand(exchange: Exchange, conditions: WriteConditions) -> None:
    """Refuse now what is sure to be refused when the object is put, where it is checked again.

    Raises BucketNotFoundError, NotFoundError, PreconditionFailedError.
    """
    meta = exchange.services.meta
    await meta.get_bucket(exchange.bucket)
    if conditions is NO_CONDITIONS:
        return
    present: Inode | None = None
    try:
        view = await meta.get_object(exchange.bucket, exchange.key, with_data=False)
        present = view.inode
    except NotFoundError:
        pass
    check_conditions(conditions, present, "the object")
