"""``craqen keeper``: work in the background, of which several processes take their parts."""

from __future__ import annotations

import argparse
import asyncio

import uvloop

from ..collector import exempt_loaded
from ..errors import ConfigError
from ..keeper.process import run_keeper
from ..options import Config
from .signals import stop_on_signals
from .supervision import tell_ready

KEEPERS_MAX = 16  # on one host


class KeeperCommand:
    """Run one keeper."""

    name = "keeper"
    help = "run one keeper: work in the background (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--number", type=int, default=1, help="which of this host's keepers (default: 1)"
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        if not 1 <= arguments.number <= KEEPERS_MAX:
            raise ConfigError(f"--number {arguments.number}: expected 1 to {KEEPERS_MAX}")
        exempt_loaded()
        return uvloop.run(_run(config, arguments.number))


async def _run(config: Config, number: int) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop)
    return await run_keeper(config, number, stop, tell_ready)


command = KeeperCommand()
