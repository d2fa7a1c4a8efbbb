"""A chain whose targets crash, leave, come back and are filled again, at any moment: production
machines (replica, resync, transition) under a random schedule, with planted damage.

A content is the list of tokens of the updates that made it: WRITE appends its token, REPLACE begins
anew. So what was applied twice, or lost, shows.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from craqen.core.chunks.changes import apply_change, is_outdated
from craqen.core.chunks.store import (
    Block,
    ChunkRecord,
    ChunkVersion,
    Drop,
    IndexChange,
    Install,
    Lose,
    TokenOutcome,
)
from craqen.core.cluster.records import ChainRecord, ChainTarget, LocalState, PublicState
from craqen.core.cluster.transition import next_chain
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
    SyncChunk,
    SyncFinished,
    SyncStarted,
    UpdateAsked,
)
from craqen.core.craq.replica import Replica
from craqen.core.craq.resync import (
    Compared,
    ComparePages,
    Copied,
    Copy,
    CopyFailed,
    Ended,
    Finish,
    Finished,
    OutcomesPut,
    Page,
    PutOutcomes,
    Resumed,
    Resync,
    ResyncEffect,
    ResyncEvent,
    outcomes_after,
    page_of,
)
from craqen.core.errors import (
    ConflictError,
    CraqenError,
    DataLossError,
    UnavailableError,
)
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.wire.messages import UpdateKind

Content = tuple[UpdateToken, ...]
PAGE_CHUNKS = 2


@dataclass
class Store:
    """An index with what is flushed and what is not, and what of it is damaged."""

    durable: dict[ChunkId, ChunkRecord] = field(default_factory=dict)
    records: dict[ChunkId, ChunkRecord] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)
    durable_outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)
    lost: set[ChunkId] = field(default_factory=set)
    """Chunks whose records are damaged."""
    rotten: set[int] = field(default_factory=set)
    """Blocks whose bytes are damaged."""

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        if chunk_id in self.lost:
            raise DataLossError(f"record of {chunk_id}")
        return self.records.get(chunk_id)

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        return self.outcomes.get((client_id, channel))

    def apply(self, changes: tuple[IndexChange, ...]) -> None:
        for change in changes:
            if change.chunk_id in self.lost:
                assert isinstance(change, Install | Drop | Lose)
                self.lost.discard(change.chunk_id)
                self.records.pop(change.chunk_id, None)
            record, outcome = apply_change(self.records.get(change.chunk_id), change)
            if record is None:
                self.records.pop(change.chunk_id, None)
            else:
                self.records[change.chunk_id] = record
            if outcome is not None:
                self.put_outcome(outcome)

    def put_outcome(self, outcome: TokenOutcome) -> None:
        if not is_outdated(outcome, self.outcome):
            self.outcomes[outcome.token.client_id, outcome.token.channel] = outcome

    def flush(self) -> None:
        self.durable = dict(self.records)
        self.durable_outcomes = dict(self.outcomes)

    def crash(self) -> None:
        self.records = dict(self.durable)
        self.outcomes = dict(self.durable_outcomes)
        self.lost &= set(self.records)

    def page(self, begin: ChunkId, replica: Replica) -> Page:
        ids = sorted(one for one in self.records if one >= begin and one not in self.lost)
        records = [self.records[one] for one in ids[: PAGE_CHUNKS + 1]]
        return page_of(records, self.lost.union(replica.busy()), begin, PAGE_CHUNKS)


@dataclass
class Filling:
    """A resync that a target drives."""

    machine: Resync
    chain_version: int
    successor: int
    over: bool = False


@dataclass
class Member:
    """One target's process."""

    number: int
    store: Store
    replica: Replica
    life: int = 0
    alive: bool = True
    filling: Filling | None = None
    repairing: set[ChunkId] = field(default_factory=set)


@dataclass(frozen=True)
class Back:
    """Who waits for an answer."""

    sender: int
    life: int
    answered: Callable[[Reply], None]


