"""``craqen manager``: owns the routing table, frees what nobody refers to."""

from __future__ import annotations

import argparse
import asyncio

import uvloop

from ..client.connect import connect
from ..client.reclaim import Reclaimer
from ..errors import ConfigError
from ..kv.store import KeyValueStore
from ..manager.process import ManagerProcess
from ..options import Config
from .signals import stop_on_signals
from .supervision import tell_ready


class ManagerCommand:
    """Run a cluster manager."""

    name = "manager"
    help = "run a cluster manager (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """It has no arguments of its own."""

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        number, managers = config.cluster.manager_number, len(config.manager_addresses)
        if number > managers:
            raise ConfigError(
                f"cluster.manager_number is {number}, but cluster.managers names {managers}"
            )
        uvloop.run(_run(config, number))
        return 0


async def _run(config: Config, number: int) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)

    async def reclaim(kv: KeyValueStore) -> None:
        """What only the primary does besides the table: free what nobody refers to."""
        client = await connect(config, "manager", kv=kv)
        try:
            await Reclaimer(client.meta, client.data).run()
        finally:
            await client.close()

    await ManagerProcess(config, number, reclaim).run(stop, tell_ready)


command = ManagerCommand()
