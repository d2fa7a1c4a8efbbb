"""GetObjectAttributes."""

from __future__ import annotations

from ...core.meta.records import ObjectAttributes, PartSize
from .. import documents
from ..documents import PartsPage
from ..encryption import check_key
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange, content_size
from ..reply import XML_TYPE, Reply
from ..times import NANOSECONDS, http_date
from .listing import page_limit

ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
_HEADER = "x-amz-object-attributes"
_MARKER_MAX = 2**31 - 1


def wanted_attributes(text: str | None) -> frozenset[str]:
    """The attributes that the header names. Raises S3Error: InvalidRequest for none,
    InvalidArgument for one that does not exist."""
    names = frozenset(name for item in (text or "").split(",") if (name := item.strip()))
    if not names:
        raise S3Error(
            "InvalidRequest",
            f"The {_HEADER} header specifying the attributes to be retrieved is either missing or "
            "empty",
        )
    for name in sorted(names - ATTRIBUTES):
        raise invalid_argument("Invalid attribute name specified.", name=_HEADER, value=name)
    return names


async def get_object_attributes(exchange: Exchange) -> Reply:
    """GetObjectAttributes: what HEAD tells and the parts, in one document."""
    headers, meta = exchange.headers, exchange.services.meta
    names = wanted_attributes(headers.get(_HEADER))
    limit = page_limit(headers.get("x-amz-max-parts"), "x-amz-max-parts")
    marker = page_limit(
        headers.get("x-amz-part-number-marker") or "0", "x-amz-part-number-marker", _MARKER_MAX
    )
    view = await meta.get_object(
        exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
    )
    inode = view.inode
    await check_key(exchange, inode.object)
    attributes = inode.object or ObjectAttributes()
    parts = None
    if "ObjectParts" in names and (sizes := await meta.object_parts(inode)):
        parts = parts_page(sizes, marker, limit)
    checksums, kind = attributes.checksums, attributes.checksum_type
    if "Checksum" not in names or attributes.etag_generation != inode.generation:
        checksums, kind = {}, ""
    document = documents.object_attributes(
        etag=inode.effective_etag() if "ETag" in names else None,
        checksums=checksums,
        checksum_type=kind,
        parts=parts,
        storage_class=attributes.storage_class if "StorageClass" in names else None,
        size=content_size(inode) if "ObjectSize" in names else None,
    )
    last_modified = http_date(inode.mtime_ns // NANOSECONDS)
    answer = {"Content-Type": XML_TYPE, "Last-Modified": last_modified}
    if view.version_id:
        answer["x-amz-version-id"] = view.version_id
    return Reply(200, answer, document)


def parts_page(sizes: tuple[PartSize, ...], marker: int, limit: int) -> PartsPage:
    """The parts behind number *marker*, at most *limit*. They count from one without gaps, as the
    ``partNumber`` of GET does, whatever their numbers were when they were uploaded."""
    shown = sizes[marker : marker + limit]
    numbered = [(marker + place, part) for place, part in enumerate(shown, 1)]
    return PartsPage(len(sizes), marker, limit, numbered, marker + len(shown) < len(sizes))
