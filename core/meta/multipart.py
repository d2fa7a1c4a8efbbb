"""Multipart uploads: parts are segments outside the namespace; completion names them in one inode,
no byte moves.

Parts are never inline (``put_part`` refuses): a part of a large object is extents from the start,
whatever its size.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec

from ..errors import (
    ConflictError,
    InvalidArgumentError,
    InvalidPartError,
    InvalidPartOrderError,
    PartTooSmallError,
    UploadNotFoundError,
)
from ..events.records import CREATED_MULTIPART
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from ..limits import PART_BYTES_MIN
from .charges import charge_parts
from .context import MetaContext
from .objects import find_place, ids_of_put, make_placed, swap_object
from .records import (
    NO_CONDITIONS,
    CompletedPart,
    Extent,
    NewContent,
    ObjectAttributes,
    ObjectView,
    Owner,
    Part,
    PartSize,
    PutResult,
    Upload,
    WriteConditions,
)
from .schema import (
    CompletedRecord,
    completed_key,
    decode_completed,
    decode_part,
    decode_upload,
    encode,
    inode_key,
    part_key,
    part_range,
    part_sizes_key,
    upload_key,
    uploads_end,
    uploads_prefix,
)
from .segments import References
from .tree import all_extents, find_bucket, find_inode

PART_SIZES_PER_PAGE = 500  # with their checksums well under the limit of a value
CREATED_HEX_DIGITS = 16


def _no_upload(upload_id: str) -> UploadNotFoundError:
    return UploadNotFoundError(f"upload {upload_id}: does not exist, or was completed or aborted")


async def _find_upload(tx: ReadTransaction, bucket_id: int, key: bytes, upload_id: str) -> Upload:
    value = await tx.get(upload_key(bucket_id, key, upload_id))
    if value is None:
        raise _no_upload(upload_id)
    return decode_upload(value)


def _in_bucket(upload: Upload, bucket: str) -> Upload:
    """*upload* under the name that its bucket has now."""
    if upload.bucket == bucket:
        return upload
    return msgspec.structs.replace(upload, bucket=bucket)


async def _parts(tx: ReadTransaction, upload_id: str) -> list[Part]:
    rows = await tx.get_range(*part_range(upload_id))
    return [decode_part(value) for _, value in rows]


class Multipart:
    """The multipart calls of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def create_upload(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        checksum_algorithm: str,
        checksum_type: str,
    ) -> Upload:
        """Begin an upload. Its id begins with its time, so ids of one key sort by age."""
        now = self._context.now_ns()
        upload_id = f"{now:0{CREATED_HEX_DIGITS}x}{random.getrandbits(96):024x}"
        upload = Upload(
            upload_id,
            bucket,
            key,
            now,
            attributes,
            checksum_algorithm,
            checksum_type,
            owner.uid,
            owner.gid,
        )

        async def create(tx: Transaction) -> None:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            tx.set(upload_key(bucket_id, key, upload_id), encode(upload))

        await self._context.kv.transact(create)
        return upload

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> Upload:
        """The upload's record."""

        async def read(tx: ReadTransaction) -> Upload:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            return _in_bucket(await _find_upload(tx, bucket_id, key, upload_id), bucket)

        return await self._context.kv.read(read)

    async def put_part(self, upload: Upload, part: Part) -> Part:
        """Add or replace a part."""
        assert part.inline_data is None

        async def put(tx: Transaction) -> Part:
            await self._set_part(tx, upload, part)
            return part

        return await self._context.kv.transact(put)

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: ObjectView,
        offset: int,
        length: int,
        etag: str,
        checksums: dict[str, str],
    ) -> Part:
        """A part that refers to a range of an object's extents."""
        now = self._context.now_ns()

        async def copy(tx: Transaction) -> Part:
            inode = await find_inode(tx, source.inode.inode_id)
            if inode.generation != source.inode.generation:
                raise ConflictError("the source object changed while it was copied")
            if inode.inline:
                raise InvalidArgumentError(
                    "the source's content is inline: write it to a segment and use put_part"
                )
            extents = _cut(await all_extents(tx, inode), offset, length)
            part = Part(number, length, etag, now, checksums, extents)
            await self._set_part(tx, upload, part)
            return part

        return await self._context.kv.transact(copy)

    async def _set_part(self, tx: Transaction, upload: Upload, part: Part) -> None:
        bucket_id = (await find_bucket(tx, upload.bucket)).inode_id
        await _find_upload(tx, bucket_id, upload.key, upload.upload_id)
        key = part_key(upload.upload_id, part.number)
        old = await tx.get(key)
        references = References().gain(part.extents)
        growth = part.size
        if old is not None:
            present = decode_part(old)
            references.lose(present.extents)
            growth -= present.size
        await references.apply(self._context, tx)
        tx.set(key, encode(part))
        await charge_parts(self._context, tx, bucket_id, upload.uid, growth)

    async def list_parts(
        self, upload: Upload, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[Part], bool]:
        """Parts in order."""

        async def read(tx: ReadTransaction) -> tuple[list[Part], bool]:
            start = part_key(upload.upload_id, min(after + 1, 65_535))
            end = part_range(upload.upload_id)[1]
            rows = await tx.get_range(start, end, limit=limit + 1)
            return [decode_part(value) for _, value in rows[:limit]], len(rows) > limit

        return await self._context.kv.read(read)

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        limit: int = 1000,
    ) -> tuple[list[Upload], bool]:
        """Uploads by key, then age."""

        async def read(tx: ReadTransaction) -> tuple[list[Upload], bool]:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            start = uploads_prefix(bucket_id)
            if prefix:
                start = uploads_prefix(bucket_id, prefix)[:-1]
            if after_key:
                behind = uploads_prefix(bucket_id, after_key)
                if after_upload_id:
                    behind = upload_key(bucket_id, after_key, after_upload_id) + b"\0"
                else:
                    behind = prefix_end(behind)
                start = max(start, behind)
            rows = await tx.get_range(start, uploads_end(bucket_id), limit=limit + 1)
            uploads = [_in_bucket(decode_upload(value), bucket) for _, value in rows]
            uploads = [upload for upload in uploads if upload.key.startswith(prefix)]
            return uploads[:limit], len(uploads) > limit

        return await self._context.kv.read(read)

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[CompletedPart],
        *,
        etag: str,
        checksums: dict[str, str],
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Make the object of the named parts."""
        context = self._context
        what = f"object {upload.bucket}/{upload.key.decode(errors='replace')}"

        async def complete(tx: Transaction) -> PutResult:
            bucket = await find_bucket(tx, upload.bucket)
            bucket_id = bucket.inode_id
            done = await _completed_before(tx, upload)
            if done is not None:
                return done
            upload_row = upload_key(bucket_id, upload.key, upload.upload_id)
            if await tx.get(upload_row) is None:
                raise _no_upload(upload.upload_id)
            stored = await _parts(tx, upload.upload_id)
            chosen = _choose(parts, stored)
            attributes = msgspec.structs.replace(
                upload.attributes,
                etag=etag,
                checksums=checksums,
                checksum_type=(upload.checksum_type or "FULL_OBJECT") if checksums else "",
                part_count=len(chosen),
            )
            owner = Owner(upload.uid, upload.gid)
            content = _joined(chosen)
            place = await find_place(context, tx, bucket, upload.key, owner, conditions, what)
            holders = [part.extents for part in stored]
            inode = await make_placed(context, tx, place, content, attributes, holders=holders)
            tx.clear_range(*part_range(upload.upload_id))
            part_bytes = sum(part.size for part in stored)
            await charge_parts(context, tx, bucket_id, upload.uid, -part_bytes)
            _remember_sizes(tx, inode.inode_id, chosen, checksums)
            tx.clear(upload_row)
            put = await swap_object(context, tx, place, inode, CREATED_MULTIPART)
            record = CompletedRecord(
                inode.inode_id, upload.bucket, upload.key, put.replaced, put.version_id
            )
            tx.set(completed_key(upload.upload_id), encode(record))
            return put

        return await context.transact(complete, ids=ids_of_put(upload.key))

    async def find_completed(self, bucket: str, key: bytes, upload_id: str) -> PutResult:
        """What a completed upload became, while that object still exists. Raises
        UploadNotFoundError."""

        async def read(tx: ReadTransaction) -> PutResult:
            value = await tx.get(completed_key(upload_id))
            if value is not None:
                record = decode_completed(value)
                if (record.bucket, record.key) == (bucket, key):
                    if await tx.get(inode_key(record.inode_id)) is not None:
                        inode = await find_inode(tx, record.inode_id)
                        return PutResult(inode, record.replaced, record.version_id)
            raise _no_upload(upload_id)

        return await self._context.kv.read(read)

    async def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> None:
        """Drop the upload and its parts."""
        context = self._context

        async def abort(tx: Transaction) -> None:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            upload = await _find_upload(tx, bucket_id, key, upload_id)
            await drop_upload(context, tx, bucket_id, upload)

        await context.kv.transact(abort)


async def drop_upload(
    context: MetaContext, tx: Transaction, bucket_id: int, upload: Upload
) -> None:
    """Forget an upload and its parts inside *tx*."""
    references = References()
    part_bytes = 0
    for part in await _parts(tx, upload.upload_id):
        references.lose(part.extents)
        part_bytes += part.size
    await references.apply(context, tx)
    tx.clear_range(*part_range(upload.upload_id))
    tx.clear(upload_key(bucket_id, upload.key, upload.upload_id))
    await charge_parts(context, tx, bucket_id, upload.uid, -part_bytes)


async def _completed_before(tx: Transaction, upload: Upload) -> PutResult | None:
    value = await tx.get(completed_key(upload.upload_id))
    if value is None:
        return None
    record = decode_completed(value)
    if await tx.get(inode_key(record.inode_id)) is None:
        raise _no_upload(upload.upload_id)
    inode = await find_inode(tx, record.inode_id)
    return PutResult(inode, record.replaced, record.version_id)


def _choose(wanted: Sequence[CompletedPart], stored: Sequence[Part]) -> list[Part]:
    """The stored parts that the client names. Raises the errors of ``complete_upload``."""
    by_number = {part.number: part for part in stored}
    if not wanted:
        raise InvalidPartError("no parts were named")
    chosen: list[Part] = []
    previous = 0
    for item in wanted:
        if item.number <= previous:
            raise InvalidPartOrderError(f"part {item.number} comes after part {previous}")
        previous = item.number
        part = by_number.get(item.number)
        if part is None or part.etag != item.etag:
            raise InvalidPartError(f"part {item.number}: was not uploaded with that ETag")
        for algorithm, value in item.checksums.items():
            if part.checksums.get(algorithm) != value:
                raise InvalidPartError(f"part {item.number}: has another {algorithm} checksum")
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < PART_BYTES_MIN:
            raise PartTooSmallError(
                f"part {part.number} has {part.size} bytes; all but the last need {PART_BYTES_MIN}",
                part_number=part.number,
                size_bytes=part.size,
            )
    return chosen


def _joined(parts: Sequence[Part]) -> NewContent:
    """The parts' extents, one after the other."""
    extents: list[Extent] = []
    position = 0
    for part in parts:
        for extent in part.extents:
            extents.append(
                msgspec.structs.replace(extent, file_offset=position + extent.file_offset)
            )
        position += part.size
    if position == 0:
        return NewContent(0, b"")
    return NewContent(position, None, tuple(extents))


def _cut(extents: Sequence[Extent], offset: int, length: int) -> tuple[Extent, ...]:
    """The range's extents, with file offsets from 0."""
    end = offset + length
    cut: list[Extent] = []
    for extent in extents:
        start = max(offset, extent.file_offset)
        stop = min(end, extent.file_offset + extent.length_bytes)
        if start < stop:
            cut.append(
                msgspec.structs.replace(
                    extent,
                    file_offset=start - offset,
                    length_bytes=stop - start,
                    segment_offset=extent.segment_offset + start - extent.file_offset,
                )
            )
    return tuple(cut)


def _remember_sizes(
    tx: Transaction, inode_id: int, parts: Sequence[Part], checksums: Iterable[str]
) -> None:
    """Keep sizes, and those checksums that the object's own is made of."""
    sizes = [
        PartSize(
            part.number,
            part.size,
            {name: part.checksums[name] for name in checksums if name in part.checksums},
        )
        for part in parts
    ]
    for page, start in enumerate(range(0, len(sizes), PART_SIZES_PER_PAGE)):
        rows = tuple(sizes[start : start + PART_SIZES_PER_PAGE])
        tx.set(part_sizes_key(inode_id, page), encode(rows))
