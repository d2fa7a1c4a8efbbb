"""A file that fails on demand, as a file system of its own: a loop device on it is a failing disk.

Run as ``python failing_device.py BACKING_FILE MODE_FILE MOUNTPOINT``. The first byte of the mode
file says what fails with EIO: ``r`` reads, ``w`` writes, ``x`` both, anything else nothing. The
device mapper's targets ``error`` and ``flakey`` do the same where the kernel has them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

import pyfuse3
import trio

NAME = b"device"
INODE = 2


class FailingFile(pyfuse3.Operations):
    """One file, never cached by the kernel."""

    def __init__(self, backing: int, mode: int) -> None:
        super().__init__()
        self._backing = backing
        self._mode = mode

    def _check(self, what: bytes) -> None:
        if os.pread(self._mode, 1, 0) in (what, b"x"):
            raise pyfuse3.FUSEError(errno.EIO)

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        if inode == pyfuse3.ROOT_INODE:
            entry.st_mode = stat.S_IFDIR | 0o755
            entry.st_nlink = 2
        else:
            entry.st_mode = stat.S_IFREG | 0o600
            entry.st_nlink = 1
            entry.st_size = os.fstat(self._backing).st_size
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        if name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(INODE)

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        self._check(b"r")
        return os.pread(self._backing, size, offset)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        self._check(b"w")
        return os.pwrite(self._backing, data, offset)

    async def fsync(self, handle: int, datasync: bool) -> None:
        self._check(b"w")


def main() -> None:
    backing, mode, point = sys.argv[1:]
    operations = FailingFile(os.open(backing, os.O_RDWR), os.open(mode, os.O_RDONLY))
    options = {*pyfuse3.default_options, "fsname=failing-device"}
    pyfuse3.init(operations, point, options)
    print("READY", flush=True)
    trio.run(pyfuse3.main)
    pyfuse3.close()


if __name__ == "__main__":
    main()
