"""Multipart uploads."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote_from_bytes

import msgspec

from ...core.errors import UploadNotFoundError
from ...core.limits import PART_BYTES_MAX, PARTS_MAX
from ...core.meta.records import (
    CompletedPart,
    ObjectAttributes,
    Part,
    PutResult,
    Upload,
)
from .. import documents
from ..access.acls import acl_of_new_object, bucket_owner
from ..attributes import attributes_of, version_header
from ..body.checksums import (
    ALGORITHMS,
    COMPOSITE,
    FULL_OBJECT,
    combine_full_object,
    composite,
    multipart_checksum,
    split_composite,
    stated_checksum,
)
from ..body.digest import multipart_etag, quote_etag
from ..conditions import write_conditions
from ..encryption import encryption_headers, seal_new, seal_part
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange
from ..expiration import expiration_header
from ..listings import ListQuery, Person
from ..object_lock import lock_of_request
from ..receive import read_document, receive_content
from ..reply import Reply, xml_reply
from ..request_documents import parse_complete_multipart_upload
from ..times import NANOSECONDS, parse_time_ns
from .listing import key_bytes, list_query, page_limit

PARTS_PER_READ = 1000
DEFAULT_ALGORITHM = "crc64nvme"
_BEHIND = b"\xff"  # in no key, as keys are UTF-8: a prefix with it is behind all keys below it


def part_number_of(exchange: Exchange) -> int:
    """The part number asked for. Raises S3Error InvalidArgument."""
    text = exchange.query.get("partNumber", "")
    if not text.isdigit() or not 1 <= int(text) <= PARTS_MAX:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive",
            name="partNumber",
            value=text,
        )
    return int(text)


async def _upload_of(exchange: Exchange) -> Upload:
    return await exchange.services.meta.get_upload(
        exchange.bucket, exchange.key, exchange.query.get("uploadId", "")
    )


async def create(exchange: Exchange) -> Reply:
    """CreateMultipartUpload."""
    services = exchange.services
    algorithm, kind = multipart_checksum(exchange.headers)
    attributes = attributes_of(exchange.headers)
    lock = await lock_of_request(exchange)
    acl = await acl_of_new_object(exchange)
    sealing = await seal_new(exchange)
    encryption = None if sealing is None else sealing.encryption
    upload = await services.meta.create_upload(
        exchange.bucket,
        exchange.key,
        msgspec.structs.replace(attributes, lock=lock, encryption=encryption, acl=acl),
        exchange.owner,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )
    reply = xml_reply(
        documents.initiate_multipart_upload(exchange.bucket, exchange.key, upload.upload_id)
    )
    reply.headers = {**reply.headers, **encryption_headers(encryption)}
    if algorithm:
        reply.headers = {
            **reply.headers,
            "x-amz-checksum-algorithm": ALGORITHMS[algorithm].label,
            "x-amz-checksum-type": kind,
        }
    return reply


async def upload_part(exchange: Exchange) -> Reply:
    """UploadPart."""
    number = part_number_of(exchange)
    services = exchange.services
    upload = await _upload_of(exchange)
    length = exchange.headers.get("content-length", "0")
    if length.isdigit() and int(length) > PART_BYTES_MAX + (1 << 20):
        raise S3Error("EntityTooLarge")
    wanted = upload.checksum_algorithm or DEFAULT_ALGORITHM
    _check_algorithm(exchange, upload)
    # Parts of an upload without an algorithm may state any: the object's checksum is the default
    # one, whatever they state.
    sealing = await seal_part(exchange, upload.attributes)
    received = await receive_content(
        exchange, inline=False, default_algorithm=wanted, also_algorithm=wanted
    )
    result = received.result
    etag = result.md5 if sealing is None else sealing.etag(result.md5)
    part = Part(
        number,
        result.length_bytes,
        etag,
        services.clock.wall_ns(),
        result.checksums,
        received.content.extents,
    )
    await received.put_by(services.meta.put_part(upload, part))
    name, value = next(iter(result.checksums.items()))
    headers = {"ETag": quote_etag(etag), f"x-amz-checksum-{name}": value}
    return Reply(200, {**headers, **encryption_headers(upload.attributes.encryption)})


def _check_algorithm(exchange: Exchange, upload: Upload) -> None:
    """Raise S3Error InvalidRequest if the part comes with another checksum than the upload's, or
    with none although the checksums of all parts will be named on completion."""
    wanted = upload.checksum_algorithm
    if not wanted:
        return
    stated = stated_checksum(exchange.headers)
    if stated is None:
        if upload.checksum_type != COMPOSITE:
            return
        actual = "null"
    else:
        actual = stated.algorithm.name
    if actual != wanted:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum "
            f"Type: {actual}",
        )


async def list_parts(exchange: Exchange) -> Reply:
    """ListParts."""
    upload = await _upload_of(exchange)
    limit = page_limit(exchange.query.get("max-parts"), "max-parts")
    marker = page_limit(
        exchange.query.get("part-number-marker") or "0", "part-number-marker", 2**31 - 1
    )
    parts: list[Part] = []
    more = False
    if limit:
        parts, more = await exchange.services.meta.list_parts(upload, after=marker, limit=limit)
    return xml_reply(
        documents.list_parts(
            upload,
            parts,
            marker=marker,
            limit=limit,
            truncated=more,
            owner=await _owner_of(exchange, upload),
        )
    )


async def _owner_of(exchange: Exchange, upload: Upload) -> Person:
    """Whom the object will belong to."""
    acl = upload.attributes.acl
    if acl is None or not acl.owner:
        return await bucket_owner(exchange)
    return Person(acl.owner, acl.owner_name)


async def list_uploads(exchange: Exchange) -> Reply:
    """ListMultipartUploads."""
    query = list_query(exchange)
    query = query._replace(limit=page_limit(exchange.query.get("max-uploads"), "max-uploads"))
    key_marker = key_bytes(exchange.query.get("key-marker", ""))
    id_marker = exchange.query.get("upload-id-marker", "") if key_marker else ""
    await exchange.services.meta.get_bucket(exchange.bucket)
    page = _UploadsPage(exchange, query, key_marker, id_marker)
    await page.read()
    return xml_reply(
        documents.list_multipart_uploads(
            query,
            page.uploads,
            page.prefixes,
            key_marker=key_marker,
            upload_id_marker=id_marker,
            next_markers=page.next_markers,
            owner=await bucket_owner(exchange),
        )
    )


class _UploadsPage:
    """One page of uploads, those that share a prefix up to the delimiter rolled up in one line."""

    def __init__(
        self, exchange: Exchange, query: ListQuery, key_marker: bytes, id_marker: str
    ) -> None:
        self.uploads: list[Upload] = []
        self.prefixes: list[bytes] = []
        self.next_markers: tuple[bytes, str] | None = None
        """Where the next page begins; None if this is the last."""
        self._meta = exchange.services.meta
        self._query = query
        self._after = key_marker, id_marker
        if key_marker and self._common_prefix(key_marker) == key_marker:
            self._after = key_marker + _BEHIND, ""

    async def read(self) -> None:
        """Fill the page."""
        last: tuple[bytes, str] | None = None
        more = self._query.limit > 0
        while more:
            room = self._query.limit - len(self.uploads) - len(self.prefixes)
            found, more = await self._next(max(room, 1))
            if not room:
                self.next_markers = last if found else None
                return
            for upload in found:
                common = self._common_prefix(upload.key)
                if common is None:
                    self.uploads.append(upload)
                    last = self._after = upload.key, upload.upload_id
                else:
                    self.prefixes.append(common)
                    last = common, ""
                    self._after = common + _BEHIND, ""
                    more = True  # behind all those that share the prefix
                    break
            more = more and bool(found)

    def _common_prefix(self, key: bytes) -> bytes | None:
        query = self._query
        at = key.find(query.delimiter, len(query.prefix)) if query.delimiter else -1
        return None if at < 0 else key[: at + len(query.delimiter)]

    async def _next(self, limit: int) -> tuple[list[Upload], bool]:
        key, upload_id = self._after
        return await self._meta.list_uploads(
            self._query.bucket,
            prefix=self._query.prefix,
            after_key=key,
            after_upload_id=upload_id,
            limit=limit,
        )


async def abort(exchange: Exchange) -> Reply:
    """AbortMultipartUpload, if need be only of an upload begun at a certain time."""
    upload_id = exchange.query.get("uploadId", "")
    meta = exchange.services.meta
    text = exchange.headers.get("x-amz-if-match-initiated-time")
    if text is not None:
        wanted = parse_time_ns(text)
        if wanted is None:
            raise invalid_argument(
                "The time is not a date", name="x-amz-if-match-initiated-time", value=text
            )
        upload = await meta.get_upload(exchange.bucket, exchange.key, upload_id)
        if upload.initiated_ns // NANOSECONDS != wanted // NANOSECONDS:
            raise S3Error(
                "PreconditionFailed", fields={"Condition": "x-amz-if-match-initiated-time"}
            )
    await meta.abort_upload(exchange.bucket, exchange.key, upload_id)
    return Reply(204)


async def complete(exchange: Exchange) -> Reply:
    """CompleteMultipartUpload; repeated after success it answers the same."""
    meta = exchange.services.meta
    named = parse_complete_multipart_upload(await read_document(exchange, checksum_of_object=True))
    upload_id = exchange.query.get("uploadId", "")
    try:
        upload = await meta.get_upload(exchange.bucket, exchange.key, upload_id)
    except UploadNotFoundError:
        done = await meta.find_completed(exchange.bucket, exchange.key, upload_id)
        return _completed(exchange, done)
    stored = await _stored_parts(exchange, upload)
    _check_total(exchange, named, stored)
    checksums = _object_checksum(exchange, upload, named, stored)
    put: PutResult = await meta.complete_upload(
        upload,
        named,
        etag=multipart_etag([part.etag for part in named]),
        checksums=checksums,
        conditions=write_conditions(exchange.headers),
    )
    return _completed(exchange, put)


def _completed(exchange: Exchange, put: PutResult) -> Reply:
    inode = put.inode
    exchange.object_bytes = inode.size
    attributes = inode.object or ObjectAttributes()
    host = exchange.headers.get("host", "")
    scheme = "https" if exchange.request.protocol.ssl_context is not None else "http"
    key = quote_from_bytes(exchange.key)
    reply = xml_reply(
        documents.complete_multipart_upload(
            f"{scheme}://{host}/{exchange.bucket}/{key}",
            exchange.bucket,
            exchange.key,
            inode.effective_etag(),
            attributes.checksums,
            attributes.checksum_type,
        )
    )
    reply.headers = {**reply.headers, **encryption_headers(attributes.encryption)}
    reply.headers = {**reply.headers, **version_header(put)}
    reply.headers = {**reply.headers, **expiration_header(exchange, put.inode)}
    return reply


async def _stored_parts(exchange: Exchange, upload: Upload) -> dict[int, Part]:
    found: dict[int, Part] = {}
    after, more = 0, True
    while more:
        parts, more = await exchange.services.meta.list_parts(
            upload, after=after, limit=PARTS_PER_READ
        )
        found.update((part.number, part) for part in parts)
        after = parts[-1].number if parts else after
    return found


def _check_total(
    exchange: Exchange, named: Sequence[CompletedPart], stored: dict[int, Part]
) -> None:
    """x-amz-mp-object-size, if it was given."""
    text = exchange.headers.get("x-amz-mp-object-size")
    if text is None:
        return
    total = sum(stored[part.number].size for part in named if part.number in stored)
    if not text.isdigit() or int(text) != total:
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {text} does not match what was "
            f"computed: {total}",
        )


def _object_checksum(
    exchange: Exchange,
    upload: Upload,
    named: Sequence[CompletedPart],
    stored: dict[int, Part],
) -> dict[str, str]:
    """The checksum of the whole, from those of its parts; compared with what the client states.

    Raises S3Error BadDigest, InvalidRequest.
    """
    name = upload.checksum_algorithm or DEFAULT_ALGORITHM
    algorithm = ALGORITHMS[name]
    own_type = upload.checksum_type or FULL_OBJECT
    _check_statements(exchange, upload, own_type)
    parts = [stored[part.number] for part in named if part.number in stored]
    if len(parts) != len(named):
        return {}  # the completion is refused by the parts themselves
    if own_type == COMPOSITE:
        value = composite(algorithm, [part.checksums[name] for part in parts])
    else:
        value = combine_full_object(
            algorithm, [(part.checksums[name], part.size) for part in parts]
        )
    stated = exchange.headers.get(algorithm.header)
    if stated is not None and stated not in (value, split_composite(value)[0]):
        raise S3Error(
            "BadDigest",
            f"The {algorithm.label} you specified did not match the calculated checksum.",
        )
    return {name: value}


def _check_statements(exchange: Exchange, upload: Upload, own_type: str) -> None:
    """Check that a completion speaks of the upload's own kind of checksum. (AWS wants those of the
    parts named again where the object's is made of them; here they are known.)

    Raises S3Error InvalidRequest.
    """
    headers, name = exchange.headers, upload.checksum_algorithm
    kind = headers.get("x-amz-checksum-type", "").upper()
    if kind and kind != own_type:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {own_type} checksum mode. The complete request must "
            "use the same checksum mode.",
        )
    for other in ALGORITHMS.values():
        if other.name != (name or DEFAULT_ALGORITHM) and other.header in headers:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {name or DEFAULT_ALGORITHM} checksum. The "
                f"complete request must not state a {other.name} checksum of the object.",
            )
