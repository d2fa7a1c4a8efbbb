"""Buckets: directories at the root, with settings. The S3 door and mkdir at the root make the same
thing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..errors import AlreadyExistsError, BucketStateError, InvalidArgumentError, NotEmptyError
from ..events.records import ASPECT as NOTIFICATION
from ..ids import ROOT_INODE_ID
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .accounts import Account, Kind, clear_limits, sum_of, usage_of
from .bucket_names import is_bucket_name
from .context import MetaContext
from .folders import clear_directory, has_versions
from .happenings import tell_configured
from .multipart import drop_upload
from .records import Bucket, InodeType, Owner, Usage, Versioning
from .schema import (
    BUCKET_PREFIX,
    ENTRY_EXPLICIT,
    Entry,
    aspect_of,
    bucket_key,
    decode_bucket,
    decode_upload,
    encode,
    setting_key,
    setting_range,
    uploads_end,
    uploads_prefix,
)
from .tree import (
    find_bucket,
    is_empty,
    new_inode,
    put_entry,
    put_inode,
    remove_entry,
)

UPLOADS_PER_TRANSACTION = 4  # each may have 10,000 parts, whose segments go to the removal queue

OBJECT_LOCK = "object-lock"
"""The setting that goes with ``Bucket.object_lock``: default retention."""


async def make_bucket(
    context: MetaContext,
    tx: Transaction,
    name: str,
    owner: str,
    region: str,
    as_owner: Owner,
    *,
    object_lock: bool = False,
    settings: Mapping[str, bytes] | None = None,
) -> Bucket:
    """Make a bucket inside *tx*, with *settings* by aspect; with *object_lock* it is versioned as
    well.

    Raises InvalidArgumentError, AlreadyExistsError.
    """
    if not is_bucket_name(name):
        raise InvalidArgumentError(
            f"bucket name {name!r}: S3 allows 3 to 63 lower-case letters, digits, dots and hyphens"
        )
    if await tx.get(bucket_key(name)) is not None:
        raise AlreadyExistsError(f"bucket {name}: exists")
    inode = new_inode(
        context,
        InodeType.DIRECTORY,
        mode=as_owner.directory_mode,
        uid=as_owner.uid,
        gid=as_owner.gid,
        bucket_id=0,
        parent_id=ROOT_INODE_ID,
        name=name.encode(),
    )
    put_inode(tx, inode)
    entry = Entry(inode.inode_id, InodeType.DIRECTORY, ENTRY_EXPLICIT)
    put_entry(tx, ROOT_INODE_ID, name.encode() + b"/", entry)
    bucket = Bucket(name, inode.inode_id, context.now_ns(), owner, region)
    if object_lock:
        bucket = msgspec.structs.replace(bucket, versioning=Versioning.ENABLED, object_lock=True)
    tx.set(bucket_key(name), encode(bucket))
    for aspect, value in (settings or {}).items():
        tx.set(setting_key(inode.inode_id, aspect), value)
    context.touch_directory(tx, ROOT_INODE_ID)
    context.tell_entry(tx, ROOT_INODE_ID, name.encode(), inode.inode_id)
    return bucket


async def drop_bucket(context: MetaContext, tx: Transaction, name: str) -> bool:
    """Remove an empty bucket inside *tx*, and the multipart uploads in progress with it: they are
    no content. Returns False if there are too many uploads for one transaction: call again.

    Raises BucketNotFoundError, NotEmptyError.
    """
    bucket = await find_bucket(tx, name)
    bucket_id = bucket.inode_id
    if not await is_empty(tx, bucket_id):
        raise NotEmptyError(f"bucket {name}: still holds objects or folders")
    if await has_versions(tx, bucket_id):
        raise NotEmptyError(f"bucket {name}: still holds noncurrent versions or delete markers")
    uploads = await tx.get_range(
        uploads_prefix(bucket_id), uploads_end(bucket_id), limit=UPLOADS_PER_TRANSACTION + 1
    )
    for _, value in uploads[:UPLOADS_PER_TRANSACTION]:
        upload = decode_upload(value)
        await drop_upload(context, tx, bucket_id, upload)
    if len(uploads) > UPLOADS_PER_TRANSACTION:
        return False
    tx.clear(bucket_key(name))
    tx.clear_range(*setting_range(bucket_id))
    clear_limits(tx, Account(Kind.BUCKET, bucket_id))
    clear_directory(tx, bucket_id)
    await remove_entry(tx, ROOT_INODE_ID, name.encode() + b"/")
    context.touch_directory(tx, ROOT_INODE_ID)
    context.tell_entry(tx, ROOT_INODE_ID, name.encode(), bucket_id)
    return True


def put_changed(tx: Transaction, bucket: Bucket) -> None:
    """Write *bucket* with changed settings."""
    version = bucket.settings_version + 1
    record = msgspec.structs.replace(bucket, settings_version=version)
    tx.set(bucket_key(bucket.name), encode(record))


class Buckets:
    """The bucket calls of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def create_bucket(
        self,
        name: str,
        *,
        owner: str,
        region: str,
        as_owner: Owner,
        object_lock: bool = False,
        settings: Mapping[str, bytes] | None = None,
    ) -> Bucket:
        """Make a bucket."""

        async def create(tx: Transaction) -> Bucket:
            return await make_bucket(
                self._context,
                tx,
                name,
                owner,
                region,
                as_owner,
                object_lock=object_lock,
                settings=settings,
            )

        return await self._context.transact(create, ids=1)

    async def get_bucket(self, name: str) -> Bucket:
        """The bucket's record."""
        return await self._context.kv.read(lambda tx: find_bucket(tx, name))

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket."""
        context = self._context
        while not await context.kv.transact(lambda tx: drop_bucket(context, tx, name)):
            pass

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Bucket]:
        """Buckets in byte order, behind *after*."""
        start = BUCKET_PREFIX + prefix.encode()
        end = prefix_end(start)
        if after:
            start = max(start, bucket_key(after) + b"\0")

        async def read(tx: ReadTransaction) -> list[Bucket]:
            if start >= end:
                return []
            rows = await tx.get_range(start, end, limit=limit)
            return [decode_bucket(value) for _, value in rows]

        return await self._context.kv.read(read)

    async def bucket_settings(
        self, name: str, *, known: Bucket | None = None
    ) -> tuple[Bucket, dict[str, bytes] | None]:
        """The bucket and its settings, as far as they are not known."""

        async def read(tx: ReadTransaction) -> tuple[Bucket, dict[str, bytes] | None]:
            bucket = await find_bucket(tx, name)
            if bucket == known:
                return bucket, None
            rows = await tx.get_range(*setting_range(bucket.inode_id))
            return bucket, {aspect_of(key): value for key, value in rows}

        return await self._context.kv.read(read)

    async def get_bucket_setting(self, bucket: str, aspect: str) -> bytes | None:
        """A setting as it was stored; None if it is not set."""

        async def read(tx: ReadTransaction) -> bytes | None:
            found = await find_bucket(tx, bucket)
            return await tx.get(setting_key(found.inode_id, aspect))

        return await self._context.kv.read(read)

    async def set_bucket_setting(self, bucket: str, aspect: str, value: bytes | None) -> None:
        """Store a setting, or remove it."""

        async def write(tx: Transaction) -> None:
            found = await find_bucket(tx, bucket)
            key = setting_key(found.inode_id, aspect)
            if aspect == NOTIFICATION:
                before = await tx.get(key)
                notifies = await tell_configured(self._context, tx, found, before, value)
                found = msgspec.structs.replace(found, notifies=notifies)
            if value is None:
                tx.clear(key)
            else:
                tx.set(key, value)
            put_changed(tx, found)

        await self._context.kv.transact(write)

    async def set_bucket_versioning(self, bucket: str, *, enabled: bool) -> None:
        """Keep versions from now on, or suspend that."""

        async def write(tx: Transaction) -> None:
            found = await find_bucket(tx, bucket)
            if found.object_lock and not enabled:
                raise BucketStateError(
                    f"bucket {bucket}: has object lock, so its versioning cannot be suspended"
                )
            state = Versioning.ENABLED if enabled else Versioning.SUSPENDED
            put_changed(tx, msgspec.structs.replace(found, versioning=state))

        await self._context.kv.transact(write)

    async def set_object_lock(self, bucket: str, setting: bytes) -> None:
        """Allow locks, and store the setting ``object-lock``."""

        async def write(tx: Transaction) -> None:
            found = await find_bucket(tx, bucket)
            if found.versioning != Versioning.ENABLED:
                raise BucketStateError(f"bucket {bucket}: object lock needs versioning enabled")
            tx.set(setting_key(found.inode_id, OBJECT_LOCK), setting)
            put_changed(tx, msgspec.structs.replace(found, object_lock=True))

        await self._context.kv.transact(write)

    async def usage(self, bucket: str | None = None) -> Usage:
        """Bytes and objects of a bucket, or of all."""

        async def read(tx: ReadTransaction) -> Usage:
            if bucket is None:
                return sum_of(await tx.get_range(b"r", b"s"))
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            return await usage_of(tx, Account(Kind.BUCKET, bucket_id))

        return await self._context.kv.read(read)
