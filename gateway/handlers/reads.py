"""GetObject and HeadObject."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import StaleHandleError
from ...core.identity.records import Principal
from ...core.meta.records import ObjectView, PartSize
from ..attributes import RESPONSE_OVERRIDES, checksum_headers, object_headers
from ..body.checksums import HEADER_PREFIX
from ..conditions import is_not_modified, range_applies
from ..content import opened_inline
from ..encryption import check_key, check_reading, open_key
from ..errors import S3Error
from ..exchange import Exchange, content_size
from ..expiration import expiration_header
from ..object_lock import lock_headers
from ..ranges import ByteRange, requested_range
from ..reply import Reply, Sent
from ..send import send_object

REPLACED_RETRIES = 3  # an object replaced between two reads is simply read again


async def get_object(exchange: Exchange, status: int = 200) -> Reply | Sent:
    """GetObject. *status* of the whole object: pages that tell of an error have another."""
    check_reading(exchange)
    for _ in range(REPLACED_RETRIES):
        try:
            return await _get_once(exchange, status)
        except StaleHandleError:
            continue
    return await _get_once(exchange, status)


async def _get_once(exchange: Exchange, status: int) -> Reply | Sent:
    view = await exchange.services.meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id
    )
    data_key = await open_key(exchange, view.inode.object)
    reply, span = await _answer(exchange, view, status)
    if reply.status == 304 or span.length == 0:
        reply.length = 0 if span.length == 0 else reply.length
        return reply
    data = opened_inline(view, data_key)
    if data is not None:
        reply.body = data[span.start : span.start + span.length]
        return reply
    return await send_object(exchange, reply, view.inode, span.start, span.length, data_key)


async def head_object(exchange: Exchange, status: int = 200) -> Reply:
    """HeadObject: the same status and headers, no body."""
    check_reading(exchange)
    view = await exchange.services.meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
    )
    await check_key(exchange, view.inode.object)
    reply, _ = await _answer(exchange, view, status)
    return reply


def _check_overrides(exchange: Exchange) -> None:
    """Raise S3Error InvalidRequest if someone who signs nothing chooses the answer's headers."""
    if exchange.identity.principal is Principal.ANONYMOUS and any(
        name in exchange.query for name in RESPONSE_OVERRIDES
    ):
        raise S3Error(
            "InvalidRequest",
            "Request specific response headers cannot be used for anonymous GET requests.",
        )


async def _answer(exchange: Exchange, view: ObjectView, status: int) -> tuple[Reply, ByteRange]:
    exchange.object_bytes = view.inode.size
    """Status and headers, and the bytes to send. Raises S3Error for conditions and ranges."""
    inode, headers = view.inode, exchange.headers
    etag = inode.effective_etag()
    size = content_size(inode)
    span = ByteRange(0, size)
    if is_not_modified(headers, etag, inode.mtime_ns):
        kept = object_headers(inode, {}, with_checksums=False)
        names = ("ETag", "Last-Modified", "Cache-Control", "Expires")
        return Reply(304, {name: kept[name] for name in names if name in kept}), span
    wants = headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    _check_overrides(exchange)
    answer = object_headers(inode, exchange.query, with_checksums=wants)
    if view.version_id:
        answer["x-amz-version-id"] = view.version_id
        answer |= lock_headers(inode)
    if not exchange.version_id:
        answer |= expiration_header(exchange, inode)
    range_header, part_number = headers.get("range"), exchange.query.get("partNumber")
    if range_header is not None or part_number is not None:
        parts: Sequence[PartSize] = ()
        if part_number is not None:
            parts = await exchange.services.meta.object_parts(inode)
            if parts:
                answer["x-amz-mp-parts-count"] = str(len(parts))
        if range_header is not None and not range_applies(headers, etag, inode.mtime_ns):
            range_header = None
        found = requested_range(range_header, part_number, size, [part.size for part in parts])
        if found is not None and size:
            span, status = found, 206
            answer["Content-Range"] = span.content_range(size)
            if parts or part_number is None:
                for name in [name for name in answer if name.startswith(HEADER_PREFIX)]:
                    del answer[name]  # they are of the whole object
            if parts and part_number is not None and wants:
                kind = "" if inode.object is None else inode.object.checksum_type
                answer |= checksum_headers(parts[int(part_number) - 1].checksums, kind)
    return Reply(status, answer, length=span.length), span
