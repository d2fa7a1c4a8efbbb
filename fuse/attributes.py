"""An inode of the store as the kernel takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.limits import CHECKSUM_PAGE_BYTES
from ..core.meta.records import Inode

if TYPE_CHECKING:
    import pyfuse3

PREFERRED_BYTES = CHECKSUM_PAGE_BYTES  # st_blksize: what programs use for their buffers; a page is
# verified whole, so smaller reads of uncached bytes cost as much


def fill(
    entry: pyfuse3.EntryAttributes,
    inode: Inode,
    number: pyfuse3.InodeT,
    *,
    entry_timeout_seconds: float,
    attribute_timeout_seconds: float,
) -> pyfuse3.EntryAttributes:
    """Fill *entry* from *inode*, under the inode *number* that the kernel knows; return it."""
    entry.st_ino = number
    entry.entry_timeout = entry_timeout_seconds
    entry.attr_timeout = attribute_timeout_seconds
    entry.st_mode = inode.stat_mode()
    entry.st_nlink = inode.nlink
    entry.st_uid = inode.uid
    entry.st_gid = inode.gid
    entry.st_rdev = inode.rdev
    entry.st_size = inode.size
    entry.st_blksize = PREFERRED_BYTES
    entry.st_blocks = (inode.size + 511) >> 9
    entry.st_atime_ns = inode.atime_ns
    entry.st_mtime_ns = inode.mtime_ns
    entry.st_ctime_ns = inode.ctime_ns
    return entry
