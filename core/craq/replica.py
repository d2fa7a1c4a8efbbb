"""MACHINE: one target's part in chain replication with apportioned queries (CRAQ).

Source: Terrace and Freedman, "Object Storage on CRAQ", USENIX ATC 2009; chain replication: van
Renesse and Schneider, OSDI 2004.

RULES
1. Every request names the chain version; any other than this replica's is refused, when it comes
and again when its
   turn comes.
2. The head alone takes clients' updates, and numbers them: committed version + 1. One update per
chunk is under way;
   others wait in order, at most QUEUE_MAX.
3. A replica with a successor stages the new version durably before it forwards it, and commits when
the successor has
   acknowledged the same version with the same checksum. The tail installs and commits in one
   durable step.
   So commits run from tail to head, and what the client is told of is on every replica.
4. The outcome of an update is remembered by its token with the commit. The same token is answered
with that outcome;
   a token under way is joined; a pending version of that token is carried on, never made anew.
5. A pending version that nobody works on (a lost successor, a restart) is settled before any other
update of its chunk:
   its whole content is forwarded, or committed at the tail.
6. A read is answered from the committed version if nothing is pending. Else the tail is asked which
version is
   committed: that one is answered, and both are at hand.

| stage     | what has come        | what is done                          | next      |
|-----------|----------------------|---------------------------------------|-----------|
| waiting   | its turn             | Prepare                               | preparing |
| waiting   | its turn, own pending| Forward, or Persist Commit at the tail| forwarding / committing
|
| preparing | Prepared, tail       | Persist Install or Drop, durable      | installing|
| preparing | Prepared             | Persist Stage, durable                | staging   |
| staging   | Persisted            | Forward                               | forwarding|
| forwarding| Acknowledged         | Persist Commit                        | committing|
| forwarding| ForwardFailed        | –                                     | held      |
| held      | RetryForward, chain  | Forward, or Persist Commit at the tail| forwarding / committing
|
| installing, committing | Persisted | Reply                                | done      |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from ..chunks.store import (
    ChunkRecord,
    ChunkVersion,
    Commit,
    Drop,
    Install,
    Stage,
    StageRemove,
    TokenOutcome,
)
from ..cluster.records import ChainRecord, PublicState
from ..errors import (
    ChecksumMismatchError,
    ChunkBusyError,
    CraqenError,
    InvalidArgumentError,
    StaleChainVersionError,
    UnavailableError,
)
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind
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

QUEUE_MAX = 128  # updates waiting for one chunk; a client that gets ChunkBusyError backs off


class Stop(Enum):
    """Where an operation stands (the table above)."""

    WAITING = auto()
    PREPARING = auto()
    STAGING = auto()
    FORWARDING = auto()
    HELD = auto()
    INSTALLING = auto()
    COMMITTING = auto()


@dataclass(slots=True)
class Operation:
    """One update under way or waiting."""

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    kind: UpdateKind
    token: UpdateToken
    version: int
    forwarded: bool
    stop: Stop = Stop.WAITING
    content: ChunkVersion | None = None
    whole: bool = False
    answers: list[int] = field(default_factory=list)


class Replica:
    """The state machine. ``lookup`` and ``outcome`` read the index as of every change asked for so
    far."""

    def __init__(
        self,
        target_id: int,
        chain: ChainRecord,
        lookup: Callable[[ChunkId], ChunkRecord | None],
        outcome: Callable[[int, int], TokenOutcome | None],
    ) -> None:
        self.target_id = target_id
        self.chain = chain
        self._lookup = lookup
        self._outcome = outcome
        self._operations: dict[int, Operation] = {}
        self._queues: dict[ChunkId, deque[Operation]] = {}
        self._tokens: dict[UpdateToken, Operation] = {}

    # The chain, as seen from here

    @property
    def is_head(self) -> bool:
        """Whether clients' updates are this replica's to order."""
        first = self.chain.targets[0]
        return first.target_id == self.target_id and first.state == PublicState.SERVING

    @property
    def is_serving(self) -> bool:
        """Whether reads may be answered here."""
        return any(
            target.target_id == self.target_id and target.state == PublicState.SERVING
            for target in self.chain.targets
        )

    def successor(self) -> tuple[int, bool] | None:
        """(target id, whether it is syncing) of the next replica that takes part; None at the
        tail."""
        passed = False
        for target in self.chain.targets:
            if passed and target.state in (PublicState.SERVING, PublicState.SYNCING):
                return target.target_id, target.state == PublicState.SYNCING
            passed = passed or target.target_id == self.target_id
        return None

    def tail_id(self) -> int:
        """The last serving target."""
        serving = [one for one in self.chain.targets if one.state == PublicState.SERVING]
        return serving[-1].target_id if serving else self.target_id

    def check_version(self, chain_version: int) -> None:
        """Raise StaleChainVersionError unless the request was made for the present chain."""
        if chain_version != self.chain.version:
            raise StaleChainVersionError(
                f"chain {self.chain.chain_id} has version {self.chain.version}, "
                f"not {chain_version}",
                chain_id=self.chain.chain_id,
                current_version=self.chain.version,
            )

    def committed(self, chunk_id: ChunkId) -> tuple[ChunkVersion | None, bool]:
        """For reads: the committed version (None: absent), and whether it is certain (rule 6)."""
        record = self._lookup(chunk_id)
        if record is None:
            return None, True
        clean = record.pending is None and record.pending_remove is None
        return record.committed, clean or self.successor() is None

    def version_told(self, chunk_id: ChunkId, version: int) -> ChunkVersion | None:
        """For reads: the content of the version that the tail has committed (0: absent).

        Raises UnavailableError if it is neither of ours: the commit is on its way, ask again.
        """
        record = self._lookup(chunk_id)
        if record is not None:
            for content in (record.committed, record.pending):
                if content is not None and content.version == version:
                    return content
        if version == 0 and (record is None or record.committed is None or record.pending_remove):
            return None
        raise UnavailableError(f"chunk {chunk_id}: version {version} is on its way here")

    # Events

    def step(self, event: Event) -> list[Effect]:
        """Take one event; return what is to be done, in order."""
        if isinstance(event, UpdateAsked):
            return self._asked(event)
        if isinstance(event, ChainChanged):
            return self._chain_changed(event.chain)
        if isinstance(event, PendingFound):
            return self._pending_found(event)
        operation = self._operations.get(event.request_id)
        if operation is None:
            return []
        if isinstance(event, Prepared):
            return self._prepared(operation, event.content)
        if isinstance(event, Persisted):
            return self._persisted(operation)
        if isinstance(event, PrepareFailed | PersistFailed):
            return self._finish(operation, error=event.error)
        if isinstance(event, Acknowledged):
            return self._acknowledged(operation, event)
        if isinstance(event, ForwardFailed):
            return self._forward_failed(operation, event.error)
        if isinstance(event, RetryForward):
            return self._carry_on(operation) if operation.stop == Stop.HELD else []
        assert isinstance(event, GiveUp)
        return self._give_up(operation)

    def _asked(self, event: UpdateAsked) -> list[Effect]:
        known = self._known(event.request_id, event.chunk_id, event.token)
        if known is not None:
            return known
        try:
            self._check(event.chain_version, forwarded=event.version > 0)
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        queue = self._queues.setdefault(event.chunk_id, deque())
        if len(queue) >= QUEUE_MAX:
            return [
                Reply(event.request_id, ChunkBusyError(f"chunk {event.chunk_id}: too many updates"))
            ]
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
        self._operations[event.request_id] = operation
        self._tokens[event.token] = operation
        queue.append(operation)
        return self._start(operation) if len(queue) == 1 else []

    def _known(self, request_id: int, chunk_id: ChunkId, token: UpdateToken) -> list[Effect] | None:
        """Rule 4: an answer from memory, or joining the operation under way."""
        running = self._tokens.get(token)
        if running is not None:
            running.answers.append(request_id)
            return []
        remembered = self._outcome(token.client_id, token.channel)
        if remembered is None or remembered.token.sequence < token.sequence:
            return None
        if remembered.token != token or remembered.chunk_id != chunk_id:
            error = InvalidArgumentError(f"update {token}: a later one of its channel is known")
            return [Reply(request_id, error)]
        return [
            Reply(request_id, None, remembered.version, remembered.length_bytes, remembered.crc32c)
        ]

    def _check(self, chain_version: int, *, forwarded: bool) -> None:
        self.check_version(chain_version)
        if not forwarded and not self.is_head:
            raise UnavailableError(
                f"target {self.target_id} is not the serving head of chain {self.chain.chain_id}"
            )

    def _start(self, operation: Operation) -> list[Effect]:
        """The operation's turn has come."""
        if operation.stop != Stop.WAITING:
            return []
        remembered = self._outcome(operation.token.client_id, operation.token.channel)
        if remembered is not None and remembered.token == operation.token:
            return self._finish(operation, remembered=remembered)
        record = self._lookup(operation.chunk_id)
        pending = None if record is None else record.pending
        removal = None if record is None else record.pending_remove
        committed = None if record is None else record.committed
        present = 0 if committed is None else committed.version
        if pending is not None or removal is not None:
            return self._resume(operation, pending, removal, present)
        try:
            self._check(operation.chain_version, forwarded=operation.forwarded)
        except CraqenError as error:
            return self._finish(operation, error=error)
        if operation.forwarded:
            if operation.version <= present and committed is not None:
                return self._finish(operation, content=committed)
        else:
            operation.version = present + 1
        operation.stop = Stop.PREPARING
        if operation.kind == UpdateKind.REMOVE:
            if committed is None and self.successor() is None:
                return self._persist(
                    operation, Stop.INSTALLING, Drop(operation.chunk_id, operation.token)
                )
            return self._prepared(operation, None)
        return [Prepare(operation.request_id, committed, operation.version, self.chain.version)]

    def _resume(
        self,
        operation: Operation,
        pending: ChunkVersion | None,
        removal: UpdateToken | None,
        present: int,
    ) -> list[Effect]:
        """Rule 5: carry on with what is pending; the operation that found it waits, or is that
        one."""
        token = pending.token if pending is not None else removal
        assert token is not None
        if token == operation.token:
            settler = operation
        else:
            settler = Operation(
                -operation.request_id,
                operation.chunk_id,
                self.chain.version,
                UpdateKind.REPLACE,
                token,
                0,
                False,
            )
            self._operations[settler.request_id] = settler
            self._tokens[token] = settler
            self._queues[operation.chunk_id].appendleft(settler)
        settler.content = pending
        settler.kind = UpdateKind.REMOVE if removal is not None else UpdateKind.REPLACE
        settler.version = pending.version if pending is not None else present + 1
        settler.whole = True
        return self._carry_on(settler)

    def _prepared(self, operation: Operation, content: ChunkVersion | None) -> list[Effect]:
        operation.content = content
        chunk_id = operation.chunk_id
        if self.successor() is None:
            change = Install(chunk_id, content) if content else Drop(chunk_id, operation.token)
            return self._persist(operation, Stop.INSTALLING, change)
        staged = (
            Stage(chunk_id, content)
            if content
            else StageRemove(chunk_id, operation.token, self.chain.version)
        )
        return self._persist(operation, Stop.STAGING, staged)

    def _persist(
        self,
        operation: Operation,
        stop: Stop,
        change: Install | Drop | Stage | StageRemove | Commit,
    ) -> list[Effect]:
        operation.stop = stop
        # A commit need not be flushed: after a crash the chain settles the pending version the same
        # way.
        durable = not isinstance(change, Commit) or self.successor() is None
        return [Persist(operation.request_id, (change,), durable)]

    def _persisted(self, operation: Operation) -> list[Effect]:
        if operation.stop == Stop.STAGING:
            return self._carry_on(operation)
        return self._finish(operation)

    def _carry_on(self, operation: Operation) -> list[Effect]:
        """Forward to whoever is the successor now, or commit if there is none (any more)."""
        successor = self.successor()
        if successor is None:
            commit = Commit(operation.chunk_id, operation.version, self.chain.version)
            return self._persist(operation, Stop.COMMITTING, commit)
        operation.stop = Stop.FORWARDING
        target_id, syncing = successor
        return [
            Forward(
                operation.request_id,
                target_id,
                operation.chunk_id,
                operation.version,
                self.chain.version,
                operation.content,
                operation.whole or syncing,
                syncing,
                operation.token,
            )
        ]

    def _acknowledged(self, operation: Operation, event: Acknowledged) -> list[Effect]:
        if operation.stop not in (Stop.FORWARDING, Stop.HELD):
            return []
        content = operation.content
        if content is not None and (event.version, event.crc32c) != (
            content.version,
            content.crc32c,
        ):
            error = ChecksumMismatchError(
                f"chunk {operation.chunk_id}: replicas of chain {self.chain.chain_id} differ at "
                f"version {operation.version}"
            )
            return self._finish(operation, error=error)
        commit = Commit(operation.chunk_id, operation.version, self.chain.version)
        return self._persist(operation, Stop.COMMITTING, commit)

    def _forward_failed(self, operation: Operation, error: CraqenError) -> list[Effect]:
        if operation.stop == Stop.FORWARDING:
            operation.stop = Stop.HELD
        return []

    def _give_up(self, operation: Operation) -> list[Effect]:
        if operation.stop in (Stop.PREPARING, Stop.STAGING, Stop.INSTALLING, Stop.COMMITTING):
            return []  # it ends by itself
        error = UnavailableError(
            f"chunk {operation.chunk_id}: chain {self.chain.chain_id} did not take the "
            "update in time"
        )
        return self._finish(operation, error=error)

    def _pending_found(self, event: PendingFound) -> list[Effect]:
        queue = self._queues.setdefault(event.chunk_id, deque())
        if queue:
            return []
        record = self._lookup(event.chunk_id)
        if record is None or (record.pending is None and record.pending_remove is None):
            return []
        token = record.pending.token if record.pending is not None else record.pending_remove
        assert token is not None
        operation = Operation(
            event.request_id,
            event.chunk_id,
            self.chain.version,
            UpdateKind.REPLACE,
            token,
            0,
            False,
        )
        self._operations[event.request_id] = operation
        self._tokens[token] = operation
        queue.append(operation)
        return self._start(operation)

    def _chain_changed(self, chain: ChainRecord) -> list[Effect]:
        if chain.version <= self.chain.version:
            return []
        self.chain = chain
        effects: list[Effect] = []
        for operation in list(self._operations.values()):
            if operation.stop in (Stop.HELD, Stop.FORWARDING):
                effects += self._carry_on(operation)
        return effects

    def _finish(
        self,
        operation: Operation,
        *,
        error: CraqenError | None = None,
        content: ChunkVersion | None = None,
        remembered: TokenOutcome | None = None,
    ) -> list[Effect]:
        """Answer everybody who waits for the operation, and let the chunk's next one begin."""
        source = remembered or content or operation.content
        version = operation.version if remembered is None else remembered.version
        length_bytes = 0 if source is None else source.length_bytes
        crc32c = 0 if source is None else source.crc32c
        effects: list[Effect] = [
            Reply(request_id, error, version, length_bytes, crc32c)
            for request_id in operation.answers
        ]
        self._operations.pop(operation.request_id, None)
        if self._tokens.get(operation.token) is operation:
            del self._tokens[operation.token]
        queue = self._queues[operation.chunk_id]
        queue.remove(operation)
        if not queue:
            del self._queues[operation.chunk_id]
            return effects
        return effects + self._start(queue[0])
