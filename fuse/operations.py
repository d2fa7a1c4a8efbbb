"""DRIVER: the kernel's requests on a store: all verbs together.

The kernel checks permission bits (``default_permissions``); what the store refuses comes back as an
errno (errno_map.py).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import FUSEError, InodeT, XAttrNameT

from ..core.errors import NotFoundError
from ..core.limits import KIB, NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from .file_verbs import FileVerbs
from .name_verbs import NameVerbs
from .verbs import verb

SPACE_SECONDS = 1.0  # how long an answer to statfs is good for
SPACE_BLOCK_BYTES = 4 * KIB
FREE_INODES = 1 << 32  # there is no limit; programs want a number

_XATTR_NAMESPACES = (b"user.", b"trusted.")


class CraqenOperations(NameVerbs, FileVerbs):
    """The file system as pyfuse3 calls it."""

    _space: tuple[float, pyfuse3.StatvfsData] | None = None

    @verb
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        now = time.monotonic()
        if self._space is None or now - self._space[0] > SPACE_SECONDS:
            capacity, free = await self._data.space()
            usage = await self._meta.usage()
            answer = pyfuse3.StatvfsData()
            answer.f_bsize = answer.f_frsize = SPACE_BLOCK_BYTES
            answer.f_blocks = capacity // SPACE_BLOCK_BYTES
            answer.f_bfree = answer.f_bavail = free // SPACE_BLOCK_BYTES
            answer.f_files = usage.objects + FREE_INODES
            answer.f_ffree = answer.f_favail = FREE_INODES
            answer.f_namemax = NAME_BYTES_MAX
            self._space = (now, answer)
        return self._space[1]

    @verb
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        if not name.startswith(_XATTR_NAMESPACES):
            # Asked before every write (security.capability): answered without a look.
            raise FUSEError(errno.ENODATA if name.startswith(b"security.") else errno.EOPNOTSUPP)
        try:
            return await self._meta.get_xattr(self._id(inode), name)
        except NotFoundError:
            raise FUSEError(errno.ENODATA) from None

    @verb
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        if not name.startswith(_XATTR_NAMESPACES):
            raise FUSEError(errno.EOPNOTSUPP)
        if len(value) > XATTR_VALUE_BYTES_MAX:
            raise FUSEError(errno.E2BIG)
        await self._meta.set_xattr(self._id(inode), name, value)
        self._changes += 1

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
