"""Locks of files among all clients of the store, which the kernel does not hand on to mounts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
from types import TracebackType

from ..core.errors import CraqenError
from ..core.meta.store import MetaStore
from .errors import as_os_errors

ASK_AGAIN_SECONDS = 1.0
"""How soon it is noticed that who has the lock is dead."""


class AsyncFileLock:
    """A lock that is held until ``release``, or the end of ``async with``.

    It is advisory: who does not ask for it is not kept out. If this process cannot renew its lease
    (``meta.client_lease_seconds``) others may take the lock; it cannot make or open files then
    either.
    """

    def __init__(self, meta: MetaStore, inode_id: int, path: str) -> None:
        self._meta = meta
        self._inode_id = inode_id
        self._path = path
        self._handle = random.getrandbits(62)
        self.held = False
        """Whether it was taken, and not released since."""

    async def acquire(self, *, exclusive: bool, timeout_seconds: float | None) -> None:
        """Take it. Raises BlockingIOError if that was not possible within *timeout_seconds* (None:
        wait as long as it takes), OSError."""
        loop = asyncio.get_running_loop()
        ends = None if timeout_seconds is None else loop.time() + timeout_seconds
        with as_os_errors(self._path):
            while True:
                changed = await self._take(exclusive)
                if changed is None:
                    self.held = True
                    return
                left = ASK_AGAIN_SECONDS if ends is None else ends - loop.time()
                try:
                    if left <= 0:
                        text = os.strerror(errno.EAGAIN)
                        raise BlockingIOError(errno.EAGAIN, text, self._path)
                    await asyncio.wait({changed}, timeout=min(left, ASK_AGAIN_SECONDS))
                finally:
                    changed.cancel()

    async def _take(self, exclusive: bool) -> asyncio.Future[None] | None:
        try:
            return await self._meta.take_lock(self._inode_id, self._handle, exclusive=exclusive)
        except asyncio.CancelledError:
            # It may have been taken nevertheless, and nobody would know.
            with contextlib.suppress(CraqenError):
                await asyncio.shield(self._meta.release_lock(self._inode_id, self._handle))
            raise

    async def release(self) -> None:
        """Let it go; again is harmless. Raises OSError."""
        if self.held:
            with as_os_errors(self._path):
                await self._meta.release_lock(self._inode_id, self._handle)
            self.held = False

    async def __aenter__(self) -> AsyncFileLock:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.release()
            return
        with contextlib.suppress(OSError, CraqenError):  # the block's own error is told
            await self.release()
