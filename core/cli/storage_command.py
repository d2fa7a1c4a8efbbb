"""``craqen storage``: one storage process."""

from __future__ import annotations

import argparse
import asyncio

import uvloop

from ..collector import exempt_loaded
from ..errors import ConfigError
from ..options import Config
from ..storage.process import StorageProcess
from .signals import stop_on_signals
from .supervision import tell_ready


class StorageCommand:
    """Serve the targets of one disk."""

    name = "storage"
    help = "run one storage process (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--disk", type=int, default=1, help="which of storage.disks, counted from 1"
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        disks = len(config.storage.disks)
        if not 1 <= arguments.disk <= disks:
            raise ConfigError(f"--disk {arguments.disk}: expected 1 to {disks} (storage.disks)")
        exempt_loaded()
        uvloop.run(_run(config, arguments.disk))
        return 0


async def _run(config: Config, disk: int) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await StorageProcess(config, disk).run(stop, tell_ready)


command = StorageCommand()
