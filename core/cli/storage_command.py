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
    """Serve the targets of one node."""

    name = "storage"
    help = "run one storage process (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--disk",
            type=int,
            help="which of storage.disks, counted from 1; it is the node's number too "
            "(default: all disks, as node cluster.node_id)",
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        disks = config.storage.disks
        if arguments.disk is None and config.cluster.node_id:
            process = (config.cluster.node_id, tuple(disks))
        else:
            disk = 1 if arguments.disk is None else arguments.disk
            if not 1 <= disk <= len(disks):
                raise ConfigError(f"--disk {disk}: expected 1 to {len(disks)} (storage.disks)")
            process = (disk, (disks[disk - 1],))
        exempt_loaded()
        uvloop.run(_run(config, *process))
        return 0


async def _run(config: Config, node_id: int, disks: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await StorageProcess(config, node_id, disks).run(stop, tell_ready)


command = StorageCommand()
