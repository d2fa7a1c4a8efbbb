"""DRIVER: what all verbs share: errors to errno, inode numbers, attributes, the kernel's caches.

Inode numbers are the store's ids, except that the mounted directory is number 1. Names and
attributes are given to the kernel for a long time, since the change feed takes back what changes
elsewhere (``apply_changes``); names that do not exist are never remembered.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, FileNameT, FUSEError, InodeT

from ..core.client.files import FileClient
from ..core.client.port import DataStore
from ..core.errno_map import errno_of
from ..core.errors import CallerError, CraqenError
from ..core.meta.names import PREFIX, shown
from ..core.meta.records import FeedEvent, Inode, InodeType, SetAttributes
from ..core.meta.store import MetaStore
from .attributes import fill
from .handles import DirectoryHandle, FileHandle, HandleTable
from .inode_table import InodeTable
from .invalidation import Notifier

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("craqen.mount")


class KernelNotifications:
    """``Kernel`` (invalidation.py) by pyfuse3."""

    def invalidate_inode(self, number: int, attributes_only: bool) -> None:
        """Drop attributes and, unless told not to, pages."""
        pyfuse3.invalidate_inode(InodeT(number), attributes_only)

    def invalidate_entry(self, parent_number: int, name: bytes) -> None:
        """Drop a name."""
        pyfuse3.invalidate_entry(InodeT(parent_number), FileNameT(name))


def verb(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Turn what a verb raises into an errno. Nothing else may reach pyfuse3: it would end the
    mount."""

    @functools.wraps(function)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except FUSEError:
            raise
        except CraqenError as error:
            if not isinstance(error, CallerError):
                _log.error("%s: %s", function.__name__, error)
            raise FUSEError(errno_of(error)) from None
        except Exception as error:
            _log.exception("%s: a defect of Craqen", function.__name__)
            raise FUSEError(errno.EIO) from error

    return guarded


class OperationsBase(pyfuse3.Operations):
    """State and helpers of the verbs. Used from one event loop."""

    def __init__(
        self,
        meta: MetaStore,
        data: DataStore,
        client: FileClient,
        notifier: Notifier,
        *,
        root_id: int,
        cache_seconds: float,
    ) -> None:
        super().__init__()
        self._meta = meta
        self._data = data
        self._client = client
        self._notifier = notifier
        self._root_id = root_id
        self._cache_seconds = cache_seconds
        self._inodes = InodeTable()
        self._inodes.get(root_id)  # known from the start, and never looked up
        self._files: HandleTable[FileHandle] = HandleTable()
        self._directories: HandleTable[DirectoryHandle] = HandleTable()
        self._changes = 0
        """Rises with every change seen: what was read before one may not be given out for long."""
        self._retries: dict[int, int] = {}
        """Threads that were sent to look a name up again, and the inode they have found since."""

    def _id(self, number: int) -> int:
        return self._root_id if number == pyfuse3.ROOT_INODE else number

    def _number(self, inode_id: int) -> InodeT:
        return pyfuse3.ROOT_INODE if inode_id == self._root_id else InodeT(inode_id)

    def _entry(self, inode: Inode, *, cached: bool = True) -> EntryAttributes:
        """*inode* for the kernel, with what was written here; *cached* False: not to be kept."""
        inode_id = inode.inode_id
        changing = self._client.has_changes(inode_id)
        if changing:
            inode = self._client.view(inode)
        self._inodes.shown(inode_id, inode.size)
        seconds = self._cache_seconds if cached else 0
        return fill(
            EntryAttributes(),
            inode,
            self._number(inode_id),
            entry_timeout_seconds=seconds,
            attribute_timeout_seconds=0 if changing else seconds,
        )

    def _looked_up(self, inode: Inode, *, cached: bool = True) -> EntryAttributes:
        """As ``_entry``, for an answer that counts as a lookup."""
        self._inodes.looked_up(inode.inode_id)
        return self._entry(inode, cached=cached)

    async def apply_changes(self, events: Sequence[FeedEvent]) -> None:
        """Others changed something: note it, hold on to what is open here, then tell the kernel."""
        self._changes += 1
        inode_ids = {event.inode_id for event in events if event.kind == "inode"}
        self._client.mark_stale(inode_ids)
        await self._client.protect(inode_ids)
        for inode_id in inode_ids:
            if inode_id in self._inodes:
                self._inodes.get(inode_id).has_no_security = False
                self._notifier.inode(self._number(inode_id))
        for event in events:
            if event.kind != "entry" or event.parent_id not in self._inodes:
                continue
            await self._notifier.room()
            parent = self._number(event.parent_id)
            for name in _names_shown(event.name):
                self._notifier.entry(parent, name)
            self._notifier.inode(parent, attributes_only=True)

    def forget_everything(self) -> None:
        """Changes may have been missed: have the kernel ask anew about all it knows."""
        self._changes += 1
        inode_ids = list(self._inodes.ids())
        self._client.mark_stale(inode_ids)
        for inode_id in inode_ids:
            self._inodes.get(inode_id).has_no_security = False
            self._notifier.inode(self._number(inode_id))

    async def _parent(self, inode: Inode) -> Inode:
        """The directory above *inode*, the mounted one being above itself."""
        if inode.inode_id == self._root_id or not inode.parent_id:
            return inode
        return await self._meta.get_inode(inode.parent_id)

    async def _create(
        self,
        parent_inode: int,
        name: bytes,
        kind: InodeType,
        mode: int,
        ctx: pyfuse3.RequestContext,
        *,
        rdev: int = 0,
        symlink_target: bytes = b"",
        exclusive: bool = True,
    ) -> Inode:
        inode = await self._meta.create(
            self._id(parent_inode),
            name,
            kind,
            mode=mode & 0o7777 & ~ctx.umask,
            uid=ctx.uid,
            gid=ctx.gid,
            rdev=rdev,
            symlink_target=symlink_target,
            exclusive=exclusive,
        )
        self._changes += 1
        return inode

    async def _set_attributes(self, inode_id: int, changes: SetAttributes) -> Inode:
        inode = await self._client.set_attributes(inode_id, changes)
        self._changes += 1
        if changes.size is not None:
            known = self._inodes.get(inode_id)
            known.shown_size = changes.size
            if known.page_generation + 1 == inode.generation:
                known.page_generation += 1  # the kernel cuts its pages itself
        return inode


def _names_shown(name: bytes) -> set[bytes]:
    """How a changed name may show in the mount; the feed has it stored or as a POSIX call gave
    it."""
    names = {shown(name, hidden_file=False), shown(name, hidden_file=True)}
    if name.startswith(PREFIX):
        names.add(name)
    return names
