"""What a storage node shows to Prometheus: resync, repairs, scrubs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from craqen.core.ids import ChunkId
from craqen.core.metrics import render
from craqen.core.storage.measures import measures
from craqen.tests.core.storage.small_chain import (
    OFFLINE,
    SERVING,
    SYNCING,
    SmallChain,
    small_chain,
    until,
)


def told(chain: SmallChain, number: int, refused: int = 0) -> dict[str, float]:
    """Values by name and labels."""
    node = chain.nodes[number]
    text = render(measures(number, node.node.targets, node.upkeep, refused))
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_what_recovery_does_is_counted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            await chain.stop(2)
            chain.table((1, SERVING), (2, OFFLINE))
            for index in range(3):
                await chain.put(ChunkId(1, index), bytes([index]) * 1000)
            chain.nodes[1].upkeep.resync_throttle.mebibytes_per_second = 0.1
            await chain.start(2)
            chain.table((1, SERVING), (2, SYNCING))
            running = 'craqen_resync_bytes_to_send{node="1",target="1",chain="7",successor="2"}'
            await until(lambda: told(chain, 1).get(running) == 3000)
            await until(lambda: told(chain, 1)['craqen_resyncs_completed_total{node="1"}'] == 1)
            chain.table((1, SERVING), (2, SERVING))
            now = told(chain, 1, refused=4)
            assert now['craqen_resync_sent_bytes_total{node="1"}'] == 3000
            assert now['craqen_refused_total{node="1"}'] == 4
            assert not any(name.startswith("craqen_resync_seconds_left") for name in now)
            one = '{node="2",target="2",chain="7"}'
            assert told(chain, 2)[f"craqen_target_chunks{one}"] == 3
            chain.damage(2, b"\2" * 1000)
            node = chain.nodes[2]
            node.upkeep.scrub_throttle.mebibytes_per_second = 1000.0
            await node.upkeep.scrubber.scrub(node.target)
            await until(lambda: told(chain, 2)[f"craqen_repaired_chunks_total{one}"] == 1)
            now = told(chain, 2)
            assert now[f"craqen_scrubbed_bytes_total{one}"] == 2000
            assert now[f"craqen_scrub_damaged_total{one}"] == 1
            assert now[f"craqen_scrub_passes_total{one}"] == 1
            assert now[f"craqen_target_serving{one}"] == 1

    asyncio.run(scene())
