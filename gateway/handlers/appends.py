"""PutObject with x-amz-write-offset-bytes: the body goes behind the object's last byte."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...core.client.encrypted import read_encrypted
from ...core.client.port import SegmentWriter
from ...core.crypt.pages import open_record
from ...core.errors import DeleteMarkerError, NotFoundError
from ...core.limits import INLINE_BYTES_MAX
from ...core.meta.conditions import check_conditions
from ...core.meta.records import AppendPoint, Inode, ObjectAttributes
from ..access.acls import acl_of_new_object
from ..attributes import attributes_of, checksum_headers, version_header
from ..body.checksums import ALGORITHMS, FULL_OBJECT, combine_full_object
from ..body.digest import quote_etag
from ..body.verification import BodyResult
from ..conditions import write_conditions
from ..encryption import Sealing, encryption_headers, open_key, seal_new
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange
from ..expiration import expiration_header
from ..object_lock import lock_of_request
from ..receive import Lead, receive_content
from ..reply import Reply

HEADER = "x-amz-write-offset-bytes"


async def append_object(exchange: Exchange) -> Reply:
    """Make the object longer, if it is as long as the offset says; offset 0 may make it."""
    headers, meta = exchange.headers, exchange.services.meta
    offset = _offset(headers[HEADER])
    attributes = attributes_of(headers)
    lock = await lock_of_request(exchange, with_body=True)
    acl = await acl_of_new_object(exchange)
    conditions = write_conditions(headers)
    point = await _point(exchange)
    size = 0 if point.inode is None else point.inode.size
    if point.inode is not None or offset == 0:
        check_conditions(conditions, point.inode, "the object")
    if offset != size:
        raise S3Error("InvalidWriteOffset", fields={"ObjectSize": str(size)})
    sealing = await _seal(exchange, point)
    inline = _stays_inline(point, size, headers.get("content-length"))
    received = await receive_content(
        exchange,
        inline=inline and (sealing is None or not size),
        also_algorithm=_combinable(point.inode),
        lead=_lead(exchange, point),
    )
    grown = grown_attributes(point.inode, received.result)
    if sealing is not None and grown.etag:
        grown = msgspec.structs.replace(grown, etag=sealing.etag(grown.etag))
    if point.inode is None:
        grown = ObjectAttributes(
            grown.etag,
            headers=attributes.headers,
            metadata=attributes.metadata,
            tags=attributes.tags,
            checksums=grown.checksums,
            checksum_type=grown.checksum_type,
            storage_class=attributes.storage_class,
            encryption=None if sealing is None else sealing.encryption,
            acl=acl,
        )
    grown = msgspec.structs.replace(grown, lock=lock)
    put = await received.put_by(
        meta.append_object(
            exchange.bucket,
            exchange.key,
            point,
            received.content,
            grown,
            exchange.owner,
            conditions=conditions,
        )
    )
    answer = {
        "ETag": quote_etag(put.inode.effective_etag()),
        "x-amz-object-size": str(put.inode.size),
        **checksum_headers(grown.checksums, grown.checksum_type),
        **encryption_headers(None if sealing is None else sealing.encryption),
    }
    return Reply(200, answer | version_header(put) | expiration_header(exchange, put.inode))


async def _seal(exchange: Exchange, point: AppendPoint) -> Sealing | None:
    """How the new bytes are encrypted: as the object is, or as a new one. Raises S3Error."""
    inode = point.inode
    if inode is None:
        return await seal_new(exchange)
    data_key = await open_key(exchange, inode.object)
    sealing = None
    if inode.encryption is not None and data_key is not None:
        sealing = Sealing(inode.encryption, data_key)
    exchange.sealing = sealing
    return sealing


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise invalid_argument("The write offset is not a number", name=HEADER, value=text)
    return int(text)


async def _point(exchange: Exchange) -> AppendPoint:
    """Where the append begins; that of no object if there is none."""
    try:
        return await exchange.services.meta.append_point(exchange.bucket, exchange.key)
    except DeleteMarkerError:
        return AppendPoint(None)
    except NotFoundError:
        if exchange.bucket_info is None:
            raise
        return AppendPoint(None)


def _stays_inline(point: AppendPoint, size: int, length: str | None) -> bool:
    """Whether all of the object is small enough for its record, and is there or nowhere yet."""
    if size and point.inline_data is None:
        return False
    return length is not None and size + int(length) <= INLINE_BYTES_MAX


def _combinable(inode: Inode | None) -> str:
    """The object's own checksum, if that of the whole follows from those of its pieces."""
    for name in _valid_checksums(inode):
        if ALGORITHMS[name].combine is not None:
            return name
    return ""


def _valid_checksums(inode: Inode | None) -> Mapping[str, str]:
    """Checksums of an object's whole content as it is."""
    attributes = None if inode is None else inode.object
    if inode is None or attributes is None or attributes.etag_generation != inode.generation:
        return {}
    return attributes.checksums if attributes.checksum_type == FULL_OBJECT else {}


def grown_attributes(inode: Inode | None, result: BodyResult) -> ObjectAttributes:
    """ETag and checksums of an object with a body appended, without reading what was there.

    The MD5 of the whole cannot be known: the ETag becomes one that is derived from inode and
    generation. Checksums other than CRCs end here too.
    """
    if inode is None or inode.size == 0:
        name, value = next(iter(result.checksums.items()))
        return ObjectAttributes(result.md5, checksums={name: value}, checksum_type=FULL_OBJECT)
    name = _combinable(inode)
    if not name or name not in result.checksums:
        return ObjectAttributes()
    pieces = [
        (_valid_checksums(inode)[name], inode.size),
        (result.checksums[name], result.length_bytes),
    ]
    value = combine_full_object(ALGORITHMS[name], pieces)
    return ObjectAttributes(checksums={name: value}, checksum_type=FULL_OBJECT)


def _lead(exchange: Exchange, point: AppendPoint) -> Lead | None:
    """What of the object is written again in front of the body."""
    inode = point.inode
    if inode is None or inode.size == 0:
        return None
    key = None if exchange.sealing is None else exchange.sealing.data_key
    data = point.inline_data
    if data is not None:
        if key is not None:
            data = open_record(key, data).ljust(inode.size, b"\0")
        return Lead(len(data), lambda writer: writer.write(memoryview(data)))
    start, end = point.rewrite_from, inode.size
    if start == end:
        return None

    async def copy(writer: SegmentWriter) -> None:
        services = exchange.services
        buffer = await services.buffers.take()
        try:
            for position in range(start, end, len(buffer)):
                piece = buffer[: min(len(buffer), end - position)]
                if key is not None:
                    await read_encrypted(
                        services.data, services.executor, key, point.tail, position, piece
                    )
                else:
                    await services.data.read(
                        point.tail, position, piece, generation=inode.generation
                    )
                await writer.write(piece)
        finally:
            services.buffers.give(buffer)

    return Lead(end - start, copy)
