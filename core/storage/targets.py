"""DRIVER: the targets of one storage process: opened as the routing table says, closed when it
takes them away, and what the node's heartbeats say of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from pathlib import Path

from ..chunks.engine import FileChunkStore
from ..chunks.folder import HEADER_NAME
from ..clock import SystemClock
from ..cluster.messages import TargetReport
from ..cluster.records import ChainRecord, LocalState, PublicState, TargetRecord
from ..cluster.routing import Routing
from ..errors import CraqenError, DiskError, OperatorError
from ..ids import TargetId
from .node import StorageNode
from .peers import Peers
from .target import Target
from .upkeep import Upkeep

QUARANTINE_LEASES = 2.0  # a freed block rests for twice the lease that readers are given
ERROR_CHARACTERS_MAX = 500  # of a failure, in a heartbeat

_log = logging.getLogger("craqen.storage")


class Targets:
    """Those of one node. Touched between awaits only."""

    def __init__(
        self,
        node_id: int,
        node: StorageNode,
        executor: Executor,
        peers: Peers,
        location_lease_seconds: float,
    ) -> None:
        self._node_id = node_id
        self._node = node
        self._executor = executor
        self._peers = peers
        self._quarantine_seconds = QUARANTINE_LEASES * location_lease_seconds
        self._failed: dict[int, str] = {}
        """Why targets that the table gives this node are not open."""
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> Collection[Target]:
        """The targets that are open."""
        return self._node.targets

    def take(self, routing: Routing, opened: Callable[[Target], None]) -> None:
        """Open, tell and close targets as *routing* says; *opened* is told of each new one."""
        mine = {
            record.target_id: record
            for record in routing.table.targets
            if record.node_id == self._node_id
        }
        for target in list(self.open()):
            if target.target_id not in mine:
                self._close(target)
        for target_id in list(self._failed):
            if target_id not in mine:
                del self._failed[target_id]
        present = {target.target_id: target for target in self.open()}
        for record in mine.values():
            chain = routing.chain_of(record.target_id)
            if chain is None:
                continue
            target_open = present.get(record.target_id)
            if target_open is None:
                self._open(record, chain, routing.table.cluster_id, opened)
            elif chain.version > target_open.replica.chain.version:
                target_open.chain_changed(chain)

    def _open(
        self,
        record: TargetRecord,
        chain: ChainRecord,
        cluster_id: str,
        opened: Callable[[Target], None],
    ) -> None:
        folder = Path(record.folder)
        if record.target_id in self._failed:
            return  # a person has to look at it; then the process is started again
        try:
            if record.made and not (folder / HEADER_NAME).exists():
                raise DiskError(
                    f"{folder}: has no target {record.target_id} any more: mount its disk and "
                    f"start this node again, or replace the target"
                )
            store = FileChunkStore(
                folder,
                SystemClock(),
                quarantine_seconds=self._quarantine_seconds,
                target_id=TargetId(record.target_id),
                cluster_id=cluster_id,
            )
        except CraqenError as error:
            _log.error("target %d is not served: %s", record.target_id, error)
            self._failed[record.target_id] = str(error)[:ERROR_CHARACTERS_MAX]
            return
        for chunk_id in store.damaged():
            _log.error(
                "target %d: the index record of chunk %x.%d is damaged", record.target_id, *chunk_id
            )
        target = Target(
            record.target_id, chain, store, self._executor, self._node.rooms, self._peers
        )
        self._node.add(target)
        opened(target)

    def _close(self, target: Target) -> None:
        """The table has the target no more. Its folder is left to the operator."""
        _log.warning("target %d is no longer in the table: closed", target.target_id)
        self._node.remove(target)
        task = asyncio.create_task(_closed(target))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def check(self) -> None:
        """Raise OperatorError if there are targets and none could be opened."""
        if self._failed and not self._node.targets:
            raise OperatorError("; ".join(self._failed.values()))

    def reports(self, upkeep: Upkeep) -> tuple[TargetReport, ...]:
        """What a heartbeat says of all targets."""
        failed = (
            TargetReport(target_id, LocalState.OFFLINE, 0, error)
            for target_id, error in self._failed.items()
        )
        return (*(_report(target, upkeep) for target in self.open()), *failed)

    def tick(self) -> None:
        """Let blocks whose quarantine is over be used again."""
        for target in self.open():
            target.store.tick()

    def stop(self) -> None:
        """Take nothing more."""
        for target in self.open():
            target.stop()

    async def close(self) -> None:
        """Close all. Raises the first error, after all are closed."""
        await asyncio.gather(*self._closing)
        failures: list[CraqenError] = []
        for target in self.open():
            try:
                await target.close()
            except CraqenError as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _report(target: Target, upkeep: Upkeep) -> TargetReport:
    target_id, view = target.target_id, target.replica.view
    state, error = LocalState.ONLINE, ""
    if target.offline is not None:
        state, error = LocalState.OFFLINE, str(target.offline)[:ERROR_CHARACTERS_MAX]
    elif _holds_all(target):
        state = LocalState.UP_TO_DATE
    space = target.store.space()
    return TargetReport(
        target_id,
        state,
        view.chain.version,
        error,
        space.capacity_bytes,
        space.free_bytes,
        space.used_bytes,
        space.chunks,
        upkeep.damaged_chunks(target_id),
        upkeep.repaired_chunks(target_id),
        upkeep.scrubbed_wall_seconds(target_id),
        upkeep.resync(target_id),
    )


def _holds_all(target: Target) -> bool:
    """Whether the target has everything that its chain has, under the chain's present version."""
    chain = target.replica.chain
    state = next((one.state for one in chain.targets if one.target_id == target.target_id), None)
    if state is PublicState.SYNCING:
        return target.synced_chain_version == chain.version
    return state is PublicState.SERVING


async def _closed(target: Target) -> None:
    try:
        await target.close()
    except CraqenError as error:
        _log.error("target %d did not close well: %s", target.target_id, error)