class ChainWorld:
    """All members, what is on its way, the manager. A seed gives one schedule."""

    def __init__(self, length: int, seed: int) -> None:
        self.random = random.Random(seed)
        targets = tuple(ChainTarget(one, PublicState.SERVING) for one in range(1, length + 1))
        self.chain = ChainRecord(7, 1, targets)
        self.contents: dict[int, Content] = {0: ()}
        """By checksum."""
        self.numbers = itertools.count(1)
        self.blocks = itertools.count(1)
        self.members = {one: self._member(one) for one in range(1, length + 1)}
        self.pending: list[tuple[int, int, Callable[[], None]]] = []
        """(member, its life, what happens) in no order; member 0: whatever lives."""
        self.backs: dict[tuple[int, int], Back] = {}
        """By (member, request)."""
        self.updates: dict[tuple[int, int], UpdateAsked] = {}
        self.quiet = False
        """No more losses, duplicates or crashes."""
        self.sent_copies = 0
        self.repaired = 0

    def _member(self, number: int) -> Member:
        store = Store()
        return Member(number, store, self._replica(number, store))

    def _replica(self, number: int, store: Store) -> Replica:
        return Replica(number, self.chain, store.get, store.outcome)

    # Time

    def later(self, member: int, what: Callable[[], None]) -> None:
        self.pending.append((member, self.members[member].life if member else 0, what))

    def much_later(self, member: int, what: Callable[[], None]) -> None:
        """After many other things."""
        hops = self.random.randrange(60)

        def hop() -> None:
            nonlocal hops
            hops -= 1
            if hops > 0 and not self.quiet:
                self.later(member, hop)
            else:
                what()

        self.later(member, hop)

    def step(self) -> bool:
        """Let one thing happen; whether there was one."""
        if not self.pending:
            return False
        place = self.random.randrange(len(self.pending))
        self.pending[place], self.pending[-1] = self.pending[-1], self.pending[place]
        number, life, what = self.pending.pop()
        if number == 0 or (self.members[number].alive and self.members[number].life == life):
            what()
        return True

    def chance(self, likely: float) -> bool:
        return not self.quiet and self.random.random() < likely

    # Members

    def take(self, number: int, event: Event) -> None:
        member = self.members[number]
        if member.alive:
            for effect in member.replica.step(event):
                self._carry_out(member, effect)

    def crash(self, number: int) -> None:
        """It loses what was not flushed, and whoever waits for it hears nothing but that."""
        member = self.members[number]
        member.life += 1
        member.alive = False
        member.store.crash()
        member.filling = None
        member.repairing.clear()
        for key in [key for key in self.backs if key[0] == number]:
            self._answer(*key, Reply(key[1], UnavailableError("crashed")))

    def start(self, number: int) -> None:
        member = self.members[number]
        member.alive = True
        member.replica = self._replica(number, member.store)
        for chunk_id, record in list(member.store.records.items()):
            if chunk_id in member.store.lost:
                self.repair(member, chunk_id, 0)
            elif record.pending is not None or record.pending_remove is not None:
                self.take(number, PendingFound(next(self.numbers), chunk_id))
        self.look(member)

    def hear(self, number: int) -> None:
        """A member hears of the present table."""
        member = self.members[number]
        served = member.replica.view.is_serving
        self.take(number, ChainChanged(self.chain))
        if member.replica.view.is_serving and not served:
            for chunk_id, record in list(member.store.records.items()):
                if chunk_id in member.store.lost:
                    self.repair(member, chunk_id, 0)
                elif record.pending is not None or record.pending_remove is not None:
                    self.take(number, PendingFound(next(self.numbers), chunk_id))
        self.look(member)

    def manage(self) -> None:
        """The manager looks at everybody, and writes the next table if it differs."""
        for member in self.members.values():
            if member.filling is not None and member.filling.over:
                self._watch(member, member.filling)
        local = {}
        for number, member in self.members.items():
            state = LocalState.OFFLINE
            if member.alive:
                synced = member.replica.synced_chain_version == self.chain.version
                state = LocalState.UP_TO_DATE if synced else LocalState.ONLINE
            local[number] = state
        following = next_chain(self.chain, local)
        if following is self.chain:
            return
        self.chain = following
        for number in self.members:
            self.later(number, lambda number=number: self.hear(number))  # type: ignore[misc]

    # Effects

    def _carry_out(self, member: Member, effect: Effect) -> None:
        number = member.number
        if isinstance(effect, Reply):
            self._answer(number, effect.request_id, effect)
        elif isinstance(effect, Prepare):
            self.later(number, lambda: self._prepare(member, effect))
        elif isinstance(effect, Persist):
            member.store.apply(effect.changes)
            if effect.durable or self.chance(0.5):
                member.store.flush()
            self.later(number, lambda: self.take(number, Persisted(effect.request_id)))
        elif isinstance(effect, Forward):
            self._forward(member, effect)
        elif isinstance(effect, Fetch):
            self.later(number, lambda: self._fetch(member, effect, 0, None))
        else:
            assert isinstance(effect, RetryLater)
            retry = RetryForward(effect.request_id, effect.attempt)
            self.later(number, lambda: self.take(number, retry))

    def _is_whole(self, member: Member, chunk_id: ChunkId, content: ChunkVersion) -> bool:
        if content.block.file_id in member.store.rotten:
            self.repair(member, chunk_id, content.version)
            return False
        return True

    def version(
        self, number: int, chain_version: int, content: Content, token: UpdateToken
    ) -> ChunkVersion:
        crc = zlib.crc32(repr(content).encode()) if content else 0
        self.contents[crc] = content
        block = Block(next(self.blocks), 0, 65536)
        return ChunkVersion(number, chain_version, len(content), crc, b"", block, token)

    def _prepare(self, member: Member, effect: Prepare) -> None:
        asked = self.updates[member.number, effect.request_id]
        event: Event
        if asked.kind == UpdateKind.REPLACE:
            content: Content = self.contents[asked.crc32c] if asked.version else (asked.token,)
        elif effect.base is not None and not self._is_whole(member, asked.chunk_id, effect.base):
            event = PrepareFailed(effect.request_id, DataLossError("damaged"))
            self.take(member.number, event)
            return
        else:
            base = () if effect.base is None else self.contents[effect.base.crc32c]
            content = (*base, asked.token)
        made = self.version(effect.version, effect.chain_version, content, asked.token)
        self.take(member.number, Prepared(effect.request_id, made))

    def _forward(self, member: Member, effect: Forward) -> None:
        content = effect.content
        asked = self.updates.get((member.number, effect.request_id))
        if content is None:
            kind, length, crc = UpdateKind.LOSE if effect.lost else UpdateKind.REMOVE, 0, 0
        elif effect.whole or asked is None:
            if not effect.as_it_is and not self._is_whole(member, effect.chunk_id, content):
                self._forward_failed(member, effect, DataLossError("damaged"))
                return
            kind, length, crc = UpdateKind.REPLACE, content.length_bytes, content.crc32c
        else:
            kind, length, crc = asked.kind, content.length_bytes, content.crc32c
        token = effect.token if effect.token.client_id >= 0 else UpdateToken(0, 0, 0)
        event = UpdateAsked(
            0,
            effect.chunk_id,
            effect.chain_version,
            kind,
            token,
            effect.version,
            length,
            crc,
            effect.mark,
        )

        def answered(reply: Reply) -> None:
            if reply.error is not None:
                error = reply.error
                if isinstance(error, DataLossError):
                    error = UnavailableError(f"there: {error}")
                self._forward_failed(member, effect, error)
                return
            self.sent_copies += effect.mark is not None
            acknowledged = Acknowledged(
                effect.request_id,
                effect.attempt,
                reply.version,
                reply.length_bytes,
                reply.crc32c,
            )
            self.take(member.number, acknowledged)

        self.call(member, effect.target_id, event, answered)
        if self.chance(0.15):
            target_id = effect.target_id
            repeated = replace(event, request_id=next(self.numbers))
            self.updates[target_id, repeated.request_id] = repeated
            self.much_later(target_id, lambda: self.take(target_id, repeated))

    def _forward_failed(self, member: Member, effect: Forward, error: CraqenError) -> None:
        number = member.number
        failed = ForwardFailed(effect.request_id, effect.attempt, error)
        retry = RetryForward(effect.request_id, effect.attempt)

        def fail() -> None:
            self.take(number, failed)
            self.later(number, lambda: self.take(number, retry))

        self.later(number, fail)

    def call(
        self,
        member: Member | None,
        to: int,
        event: UpdateAsked | SyncStarted | SyncFinished,
        answered: Callable[[Reply], None],
    ) -> None:
        """Ask another member; the question or the answer may be lost, which is answered as such."""
        request = next(self.numbers)
        asked = replace(event, request_id=request)
        sender, life = (0, 0) if member is None else (member.number, member.life)
        self.backs[to, request] = Back(sender, life, answered)
        receiver = self.members[to]
        if self.chance(0.05) or not receiver.alive:
            self._answer(to, request, Reply(request, UnavailableError("lost")))
            return
        if isinstance(asked, UpdateAsked):
            self.updates[to, request] = asked
        self.later(to, lambda: self.take(to, asked))
        if self.chance(0.1):
            self.later(to, lambda: self.take(to, GiveUp(request)))

    def _answer(self, number: int, request: int, reply: Reply) -> None:
        back = self.backs.pop((number, request), None)
        if back is None:
            return
        if self.chance(0.05):
            reply = Reply(request, UnavailableError("lost"))
        if back.sender and back.life != self.members[back.sender].life:
            return
        if self.chance(0.05):
            self.much_later(back.sender, lambda: back.answered(reply))
        else:
            self.later(back.sender, lambda: back.answered(reply))

    # Fetch and repair

    def _fetch(
        self, member: Member, effect: Fetch, number: int, failure: CraqenError | None
    ) -> None:
        """Ask the targets one after the other, as core/storage/transfers.py does."""
        if number == len(effect.targets):
            assert failure is not None
            self.take(member.number, FetchFailed(effect.request_id, failure))
            return
        source = self.members[effect.targets[number]]
        wanted = effect.wanted
        try:
            if not source.alive or self.chance(0.1):
                raise UnavailableError("lost")
            source.replica.check_version(effect.chain_version)
            found = source.replica.copy_for(
                effect.chunk_id, effect.source, 0 if wanted is None else wanted.version
            )
            if found is not None and not self._is_whole(source, effect.chunk_id, found):
                raise DataLossError("damaged there")
            if found is not None and wanted is not None and found.crc32c != wanted.crc32c:
                raise ConflictError("another content")
        except CraqenError as error:
            if failure is None or isinstance(failure, ConflictError):
                failure = error
            following = failure
            self.later(member.number, lambda: self._fetch(member, effect, number + 1, following))
            return
        made = found
        if found is not None:
            content = self.contents[found.crc32c]
            made = self.version(found.version, effect.chain_version, content, found.token)
        fetched = Fetched(effect.request_id, made)
        self.later(member.number, lambda: self.take(member.number, fetched))

    def repair(self, member: Member, chunk_id: ChunkId, version: int) -> None:
        """As core/storage/repair.py: once at a time, until it succeeds."""
        if chunk_id in member.repairing:
            return
        member.repairing.add(chunk_id)
        self._try_repair(member, chunk_id, version)

    def _try_repair(self, member: Member, chunk_id: ChunkId, version: int) -> None:
        def answered(reply: Reply) -> None:
            if reply.error is None:
                self.repaired += reply.sent
                member.repairing.discard(chunk_id)
            else:
                self.later(member.number, lambda: self._try_repair(member, chunk_id, version))

        request = next(self.numbers)
        self.backs[member.number, request] = Back(member.number, member.life, answered)
        self.later(
            member.number,
            lambda: self.take(member.number, RepairChunk(request, chunk_id, version)),
        )

    # Resync, as core/storage/resync.py does

    def look(self, member: Member) -> None:
        """Begin what the member's view asks for."""
        if not member.alive:
            return
        view = member.replica.view
        filling = member.filling
        if filling is not None and filling.chain_version != view.chain.version:
            member.filling = None
        if member.filling is None and view.is_serving_tail and view.successor is not None:
            self._begin_session(member, view.successor[0])

    def _begin_session(self, member: Member, successor: int) -> None:
        version = member.replica.chain.version
        session = next(self.numbers)
        filling = member.filling = Filling(Resync(session), version, successor)

        def answered(reply: Reply) -> None:
            if member.filling is not filling:
                return
            if reply.error is not None:
                self.later(member.number, lambda: self._again(member, filling))
            elif self.members[successor].replica.synced_chain_version != version:
                self._resync(member, filling, filling.machine.start())
            else:
                filling.over = True

        self.call(member, successor, SyncStarted(0, version, session), answered)

    def _again(self, member: Member, filling: Filling) -> None:
        if member.filling is filling:
            member.filling = None
            self.look(member)

    def _watch(self, member: Member, filling: Filling) -> None:
        """A successor that restarts forgets that it was filled."""
        successor = self.members[filling.successor]
        if successor.alive and successor.replica.synced_chain_version != filling.chain_version:
            self._again(member, filling)

    def _resync(self, member: Member, filling: Filling, effects: list[ResyncEffect]) -> None:
        if member.filling is not filling:
            return
        number = member.number

        def tell(event: ResyncEvent) -> None:
            if member.filling is filling:
                self._resync(member, filling, filling.machine.step(event))

        for effect in effects:
            if isinstance(effect, ComparePages):
                self._compare(member, filling, effect, tell)
            elif isinstance(effect, Copy):
                self.later(number, lambda effect=effect: self._copy(member, filling, effect, tell))  # type: ignore[misc]
            elif isinstance(effect, PutOutcomes):
                self._put_outcomes(member, filling, effect, tell)
            elif isinstance(effect, Finish):
                self._finish(member, filling, tell)
            elif isinstance(effect, Ended):
                if effect.error is None:
                    filling.over = True
                else:
                    self.later(number, lambda: self._again(member, filling))
            else:
                self.later(number, lambda: tell(Resumed()))

    def _compare(
        self,
        member: Member,
        filling: Filling,
        effect: ComparePages,
        tell: Callable[[ResyncEvent], None],
    ) -> None:
        here = member.store.page(effect.position, member.replica)
        successor = self.members[filling.successor]

        def ask() -> None:
            try:
                successor.replica.check_session(filling.chain_version, filling.machine.session)
            except CraqenError:
                self.later(member.number, lambda: self._again(member, filling))
                return
            there = successor.store.page(effect.position, successor.replica)
            self.later(member.number, lambda: tell(Compared(here, there)))

        self._ask(member, successor, filling, ask)

    def _ask(
        self, member: Member, successor: Member, filling: Filling, what: Callable[[], None]
    ) -> None:
        """Let *what* happen at the successor some time, or begin again if it is not there."""

        def arrive() -> None:
            if successor.alive:
                what()
            else:
                self.later(member.number, lambda: self._again(member, filling))

        self.later(0, arrive)

    def _copy(
        self,
        member: Member,
        filling: Filling,
        effect: Copy,
        tell: Callable[[ResyncEvent], None],
    ) -> None:
        slot, difference = effect.mark.slot, effect.difference

        def answered(reply: Reply) -> None:
            if reply.error is None:
                tell(Copied(slot, reply.sent, reply.length_bytes))
            else:
                tell(CopyFailed(slot, reply.error))

        request = next(self.numbers)
        self.backs[member.number, request] = Back(member.number, member.life, answered)
        chunk_id, held, local_version, _, as_it_is = difference
        event = SyncChunk(
            request, chunk_id, filling.chain_version, effect.mark, held, local_version, as_it_is
        )
        self.take(member.number, event)

    def _put_outcomes(
        self,
        member: Member,
        filling: Filling,
        effect: PutOutcomes,
        tell: Callable[[ResyncEvent], None],
    ) -> None:
        keys = sorted(key for key in member.store.outcomes if key >= effect.begin)[:PAGE_CHUNKS]
        outcomes = [member.store.outcomes[key] for key in keys]
        successor = self.members[filling.successor]

        def put() -> None:
            for outcome in outcomes:
                successor.store.put_outcome(outcome)
            successor.store.flush()
            done = OutcomesPut(len(keys), outcomes_after(keys, PAGE_CHUNKS))
            self.later(member.number, lambda: tell(done))

        self._ask(member, successor, filling, put)

    def _finish(
        self, member: Member, filling: Filling, tell: Callable[[ResyncEvent], None]
    ) -> None:
        def answered(reply: Reply) -> None:
            if reply.error is None:
                tell(Finished())
            else:
                self.later(member.number, lambda: self._again(member, filling))

        event = SyncFinished(0, filling.chain_version, filling.machine.session)
        self.call(member, filling.successor, event, answered)
