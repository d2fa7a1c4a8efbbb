"""DRIVER: everything a process needs to use a store: namespace, data, and the lease that keeps both
alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

from ..clock import SystemClock
from ..cluster.host import host_identity
from ..cluster.store import KvRouting
from ..crypt.open_keys import open_keys
from ..crypt.port import KeyKeeper
from ..errors import CraqenError, StaleHandleError
from ..kv.open import open_store
from ..kv.store import KeyValueStore
from ..meta.local import LocalMetaStore
from ..options import Config
from .connections import NodeConnections
from .data import ClusterDataStore
from .file_keys import FileKeys
from .routes import Routes
from .sealed_files import SealedFiles

THREADS = 12
"""Hashing, large reads and writes: all of them release the interpreter lock, and those that wait
for a disk leave the cores to the others."""
RENEWALS_PER_LEASE = 4

_log = logging.getLogger("craqen.client")


class Client:
    """A connected process. Make it with ``connect``; close it when done."""

    def __init__(
        self,
        kv: KeyValueStore,
        meta: LocalMetaStore,
        data: ClusterDataStore,
        routing: KvRouting,
        connections: NodeConnections,
        executor: ThreadPoolExecutor,
        keys: KeyKeeper,
        renewal: asyncio.Task[None],
        *,
        owns_kv: bool,
    ) -> None:
        self.kv = kv
        self.meta = meta
        self.data = data
        self.routing = routing
        self.connections = connections
        self.executor = executor
        self.keys = keys
        self.sealed = SealedFiles(meta, data, executor, FileKeys(meta, keys))
        self._renewal = renewal
        self._owns_kv = owns_kv

    @property
    def lease_lost(self) -> bool:
        """Whether this process was declared dead: what it wrote but did not commit may be gone. It
        must end."""
        return self._renewal.done()

    async def close(self) -> None:
        """End the lease and all connections."""
        self._renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError, CraqenError):
            await self._renewal
        await self.data.close()
        await self.keys.close()
        await self.routing.close()
        with contextlib.suppress(CraqenError):
            await self.meta.close()
        if self._owns_kv:
            await self.kv.close()
        self.executor.shutdown(wait=False)


async def connect(config: Config, description: str, *, kv: KeyValueStore | None = None) -> Client:
    """Connect to the store of *config*; *description* names the process in the list of clients.
    *kv*: the metadata store if this process has it open already; it stays the caller's.

    Raises OperatorError, UnavailableError.
    """
    owns_kv = kv is None
    kv = kv or open_store(
        config.kv_url,
        durability=config.kv.durability,
        flush_interval_seconds=config.kv.flush_interval_milliseconds / 1000,
    )
    clock = SystemClock()
    try:
        routing = KvRouting(kv)
        await routing.start()
        meta = await LocalMetaStore.open(kv, clock, config.meta, description=description)
    except BaseException:
        if owns_kv:
            await kv.close()
        raise
    connections = NodeConnections(
        client_id=meta.client_id,
        cluster_id=routing.routing.table.cluster_id,
        host=host_identity(),
        secret=config.cluster_secret,
    )
    routing.listen(connections.table_changed)
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="client-io")
    routes = Routes(routing, connections)
    data = ClusterDataStore(routes, connections, clock, executor, meta.client_id)
    keys = open_keys(config, clock)
    renewal = asyncio.create_task(_renew(meta, config.meta.client_lease_seconds))
    return Client(kv, meta, data, routing, connections, executor, keys, renewal, owns_kv=owns_kv)


async def _renew(meta: LocalMetaStore, lease_seconds: float) -> None:
    """Renew the lease until it is lost; passing failures are tried again."""
    while True:
        await asyncio.sleep(lease_seconds / RENEWALS_PER_LEASE)
        try:
            await meta.renew_client()
        except StaleHandleError as error:
            _log.error("%s", error)
            return
        except CraqenError as error:
            _log.warning("the client lease was not renewed: %s", error)
