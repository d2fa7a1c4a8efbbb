"""DRIVER: one keeper process: the duties over one connection to the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..client.connect import Client, connect
from ..clock import SystemClock
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction
from ..meta.schema import CLIENT_PREFIX, decode_client
from ..metrics import MetricsServer, listening_place
from ..options import Config
from .duties import all_duties
from .keeper import Keeper

DESCRIPTION = "keeper"
"""In the list of clients; all keepers have the same."""
LEASE_CHECK_SECONDS = 1.0
DUTY_LEASES = 4.0
"""Leases of duties by ``cluster.lease_seconds``: each renewal is a durable commit, and what nobody
waits for may rest that long when a host is lost. A process of this host is followed at once."""

_log = logging.getLogger("craqen.keeper")


async def run_keeper(
    config: Config, number: int, stop: asyncio.Event, ready: Callable[[str], None]
) -> int:
    """Work until *stop* is set; return the exit code. *number*, from 1: keepers of one host differ
    in it.

    Raises OperatorError, ConfigError, UnavailableError when it cannot start.
    """
    client = await connect(config, DESCRIPTION)
    try:
        keeper = Keeper(
            client.kv,
            all_duties(client, config),
            SystemClock(),
            config.cluster.lease_seconds * DUTY_LEASES,
            lambda: _count_keepers(client),
        )
        metrics = MetricsServer(keeper.measures)
        if config.metrics.listen:
            await metrics.start(*listening_place(config.metrics.listen, -number))
        working = asyncio.create_task(keeper.run())
        try:
            ready("")
            return await _until_stopped(stop, client, working)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await metrics.close()
    finally:
        await client.close()


async def _count_keepers(client: Client) -> int:
    async def count(tx: ReadTransaction) -> int:
        rows = await tx.get_range(CLIENT_PREFIX, prefix_end(CLIENT_PREFIX))
        clients = [decode_client(value) for _, value in rows]
        return sum(one.description == DESCRIPTION and not one.declared_dead for one in clients)

    return await client.kv.read(count)


async def _until_stopped(stop: asyncio.Event, client: Client, working: asyncio.Task[None]) -> int:
    """Wait for a signal. A keeper that was declared dead ends by itself, to be started afresh."""
    while not stop.is_set():
        if working.done():
            working.result()
        if client.lease_lost:
            _log.error("this keeper's client lease ran out: it ends, and begins anew")
            return 1
        try:
            async with asyncio.timeout(LEASE_CHECK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    return 0
