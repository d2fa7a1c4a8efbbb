"""``craqen restore``: brings back what file calls removed, from the trash of a bucket."""

from __future__ import annotations

import argparse
import errno
import os

from ...core.meta.trash_names import FOLDER, path_of
from ..async_store import AsyncStore
from ..paths import split
from .base import FileCommand, Report


async def _restore(store: AsyncStore, arguments: argparse.Namespace, report: Report) -> None:
    for path in arguments.paths:
        try:
            await _restore_one(store, path)
        except OSError as error:
            report.failed(error)


async def _restore_one(store: AsyncStore, path: str) -> None:
    """Raises OSError."""
    bucket, *names = split(path)
    found = path_of(b"/".join(names))
    if found is None:
        where = f"/{os.fsdecode(bucket)}/{os.fsdecode(FOLDER)}"
        raise OSError(errno.EINVAL, f"not in a trash: expected {where}/HOUR/NAME", path)
    target = os.fsdecode(b"/" + bucket + b"/" + found[1])
    above = os.path.dirname(target)
    if above.count("/") > 1:
        await store.make_directory(above, parents=True, exist_ok=True)
    await store.rename(path, target, no_replace=True)
    print(target)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="/BUCKET/.trash/HOUR/NAME, a file or a folder; craqen find shows what there is",
    )


restore_command = FileCommand(
    "restore", "bring back what was removed, from the trash of a bucket", _restore, _arguments
)
