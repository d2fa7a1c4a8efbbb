"""DRIVER: chunks that are not the same, or not whole, on all replicas of their chain: which one is
right, the repair where that can be told, and the commands for an operator where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ..cluster.routing import Routing
from ..ids import ChunkId
from ..wire.messages import ChunkSummary, Method, RepairChunkReply, RepairChunkRequest
from .inventory import Inventories

Facts = tuple[int, int, int]
"""(committed version, CRC, length) of a chunk on one target."""


def facts_of(summary: ChunkSummary | None) -> Facts | None:
    """What must be the same on every replica; None for a chunk that has no committed version."""
    if summary is None or summary.committed_version == 0:
        return None
    return summary.committed_version, summary.crc32c, summary.length_bytes


def right_target(now: Mapping[int, Facts | None]) -> int | None:
    """Pure: a target that has the content which counts; None: that cannot be told.

    A version is committed anywhere only when every replica has it on stable storage. So the highest
    one counts, and whoever has less has lost it since, unless two replicas differ in that version.
    """
    known = {target_id: facts for target_id, facts in now.items() if facts is not None}
    if not known:
        return None
    highest = max(known.values())
    if any(facts[0] == highest[0] and facts != highest for facts in known.values()):
        return None
    return next(target_id for target_id, facts in known.items() if facts == highest)


def refill_commands(routing: Routing, chain_id: int, target_id: int) -> str:
    """The commands that fill a target of a chain anew."""
    target = routing.target(target_id)
    if target is None:
        return f"`craqen admin target remove {target_id} --force`"
    disk = PurePosixPath(target.folder).parent
    return (
        f"`craqen admin target remove {target_id} --force`, then `craqen admin target add "
        f"{chain_id} {target.node_id} {disk}`"
    )


class Mender:
    """Asks targets to mend their chunks."""

    def __init__(self, inventories: Inventories) -> None:
        self._inventories = inventories

    async def mend_bytes(self, chain_id: int, target_id: int, chunk_id: ChunkId) -> str | None:
        """Let a target fetch a chunk whose bytes are damaged. Raises CraqenError."""
        summary = await self._inventories.one(target_id, chain_id, chunk_id)
        if summary is None or not summary.committed_version:
            return None
        if not await self._ask(chain_id, chunk_id, target_id, summary.committed_version):
            return None
        return f"target {target_id} fetched the very version from another replica, verified"

    async def mend_record(self, chain_id: int, target_id: int, chunk_id: ChunkId) -> str | None:
        """Let a target fetch a chunk whose index record is damaged. Raises CraqenError."""
        if not await self._ask(chain_id, chunk_id, target_id, 0):
            return None
        return f"target {target_id} fetched what the next replica has settled, verified"

    async def make_equal(self, chain_id: int, chunk_id: ChunkId, right_id: int) -> str | None:
        """Let all serving targets take what target *right_id* has. Raises CraqenError."""
        now = await self._inventories.everywhere(chain_id, chunk_id)
        wanted = facts_of(now.get(right_id))
        if wanted is None:
            return None
        mended = []
        for target_id, summary in now.items():
            facts = facts_of(summary)
            if facts == wanted:
                continue
            version = 0 if facts is None else facts[0]
            if await self._ask(chain_id, chunk_id, target_id, version, right_id, wanted):
                mended.append(target_id)
        if not mended:
            return None
        names = ", ".join(map(str, mended))
        return (
            f"version {wanted[0]} was copied, verified, from target {right_id} to target {names}: "
            f"it was acknowledged by all of them before"
        )

    async def _ask(
        self,
        chain_id: int,
        chunk_id: ChunkId,
        target_id: int,
        version: int,
        source_id: int = 0,
        wanted: Facts = (0, 0, 0),
    ) -> bool:
        chain = self._inventories.chain(chain_id)
        connection = await self._inventories.connection(target_id)
        wanted_version, crc, length = wanted
        request = RepairChunkRequest(
            chain_id,
            chain.version,
            *chunk_id,
            target_id,
            version,
            source_id,
            wanted_version,
            length,
            crc,
        )
        reply = await connection.call(Method.REPAIR_CHUNK, request, RepairChunkReply)
        return reply.repaired
