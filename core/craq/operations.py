"""MACHINE: the bookkeeping of a replica's updates: which wait for which chunk, who waits for their
outcome. It knows nothing of chains."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from ..chunks.store import ChunkVersion, TokenOutcome
from ..errors import CraqenError
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind
from .events import Effect, Reply
from .seen import Seen, SyncMark


class Standing(Enum):
    """Where an operation stands (the table in replica.py)."""

    WAITING = auto()
    PREPARING = auto()
    STAGING = auto()
    FORWARDING = auto()
    HELD = auto()
    INSTALLING = auto()
    COMMITTING = auto()
    FETCHING = auto()
    ABANDONING = auto()
    BROKEN = auto()


class Purpose(Enum):
    """What an operation is for."""

    UPDATE = auto()
    """An update that was asked for, or that was found pending."""
    COPY = auto()
    """The successor, which is being filled, is made to hold what is committed here."""
    COPIED = auto()
    """The same at that successor."""
    REPAIR = auto()
    """A damaged chunk is fetched from another replica."""


@dataclass(slots=True)
class Operation:
    """One update (or copy, or repair) under way or waiting."""

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    kind: UpdateKind
    token: UpdateToken
    """Of the update; for copies and repairs one that no update has (seen.py)."""
    version: int
    forwarded: bool
    purpose: Purpose = Purpose.UPDATE
    standing: Standing = Standing.WAITING
    base: ChunkVersion | None = None
    """The version committed before it."""
    hidden: bool = False
    """Whether readers still see ``base``: what the index holds beyond it is not durable yet."""
    content: ChunkVersion | None = None
    whole: bool = False
    """Whether it is forwarded as its whole content."""
    attempt: int = 0
    """How often it was forwarded."""
    answers: list[int] = field(default_factory=list)
    """Requests that wait for its outcome."""
    expired: bool = False
    """Its own asker's time is over, but what its disk work holds is the asker's until that ends."""
    mismatches: int = 0
    """How often the successor acknowledged something else."""
    stated: tuple[int, int] | None = None
    """(length, checksum) of the whole content that a predecessor sends."""
    mark: SyncMark | None = None
    """COPY, COPIED: which copy it is."""
    local_version: int = 0
    """COPY: what was committed here when the two replicas were compared."""
    held: Seen | None = None
    """COPY: what the successor was seen to hold; None: it must be replaced, whatever it is."""
    as_it_is: bool = False
    """COPY: whether it is sent also if its bytes are damaged."""
    over_loss: bool = False
    """Whether it takes the place of a content that is lost here: that cannot be had back, so
    nothing is staged beside it."""
    damaged_version: int = 0
    """REPAIR: the version whose bytes are damaged; 0: the index record is."""
    wanted: Seen | None = None
    """REPAIR: the content that target ``source_id`` has, wanted in the place of
    ``damaged_version``."""
    source_id: int = 0


class Operations:
    """All operations of one replica: one queue per chunk, the first one is under way."""

    def __init__(self) -> None:
        self._by_request: dict[int, Operation] = {}
        self._by_token: dict[UpdateToken, Operation] = {}
        self._by_channel: dict[tuple[int, int], Operation] = {}
        self._joined: dict[int, Operation] = {}
        self._queues: dict[ChunkId, deque[Operation]] = {}

    def get(self, request_id: int) -> Operation | None:
        """The operation that the request began."""
        return self._by_request.get(request_id)

    def joined(self, request_id: int) -> Operation | None:
        """The operation of another request whose outcome this one waits for."""
        return self._joined.get(request_id)

    def of_token(self, token: UpdateToken) -> Operation | None:
        """The operation under way or waiting with that token."""
        return self._by_token.get(token)

    def of_channel(self, token: UpdateToken) -> Operation | None:
        """The operation under way or waiting whose token is of the same channel, the one that came
        last."""
        return self._by_channel.get(token[:2])

    def first(self, chunk_id: ChunkId) -> Operation | None:
        """The chunk's operation that is under way, or next."""
        queue = self._queues.get(chunk_id)
        return None if queue is None else queue[0]

    def queued(self, chunk_id: ChunkId) -> Sequence[Operation]:
        """A copy of the chunk's queue."""
        return tuple(self._queues.get(chunk_id, ()))

    def length(self, chunk_id: ChunkId) -> int:
        """How many operations the chunk has."""
        return len(self._queues.get(chunk_id, ()))

    def chunks(self) -> Sequence[ChunkId]:
        """A copy of the list of chunks that have operations."""
        return tuple(self._queues)

    def all(self) -> Sequence[Operation]:
        """A copy of the list of all operations, oldest first."""
        return tuple(self._by_request.values())

    def enter(self, operation: Operation, *, in_front: bool = False) -> None:
        """Add an operation to its chunk's queue."""
        self._by_request[operation.request_id] = operation
        self._by_token[operation.token] = operation
        self._by_channel[operation.token[:2]] = operation
        queue = self._queues.setdefault(operation.chunk_id, deque())
        if in_front:
            queue.appendleft(operation)
        else:
            queue.append(operation)

    def join(self, request_id: int, operation: Operation) -> None:
        """Let another request wait for the operation's outcome."""
        operation.answers.append(request_id)
        self._joined[request_id] = operation

    def leave(
        self,
        operation: Operation,
        *,
        error: CraqenError | None = None,
        remembered: TokenOutcome | None = None,
        sent: bool = False,
    ) -> list[Effect]:
        """Take the operation out of its queue; the answers to everybody who waits for it."""
        effects = self.answer(operation, error=error, remembered=remembered, sent=sent)
        del self._by_request[operation.request_id]
        if self._by_token.get(operation.token) is operation:
            del self._by_token[operation.token]
        if self._by_channel.get(operation.token[:2]) is operation:
            del self._by_channel[operation.token[:2]]
        queue = self._queues[operation.chunk_id]
        if queue[0] is operation:
            queue.popleft()
        else:
            queue.remove(operation)
        if not queue:
            del self._queues[operation.chunk_id]
        return effects

    def answer(
        self,
        operation: Operation,
        *,
        error: CraqenError | None = None,
        remembered: TokenOutcome | None = None,
        sent: bool = False,
    ) -> list[Effect]:
        """The answers to everybody who waits for the operation, who then wait no more."""
        version, source = operation.version, remembered or operation.content
        if remembered is not None:
            version = remembered.version
        length_bytes = 0 if source is None else source.length_bytes
        crc32c = 0 if source is None else source.crc32c
        effects: list[Effect] = []
        for request_id in operation.answers:
            self._joined.pop(request_id, None)
            effects.append(Reply(request_id, error, version, length_bytes, crc32c, sent))
        operation.answers.clear()
        return effects

    def answer_one(self, operation: Operation, request_id: int, error: CraqenError) -> list[Effect]:
        """Answer one of those who wait with *error*, if it still does."""
        self._joined.pop(request_id, None)
        if request_id not in operation.answers:
            return []
        operation.answers.remove(request_id)
        return [Reply(request_id, error)]
