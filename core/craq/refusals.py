"""MACHINE: what a replica says when it refuses or gives up."""

from __future__ import annotations

from ..errors import DataLossError, StaleChainVersionError, UnavailableError
from ..ids import ChunkId
from .chain_view import ChainView


def content_lost(target_id: int, chunk_id: ChunkId) -> DataLossError:
    """The chain has lost what the chunk was."""
    return DataLossError(
        f"chunk {chunk_name(chunk_id)}: its content is lost (its index record was damaged at the "
        f"only replica that served): remove or replace the chunk; asked target {target_id}"
    )


def chunk_name(chunk_id: ChunkId) -> str:
    """The chunk as messages and tools name it."""
    return f"{chunk_id.segment_id:x}.{chunk_id.index}"


def stale(view: ChainView, chain_version: int) -> StaleChainVersionError:
    """The request was made for another version of the chain."""
    chain = view.chain
    return StaleChainVersionError(
        f"chain {chain.chain_id} has version {chain.version} at target {view.target_id}, "
        f"not {chain_version}",
        chain_id=chain.chain_id,
        current_version=chain.version,
    )


def expired(view: ChainView, chunk_id: ChunkId) -> UnavailableError:
    """The asker's time is over; what is staged goes on."""
    return UnavailableError(
        f"chunk {chunk_name(chunk_id)}: chain {view.chain.chain_id} did not take the update in time"
    )


def broken(target_id: int, chunk_id: ChunkId) -> UnavailableError:
    """What the disk kept of the last update is unknown: nothing may build on it."""
    return UnavailableError(f"chunk {chunk_name(chunk_id)}: the disk of target {target_id} failed")


def differs(view: ChainView, chunk_id: ChunkId, version: int) -> DataLossError:
    """The successor acknowledged another content."""
    return DataLossError(
        f"chunk {chunk_name(chunk_id)}: replicas of chain {view.chain.chain_id} differ at "
        f"version {version}"
    )
