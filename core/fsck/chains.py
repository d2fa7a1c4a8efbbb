"""DRIVER: do the replicas of each chain hold the same? And, if asked, is every byte as written?

The inventories of all serving targets are walked side by side. A chunk that differs may just be
being written: it is asked for again until it agrees, or stands still and differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from ..cluster.records import ChainRecord, PublicState
from ..errors import CraqenError
from ..ids import ChunkId
from ..wire.messages import ChunkSummary
from .damage import Damage
from .data import DataVerifier
from .findings import Finding
from .inventory import LAST_CHUNK, Inventories, after, id_of, name_of
from .mending import Facts, Mender, refill_commands, right_target
from .mending import facts_of as facts_of
from .orphans import Orphans
from .scan import Check

RECHECK_DELAYS_SECONDS = (0.02, 0.1, 0.3, 0.5, 1.0, 2.0)
STILL_ROUNDS = 3  # a difference that is the same in so many looks in a row is no write under way
RECHECKS_AT_ONCE = 16

Replicas = Mapping[int, ChunkSummary | None]


def differing(
    replicas: Sequence[Mapping[ChunkId, ChunkSummary]], damaged: Collection[ChunkId] = ()
) -> list[ChunkId]:
    """Pure: the chunks that are not the same in all of *replicas*, in order, but for those whose
    record is known to be *damaged* on one."""
    if len(replicas) < 2:
        return []
    every = set().union(*replicas)
    return sorted(
        chunk_id
        for chunk_id in every
        if chunk_id not in damaged
        and len({facts_of(replica.get(chunk_id)) for replica in replicas}) > 1
    )


class ChainCheck:
    """Walks all chains."""

    def __init__(self, check: Check, inventories: Inventories, orphans: Orphans) -> None:
        self._check = check
        self._inventories = inventories
        self._orphans = orphans
        self._mender = Mender(inventories)
        self._verifier = DataVerifier(check, inventories, self._mender)
        self.damage = Damage()

    async def run(self) -> None:
        """Check every chain; what cannot be reached is noted, and the others are still checked."""
        self._check.progress.stage("chunks of the chains")
        for chain in self._check.routing.routing.chains():
            self._tell_states(chain)
            start = ChunkId(0, 0)
            while start != LAST_CHUNK:
                try:
                    start = await self._inventories.retried(
                        partial(self._page, chain.chain_id, start)
                    )
                except CraqenError as error:
                    self._check.findings.note_incomplete(
                        f"chain {chain.chain_id}: its chunks from {start.segment_id:x}."
                        f"{start.index} on could not be checked: {error}"
                    )
                    break

    def _tell_states(self, chain: ChainRecord) -> None:
        away = [one for one in chain.targets if one.state != PublicState.SERVING]
        for one in away:
            self._check.findings.note_unsettled(
                f"chain {chain.chain_id}: target {one.target_id} is {one.state.name}; what it "
                f"holds was not compared"
            )

    async def _page(self, chain_id: int, start: ChunkId) -> ChunkId:
        """Compare one page; return where the next begins (LAST_CHUNK: there is none)."""
        chain = self._inventories.chain(chain_id)
        targets = self._inventories.serving(chain)
        found = await asyncio.gather(
            *(self._inventories.page(target_id, chain_id, start) for target_id in targets)
        )
        last = min(page.last for page in found)
        replicas = [
            {id_of(chunk): chunk for chunk in page.chunks if id_of(chunk) <= last} for page in found
        ]
        limit = asyncio.Semaphore(RECHECKS_AT_ONCE)

        async def recheck(chunk_id: ChunkId) -> None:
            async with limit:
                await self._recheck(chain_id, chunk_id)

        damaged: set[ChunkId] = set()
        for target_id, page in zip(targets, found, strict=True):
            for chunk_id in page.damaged:
                if chunk_id <= last:
                    damaged.add(chunk_id)
                    self._tell_damaged(chain_id, target_id, chunk_id)
        await asyncio.gather(*(recheck(chunk_id) for chunk_id in differing(replicas, damaged)))
        every: dict[ChunkId, ChunkSummary] = {}
        for replica in reversed(replicas):
            every.update(replica)
        await self._orphans.look_at(chain_id, every)
        if self._check.verify_data:
            for target_id, replica in zip(targets, replicas, strict=True):
                await self._verifier.verify(chain_id, target_id, replica.values(), self.damage)
        self._check.progress.advance(len(every))
        return last if last == LAST_CHUNK else after(last)

    async def _recheck(self, chain_id: int, chunk_id: ChunkId) -> None:
        """Ask until the replicas agree, or differ without anything moving."""
        before: list[tuple[int, Facts | None]] = []
        still = 0
        for delay in RECHECK_DELAYS_SECONDS:
            await asyncio.sleep(delay)
            replicas = await self._inventories.everywhere(chain_id, chunk_id)
            if len({facts_of(one) for one in replicas.values()}) == 1:
                return
            now = [(target_id, facts_of(one)) for target_id, one in replicas.items()]
            under_way = any(one is not None and one.pending_version for one in replicas.values())
            if under_way:
                still = 0
            else:
                still = still + 1 if now == before else 1
            before = now
            if still == STILL_ROUNDS:
                break
        else:
            self._check.findings.note_unsettled(
                f"chunk {name_of(chunk_id)} on chain {chain_id}: a write is "
                f"under way all the time; its replicas could not be compared"
            )
            return
        right_id = right_target(dict(now))
        if right_id is None:
            right_id = await self._only_whole(chain_id, replicas)
        self.damage.add(
            chunk_id, self._check.findings.add(self._difference(chain_id, chunk_id, now, right_id))
        )

    async def _only_whole(self, chain_id: int, replicas: Replicas) -> int | None:
        """Replicas differ in the same version: one of them, if all others' bytes are damaged."""
        whole: dict[Facts, int] = {}
        for target_id, summary in replicas.items():
            facts = facts_of(summary)
            if summary is None or facts is None:
                continue
            if await self._verifier.is_whole(chain_id, target_id, summary):
                whole[facts] = target_id
        return next(iter(whole.values())) if len(whole) == 1 else None

    def _difference(
        self,
        chain_id: int,
        chunk_id: ChunkId,
        now: Sequence[tuple[int, Facts | None]],
        right_id: int | None,
    ) -> Finding:
        parts = []
        for target_id, facts in now:
            if facts is None:
                told = "does not have it"
            else:
                told = f"has version {facts[0]}, {facts[2]} bytes, checksum {facts[1]:08x}"
            parts.append(f"target {target_id} {told}")
        finding = Finding(
            "replicas-differ",
            f"chunk {name_of(chunk_id)} on chain {chain_id}",
            "; ".join(parts),
            "read the named files before anything else: which target is right cannot be told from "
            f"here (`craqen admin chunk query {name_of(chunk_id)}`). Fill the others anew: "
            + "; ".join(self._refill(chain_id, target_id) for target_id, _ in now),
        )
        if right_id is not None:
            finding.repair = partial(self._mender.make_equal, chain_id, chunk_id, right_id)
            finding.advice = f"run with --repair: it copies what target {right_id} has"
        return finding

    def _tell_damaged(self, chain_id: int, target_id: int, chunk_id: ChunkId) -> None:
        finding = Finding(
            "chunk-record-damaged",
            f"chunk {name_of(chunk_id)} on target {target_id}",
            f"chain {chain_id}: its index record is damaged there, or its content is lost",
            "run with --repair: it is fetched from another replica if one has it; else restore the "
            "named files, or remove them",
            partial(self._mender.mend_record, chain_id, target_id, chunk_id),
        )
        self.damage.add(chunk_id, self._check.findings.add(finding))

    def _refill(self, chain_id: int, target_id: int) -> str:
        return refill_commands(self._check.routing.routing, chain_id, target_id)
