"""``craqen mount``: the store as a file system, in the foreground or in the background."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from ..core.errors import MissingDependencyError
from ..core.options import Config

_INSTALL = (
    "install libfuse 3 (Debian, Ubuntu: apt install fuse3 libfuse3-dev pkg-config build-essential) "
    "and then the extra: pip install craqen[mount]"
)


class MountCommand:
    """Mount the store until SIGINT, SIGTERM or an unmount."""

    name = "mount"
    help = "mount the store as a file system"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("mount_point", metavar="MOUNTPOINT", help="an existing folder")
        parser.add_argument(
            "--path", metavar="BUCKET[/FOLDER]", help="what to show as the root (mount.path)"
        )
        parser.add_argument(
            "--read-only", action="store_true", help="refuse every change (mount.read_only)"
        )
        parser.add_argument(
            "--background",
            action="store_true",
            help="return once it serves; it is started again if it dies",
        )
        parser.add_argument(
            "--log",
            metavar="FILE",
            help="of a mount in the background (default: in the run folder)",
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        """Serve; return 0 once unmounted. Raises MissingDependencyError, and what mounting does."""
        try:
            import pyfuse3  # noqa: F401  # here, so that only this command needs it
        except ImportError as error:
            raise MissingDependencyError(f"the mount needs pyfuse3: {error}; {_INSTALL}") from error
        import uvloop

        options = replace(
            config.mount,
            path=config.mount.path if arguments.path is None else arguments.path,
            read_only=config.mount.read_only or arguments.read_only,
        )
        mount_point = os.path.abspath(arguments.mount_point)
        if arguments.background:
            return _in_background(arguments, mount_point, config)
        uvloop.run(_serve(mount_point, replace(config, mount=options)))
        return 0


def _in_background(arguments: argparse.Namespace, mount_point: str, config: Config) -> int:
    from .background import log_path, start

    words = ["mount", mount_point]
    words += ["--config", arguments.config] if arguments.config else []
    words += ["--path", arguments.path] if arguments.path is not None else []
    words += ["--read-only"] if arguments.read_only else []
    log = Path(arguments.log) if arguments.log else log_path(config.run_folder, mount_point)
    code = start(words, log)
    if code == 0:
        print(f"mounted at {mount_point}; log: {log}; unmount: fusermount3 -u {mount_point}")
    return code


async def _serve(mount_point: str, config: Config) -> None:
    from ..core.cli.signals import stop_on_signals
    from ..core.cli.supervision import tell_ready
    from ..core.client.connect import connect
    from .mount import Mount

    stop = asyncio.Event()
    stop_on_signals(stop)
    client = await connect(config, f"mount {mount_point}")
    try:
        mount = Mount(
            client.meta,
            client.data,
            mount_point,
            config.mount,
            feed_retention_seconds=config.meta.feed_retention_seconds,
            lease_lost=lambda: client.lease_lost,
            sealed=client.sealed,
        )
        await mount.run(stop, tell_ready)
    finally:
        await client.close()


command = MountCommand()

if __name__ == "__main__":
    from ..core.cli.main import main

    raise SystemExit(main(["mount", *sys.argv[1:]]))
