"""``craqen ls``, ``stat``, ``du`` and ``find``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import stat
import time
from datetime import UTC, datetime
from typing import Any

from ..async_store import AsyncStore
from ..records import DirectoryEntry, Stat
from .base import FileCommand, Report, human, parse_age, parse_size

_KINDS = {"f": stat.S_ISREG, "d": stat.S_ISDIR, "l": stat.S_ISLNK}


def _row(path: str, found: Stat) -> dict[str, Any]:
    return {
        "path": path,
        "type": stat.filemode(found.st_mode)[0],
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "size": found.st_size,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "links": found.st_nlink,
        "inode": found.st_ino,
        "modified": _moment(found.st_mtime_ns),
        "changed": _moment(found.st_ctime_ns),
        "accessed": _moment(found.st_atime_ns),
    }


def _moment(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="microseconds")


def _line(name: str, found: Stat) -> str:
    when = datetime.fromtimestamp(found.st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S")
    owner = f"{found.st_uid}:{found.st_gid}"
    return f"{stat.filemode(found.st_mode)} {owner:>11} {found.st_size:>14} {when} {name}"


async def _list(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    for path in arguments.paths:
        try:
            found = await store.stat(path)
            if len(arguments.paths) > 1 and found.is_directory and not arguments.json:
                print(f"{path}:")
            if not found.is_directory:
                _show(arguments, path, path, found)
                continue
            async for entry in store.scan(path):
                slash = "/" if entry.stat.is_directory else ""
                _show(arguments, entry.path, entry.name + slash, entry.stat)
        except OSError as error:
            report.failed(error)


def _show(arguments: argparse.Namespace, path: str, name: str, found: Stat) -> None:
    if arguments.json:
        print(json.dumps(_row(path, found)))
    else:
        print(_line(name, found) if arguments.long else name)


async def _stat(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    for path in arguments.paths:
        try:
            row = _row(path, await store.stat(path, follow=False))
        except OSError as error:
            report.failed(error)
            continue
        if arguments.json:
            print(json.dumps(row))
        else:
            print("\n".join(f"{name:>9}: {value}" for name, value in row.items()))


async def _usage(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    for path in arguments.paths:
        size = files = folders = 0
        seen: set[int] = set()
        try:
            if not (await store.stat(path)).is_directory:
                size, files = (await store.stat(path)).st_size, 1
            else:
                async for entry in store.walk(path):
                    folders += entry.stat.is_directory
                    if entry.stat.is_directory or entry.stat.st_ino in seen:
                        continue
                    if entry.stat.st_nlink > 1:
                        seen.add(entry.stat.st_ino)  # a file with several names counts once
                    files += 1
                    size += entry.stat.st_size
                    report.progress(f"{path}: {files:,} files, {human(size)}")
        except OSError as error:
            report.failed(error)
            continue
        report.clear()
        if arguments.json:
            row = {"path": path, "bytes": size, "files": files, "folders": folders}
            print(json.dumps(row))
        else:
            print(f"{human(size):>12}  {files:>10,} files  {folders:>8,} folders  {path}")


async def _find(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    now = time.time()
    seen = 0
    for path in arguments.paths:
        try:
            async for entry in store.walk(path):
                seen += 1
                report.progress(f"{seen:,} names looked at")
                if _matches(entry, arguments, now):
                    report.clear()
                    text = (
                        json.dumps(_row(entry.path, entry.stat)) if arguments.json else entry.path
                    )
                    print(text)
        except OSError as error:
            report.failed(error)


def _matches(entry: DirectoryEntry, arguments: argparse.Namespace, now: float) -> bool:
    found = entry.stat
    age = now - found.st_mtime
    return (
        (arguments.name is None or fnmatch.fnmatchcase(entry.name, arguments.name))
        and (arguments.type is None or _KINDS[arguments.type](found.st_mode))
        and (arguments.larger is None or found.st_size > arguments.larger)
        and (arguments.smaller is None or found.st_size < arguments.smaller)
        and (arguments.older is None or age > arguments.older)
        and (arguments.newer is None or age < arguments.newer)
    )


def _paths(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    count = "+" if default is None else "*"
    parser.add_argument(
        "paths", metavar="PATH", nargs=count, default=None if default is None else [default],
        help="/BUCKET/FOLDER/NAME",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document a line")


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    _paths(parser, default="/")
    parser.add_argument("-l", "--long", action="store_true", help="mode, owner, size and time too")


def _find_arguments(parser: argparse.ArgumentParser) -> None:
    _paths(parser, default="/")
    parser.add_argument("--name", metavar="GLOB", help="whose last name matches")
    parser.add_argument("--type", choices=sorted(_KINDS), help="files, folders or links alone")
    parser.add_argument("--larger", metavar="SIZE", type=parse_size, help="than 10, 10K, 10M, 10G")
    parser.add_argument("--smaller", metavar="SIZE", type=parse_size, help="than that")
    parser.add_argument("--older", metavar="AGE", type=parse_age, help="than 30s, 10m, 2h, 7d")
    parser.add_argument("--newer", metavar="AGE", type=parse_age, help="than that")


list_command = FileCommand("ls", "list folders of the store", _list, _list_arguments)
stat_command = FileCommand("stat", "what is known of files of the store", _stat, _paths)
usage_command = FileCommand("du", "how much is in folders of the store", _usage, _paths)
find_command = FileCommand("find", "files of the store by name, size, age", _find, _find_arguments)
