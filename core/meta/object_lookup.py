"""Objects inside a transaction: the current version of a key, or the one named."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import DeleteMarkerError, NotFoundError, VersionNotFoundError
from ..kv.store import ReadTransaction
from .folders import find_any_directory, find_directory
from .records import Bucket, Inode, Versioning
from .schema import decode_entry, decode_inode, directory_prefix, inode_key
from .tree import find_bucket, find_entry, find_inode, split_key
from .version_ids import NULL, parse_version_id
from .versions import Slot, entry_version_id, find_row, is_version, newest_row


def missing(bucket: str, key: bytes) -> NotFoundError:
    """The error for an absent object."""
    return NotFoundError(f"object {bucket}/{key.decode(errors='replace')}: does not exist")


class Found(NamedTuple):
    """A version of an object."""

    inode: Inode
    version_id: str
    """Empty if the bucket was never versioned."""


async def find_object(
    tx: ReadTransaction, bucket_name: str, key: bytes, version_id: str = ""
) -> Found:
    """The object's current version, or the one named; for ``dir/`` of an explicit directory without
    content, the directory.

    Raises BucketNotFoundError, NotFoundError, VersionNotFoundError, DeleteMarkerError,
    InvalidArgumentError.
    """
    directories, name = split_key(key)
    bucket = await find_bucket(tx, bucket_name)
    if version_id:
        return await find_version(tx, bucket, key, version_id)
    directory_id = await find_directory(tx, bucket.inode_id, directories)
    versioned = bucket.versioning != Versioning.NEVER
    if directory_id is not None:
        value = await tx.get(directory_prefix(directory_id) + name)
        if value is not None:
            entry = decode_entry(value)
            record = await tx.get(inode_key(entry.inode_id))
            if record is None:
                raise missing(bucket_name, key)
            return Found(decode_inode(record), entry_version_id(entry) if versioned else "")
        if name == b"" and directories:
            directory = await find_inode(tx, directory_id)
            if directory.explicit:
                return Found(directory, NULL if versioned else "")
    if versioned:
        await _refuse_marker(tx, bucket, key)
    raise missing(bucket_name, key)


async def _refuse_marker(tx: ReadTransaction, bucket: Bucket, key: bytes) -> None:
    """Raise DeleteMarkerError if that is why *key* has no entry."""
    directories, name = split_key(key)
    directory_id = await find_any_directory(tx, bucket.inode_id, directories)
    if directory_id is None:
        return
    row = await newest_row(tx, Slot(bucket.versioning, directory_id, name))
    if row is not None:
        raise DeleteMarkerError(
            f"object {bucket.name}/{key.decode(errors='replace')}: is deleted",
            version_id=row.version_id,
            modified_ns=row.record.since_ns,
            named=False,
        )


async def find_version(tx: ReadTransaction, bucket: Bucket, key: bytes, version_id: str) -> Found:
    """A version by its id; the null version of a bucket that was never versioned is the object."""
    sequence = parse_version_id(version_id)
    directories, name = split_key(key)
    directory_id = await find_any_directory(tx, bucket.inode_id, directories)
    if directory_id is not None:
        entry = await find_entry(tx, directory_id, name)
        if entry is not None and is_version(entry, sequence):
            return Found(await find_inode(tx, entry.inode_id), version_id)
        row = await find_row(tx, Slot(bucket.versioning, directory_id, name), sequence)
        if row is not None and row.is_marker:
            raise DeleteMarkerError(
                f"version {version_id}: is a delete marker",
                version_id=version_id,
                modified_ns=row.record.since_ns,
                named=True,
            )
        if row is not None:
            return Found(await find_inode(tx, row.record.inode_id), version_id)
        if entry is None and sequence is None and name == b"" and directories:
            directory = await find_inode(tx, directory_id)
            if directory.explicit:
                return Found(directory, version_id)
    raise VersionNotFoundError(
        f"object {bucket.name}/{key.decode(errors='replace')}: has no version {version_id}",
        version_id=version_id,
    )
