"""PORT: clients, sessions, removal and the change feed: a part of the namespace's port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .file_lock_store import FileLockStore
from .records import FeedEvent, RemovalItem


class LifeStore(FileLockStore, Protocol):
    """Clients, their sessions and locks, removal and the change feed."""

    async def register_client(self, *, description: str, lease_seconds: float) -> int:
        """Draw a client id and its lease. Id blocks and sessions belong to it."""
        ...

    async def renew_client(self) -> None:
        """Renew this store's client lease. Raises StaleHandleError if it was declared dead."""
        ...

    async def unregister_client(self) -> None: ...

    async def open_session(self, inode_id: int, handle: int, *, write: bool) -> None:
        """Keep the inode's bytes while the session (or its client's lease) lives, whatever happens
        to its names."""
        ...

    async def close_session(self, inode_id: int, handle: int) -> None: ...

    def new_segment_id(self) -> int:
        """A fresh segment id from this client's block. (``ensure_ids`` keeps blocks in stock.)"""
        ...

    async def ensure_ids(self, count: int) -> None:
        """Make sure *count* ids can be drawn without waiting."""
        ...

    async def due_removals(self, *, limit: int) -> list[RemovalItem]:
        """Removal queue entries whose grace is over and that no session holds. Also walks removed
        trees, a bounded
        number of inodes a call."""
        ...

    async def finish_removal(self, items: Sequence[RemovalItem]) -> None: ...

    async def dead_clients(self) -> list[int]:
        """Clients whose lease ran out."""
        ...

    async def id_ranges(self, client_id: int) -> list[tuple[int, int]]:
        """Id blocks ``[first, last]`` drawn by a client."""
        ...

    async def referenced_segments(self, segment_ids: Sequence[int]) -> set[int]:
        """Which of these some file, part or removal entry still refers to."""
        ...

    async def forget_client(self, client_id: int) -> None:
        """Drop a dead client's sessions, id ranges and record, once its orphans are gone."""
        ...

    async def feed(self, after: bytes | None) -> tuple[list[FeedEvent], bytes]:
        """Changes committed behind cursor *after* (None: from now), oldest first, bounded, and the
        next cursor."""
        ...

    async def trim_feed(self) -> None:
        """Drop feed entries older than their retention."""
        ...

    async def wait_feed(self, after: bytes) -> None:
        """Return once the feed has something behind *after* (may return early)."""
        ...
