"""MACHINE: what an index change makes of a chunk's record. Shared by every chunk store."""

from __future__ import annotations

from dataclasses import replace

from .store import (
    Abandon,
    Block,
    ChunkRecord,
    Commit,
    Drop,
    IndexChange,
    Install,
    Stage,
    StageRemove,
    TokenOutcome,
)

Outcome = tuple[ChunkRecord | None, TokenOutcome | None]


def apply_change(record: ChunkRecord | None, change: IndexChange) -> Outcome:
    """The chunk's new record (None: gone), and the token outcome to remember, if any."""
    chunk_id = change.chunk_id
    old = record or ChunkRecord(chunk_id, None, None)
    if isinstance(change, Stage):
        return replace(old, pending=change.content, pending_remove=None), None
    if isinstance(change, StageRemove):
        return replace(old, pending=None, pending_remove=change.token), None
    if isinstance(change, Install):
        content = change.content
        outcome = TokenOutcome(
            content.token, chunk_id, content.version, content.length_bytes, content.crc32c
        )
        return ChunkRecord(chunk_id, content, None), outcome
    if isinstance(change, Abandon):
        kept = replace(old, pending=None, pending_remove=None)
        return (kept if kept.committed else None), None
    if isinstance(change, Drop):
        version = old.committed.version + 1 if old.committed else 0
        if change.token is None:
            return None, None
        return None, TokenOutcome(change.token, chunk_id, version, 0, 0)
    return _commit(old, change)


def _commit(old: ChunkRecord, change: Commit) -> Outcome:
    if old.pending_remove is not None:
        return None, TokenOutcome(old.pending_remove, old.chunk_id, change.version, 0, 0)
    pending = old.pending
    if pending is None or pending.version != change.version:
        committed = old.committed
        never = f"commit of version {change.version} of {old.chunk_id}, which was never staged"
        assert committed is not None, never
        assert committed.version >= change.version, never
        return old, None
    content = replace(pending, chain_version=change.chain_version)
    outcome = TokenOutcome(
        content.token, old.chunk_id, content.version, content.length_bytes, content.crc32c
    )
    return ChunkRecord(old.chunk_id, content, None), outcome


def blocks_of(record: ChunkRecord | None) -> set[Block]:
    """The blocks that a record refers to (an append in place shares one between two versions)."""
    if record is None:
        return set()
    return {content.block for content in (record.committed, record.pending) if content is not None}
