"""Result documents other than object listings: templates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..core.meta.records import Bucket, DeleteOutcome, Part, PartSize, Upload
from .body.checksums import ALGORITHMS, Algorithm
from .errors import S3Error
from .listings import ListQuery, Person, plain_text, url_text
from .times import iso_milliseconds
from .xml_text import NAMESPACE, XML_DECLARATION, escape


class PartsPage(NamedTuple):
    """A page of the parts that an object was made of."""

    total: int
    marker: int
    limit: int
    parts: Sequence[tuple[int, PartSize]]
    """With their numbers."""
    truncated: bool


class Deleted(NamedTuple):
    """One object of DeleteObjects that was deleted, or was not there."""

    key: bytes
    version_id: str
    """As it was asked for; may be empty."""
    outcome: DeleteOutcome


class DeleteFailure(NamedTuple):
    """One object of DeleteObjects that was not deleted."""

    key: bytes
    version_id: str
    error: S3Error


def _document(root: str, *parts: str) -> bytes:
    body = "".join(parts)
    return f'{XML_DECLARATION}<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode()


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _etag(etag: str) -> str:
    return f"<ETag>&quot;{escape(etag)}&quot;</ETag>"


def _flag(name: str, value: bool) -> str:
    return f"<{name}>true</{name}>" if value else f"<{name}>false</{name}>"


def _checksums(checksums: Mapping[str, str], checksum_type: str = "") -> str:
    text = "".join(_element(f"Checksum{name.upper()}", value) for name, value in checksums.items())
    return text + _element("ChecksumType", checksum_type) if text and checksum_type else text


def _algorithm(name: str, checksum_type: str) -> str:
    algorithm: Algorithm | None = ALGORITHMS.get(name)
    if algorithm is None:
        return ""
    return _element("ChecksumAlgorithm", algorithm.label) + _element("ChecksumType", checksum_type)


def bucket_arn(name: str) -> str:
    """How policies and answers name a bucket."""
    return f"arn:aws:s3:::{name}"


def list_buckets(
    buckets: Iterable[Bucket],
    owner: Person,
    *,
    region: str,
    prefix: str = "",
    next_token: str | None = None,
) -> bytes:
    """ListAllMyBucketsResult. *region*: of buckets that know none of their own. *next_token* None:
    this is the last page."""
    rows = "".join(
        f"<Bucket><Name>{escape(bucket.name)}</Name>"
        f"<CreationDate>{iso_milliseconds(bucket.created_ns)}</CreationDate>"
        f"<BucketRegion>{escape(bucket.region or region)}</BucketRegion>"
        f"<BucketArn>{bucket_arn(bucket.name)}</BucketArn></Bucket>"
        for bucket in buckets
    )
    return _document(
        "ListAllMyBucketsResult",
        owner.element("Owner"),
        f"<Buckets>{rows}</Buckets>",
        _element("Prefix", prefix) if prefix else "",
        _element("ContinuationToken", next_token) if next_token is not None else "",
    )


def initiate_multipart_upload(bucket: str, key: bytes, upload_id: str) -> bytes:
    """InitiateMultipartUploadResult."""
    return _document(
        "InitiateMultipartUploadResult",
        _element("Bucket", bucket),
        f"<Key>{plain_text(key)}</Key>",
        _element("UploadId", upload_id),
    )


def complete_multipart_upload(
    location: str,
    bucket: str,
    key: bytes,
    etag: str,
    checksums: Mapping[str, str],
    checksum_type: str,
) -> bytes:
    """CompleteMultipartUploadResult. *location* is the object's URL."""
    return _document(
        "CompleteMultipartUploadResult",
        _element("Location", location),
        _element("Bucket", bucket),
        f"<Key>{plain_text(key)}</Key>",
        _etag(etag),
        _checksums(checksums, checksum_type),
    )


def post_response(location: str, bucket: str, key: bytes, etag: str) -> bytes:
    """PostResponse, which has no namespace. *location* is the object's URL."""
    parts = (
        _element("Location", location),
        _element("Bucket", bucket),
        f"<Key>{plain_text(key)}</Key>",
        _etag(etag),
    )
    return f"{XML_DECLARATION}<PostResponse>{''.join(parts)}</PostResponse>".encode()


def list_parts(
    upload: Upload,
    parts: Sequence[Part],
    *,
    marker: int,
    limit: int,
    truncated: bool,
    owner: Person,
) -> bytes:
    """ListPartsResult. *marker*: the part number the page began behind."""
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{iso_milliseconds(part.modified_ns)}</LastModified>"
        f"{_etag(part.etag)}<Size>{part.size}</Size>{_checksums(part.checksums)}</Part>"
        for part in parts
    )
    return _document(
        "ListPartsResult",
        _element("Bucket", upload.bucket),
        f"<Key>{plain_text(upload.key)}</Key>",
        _element("UploadId", upload.upload_id),
        owner.element("Initiator"),
        owner.element("Owner"),
        _element("StorageClass", upload.attributes.storage_class),
        _algorithm(upload.checksum_algorithm, upload.checksum_type),
        f"<PartNumberMarker>{marker}</PartNumberMarker>",
        f"<NextPartNumberMarker>{parts[-1].number if parts else marker}</NextPartNumberMarker>",
        f"<MaxParts>{limit}</MaxParts>",
        _flag("IsTruncated", truncated),
        rows,
    )


