"""Object attributes from request headers, and back into response headers."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from ..core.meta.records import Inode, ObjectAttributes, PutResult
from ..core.meta.version_ids import NULL
from .auth.chunked import stored_content_encoding
from .body.digest import quote_etag
from .encryption import encryption_headers
from .errors import S3Error, invalid_argument
from .exchange import is_folder
from .headers import Headers
from .request_documents import checked_tags
from .times import NANOSECONDS, http_date

METADATA_PREFIX = "x-amz-meta-"
METADATA_BYTES_MAX = 2048
STORED_HEADERS = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
    "x-amz-website-redirect-location": "x-amz-website-redirect-location",
}
DEFAULT_TYPE = "binary/octet-stream"
FOLDER_TYPE = "application/x-directory"
STORAGE_CLASSES = frozenset(
    {
        "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING",
        "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE",
    }
)  # fmt: skip

RESPONSE_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


def attributes_of(headers: Headers) -> ObjectAttributes:
    """What a PUT, copy with REPLACE, or CreateMultipartUpload gives its object.

    Raises S3Error: MetadataTooLarge, InvalidStorageClass, InvalidTag.
    """
    stored = {name: headers[name] for name in STORED_HEADERS if name in headers}
    if "content-encoding" in stored:
        encoding = stored_content_encoding(stored["content-encoding"])
        if encoding:
            stored["content-encoding"] = encoding
        else:
            del stored["content-encoding"]
    metadata = {
        name[len(METADATA_PREFIX) :]: value
        for name, value in headers.items()
        if name.startswith(METADATA_PREFIX)
    }
    size = sum(
        len(name.encode()) + len(value.encode("utf-8", "surrogateescape"))
        for name, value in metadata.items()
    )
    if size > METADATA_BYTES_MAX:
        raise S3Error(
            "MetadataTooLarge",
            fields={"Size": str(size), "MaxSizeAllowed": str(METADATA_BYTES_MAX)},
        )
    return ObjectAttributes(
        headers=stored,
        metadata=metadata,
        tags=header_tags(headers),
        storage_class=storage_class_of(headers),
    )


def storage_class_of(headers: Headers) -> str:
    """The storage class asked for. Raises S3Error InvalidStorageClass."""
    value = headers.get("x-amz-storage-class", "STANDARD")
    if value not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", fields={"StorageClassRequested": value})
    return value


def header_tags(headers: Headers) -> dict[str, str]:
    """The tags of x-amz-tagging. Raises S3Error InvalidTag, InvalidArgument."""
    text = headers.get("x-amz-tagging")
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
            "parameters without tag name duplicates.",
            name="x-amz-tagging",
            value=text,
        ) from error
    return checked_tags(pairs)


def object_headers(
    inode: Inode, query: Mapping[str, str], *, with_checksums: bool
) -> dict[str, str]:
    """The headers of GET and HEAD, but for length and range."""
    attributes = inode.object
    headers = {
        "ETag": quote_etag(inode.effective_etag()),
        "Last-Modified": http_date(inode.mtime_ns // NANOSECONDS),
        "Accept-Ranges": "bytes",
        "Content-Type": FOLDER_TYPE if is_folder(inode) else DEFAULT_TYPE,
    }
    if attributes is not None:
        for name, value in attributes.headers.items():
            headers[STORED_HEADERS[name]] = value
        for name, value in attributes.metadata.items():
            headers[METADATA_PREFIX + name] = value
        if attributes.tags:
            headers["x-amz-tagging-count"] = str(len(attributes.tags))
        if attributes.storage_class != "STANDARD":
            headers["x-amz-storage-class"] = attributes.storage_class
        if attributes.encryption is not None:
            headers |= encryption_headers(attributes.encryption)
        if with_checksums and attributes.etag_generation == inode.generation:
            for name, value in attributes.checksums.items():
                headers[f"x-amz-checksum-{name}"] = value
            if attributes.checksum_type:
                headers["x-amz-checksum-type"] = attributes.checksum_type
    for name, header in RESPONSE_OVERRIDES.items():
        if name in query:
            headers[header] = _header_value(query[name])
    return headers


def version_header(put: PutResult) -> dict[str, str]:
    """The version that was made. As in AWS none is told of while versioning is suspended."""
    if put.version_id in ("", NULL):
        return {}
    return {"x-amz-version-id": put.version_id}


def checksum_headers(checksums: Mapping[str, str], checksum_type: str) -> dict[str, str]:
    """The headers that tell of a stored checksum."""
    headers = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
    if headers and checksum_type:
        headers["x-amz-checksum-type"] = checksum_type
    return headers


def _header_value(text: str) -> str:
    """A query parameter as a header value. Raises S3Error InvalidArgument if it would break out of
    its line."""
    if any(character < " " or character == "\x7f" for character in text):
        raise invalid_argument(
            "A header value cannot hold control characters", name="response-*", value=""
        )
    return text
