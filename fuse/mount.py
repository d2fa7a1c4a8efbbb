"""DRIVER: the life of one mount: mount, serve, follow changes, store what waits, unmount."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pyfuse3

from ..core.client.feed_follower import FeedFollower
from ..core.client.files import FileClient
from ..core.client.port import DataStore
from ..core.client.sealed_files import SealedFiles
from ..core.clock import SystemClock
from ..core.errors import CraqenError, NotDirectoryError, OperatorError, UnavailableError
from ..core.ids import ROOT_INODE_ID
from ..core.limits import MIB
from ..core.meta.records import InodeType
from ..core.meta.store import MetaStore
from ..core.options import MountOptions
from .event_loop import install
from .invalidation import Notifier
from .kernel_mount import FILESYSTEM_NAME, prepare, unmount
from .kernel_read_ahead import set_read_ahead
from .operations import CraqenOperations
from .verbs import KernelNotifications

UPKEEP_SECONDS = 1.0
END_SECONDS = 10.0  # for requests under way when the mount goes
FLUSH_SECONDS = 60.0  # for what is not stored yet then; a store that does not answer keeps nobody

_log = logging.getLogger("craqen.mount")


async def find_root(meta: MetaStore, path: str) -> int:
    """The inode of ``bucket/folder…`` (empty: the root of all buckets). Raises NotFoundError,
    NotDirectoryError."""
    inode_id = int(ROOT_INODE_ID)
    for name in filter(None, path.split("/")):
        inode = await meta.lookup(inode_id, os.fsencode(name))
        if inode.type != InodeType.DIRECTORY:
            raise NotDirectoryError(f"{path}: {name} is not a folder")
        inode_id = inode.inode_id
    return inode_id


class Mount:
    """One mount in this process (pyfuse3 knows no more than one)."""

    def __init__(
        self,
        meta: MetaStore,
        data: DataStore,
        mount_point: str,
        options: MountOptions,
        *,
        feed_retention_seconds: float,
        lease_lost: Callable[[], bool],
        sealed: SealedFiles | None = None,
    ) -> None:
        """*options*: as configured, but for ``point``. *lease_lost* tells when the store has given
        this process up. *sealed*: for encrypted files."""
        self._meta = meta
        self._data = data
        self._mount_point = mount_point
        self._options = options
        self._feed_retention_seconds = feed_retention_seconds
        self._lease_lost = lease_lost
        clock = SystemClock()
        self._clock = clock
        self._client = FileClient(
            meta, data, clock, dirty_bytes_max=options.dirty_mebibytes * MIB, sealed=sealed
        )
        self._notifier = Notifier(KernelNotifications())
        self._forget_descriptor: Callable[[], None] = lambda: None

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Mount, call *ready* once it serves, and serve until *stop* or until somebody unmounts.

        What was written is stored before this returns. Raises CallerError and OperatorError if it
        cannot be mounted, UnavailableError if the store gave this process up.
        """
        await asyncio.to_thread(prepare, self._mount_point)
        operations = CraqenOperations(
            self._meta,
            self._data,
            self._client,
            self._notifier,
            root_id=await find_root(self._meta, self._options.path),
            cache_seconds=self._options.cache_seconds,
        )
        follower = FeedFollower(
            self._meta,
            self._clock,
            retention_seconds=self._feed_retention_seconds,
            changed=operations.apply_changes,
            lost=operations.forget_everything,
        )
        await follower.start()
        self._mount(operations)
        serving = asyncio.create_task(pyfuse3.main())
        helpers: list[asyncio.Task[None]] = []
        try:
            await self._first_answer(serving)
            self._notifier.start()
            helpers += [asyncio.create_task(follower.run()), asyncio.create_task(self._upkeep())]
            ready(self._mount_point)
            await _first_of(serving, *helpers, stop.wait())
        finally:
            await self._end(serving, helpers)
        for task in (serving, *helpers):
            if not task.cancelled():
                task.result()  # what ended the mount, if it was not asked to end

    def _mount(self, operations: CraqenOperations) -> None:
        options = {
            f"fsname={FILESYSTEM_NAME}",
            f"subtype={FILESYSTEM_NAME}",
            "default_permissions",
        }
        if self._options.allow_other:
            options.add("allow_other")
        if self._options.read_only:
            options.add("ro")
        self._forget_descriptor = install()
        try:
            pyfuse3.init(operations, self._mount_point, options)
        except RuntimeError as error:
            raise OperatorError(
                f"{self._mount_point}: cannot be mounted: {error}. Is /dev/fuse there and open to "
                "this user? Without root, allow_other needs user_allow_other in /etc/fuse.conf "
                "(or set the option mount.allow_other to false)"
            ) from error

    async def _first_answer(self, serving: asyncio.Task[None]) -> None:
        """Wait until the mount answers."""
        await _first_of(serving, set_read_ahead(self._mount_point))
        if serving.done():
            serving.result()
            raise OperatorError(f"{self._mount_point}: was unmounted at once")

    async def _upkeep(self) -> None:
        """Store what has waited for long; end when the store has given this process up."""
        while not self._lease_lost():
            await asyncio.sleep(UPKEEP_SECONDS)
            await self._client.flush_old()
        raise UnavailableError(
            "the store has given this mount up (its lease ran out): start it anew"
        )

    async def _end(self, serving: asyncio.Task[None], helpers: list[asyncio.Task[None]]) -> None:
        """Store everything and unmount, also when files are still open there."""
        await self._flush_all()
        for helper in helpers:
            helper.cancel()
        await asyncio.wait([asyncio.create_task(self._notifier.stop()), *helpers])
        if not serving.done():
            await self._unmount(serving)
        self._forget_descriptor()
        # Unmounting by path again would hit whatever is mounted there by now.
        pyfuse3.close(unmount=False)

    async def _unmount(self, serving: asyncio.Task[None]) -> None:
        try:
            if await asyncio.to_thread(unmount, self._mount_point, lazily=False):
                await asyncio.wait([serving], timeout=END_SECONDS)
            else:
                _log.warning(
                    "%s: in use; it is detached, and programs that still have files open there "
                    "get errors from now on",
                    self._mount_point,
                )
                await asyncio.to_thread(unmount, self._mount_point, lazily=True)
        except CraqenError as error:
            _log.error("%s", error)
        await self._flush_all()
        if not serving.done():
            pyfuse3.terminate()
            await asyncio.wait([serving], timeout=END_SECONDS)

    async def _flush_all(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._client.flush_all()
        except TimeoutError:
            _log.error("what was written could not all be stored in %g s", FLUSH_SECONDS)
        except CraqenError as error:
            _log.error("some of what was written cannot be stored: %s", error)


async def _first_of(*work: asyncio.Task[None] | Coroutine[Any, Any, object]) -> None:
    """Return when one of *work* is done; coroutines (not tasks) are cancelled then."""
    own = [asyncio.create_task(item) for item in work if not isinstance(item, asyncio.Task)]
    tasks = [item for item in work if isinstance(item, asyncio.Task)]
    await asyncio.wait([*own, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in own:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
