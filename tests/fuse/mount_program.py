"""A mount on an embedded namespace and a folder of segments, as a process of its own.

Run as ``python mount_program.py FOLDER MOUNTPOINT [PATH] [ro]``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from craqen.core.cli.signals import stop_on_signals
from craqen.core.cli.supervision import tell_ready
from craqen.core.clock import SystemClock
from craqen.core.errors import CraqenError
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.meta.local import LocalMetaStore
from craqen.core.options import MetaOptions, MountOptions
from craqen.fuse.mount import Mount
from craqen.tests.support.folder_data import FolderDataStore


async def serve(folder: Path, mount_point: str, path: str, read_only: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    kv = EmbeddedStore(folder / "kv", map_bytes=1 << 30)
    (folder / "data").mkdir(exist_ok=True)
    data = FolderDataStore(folder / "data")
    options = MetaOptions()
    meta = await LocalMetaStore.open(kv, SystemClock(), options, description="mount")
    try:
        mount = Mount(
            meta,
            data,
            mount_point,
            MountOptions(path=path, read_only=read_only),
            feed_retention_seconds=options.feed_retention_seconds,
            lease_lost=lambda: False,
        )
        await mount.run(stop, tell_ready)
    finally:
        await meta.close()
        await data.close()
        await kv.close()


def main() -> int:
    folder, mount_point, *rest = sys.argv[1:]
    try:
        uvloop.run(serve(Path(folder), mount_point, rest[0] if rest else "", "ro" in rest[1:]))
    except CraqenError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
