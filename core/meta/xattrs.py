"""Extended attributes: one KV record each."""

from __future__ import annotations

from ..errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LimitExceededError,
    NotFoundError,
)
from ..kv.store import ReadTransaction, Transaction
from ..limits import XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from .context import MetaContext
from .schema import xattr_key, xattr_range
from .tree import find_inode


class Xattrs:
    """The xattr calls of ``FileStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def get_xattr(self, inode_id: int, name: bytes) -> bytes:
        """The value."""

        async def read(tx: ReadTransaction) -> bytes:
            value = await tx.get(xattr_key(inode_id, name))
            if value is None:
                raise NotFoundError(f"inode {inode_id:x}: has no attribute {name!r}")
            return value

        return await self._context.kv.read(read)

    async def set_xattr(
        self,
        inode_id: int,
        name: bytes,
        value: bytes,
        *,
        create: bool = False,
        replace: bool = False,
    ) -> None:
        """Set a value. Raises AlreadyExistsError (*create*), NotFoundError (*replace*)."""
        if not 1 <= len(name) <= XATTR_NAME_BYTES_MAX:
            raise InvalidArgumentError(f"an attribute name of {len(name)} bytes")
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise LimitExceededError(f"an attribute value of {len(value)} bytes")

        async def write(tx: Transaction) -> None:
            await find_inode(tx, inode_id)
            key = xattr_key(inode_id, name)
            present = await tx.get(key)
            if create and present is not None:
                raise AlreadyExistsError(f"attribute {name!r}: exists")
            if replace and present is None:
                raise NotFoundError(f"attribute {name!r}: does not exist")
            tx.set(key, value)

        await self._context.kv.transact(write)

    async def list_xattrs(self, inode_id: int) -> list[bytes]:
        """All names."""

        async def read(tx: ReadTransaction) -> list[bytes]:
            start, end = xattr_range(inode_id)
            return [key[len(start) :] for key, _ in await tx.get_range(start, end)]

        return await self._context.kv.read(read)

    async def remove_xattr(self, inode_id: int, name: bytes) -> None:
        """Remove one. Raises NotFoundError."""

        async def remove(tx: Transaction) -> None:
            key = xattr_key(inode_id, name)
            if await tx.get(key) is None:
                raise NotFoundError(f"attribute {name!r}: does not exist")
            tx.clear(key)

        await self._context.kv.transact(remove)
