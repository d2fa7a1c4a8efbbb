"""What the kernel was told: which inodes it knows, how often they were looked up, which size and
which bytes it may have cached. Entries live until the kernel forgets the inode.
"""

from __future__ import annotations

import time
from collections.abc import Collection


class KnownInode:
    """One inode of the kernel's cache."""

    __slots__ = (
        "has_no_security",
        "looked_up_seconds",
        "lookups",
        "page_generation",
        "shown_size",
        "unlinked_here",
    )

    def __init__(self) -> None:
        self.lookups = 0
        self.looked_up_seconds = 0.0
        """When a name was last found to mean it."""
        self.page_generation = -1
        """The generation of the bytes in the kernel's page cache since the last close; -1: any."""
        self.shown_size = 0
        """The size that the kernel believes in."""
        self.unlinked_here = False
        """Its last name went by a call through this mount, so a handle of it is not stale."""
        self.has_no_security = False
        """No attribute of it begins with ``security.``, as far as is known."""


class InodeTable:
    """The kernel's inodes by their store ids."""

    def __init__(self) -> None:
        self._known: dict[int, KnownInode] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, inode_id: int) -> bool:
        return inode_id in self._known

    def ids(self) -> Collection[int]:
        """All inodes that the kernel knows."""
        return self._known.keys()

    def get(self, inode_id: int) -> KnownInode:
        """What is noted of an inode, to be read and changed; the kernel has not necessarily looked
        it up (the root is never looked up)."""
        known = self._known.get(inode_id)
        if known is None:
            known = self._known[inode_id] = KnownInode()
        return known

    def shown(self, inode_id: int, size: int) -> None:
        """The kernel is told a size."""
        known = self._known.get(inode_id)
        if known is not None:
            known.shown_size = size

    def looked_up(self, inode_id: int) -> None:
        """An answer is going to the kernel that counts as a lookup."""
        known = self.get(inode_id)
        known.lookups += 1
        known.looked_up_seconds = time.monotonic()

    def forget(self, inode_id: int, lookups: int) -> None:
        """The kernel takes back *lookups* of its lookups."""
        known = self._known.get(inode_id)
        if known is None:
            return
        known.lookups -= lookups
        if known.lookups <= 0:
            del self._known[inode_id]
