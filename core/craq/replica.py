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
   A predecessor that sends the whole of a version which is here with another content is right.
6. A read is answered from the committed version if nothing is pending. Else the last serving target
   is asked which version counts: that one is answered, and both are at hand. At that target itself
   a version counts once it is durable there, staged or installed: every serving replica has it
   then, so no loss undoes it; before that, readers see the version that it replaces. While a
   successor is being filled nobody can tell: it may serve already, by a newer table, with the
   version or without it. Then readers ask again.
7. A syncing replica takes whole contents, whatever version it holds, and settles nothing itself:
   what it had under way when it served ends with an error, since others served meanwhile.
8. Its predecessor fills it, in a resync session: what differs is copied, or removed, each chunk in
   its turn at the predecessor, so that updates and copies of a chunk arrive in order. Copies are
   marked; a late one is refused by its mark, and a session by the next one.
9. A damaged chunk is repaired in its turn, by what another replica has of the same version. When
   the index record is lost, what the next replica has settled counts, or at the tail what the
   replica before it has staged or committed. If nobody else serves, the content is lost: that is
   copied as a loss, so that readers are told and no resync waits. An update that removes or
   replaces it is carried out without staging, since there is nothing to go back to.

| stage     | what has come            | what is done                            | next       |
|-----------|--------------------------|-----------------------------------------|------------|
| waiting   | its turn                 | Prepare                                 | preparing  |
| waiting   | its turn, own pending    | as staging, Persisted                   |            |
| preparing | Prepared, no successor   | Persist Install or Drop, durable        | installing |
| preparing | Prepared                 | Persist Stage or StageRemove, durable   | staging    |
| preparing | Prepared, content lost   | Forward                                 | forwarding |
| preparing | PrepareFailed            | Reply                                   | done       |
| staging   | Persisted                | Forward                                 | forwarding |
| staging   | Persisted, no successor  | Persist Commit                          | committing |
| forwarding| Acknowledged             | Persist Commit                          | committing |
| forwarding| Acknowledged, content lost | Persist Install or Drop, durable      | installing |
| forwarding| ForwardFailed            | –                                       | held       |
| forwarding| ForwardFailed, no space  | Reply                                   | held       |
| forwarding| Acknowledged, differs    | Forward whole; after a few RetryLater   | held       |
| forwarding| ForwardFailed, own damage| Fetch                                   | fetching   |
| held      | RetryForward             | as staging, Persisted                   |            |
| forwarding, held | ChainChanged      | as staging, Persisted                   |            |
| installing, committing | Persisted   | Reply                                   | done       |
| fetching  | Fetched                  | Persist Stage                           | staging    |
| fetching  | FetchFailed              | RetryLater                              | held       |
| fetching  | FetchFailed, all lack it | Persist Abandon                         | abandoning |
| abandoning| Persisted                | Reply                                   | done       |
| any       | PersistFailed            | Reply                                   | broken     |
| committing| PersistFailed, own damage, a removal | Persist Drop, durable       | installing |
| any       | PersistFailed, own damage| Reply (nothing was changed)             | done       |

A copy is at the predecessor waiting, then forwarding or held, then done; at the successor waiting,
preparing, installing. The copy of a loss is installed at the predecessor as well. A repair is
waiting, fetching, installing; what it fetches is persisted by Install, or Drop.

A broken chunk takes no more updates until the target is opened anew: what its disk kept is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..chunks.store import ChunkVersion, Drop, TokenOutcome
from ..cluster.records import ChainRecord
from ..errors import (
    ChunkBusyError,
    CraqenError,
    DataLossError,
    InvalidArgumentError,
    UnavailableError,
)
from ..ids import ChunkId
from ..wire.messages import UpdateKind
from .chain_view import ChainView
from .events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Fetched,
    FetchFailed,
    ForwardFailed,
    GiveUp,
    PendingFound,
    Persisted,
    PersistFailed,
    Prepared,
    PrepareFailed,
    RepairChunk,
    Reply,
    RetryForward,
    Source,
    SyncChunk,
    SyncFinished,
    SyncStarted,
    UpdateAsked,
)
from .operations import Operation, Purpose, Standing
from .reads import copy_for, told, visible
from .refusals import broken, chunk_name
from .repairs import Repairs

_SENT = (Standing.FORWARDING, Standing.HELD)


