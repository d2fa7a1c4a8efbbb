"""``craqen manager``: owns the routing table, frees what nobody refers to."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets

import uvloop

from ..client.connect import connect
from ..client.reclaim import Reclaimer
from ..cluster.layout import local_table
from ..cluster.store import change_table
from ..kv.open import open_store
from ..options import Config
from .signals import stop_on_signals
from .supervision import tell_ready


class ManagerCommand:
    """Run the cluster manager."""

    name = "manager"
    help = "run the cluster manager (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """It has no arguments of its own."""

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        uvloop.run(_run(config))
        return 0


async def _run(config: Config) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await _ensure_table(config)
    client = await connect(config, "manager")
    reclaiming = asyncio.create_task(Reclaimer(client.meta, client.data).run())
    try:
        tell_ready("manager")
        await stop.wait()
    finally:
        reclaiming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reclaiming
        await client.close()


async def _ensure_table(config: Config) -> None:
    """Make the routing table at the first start; later hold the configured disks against it."""
    kv = open_store(config.kv_url, durability=config.kv.durability)
    cluster_id = secrets.token_hex(16)
    try:
        await change_table(
            kv,
            lambda table: local_table(
                table, cluster_id, config.storage.disks, config.storage.replicas
            ),
        )
    finally:
        await kv.close()


command = ManagerCommand()
