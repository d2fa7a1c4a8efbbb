"""File permissions as the kernel checks them: owner, group or others, root always. Pure.

Knows inodes by mode, uid, gid and access control list alone. Rules: path_resolution(7), unlink(2),
the sticky bit of chmod(2), acl(5).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from .acl import permits

READ, WRITE, SEARCH = 4, 2, 1
_STICKY = 0o1000
_ROOT = 0


class Node(NamedTuple):
    """What permissions are about of a file or directory."""

    mode: int
    uid: int
    gid: int
    acl: bytes = b""
    """Its access control list, if it has one (acl.py)."""


class Actor(NamedTuple):
    """Who acts."""

    uid: int
    gid: int
    groups: Collection[int] = ()

    def may(self, node: Node, wanted: int) -> bool:
        """Whether it has all of *wanted* (READ, WRITE, SEARCH). The first class that it is in
        decides, even if a later one gave more."""
        if self.uid == _ROOT:
            return True
        if node.acl:
            gids = {self.gid, *self.groups}
            return permits(node.acl, node.uid, node.gid, self.uid, gids, wanted)
        if self.uid == node.uid:
            bits = node.mode >> 6
        elif node.gid == self.gid or node.gid in self.groups:
            bits = node.mode >> 3
        else:
            bits = node.mode
        return bits & wanted == wanted

    def may_change_entry(self, directory: Node, present: Node | None) -> bool:
        """Whether it may make a name in *directory*, or remove or replace what stands under it
        (*present*)."""
        if not self.may(directory, WRITE | SEARCH):
            return False
        if present is None or self.uid == _ROOT or not directory.mode & _STICKY:
            return True
        return self.uid in (directory.uid, present.uid)

    def owns(self, node: Node) -> bool:
        """Whether it may change what only owners may."""
        return self.uid in (_ROOT, node.uid)

    def may_reach(self, directories: Sequence[Node]) -> bool:
        """Whether it may go through all of *directories*."""
        return all(self.may(directory, SEARCH) for directory in directories)
