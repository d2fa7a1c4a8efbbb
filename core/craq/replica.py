"""MACHINE: one target's part in chain replication with apportioned queries (CRAQ).

Source: Terrace and Freedman, "Object Storage on CRAQ", USENIX ATC 2009; chain replication: van
Renesse and Schneider, OSDI 2004.

RULES
1. Every request names the chain version; any other than this replica's is refused, when it comes
   and again when its turn comes. A target that does not take part in the chain (any more) commits
   nothing and answers nothing but that.
2. The head alone takes clients' updates, and numbers them: committed version + 1. One update per
   chunk is under way; others wait in order, at most QUEUE_MAX.
3. A replica with a successor stages the new version durably before it forwards it, and commits when
   the successor has acknowledged the same version with the same checksum. The last replica installs
   and commits in one durable step. So commits run from tail to head, and what the client is told of
   is on every replica.
4. The outcome of an update is remembered by its token with the commit. The same token is answered
   with that outcome; a token under way is joined; a pending version of that token is carried on,
   never made anew. A client uses a channel again only when it knows the outcome of its last update:
   so what is older than the remembered outcome is a late copy of a settled update.
5. A pending version that nobody works on (a lost successor, a restart) is settled before any other
   update of its chunk: its whole content is forwarded, or committed at the tail. When an asker's
   time runs out, a staged version is carried on all the same.
6. A read is answered from the committed version if nothing is pending. Else the last serving target
   is asked which version counts: that one is answered, and both are at hand. At that target itself
   a version counts once it is durable there, staged or installed: every serving replica has it
   then, so no loss undoes it; before that, readers see the version that it replaces.
7. A syncing replica takes whole contents, whatever version it holds, and settles nothing itself.

| stage     | what has come            | what is done                            | next       |
|-----------|--------------------------|-----------------------------------------|------------|
| waiting   | its turn                 | Prepare                                 | preparing  |
| waiting   | its turn, own pending    | as staging, Persisted                   |            |
| preparing | Prepared, no successor   | Persist Install or Drop, durable        | installing |
| preparing | Prepared                 | Persist Stage or StageRemove, durable   | staging    |
| preparing | PrepareFailed            | Reply                                   | done       |
| staging   | Persisted                | Forward                                 | forwarding |
| staging   | Persisted, no successor  | Persist Commit                          | committing |
| forwarding| Acknowledged             | Persist Commit                          | committing |
| forwarding| ForwardFailed            | –                                       | held       |
| held      | RetryForward             | as staging, Persisted                   |            |
| forwarding, held | ChainChanged      | as staging, Persisted                   |            |
| installing, committing | Persisted   | Reply                                   | done       |
| any       | PersistFailed            | Reply                                   | broken     |

A broken chunk takes no more updates until the target is opened anew: what its disk kept is unknown.
"""

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
from ..errors import (
    ChunkBusyError,
    ConflictError,
    CraqenError,
    DataLossError,
    InvalidArgumentError,
    UnavailableError,
)
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind
from .chain_view import ChainView
from .events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Forward,
    ForwardFailed,
    GiveUp,
    PendingFound,
    Persist,
    Persisted,
    PersistFailed,
    Prepare,
    Prepared,
    PrepareFailed,
    Reply,
    RetryForward,
    UpdateAsked,
)
from .operations import Operation, Operations, Standing
from .refusals import broken, chunk_name, expired, stale

QUEUE_MAX = 128  # updates waiting for one chunk; a client that gets ChunkBusyError backs off


