"""MACHINE: which version of a chunk a reader of this replica sees, and what another replica may
copy from here (rule 6 in replica.py). Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable

from ..chunks.store import ChunkRecord, ChunkVersion
from ..errors import ConflictError, UnavailableError
from ..ids import ChunkId
from .chain_view import ChainView
from .events import Source
from .operations import Operations
from .refusals import chunk_name

Lookup = Callable[[ChunkId], ChunkRecord | None]


def visible(
    view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId
) -> tuple[ChunkVersion | None, bool]:
    """The version that readers see (None: absent), and whether that is certain.

    Raises DataLossError if the chunk's record is damaged, UnavailableError if nobody can tell now.
    """
    running = operations.first(chunk_id)
    if running is not None and running.hidden:
        if running.over_loss:
            raise UnavailableError(f"chunk {chunk_name(chunk_id)}: is being replaced: ask again")
        return running.base, True
    record = lookup(chunk_id)
    if record is None:
        return None, True
    if record.pending is None and record.pending_remove is None:
        return record.committed, True
    if not view.is_serving_tail:
        return record.committed, False
    if view.successor is not None:
        raise UnavailableError(
            f"chunk {chunk_name(chunk_id)}: is on its way to target {view.successor[0]}, which "
            f"may serve any moment: ask again"
        )
    return record.pending, True


def told(
    view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId, version: int
) -> ChunkVersion | None:
    """The content of the version that the tail has committed (0, None: absent), or a later
    committed one.

    Raises UnavailableError if that is not here yet: ask again. DataLossError as ``visible``.
    """
    content, certain = visible(view, operations, lookup, chunk_id)
    if certain:
        return content
    record = lookup(chunk_id)
    assert record is not None, "an absent chunk is certain"
    if record.pending is not None and record.pending.version == version:
        return record.pending
    if record.pending_remove is not None and version == 0:
        return None
    if version <= (0 if content is None else content.version):
        return content
    raise UnavailableError(f"chunk {chunk_name(chunk_id)}: version {version} is on its way here")


def copy_for(
    operations: Operations, lookup: Lookup, chunk_id: ChunkId, source: Source, version: int
) -> ChunkVersion | None:
    """The content that a replica which lost its own may copy from here (None: absent).

    Raises ConflictError if this replica does not have the version asked for, UnavailableError if it
    cannot tell now, DataLossError if its own record is damaged.
    """
    running = operations.first(chunk_id)
    record = lookup(chunk_id)
    kept = (None, None) if record is None else (record.committed, record.pending)
    name = chunk_name(chunk_id)
    if source is Source.VERSION:
        for content in kept:
            if content is not None and content.version == version:
                return content
        raise ConflictError(f"chunk {name}: version {version} is not here")
    if running is not None and (source is Source.SETTLED or running.hidden):
        raise UnavailableError(f"chunk {name}: is being written here")
    if record is None:
        return None
    pending = record.pending is not None or record.pending_remove is not None
    if not pending:
        return record.committed
    if source is Source.SETTLED:
        raise UnavailableError(f"chunk {name}: is not settled here")
    return record.pending
