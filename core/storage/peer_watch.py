"""DRIVER: runs the machine of ``silence`` over this node's connections to others: probes who owes a
sign of life, ends the calls to who is silent, and has the manager told at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Final

from ..errors import CraqenError
from .peers import Peers
from .silence import SILENT_LEASES

TICKS_PER_LEASE: Final = 16
PROBE_TIMEOUT_LEASES: Final = SILENT_LEASES

_log = logging.getLogger("craqen.storage")


class PeerWatch:
    """Of one process."""

    def __init__(
        self, peers: Peers, lease_seconds: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        """*changed* is called when another set of nodes is silent."""
        self._peers = peers
        self._lease_seconds = lease_seconds
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: tuple[int, ...] = ()

    def start(self) -> None:
        """Begin."""
        self._spawn(self._watch())

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        silence = self._peers.silence
        while True:
            lease_seconds = self._lease_seconds()
            for node_id in silence.tick(lease_seconds, time.monotonic()):
                self._spawn(self._probe(node_id, lease_seconds * PROBE_TIMEOUT_LEASES))
            if silence.silent != self._told:
                self._tell(silence.silent)
            await asyncio.sleep(lease_seconds / TICKS_PER_LEASE)

    async def _probe(self, node_id: int, timeout_seconds: float) -> None:
        try:
            await self._peers.probe(node_id, timeout_seconds)
        except CraqenError:
            return
        self._peers.silence.heard(node_id, time.monotonic())

    def _tell(self, silent: tuple[int, ...]) -> None:
        for node_id in set(silent).difference(self._told):
            _log.warning("storage node %d does not answer: the manager is told", node_id)
            self._peers.let_go(node_id)
        for node_id in set(self._told).difference(silent):
            _log.info("storage node %d answers again", node_id)
        self._told = silent
        self._changed()