def _owner_of(upload: Upload, bucket_owner: Person) -> Person:
    acl = upload.attributes.acl
    if acl is None or not acl.owner:
        return bucket_owner
    return Person(acl.owner, acl.owner_name)


def list_multipart_uploads(
    query: ListQuery,
    uploads: Sequence[Upload],
    common_prefixes: Sequence[bytes],
    *,
    key_marker: bytes,
    upload_id_marker: str,
    next_markers: tuple[bytes, str] | None,
    owner: Person,
) -> bytes:
    """ListMultipartUploadsResult. *next_markers* (key, upload id) None: this is the last page;
    *owner*: of the bucket, and of the uploads that are nobody else's."""
    text = url_text if query.url_encoding else plain_text
    rows = "".join(
        f"<Upload><Key>{text(upload.key)}</Key>{_element('UploadId', upload.upload_id)}"
        f"{_owner_of(upload, owner).element('Initiator')}"
        f"{_owner_of(upload, owner).element('Owner')}"
        f"{_element('StorageClass', upload.attributes.storage_class)}"
        f"<Initiated>{iso_milliseconds(upload.initiated_ns)}</Initiated>"
        f"{_algorithm(upload.checksum_algorithm, upload.checksum_type)}</Upload>"
        for upload in uploads
    )
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>{text(prefix)}</Prefix></CommonPrefixes>"
        for prefix in common_prefixes
    )
    next_key, next_upload_id = next_markers or (b"", "")
    return _document(
        "ListMultipartUploadsResult",
        _element("Bucket", query.bucket),
        f"<KeyMarker>{text(key_marker)}</KeyMarker>",
        _element("UploadIdMarker", upload_id_marker),
        f"<NextKeyMarker>{text(next_key)}</NextKeyMarker>",
        _element("NextUploadIdMarker", next_upload_id),
        f"<Prefix>{text(query.prefix)}</Prefix>",
        f"<Delimiter>{text(query.delimiter)}</Delimiter>" if query.delimiter else "",
        "<EncodingType>url</EncodingType>" if query.url_encoding else "",
        f"<MaxUploads>{query.limit}</MaxUploads>",
        _flag("IsTruncated", next_markers is not None),
        rows,
        prefixes,
    )


def copy_object(
    etag: str, modified_ns: int, checksums: Mapping[str, str], checksum_type: str
) -> bytes:
    """CopyObjectResult."""
    return _document(
        "CopyObjectResult",
        f"<LastModified>{iso_milliseconds(modified_ns)}</LastModified>",
        _etag(etag),
        _checksums(checksums, checksum_type),
    )


def copy_part(etag: str, modified_ns: int, checksums: Mapping[str, str]) -> bytes:
    """CopyPartResult."""
    return _document(
        "CopyPartResult",
        f"<LastModified>{iso_milliseconds(modified_ns)}</LastModified>",
        _etag(etag),
        _checksums(checksums),
    )


def object_attributes(
    *,
    etag: str | None,
    checksums: Mapping[str, str],
    checksum_type: str,
    parts: PartsPage | None,
    storage_class: str | None,
    size: int | None,
) -> bytes:
    """GetObjectAttributesResponse; what was not asked for is None or empty. The ETag stands without
    quotes here."""
    checksum = _checksums(checksums, checksum_type)
    return _document(
        "GetObjectAttributesResponse",
        "" if etag is None else _element("ETag", etag),
        f"<Checksum>{checksum}</Checksum>" if checksum else "",
        "" if parts is None else _object_parts(parts),
        "" if storage_class is None else _element("StorageClass", storage_class),
        "" if size is None else f"<ObjectSize>{size}</ObjectSize>",
    )


def _object_parts(page: PartsPage) -> str:
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{part.size}</Size>"
        f"{_checksums(part.checksums)}</Part>"
        for number, part in page.parts
    )
    last = page.parts[-1][0] if page.parts else page.marker
    return (
        f"<ObjectParts><PartsCount>{page.total}</PartsCount>"
        f"<PartNumberMarker>{page.marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{page.limit}</MaxParts>"
        f"{_flag('IsTruncated', page.truncated)}{rows}</ObjectParts>"
    )


def delete_result(
    deleted: Iterable[Deleted], failures: Iterable[DeleteFailure], *, quiet: bool
) -> bytes:
    """DeleteResult. *deleted* is left out when *quiet*."""
    rows = []
    if not quiet:
        for key, version_id, outcome in deleted:
            row = f"<Deleted><Key>{plain_text(key)}</Key>"
            if version_id:
                row += _element("VersionId", version_id)
            if outcome.delete_marker:
                row += "<DeleteMarker>true</DeleteMarker>"
                row += _element("DeleteMarkerVersionId", outcome.version_id)
            rows.append(row + "</Deleted>")
    for failure in failures:
        version = _element("VersionId", failure.version_id) if failure.version_id else ""
        rows.append(
            f"<Error><Key>{plain_text(failure.key)}</Key>{version}"
            f"{_element('Code', failure.error.code)}"
            f"{_element('Message', failure.error.message)}</Error>"
        )
    return _document("DeleteResult", *rows)


def location_constraint(region: str) -> bytes:
    """LocationConstraint; empty for us-east-1, as AWS has it."""
    return _document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def tagging(tags: Mapping[str, str]) -> bytes:
    """Tagging, in the order of the keys."""
    rows = "".join(
        f"<Tag>{_element('Key', key)}{_element('Value', value)}</Tag>"
        for key, value in sorted(tags.items())
    )
    return _document("Tagging", f"<TagSet>{rows}</TagSet>")
