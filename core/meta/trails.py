"""The directories on the way to a key, for who checks file permissions."""

from __future__ import annotations

from ..kv.store import ReadTransaction
from .context import MetaContext
from .records import Trail
from .schema import decode_entry, decode_inode, directory_prefix, inode_key
from .tree import find_bucket, find_entry, split_key


class Trails:
    """``TrailStore`` (core/meta/trail_store.py)."""

    _context: MetaContext

    async def trail(self, bucket: str, key: bytes) -> Trail:
        """Directories and inode. Raises BucketNotFoundError, NameTooLongError."""

        async def read(tx: ReadTransaction) -> Trail:
            names, last = split_key(key)
            directory_id = (await find_bucket(tx, bucket)).inode_id
            ids = [directory_id]
            for name in names:
                value = await tx.get(directory_prefix(directory_id) + name + b"/")
                if value is None:
                    break
                directory_id = decode_entry(value).inode_id
                ids.append(directory_id)
            is_whole = len(ids) > len(names)
            entry = await find_entry(tx, directory_id, last) if is_whole else None
            if entry is not None:
                ids.append(entry.inode_id)
            found = [await tx.get(inode_key(inode_id)) for inode_id in ids]
            inodes = [decode_inode(value) for value in found if value is not None]
            if entry is None or len(inodes) < len(ids):
                return Trail(tuple(inodes), is_whole, None)
            return Trail(tuple(inodes[:-1]), is_whole, inodes[-1])

        return await self._context.kv.read(read)
