"""A chain that moves from one disk of a node to another: two targets of it on one node."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import cast

import pytest

from craqen.core.chunks.store import Block, ChunkStore
from craqen.core.errors import InvalidArgumentError, UnavailableError
from craqen.core.ids import ChunkId
from craqen.core.storage.reservations import Reservations
from craqen.tests.core.storage.small_chain import SERVING, SYNCING, SmallChain, small_chain, until

CHUNKS = [ChunkId(1, index) for index in range(20)]


async def write_all(chain: SmallChain, seed: int) -> dict[ChunkId, bytes]:
    chooser = random.Random(seed)
    model = {chunk_id: chooser.randbytes(chooser.randrange(1, 50_000)) for chunk_id in CHUNKS}
    for chunk_id, data in model.items():
        await chain.put(chunk_id, data)
    return model


def synced(chain: SmallChain, target_id: int) -> bool:
    target = chain.target(target_id)
    return target is not None and target.synced_chain_version == chain.record.version


async def move(chain: SmallChain, others: list[int], moved: int, new: int) -> dict[ChunkId, bytes]:
    """Move *moved* to *new* on the same node while clients write; what must be there after it."""
    rest = [(one, SERVING) for one in others]
    chain.homes[new] = chain.homes[moved]
    chain.table((moved, SERVING), *rest, (new, SYNCING))
    chain.nodes[chain.homes[new]].open_another(new)
    model = await write_all(chain, 2)
    await until(lambda: synced(chain, new))
    chain.table((moved, SERVING), *rest, (new, SERVING))
    model[CHUNKS[0]] = b"while both serve"
    await chain.put(CHUNKS[0], model[CHUNKS[0]])
    chain.table(*rest, (new, SERVING))
    model[CHUNKS[1]] = b"after the move"
    await chain.put(CHUNKS[1], model[CHUNKS[1]])
    return model


def test_a_chain_moves_to_another_disk_of_its_node_under_writes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 2) as chain:
            await write_all(chain, 1)
            model = await move(chain, [2], 1, 3)
            for chunk_id, data in model.items():
                assert await chain.read(1, chunk_id, 100_000) == data
                assert await chain.read(2, chunk_id, 100_000) == data
            assert chain.contents(2) == chain.contents(3)

    asyncio.run(scene())


def test_the_only_replica_moves_to_another_disk_beside_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small_chain(tmp_path, 1) as chain:
            await write_all(chain, 1)
            model = await move(chain, [], 1, 2)
            for chunk_id, data in model.items():
                assert await chain.read(1, chunk_id, 100_000) == data

    asyncio.run(scene())


def test_a_block_that_was_reserved_at_the_former_head_is_asked_for_anew() -> None:
    former, present = (cast(ChunkStore, object()) for _ in range(2))
    reservations = Reservations()
    number = reservations.add(1, former, Block(1, 0, 4096))
    with pytest.raises(UnavailableError, match="another one"):
        reservations.take(1, number, present)
    with pytest.raises(InvalidArgumentError):
        reservations.take(2, number, former)
    reservations.take(1, number, former)
