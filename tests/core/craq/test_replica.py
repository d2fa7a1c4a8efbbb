"""Chain replication under a random schedule: delays, drops, duplicates and restarts, for chains of
one, two and three.

The world below drives production replicas. Index changes are volatile until a flush; a restart
loses what was not flushed. A seed gives one schedule.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest

from craqen.core.chunks.changes import apply_change
from craqen.core.chunks.store import (
    Block,
    ChunkRecord,
    ChunkVersion,
    Drop,
    IndexChange,
    TokenOutcome,
)
from craqen.core.cluster.records import ChainRecord, ChainTarget, PublicState
from craqen.core.craq.events import (
    Acknowledged,
    ChainChanged,
    Effect,
    Event,
    Forward,
    ForwardFailed,
    PendingFound,
    Persist,
    Persisted,
    PersistFailed,
    Prepare,
    Prepared,
    Reply,
    RetryForward,
    UpdateAsked,
)
from craqen.core.craq.queues import QUEUE_MAX
from craqen.core.craq.replica import Replica
from craqen.core.errors import (
    ChunkBusyError,
    CraqenError,
    DataLossError,
    InvalidArgumentError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.wire.messages import UpdateKind

CHUNK = ChunkId(1, 0)
BLOCK = Block(0, 0, 65536)


def chain_of(length: int, version: int = 1) -> ChainRecord:
    members = tuple(ChainTarget(one, PublicState.SERVING) for one in range(1, length + 1))
    return ChainRecord(7, version, members)


@dataclass
class Store:
    """An index with what is flushed and what is not."""

    durable: dict[ChunkId, ChunkRecord | None] = field(default_factory=dict)
    records: dict[ChunkId, ChunkRecord | None] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)
    durable_outcomes: dict[tuple[int, int], TokenOutcome] = field(default_factory=dict)

    def apply(self, changes: tuple[IndexChange, ...]) -> None:
        for change in changes:
            record, outcome = apply_change(self.records.get(change.chunk_id), change)
            self.records[change.chunk_id] = record
            if outcome is not None:
                self.outcomes[outcome.token.client_id, outcome.token.channel] = outcome

    def flush(self) -> None:
        self.durable = dict(self.records)
        self.durable_outcomes = dict(self.outcomes)

    def crash(self) -> None:
        self.records = dict(self.durable)
        self.outcomes = dict(self.durable_outcomes)


class Asked(NamedTuple):
    """Who waits for a forwarded update: the sender, its request, its attempt, its life."""

    sender: int
    request: int
    attempt: int
    life: int


class World:
    """Replicas, messages on their way, and clients' answers."""

    def __init__(self, length: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.chain = chain_of(length)
        self.stores = {number: Store() for number in range(1, length + 1)}
        self.replicas = {number: self.new_replica(number) for number in self.stores}
        self.pending: list[tuple[int, int, Event]] = []
        """(target, its life, event) in no order: any may come next."""
        self.lives = dict.fromkeys(self.stores, 0)
        self.contents: dict[tuple[int, int], tuple[int, int]] = {}
        self.requests = 100
        self.asked: dict[tuple[int, int], Asked] = {}
        """By (target, request) of a forwarded update."""
        self.answers: dict[int, Reply] = {}

    def new_replica(self, number: int) -> Replica:
        store = self.stores[number]
        return Replica(
            number,
            self.chain,
            lambda chunk_id: store.records.get(chunk_id),
            lambda client, channel: store.outcomes.get((client, channel)),
        )

    def ask(self, token: UpdateToken, value: int, kind: UpdateKind = UpdateKind.REPLACE) -> int:
        """A client's update at the head; returns its request id."""
        self.requests += 1
        self.contents[1, self.requests] = (value, self.requests)
        event = UpdateAsked(self.requests, CHUNK, self.chain.version, kind, token)
        request = self.requests
        self.take(1, event)
        return request

    def take(self, target: int, event: Event) -> None:
        for effect in self.replicas[target].step(event):
            self.carry_out(target, effect)

    def later(self, target: int, event: Event) -> None:
        self.pending.append((target, self.lives[target], event))

    def carry_out(self, target: int, effect: Effect) -> None:
        if isinstance(effect, Prepare):
            value, _ = self.contents[target, effect.request_id]
            token = self.token_of(target, effect.request_id)
            content = ChunkVersion(
                effect.version, effect.chain_version, value, value, b"", BLOCK, token
            )
            self.later(target, Prepared(effect.request_id, content))
        elif isinstance(effect, Persist):
            self.stores[target].apply(effect.changes)
            if effect.durable:
                self.stores[target].flush()
            self.later(target, Persisted(effect.request_id))
        elif isinstance(effect, Forward):
            self.send(target, effect)
        elif not isinstance(effect, Reply):
            raise AssertionError(f"unexpected: {effect}")
        elif (target, effect.request_id) in self.asked:
            asked = self.asked[target, effect.request_id]
            answer: Event = Acknowledged(
                asked.request, asked.attempt, effect.version, effect.length_bytes, effect.crc32c
            )
            if effect.error is not None:
                answer = ForwardFailed(asked.request, asked.attempt, effect.error)
            if self.lives[asked.sender] == asked.life and self.random.random() > 0.1:
                self.pending.append((asked.sender, asked.life, answer))
            else:
                self.lost(asked)
        else:
            self.answers[effect.request_id] = effect

    def token_of(self, target: int, request: int) -> UpdateToken:
        operation = self.replicas[target]._operations.get(request)
        assert operation is not None
        return operation.token

    def send(self, target: int, effect: Forward) -> None:
        asked = Asked(target, effect.request_id, effect.attempt, self.lives[target])
        if self.random.random() < 0.1:
            self.lost(asked)
            return
        self.requests += 1
        request, to = self.requests, effect.target_id
        self.asked[to, request] = asked
        kind = UpdateKind.REMOVE if effect.content is None else UpdateKind.REPLACE
        value = 0 if effect.content is None else effect.content.length_bytes
        self.contents[to, request] = (value, request)
        event = UpdateAsked(
            request, CHUNK, effect.chain_version, kind, effect.token, effect.version
        )
        self.later(to, event)
        if self.random.random() < 0.1:
            self.requests += 1
            self.asked[to, self.requests] = asked
            self.contents[to, self.requests] = (value, request)
            self.later(to, replace(event, request_id=self.requests))

    def lost(self, asked: Asked) -> None:
        failed = ForwardFailed(asked.request, asked.attempt, UnavailableError("lost"))
        self.pending.append((asked.sender, asked.life, failed))
        self.pending.append((asked.sender, asked.life, RetryForward(asked.request, asked.attempt)))

    def step(self) -> bool:
        """Let one thing happen; whether there was one."""
        if not self.pending:
            return False
        target, life, event = self.pending.pop(self.random.randrange(len(self.pending)))
        if life == self.lives[target]:
            self.take(target, event)
            if isinstance(event, ForwardFailed):
                retry = RetryForward(event.request_id, event.attempt)
                self.pending.append((target, life, retry))
        elif isinstance(event, UpdateAsked) and (target, event.request_id) in self.asked:
            self.lost(self.asked[target, event.request_id])
        return True

    def restart(self, target: int) -> None:
        """Lose what was not flushed and every message to the old process; come back."""
        self.lives[target] += 1
        self.stores[target].crash()
        self.replicas[target] = self.new_replica(target)
        for (to, _), asked in list(self.asked.items()):
            if to == target and self.lives[asked.sender] == asked.life:
                self.lost(asked)
        self.requests += 1
        self.take(target, PendingFound(self.requests, CHUNK))

    def settle(self) -> None:
        for _ in range(20_000):
            if not self.step():
                return
        raise AssertionError("the chain does not come to rest")

    def value(self, target: int) -> int | None:
        record = self.stores[target].records.get(CHUNK)
        if record is None or record.committed is None:
            return None
        return record.committed.length_bytes


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("block", range(6))
def test_random_schedules(length: int, block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        _one_schedule(length, seed)


def _one_schedule(length: int, seed: int) -> None:
    """Updates with increasing values on one chunk, retried under their token until they are
    answered."""
    world = World(length, seed)
    chooser = random.Random(seed + 1)
    versions: dict[UpdateToken, set[int]] = {}
    for sequence in range(1, 9):
        token = UpdateToken(5, 1, sequence)
        answered: Reply | None = None
        while answered is None:
            request = world.ask(token, sequence * 10)
            for _ in range(chooser.randrange(1, 60)):
                world.step()
                if chooser.random() < 0.02:
                    world.restart(chooser.randrange(1, length + 1))
            reply = world.answers.get(request)
            if reply is not None and reply.error is None:
                answered = reply
        versions.setdefault(token, set()).add(answered.version)
        # Answered means: on every replica, durably or as a pending version that the chain will
        # settle.
        for number, store in world.stores.items():
            record = store.durable.get(CHUNK)
            assert record is not None
            kept = [one for one in (record.committed, record.pending) if one is not None]
            assert any(one.length_bytes == sequence * 10 for one in kept), (seed, number)
    world.settle()
    for number in world.stores:
        world.requests += 1
        world.take(number, PendingFound(world.requests, CHUNK))
    world.settle()
    assert {world.value(number) for number in world.stores} == {80}, seed
    record = world.stores[1].records[CHUNK]
    assert record is not None
    assert record.committed is not None
    assert record.committed.version == 8, "a retry was applied twice"
    assert all(len(found) == 1 for found in versions.values())


def _quiet(length: int) -> World:
    world = World(length, 0)
    world.random = random.Random(0)
    world.random.random = lambda: 0.5  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize("length", [1, 2, 3])
def test_write_retry_remove(length: int) -> None:
    world = _quiet(length)
    token = UpdateToken(5, 1, 1)
    first = world.ask(token, 10)
    joined = world.ask(token, 10)
    world.settle()
    assert world.answers[first] == replace(world.answers[joined], request_id=first)
    again = world.ask(token, 10)
    assert world.answers[again].version == 1
    removal = world.ask(UpdateToken(5, 1, 2), 0, UpdateKind.REMOVE)
    world.settle()
    assert world.answers[removal].error is None
    assert all(world.stores[number].records.get(CHUNK) is None for number in world.stores)
    absent = world.ask(UpdateToken(5, 1, 3), 0, UpdateKind.REMOVE)
    world.settle()
    assert world.answers[absent].error is None
    old = world.ask(UpdateToken(5, 1, 2), 0)
    assert isinstance(world.answers[old].error, InvalidArgumentError)


def test_refusals() -> None:
    world = _quiet(2)

    def error(target: int, event: UpdateAsked) -> CraqenError | None:
        (effect,) = world.replicas[target].step(event)
        assert isinstance(effect, Reply)
        return effect.error

    token = UpdateToken(5, 1, 1)
    stale = error(1, UpdateAsked(1, CHUNK, 9, UpdateKind.REPLACE, token))
    assert isinstance(stale, StaleChainVersionError)
    assert stale.current_version == 1
    not_head = error(2, UpdateAsked(1, CHUNK, 1, UpdateKind.REPLACE, token))
    assert isinstance(not_head, UnavailableError)


def test_a_queue_is_bounded() -> None:
    world = _quiet(1)
    requests = [world.ask(UpdateToken(5, number, 1), number) for number in range(QUEUE_MAX + 1)]
    assert isinstance(world.answers[requests[-1]].error, ChunkBusyError)
    world.settle()
    assert [world.answers[one].version for one in requests[:-1]] == list(range(1, QUEUE_MAX + 1))


def test_reads_of_what_is_not_settled_ask_the_tail() -> None:
    world = _quiet(2)
    world.ask(UpdateToken(5, 1, 1), 10)
    world.settle()
    world.ask(UpdateToken(5, 1, 2), 20)
    for _ in range(3):
        world.step()
    content, certain = world.replicas[1].committed(CHUNK)
    assert content is not None
    assert (content.length_bytes, certain) == (10, False)
    for version, value in ((1, 10), (2, 20)):
        told = world.replicas[1].version_told(CHUNK, version)
        assert told is not None
        assert told.length_bytes == value
    with pytest.raises(UnavailableError):
        world.replicas[1].version_told(CHUNK, 3)


def test_a_lost_tail_commits_what_the_head_holds() -> None:
    world = _quiet(2)
    request = world.ask(UpdateToken(5, 1, 1), 10)
    for _ in range(2):
        world.step()
    world.pending.clear()
    members = (ChainTarget(1, PublicState.SERVING), ChainTarget(2, PublicState.OFFLINE))
    world.take(1, ChainChanged(ChainRecord(7, 2, members)))
    world.settle()
    assert world.answers[request].error is None
    assert world.value(1) == 10


def test_a_settled_removal_is_remembered_though_its_record_is_lost() -> None:
    """Or a retry would remove what was written since, and only at this replica."""
    token = UpdateToken(5, 1, 2)
    kept = ChunkVersion(1, 1, 4, 99, b"", BLOCK, UpdateToken(5, 1, 1))
    record = ChunkRecord(CHUNK, kept, None)
    replica = Replica(1, chain_of(2), lambda _: record, lambda *_: None)
    (staged,) = replica.step(UpdateAsked(3, CHUNK, 1, UpdateKind.REMOVE, token))
    assert isinstance(staged, Persist)
    (sent,) = replica.step(Persisted(3))
    assert isinstance(sent, Forward)
    replica.step(Acknowledged(3, sent.attempt, 2, 0, 0))
    effects = replica.step(PersistFailed(3, DataLossError("the record is damaged")))
    assert effects == [Persist(3, (Drop(CHUNK, token),), True)]
    assert replica.step(Persisted(3)) == [Reply(3, None, 2)]
