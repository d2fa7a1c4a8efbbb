"""What clients asked for and heard, and what a chunk is: the specification."""

from __future__ import annotations

import math
from dataclasses import dataclass

from craqen.core.ids import ChunkId
from craqen.core.wire.messages import UpdateKind

Content = bytes | None
"""A chunk's bytes; None: it is absent."""


@dataclass(slots=True)
class Action:
    """One operation of a client. ``kind`` None: a read."""

    number: int
    client: str
    chunk_id: ChunkId
    kind: UpdateKind | None
    offset: int
    data: bytes
    length: int
    began: float
    ended: float = math.inf
    """When its answer came. Infinite: none did; then it may take effect at any later time."""
    seen: Content = None
    """What a read returned."""

    def __str__(self) -> str:
        what = "read" if self.kind is None else self.kind.name.lower()
        span = f"{self.began:.4f}–{self.ended:.4f}"
        text = f"#{self.number} {self.client} {what} {tuple(self.chunk_id)} {span}"
        if self.kind is None:
            return f"{text} saw {self.seen!r}"
        if self.kind == UpdateKind.TRUNCATE:
            return f"{text} to {self.length}"
        if self.kind == UpdateKind.WRITE:
            return f"{text} {self.data!r} at {self.offset}"
        return text if self.kind == UpdateKind.REMOVE else f"{text} {self.data!r}"


def after(content: Content, action: Action) -> Content:
    """What *action* makes of a chunk."""
    if action.kind is None:
        return content
    if action.kind == UpdateKind.REMOVE:
        return None
    if action.kind == UpdateKind.REPLACE:
        return action.data
    old = b"" if content is None else content
    if action.kind == UpdateKind.TRUNCATE:
        return old[: action.length].ljust(action.length, b"\0")
    end = action.offset + len(action.data)
    return old[: action.offset].ljust(action.offset, b"\0") + action.data + old[end:]


class History:
    """All operations of a run."""

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def begin(
        self,
        client: str,
        chunk_id: ChunkId,
        kind: UpdateKind | None,
        now: float,
        *,
        offset: int = 0,
        data: bytes = b"",
        length: int = 0,
    ) -> Action:
        """Note that a client asks for something."""
        action = Action(
            len(self.actions), client, chunk_id, kind, offset, data, length or len(data), now
        )
        self.actions.append(action)
        return action

    def by_chunk(self) -> dict[ChunkId, list[Action]]:
        """Operations of each chunk; reads without an answer say nothing and are left out."""
        found: dict[ChunkId, list[Action]] = {}
        for action in self.actions:
            if action.kind is not None or action.ended < math.inf:
                found.setdefault(action.chunk_id, []).append(action)
        return found
