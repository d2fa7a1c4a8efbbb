"""DRIVER: keeps the kernel's caches true to changes made elsewhere.

The kernel holds a notification back while requests on the same inode are under way. So it is never
sent from the event loop that has to answer those, nor under a lock, but from a thread of its own;
and none is sent once shutdown begins.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

QUEUE_MAX = 16_384  # notifications waiting; beyond, reading the feed waits

_log = logging.getLogger("craqen.mount")


class Kernel(Protocol):
    """The notifications that the kernel takes. They may block; OSError if it does not know the
    thing."""

    def invalidate_inode(self, number: int, attributes_only: bool) -> None: ...

    def invalidate_entry(self, parent_number: int, name: bytes) -> None: ...


class Notifier:
    """The thread that sends notifications, in the order given."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="craqen-notify", daemon=True)

    def start(self) -> None:
        """Start the thread; the mount exists."""
        self._thread.start()

    def inode(self, number: int, *, attributes_only: bool = False) -> None:
        """Have the kernel drop an inode's attributes and (unless told not to) its pages, soon."""
        self._put(lambda: self._kernel.invalidate_inode(number, attributes_only))

    def entry(self, parent_number: int, name: bytes) -> None:
        """Have the kernel look a name up again, soon."""
        self._put(lambda: self._kernel.invalidate_entry(parent_number, name))

    async def attributes_now(self, number: int) -> None:
        """Return once the kernel has dropped an inode's attributes.

        Safe while a request on the inode is under way: unlike the others, this one never waits.
        """
        if self._stopped:
            return
        work = functools.partial(self._kernel.invalidate_inode, number, True)
        await asyncio.to_thread(self._attempt, work)

    async def room(self) -> None:
        """Return once the queue is not full."""
        while self._queue.qsize() > QUEUE_MAX and not self._stopped:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Send nothing more; return once the thread has ended."""
        self._stopped = True
        self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _put(self, work: Callable[[], None]) -> None:
        if not self._stopped:
            self._queue.put(work)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            if work is None or self._stopped:
                return
            self._attempt(work)

    @staticmethod
    def _attempt(work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY):
                _log.warning("the kernel's cache cannot be invalidated: %s", error)
