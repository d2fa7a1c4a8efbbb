"""PORT: the chunk store of one target: blocks of bytes, and a durable index of chunks.

Two steps, so that bulk bytes never pass through the index: a caller *reserves* a block and fills it
(itself, or a client on the same host through the block's file descriptor), then *applies* index
changes that make the block part of a chunk. What was reserved but never applied is free again after
a crash.

A chunk has at most one committed version and at most one pending version, numbered committed + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ..ids import ChunkId, UpdateToken


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place for bytes in one block file."""

    file_id: int
    """Names the block file within its target; ``ChunkStore.open_file`` gives the descriptor."""
    offset_bytes: int
    capacity_bytes: int
    """The size class: a power of two from 64 KiB to 64 MiB."""


class ChunkVersion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One version of a chunk's content."""

    version: int
    chain_version: int
    length_bytes: int
    crc32c: int
    page_crcs: bytes
    """CRC32C per 64 KiB page, little-endian, packed (core/checksum.py)."""
    block: Block
    token: UpdateToken
    """The update that made it."""


class ChunkRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the index knows of a chunk."""

    chunk_id: ChunkId
    committed: ChunkVersion | None
    pending: ChunkVersion | None
    pending_remove: UpdateToken | None = None
    """A removal that the chain has not committed yet (version committed.version + 1)."""
    lost: bool = False
    """What the chain had of the chunk is lost; ``committed`` (older, or the same: nobody can tell)
    is set aside, and never answered with."""


class TokenOutcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The remembered outcome of a client's last update on one channel."""

    token: UpdateToken
    chunk_id: ChunkId
    version: int
    length_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Stage:
    """Make *content* the pending version (replaces an older pending one). Its bytes are in the
    block."""

    chunk_id: ChunkId
    content: ChunkVersion


@dataclass(frozen=True, slots=True)
class StageRemove:
    """Note a removal as pending."""

    chunk_id: ChunkId
    token: UpdateToken
    chain_version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the pending version (or removal) the committed one; the old block goes to quarantine.

    Also remembers the update's TokenOutcome. Nothing happens if *version* is committed already.
    """

    chunk_id: ChunkId
    version: int
    chain_version: int


@dataclass(frozen=True, slots=True)
class Install:
    """Commit *content* in one step (tail of a chain, or a resync): no pending version is left."""

    chunk_id: ChunkId
    content: ChunkVersion


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the chunk (committed and pending) and free its blocks by way of quarantine.

    *token* None: no outcome is remembered (resync).
    """

    chunk_id: ChunkId
    token: UpdateToken | None


@dataclass(frozen=True, slots=True)
class Abandon:
    """Forget the pending version only."""

    chunk_id: ChunkId


@dataclass(frozen=True, slots=True)
class Lose:
    """Note that the chunk's content is lost; what is committed is set aside, what is pending is
    forgotten. Install and Drop end that."""

    chunk_id: ChunkId


IndexChange = Stage | StageRemove | Commit | Install | Drop | Abandon | Lose


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """How full the target is. ``blocks_used`` counts blocks that chunks hold (no quarantine, no
    reservation)."""

    capacity_bytes: int
    free_bytes: int
    chunks: int
    blocks_used: int
    blocks_reserved: int
    blocks_quarantined: int
    used_bytes: int
    """Capacity of the blocks in use."""


class ChunkStore(Protocol):
    """One target's store. One process, one event loop; ``apply`` alone suspends."""

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """Return the record; sees every change whose ``apply`` was called before.

        Raises DataLossError if the record is damaged.
        """
        ...

    def scan(self, begin: ChunkId, limit: int) -> list[ChunkRecord]:
        """Return up to *limit* records with id >= *begin*, in order; damaged ones are left out."""
        ...

    def damaged(self) -> frozenset[ChunkId]:
        """Return the chunks whose records were found damaged; ``get`` raises DataLossError for
        them until an Install, Drop or Lose of the chunk takes the record's place."""
        ...

    def failure(self) -> Exception | None:
        """Return the error after which the store takes no more writes (until opened anew)."""
        ...

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """Return the remembered outcome of the newest update of that client and channel."""
        ...

    def forget_client(self, client_id: int) -> None:
        """Drop the outcomes of a client that is gone for good."""
        ...

    def scan_outcomes(self, begin: tuple[int, int], limit: int) -> list[TokenOutcome]:
        """Return up to *limit* remembered outcomes with (client, channel) >= *begin*, in order;
        damaged ones are left out."""
        ...

    async def put_outcomes(self, outcomes: Sequence[TokenOutcome]) -> None:
        """Remember *outcomes* (of another replica), durably, where nothing newer is known.

        Raises NoSpaceError, DiskError.
        """
        ...

    def reserve(self, length_bytes: int) -> Block:
        """Reserve a block of the smallest class that holds *length_bytes* (at least 1).

        Its space is allocated on disk. When the disk is full it may be a free block of a larger
        class. Raises NoSpaceError, DiskError, InvalidArgumentError (above 64 MiB).
        """
        ...

    def release(self, block: Block) -> None:
        """Give back a reserved block that no chunk refers to. At once reusable if nobody else held
        it."""
        ...

    def release_seen(self, block: Block) -> None:
        """Give back a reserved block that a client may still be writing to: it goes to
        quarantine."""
        ...

    def open_file(self, file_id: int) -> int:
        """Return the block file's descriptor, open for reading and writing; the store keeps owning
        it. Raises DataLossError if there is no such file."""
        ...

    def open_direct(self, file_id: int) -> int:
        """Return another descriptor of the block file, for whole pages past the page cache; -1 if
        there is no such way. The store keeps owning it. Raises as ``open_file``."""
        return -1

    async def apply(self, changes: Sequence[IndexChange], *, durable: bool = True) -> None:
        """Carry out *changes* in order, atomically.

        With ``durable``, returns when the bytes of all staged or installed blocks and then the
        index are on stable
        storage; concurrent calls share flushes (group commit). Without, only the order is promised.
        ``get`` sees the changes as soon as the call was made, also before it returns.
        An outcome to be remembered gives way to a known one of a later update of its channel.
        Raises NoSpaceError, DiskError (the target must go offline).
        """
        ...

    def tick(self) -> None:
        """Return blocks whose quarantine is over to the free lists."""
        ...

    def space(self) -> SpaceInfo:
        """Return how full the store is."""
        ...

    async def close(self) -> None:
        """Flush and release everything."""
        ...
