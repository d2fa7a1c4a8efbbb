"""What the native client takes and gives."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.meta.records import Inode, InodeType

if TYPE_CHECKING:
    from .async_files import AsyncFile
    from .files import StoreFile

_TYPE_BITS = {
    InodeType.FILE: stat.S_IFREG,
    InodeType.DIRECTORY: stat.S_IFDIR,
    InodeType.SYMLINK: stat.S_IFLNK,
    InodeType.FIFO: stat.S_IFIFO,
    InodeType.SOCKET: stat.S_IFSOCK,
    InodeType.CHARACTER_DEVICE: stat.S_IFCHR,
    InodeType.BLOCK_DEVICE: stat.S_IFBLK,
}


class Stat(NamedTuple):
    """What is known of a file; names as in ``os.stat_result``."""

    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int

    @property
    def st_mtime(self) -> float:
        """Seconds since 1970 of the last change of content."""
        return self.st_mtime_ns / 1e9

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it has content of its own."""
        return stat.S_ISREG(self.st_mode)


def stat_of(inode: Inode) -> Stat:
    """The record of *inode*."""
    return Stat(
        _TYPE_BITS[inode.type] | inode.mode,
        inode.inode_id,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        inode.atime_ns,
        inode.mtime_ns,
        inode.ctime_ns,
    )


class DirectoryEntry(NamedTuple):
    """A name in a folder, with what is known of it: no further call is needed."""

    name: str
    path: str
    stat: Stat


class Read(NamedTuple):
    """One read of a batch."""

    file: AsyncFile | StoreFile
    offset: int
    buffer: Any
    """Whatever has the buffer protocol and can be written: bytearray, memoryview, numpy array, a
    view of shared memory. It is filled to its end, or to the end of the file."""


class Write(NamedTuple):
    """One write of a batch."""

    file: AsyncFile | StoreFile
    offset: int
    data: Any
    """Bytes, or whatever has the buffer protocol."""
