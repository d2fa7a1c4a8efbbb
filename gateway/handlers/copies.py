"""CopyObject and UploadPartCopy: by reference, no byte moves where extents can be shared."""

from __future__ import annotations

import asyncio

import msgspec

from ...core.errors import DeleteMarkerError
from ...core.limits import PART_BYTES_MAX, PUT_BYTES_MAX
from ...core.meta.records import NewContent, ObjectAttributes, ObjectView, Part, Upload
from .. import documents
from ..attributes import attributes_of
from ..body.checksums import ALGORITHMS, FULL_OBJECT, Algorithm, find_algorithm
from ..body.verification import BodyResult, BodyVerifier
from ..conditions import check_copy_source, write_conditions
from ..copy_source import CopySource, parse_copy_source
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange, content_size
from ..object_lock import lock_of_request
from ..ranges import ByteRange, parse_copy_range
from ..receive import Received
from ..reply import Reply, xml_reply
from .multipart import DEFAULT_ALGORITHM, part_number_of

_REDIRECT = "x-amz-website-redirect-location"
_CHANGES = frozenset({"x-amz-storage-class", "x-amz-checksum-algorithm", _REDIRECT})
"""With one of these headers an object may be copied to itself; and with new metadata."""


async def _source(exchange: Exchange) -> tuple[CopySource, ObjectView]:
    """The object to copy, its conditions checked."""
    source = parse_copy_source(exchange.headers["x-amz-copy-source"])
    try:
        view = await exchange.services.meta.get_object(
            source.bucket, source.key, version_id=source.version_id
        )
    except DeleteMarkerError as error:
        if not error.named:
            raise
        raise S3Error(
            "InvalidRequest",
            "The source of a copy request may not specifically refer to a delete marker by "
            "version id.",
        ) from error
    check_copy_source(exchange.headers, view.inode.effective_etag(), view.inode.mtime_ns)
    return source, view


def _directive(exchange: Exchange, name: str) -> bool:
    """Whether a directive says REPLACE. Raises S3Error InvalidArgument."""
    value = exchange.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {name}.", name=name, value=value)
    return value == "REPLACE"


def _copied_headers(old: ObjectAttributes, given: ObjectAttributes) -> dict[str, str]:
    """Stored headers of a copy that keeps its metadata. Where a website redirects to is not
    copied."""
    kept = {name: value for name, value in old.headers.items() if name != _REDIRECT}
    if _REDIRECT in given.headers:
        kept[_REDIRECT] = given.headers[_REDIRECT]
    return kept


async def copy_object(exchange: Exchange) -> Reply:
    """CopyObject."""
    headers, services = exchange.headers, exchange.services
    if "range" in headers:
        raise S3Error("NotImplemented", "CopyObject has no Range")
    replace_metadata = _directive(exchange, "x-amz-metadata-directive")
    replace_tags = _directive(exchange, "x-amz-tagging-directive")
    source, view = await _source(exchange)
    inode = view.inode
    if content_size(inode) > PUT_BYTES_MAX:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy "
            f"source: {PUT_BYTES_MAX}",
        )
    same = (source.bucket, source.key) == (exchange.bucket, exchange.key)
    given_change = replace_metadata or replace_tags or not _CHANGES.isdisjoint(headers)
    if same and not (given_change or source.version_id):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location "
            "or encryption attributes.",
        )
    old = inode.object or ObjectAttributes()
    given = attributes_of(headers)
    attributes = msgspec.structs.replace(
        given,
        headers=given.headers if replace_metadata else _copied_headers(old, given),
        metadata=given.metadata if replace_metadata else old.metadata,
        tags=given.tags if replace_tags else old.tags,
    )
    lock = await lock_of_request(exchange)
    attributes = msgspec.structs.replace(attributes, lock=lock)
    label = headers.get("x-amz-checksum-algorithm")
    if label is not None:
        attributes = await _with_checksum(exchange, view, attributes, label)
    put = await services.meta.copy_object(
        source.bucket,
        source.key,
        exchange.bucket,
        exchange.key,
        exchange.owner,
        attributes=attributes,
        source_generation=(inode.inode_id, inode.generation),
        source_version=view.version_id,
        conditions=write_conditions(headers),
    )
    made = put.inode.object or ObjectAttributes()
    reply = xml_reply(
        documents.copy_object(
            put.inode.effective_etag(), put.inode.mtime_ns, made.checksums, made.checksum_type
        )
    )
    if put.version_id:
        reply.headers = {**reply.headers, "x-amz-version-id": put.version_id}
    return _with_source(reply, view)


def _with_source(reply: Reply, view: ObjectView) -> Reply:
    """*reply* with the version that was copied."""
    if view.version_id:
        reply.headers = {**reply.headers, "x-amz-copy-source-version-id": view.version_id}
    return reply


