"""PORT: the part of the namespace that keeps advisory locks of files."""

from __future__ import annotations

import asyncio
from typing import Protocol


class FileLockStore(Protocol):
    """Locks of whole files, as flock(2) has them, among all clients of the store. A lock ends with
    its client's lease at the latest."""

    async def take_lock(
        self, inode_id: int, handle: int, *, exclusive: bool
    ) -> asyncio.Future[None] | None:
        """Lock a file for this client's *handle*, or change the lock that it has; None: it is
        locked. Else somebody else's lock is in the way, and the future is done once that one
        changes (not when its client dies: ask again now and then). The caller cancels the future.

        Raises StaleHandleError: the file is gone, or this client was declared dead.
        """
        ...

    async def release_lock(self, inode_id: int, handle: int) -> None:
        """Let a file go. Nothing happens if it is not locked by *handle*."""
        ...
