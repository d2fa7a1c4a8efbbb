"""``craqen rm``, ``mv`` and ``cp``."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from ...core.errors import CraqenError
from ...core.meta.names import is_plain
from ...core.meta.records import Deletion
from ..async_store import AsyncStore
from ..errors import as_os_errors, os_error
from ..paths import split
from ..records import DirectoryEntry
from .base import FileCommand, Report, human

REMOVED_AT_ONCE = 1000
COPIES_AT_ONCE = 16
PIECE_BYTES = 8 << 20
STORE_PREFIX = "craqen:"


async def _remove(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    for path in arguments.paths:
        try:
            found = await store.stat(path, follow=False)
        except FileNotFoundError as error:
            if not arguments.force:
                report.failed(error)
            continue
        except OSError as error:
            report.failed(error)
            continue
        try:
            if not found.is_directory:
                await store.remove(path)
            elif arguments.recursive:
                await _Removal(store, report).run(path)
            else:
                await store.remove_directory(path)
        except OSError as error:
            report.failed(error)


class _Removal:
    """A folder with all that is in it: in one step, else files many at a time, then the folders
    from below."""

    def __init__(self, store: AsyncStore, report: Report) -> None:
        self._store = store
        self._report = report
        self._removed = 0

    async def run(self, path: str) -> None:
        if await self._store.remove_tree(path):
            return
        folders = [path]
        batch: list[DirectoryEntry] = []
        async for entry in self._store.walk(path):
            if entry.stat.is_directory:
                folders.append(entry.path)
                continue
            batch.append(entry)
            if len(batch) >= REMOVED_AT_ONCE:
                await self._files(batch)
                batch = []
        await self._files(batch)
        failures = self._report.failures
        for folder in reversed(folders):
            try:
                await self._store.remove_directory(folder)
            except FileNotFoundError:
                continue  # made by S3, and gone with its last object
            except OSError as error:
                if not failures:  # else it is not empty, which was said already
                    self._report.failed(error)

    async def _files(self, entries: list[DirectoryEntry]) -> None:
        """Remove files: those with plain names as keys of a bucket, together."""
        by_bucket: dict[str, list[tuple[DirectoryEntry, Deletion]]] = {}
        for entry in entries:
            names = split(entry.path)
            if len(names) > 1 and all(map(is_plain, names)):
                row = entry, Deletion(b"/".join(names[1:]))
                by_bucket.setdefault(names[0].decode(), []).append(row)
            else:
                await self._one(entry)
        for bucket, rows in by_bucket.items():
            if (await self._store.meta.get_bucket(bucket)).trash_seconds:
                for entry, _ in rows:  # as S3 removes them, nothing would be kept
                    await self._one(entry)
                continue
            with as_os_errors(f"/{bucket}"):
                outcomes = await self._store.meta.delete_objects(bucket, [row[1] for row in rows])
            for (entry, _), outcome in zip(rows, outcomes, strict=True):
                if isinstance(outcome, CraqenError):
                    self._report.failed(os_error(outcome, entry.path))
                elif isinstance(outcome, Exception):
                    raise outcome
        self._removed += len(entries)
        self._report.progress(f"{self._removed:,} files removed")

    async def _one(self, entry: DirectoryEntry) -> None:
        try:
            await self._store.remove(entry.path)
        except OSError as error:
            self._report.failed(error)


async def _move(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    *sources, target = arguments.paths
    into = await _is_folder(store, target)
    if len(sources) > 1 and not into:
        raise NotADirectoryError(20, "several things are moved into a folder", target)
    for source in sources:
        to = f"{target.rstrip('/')}/{os.path.basename(source.rstrip('/'))}" if into else target
        try:
            await store.rename(source, to, no_replace=arguments.no_clobber)
        except OSError as error:
            report.failed(error)


async def _is_folder(store: AsyncStore, path: str) -> bool:
    try:
        return (await store.stat(path)).is_directory
    except (FileNotFoundError, NotADirectoryError):
        return False


async def _copy(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    *sources, target = arguments.paths
    if not any(path.startswith(STORE_PREFIX) for path in arguments.paths):
        raise OSError(22, f"none of them is in the store: write {STORE_PREFIX}/bucket/name", target)
    copies = _Copies(store, report)
    into = await copies.is_folder(target)
    if len(sources) > 1 and not into:
        raise NotADirectoryError(20, "several things are copied into a folder", target)
    for source in sources:
        to = f"{target.rstrip('/')}/{os.path.basename(source.rstrip('/'))}" if into else target
        try:
            await copies.run(source, to, recursive=arguments.recursive)
        except OSError as error:
            report.failed(error)


class _Copies:
    """Files to and from the store, and within it; several at once."""

    def __init__(self, store: AsyncStore, report: Report) -> None:
        self._store = store
        self._report = report
        self._gate = asyncio.Semaphore(COPIES_AT_ONCE)
        self._files = self._bytes = 0

    async def is_folder(self, path: str) -> bool:
        if path.startswith(STORE_PREFIX):
            return await _is_folder(self._store, path.removeprefix(STORE_PREFIX))
        return os.path.isdir(path)

    async def run(self, source: str, target: str, *, recursive: bool) -> None:
        """Copy a file, or with *recursive* a folder."""
        if not await self.is_folder(source):
            await self._file(source, target)
            return
        if not recursive:
            raise IsADirectoryError(21, "is a folder: copy it with -r", source)
        await self._make_folder(target)
        pending: set[asyncio.Task[None]] = set()
        async for below, is_folder in self._walk(source):
            to = f"{target.rstrip('/')}/{below}"
            if is_folder:
                await self._make_folder(to)
                continue
            pending.add(asyncio.create_task(self._guarded(f"{source.rstrip('/')}/{below}", to)))
            if len(pending) >= 4 * COPIES_AT_ONCE:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending)

    async def _walk(self, source: str) -> AsyncIterator[tuple[str, bool]]:
        """Names below a folder, each folder before what is in it, and whether it is one."""
        if source.startswith(STORE_PREFIX):
            root = source.removeprefix(STORE_PREFIX).rstrip("/")
            async for entry in self._store.walk(root or "/"):
                yield entry.path[len(root) + 1 :], entry.stat.is_directory
            return
        for folder, folders, files in os.walk(source):
            for name in folders:
                yield os.path.relpath(os.path.join(folder, name), source), True
            for name in files:
                yield os.path.relpath(os.path.join(folder, name), source), False

    async def _make_folder(self, path: str) -> None:
        if path.startswith(STORE_PREFIX):
            inside = path.removeprefix(STORE_PREFIX)
            await self._store.make_directory(inside, parents=True, exist_ok=True)
        else:
            await asyncio.to_thread(os.makedirs, path, exist_ok=True)

    async def _guarded(self, source: str, target: str) -> None:
        async with self._gate:
            try:
                await self._file(source, target)
            except OSError as error:
                self._report.failed(error)

    async def _file(self, source: str, target: str) -> None:
        from_store, to_store = source.startswith(STORE_PREFIX), target.startswith(STORE_PREFIX)
        inside, to_inside = source.removeprefix(STORE_PREFIX), target.removeprefix(STORE_PREFIX)
        if from_store and to_store:
            await self._store.copy_file(inside, to_inside)
        elif to_store:
            await self._upload(source, to_inside)
        else:
            await self._download(inside, target)
        self._files += 1
        self._report.progress(f"{self._files:,} files, {human(self._bytes)} copied")

    async def _upload(self, source: str, target: str) -> None:
        with await asyncio.to_thread(Path(source).open, "rb") as file:
            found = os.fstat(file.fileno())
            async with await self._store.open(target, "wb") as copy:
                while data := await asyncio.to_thread(file.read, PIECE_BYTES):
                    await copy.write(data)
                    self._bytes += len(data)
        await self._store.set_attributes(
            target, mode=found.st_mode & 0o7777, mtime_ns=found.st_mtime_ns
        )

    async def _download(self, source: str, target: str) -> None:
        """By way of a file of another name: one that is there stays whole until all is here."""
        partial = f"{target}.part"
        async with await self._store.open(source, "rb") as file:
            found = await file.stat()
            with await asyncio.to_thread(Path(partial).open, "wb") as copy:
                for offset in range(0, file.size, PIECE_BYTES):
                    data = await file.read(PIECE_BYTES, offset)
                    await asyncio.to_thread(copy.write, data)
                    self._bytes += len(data)
        os.chmod(partial, found.st_mode & 0o7777)
        os.utime(partial, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.replace(partial, target)


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="/BUCKET/FOLDER/NAME")
    parser.add_argument("-r", "--recursive", action="store_true", help="folders with their content")
    parser.add_argument("-f", "--force", action="store_true", help="what is not there is no error")


def _move_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="SOURCE… TARGET")
    parser.add_argument("-n", "--no-clobber", action="store_true", help="replace nothing")


def _copy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="PATH", nargs="+",
        help=f"SOURCE… TARGET: of this host, or with {STORE_PREFIX} in front of the store",
    )  # fmt: skip
    parser.add_argument("-r", "--recursive", action="store_true", help="folders with their content")


remove_command = FileCommand("rm", "remove files of the store", _remove, _remove_arguments)
move_command = FileCommand("mv", "rename within the store", _move, _move_arguments)
copy_command = FileCommand("cp", "copy to, from and within the store", _copy, _copy_arguments)