async def _with_checksum(
    exchange: Exchange, view: ObjectView, attributes: ObjectAttributes, label: str
) -> ObjectAttributes:
    """*attributes* with a full-object checksum of the algorithm asked for, and the MD5 of the
    content."""
    algorithm = find_algorithm(label)
    present = view.inode.object
    if (
        present is not None
        and present.etag_generation == view.inode.generation
        and present.checksum_type == FULL_OBJECT
        and algorithm.name in present.checksums
    ):
        return attributes
    digest = await _digest(exchange, view, ByteRange(0, content_size(view.inode)), algorithm)
    return msgspec.structs.replace(
        attributes, etag=digest.md5, checksums=digest.checksums, checksum_type=FULL_OBJECT
    )


async def _digest(
    exchange: Exchange, view: ObjectView, span: ByteRange, algorithm: Algorithm
) -> BodyResult:
    """MD5 and checksum of a range of an object, from what is known or by reading it."""
    inode = view.inode
    known = _known_digest(view, span, algorithm)
    if known is not None:
        return known
    verifier = BodyVerifier(default=algorithm)
    if view.inline_data is not None or inode.size == 0:
        verifier.update(_inline_piece(view, span))
        return verifier.finish()
    services = exchange.services
    loop = asyncio.get_running_loop()
    extents = await services.meta.extents(inode, span.start, span.length)
    buffer = await services.buffers.take()
    position, end = span.start, span.start + span.length
    try:
        while position < end:
            piece = buffer[: min(len(buffer), end - position)]
            await services.data.read(extents, position, piece, generation=inode.generation)
            jobs = [loop.run_in_executor(services.executor, lane, piece) for lane in verifier.lanes]
            await asyncio.wait(jobs)
            position += len(piece)
    finally:
        services.buffers.give(buffer)
    return verifier.finish()


def _known_digest(view: ObjectView, span: ByteRange, algorithm: Algorithm) -> BodyResult | None:
    """The digests of the whole object, if they were stored and still hold."""
    inode, present = view.inode, view.inode.object
    if present is None or present.etag_generation != inode.generation or "-" in present.etag:
        return None
    if span.length != inode.size or present.checksum_type != FULL_OBJECT:
        return None
    value = present.checksums.get(algorithm.name)
    if value is None:
        return None
    return BodyResult(inode.size, present.etag, {algorithm.name: value})


def _inline_piece(view: ObjectView, span: ByteRange) -> bytes:
    """A range of an object whose bytes are in its record; grown by truncation it ends in zeros."""
    data = (view.inline_data or b"").ljust(view.inode.size, b"\0")
    return data[span.start : span.start + span.length]


async def copy_part(exchange: Exchange) -> Reply:
    """UploadPartCopy: the part refers to the source's extents; its digests are computed by reading
    them."""
    number = part_number_of(exchange)
    meta = exchange.services.meta
    upload = await meta.get_upload(
        exchange.bucket, exchange.key, exchange.query.get("uploadId", "")
    )
    _, view = await _source(exchange)
    size = content_size(view.inode)
    text = exchange.headers.get("x-amz-copy-source-range")
    span = ByteRange(0, size) if text is None else parse_copy_range(text, size)
    if span.length > PART_BYTES_MAX:
        raise S3Error("EntityTooLarge")
    algorithm = ALGORITHMS[upload.checksum_algorithm or DEFAULT_ALGORITHM]
    digest = await _digest(exchange, view, span, algorithm)
    if view.inline_data is not None or view.inode.size == 0:
        part = await _inline_part(exchange, _inline_piece(view, span), number, digest, upload)
    else:
        part = await meta.copy_part(
            upload, number, view, span.start, span.length, digest.md5, digest.checksums
        )
    reply = xml_reply(documents.copy_part(part.etag, part.modified_ns, part.checksums))
    return _with_source(reply, view)


async def _inline_part(
    exchange: Exchange, piece: bytes, number: int, digest: BodyResult, upload: Upload
) -> Part:
    """A part of a small object: its bytes go into a segment of their own."""
    services = exchange.services
    await services.meta.ensure_ids(1)
    segment_id = services.meta.new_segment_id()
    layout = services.meta.layout_of(segment_id, in_place=False)
    writer = services.data.new_segment(segment_id, layout, length_bytes=len(piece))
    try:
        await writer.write(memoryview(piece))
        extents = await writer.finish()
    except BaseException:
        await asyncio.shield(writer.abort())
        raise
    content = NewContent(len(piece), None, extents)
    part = Part(number, len(piece), digest.md5, services.clock.wall_ns(), digest.checksums, extents)
    return await Received(content, digest, writer).put_by(services.meta.put_part(upload, part))
