"""DRIVER: the kernel's requests on a store: all verbs together.

The kernel checks permission bits (``default_permissions``); what the store refuses comes back as an
errno (errno_map.py).
"""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Callable, Sequence

import pyfuse3
from pyfuse3 import FUSEError, InodeT, XAttrNameT

from ..core.access.acl import ACCESS_XATTR, DEFAULT_XATTR
from ..core.errors import NotFoundError
from ..core.ids import ROOT_INODE_ID
from ..core.limits import KIB, NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from ..core.meta.accounts import Account, Kind, Standing
from ..core.meta.records import InodeType, SetAttributes
from .file_verbs import FileVerbs
from .name_verbs import NameVerbs
from .verbs import verb

SPACE_SECONDS = 1.0  # how long an answer to statfs is good for
SPACE_BLOCK_BYTES = 4 * KIB
FREE_INODES = 1 << 32  # there is no limit; programs want a number

_XATTR_NAMESPACES = (b"user.", b"trusted.", b"security.", ACCESS_XATTR, DEFAULT_XATTR)
_SECURITY = b"security."

USAGE_XATTR_PREFIX = b"craqen."
"""Attributes of folders that are read only, and not listed: programs that copy attributes would
fail to write them."""
_USAGE_XATTRS: dict[bytes, Callable[[Standing], int]] = {
    b"usage.bytes": lambda one: one.usage.size_bytes,
    b"usage.files": lambda one: one.usage.objects,
    b"usage.part_bytes": lambda one: one.usage.part_bytes,
    b"quota.bytes": lambda one: one.limits.size_bytes,
    b"quota.files": lambda one: one.limits.files,
}


class CraqenOperations(NameVerbs, FileVerbs):
    """The file system as pyfuse3 calls it."""

    enable_acl = True
    _space: tuple[float, pyfuse3.StatvfsData] | None = None

    @verb
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        now = time.monotonic()
        if self._space is None or now - self._space[0] > SPACE_SECONDS:
            capacity, free = await self._data.space()
            usage = await self._meta.usage()
            files, free_files = usage.objects + FREE_INODES, FREE_INODES
            for one in await self._limits():
                limits, held = one.limits, one.usage
                if limits.size_bytes:
                    capacity = min(capacity, limits.size_bytes)
                    free = min(free, max(0, limits.size_bytes - held.held_bytes))
                if limits.files:
                    files = min(files, limits.files)
                    free_files = min(free_files, max(0, limits.files - held.objects))
            answer = pyfuse3.StatvfsData()
            answer.f_bsize = answer.f_frsize = SPACE_BLOCK_BYTES
            answer.f_blocks = capacity // SPACE_BLOCK_BYTES
            answer.f_bfree = answer.f_bavail = free // SPACE_BLOCK_BYTES
            answer.f_files = files
            answer.f_ffree = answer.f_favail = free_files
            answer.f_namemax = NAME_BYTES_MAX
            self._space = (now, answer)
        return self._space[1]

    async def _limits(self) -> list[Standing]:
        """The limits of what is mounted. All buckets together have none."""
        if self._root_id == ROOT_INODE_ID:
            return []
        return await self._meta.standings_of(await self._meta.get_inode(self._root_id))

    @verb
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        if name.startswith(USAGE_XATTR_PREFIX):
            return await self._usage_xattr(self._id(inode), name)
        if not name.startswith(_XATTR_NAMESPACES):
            raise FUSEError(errno.EOPNOTSUPP)
        inode_id = self._id(inode)
        if name.startswith(_SECURITY) and await self._has_no_security(inode_id):
            raise FUSEError(errno.ENODATA)
        try:
            return await self._meta.get_xattr(inode_id, name)
        except NotFoundError:
            raise FUSEError(errno.ENODATA) from None

    async def _has_no_security(self, inode_id: int) -> bool:
        """Whether an inode has no attribute ``security.*``: the kernel asks for one of them before
        every write, so that is remembered until the inode changes elsewhere."""
        if inode_id not in self._inodes:
            return False
        known = self._inodes.get(inode_id)
        if not known.has_no_security:
            changes = self._changes
            names = await self._meta.list_xattrs(inode_id)
            none = not any(name.startswith(_SECURITY) for name in names)
            known.has_no_security = none and changes == self._changes
            return none
        return True

    async def _usage_xattr(self, inode_id: int, name: bytes) -> bytes:
        """What a bucket, or a folder with a quota, holds and may hold."""
        read = _USAGE_XATTRS.get(name.removeprefix(USAGE_XATTR_PREFIX))
        inode = await self._meta.get_inode(inode_id)
        if inode.type != InodeType.DIRECTORY or read is None or inode_id == ROOT_INODE_ID:
            raise FUSEError(errno.ENODATA)
        kind = Kind.DIRECTORY if inode.bucket_id else Kind.BUCKET
        try:
            standing = await self._meta.standing(Account(kind, inode_id))
        except NotFoundError:
            raise FUSEError(errno.ENODATA) from None
        return b"%d" % read(standing)

    @verb
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        if not name.startswith(_XATTR_NAMESPACES):
            raise FUSEError(errno.EOPNOTSUPP)
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise FUSEError(errno.E2BIG)
        inode_id = self._id(inode)
        self._inodes.get(inode_id).has_no_security = False
        await self._meta.set_xattr(inode_id, name, value)
        self._changes += 1
        if name == ACCESS_XATTR and ctx.uid != 0:
            await self._leave_group(inode_id, ctx)

    async def _leave_group(self, inode_id: int, ctx: pyfuse3.RequestContext) -> None:
        """Who changes the permissions of a file of a group that he is not in takes its set-group
        bit away (chmod(2))."""
        inode = await self._meta.get_inode(inode_id)
        if not inode.mode & stat.S_ISGID or inode.gid == ctx.gid:
            return
        if inode.gid not in pyfuse3.get_sup_groups(ctx.pid):
            await self._set_attributes(inode_id, SetAttributes(mode=inode.mode & ~stat.S_ISGID))

    @verb
    async def listxattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(name) for name in await self._meta.list_xattrs(self._id(inode))]

    @verb
    async def removexattr(
        self, inode: InodeT, name: XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        if not name.startswith(_XATTR_NAMESPACES):
            raise FUSEError(errno.EOPNOTSUPP)
        try:
            await self._meta.remove_xattr(self._id(inode), name)
        except NotFoundError:
            raise FUSEError(errno.ENODATA) from None
        self._changes += 1
