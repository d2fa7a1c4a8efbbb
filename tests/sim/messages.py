"""What simulated processes say to each other where the wire's messages carry more than matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from craqen.core.chunks.integrity import BlockContent
from craqen.core.chunks.store import ChunkVersion, TokenOutcome
from craqen.core.craq.events import Source
from craqen.core.ids import ChunkId


@dataclass(frozen=True, slots=True)
class ReadAsked:
    """Read a whole chunk, or tell its place."""

    chunk_id: ChunkId
    chain_id: int
    chain_version: int
    used_until: float
    """Global time until which the asker would use the place: for the simulator's ledger."""


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The bytes; None: the chunk is absent."""

    data: bytes | None


@dataclass(frozen=True, slots=True)
class LocateAnswer:
    """Where the bytes lie; ``is_rotten`` tells whether they were damaged on purpose by then."""

    content: BlockContent | None
    is_rotten: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class VersionAsked:
    """Which version of the chunk counts? To the tail."""

    chunk_id: ChunkId
    chain_id: int
    chain_version: int


@dataclass(frozen=True, slots=True)
class FetchAsked:
    """A replica that lost a chunk asks another one for it."""

    chunk_id: ChunkId
    chain_id: int
    chain_version: int
    source: Source
    version: int


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """What is there; None: the chunk is absent."""

    content: ChunkVersion | None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class SyncAsked:
    """A predecessor's word in a resync session: to begin it, to end it, to see a page of the
    inventory, to remember outcomes."""

    chain_id: int
    chain_version: int
    session: int
    position: ChunkId = ChunkId(0, 0)
    limit: int = 0
    outcomes: tuple[TokenOutcome, ...] = ()