class Replica:
    """The state machine. ``lookup`` and ``outcome`` read the index as of every change asked for so
    far; they may raise DataLossError for a damaged record."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        lookup: Callable[[ChunkId], ChunkRecord | None],
        outcome: Callable[[int, int], TokenOutcome | None],
    ) -> None:
        self.target_id = target_id
        self.view = ChainView(target_id, chain)
        self._lookup = lookup
        self._outcome = outcome
        self._operations = Operations()

    @property
    def chain(self) -> ChainRecord:
        """The present version of the chain."""
        return self.view.chain

    def check_version(self, chain_version: int) -> None:
        """Raise StaleChainVersionError unless the request was made for the present chain."""
        if chain_version != self.view.chain.version:
            raise stale(self.view, chain_version)

    # Reads

    def committed(self, chunk_id: ChunkId) -> tuple[ChunkVersion | None, bool]:
        """The version that readers see (None: absent), and whether that is certain (rule 6).

        Raises DataLossError if the chunk's record is damaged.
        """
        running = self._operations.first(chunk_id)
        if running is not None and running.hidden:
            return running.base, True
        record = self._lookup(chunk_id)
        if record is None:
            return None, True
        if record.pending is None and record.pending_remove is None:
            return record.committed, True
        if self.view.is_serving_tail:
            return record.pending, True
        return record.committed, False

    def version_told(self, chunk_id: ChunkId, version: int) -> ChunkVersion | None:
        """The content of the version that the tail has committed (0, None: absent), or a later
        committed one.

        Raises UnavailableError if that is not here yet: ask again. DataLossError as ``committed``.
        """
        content, certain = self.committed(chunk_id)
        if certain:
            return content
        record = self._lookup(chunk_id)
        assert record is not None, "an absent chunk is certain"
        if record.pending is not None and record.pending.version == version:
            return record.pending
        if record.pending_remove is not None and version == 0:
            return None
        if version <= (0 if content is None else content.version):
            return content
        raise UnavailableError(
            f"chunk {chunk_name(chunk_id)}: version {version} is on its way here"
        )

    # Events

    def step(self, event: Event) -> list[Effect]:
        """Take one event; return what is to be done, in order."""
        if isinstance(event, UpdateAsked):
            return self._asked(event)
        if isinstance(event, ChainChanged):
            return self._chain_changed(event.chain)
        if isinstance(event, PendingFound):
            return self._pending_found(event)
        if isinstance(event, GiveUp):
            return self._give_up(event.request_id)
        operation = self._operations.get(event.request_id)
        if operation is None:
            return []
        if isinstance(event, Prepared):
            return self._prepared(operation, event.content)
        if isinstance(event, Persisted):
            return self._persisted(operation)
        if isinstance(event, PrepareFailed):
            return self._end(operation, error=event.error)
        if isinstance(event, PersistFailed):
            return self._broken(operation, event.error)
        if isinstance(event, Acknowledged):
            return self._acknowledged(operation, event)
        if isinstance(event, ForwardFailed):
            return self._forward_failed(operation, event)
        assert isinstance(event, RetryForward)
        due = operation.standing is Standing.HELD and operation.attempt == event.attempt
        return self._carry_on(operation) if due else []

    def _asked(self, event: UpdateAsked) -> list[Effect]:
        try:
            known = self._known(event)
            if known is not None:
                return known
            self._check(event.chain_version, forwarded=event.version > 0)
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        first = self._operations.first(event.chunk_id)
        if first is not None and first.standing is Standing.BROKEN:
            return [Reply(event.request_id, broken(self.target_id, event.chunk_id))]
        if self._operations.length(event.chunk_id) >= QUEUE_MAX:
            text = f"chunk {chunk_name(event.chunk_id)}: {QUEUE_MAX} updates wait already"
            return [Reply(event.request_id, ChunkBusyError(text))]
        operation = Operation(
            event.request_id,
            event.chunk_id,
            event.chain_version,
            event.kind,
            event.token,
            event.version,
            event.version > 0,
            answers=[event.request_id],
        )
        self._operations.enter(operation)
        return self._advance(event.chunk_id)

    def _known(self, event: UpdateAsked) -> list[Effect] | None:
        """Rule 4: an answer from memory, or joining the operation under way."""
        token = event.token
        running = self._operations.of_token(token)
        if running is not None:
            if running.chunk_id != event.chunk_id:
                raise InvalidArgumentError(f"update {token}: is under way for another chunk")
            if running.standing is Standing.BROKEN:
                raise broken(self.target_id, event.chunk_id)
            self._operations.join(event.request_id, running)
            return []
        remembered = self._outcome(token.client_id, token.channel)
        if remembered is None or remembered.token.sequence < token.sequence:
            return None
        if remembered.token != token or remembered.chunk_id != event.chunk_id:
            raise InvalidArgumentError(f"update {token}: a later one of its channel is known")
        return [_remembered(event.request_id, remembered)]

    def _check(self, chain_version: int, *, forwarded: bool) -> None:
        """Rule 1, and the head's part of rule 2."""
        self.check_version(chain_version)
        if not (self.view.takes_part if forwarded else self.view.is_head):
            role = "does not take part in" if forwarded else "is not the serving head of"
            raise UnavailableError(
                f"target {self.target_id} {role} chain {self.chain.chain_id}, "
                f"version {chain_version}"
            )

    # One chunk's queue

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

    def _begin(self, operation: Operation) -> list[Effect]:
        """The operation's turn has come: it leaves the queue, or is no longer waiting."""
        remembered = self._outcome(operation.token.client_id, operation.token.channel)
        if remembered is not None and remembered.token == operation.token:
            return self._operations.leave(operation, remembered=remembered)
        record = self._lookup(operation.chunk_id)
        committed = None if record is None else record.committed
        operation.base = committed
        present = 0 if committed is None else committed.version
        if record is not None and not self.view.is_syncing:
            if record.pending is not None:
                return self._resume(operation, record, record.pending.token)
            if record.pending_remove is not None:
                return self._resume(operation, record, record.pending_remove)
        self._check(operation.chain_version, forwarded=operation.forwarded)
        if not operation.forwarded:
            operation.version = present + 1
        elif not self.view.is_syncing:
            if operation.version <= present and committed is not None:
                return self._had_before(operation, committed)
            overlays = operation.kind in (UpdateKind.WRITE, UpdateKind.TRUNCATE)
            if overlays and operation.version != present + 1:
                raise ConflictError(
                    f"chunk {chunk_name(operation.chunk_id)}: version {operation.version} cannot "
                    f"be made of version {present}"
                )
        operation.standing = Standing.PREPARING
        if operation.kind == UpdateKind.REMOVE:
            return self._prepared(operation, None)
        return [Prepare(operation.request_id, committed, operation.version, self.chain.version)]

    def _had_before(self, operation: Operation, committed: ChunkVersion) -> list[Effect]:
        """The predecessor forwards what is committed here: answer with what we hold."""
        if operation.kind == UpdateKind.REMOVE:
            raise ConflictError(
                f"chunk {chunk_name(operation.chunk_id)}: the removal as version "
                f"{operation.version} comes after version {committed.version}"
            )
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

    # One operation

    def _prepared(self, operation: Operation, content: ChunkVersion | None) -> list[Effect]:
        if not (self.view.takes_part if operation.forwarded else self.view.is_head):
            return self._end(operation, error=stale(self.view, operation.chain_version))
        if content is not None and content.chain_version != self.chain.version:
            content = replace(content, chain_version=self.chain.version)
        operation.content = content
        chunk_id = operation.chunk_id
        standing = Standing.INSTALLING if self.view.successor is None else Standing.STAGING
        change: IndexChange
        if standing is Standing.INSTALLING:
            change = Install(chunk_id, content) if content else Drop(chunk_id, operation.token)
        elif content is not None:
            change = Stage(chunk_id, content)
        else:
            change = StageRemove(chunk_id, operation.token, self.chain.version)
        return self._persist(operation, standing, change)

    def _persist(
        self, operation: Operation, standing: Standing, change: IndexChange
    ) -> list[Effect]:
        operation.standing = standing
        # A commit need not be flushed: after a crash what it commits is pending again, and the
        # chain settles it the same way.
        durable = standing is not Standing.COMMITTING
        operation.hidden = durable
        return [Persist(operation.request_id, (change,), durable)]

    def _persisted(self, operation: Operation) -> list[Effect]:
        operation.hidden = False
        if operation.standing is Standing.STAGING:
            return self._carry_on(operation)
        return self._end(operation)

    def _carry_on(self, operation: Operation) -> list[Effect]:
        """What is staged goes to whoever is the successor now, or is committed at the tail."""
        if not self.view.takes_part:
            return self._end(operation, error=stale(self.view, operation.chain_version))
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
        version = operation.version
        if operation.content is None:
            version = 1 + (0 if operation.base is None else operation.base.version)
        commit = Commit(operation.chunk_id, version, self.chain.version)
        return self._persist(operation, Standing.COMMITTING, commit)

    def _acknowledged(self, operation: Operation, event: Acknowledged) -> list[Effect]:
        if operation.standing not in (Standing.FORWARDING, Standing.HELD):
            return []
        content = operation.content
        if content is None:
            equal = event.length_bytes == 0
        else:
            equal = (event.version, event.crc32c) == (content.version, content.crc32c)
        if not equal:
            error = DataLossError(
                f"chunk {chunk_name(operation.chunk_id)}: replicas of chain {self.chain.chain_id} "
                f"differ at version {operation.version}"
            )
            return self._end(operation, error=error)
        return self._commit(operation)

    def _forward_failed(self, operation: Operation, event: ForwardFailed) -> list[Effect]:
        if operation.standing is Standing.FORWARDING and operation.attempt == event.attempt:
            operation.standing = Standing.HELD
            operation.whole = operation.whole or isinstance(event.error, ConflictError)
        return []

    def _give_up(self, request_id: int) -> list[Effect]:
        operation = self._operations.get(request_id)
        if operation is None:
            joined = self._operations.joined(request_id)
            return [] if joined is None else self._tell_expired(joined, request_id)
        if operation.standing is Standing.WAITING:
            return self._end(operation, error=expired(self.view, operation.chunk_id))
        if operation.standing in (Standing.FORWARDING, Standing.HELD):
            return self._tell_expired(operation, request_id)
        operation.expired = True  # what its disk work holds is its asker's: that ends first
        return []

    def _tell_expired(self, operation: Operation, request_id: int) -> list[Effect]:
        operation.expired = operation.expired and request_id != operation.request_id
        error = expired(self.view, operation.chunk_id)
        return self._operations.answer_one(operation, request_id, error)

    def _pending_found(self, event: PendingFound) -> list[Effect]:
        record = self._lookup(event.chunk_id)
        if record is None or self._operations.length(event.chunk_id) or not self.view.is_serving:
            return []
        token = record.pending_remove if record.pending is None else record.pending.token
        if token is None:
            return []
        operation = Operation(
            event.request_id,
            event.chunk_id,
            self.chain.version,
            UpdateKind.REPLACE,
            token,
            0,
            False,
        )
        self._operations.enter(operation)
        return self._advance(event.chunk_id)

    def _chain_changed(self, chain: ChainRecord) -> list[Effect]:
        if chain.version <= self.chain.version:
            return []
        self.view = ChainView(self.target_id, chain)
        effects: list[Effect] = []
        for operation in self._operations.all():
            if operation.standing in (Standing.HELD, Standing.FORWARDING):
                effects += self._carry_on(operation)
        return effects

    # Ends

    def _broken(self, operation: Operation, error: CraqenError) -> list[Effect]:
        """The index may or may not have the change: nobody may build on either."""
        effects = self._operations.answer(operation, error=error)
        for waiting in self._operations.queued(operation.chunk_id)[1:]:
            effects += self._operations.leave(waiting, error=error)
        operation.standing = Standing.BROKEN
        return effects

    def _end(self, operation: Operation, *, error: CraqenError | None = None) -> list[Effect]:
        """The operation is over; the chunk's next one begins. If what it had staged is left
        behind, those that wait for it cannot go on either."""
        left_behind = error is not None and operation.standing in (
            Standing.STAGING,
            Standing.FORWARDING,
            Standing.HELD,
        )
        effects = self._operations.leave(operation, error=error)
        if left_behind:
            for waiting in self._operations.queued(operation.chunk_id):
                effects += self._operations.leave(waiting, error=error)
        return effects + self._advance(operation.chunk_id)


def _remembered(request_id: int, outcome: TokenOutcome) -> Reply:
    return Reply(request_id, None, outcome.version, outcome.length_bytes, outcome.crc32c)
