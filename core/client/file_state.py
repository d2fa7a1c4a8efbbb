"""What a process knows of a file that it has open, shared by all its handles: see files.py."""

from __future__ import annotations

import asyncio

from ..meta.records import Inode
from .dirty import DirtyRanges


class FileState:
    """One file as this process has it open."""

    __slots__ = (
        "background",
        "cache_generation",
        "changed_ns",
        "changed_since_seconds",
        "data_key",
        "dirty",
        "flushing",
        "handles",
        "inline_data",
        "inode",
        "inode_id",
        "lock",
        "room_end",
        "session",
        "stale",
        "written_end",
    )

    def __init__(self, inode_id: int) -> None:
        self.inode_id = inode_id
        self.inode: Inode | None = None
        self.inline_data: bytes | None = None
        """Small content, decrypted."""
        self.data_key: bytes | None = None
        """Of encrypted content."""
        self.handles = 0
        self.lock = asyncio.Lock()
        self.dirty = DirtyRanges()
        self.flushing: DirtyRanges | None = None
        self.written_end = 0
        """Bytes up to here are stored in place, but the inode does not say so yet."""
        self.room_end = 0
        """As far as the quotas were seen to leave room for the file to grow."""
        self.changed_ns = 0
        self.changed_since_seconds = 0.0
        self.background: asyncio.Task[None] | None = None
        self.session: int | None = None
        self.stale = False
        """The inode changed elsewhere: read it anew before use."""
        self.cache_generation = -1
        """The generation that an outer cache of the bytes has (kept here for it); -1: none."""

    @property
    def changed(self) -> bool:
        """Whether something written is not committed yet."""
        return bool(self.dirty) or self.flushing is not None or self.written_end > 0

    @property
    def size(self) -> int:
        """The size with all that was written."""
        assert self.inode is not None
        size = max(self.inode.size, self.written_end, self.dirty.end)
        return size if self.flushing is None else max(size, self.flushing.end)
