"""DRIVER: what a target keeps of an update under way, and how the bytes of its content are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..checksum import combine_page_checksums, crc32c
from ..chunks.content import Draft, NewContent, plan_replace, plan_truncate, plan_write
from ..chunks.integrity import PageSummer
from ..chunks.store import Block, ChunkStore, ChunkVersion
from ..craq.events import Reply, UpdateAsked
from ..craq.seen import SyncMark
from ..errors import ChecksumMismatchError, InvalidArgumentError
from ..ids import ChunkId, UpdateToken
from ..limits import CHECKSUM_PAGE_BYTES
from ..wire.messages import Update, UpdateKind
from .buffers import Buffer
from .rooms import Room


@dataclass(slots=True)
class Work:
    """What the driver keeps for a request for an update: the update as it came, its bytes or its
    block, who waits."""

    update: Update
    data: memoryview | None
    block: Block | None
    answer: asyncio.Future[Reply]
    fresh_block: Block | None = None
    """Reserved for this request by the target itself; given back if it comes to nothing."""
    on_adopted: Callable[[], None] | None = None
    """Told once the block given with the request belongs to the index."""
    adopted: bool = False
    read_back: Buffer | None = None
    """What ``data`` is when it was read back."""
    sums: PageSummer | None = None
    """Of ``data``, made when it came."""
    room: Room | None = None
    """Where the bytes that were read back from ``block`` to be forwarded have their place."""


def event_of(request_id: int, update: Update) -> UpdateAsked:
    """What the machine is told of *update*."""
    mark = SyncMark(update.sync_session, update.sync_slot, update.sync_sequence)
    return UpdateAsked(
        request_id,
        ChunkId(update.segment_id, update.chunk_index),
        update.chain_version,
        update.kind,
        UpdateToken(update.client_id, update.channel, update.sequence),
        update.version,
        update.length_bytes,
        update.crc32c,
        mark if update.sync_session else None,
    )


def check_bytes(update: Update, data: memoryview) -> None:
    """Raise ChecksumMismatchError unless *data* is what *update* states; a copy that is to be as
    damaged as the original must only state checksums that fit each other."""
    if not update.as_it_is:
        # Those of a whole content are summed, and held against it, when they are written.
        if update.kind != UpdateKind.REPLACE and crc32c(data) != update.crc32c:
            raise _mismatch(update)
        return
    if not update.sync_session or update.kind != UpdateKind.REPLACE:
        raise InvalidArgumentError("only copies that a resync makes are taken as they are")
    _check_pages(update)


def draft_of(store: ChunkStore, work: Work, base: ChunkVersion | None) -> Draft:
    """Choose the place of the content that the update makes of *base*. Raises as the planners of
    core/chunks/content.py."""
    update, data = work.update, work.data
    chunk_id = ChunkId(update.segment_id, update.chunk_index)
    if update.kind == UpdateKind.TRUNCATE:
        return plan_truncate(store, chunk_id, base, update.length_bytes)
    if data is None:
        raise InvalidArgumentError(f"chunk {chunk_id}: an update without its bytes")
    if update.kind != UpdateKind.REPLACE:
        return plan_write(store, chunk_id, base, update.offset_bytes, data)
    draft = plan_replace(store, data, work.sums)
    return _as_stated(draft, update) if update.as_it_is else _if_as_stated(draft, update)


def _as_stated(draft: Draft, update: Update) -> Draft:
    """The same bytes, under the checksums stated: readers find that they do not fit."""

    def write() -> NewContent:
        made = draft.write()
        return replace(made, crc32c=update.crc32c, page_crcs=update.page_crcs)

    return replace(draft, write=write)


def _if_as_stated(draft: Draft, update: Update) -> Draft:
    """The same, refused if the bytes are not what the update states: found out where they are
    summed anyway."""

    def write() -> NewContent:
        made = draft.write()
        if made.crc32c != update.crc32c:
            raise _mismatch(update)
        return made

    return replace(draft, write=write)


def _mismatch(update: Update) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"chunk {update.segment_id:x}.{update.chunk_index}: the bytes received have another "
        f"checksum than stated"
    )


def check_replace(update: Update, block: Block) -> None:
    """Raise InvalidArgumentError or ChecksumMismatchError if a REPLACE by reservation contradicts
    itself."""
    if update.kind != UpdateKind.REPLACE or update.length_bytes > block.capacity_bytes:
        raise InvalidArgumentError("a reserved block is for a REPLACE that fits in it")
    _check_pages(update)


def _check_pages(update: Update) -> None:
    pages = -(-update.length_bytes // CHECKSUM_PAGE_BYTES)
    if len(update.page_crcs) != 4 * pages:
        raise InvalidArgumentError(
            f"{len(update.page_crcs)} bytes of page checksums for {update.length_bytes} bytes"
        )
    if combine_page_checksums(update.page_crcs, update.length_bytes) != update.crc32c:
        raise ChecksumMismatchError("the page checksums contradict the chunk's checksum")
