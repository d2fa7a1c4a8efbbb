"""Documents that list objects: templates, escaping on demand. Pure.

A thousand keys cost about a microsecond each: what is constant is formatted once, and one search
over all keys decides whether any of them needs escaping at all.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from ..core.meta.records import Acl, Inode, ListEntry, ObjectAttributes, VersionEntry
from .errors import invalid_argument
from .times import iso_milliseconds
from .xml_text import NAMESPACE, XML_DECLARATION, escape, needs_escape

TextOf = Callable[[bytes], str]

_URL_SPECIAL = re.compile(rb"[^A-Za-z0-9._~/*-]")
_URL_SAFE = "/*"  # beside letters, digits and "_.-~", which always are


class Person(NamedTuple):
    """An owner or initiator, as documents name it."""

    id: str
    display_name: str

    def element(self, name: str) -> str:
        return (
            f"<{name}><ID>{escape(self.id)}</ID>"
            f"<DisplayName>{escape(self.display_name)}</DisplayName></{name}>"
        )


class ListQuery(NamedTuple):
    """What a listing was asked for, as its answer repeats it."""

    bucket: str
    prefix: bytes
    delimiter: bytes
    limit: int
    url_encoding: bool


def plain_text(key: bytes) -> str:
    """A key as element content."""
    return escape(key.decode("utf-8", "surrogateescape"))


def url_text(key: bytes) -> str:
    """A key with ``encoding-type=url``: percent-encoded, slashes kept, a space as %20 (which reads
    back alike by both rules that clients use)."""
    return quote_from_bytes(key, _URL_SAFE)


def _text_of(query: ListQuery) -> TextOf:
    return url_text if query.url_encoding else plain_text


def _text_of_keys(query: ListQuery, entries: Sequence[ListEntry | VersionEntry]) -> TextOf:
    """The cheapest function that is right for every key of *entries*."""
    together = b"".join([entry.key for entry in entries])
    if query.url_encoding:
        return url_text if _URL_SPECIAL.search(together) else _ascii_text
    if needs_escape(together.decode("utf-8", "surrogateescape")):
        return plain_text
    return _utf8_text


def _ascii_text(key: bytes) -> str:
    return key.decode("ascii")


def _utf8_text(key: bytes) -> str:
    return key.decode("utf-8")


def _head(query: ListQuery, root: str, prefix: str) -> list[str]:
    text = _text_of(query)
    parts = [
        XML_DECLARATION,
        f'<{root} xmlns="{NAMESPACE}"><Name>{escape(query.bucket)}</Name>'
        f"<Prefix>{prefix}</Prefix><MaxKeys>{query.limit}</MaxKeys>",
    ]
    if query.delimiter:
        parts.append(f"<Delimiter>{text(query.delimiter)}</Delimiter>")
    if query.url_encoding:
        parts.append("<EncodingType>url</EncodingType>")
    return parts


def list_objects_v1(
    query: ListQuery,
    entries: Sequence[ListEntry],
    *,
    marker: bytes,
    next_marker: bytes | None,
    owner: Person,
) -> bytes:
    """ListBucketResult of ListObjects. *next_marker* None: this is the last page.

    NextMarker is given for a delimited listing only, as AWS does; otherwise the last key is it.
    The prefix is never URL-encoded: the SDKs do not decode that of this listing.
    """
    text = _text_of(query)
    parts = _head(query, "ListBucketResult", plain_text(query.prefix))
    parts.append(f"<Marker>{text(marker)}</Marker>")
    parts.append(_truncated(next_marker is not None))
    if next_marker is not None and query.delimiter:
        parts.append(f"<NextMarker>{text(next_marker)}</NextMarker>")
    _append_entries(parts, query, entries, owner.element("Owner"))
    parts.append("</ListBucketResult>")
    return _document(parts)


def list_objects_v2(
    query: ListQuery,
    entries: Sequence[ListEntry],
    *,
    start_after: bytes,
    continuation_token: str | None,
    next_token: str | None,
    owner: Person | None,
) -> bytes:
    """ListBucketResult of ListObjectsV2. *next_token* None: this is the last page. *owner* None:
    not asked for (``fetch-owner``)."""
    parts = _head(query, "ListBucketResult", _text_of(query)(query.prefix))
    parts.append(f"<KeyCount>{len(entries)}</KeyCount>")
    parts.append(_truncated(next_token is not None))
    if start_after:
        parts.append(f"<StartAfter>{_text_of(query)(start_after)}</StartAfter>")
    if continuation_token is not None:
        parts.append(f"<ContinuationToken>{escape(continuation_token)}</ContinuationToken>")
    if next_token is not None:
        parts.append(f"<NextContinuationToken>{escape(next_token)}</NextContinuationToken>")
    owner_element = owner.element("Owner") if owner is not None else ""
    _append_entries(parts, query, entries, owner_element)
    parts.append("</ListBucketResult>")
    return _document(parts)


def list_object_versions(
    query: ListQuery,
    entries: Sequence[VersionEntry],
    *,
    key_marker: bytes,
    version_id_marker: str,
    next_markers: tuple[bytes, str] | None,
    owner: Person,
) -> bytes:
    """ListVersionsResult. *next_markers* (key, version) None: this is the last page."""
    text = _text_of(query)
    parts = _head(query, "ListVersionsResult", text(query.prefix))
    parts.append(f"<KeyMarker>{text(key_marker)}</KeyMarker>")
    parts.append(f"<VersionIdMarker>{escape(version_id_marker)}</VersionIdMarker>")
    parts.append(_truncated(next_markers is not None))
    if next_markers is not None:
        parts.append(f"<NextKeyMarker>{text(next_markers[0])}</NextKeyMarker>")
        if next_markers[1]:
            parts.append(f"<NextVersionIdMarker>{next_markers[1]}</NextVersionIdMarker>")
    _append_versions(parts, query, entries, owner.element("Owner"))
    parts.append("</ListVersionsResult>")
    return _document(parts)


def _truncated(more: bool) -> str:
    return "<IsTruncated>true</IsTruncated>" if more else "<IsTruncated>false</IsTruncated>"


def _document(parts: list[str]) -> bytes:
    # Keys without escapes were decoded strictly or escaped: nothing here can fail to encode.
    return "".join(parts).encode("utf-8")


def _append_entries(
    parts: list[str],
    query: ListQuery,
    entries: Sequence[ListEntry],
    owner: str,
) -> None:
    """Append a row per object, then the common prefixes."""
    text = _text_of_keys(query, entries)
    tail = _Tail("Contents", owner)
    prefixes: list[str] = []
    append = parts.append
    for entry in entries:
        key, inode = entry.key, entry.inode
        if inode is None:
            prefixes.append(f"<CommonPrefixes><Prefix>{text(key)}</Prefix></CommonPrefixes>")
            continue
        append(f"<Contents><Key>{text(key)}</Key>{tail.of(inode)}")
    parts += prefixes


def _append_versions(
    parts: list[str], query: ListQuery, entries: Sequence[VersionEntry], owner: str
) -> None:
    """Append a row per version and delete marker, then the common prefixes."""
    text = _text_of_keys(query, entries)
    tail = _Tail("Version", owner)
    prefixes: list[str] = []
    append = parts.append
    for entry in entries:
        key, version_id, inode = entry.key, entry.version_id, entry.inode
        if not version_id:
            prefixes.append(f"<CommonPrefixes><Prefix>{text(key)}</Prefix></CommonPrefixes>")
            continue
        latest = "true" if entry.is_latest else "false"
        version = f"<VersionId>{version_id}</VersionId><IsLatest>{latest}</IsLatest>"
        if inode is not None:
            append(f"<Version><Key>{text(key)}</Key>{version}{tail.of(inode)}")
            continue
        append(
            f"<DeleteMarker><Key>{text(key)}</Key>{version}"
            f"<LastModified>{iso_milliseconds(entry.modified_ns)}</LastModified>{owner}"
            "</DeleteMarker>"
        )
    parts += prefixes


class _Tail:
    """Rows of objects behind key and version; what most of them share is formatted once."""

    __slots__ = ("_checksums", "_element", "_endings", "_owner")

    def __init__(self, element: str, owner: str) -> None:
        self._element = element
        self._owner = owner
        self._endings: dict[str, str] = {}
        self._checksums: dict[tuple[str, str], str] = {}

    def of(self, inode: Inode) -> str:
        """The row's rest, with the end of its element."""
        attributes = inode.object
        checksum = ""
        storage_class = "STANDARD"
        if attributes is not None:
            storage_class = attributes.storage_class
            if attributes.checksums and attributes.etag_generation == inode.generation:
                kind = (" ".join(attributes.checksums), attributes.checksum_type)
                checksums = self._checksums
                checksum = checksums.get(kind) or checksums.setdefault(kind, _checksum(*kind))
            if attributes.acl is not None and attributes.acl.owner and self._owner:
                return self._row(inode, checksum, self._ending_of(attributes, attributes.acl))
        ending = self._endings.get(storage_class)
        if ending is None:
            ending = self._endings[storage_class] = (
                f"{self._owner}<StorageClass>{escape(storage_class)}</StorageClass>"
                f"</{self._element}>"
            )
        return self._row(inode, checksum, ending)

    def _row(self, inode: Inode, checksum: str, ending: str) -> str:
        return (
            f"<LastModified>{iso_milliseconds(inode.mtime_ns)}</LastModified>"
            f"<ETag>&quot;{inode.effective_etag()}&quot;</ETag>{checksum}"
            f"<Size>{inode.size}</Size>{ending}"
        )

    def _ending_of(self, attributes: ObjectAttributes, acl: Acl) -> str:
        """That of an object which is another's than the bucket."""
        owner = Person(acl.owner, acl.owner_name).element("Owner")
        storage_class = escape(attributes.storage_class)
        return f"{owner}<StorageClass>{storage_class}</StorageClass></{self._element}>"


def _checksum(names: str, checksum_type: str) -> str:
    labels = "".join(
        f"<ChecksumAlgorithm>{escape(name.upper())}</ChecksumAlgorithm>" for name in names.split()
    )
    return f"{labels}<ChecksumType>{escape(checksum_type)}</ChecksumType>"


def encode_token(after: bytes) -> str:
    """A continuation token for the place behind *after*. Opaque to clients, and stable."""
    return base64.urlsafe_b64encode(after).decode("ascii")


def decode_token(token: str) -> bytes:
    """The place that a continuation token stands for. Raises S3Error InvalidArgument."""
    try:
        if token.isascii():
            return base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        pass  # not one of ours
    raise invalid_argument(
        "The continuation token provided is incorrect", name="continuation-token", value=token
    )
