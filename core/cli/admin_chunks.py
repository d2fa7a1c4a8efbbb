"""DRIVER: where the chunks of an object are, and which version each target has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from ..client.connect import Client, connect
from ..client.plan import ChunkSpan, plan_range
from ..cluster.records import ChainRecord, ChainTarget, PublicState
from ..errors import CraqenError, InvalidArgumentError, NotFoundError
from ..fsck.inventory import Inventories
from ..ids import ChunkId
from ..kv.store import ReadTransaction
from ..meta.records import Layout
from ..meta.schema import decode_segment, segment_key
from ..options import Config

CHUNKS_SHOWN = 16
"""Chunks of an object that are asked for when no other number is said."""

CHUNKS_MAX = 100_000

_ASKED = (PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING)
_CHUNK = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16})\.([0-9]{1,10})")


async def query(config: Config, name: str, limit: int) -> dict[str, Any]:
    """The chunks that *name* stands for: ``BUCKET/KEY`` (the first *limit* chunks of the object) or
    ``SEGMENT.INDEX`` (as fsck writes them, the segment in hexadecimal).

    Raises InvalidArgumentError, NotFoundError, and what reading the metadata raises. A target that
    does not answer is told of in its place.
    """
    if not 1 <= limit <= CHUNKS_MAX:
        raise InvalidArgumentError(f"--limit {limit}: choose from 1 to {CHUNKS_MAX}")
    client = await connect(config, "admin")
    try:
        chunks, count = await _chunks(client, name, limit)
        inventories = Inventories(client.routing, client.connections)
        found = []
        for chunk_id, chain in chunks:
            found.append(await _ask(client, inventories, chunk_id, chain))
        return {"name": name, "chunks": found, "chunks_in_all": count}
    finally:
        await client.close()


async def _chunks(
    client: Client, name: str, limit: int
) -> tuple[list[tuple[ChunkId, ChainRecord]], int]:
    """Chunks with the chains that have them, and how many there are in all."""
    match = _CHUNK.fullmatch(name)
    if match is not None:
        chunk_id = ChunkId(int(match[1], 16), int(match[2]))
        return [(chunk_id, await _chain_of(client, chunk_id))], 1
    bucket, slash, key = name.partition("/")
    if not (bucket and slash and key):
        raise InvalidArgumentError(
            f"{name!r}: expected BUCKET/KEY, or SEGMENT.INDEX with the segment in hexadecimal"
        )
    view = await client.meta.get_object(bucket, key.encode(), with_data=False)
    inode = view.inode
    if inode.inline:
        return [], 0
    extents = await client.meta.extents(inode, 0, inode.size)
    spans = [one for one in plan_range(extents, 0, inode.size) if isinstance(one, ChunkSpan)]
    layouts = {one.chunk_id: one.layout for one in spans}
    found = [(one, _place(client, one, layouts[one])) for one in list(layouts)[:limit]]
    return found, len(layouts)


def _place(client: Client, chunk_id: ChunkId, layout: Layout) -> ChainRecord:
    return client.routing.routing.chain_for(layout.table_id, layout.stripe_seed, chunk_id.index)


async def _chain_of(client: Client, chunk_id: ChunkId) -> ChainRecord:
    async def read(tx: ReadTransaction) -> bytes | None:
        return await tx.get(segment_key(chunk_id.segment_id))

    value = await client.kv.read(read)
    if value is None:
        raise NotFoundError(
            f"segment {chunk_id.segment_id:x} is not in the metadata: no file refers to it (any "
            f"more)"
        )
    return _place(client, chunk_id, decode_segment(value).layout)


async def _ask(
    client: Client, inventories: Inventories, chunk_id: ChunkId, chain: ChainRecord
) -> dict[str, Any]:
    targets: Sequence[dict[str, Any]] = await asyncio.gather(
        *(_ask_one(client, inventories, chunk_id, chain, one) for one in chain.targets)
    )
    return {
        "chunk": f"{chunk_id.segment_id:x}.{chunk_id.index}",
        "chain": chain.chain_id,
        "chain_version": chain.version,
        "targets": list(targets),
    }


async def _ask_one(
    client: Client,
    inventories: Inventories,
    chunk_id: ChunkId,
    chain: ChainRecord,
    member: ChainTarget,
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "target": member.target_id,
        "state": member.state.name.lower().replace("_", " "),
    }
    try:
        told["node"] = client.routing.routing.node_of(member.target_id).node_id
        if member.state not in _ASKED:
            return {**told, "problem": "not asked: it is down"}
        summary = await inventories.one(member.target_id, chain.chain_id, chunk_id)
    except CraqenError as error:
        return {**told, "problem": str(error)}
    if summary is None:
        return {**told, "problem": "does not have it"}
    return {
        **told,
        "problem": "",
        "chain_version": summary.chain_version,
        "committed_version": summary.committed_version,
        "pending_version": summary.pending_version,
        "length_bytes": summary.length_bytes,
        "crc32c": f"{summary.crc32c:08x}",
    }
