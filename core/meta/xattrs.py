"""Extended attributes: one KV record each. The two of access control lists are in the inode, where
whoever checks permissions has them at hand."""

from __future__ import annotations

import msgspec

from ..access.acl import ACCESS_XATTR, DEFAULT_XATTR, encode, is_mode_alone, mode_of, parse
from ..errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
)
from ..kv.store import ReadTransaction, Transaction
from ..limits import XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from .context import MetaContext
from .passing import note_passing
from .records import Inode, InodeType
from .schema import xattr_key, xattr_range
from .tree import changed, find_inode

_LISTS = (ACCESS_XATTR, DEFAULT_XATTR)


class Xattrs:
    """The xattr calls of ``FileStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def get_xattr(self, inode_id: int, name: bytes) -> bytes:
        """The value."""

        async def read(tx: ReadTransaction) -> bytes:
            if name in _LISTS:
                value = _list_of(await find_inode(tx, inode_id), name)
            else:
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
        """Set a value."""
        if not 1 <= len(name) <= XATTR_NAME_BYTES_MAX:
            raise InvalidArgumentError(f"an attribute name of {len(name)} bytes")
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise NoSpaceError(f"an attribute value of {len(value)} bytes")
        context = self._context

        async def write(tx: Transaction) -> None:
            inode = await find_inode(tx, inode_id)
            if name in _LISTS:
                present = _list_of(inode, name)
            else:
                present = await tx.get(xattr_key(inode_id, name))
            if create and present is not None:
                raise AlreadyExistsError(f"attribute {name!r}: exists")
            if replace and present is None:
                raise NotFoundError(f"attribute {name!r}: does not exist")
            if name in _LISTS:
                inode = _with_list(inode, name, value)
                await note_passing(tx, inode)
            else:
                if present is None:
                    await _need_room(tx, inode_id, name)
                tx.set(xattr_key(inode_id, name), value)
            changed(context, tx, inode)

        await context.kv.transact(write)

    async def list_xattrs(self, inode_id: int) -> list[bytes]:
        """All names."""

        async def read(tx: ReadTransaction) -> list[bytes]:
            inode = await find_inode(tx, inode_id)
            lists = [name for name in _LISTS if _list_of(inode, name) is not None]
            return lists + await _names(tx, inode_id)

        return await self._context.kv.read(read)

    async def remove_xattr(self, inode_id: int, name: bytes) -> None:
        """Remove one."""
        context = self._context

        async def remove(tx: Transaction) -> None:
            inode = await find_inode(tx, inode_id)
            if name in _LISTS:
                if _list_of(inode, name) is None:
                    raise NotFoundError(f"attribute {name!r}: does not exist")
                inode = _with_list(inode, name, b"")
            else:
                key = xattr_key(inode_id, name)
                if await tx.get(key) is None:
                    raise NotFoundError(f"attribute {name!r}: does not exist")
                tx.clear(key)
            changed(context, tx, inode)

        await context.kv.transact(remove)


async def _names(tx: ReadTransaction, inode_id: int) -> list[bytes]:
    start, end = xattr_range(inode_id)
    return [key[len(start) :] for key, _ in await tx.get_range(start, end)]


async def _need_room(tx: ReadTransaction, inode_id: int, name: bytes) -> None:
    """Raise NoSpaceError if the names are more than Linux can list."""
    names = [*await _names(tx, inode_id), name, *_LISTS]
    if sum(len(one) + 1 for one in names) > XATTR_LIST_BYTES_MAX:
        raise NoSpaceError(f"inode {inode_id:x}: too many attributes to be listed")


def _list_of(inode: Inode, name: bytes) -> bytes | None:
    """An access control list in its attribute's form."""
    return (inode.access_acl if name == ACCESS_XATTR else inode.default_acl) or None


def _with_list(inode: Inode, name: bytes, value: bytes) -> Inode:
    """*inode* with another list (b"": none), and the permission bits that go with it."""
    entries = parse(value) if value else ()
    if inode.type == InodeType.SYMLINK:
        raise UnsupportedError("a symbolic link has no access control list")
    if name == DEFAULT_XATTR:
        if inode.type != InodeType.DIRECTORY and entries:
            raise PermissionDeniedError("only folders have a default access control list")
        return msgspec.structs.replace(inode, default_acl=encode(entries))
    if not entries:
        return msgspec.structs.replace(inode, access_acl=b"")
    kept = b"" if is_mode_alone(entries) else encode(entries)
    return msgspec.structs.replace(inode, access_acl=kept, mode=mode_of(entries, inode.mode))
