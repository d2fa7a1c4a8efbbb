"""An empty pyfuse3 file system, the reference of ``craqen bench fs``: what the mount would cost if
Craqen did nothing.

Run as ``python -m craqen.fuse.null_filesystem MOUNTPOINT``. Reads are zeros, written bytes are
counted and dropped, a created file or directory is an entry in a dict. Options and cache times are
those of the real mount. The file ``zeros`` is there from the start.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import Final

import pyfuse3
import pyfuse3.asyncio
import uvloop

from ..core.cli.supervision import die_with_parent, tell_ready
from ..core.errors import CraqenError, OperatorError
from ..core.limits import MIB
from .kernel_read_ahead import set_read_ahead

ZEROS_NAME: Final = b"zeros"
ZEROS_FILE_BYTES: Final = 512 * MIB
CACHE_SECONDS: Final = 60.0
READ_BYTES_MAX: Final = 1 * MIB

_ZEROS: Final = memoryview(bytes(READ_BYTES_MAX))


class NullOperations(pyfuse3.Operations):
    """The verbs, each as little as the kernel needs."""

    def __init__(self) -> None:
        super().__init__()
        self._attributes: dict[int, pyfuse3.EntryAttributes] = {}
        self._names: dict[int, dict[bytes, int]] = {}
        self._last_inode = 0
        self.written_bytes = 0
        root = self._add(None, b"", stat.S_IFDIR | 0o777)
        assert root.st_ino == pyfuse3.ROOT_INODE
        zeros = self._add(pyfuse3.ROOT_INODE, ZEROS_NAME, stat.S_IFREG | 0o644)
        zeros.st_size = ZEROS_FILE_BYTES

    def _add(self, parent: int | None, name: bytes, mode: int) -> pyfuse3.EntryAttributes:
        """Make an inode and its entry."""
        self._last_inode += 1
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(self._last_inode)
        entry.st_mode = pyfuse3.ModeT(mode)
        entry.st_nlink = 1
        entry.st_uid = os.getuid()
        entry.st_gid = os.getgid()
        entry.entry_timeout = CACHE_SECONDS
        entry.attr_timeout = CACHE_SECONDS
        self._attributes[self._last_inode] = entry
        if stat.S_ISDIR(mode):
            self._names[self._last_inode] = {}
        if parent is not None:
            self._names[parent][name] = self._last_inode
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        inode = self._names[parent_inode].get(name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes[inode]

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes[inode]

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        entry = self._attributes[inode]
        if fields.update_size:
            entry.st_size = attr.st_size
        return entry

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return self._add(parent_inode, name, mode)

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        entry = self._add(parent_inode, name, mode)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(entry.st_ino)), entry

    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        if self._names[parent_inode].pop(name, None) is None:
            raise pyfuse3.FUSEError(errno.ENOENT)

    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        inode = self._names[parent_inode].get(name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        if self._names[inode]:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        del self._names[parent_inode][name]

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Inodes stay until the end."""

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer
        self, fh: pyfuse3.FileHandleT, off: int, size: int
    ) -> memoryview:
        return _ZEROS[: max(0, min(size, self._attributes[fh].st_size - off))]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        length = len(buf)
        entry = self._attributes[fh]
        entry.st_size = max(entry.st_size, off + length)
        self.written_bytes += length
        return length

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing waits."""

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """Nothing waits."""

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Handles are inodes."""

    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        for name, inode in sorted(self._names[fh].items(), key=lambda item: item[1]):
            if inode > start_id:
                entry = self._attributes[inode]
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, inode):
                    return

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Handles are inodes."""

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_namemax = 255
        return answer


async def _serve(mount_point: str) -> None:
    """Answer the kernel until SIGTERM, SIGINT or an unmount."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, pyfuse3.terminate)
    served = asyncio.create_task(pyfuse3.main())
    await set_read_ahead(mount_point)
    tell_ready(mount_point)
    await served


def main(arguments: Sequence[str]) -> int:
    """Mount, serve, unmount; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m craqen.fuse.null_filesystem MOUNTPOINT", file=sys.stderr)
        return 2
    die_with_parent(os.environ)
    mount_point = os.path.abspath(arguments[0])
    pyfuse3.asyncio.enable()
    try:
        try:
            pyfuse3.init(
                NullOperations(),
                mount_point,
                {"default_permissions", "allow_other", "fsname=craqen-null"},
            )
        except RuntimeError as error:
            raise OperatorError(f"{mount_point}: cannot be mounted: {error}") from error
        try:
            uvloop.run(_serve(mount_point))
        finally:
            pyfuse3.close(unmount=True)
    except CraqenError as error:
        print(f"null_filesystem: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