class Replica(Repairs):
    """The state machine. ``lookup`` and ``outcome`` read the index as of every change asked for so
    far; they may raise DataLossError for a damaged record."""

    # Reads

    def committed(self, chunk_id: ChunkId) -> tuple[ChunkVersion | None, bool]:
        """The version that readers see (None: absent), and whether that is certain (rule 6).

        Raises DataLossError if the chunk's record is damaged, UnavailableError if nobody can tell
        now.
        """
        return visible(self.view, self._operations, self._lookup, chunk_id)

    def version_told(self, chunk_id: ChunkId, version: int) -> ChunkVersion | None:
        """The content of the version that the tail has committed (0, None: absent), or a later
        committed one.

        Raises UnavailableError if that is not here yet: ask again. DataLossError as ``committed``.
        """
        return told(self.view, self._operations, self._lookup, chunk_id, version)

    def copy_for(self, chunk_id: ChunkId, source: Source, version: int) -> ChunkVersion | None:
        """What another replica that lost its own may copy from here (None: absent).

        Raises ConflictError if the version asked for is not here, UnavailableError if this replica
        does not serve or cannot tell now, DataLossError if its own record is damaged.
        """
        if not (self.view.takes_part if source is Source.VERSION else self.view.is_serving):
            raise UnavailableError(f"target {self.target_id} does not serve")
        return copy_for(self._operations, self._lookup, chunk_id, source, version)

    def busy(self) -> Sequence[ChunkId]:
        """Chunks with operations under way: what the index holds of them may change."""
        return self._operations.chunks()

    # Events

    def step(self, event: Event) -> list[Effect]:
        """Take one event; return what is to be done, in order."""
        if isinstance(event, UpdateAsked):
            return self._asked(event) if event.mark is None else self._copy_asked(event)
        if isinstance(event, ChainChanged):
            return self._chain_changed(event.chain)
        if isinstance(event, PendingFound):
            return self._pending_found(event)
        if isinstance(event, GiveUp):
            return self._give_up(event.request_id)
        if isinstance(event, SyncChunk):
            return self._sync_chunk(event)
        if isinstance(event, RepairChunk):
            return self._repair_chunk(event)
        if isinstance(event, SyncStarted):
            return self._sync_started(event)
        if isinstance(event, SyncFinished):
            return self._sync_finished(event)
        operation = self._operations.get(event.request_id)
        return [] if operation is None else self._progress(operation, event)

    def _progress(self, operation: Operation, event: Event) -> list[Effect]:
        """Something that an operation waited for has come."""
        if isinstance(event, Prepared):
            if operation.purpose is Purpose.COPIED:
                return self._copy_prepared(operation, event.content)
            return self._prepared(operation, event.content)
        if isinstance(event, Persisted):
            return self._persisted(operation)
        if isinstance(event, PrepareFailed):
            return self._prepare_failed(operation, event.error)
        if isinstance(event, PersistFailed):
            if isinstance(event.error, DataLossError):
                return self._record_lost(operation, event.error)
            return self._broken(operation, event.error)
        if isinstance(event, Fetched | FetchFailed):
            return self._fetch_ended(operation, event)
        assert isinstance(event, Acknowledged | ForwardFailed | RetryForward)
        if operation.standing not in _SENT or operation.attempt != event.attempt:
            return []  # of an earlier attempt, perhaps to another successor
        copied = operation.purpose is Purpose.COPY
        if isinstance(event, Acknowledged):
            if copied:
                return self._copy_acknowledged(operation, event)
            return self._acknowledged(operation, event)
        if isinstance(event, RetryForward):
            if operation.standing is not Standing.HELD:
                return []
            return self._send_copy(operation) if copied else self._carry_on(operation)
        if operation.standing is Standing.HELD:
            return []
        if copied:
            return self._copy_failed(operation, event)
        if isinstance(event.error, DataLossError) and self.view.is_serving:
            return self._fetch_pending(operation)
        return self._forward_failed(operation, event)

    def _record_lost(self, operation: Operation, error: CraqenError) -> list[Effect]:
        """The chunk's index record was damaged while an update was under way. If that is a removal
        which the successors have settled, it is settled here as well: else its outcome would be
        forgotten, and a retry made a second removal."""
        settled = operation.standing is Standing.COMMITTING and operation.content is None
        if settled and operation.purpose is Purpose.UPDATE:
            change = Drop(operation.chunk_id, operation.token)
            return self._persist(operation, Standing.INSTALLING, change)
        return self._end(operation, error=error)

    def _fetch_ended(self, operation: Operation, event: Fetched | FetchFailed) -> list[Effect]:
        if operation.standing is not Standing.FETCHING:
            return []
        if isinstance(event, FetchFailed):
            return self._fetch_failed(operation, event)
        if operation.purpose is Purpose.REPAIR:
            return self._fetched(operation, event)
        return self._pending_fetched(operation, event)

    def _asked(self, event: UpdateAsked) -> list[Effect]:
        try:
            if event.kind == UpdateKind.LOSE:
                raise InvalidArgumentError("a loss is copied by a resync only")
            known = self._known(event)
            if known is not None:
                return known
            self._check(event.chain_version, forwarded=event.version > 0)
        except CraqenError as error:
            return [Reply(event.request_id, error)]
        whole = event.version > 0 and event.kind == UpdateKind.REPLACE
        return self._enter(
            Operation(
                event.request_id,
                event.chunk_id,
                event.chain_version,
                event.kind,
                event.token,
                event.version,
                event.version > 0,
                answers=[event.request_id],
                stated=(event.length_bytes, event.crc32c) if whole else None,
            )
        )

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
        if remembered is not None and remembered.token.sequence >= token.sequence:
            if remembered.token != token or remembered.chunk_id != event.chunk_id:
                if event.version == 0:
                    raise _outdated(event)
                return self._settled_here(event)
            if not self._restated(event, remembered):
                return [_remembered(event.request_id, remembered)]
        last = self._operations.of_channel(token)
        if last is not None and event.version == 0 and last.token.sequence < token.sequence:
            # Its outcome would be forgotten for this one's before it is settled everywhere.
            raise ChunkBusyError(
                f"update {token}: number {last.token.sequence} of its channel is under way for "
                f"chunk {chunk_name(last.chunk_id)}"
            )
        return None

    def _settled_here(self, event: UpdateAsked) -> list[Effect]:
        """The predecessor forwards an update that was settled before a later one of its channel: it
        lost the unflushed commit in a crash, and nothing else of the chunk passed it since. So it
        is what is committed here, or a late copy. Raises InvalidArgumentError for that."""
        record = self._lookup(event.chunk_id)
        committed = None if record is None else record.committed
        if event.kind == UpdateKind.REMOVE and record is None:
            return [Reply(event.request_id, None, event.version)]
        if committed is None or committed.token != event.token:
            raise _outdated(event)
        version, length, crc = committed.version, committed.length_bytes, committed.crc32c
        return [Reply(event.request_id, None, version, length, crc)]

    def _restated(self, event: UpdateAsked, remembered: TokenOutcome) -> bool:
        """Whether the predecessor sends the whole of it with another content than is remembered."""
        return (
            event.version == remembered.version
            and event.kind == UpdateKind.REPLACE
            and (event.length_bytes, event.crc32c) != (remembered.length_bytes, remembered.crc32c)
        )

    def _begin(self, operation: Operation) -> list[Effect]:
        if operation.purpose is Purpose.UPDATE:
            return self._begin_update(operation)
        if operation.purpose is Purpose.COPY:
            return self._begin_copy(operation)
        if operation.purpose is Purpose.COPIED:
            return self._begin_copied(operation)
        return self._begin_repair(operation)

    def _persisted(self, operation: Operation) -> list[Effect]:
        operation.hidden = False
        if operation.standing is Standing.STAGING:
            return self._carry_on(operation)
        if operation.standing is Standing.ABANDONING:
            return self._abandoned(operation)
        if operation.purpose is Purpose.COPIED:
            return self._copy_installed(operation)
        return self._end(operation, sent=operation.purpose is not Purpose.UPDATE)

    def _pending_found(self, event: PendingFound) -> list[Effect]:
        record = self._stored(event.chunk_id)
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
        self._end_session()
        effects: list[Effect] = []
        for operation in self._operations.all():
            if operation.standing not in _SENT:
                continue
            if operation.purpose is Purpose.COPY:
                effects += self._send_copy(operation)
            else:
                effects += self._carry_on(operation)
        return effects


def _outdated(event: UpdateAsked) -> InvalidArgumentError:
    return InvalidArgumentError(f"update {event.token}: a later one of its channel is known")


def _remembered(request_id: int, outcome: TokenOutcome) -> Reply:
    return Reply(request_id, None, outcome.version, outcome.length_bytes, outcome.crc32c)
