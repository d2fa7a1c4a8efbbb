"""Chains under a random schedule of crashes, returns, resyncs, lost and repeated messages and
planted damage (chain_world.py): nothing acknowledged is lost or applied twice, no read goes back in
time, and all replicas come to hold the same."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest

from craqen.core.cluster.records import PublicState
from craqen.core.craq.events import Reply, UpdateAsked
from craqen.core.errors import CraqenError
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.wire.messages import UpdateKind
from craqen.tests.core.craq.chain_world import ChainWorld, Content, Member

APPENDED = (ChunkId(1, 0), ChunkId(1, 1))
"""Chunks that are only ever appended to: every state is a prefix of every later one."""
MIXED = (ChunkId(2, 0), ChunkId(2, 1), ChunkId(3, 0))


@dataclass
class Client:
    """One update at a time on one channel, asked again under its token until it is answered, or
    given up."""

    number: int
    world: ChainWorld
    history: History
    random: random.Random
    sequence: int = 0
    busy: bool = False

    def begin(self) -> None:
        self.sequence += 1
        token = UpdateToken(self.number, 1, self.sequence)
        chunk_id = self.random.choice((*APPENDED, *MIXED))
        kind = UpdateKind.WRITE
        if chunk_id in MIXED:
            kind = self.random.choice((UpdateKind.WRITE, UpdateKind.REPLACE, UpdateKind.REMOVE))
        self.busy = True
        self.history.asked(chunk_id, token)
        self._ask(chunk_id, token, kind, attempts=self.random.choice((3, 1000)))

    def _ask(self, chunk_id: ChunkId, token: UpdateToken, kind: UpdateKind, attempts: int) -> None:
        world = self.world
        head = world.chain.targets[0].target_id
        event = UpdateAsked(0, chunk_id, world.chain.version, kind, token)

        def answered(reply: Reply) -> None:
            if reply.error is None:
                self.history.acknowledged(chunk_id, token)
                self.busy = False
            elif attempts or world.quiet:
                world.later(0, lambda: self._ask(chunk_id, token, kind, attempts - 1))
            else:
                self.busy = False  # it may be applied yet, once

        world.call(None, head, event, answered)


@dataclass
class History:
    """What clients know of the chunks that are only appended to."""

    acked: dict[ChunkId, set[UpdateToken]] = field(default_factory=dict)
    longest: dict[ChunkId, Content] = field(default_factory=dict)
    every: dict[ChunkId, set[UpdateToken]] = field(default_factory=dict)
    reads: int = 0

    def asked(self, chunk_id: ChunkId, token: UpdateToken) -> None:
        self.every.setdefault(chunk_id, set()).add(token)

    def acknowledged(self, chunk_id: ChunkId, token: UpdateToken) -> None:
        self.acked.setdefault(chunk_id, set()).add(token)

    def read(self, chunk_id: ChunkId, content: Content, where: object) -> None:
        """A read at one moment: it shows all that was shown or acknowledged before."""
        self.reads += 1
        before = self.longest.get(chunk_id, ())
        assert content[: len(before)] == before, (where, chunk_id, before, content)
        assert self.acked.get(chunk_id, set()) <= set(content), (where, chunk_id, content)
        assert len(set(content)) == len(content), (where, chunk_id, content)
        self.longest[chunk_id] = content


class Schedule:
    """One seed's run."""

    def __init__(self, length: int, seed: int, *, damage: bool) -> None:
        self.seed = seed
        self.random = random.Random(seed + 1)
        self.world = ChainWorld(length, seed)
        self.history = History()
        self.damage = damage
        self.clients = [
            Client(number, self.world, self.history, random.Random(seed * 10 + number))
            for number in range(1, 4)
        ]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.world.step()
            for client in self.clients:
                if not client.busy and self.random.random() < 0.2:
                    client.begin()
            self._disturb()
            if self.random.random() < 0.2:
                self._read()
        self._heal()

    def _disturb(self) -> None:
        world = self.world
        if self.random.random() < 0.1:
            world.manage()
        member = self.random.choice(list(world.members.values()))
        chance = self.random.random()
        lost = any(one.store.lost for one in world.members.values())
        if member.alive and chance < 0.004 and not lost:
            world.crash(member.number)
            if self.random.random() < 0.3:
                world.start(member.number)
        elif not member.alive and chance < 0.02:
            world.start(member.number)
        elif self.damage and chance < 0.03:
            self._plant(member)

    def _plant(self, member: Member) -> None:
        """Damage where another serving replica is whole, and the chain is at rest about it."""
        world = self.world
        serving = [one for one in world.chain.targets if one.state == PublicState.SERVING]
        others = [world.members[one.target_id] for one in serving]
        if len(others) < 2 or not all(one.alive for one in others) or member not in others:
            return
        chunk_id = self.random.choice((*APPENDED, *MIXED))
        for one in world.members.values():
            record = one.store.records.get(chunk_id)
            if record is None or record.committed is None or one.repairing or one.store.lost:
                return
            if record.committed.block.file_id in one.store.rotten:
                return
        record = member.store.records[chunk_id]
        assert record.committed is not None
        if self.random.random() < 0.5:
            member.store.rotten.add(record.committed.block.file_id)
        elif all(not one.replica.busy() for one in others):
            member.store.lost.add(chunk_id)
            world.repair(member, chunk_id, 0)

    def _read(self) -> None:
        member = self.random.choice(list(self.world.members.values()))
        chunk_id = self.random.choice(APPENDED)
        content = self._seen(member, chunk_id)
        if content is not None:
            self.history.read(chunk_id, content, (self.seed, member.number))

    def _seen(self, member: Member, chunk_id: ChunkId) -> Content | None:
        """What a reader at the member is shown; None: nothing, it has to ask again."""
        replica = member.replica
        if not member.alive or not replica.view.is_serving:
            return None
        try:
            content, certain = replica.committed(chunk_id)
            if not certain:
                assert replica.view.tail_id is not None
                tail = self.world.members[replica.view.tail_id]
                if not tail.alive:
                    return None
                tail.replica.check_version(replica.chain.version)
                told, sure = tail.replica.committed(chunk_id)
                if not sure:
                    return None
                content = replica.version_told(chunk_id, 0 if told is None else told.version)
        except CraqenError:
            return None
        if content is None:
            return ()
        if content.block.file_id in member.store.rotten:
            self.world.repair(member, chunk_id, content.version)
            return None
        return self.world.contents[content.crc32c]

    def _heal(self) -> None:
        """No more losses: everybody comes back, everything settles."""
        world = self.world
        world.quiet = True
        for member in world.members.values():
            if not member.alive:
                world.start(member.number)
        for number in itertools.count():
            assert number < 100_000, (self.seed, world.chain)
            if number % 20 == 0:
                world.manage()
            if not world.step() and not self._unsettled():
                break

    def _unsettled(self) -> bool:
        version = self.world.chain.version
        self.world.manage()
        return (
            self.world.chain.version != version
            or any(client.busy for client in self.clients)
            or any(one.state != PublicState.SERVING for one in self.world.chain.targets)
        )

    def check(self) -> None:
        world = self.world
        found = []
        for member in world.members.values():
            assert not member.store.lost, self.seed
            contents = {}
            for chunk_id, record in member.store.records.items():
                assert record.pending is None, (self.seed, member.number, record)
                assert record.pending_remove is None, (self.seed, member.number, record)
                assert record.committed is not None
                contents[chunk_id] = (
                    record.committed.version,
                    world.contents[record.committed.crc32c],
                )
            found.append(contents)
        assert all(one == found[0] for one in found), (self.seed, found)
        for chunk_id, (_, content) in found[0].items():
            assert len(set(content)) == len(content), (self.seed, chunk_id, content)
            assert set(content) <= self.history.every[chunk_id], (self.seed, chunk_id)
        for chunk_id in APPENDED:
            for member in world.members.values():
                seen = self._seen(member, chunk_id)
                if seen is not None:
                    self.history.read(chunk_id, seen, (self.seed, "end", member.number))


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize("damage", [False, True], ids=["", "damage"])
def test_chains_survive(length: int, damage: bool) -> None:
    copies = repairs = reads = 0
    for seed in range(25):
        schedule = Schedule(length, seed * 100 + length, damage=damage)
        schedule.run(1500)
        schedule.check()
        copies += schedule.world.sent_copies
        repairs += schedule.world.repaired
        reads += schedule.history.reads
    assert copies > 20, "the schedules fill nobody"
    assert reads > 1000
    assert not damage or repairs > 20, "the schedules repair nothing"
