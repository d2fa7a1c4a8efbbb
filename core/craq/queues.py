"""MACHINE: what all of a replica's operations have in common: their turn in the chunk's queue,
asking for a change of the index, and their end. What an operation does in its turn is not known
here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ..chunks.store import ChunkRecord, IndexChange, TokenOutcome
from ..cluster.records import ChainRecord
from ..errors import ChunkBusyError, CraqenError
from ..ids import ChunkId
from .chain_view import ChainView
from .events import Effect, Persist, Reply
from .operations import Operation, Operations, Purpose, Standing
from .refusals import broken, chunk_name, content_lost, expired, stale

QUEUE_MAX = 128  # updates waiting for one chunk; a client that gets ChunkBusyError backs off


class ChunkQueues(ABC):
    """A replica's operations, chunk by chunk, the first one under way. ``lookup`` and ``outcome``
    read the index as of every change asked for so far; they may raise DataLossError for a damaged
    record."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        lookup: Callable[[ChunkId], ChunkRecord | None],
        outcome: Callable[[int, int], TokenOutcome | None],
    ) -> None:
        self.target_id = target_id
        self.view = ChainView(target_id, chain)
        self._stored = lookup
        self._outcome = outcome
        self._operations = Operations()

    @property
    def chain(self) -> ChainRecord:
        """The present version of the chain."""
        return self.view.chain

    def _lookup(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The chunk's record. Raises DataLossError if it is damaged, or the content is lost."""
        record = self._stored(chunk_id)
        if record is not None and record.lost:
            raise content_lost(self.target_id, chunk_id)
        return record

    def check_version(self, chain_version: int) -> None:
        """Raise StaleChainVersionError unless the request was made for the present chain."""
        if chain_version != self.view.chain.version:
            raise stale(self.view, chain_version)

    @abstractmethod
    def _begin(self, operation: Operation) -> list[Effect]:
        """The operation's turn has come: it leaves the queue, or is no longer waiting."""

    def _enter(self, operation: Operation) -> list[Effect]:
        """Let the operation wait for its turn, which may be now."""
        chunk_id = operation.chunk_id
        first = self._operations.first(chunk_id)
        if first is not None and first.standing is Standing.BROKEN:
            return [Reply(operation.request_id, broken(self.target_id, chunk_id))]
        if self._operations.length(chunk_id) >= QUEUE_MAX:
            text = f"chunk {chunk_name(chunk_id)}: {QUEUE_MAX} updates wait already"
            return [Reply(operation.request_id, ChunkBusyError(text))]
        self._operations.enter(operation)
        return self._advance(chunk_id)

    def _advance(self, chunk_id: ChunkId) -> list[Effect]:
        """Begin what is first in the chunk's queue, if it waits."""
        effects: list[Effect] = []
        while (first := self._operations.first(chunk_id)) is not None:
            if first.standing is not Standing.WAITING:
                break
            try:
                effects += self._begin(first)
            except CraqenError as error:
                effects += self._operations.leave(first, error=error)
        return effects

    def _persist(
        self, operation: Operation, standing: Standing, change: IndexChange
    ) -> list[Effect]:
        operation.standing = standing
        # A commit need not be flushed: after a crash what it commits is pending again, and the
        # chain settles it the same way.
        durable = standing is not Standing.COMMITTING
        # What a repair brings back is not news to readers.
        operation.hidden = durable and operation.purpose is Purpose.UPDATE
        return [Persist(operation.request_id, (change,), durable)]

    def _give_up(self, request_id: int) -> list[Effect]:
        operation = self._operations.get(request_id)
        if operation is None:
            joined = self._operations.joined(request_id)
            return [] if joined is None else self._tell_expired(joined, request_id)
        if operation.standing is Standing.WAITING:
            return self._end(operation, error=expired(self.view, operation.chunk_id))
        if operation.standing in (Standing.FORWARDING, Standing.HELD):
            if operation.over_loss:
                # What it made is the asker's still, and goes with it.
                return self._end(operation, error=expired(self.view, operation.chunk_id))
            return self._tell_expired(operation, request_id)
        operation.expired = True  # what its disk work holds is its asker's: that ends first
        return []

    def _tell_expired(self, operation: Operation, request_id: int) -> list[Effect]:
        operation.expired = operation.expired and request_id != operation.request_id
        error = expired(self.view, operation.chunk_id)
        return self._operations.answer_one(operation, request_id, error)

    # Ends

    def _broken(self, operation: Operation, error: CraqenError) -> list[Effect]:
        """The index may or may not have the change: nobody may build on either."""
        effects = self._operations.answer(operation, error=error)
        for waiting in self._operations.queued(operation.chunk_id)[1:]:
            effects += self._operations.leave(waiting, error=error)
        operation.standing = Standing.BROKEN
        return effects

    def _end(
        self, operation: Operation, *, error: CraqenError | None = None, sent: bool = False
    ) -> list[Effect]:
        """The operation is over; the chunk's next one begins. If what it had staged is left
        behind, those that wait for it cannot go on either."""
        left_behind = (
            error is not None
            and operation.purpose is Purpose.UPDATE
            and operation.standing in (Standing.STAGING, Standing.FORWARDING, Standing.HELD)
        )
        effects = self._operations.leave(operation, error=error, sent=sent)
        if left_behind:
            for waiting in self._operations.queued(operation.chunk_id):
                effects += self._operations.leave(waiting, error=error)
        return effects + self._advance(operation.chunk_id)
