"""MACHINE: copies that a predecessor makes of its chunks, unasked, to fill a syncing successor
(rule 8 in replica.py): both sides."""

from __future__ import annotations

from collections.abc import Callable

from ..chunks.store import (
    ChunkRecord,
    ChunkVersion,
    Drop,
    IndexChange,
    Install,
    Lose,
    TokenOutcome,
)
from ..cluster.records import ChainRecord
from ..errors import (
    ConflictError,
    CraqenError,
    DataLossError,
    InvalidArgumentError,
    UnavailableError,
)
from ..ids import ChunkId
from ..wire.messages import UpdateKind
from .events import (
    Acknowledged,
    Effect,
    Forward,
    ForwardFailed,
    Prepare,
    Reply,
    SyncChunk,
    SyncFinished,
    SyncStarted,
    UpdateAsked,
)
from .operations import Operation, Purpose, Standing
from .refusals import differs, stale
from .seen import seen_of
from .updates import MISMATCH_RESENDS_MAX, Updates

SLOTS_MAX = 1024  # copies that one resync may have under way
_COPIES = (UpdateKind.REPLACE, UpdateKind.REMOVE, UpdateKind.LOSE)


class Copies(Updates):
    """Resync sessions, and copies from their turn to their end."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        lookup: Callable[[ChunkId], ChunkRecord | None],
        outcome: Callable[[int, int], TokenOutcome | None],
    ) -> None:
        super().__init__(target_id, chain, lookup, outcome)
        self.synced_chain_version = 0
        """The chain version under which this replica was filled completely; 0: none."""
        self._session = 0
        """The resync session whose copies are taken; 0: none."""
        self._slots: dict[int, tuple[int, Reply]] = {}
        """By slot: the sequence of the last copy made, and its answer."""

    # At the replica that is being filled

    def _sync_started(self, event: SyncStarted) -> list[Effect]:
        try:
            self._check_syncing(event.chain_version)
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        if self.synced_chain_version != event.chain_version:
            self._session = event.session
            self._slots.clear()
        return [Reply(event.request_id)]

    def _sync_finished(self, event: SyncFinished) -> list[Effect]:
        try:
            self._check_syncing(event.chain_version)
            if self.synced_chain_version != event.chain_version:
                self._check_session(event.session)
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        self.synced_chain_version = event.chain_version
        self._end_session()
        return [Reply(event.request_id)]

    def _end_session(self) -> None:
        self._session = 0
        self._slots.clear()

    def _check_syncing(self, chain_version: int) -> None:
        self.check_version(chain_version)
        if not self.view.is_syncing:
            raise UnavailableError(
                f"target {self.target_id} is not syncing in chain {self.chain.chain_id}, "
                f"version {chain_version}"
            )

    def _check_session(self, session: int) -> None:
        if session != self._session:
            raise ConflictError(
                f"target {self.target_id}: resync session {session:x} is not the present one"
            )

    def check_session(self, chain_version: int, session: int) -> None:
        """Raise StaleChainVersionError, UnavailableError or ConflictError unless this replica is
        being filled by that session."""
        self._check_syncing(chain_version)
        self._check_session(session)

    def _copy_asked(self, event: UpdateAsked) -> list[Effect]:
        """The predecessor sends a copy: it is taken whatever is here, but only once, and in its
        session."""
        mark = event.mark
        assert mark is not None
        running = self._operations.of_token(mark.token())
        if running is not None:
            self._operations.join(event.request_id, running)
            return []
        try:
            self.check_session(event.chain_version, mark.session)
            if event.kind not in _COPIES:
                raise InvalidArgumentError("a copy is a whole content, a removal, or a loss")
            if not 0 <= mark.slot < SLOTS_MAX:
                raise InvalidArgumentError(f"slot {mark.slot} of a resync session")
            done = self._slots.get(mark.slot)
            if done is not None and mark.sequence < done[0]:
                raise InvalidArgumentError(f"copy {mark}: a later one of its slot is known")
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        if done is not None and mark.sequence == done[0]:
            return [_again(done[1], event.request_id)]
        return self._enter(
            Operation(
                event.request_id,
                event.chunk_id,
                event.chain_version,
                event.kind,
                mark.token(),
                event.version,
                forwarded=True,
                purpose=Purpose.COPIED,
                answers=[event.request_id],
                mark=mark,
            )
        )

    def _begin_copied(self, operation: Operation) -> list[Effect]:
        assert operation.mark is not None
        self.check_session(operation.chain_version, operation.mark.session)
        record = self._record(operation)
        operation.base = None if record is None else record.committed
        operation.standing = Standing.PREPARING
        if operation.kind != UpdateKind.REPLACE:
            return self._copy_prepared(operation, None)
        return [
            Prepare(operation.request_id, operation.base, operation.version, self.chain.version)
        ]

    def _copy_prepared(self, operation: Operation, content: ChunkVersion | None) -> list[Effect]:
        assert operation.mark is not None
        try:
            self.check_session(operation.chain_version, operation.mark.session)
        except CraqenError as error:
            return self._end(operation, error=error)
        operation.content = content
        change: IndexChange
        if operation.kind == UpdateKind.LOSE:
            change = Lose(operation.chunk_id)
        elif content is None:
            change = Drop(operation.chunk_id, None)
        else:
            change = Install(operation.chunk_id, content)
        return self._persist(operation, Standing.INSTALLING, change)

    def _copy_installed(self, operation: Operation) -> list[Effect]:
        mark, content = operation.mark, operation.content
        assert mark is not None
        if mark.session == self._session:
            length, crc = (0, 0) if content is None else (content.length_bytes, content.crc32c)
            reply = Reply(operation.request_id, None, operation.version, length, crc)
            self._slots[mark.slot] = (mark.sequence, reply)
        return self._end(operation)

    # At its predecessor

    def _sync_chunk(self, event: SyncChunk) -> list[Effect]:
        return self._enter(
            Operation(
                event.request_id,
                event.chunk_id,
                event.chain_version,
                UpdateKind.REPLACE,
                event.mark.token(),
                0,
                forwarded=False,
                purpose=Purpose.COPY,
                answers=[event.request_id],
                mark=event.mark,
                local_version=event.local_version,
                held=event.held,
                as_it_is=event.as_it_is,
            )
        )

    def _begin_copy(self, operation: Operation) -> list[Effect]:
        self.check_version(operation.chain_version)
        if not self.view.is_serving:
            raise UnavailableError(f"target {self.target_id} does not serve")
        try:
            record = self._lookup(operation.chunk_id)
        except DataLossError:
            if not self._copies_loss(operation):
                raise
            operation.kind = UpdateKind.LOSE
            return self._send_copy(operation)
        if record is not None:
            unsettled = self._unsettled(operation, record)
            if unsettled is not None:
                return unsettled
        committed = None if record is None else record.committed
        # Whatever was committed here under this version of the chain went through the successor.
        passed = (
            committed is not None
            and committed.version != operation.local_version
            and committed.chain_version == self.chain.version
        )
        if passed or operation.held == seen_of(committed):
            return self._operations.leave(operation)
        operation.content = committed
        operation.version = 0 if committed is None else committed.version
        return self._send_copy(operation)

    def _copies_loss(self, operation: Operation) -> bool:
        """Whether the successor is to know that the content is lost: it is for good, and whatever
        might have mended it had its chances."""
        try:
            self._stored(operation.chunk_id)
        except DataLossError:
            return operation.as_it_is and self._is_lost(operation.chunk_id)
        return True

    def _unsettled(self, operation: Operation, record: ChunkRecord) -> list[Effect] | None:
        """What is pending is settled first."""
        operation.base = record.committed
        if record.pending is not None:
            return self._resume(operation, record, record.pending.token)
        if record.pending_remove is not None:
            return self._resume(operation, record, record.pending_remove)
        return None

    def _send_copy(self, operation: Operation) -> list[Effect]:
        successor, mark = self.view.successor, operation.mark
        if self.chain.version != operation.chain_version or successor is None or not successor[1]:
            return self._end(operation, error=stale(self.view, operation.chain_version))
        assert mark is not None
        content = operation.content
        operation.standing = Standing.FORWARDING
        operation.attempt += 1
        return [
            Forward(
                operation.request_id,
                operation.attempt,
                successor[0],
                operation.chunk_id,
                operation.version,
                self.chain.version,
                content,
                whole=True,
                syncing=True,
                token=operation.token if content is None else content.token,
                mark=mark,
                as_it_is=operation.as_it_is,
                lost=operation.kind == UpdateKind.LOSE,
            )
        ]

    def _copy_acknowledged(self, operation: Operation, event: Acknowledged) -> list[Effect]:
        content = operation.content
        if content is None:
            equal = event.length_bytes == 0
        else:
            equal = (event.version, event.crc32c) == (content.version, content.crc32c)
        if equal and operation.kind == UpdateKind.LOSE:
            # Known here as well, or this replica would take the loss for damage to be mended.
            return self._persist(operation, Standing.INSTALLING, Lose(operation.chunk_id))
        if equal:
            return self._end(operation, sent=True)
        self.mismatches += 1
        operation.mismatches += 1
        if operation.mismatches <= MISMATCH_RESENDS_MAX:
            return self._send_copy(operation)
        error = differs(self.view, operation.chunk_id, operation.version)
        return self._end(operation, error=error)

    def _copy_failed(self, operation: Operation, event: ForwardFailed) -> list[Effect]:
        """The session is over there, or our own bytes are damaged: the resync must see to it.
        Anything else passes."""
        if isinstance(event.error, ConflictError | DataLossError | InvalidArgumentError):
            return self._end(operation, error=event.error)
        operation.standing = Standing.HELD
        return []


def _again(reply: Reply, request_id: int) -> Reply:
    """The same answer for another request."""
    return Reply(request_id, reply.error, reply.version, reply.length_bytes, reply.crc32c)
