"""Copies, repairs and differing replicas, step by step at one replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from craqen.core.chunks.store import (
    Abandon,
    Block,
    ChunkRecord,
    ChunkVersion,
    Commit,
    Drop,
    Install,
    Stage,
    TokenOutcome,
)
from craqen.core.cluster.records import ChainRecord, ChainTarget, PublicState
from craqen.core.craq.events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Fetch,
    Fetched,
    FetchFailed,
    Forward,
    ForwardFailed,
    GiveUp,
    PendingFound,
    Persist,
    Persisted,
    Prepare,
    Prepared,
    PrepareFailed,
    RepairChunk,
    Reply,
    RetryForward,
    RetryLater,
    Source,
    SyncChunk,
    SyncFinished,
    SyncStarted,
    UpdateAsked,
)
from craqen.core.craq.replica import Replica
from craqen.core.craq.seen import ABSENT, SyncMark, seen_of
from craqen.core.craq.updates import MISMATCH_RESENDS_MAX
from craqen.core.errors import (
    ChunkBusyError,
    ConflictError,
    CraqenError,
    DataLossError,
    InvalidArgumentError,
    NoSpaceError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.wire.messages import UpdateKind
from craqen.tests.core.craq.chain_world import Store

CHUNK = ChunkId(1, 0)
TOKEN = UpdateToken(5, 1, 1)
SERVING, SYNCING = PublicState.SERVING, PublicState.SYNCING


def chain(*states: PublicState, version: int = 4) -> ChainRecord:
    return ChainRecord(
        7, version, tuple(ChainTarget(number, state) for number, state in enumerate(states, 1))
    )


def content(
    number: int, value: int, chain_version: int = 1, token: UpdateToken = TOKEN, block: int = 0
) -> ChunkVersion:
    return ChunkVersion(number, chain_version, value, value, b"", Block(block, 0, 65536), token)


class One:
    """One replica and its index."""

    def __init__(self, number: int, chain: ChainRecord) -> None:
        self.store = Store()
        self.replica = Replica(number, chain, self.store.get, self.store.outcome)

    def holds(self, committed: ChunkVersion | None, pending: ChunkVersion | None = None) -> None:
        self.store.records[CHUNK] = ChunkRecord(CHUNK, committed, pending)

    def step(self, event: Event) -> Sequence[Effect]:
        effects = self.replica.step(event)
        for effect in effects:
            if isinstance(effect, Persist):
                self.store.apply(effect.changes)
        return effects

    def only(self, event: Event) -> Effect:
        (effect,) = self.step(event)
        return effect

    def error(self, event: Event) -> CraqenError | None:
        reply = self.only(event)
        assert isinstance(reply, Reply)
        return reply.error


def copy_event(
    request: int, mark: SyncMark, number: int = 3, kind: UpdateKind = UpdateKind.REPLACE
) -> UpdateAsked:
    return UpdateAsked(request, CHUNK, 4, kind, TOKEN, number, 30, 30, mark)


def filled() -> One:
    """A syncing tail with a session 8."""
    one = One(2, chain(SERVING, SYNCING))
    assert one.error(SyncStarted(1, 4, 8)) is None
    return one


def make(one: One, request: int, mark: SyncMark, value: int = 30) -> Effect:
    """Let a copy be made; the answer."""
    prepare = one.only(copy_event(request, mark))
    assert isinstance(prepare, Prepare)
    persist = one.only(Prepared(request, content(3, value, 4)))
    assert isinstance(persist, Persist)
    assert persist.durable
    return one.only(Persisted(request))


def test_a_copy_is_taken_whatever_is_here() -> None:
    one = filled()
    later = UpdateToken(5, 1, 9)
    one.holds(content(7, 70), content(8, 80))
    one.store.put_outcome(_outcome(later))
    assert make(one, 2, SyncMark(8, 0, 1)) == Reply(2, None, 3, 30, 30)
    assert one.store.records[CHUNK] == ChunkRecord(CHUNK, content(3, 30, 4), None)
    remembered = one.store.outcome(5, 1)
    assert remembered is not None
    assert remembered.token == later, "an older outcome replaced a newer one"


def _outcome(token: UpdateToken, chunk_id: ChunkId = CHUNK) -> TokenOutcome:
    return TokenOutcome(token, chunk_id, 7, 70, 70)


def test_a_late_copy_is_refused() -> None:
    one = filled()
    make(one, 2, SyncMark(8, 0, 1))
    assert one.only(copy_event(3, SyncMark(8, 0, 1))) == Reply(3, None, 3, 30, 30)
    make(one, 4, SyncMark(8, 0, 2))
    assert isinstance(one.error(copy_event(5, SyncMark(8, 0, 1))), InvalidArgumentError)
    assert isinstance(one.error(copy_event(6, SyncMark(7, 0, 9))), ConflictError)
    assert isinstance(one.error(copy_event(7, SyncMark(8, 5000, 1))), InvalidArgumentError)
    write = copy_event(8, SyncMark(8, 1, 1), kind=UpdateKind.WRITE)
    assert isinstance(one.error(write), InvalidArgumentError)


def test_a_new_session_ends_copies_of_the_old_one() -> None:
    one = filled()
    one.holds(content(2, 20))
    assert isinstance(one.only(copy_event(2, SyncMark(8, 0, 1))), Prepare)
    assert one.error(SyncStarted(3, 4, 9)) is None
    assert isinstance(one.error(Prepared(2, content(3, 30, 4))), ConflictError)
    assert one.store.records[CHUNK].committed == content(2, 20)


def test_a_session_ends_with_success_or_the_chain() -> None:
    one = filled()
    assert isinstance(one.error(SyncFinished(2, 4, 7)), ConflictError)
    assert isinstance(one.error(SyncFinished(2, 3, 8)), StaleChainVersionError)
    assert one.replica.synced_chain_version == 0
    assert one.error(SyncFinished(3, 4, 8)) is None
    assert one.replica.synced_chain_version == 4
    assert one.error(SyncFinished(4, 4, 1)) is None, "asked again: it is remembered"
    assert isinstance(one.error(copy_event(5, SyncMark(8, 0, 1))), ConflictError)
    assert one.error(SyncStarted(6, 4, 9)) is None
    assert isinstance(one.error(copy_event(7, SyncMark(9, 0, 1))), ConflictError)
    other = filled()
    other.step(ChainChanged(chain(SERVING, SYNCING, version=5)))
    with pytest.raises(ConflictError):
        other.replica.check_session(5, 8)
    serving = One(2, chain(SERVING, SERVING))
    assert isinstance(serving.error(SyncStarted(1, 4, 8)), UnavailableError)


def predecessor() -> One:
    return One(1, chain(SERVING, SYNCING))


MARK = SyncMark(8, 0, 1)


def test_what_is_the_same_by_then_is_not_sent() -> None:
    one = predecessor()
    one.holds(content(3, 30))
    assert one.only(SyncChunk(1, CHUNK, 4, MARK, seen_of(content(3, 30)), 2)) == Reply(1)
    one.holds(content(3, 30, chain_version=4))
    assert one.only(SyncChunk(2, CHUNK, 4, MARK, None, 2)) == Reply(2), "it went through"
    assert isinstance(one.only(SyncChunk(3, CHUNK, 4, MARK, None, 3)), Forward)
    empty = predecessor()
    assert empty.only(SyncChunk(1, CHUNK, 4, MARK, ABSENT, 2)) == Reply(1)


def test_a_copy_goes_until_it_is_acknowledged() -> None:
    one = predecessor()
    one.holds(content(3, 30))
    forward = one.only(SyncChunk(1, CHUNK, 4, MARK, None, 3))
    assert forward == Forward(
        1, 1, 2, CHUNK, 3, 4, content(3, 30), whole=True, syncing=True, token=TOKEN, mark=MARK
    )
    assert one.step(ForwardFailed(1, 1, UnavailableError("lost"))) == []
    assert one.only(RetryForward(1, 1)) == replace(forward, attempt=2)
    assert one.step(Acknowledged(1, 1, 3, 30, 30)) == [], "of the attempt before"
    reply = one.only(Acknowledged(1, 2, 3, 30, 30))
    assert reply == Reply(1, None, 3, 30, 30, sent=True)
    gone = predecessor()
    removal = gone.only(SyncChunk(1, CHUNK, 4, MARK, None, 3))
    assert isinstance(removal, Forward)
    assert removal.content is None
    assert gone.only(Acknowledged(1, 1, 0, 0, 0)) == Reply(1, sent=True)


def test_a_copy_ends_with_its_session_or_chain() -> None:
    one = predecessor()
    one.holds(content(3, 30))
    one.step(SyncChunk(1, CHUNK, 4, MARK, None, 3))
    error = ConflictError("another session")
    assert one.only(ForwardFailed(1, 1, error)) == Reply(1, error, 3, 30, 30)
    one.step(SyncChunk(2, CHUNK, 4, MARK, None, 3))
    changed = one.only(ChainChanged(chain(SERVING, SYNCING, version=5)))
    assert isinstance(changed, Reply)
    assert isinstance(changed.error, StaleChainVersionError)


def test_what_is_pending_is_settled_before_its_copy() -> None:
    one = predecessor()
    one.holds(content(3, 30), content(4, 40))
    settling = one.only(SyncChunk(1, CHUNK, 4, MARK, None, 3))
    assert isinstance(settling, Forward)
    assert (settling.version, settling.mark, settling.whole) == (4, None, True)
    commit = one.only(Acknowledged(settling.request_id, 1, 4, 40, 40))
    assert commit == Persist(settling.request_id, (Commit(CHUNK, 4, 4),), False)
    assert one.only(Persisted(settling.request_id)) == Reply(1), "it went through"


def test_a_replica_that_differs_is_sent_the_whole_again() -> None:
    head = One(1, chain(SERVING, SERVING))
    head.holds(content(3, 30), content(4, 40))
    forward = head.only(PendingFound(1, CHUNK))
    assert isinstance(forward, Forward)
    for attempt in range(1, MISMATCH_RESENDS_MAX + 1):
        again = head.only(Acknowledged(1, attempt, 4, 41, 41))
        assert again == replace(forward, attempt=attempt + 1, whole=True)
    last = MISMATCH_RESENDS_MAX + 1
    assert head.step(Acknowledged(1, last, 4, 41, 41)) == [RetryLater(1, last)]
    assert head.replica.mismatches == last
    assert isinstance(head.only(RetryForward(1, last)), Forward), "never stuck"
    assert isinstance(head.only(Acknowledged(1, last + 1, 4, 40, 40)), Persist)


def test_the_predecessors_content_replaces_another_of_the_same_version() -> None:
    tail = One(2, chain(SERVING, SERVING))
    tail.holds(content(4, 41))
    tail.store.put_outcome(_outcome_of(content(4, 41)))
    asked = UpdateAsked(1, CHUNK, 4, UpdateKind.REPLACE, TOKEN, 4, 40, 40)
    assert isinstance(tail.only(asked), Prepare)
    assert isinstance(tail.only(Prepared(1, content(4, 40, 4, block=1))), Persist)
    assert tail.only(Persisted(1)) == Reply(1, None, 4, 40, 40)
    assert tail.only(replace(asked, request_id=2)) == Reply(2, None, 4, 40, 40)


def _outcome_of(kept: ChunkVersion) -> TokenOutcome:
    return TokenOutcome(kept.token, CHUNK, kept.version, kept.length_bytes, kept.crc32c)


@pytest.mark.parametrize(
    ("number", "targets"), [(1, (2, 3)), (2, (3, 1)), (3, (2, 1))], ids=["head", "middle", "tail"]
)
def test_damaged_bytes_are_fetched_from_any_other(number: int, targets: tuple[int, ...]) -> None:
    one = One(number, chain(SERVING, SERVING, SERVING))
    one.holds(content(3, 30))
    assert one.only(RepairChunk(1, CHUNK, 3)) == Fetch(
        1, CHUNK, 4, targets, Source.VERSION, content(3, 30)
    )
    mended = content(3, 30, chain_version=9, block=5)
    assert one.only(Fetched(1, mended)) == Persist(
        1, (Install(CHUNK, replace_version(mended)),), True
    )
    assert one.replica.committed(CHUNK) == (replace_version(mended), True), "no news to readers"
    assert one.only(Persisted(1)) == Reply(1, None, 3, 30, 30, sent=True)
    assert one.only(RepairChunk(2, CHUNK, 2)) == Reply(2), "it was replaced"


def replace_version(mended: ChunkVersion) -> ChunkVersion:
    return content(mended.version, mended.length_bytes, 1, block=mended.block.file_id)


def test_only_the_very_version_mends() -> None:
    one = One(1, chain(SERVING, SERVING))
    one.holds(content(3, 30))
    one.step(RepairChunk(1, CHUNK, 3))
    assert isinstance(one.error(Fetched(1, content(3, 31))), ConflictError)
    one.step(RepairChunk(2, CHUNK, 3))
    lost = DataLossError("there as well")
    assert one.error(FetchFailed(2, lost)) is lost
    alone = One(1, chain(SERVING))
    alone.holds(content(3, 30))
    assert isinstance(alone.error(RepairChunk(1, CHUNK, 3)), DataLossError)
    filled = One(2, chain(SERVING, SYNCING))
    assert isinstance(filled.error(RepairChunk(1, CHUNK, 3)), UnavailableError)


@pytest.mark.parametrize(
    ("number", "targets", "source"),
    [(1, (2,), Source.SETTLED), (2, (3,), Source.SETTLED), (3, (2,), Source.NEWEST)],
    ids=["head", "middle", "tail"],
)
def test_a_lost_record_is_made_anew(number: int, targets: tuple[int, ...], source: Source) -> None:
    one = One(number, chain(SERVING, SERVING, SERVING))
    one.store.lost.add(CHUNK)
    assert one.only(RepairChunk(1, CHUNK, 0)) == Fetch(1, CHUNK, 4, targets, source, None)
    expected = content(3, 30, chain_version=0)
    assert one.only(Fetched(1, content(3, 30, 9))) == Persist(1, (Install(CHUNK, expected),), True)
    one.step(Persisted(1))
    assert one.replica.committed(CHUNK) == (expected, True)
    one.store.lost.add(CHUNK)
    one.step(RepairChunk(2, CHUNK, 0))
    assert one.only(Fetched(2, None)) == Persist(2, (Drop(CHUNK, None),), True)
    one.step(Persisted(2))
    one.store.lost.add(CHUNK)
    one.step(RepairChunk(3, CHUNK, 0))
    one.step(ChainChanged(chain(SERVING, SERVING, SERVING, version=5)))
    assert isinstance(one.error(Fetched(3, content(3, 30))), StaleChainVersionError)


def test_what_others_may_copy() -> None:
    one = One(1, chain(SERVING, SERVING))
    assert one.replica.copy_for(CHUNK, Source.SETTLED, 0) is None
    one.holds(content(3, 30), content(4, 40))
    for version in (3, 4):
        kept = one.replica.copy_for(CHUNK, Source.VERSION, version)
        assert kept is not None
        assert kept.version == version
    with pytest.raises(ConflictError):
        one.replica.copy_for(CHUNK, Source.VERSION, 5)
    with pytest.raises(UnavailableError):
        one.replica.copy_for(CHUNK, Source.SETTLED, 0)
    assert one.replica.copy_for(CHUNK, Source.NEWEST, 0) == content(4, 40)
    one.holds(content(4, 40))
    assert one.replica.copy_for(CHUNK, Source.SETTLED, 0) == content(4, 40)
    one.step(UpdateAsked(1, CHUNK, 4, UpdateKind.REPLACE, UpdateToken(5, 1, 2)))
    one.step(Prepared(1, content(5, 50)))
    with pytest.raises(UnavailableError):
        one.replica.copy_for(CHUNK, Source.NEWEST, 0)  # not durable yet


def test_a_damaged_pending_version_is_fetched_or_abandoned() -> None:
    def damaged() -> One:
        one = One(1, chain(SERVING, SERVING))
        one.holds(content(3, 30), content(4, 40))
        one.step(PendingFound(1, CHUNK))
        fetch = one.only(ForwardFailed(1, 1, DataLossError("damaged")))
        assert fetch == Fetch(1, CHUNK, 4, (2,), Source.VERSION, content(4, 40))
        return one

    one = damaged()
    mended = content(4, 40, block=6)
    assert one.only(Fetched(1, mended)) == Persist(1, (Stage(CHUNK, mended),), True)
    assert one.replica.committed(CHUNK)[1] is False, "it was there before"
    assert isinstance(one.only(Persisted(1)), Forward)
    one = damaged()
    assert one.only(FetchFailed(1, UnavailableError("lost"))) == RetryLater(1, 1)
    assert isinstance(one.only(RetryForward(1, 1)), Forward)
    one = damaged()
    assert one.only(FetchFailed(1, ConflictError("not here"))) == Persist(
        1, (Abandon(CHUNK),), True
    )
    assert one.step(Persisted(1)) == []
    assert one.store.records[CHUNK] == ChunkRecord(CHUNK, content(3, 30), None)


def test_a_forwarded_write_over_damage_asks_for_the_whole() -> None:
    one = One(2, chain(SERVING, SERVING))
    one.holds(content(3, 30))
    one.step(UpdateAsked(1, CHUNK, 4, UpdateKind.WRITE, UpdateToken(5, 1, 2), 4))
    lost = DataLossError("damaged")
    assert isinstance(one.error(PrepareFailed(1, lost)), ConflictError)
    head = One(1, chain(SERVING, SERVING))
    head.holds(content(3, 30))
    head.step(UpdateAsked(1, CHUNK, 4, UpdateKind.WRITE, UpdateToken(5, 1, 2)))
    assert head.error(PrepareFailed(1, lost)) is lost
    one.store.lost.add(CHUNK)
    asked = UpdateAsked(2, CHUNK, 4, UpdateKind.WRITE, UpdateToken(5, 1, 3), 4)
    assert isinstance(one.error(asked), UnavailableError)


def test_a_channels_next_update_waits_for_its_last_one() -> None:
    head = One(1, chain(SERVING, SERVING))
    head.step(UpdateAsked(1, CHUNK, 4, UpdateKind.REPLACE, TOKEN))
    following = UpdateAsked(2, ChunkId(1, 1), 4, UpdateKind.REPLACE, UpdateToken(5, 1, 2))
    assert isinstance(head.error(following), ChunkBusyError)


def test_an_update_that_lost_its_commit_is_settled_after_a_later_one() -> None:
    tail = One(2, chain(SERVING, SERVING))
    tail.holds(content(4, 40))
    tail.store.put_outcome(_outcome(UpdateToken(5, 1, 2), ChunkId(1, 1)))
    asked = UpdateAsked(1, CHUNK, 4, UpdateKind.REPLACE, TOKEN, 4, 40, 40)
    assert tail.only(asked) == Reply(1, None, 4, 40, 40)
    late = replace(asked, token=UpdateToken(5, 1, 0))
    assert isinstance(tail.error(late), InvalidArgumentError)
    removal = UpdateAsked(1, ChunkId(1, 2), 4, UpdateKind.REMOVE, TOKEN, 5)
    assert tail.only(removal) == Reply(1, None, 5)


def test_reads_of_what_goes_to_a_syncing_successor_wait() -> None:
    one = predecessor()
    one.holds(content(3, 30), content(4, 40))
    with pytest.raises(UnavailableError):
        one.replica.committed(CHUNK)
    one.step(ChainChanged(chain(SERVING, PublicState.OFFLINE, version=5)))
    assert one.replica.committed(CHUNK) == (content(4, 40), True)


def test_a_successor_without_space_is_told_of_at_once_and_waited_for() -> None:
    one = One(1, chain(SERVING, SERVING))
    one.holds(content(3, 30))
    one.step(UpdateAsked(1, CHUNK, 4, UpdateKind.REPLACE, UpdateToken(5, 1, 2)))
    one.step(Prepared(1, content(4, 40)))
    assert isinstance(one.only(Persisted(1)), Forward)
    assert isinstance(one.error(ForwardFailed(1, 1, NoSpaceError("full"))), NoSpaceError)
    assert one.step(GiveUp(1)) == [], "it was told"
    assert isinstance(one.only(RetryForward(1, 1)), Forward)
    assert one.step(ForwardFailed(1, 2, NoSpaceError("full"))) == []
    assert isinstance(one.only(RetryForward(1, 2)), Forward)
    settled = one.only(Acknowledged(1, 3, 4, 40, 40))
    assert isinstance(settled, Persist)
    assert one.store.records[CHUNK] == ChunkRecord(CHUNK, content(4, 40, 4), None)
