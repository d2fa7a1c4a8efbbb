"""CopyObject and UploadPartCopy: by reference, no byte moves where extents can be shared."""

from __future__ import annotations

import msgspec

from ...core.errors import ConflictError, DeleteMarkerError
from ...core.limits import PART_BYTES_MAX, PUT_BYTES_MAX
from ...core.meta.records import ObjectAttributes, ObjectView, Part, PutResult, Upload
from .. import documents
from ..access.acls import acl_of_new_object
from ..attributes import attributes_of, version_header
from ..body.checksums import ALGORITHMS, FULL_OBJECT, find_algorithm
from ..body.verification import BodyResult
from ..conditions import check_copy_source, write_conditions
from ..content import Content
from ..copy_source import CopySource, parse_copy_source
from ..copying import digest_of, rewrite
from ..encryption import encryption_headers, open_key, seal_copy, seal_part
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange, content_size
from ..expiration import expiration_header
from ..object_lock import lock_of_request
from ..ranges import ByteRange, parse_copy_range
from ..reply import Reply, xml_reply
from .multipart import DEFAULT_ALGORITHM, part_number_of

_REDIRECT = "x-amz-website-redirect-location"
_CHANGES = frozenset(
    {
        "x-amz-storage-class",
        "x-amz-checksum-algorithm",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-customer-algorithm",
        _REDIRECT,
    }
)
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
    acl = await acl_of_new_object(exchange)
    source_key = await open_key(exchange, inode.object, as_source=True)
    sealing, shares = await seal_copy(exchange, old.encryption, source_key)
    encryption = None if sealing is None else sealing.encryption
    attributes = msgspec.structs.replace(attributes, lock=lock, encryption=encryption, acl=acl)
    content = Content(services, view, source_key)
    if shares:
        label = headers.get("x-amz-checksum-algorithm")
        if label is not None:
            attributes = await _with_checksum(exchange, content, view, attributes, label)
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
    else:
        put = await _put_rewritten(exchange, content, view, attributes)
    exchange.object_bytes = put.inode.size
    made = put.inode.object or ObjectAttributes()
    reply = xml_reply(
        documents.copy_object(
            put.inode.effective_etag(), put.inode.mtime_ns, made.checksums, made.checksum_type
        )
    )
    reply.headers = {**reply.headers, **encryption_headers(made.encryption)}
    reply.headers = {**reply.headers, **version_header(put)}
    reply.headers = {**reply.headers, **expiration_header(exchange, put.inode)}
    return _with_source(reply, view)


def _with_source(reply: Reply, view: ObjectView) -> Reply:
    """*reply* with the version that was copied."""
    if view.version_id:
        reply.headers = {**reply.headers, "x-amz-copy-source-version-id": view.version_id}
    return reply


async def _with_checksum(
    exchange: Exchange,
    content: Content,
    view: ObjectView,
    attributes: ObjectAttributes,
    label: str,
) -> ObjectAttributes:
    """*attributes* with a full-object checksum of the algorithm asked for, and the ETag of the
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
    digest = await digest_of(exchange, content, view, ByteRange(0, content.size), algorithm)
    return _digested(exchange, attributes, digest)


def _digested(
    exchange: Exchange, attributes: ObjectAttributes, digest: BodyResult
) -> ObjectAttributes:
    sealing = exchange.sealing
    return msgspec.structs.replace(
        attributes,
        etag=digest.md5 if sealing is None else sealing.etag(digest.md5),
        checksums=digest.checksums,
        checksum_type=FULL_OBJECT,
    )


async def _put_rewritten(
    exchange: Exchange, content: Content, view: ObjectView, attributes: ObjectAttributes
) -> PutResult:
    """The copy with bytes of its own. Raises ConflictError if the source changed meanwhile."""
    present = view.inode.object or ObjectAttributes()
    names = [name for name in present.checksums if present.checksum_type == FULL_OBJECT]
    label = exchange.headers.get("x-amz-checksum-algorithm") or (names or [DEFAULT_ALGORITHM])[0]
    received = await rewrite(
        exchange, content, ByteRange(0, content.size), find_algorithm(label), inline=True
    )
    inode = view.inode
    meta = exchange.services.meta
    now = (await meta.get_inodes([inode.inode_id]))[0]
    if now is None or now.generation != inode.generation:
        if received.writer is not None:
            await received.writer.abort()
        raise ConflictError("the source of the copy changed while it was copied")
    return await received.put_by(
        meta.put_object(
            exchange.bucket,
            exchange.key,
            received.content,
            _digested(exchange, attributes, received.result),
            exchange.owner,
            conditions=write_conditions(exchange.headers),
        )
    )


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
    source_key = await open_key(exchange, view.inode.object, as_source=True)
    sealing = await seal_part(exchange, upload.attributes)
    content = Content(exchange.services, view, source_key)
    if source_key is None and sealing is None and content.inline is None:
        digest = await digest_of(exchange, content, view, span, algorithm)
        part = await meta.copy_part(
            upload, number, view, span.start, span.length, digest.md5, digest.checksums
        )
    else:
        part = await _rewritten_part(exchange, content, span, number, upload)
    reply = xml_reply(documents.copy_part(part.etag, part.modified_ns, part.checksums))
    reply.headers = {**reply.headers, **encryption_headers(upload.attributes.encryption)}
    return _with_source(reply, view)


async def _rewritten_part(
    exchange: Exchange, content: Content, span: ByteRange, number: int, upload: Upload
) -> Part:
    """A part with bytes of its own: of a small object, or encrypted on either side."""
    services = exchange.services
    algorithm = ALGORITHMS[upload.checksum_algorithm or DEFAULT_ALGORITHM]
    received = await rewrite(exchange, content, span, algorithm, inline=False)
    result, sealing = received.result, exchange.sealing
    part = Part(
        number,
        span.length,
        result.md5 if sealing is None else sealing.etag(result.md5),
        services.clock.wall_ns(),
        result.checksums,
        received.content.extents,
    )
    return await received.put_by(services.meta.put_part(upload, part))
