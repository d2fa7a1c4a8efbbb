"""Paths of the store, followed from its root: ``/bucket/folder/file``."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..core.errors import InvalidArgumentError, NotDirectoryError, NotFoundError, UnsupportedError
from ..core.ids import ROOT_INODE_ID
from ..core.meta.records import Inode, InodeType
from ..core.meta.store import MetaStore

LINKS_MAX = 40  # symbolic links of one path, as Linux

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Place(NamedTuple):
    """Where a name is, or could be."""

    parent_id: int
    name: bytes


def text_of(path: Path) -> str:
    """*path* for messages."""
    return os.fsdecode(path)


def split(path: Path) -> list[bytes]:
    """The names of *path*. Raises InvalidArgumentError."""
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise InvalidArgumentError(f"{raw!r}: a path has no NUL bytes")
    return [name for name in raw.split(b"/") if name not in (b"", b".")]


async def find(meta: MetaStore, path: Path, *, follow: bool = True) -> Inode:
    """What *path* leads to. Symbolic links are followed (the last one only with *follow*); absolute
    ones begin at the root of the store. Raises NotFoundError, NotDirectoryError,
    InvalidArgumentError."""
    inode, names, links = await meta.get_inode(ROOT_INODE_ID), split(path), 0
    trail = [inode]
    while names:
        name = names.pop(0)
        if name == b"..":
            trail = trail[:-1] or trail
            continue
        if trail[-1].type != InodeType.DIRECTORY:
            raise NotDirectoryError(f"{text_of(path)}: goes through what is not a folder")
        inode = await meta.lookup(trail[-1].inode_id, name)
        if inode.type == InodeType.SYMLINK and (names or follow):
            links += 1
            if links > LINKS_MAX:
                raise UnsupportedError(f"{text_of(path)}: more than {LINKS_MAX} symbolic links")
            target = inode.symlink_target
            if target.startswith(b"/"):
                trail = trail[:1]
            names = [one for one in target.split(b"/") if one not in (b"", b".")] + names
            continue
        trail.append(inode)
    return trail[-1]


async def find_place(meta: MetaStore, path: Path) -> Place:
    """Folder and name of *path*, whose last name need not exist. Raises NotFoundError,
    NotDirectoryError, InvalidArgumentError (it does not end in a name)."""
    names = split(path)
    if not names or names[-1] == b"..":
        raise InvalidArgumentError(f"{text_of(path)}: is not a name in a folder")
    parent = await find(meta, b"/".join(names[:-1]))
    if parent.type != InodeType.DIRECTORY:
        raise NotDirectoryError(f"{text_of(path)}: lies in what is not a folder")
    return Place(parent.inode_id, names[-1])


async def find_or_none(meta: MetaStore, path: Path, *, follow: bool = True) -> Inode | None:
    """As ``find``; None if nothing is there."""
    try:
        return await find(meta, path, follow=follow)
    except (NotFoundError, NotDirectoryError):
        return None
