"""What a folder passes on to what is made in it: its group (the set-group bit), and its default
access control list."""

from __future__ import annotations

import stat
from typing import NamedTuple

import msgspec

from ..access.acl import inherited as inherited_list
from .records import Inode, InodeType, Owner


class Inherited(NamedTuple):
    """Of something new."""

    mode: int
    gid: int
    access_acl: bytes = b""
    default_acl: bytes = b""


def inherited(parent: Inode, kind: InodeType, mode: int, gid: int) -> Inherited:
    """What is made in *parent* by somebody of group *gid* with *mode* gets (open(2), mkdir(2),
    acl(5)); links have no lists."""
    is_directory = kind == InodeType.DIRECTORY
    if parent.mode & stat.S_ISGID:
        gid = parent.gid
        mode |= stat.S_ISGID if is_directory else 0
    if not parent.default_acl or kind == InodeType.SYMLINK:
        return Inherited(mode, gid)
    access_acl, mode = inherited_list(parent.default_acl, mode)
    return Inherited(mode, gid, access_acl, parent.default_acl if is_directory else b"")


def owner_in(parent: Inode, owner: Owner) -> Owner:
    """*owner* of a file that is made in *parent*."""
    found = inherited(parent, InodeType.FILE, owner.file_mode, owner.gid)
    return msgspec.structs.replace(
        owner, gid=found.gid, file_mode=found.mode, file_acl=found.access_acl
    )


def passes_on(directory: Inode) -> bool:
    """Whether what is made in *directory* is another than elsewhere."""
    return bool(directory.mode & stat.S_ISGID or directory.default_acl)
