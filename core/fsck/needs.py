"""DRIVER: are the chunks there that files need?

Only what was written whole before it was made known (dense extents: S3 uploads) must be there to
its last byte. In a segment written in place a missing or short chunk is a hole, by the rules of the
schema; the loss of such a chunk on one replica shows where replicas are compared.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

from ..cluster.records import ChainRecord
from ..errors import CraqenError, UnavailableError
from ..ids import ChunkId
from ..kv.store import ReadTransaction
from ..meta.records import Extent
from ..meta.schema import session_range
from .chains import facts_of
from .damage import Damage
from .findings import Finding
from .holders import Held, Holder, read_holder
from .inventory import Cursor, Inventories
from .scan import Check

BATCH_CHUNKS = 20_000  # some 10 MB while they wait
CONFIRM_DELAYS_SECONDS = (0.05, 0.3, 1.0)
CHUNKS_NAMED_MAX = 8


class Need(NamedTuple):
    """A chunk that a holder cannot do without."""

    chunk_id: ChunkId
    length_bytes: int
    """At least so long."""
    holder: Holder


class NeedCheck:
    """Gathers what files need, and looks for it in the inventories a batch at a time."""

    def __init__(self, check: Check, inventories: Inventories, damage: Damage) -> None:
        self._check = check
        self._inventories = inventories
        self._damage = damage
        self._waiting: defaultdict[int, list[Need]] = defaultdict(list)
        self._count = 0
        self._missing: dict[tuple[str, Holder], tuple[Finding, int]] = {}

    async def take(self, held: Held) -> None:
        """Look for everything that *held* needs, sooner or later; name it for damage found."""
        for extent in held.extents:
            size = extent.layout.chunk_size_bytes
            first = extent.segment_offset // size
            last = (extent.segment_offset + extent.length_bytes - 1) // size
            for finding in self._damage.of(extent.segment_id, first, last):
                self._own(finding, held.holder)
            if extent.dense:
                await self._need(held.holder, extent, first, last)

    def _own(self, finding: Finding, holder: Holder) -> None:
        if holder.inode_id:
            finding.owners.add(holder.inode_id)
        elif len(finding.files) < CHUNKS_NAMED_MAX:
            finding.files.append(holder.describe())

    async def _need(self, holder: Holder, extent: Extent, first: int, last: int) -> None:
        layout = extent.layout
        end = extent.segment_offset + extent.length_bytes
        for index in range(first, last + 1):
            try:
                chain = self._check.routing.routing.chain_for(
                    layout.table_id, layout.stripe_seed, index
                )
            except UnavailableError as error:
                self._check.findings.note_incomplete(f"{holder.describe()}: {error}")
                return
            start = index * layout.chunk_size_bytes
            need = Need(
                ChunkId(extent.segment_id, index),
                min(layout.chunk_size_bytes, end - start),
                holder,
            )
            self._waiting[chain.chain_id].append(need)
            self._count += 1
            if self._count >= BATCH_CHUNKS:
                await self.flush()

    async def flush(self) -> None:
        """Look for all that waits."""
        waiting, self._waiting, self._count = self._waiting, defaultdict(list), 0
        for chain_id, needs in waiting.items():
            needs.sort(key=lambda need: need.chunk_id)
            cursor = Cursor(self._inventories, chain_id)
            try:
                for need in needs:
                    found = facts_of(await cursor.find(need.chunk_id))
                    if found is None or found[2] < need.length_bytes:
                        await self._confirm(chain_id, need)
            except CraqenError as error:
                self._check.findings.note_incomplete(
                    f"chain {chain_id}: whether it has what files need is not known: {error}"
                )
            self._check.progress.advance(len(needs))

    async def _confirm(self, chain_id: int, need: Need) -> None:
        """Report the chunk if no replica has it, and the holder still needs it after that."""
        longest = -1
        for delay in CONFIRM_DELAYS_SECONDS:
            replicas = await self._inventories.retried(
                lambda: self._inventories.everywhere(chain_id, need.chunk_id)
            )
            facts = [facts_of(one) for one in replicas.values()]
            longest = max((one[2] for one in facts if one is not None), default=-1)
            if longest >= need.length_bytes:
                return  # a replica that lacks it is told of where replicas are compared
            if not await self._check.kv.read(lambda tx: _still_needs(tx, need)):
                return
            if not any(one is not None and one.pending_version for one in replicas.values()):
                break
            await asyncio.sleep(delay)
        self._tell(self._inventories.chain(chain_id), need, longest)

    def _tell(self, chain: ChainRecord, need: Need, longest: int) -> None:
        kind = "chunk-missing" if longest < 0 else "chunk-short"
        name = f"{need.chunk_id.segment_id:x}.{need.chunk_id.index}"
        known = self._missing.get((kind, need.holder))
        if known is not None:
            finding, count = known
            self._missing[kind, need.holder] = finding, count + 1
            if count < CHUNKS_NAMED_MAX:
                finding.text += f", {name}"
            elif count == CHUNKS_NAMED_MAX:
                finding.text += ", and more"
            return
        what = "no replica has" if longest < 0 else f"only {longest} bytes are left of"
        away = [one.target_id for one in chain.targets]
        finding = Finding(
            kind,
            need.holder.describe(),
            f"{what} chunk {name} (chain {chain.chain_id}, targets "
            f"{', '.join(map(str, away))}), which it needs {need.length_bytes} bytes of",
            "if a target of the chain is out of service, bring it back before anything else; "
            "else restore the file from a backup, or remove it",
        )
        self._own(finding, need.holder)
        self._missing[kind, need.holder] = self._check.findings.add(finding), 1


async def _still_needs(tx: ReadTransaction, need: Need) -> bool:
    held = await read_holder(tx, need.holder)
    if held.inode is not None and not held.inode.lives:
        sessions = await tx.get_range(*session_range(held.inode.inode_id), limit=1)
        if not sessions:
            return False  # it is being removed, and nobody can read it any more
    for extent in held.extents:
        if extent.dense and extent.segment_id == need.chunk_id.segment_id:
            size = extent.layout.chunk_size_bytes
            end = extent.segment_offset + extent.length_bytes
            start = need.chunk_id.index * size
            if extent.segment_offset < start + size and min(size, end - start) >= need.length_bytes:
                return True
    return False
