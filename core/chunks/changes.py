"""MACHINE: what index changes make of chunk records, and which blocks they take and let go. Shared
by every chunk store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from ..errors import DataLossError
from ..ids import ChunkId
from .store import (
    Abandon,
    Block,
    ChunkRecord,
    Commit,
    Drop,
    IndexChange,
    Install,
    Lose,
    Stage,
    StageRemove,
    TokenOutcome,
)

Outcome = tuple[ChunkRecord | None, TokenOutcome | None]


class Step(msgspec.Struct, frozen=True, gc=False):
    """One change, worked out: carrying it out cannot fail."""

    chunk_id: ChunkId
    old: ChunkRecord | None
    new: ChunkRecord | None
    outcome: TokenOutcome | None
    taken: tuple[Block, ...]
    """Reserved blocks that now belong to the chunk."""
    freed: tuple[Block, ...]
    """Blocks that belong to no version of the chunk any more."""
    written_file_id: int | None
    """The block file whose bytes must be flushed before the record that refers to them."""
    repairs: bool
    """Whether it takes the place of a damaged record."""


def plan_changes(
    changes: Iterable[IndexChange],
    get: Callable[[ChunkId], ChunkRecord | None],
    is_reserved: Callable[[Block], bool],
    outcome_of: Callable[[int, int], TokenOutcome | None],
) -> list[Step]:
    """Work out all of *changes*, in order, before any is carried out: all or nothing.

    Install, Drop and Lose take the place of a damaged record. Raises DataLossError for other
    changes of it, AssertionError for what no correct caller asks.
    """
    steps: list[Step] = []
    latest: dict[ChunkId, ChunkRecord | None] = {}
    taken_so_far: set[Block] = set()
    for change in changes:
        chunk_id = change.chunk_id
        repairs = False
        if chunk_id in latest:
            old = latest[chunk_id]
        else:
            try:
                old = get(chunk_id)
            except DataLossError:
                if not isinstance(change, Install | Drop | Lose):
                    raise
                old, repairs = None, True
        new, outcome = apply_change(old, change)
        if outcome is not None and is_outdated(outcome, outcome_of):
            outcome = None
        taken, freed = _exchanged(blocks_of(old), blocks_of(new))
        for block in taken:
            assert block not in taken_so_far, f"{block} is given to two chunks"
            assert is_reserved(block), f"{block} is given to {chunk_id}, but is not reserved"
            taken_so_far.add(block)
        latest[chunk_id] = new
        # Later changes refer to bytes whose flush goes with an earlier round, or this one.
        file_id = change.content.block.file_id if isinstance(change, Stage | Install) else None
        steps.append(Step(chunk_id, old, new, outcome, taken, freed, file_id, repairs))
    return steps


def is_outdated(
    outcome: TokenOutcome, outcome_of: Callable[[int, int], TokenOutcome | None]
) -> bool:
    """Whether a later update of the channel is remembered: then a copy of what an earlier one made
    must not take its place, or a retry of the later one would be applied again."""
    try:
        known = outcome_of(outcome.token.client_id, outcome.token.channel)
    except DataLossError:
        return False
    return known is not None and known.token.sequence > outcome.token.sequence


def _exchanged(
    before: tuple[Block, ...], after: tuple[Block, ...]
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """(blocks new in *after*, blocks gone from *before*)."""
    if not before or not after:
        return after, before
    if before == after:
        return (), ()
    return (
        tuple(block for block in after if block not in before),
        tuple(block for block in before if block not in after),
    )


def apply_change(record: ChunkRecord | None, change: IndexChange) -> Outcome:
    """The chunk's new record (None: gone), and the token outcome to remember, if any."""
    chunk_id = change.chunk_id
    if isinstance(change, Install):
        content = change.content
        outcome = TokenOutcome(
            content.token, chunk_id, content.version, content.length_bytes, content.crc32c
        )
        return ChunkRecord(chunk_id, content, None), outcome
    if isinstance(change, Stage):
        committed = None if record is None else record.committed
        return ChunkRecord(chunk_id, committed, change.content), None
    if isinstance(change, Commit):
        return _commit(record, change)
    if isinstance(change, StageRemove):
        committed = None if record is None else record.committed
        return ChunkRecord(chunk_id, committed, None, change.token), None
    if isinstance(change, Abandon):
        if record is None or record.committed is None:
            return None, None
        return ChunkRecord(chunk_id, record.committed, None), None
    if isinstance(change, Lose):
        kept = None if record is None else record.committed
        return ChunkRecord(chunk_id, kept, None, lost=True), None
    if change.token is None:
        return None, None
    committed = None if record is None else record.committed
    version = 0 if committed is None else committed.version + 1
    return None, TokenOutcome(change.token, chunk_id, version, 0, 0)


def _commit(old: ChunkRecord | None, change: Commit) -> Outcome:
    if old is None:  # the removal that it names, or a later one, is committed already
        return None, None
    committed_version = 0 if old.committed is None else old.committed.version
    if old.pending_remove is not None and change.version == committed_version + 1:
        return None, TokenOutcome(old.pending_remove, old.chunk_id, change.version, 0, 0)
    pending = old.pending
    if pending is None or pending.version != change.version:
        assert 1 <= change.version <= committed_version, (
            f"commit of version {change.version} of {old.chunk_id}, which was never staged"
        )
        return old, None
    content = replace(pending, chain_version=change.chain_version)
    outcome = TokenOutcome(
        content.token, old.chunk_id, content.version, content.length_bytes, content.crc32c
    )
    return ChunkRecord(old.chunk_id, content, None), outcome


def blocks_of(record: ChunkRecord | None) -> tuple[Block, ...]:
    """The blocks that a record refers to, each once (an append in place shares one between two
    versions)."""
    if record is None:
        return ()
    committed, pending = record.committed, record.pending
    if committed is None:
        return () if pending is None else (pending.block,)
    if pending is None or pending.block == committed.block:
        return (committed.block,)
    return (committed.block, pending.block)
