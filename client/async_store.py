"""The store on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ..core.client.connect import Client
from ..core.client.connect import connect as connect_client
from ..core.client.feed_follower import FeedFollower
from ..core.client.files import FileClient, OpenFile
from ..core.clock import SystemClock
from ..core.config import load_config
from ..core.errors import (
    AlreadyExistsError,
    ConflictError,
    IsDirectoryError,
    NotDirectoryError,
    NotFoundError,
)
from ..core.limits import MIB
from ..core.meta.names import is_plain
from ..core.meta.records import FeedEvent, Inode, InodeType, Owner, SetAttributes
from ..core.options import Config
from .async_files import AsyncFile
from .batches import AsyncBatches
from .errors import as_os_errors
from .fast_reads import FastReads
from .locks import AsyncFileLock
from .modes import Mode, parse_mode
from .pages import CACHE_BYTES, VerifiedPages
from .paths import Path, find, find_or_none, find_place, split, text_of
from .records import DirectoryEntry, Stat, stat_of
from .whole_files import in_batches, inode_ids_of, read_whole

LISTED_AT_ONCE = 1000
COPIED_AT_ONCE = 8 * MIB
UPKEEP_SECONDS = 1.0
FILE_MODE = 0o666
DIRECTORY_MODE = 0o777


class AsyncStore(AsyncBatches):
    """The files of a store. Get it from ``connect_async``, and close it.

    Paths are ``/bucket/folder/file``. Every call raises OSError as the functions of ``os`` do.
    """

    def __init__(self, client: Client, config: Config, cache_bytes: int) -> None:
        clock = SystemClock()
        self._client = client
        self.meta = client.meta
        self.files = FileClient(
            client.meta,
            client.data,
            clock,
            dirty_bytes_max=config.mount.dirty_mebibytes * MIB,
            sealed=client.sealed,
        )
        self.pages = VerifiedPages(cache_bytes)
        self.fast = FastReads(client.data, self.pages)
        self._follower = FeedFollower(
            client.meta,
            clock,
            retention_seconds=config.meta.feed_retention_seconds,
            changed=self._changed,
            lost=self._forget_everything,
        )
        self._tasks: list[asyncio.Task[None]] = []
        umask = os.umask(0)
        os.umask(umask)
        self._umask = umask

    @property
    def client(self) -> Client:
        """The connection below, for the parts of this package that need more than files."""
        return self._client

    async def start(self) -> None:
        """Follow the changes that others make. Raises CraqenError."""
        await self._follower.start()
        self._tasks += [
            asyncio.create_task(self._follower.run()),
            asyncio.create_task(self._upkeep()),
        ]

    async def close(self) -> None:
        """Store what open files hold, and end the connection. Raises OSError."""
        try:
            with as_os_errors():
                await self.files.flush_all()
        finally:
            for task in self._tasks:
                task.cancel()
            for task in self._tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self._client.close()

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _changed(self, events: Sequence[FeedEvent]) -> None:
        inode_ids = {event.inode_id for event in events if event.kind == "inode"}
        self.files.mark_stale(inode_ids)
        await self.files.protect(inode_ids)

    def _forget_everything(self) -> None:
        self.files.mark_all_stale()

    async def _upkeep(self) -> None:
        while not self._client.lease_lost:
            await asyncio.sleep(UPKEEP_SECONDS)
            await self.files.flush_old()

    # Files

    async def open(self, path: Path, mode: str = "rb") -> AsyncFile:
        """Open a file; modes are those of the built-in ``open``, always of bytes. Raises OSError,
        ValueError (mode)."""
        parsed = parse_mode(mode)
        text = text_of(path)
        with as_os_errors(text):
            return AsyncFile(self, await self._opened(path, parsed), text, parsed)

    async def _opened(self, path: Path, mode: Mode) -> OpenFile:
        inode = await find_or_none(self.meta, path) if mode.creates else await find(self.meta, path)
        if inode is None:
            inode = await self._created(path, exclusive=mode.exclusive)
        elif mode.exclusive:
            raise AlreadyExistsError(f"{text_of(path)}: is there already")
        if inode.type == InodeType.DIRECTORY:
            raise IsDirectoryError(f"{text_of(path)}: is a folder")
        handle = await self.files.open(inode.inode_id)
        try:
            if mode.truncates and handle.state.size:
                await self.files.set_attributes(inode.inode_id, SetAttributes(size=0))
        except BaseException:
            await self.files.release(handle)
            raise
        return handle

    async def _created(self, path: Path, *, exclusive: bool) -> Inode:
        place = await find_place(self.meta, path)
        return await self.meta.create(
            *place,
            InodeType.FILE,
            mode=FILE_MODE & ~self._umask,
            uid=os.geteuid(),
            gid=os.getegid(),
            exclusive=exclusive,
        )

    async def read_bytes(self, path: Path) -> bytes:
        """All of a file. Raises OSError."""
        async with await self.open(path) as file:
            return await file.read()

    async def read_files(
        self, paths: Sequence[Path], inode_ids: Sequence[int] | None = None
    ) -> list[bytes]:
        """All of each file as it is stored, in order: small ones together cost little more than
        one.

        *inode_ids*, which a listing gave (``st_ino``), spare looking the paths up: a file is then
        the one that was listed, also after a rename; if it is gone, what its path leads to now.

        Raises OSError of the first file that cannot be read, ValueError (as many ids as paths).
        """
        if inode_ids is not None and len(inode_ids) != len(paths):
            raise ValueError(f"{len(inode_ids)} inode ids for {len(paths)} paths")
        results: list[bytes] = []
        for part in in_batches(len(paths)):
            some = paths[part]
            ids = await inode_ids_of(self, some) if inode_ids is None else inode_ids[part]
            with as_os_errors():
                results += await read_whole(self, some, ids)
        return results

    async def write_bytes(self, path: Path, data: Any) -> None:
        """Make *data* all of a file, durable on return. Raises OSError."""
        async with await self.open(path, "wb") as file:
            await file.write(data)

    # Names

    async def stat(self, path: Path, *, follow: bool = True) -> Stat:
        """What is known of *path*. Raises OSError."""
        with as_os_errors(text_of(path)):
            return stat_of(self.files.view(await find(self.meta, path, follow=follow)))

    async def exists(self, path: Path) -> bool:
        """Whether *path* leads to something. Raises OSError (not for its absence)."""
        with as_os_errors(text_of(path)):
            return await find_or_none(self.meta, path) is not None

    async def scan(self, path: Path = "/") -> AsyncIterator[DirectoryEntry]:
        """The entries of a folder, in the order of their names. Raises OSError."""
        text = text_of(path).rstrip("/")
        with as_os_errors(text):
            folder = await find(self.meta, path)
            if folder.type != InodeType.DIRECTORY:
                raise NotDirectoryError(f"{text}: is not a folder")
            after = b""
            while True:
                rows = await self.meta.read_directory(
                    folder.inode_id, after=after, limit=LISTED_AT_ONCE
                )
                for row in rows:
                    name = os.fsdecode(row.name)
                    found = stat_of(self.files.view(row.inode))
                    yield DirectoryEntry(name, f"{text}/{name}", found)
                if len(rows) < LISTED_AT_ONCE:
                    return
                after = rows[-1].cursor

    async def list(self, path: Path = "/") -> list[DirectoryEntry]:
        """All entries of a folder. Raises OSError."""
        return [entry async for entry in self.scan(path)]

    async def walk(self, path: Path = "/") -> AsyncIterator[DirectoryEntry]:
        """All that is below a folder, each folder before what is in it. Raises OSError."""
        waiting = [text_of(path)]
        while waiting:
            async for entry in self.scan(waiting.pop()):
                yield entry
                if entry.stat.is_directory:
                    waiting.append(entry.path)

    async def make_directory(
        self, path: Path, *, parents: bool = False, exist_ok: bool = False
    ) -> None:
        """Make a folder (below ``/``: a bucket). Raises OSError."""
        with as_os_errors(text_of(path)):
            if exist_ok:
                found = await find_or_none(self.meta, path)
                if found is not None and found.type == InodeType.DIRECTORY:
                    return
            if parents:
                above = os.path.dirname(text_of(path).rstrip("/"))
                if above not in ("", "/"):
                    await self.make_directory(above, parents=True, exist_ok=True)
            place = await find_place(self.meta, path)
            try:
                await self.meta.create(
                    *place,
                    InodeType.DIRECTORY,
                    mode=DIRECTORY_MODE & ~self._umask,
                    uid=os.geteuid(),
                    gid=os.getegid(),
                )
            except AlreadyExistsError:
                if not exist_ok:
                    raise

    async def remove(self, path: Path) -> None:
        """Remove a name of a file. Raises OSError."""
        with as_os_errors(text_of(path)):
            place = await find_place(self.meta, path)
            found = await self.meta.lookup(*place)
            if found.type == InodeType.DIRECTORY:
                raise IsDirectoryError(f"{text_of(path)}: is a folder")
            await self.meta.unlink(*place)

    async def remove_directory(self, path: Path) -> None:
        """Remove an empty folder. Raises OSError."""
        with as_os_errors(text_of(path)):
            await self.meta.remove_directory(*await find_place(self.meta, path))

    async def lock(
        self, path: Path, *, exclusive: bool = True, timeout_seconds: float | None = None
    ) -> AsyncFileLock:
        """Lock a file or folder among all clients of the store, as flock(2) does on one host; use
        it by ``async with await store.lock(path):``. Raises BlockingIOError after
        *timeout_seconds* (None: it waits as long as it takes), OSError."""
        with as_os_errors(text_of(path)):
            inode = await find(self.meta, path)
        lock = AsyncFileLock(self.meta, inode.inode_id, text_of(path))
        await lock.acquire(exclusive=exclusive, timeout_seconds=timeout_seconds)
        return lock

    async def remove_tree(self, path: Path) -> bool:
        """Remove a folder with all that is below it, in one step, however much that is: into the
        trash of the bucket if it has one, else the keeper frees it soon. False, and nothing is
        done, where that is no single step (versions, quotas of folders): remove what is in it one
        by one. Raises OSError."""
        with as_os_errors(text_of(path)):
            return await self.meta.remove_tree(*await find_place(self.meta, path))

    async def rename(self, path: Path, to: Path, *, no_replace: bool = False) -> None:
        """Move *path* to the name *to*, in place of what is there (with *no_replace*: only if
        nothing is), in one step, however much is below it. Raises OSError."""
        with as_os_errors(text_of(path)):
            place = await find_place(self.meta, path)
            await self.meta.rename(*place, *await find_place(self.meta, to), no_replace=no_replace)

    async def copy_file(self, path: Path, to: Path) -> None:
        """Make *to* a file with the content of *path*, in place of a file that is there; no bytes
        are moved where both are plain keys of buckets. Raises OSError."""
        with as_os_errors(text_of(path)):
            inode = await find(self.meta, path)
            if inode.type != InodeType.FILE:
                raise IsDirectoryError(f"{text_of(path)}: is not a file")
            if await self._copied_by_reference(inode, path, to):
                return
        async with await self.open(path) as source, await self.open(to, "wb") as target:
            for offset in range(0, source.size, COPIED_AT_ONCE):
                await target.write(await source.read(COPIED_AT_ONCE, offset), offset)

    async def _copied_by_reference(self, inode: Inode, path: Path, to: Path) -> bool:
        """Copy as an S3 copy does. False: a link is on the way, a name is escaped, or the target is
        a folder."""
        source, target = split(path), split(to)
        if len(source) < 2 or len(target) < 2 or not all(map(is_plain, (*source, *target))):
            return False
        folder = await find_or_none(self.meta, b"/".join(target[:-1]))
        present = await find_or_none(self.meta, to, follow=False)
        if folder is None or (present is not None and present.type != InodeType.FILE):
            return False
        owner = Owner(uid=os.geteuid(), gid=os.getegid(), file_mode=FILE_MODE & ~self._umask)
        try:
            view = await self.meta.get_object(source[0].decode(), b"/".join(source[1:]))
            if view.inode.inode_id != inode.inode_id:
                return False
            await self.meta.copy_object(
                source[0].decode(),
                b"/".join(source[1:]),
                target[0].decode(),
                b"/".join(target[1:]),
                owner,
                attributes=None,
                source_generation=(inode.inode_id, inode.generation),
            )
        except (NotFoundError, ConflictError, UnicodeDecodeError):
            return False
        return True

    async def link(self, path: Path, to: Path) -> None:
        """Give a file the further name *to*. Raises OSError."""
        with as_os_errors(text_of(path)):
            inode = await find(self.meta, path, follow=False)
            await self.meta.link(inode.inode_id, *await find_place(self.meta, to))

    async def symlink(self, target: Path, path: Path) -> None:
        """Make *path* a symbolic link to *target*. Raises OSError."""
        with as_os_errors(text_of(path)):
            await self.meta.create(
                *await find_place(self.meta, path),
                InodeType.SYMLINK,
                mode=0o777,
                uid=os.geteuid(),
                gid=os.getegid(),
                symlink_target=os.fsencode(target),
            )

    async def read_link(self, path: Path) -> str:
        """Where a symbolic link leads. Raises OSError."""
        with as_os_errors(text_of(path)):
            inode = await find(self.meta, path, follow=False)
            if inode.type != InodeType.SYMLINK:
                raise NotFoundError(f"{text_of(path)}: is not a symbolic link")
            return os.fsdecode(inode.symlink_target)

    async def set_attributes(
        self,
        path: Path,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Change what is not None. Raises OSError."""
        changes = SetAttributes(mode, uid, gid, None, atime_ns, mtime_ns)
        with as_os_errors(text_of(path)):
            inode = await find(self.meta, path)
            await self.files.set_attributes(inode.inode_id, changes)


async def connect_async(
    config: str | os.PathLike[str] | Config | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> AsyncStore:
    """Connect to the store of a configuration file (None: the one that CRAQEN_CONFIG names).

    *cache_bytes*: for verified pages kept in memory. Raises OSError.
    """
    with as_os_errors():
        if not isinstance(config, Config):
            path = None if config is None else os.fspath(config)
            config = load_config(path, os.environ if environment is None else environment)
        client = await connect_client(config, "native client")
        store = AsyncStore(client, config, cache_bytes)
        try:
            await store.start()
        except BaseException:
            await client.close()
            raise
    return store
