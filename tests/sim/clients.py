"""Clients as core/client/updates.py and reader.py are: an update keeps its token over all attempts,
one update at a time uses a channel, reads go to any serving replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from craqen.core.checksum import crc32c, page_checksums
from craqen.core.cluster.records import ChainRecord, PublicState, RoutingTable
from craqen.core.cluster.routing import Routing
from craqen.core.errors import (
    CallerError,
    DataLossError,
    NoSpaceError,
    RetryableError,
    UnavailableError,
)
from craqen.core.ids import ChunkId, UpdateToken
from craqen.core.wire.messages import Update, UpdateKind

from .history import Action
from .messages import LocateAnswer, ReadAnswer, ReadAsked
from .world import Process, Violation

if TYPE_CHECKING:
    from .cluster import Cluster

CHANNELS = 3
LANES = 2
CALL_SECONDS = 4.0
ROUTING_SECONDS = 0.5
RETRY_DELAY_SECONDS = (0.01, 0.05, 0.2, 0.5, 1.0)
LEASE_MARGIN = 0.5  # as in core/client/reader.py

_KINDS = (UpdateKind.WRITE, UpdateKind.REPLACE, UpdateKind.TRUNCATE, UpdateKind.REMOVE)
"""What clients ask for."""


class SimulatedClient:
    """A program that reads and writes chunks, and notes what it hears."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.process = cluster.process(name)
        self.unfinished = 0
        """Lanes that still have something to do."""
        self._routing = Routing(RoutingTable(0, "sim"))
        self.left = 0
        """Actions not begun yet."""
        self._client_id = 0
        self._sequences: list[int] = []
        self._free: list[int] = []

    def start(self, actions: int) -> None:
        """Begin, as a client that nobody has seen before."""
        self.process.begin()
        self._client_id = self.cluster.world.random.getrandbits(32)
        self._sequences = [0] * CHANNELS
        self._free = list(range(CHANNELS))
        self.left = actions
        self.unfinished = LANES
        for _ in range(LANES):
            self.process.spawn(self._lane())

    def kill(self) -> None:
        """Die in the middle of it; what is left undone is for nobody."""
        self.process.end()
        self.cluster.network.died(self.process)
        self.unfinished = 0

    async def _lane(self) -> None:
        world, settings = self.cluster.world, self.cluster.settings
        while self.left > 0:
            self.left -= 1
            await self.process.sleep(settings.think_seconds * 2 * world.random.random())
            chunk_id = world.random.choice(self.cluster.chunk_ids)
            if world.random.random() < 0.5:
                await self._read_some(chunk_id)
            else:
                await self._update_some(chunk_id)
        self.unfinished -= 1

    # Updates

    async def _update_some(self, chunk_id: ChunkId) -> None:
        chance = self.cluster.world.random
        history, now = self.cluster.history, self.cluster.world.now
        number = len(history.actions)
        data = (f"{number:03}" * 8)[: chance.randrange(3, 25)].encode()
        kind = chance.choices(_KINDS, (45, 30, 10, 15))[0]
        name = self.process.name
        if kind == UpdateKind.WRITE:
            offset = chance.randrange(0, 30)
            action = history.begin(name, chunk_id, kind, now, offset=offset, data=data)
        elif kind == UpdateKind.REPLACE:
            action = history.begin(name, chunk_id, kind, now, data=data)
        elif kind == UpdateKind.TRUNCATE:
            action = history.begin(name, chunk_id, kind, now, length=chance.randrange(1, 40))
        else:
            action = history.begin(name, chunk_id, kind, now)
        self.process.say("begins %s", action)
        while not self._free:
            await self.process.sleep(0.05)
        channel = self._free.pop()
        self._sequences[channel] += 1
        token = UpdateToken(self._client_id, channel, self._sequences[channel])
        if await self._make(action, token):
            action.ended = self.cluster.world.now
            self.process.say("ended %s", action)
        else:
            self.process.say("gives up %s", action)
        self._free.append(channel)

    async def _make(self, action: Action, token: UpdateToken) -> bool:
        """Try until it is acknowledged; False if time ran out."""
        deadline = self.process.clock() + self.cluster.settings.action_seconds
        attempt = 0
        while True:
            try:
                await self._send_once(action, token)
            except (RetryableError, NoSpaceError) as error:
                self.process.say("#%d attempt %d: %s", action.number, attempt, error)
            except DataLossError as error:
                self.process.say("#%d: %s", action.number, error)
                return False
            except CallerError as error:
                raise Violation(f"{action}: {token} was refused: {error}") from error
            else:
                return True
            if self.process.clock() > deadline:
                return False
            await self._pause(attempt)
            attempt += 1
            await self._refresh()

    async def _send_once(self, action: Action, token: UpdateToken) -> None:
        chain = self._chain(action.chunk_id)
        head = chain.targets[0]
        if head.state != PublicState.SERVING:
            raise UnavailableError(f"chain {chain.chain_id}: has no serving head")
        data = action.data if action.kind in (UpdateKind.WRITE, UpdateKind.REPLACE) else None
        assert action.kind is not None
        update = Update(
            *action.chunk_id,
            chain.chain_id,
            chain.version,
            action.kind,
            action.offset,
            action.length,
            0 if data is None else crc32c(data),
            *token,
            page_crcs=b"" if data is None else page_checksums(data),
        )
        node = self._process_of(head.target_id)
        await self.cluster.network.call(self.process, node, "update", (update, data), CALL_SECONDS)

    # Reads

    async def _read_some(self, chunk_id: ChunkId) -> None:
        now = self.cluster.world.now
        action = self.cluster.history.begin(self.process.name, chunk_id, None, now)
        await self.read(action, self.process.clock() + self.cluster.settings.action_seconds)

    async def read(self, action: Action, deadline: float, target_id: int | None = None) -> None:
        """Read a chunk at any replica, or at one, until there is an answer or time is up."""
        chance = self.cluster.world.random
        by_place = chance.random() < 0.4
        attempt = chance.randrange(4)
        first = attempt
        while True:
            try:
                await self._read_once(action, attempt, target_id, by_place)
                return
            except (RetryableError, DataLossError) as error:
                self.process.say("#%d attempt %d: %s", action.number, attempt - first, error)
                if isinstance(error, DataLossError):
                    by_place = False  # the node itself will find it damaged, and mend it
            if self.process.clock() > deadline:
                return
            await self._pause(attempt - first)
            attempt += 1
            await self._refresh()

    async def _read_once(
        self, action: Action, attempt: int, target_id: int | None, by_place: bool
    ) -> None:
        chain = self._chain(action.chunk_id)
        serving = [one.target_id for one in chain.targets if one.state == PublicState.SERVING]
        if target_id is None:
            if not serving:
                raise UnavailableError(f"chain {chain.chain_id}: no target serves")
            target_id = serving[attempt % len(serving)]
        node = self._process_of(target_id)
        lease = self.cluster.settings.lease_seconds * LEASE_MARGIN
        usable = self.process.clock() + lease
        until = self.cluster.world.now + lease / self.process.rate
        asked = ReadAsked(action.chunk_id, chain.chain_id, chain.version, until)
        network = self.cluster.network
        if not by_place:
            answer: ReadAnswer = await network.call(self.process, node, "read", asked, CALL_SECONDS)
            self._saw(action, answer.data)
            return
        place: LocateAnswer = await network.call(self.process, node, "locate", asked, CALL_SECONDS)
        if place.content is None:
            self._saw(action, None)
            return
        ended = self.cluster.world.now
        left = usable - self.process.clock()
        if left <= 0:
            raise UnavailableError("the place's lease is over already")
        await self.process.sleep(left * self.cluster.world.random.random())
        self._saw(action, _bytes_at(place), ended)

    def _saw(self, action: Action, data: bytes | None, ended: float | None = None) -> None:
        action.seen = data
        action.ended = self.cluster.world.now if ended is None else ended
        self.process.say("ended %s", action)

    # Routes

    def _chain(self, chunk_id: ChunkId) -> ChainRecord:
        chain = self._routing.chain(self.cluster.chain_id_of(chunk_id))
        if chain is None:
            raise UnavailableError("the routing table is not known yet")
        return chain

    def _process_of(self, target_id: int) -> Process:
        return self.cluster.nodes[self._routing.node_of(target_id).node_id].process

    async def _refresh(self) -> None:
        """Ask any manager for the table."""
        manager = self.cluster.world.random.choice(self.cluster.managers)
        version = self._routing.table.version
        try:
            table: RoutingTable = await self.cluster.network.call(
                self.process, manager.process, "routing", version, ROUTING_SECONDS
            )
        except RetryableError:
            return
        if table.version > self._routing.table.version:
            self._routing = Routing(table)

    async def _pause(self, attempt: int) -> None:
        delay = RETRY_DELAY_SECONDS[min(attempt, len(RETRY_DELAY_SECONDS) - 1)]
        await self.process.sleep(delay * (0.5 + self.cluster.world.random.random()))


def _bytes_at(place: LocateAnswer) -> bytes:
    """Read a block that a node told of, some time ago."""
    content = place.content
    assert content is not None
    data = bytearray(content.length_bytes)
    try:
        content.read_into(0, memoryview(data))
    except DataLossError as error:
        if place.is_rotten():
            raise
        raise Violation(f"a block was used again under its reader's eyes: {error}") from error
    return bytes(data)
