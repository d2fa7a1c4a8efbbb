"""MACHINE: the steps of one update at one replica (the table in replica.py)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from ..chunks.store import (
    ChunkRecord,
    ChunkVersion,
    Commit,
    Drop,
    IndexChange,
    Install,
    Stage,
    StageRemove,
    TokenOutcome,
)
from ..cluster.records import ChainRecord
from ..errors import ConflictError, CraqenError, DataLossError, NoSpaceError, UnavailableError
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind
from .events import Acknowledged, Effect, Forward, ForwardFailed, Prepare, RetryLater
from .operations import Operation, Standing
from .queues import ChunkQueues
from .refusals import chunk_name, differs, expired, stale

MISMATCH_RESENDS_MAX = 3  # sent whole so often before the asker is told that replicas differ


class Updates(ChunkQueues):
    """What an update does from its turn to its end."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        lookup: Callable[[ChunkId], ChunkRecord | None],
        outcome: Callable[[int, int], TokenOutcome | None],
    ) -> None:
        super().__init__(target_id, chain, lookup, outcome)
        self.mismatches = 0
        """How often a successor acknowledged something else than what was sent."""

    def _check(self, chain_version: int, *, forwarded: bool) -> None:
        """Rule 1, and the head's part of rule 2."""
        self.check_version(chain_version)
        if not (self.view.takes_part if forwarded else self.view.is_head):
            role = "does not take part in" if forwarded else "is not the serving head of"
            raise UnavailableError(
                f"target {self.target_id} {role} chain {self.chain.chain_id}, "
                f"version {chain_version}"
            )

    def _begin_update(self, operation: Operation) -> list[Effect]:
        remembered = self._outcome(operation.token.client_id, operation.token.channel)
        known = remembered is not None and remembered.token == operation.token
        record = self._record(operation)
        committed = None if record is None else record.committed
        if known and not self._contradicted(operation, remembered, committed):
            return self._operations.leave(operation, remembered=remembered)
        operation.base = committed
        present = 0 if committed is None else committed.version
        if record is not None and not self.view.is_syncing:
            if record.pending is not None:
                return self._resume(operation, record, record.pending.token)
            if record.pending_remove is not None:
                return self._resume(operation, record, record.pending_remove)
        self._check(operation.chain_version, forwarded=operation.forwarded)
        overlays = operation.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE)
        if not operation.forwarded:
            operation.version = present + 1
        elif self.view.is_syncing:
            if overlays:
                raise ConflictError(f"target {self.target_id} is syncing: send the whole content")
        elif operation.version <= present and committed is not None and not known:
            settled = self._had_before(operation, committed)
            if settled is not None:
                return settled
        elif overlays and operation.version != present + 1:
            raise ConflictError(
                f"chunk {chunk_name(operation.chunk_id)}: version {operation.version} cannot "
                f"be made of version {present}"
            )
        return self._prepare(operation, committed)

    def _record(self, operation: Operation) -> ChunkRecord | None:
        """The chunk's record; a syncing replica does without a damaged one, and what removes or
        replaces a content that is lost does without that."""
        try:
            return self._lookup(operation.chunk_id)
        except DataLossError as error:
            if self.view.is_syncing:
                return None
            whole = operation.kind in (UpdateKind.REPLACE, UpdateKind.REMOVE)
            if whole and self._is_lost(operation.chunk_id):
                operation.over_loss = True
                return None
            if operation.forwarded:
                # The predecessor's own bytes are not meant: it tries again until this is repaired.
                raise UnavailableError(str(error)) from error
            raise

    def _is_lost(self, chunk_id: ChunkId) -> bool:
        """Whether the content is lost for good: it is known as that, or the record is damaged and
        no other replica serves."""
        try:
            record = self._stored(chunk_id)
        except DataLossError:
            return self.view.serving == (self.target_id,)
        return record is not None and record.lost

    def _contradicted(
        self,
        operation: Operation,
        remembered: TokenOutcome | None,
        committed: ChunkVersion | None,
    ) -> bool:
        """Whether the predecessor sends the whole of a version that is committed here, by the same
        token, with another content: then the predecessor's counts."""
        return (
            operation.forwarded
            and operation.stated is not None
            and remembered is not None
            and committed is not None
            and committed.version == operation.version == remembered.version
            and operation.stated != (committed.length_bytes, committed.crc32c)
        )

    def _had_before(self, operation: Operation, committed: ChunkVersion) -> list[Effect] | None:
        """The predecessor forwards what is committed here: answer with what we hold. None: it has
        something else for this version, and that replaces ours (a late copy would be known by its
        token)."""
        same_version = operation.version == committed.version
        if operation.kind == UpdateKind.REMOVE:
            if same_version:
                return None
            raise ConflictError(
                f"chunk {chunk_name(operation.chunk_id)}: the removal as version "
                f"{operation.version} comes after version {committed.version}"
            )
        own = (committed.length_bytes, committed.crc32c)
        if same_version and operation.stated is not None and operation.stated != own:
            return None
        operation.version, operation.content = committed.version, committed
        return self._operations.leave(operation)

    def _resume(
        self, operation: Operation, record: ChunkRecord, token: UpdateToken
    ) -> list[Effect]:
        """Rule 5: carry on with what is pending; the operation that found it waits, or is that
        one."""
        settler = operation
        if token != operation.token:
            settler = Operation(
                -operation.request_id,
                operation.chunk_id,
                self.chain.version,
                UpdateKind.REPLACE,
                token,
                0,
                False,
                base=operation.base,
            )
            self._operations.enter(settler, in_front=True)
        settler.content = record.pending
        if record.pending is None:
            settler.kind = UpdateKind.REMOVE
            settler.version = 1 + (0 if record.committed is None else record.committed.version)
        else:
            settler.version = record.pending.version
        settler.whole = True
        settler.standing = Standing.STAGING
        return self._carry_on(settler)

    def _prepare(self, operation: Operation, committed: ChunkVersion | None) -> list[Effect]:
        operation.standing = Standing.PREPARING
        if operation.kind == UpdateKind.REMOVE:
            return self._prepared(operation, None)
        return [Prepare(operation.request_id, committed, operation.version, self.chain.version)]

    def _prepared(self, operation: Operation, content: ChunkVersion | None) -> list[Effect]:
        if not (self.view.takes_part if operation.forwarded else self.view.is_head):
            return self._end(operation, error=stale(self.view, operation.chain_version))
        if self.view.is_syncing and operation.chain_version != self.chain.version:
            # It came when this replica served: those who serve now need not have it.
            return self._end(operation, error=stale(self.view, operation.chain_version))
        if content is not None and content.chain_version != self.chain.version:
            content = replace(content, chain_version=self.chain.version)
        operation.content = content
        if operation.over_loss and self.view.successor is not None:
            return self._carry_on(operation)
        return self._settle(operation)

    def _settle(self, operation: Operation) -> list[Effect]:
        """Persist what was made: for good where nobody has to hear of it (any more)."""
        content, chunk_id = operation.content, operation.chunk_id
        last = self.view.successor is None or operation.over_loss
        standing = Standing.INSTALLING if last else Standing.STAGING
        change: IndexChange
        if standing is Standing.INSTALLING:
            change = Install(chunk_id, content) if content else Drop(chunk_id, operation.token)
        elif content is not None:
            change = Stage(chunk_id, content)
        else:
            change = StageRemove(chunk_id, operation.token, self.chain.version)
        return self._persist(operation, standing, change)

    def _prepare_failed(self, operation: Operation, error: CraqenError) -> list[Effect]:
        if operation.forwarded and isinstance(error, DataLossError):
            # Our version is damaged: the predecessor, which has a whole one, sends that.
            error = ConflictError(f"{error}: send the whole content")
        return self._end(operation, error=error)

    def _carry_on(self, operation: Operation) -> list[Effect]:
        """What is staged goes to whoever is the successor now, or is committed at the tail."""
        if not self.view.is_serving:
            # Being filled as well (rule 7): those who served meanwhile need not have it.
            return self._end(operation, error=stale(self.view, operation.chain_version))
        if operation.over_loss and operation.expired:
            return self._end(operation, error=expired(self.view, operation.chunk_id))
        successor = self.view.successor
        if successor is None:
            return self._commit(operation)
        effects: list[Effect] = []
        if operation.expired:
            effects += self._tell_expired(operation, operation.request_id)
        operation.standing = Standing.FORWARDING
        operation.attempt += 1
        target_id, syncing = successor
        effects.append(
            Forward(
                operation.request_id,
                operation.attempt,
                target_id,
                operation.chunk_id,
                operation.version,
                self.chain.version,
                operation.content,
                operation.whole or syncing,
                syncing,
                operation.token,
            )
        )
        return effects

    def _commit(self, operation: Operation) -> list[Effect]:
        if operation.over_loss:
            return self._settle(operation)
        version = operation.version
        if operation.content is None:
            version = 1 + (0 if operation.base is None else operation.base.version)
        commit = Commit(operation.chunk_id, version, self.chain.version)
        return self._persist(operation, Standing.COMMITTING, commit)

    def _acknowledged(self, operation: Operation, event: Acknowledged) -> list[Effect]:
        content = operation.content
        if content is None:
            equal = event.length_bytes == 0
        else:
            equal = (event.version, event.crc32c) == (content.version, content.crc32c)
        if equal:
            return self._commit(operation)
        self.mismatches += 1
        operation.mismatches += 1
        operation.whole = True
        if operation.mismatches <= MISMATCH_RESENDS_MAX:
            return self._carry_on(operation)
        # Whoever waits is told; the update is tried again all the same, for as long as the chain is
        # what it is: nothing here says that the successor will not be mended.
        operation.standing = Standing.HELD
        error = differs(self.view, operation.chunk_id, operation.version)
        effects = self._operations.answer(operation, error=error)
        return [*effects, RetryLater(operation.request_id, operation.attempt)]

    def _forward_failed(self, operation: Operation, event: ForwardFailed) -> list[Effect]:
        operation.standing = Standing.HELD
        operation.whole = operation.whole or isinstance(event.error, ConflictError)
        if not isinstance(event.error, NoSpaceError) or operation.over_loss:
            return []
        # It may be long until a successor has space: whoever waits is told, as when the head has
        # none. The update goes on when there is space.
        return self._operations.answer(operation, error=event.error)
