"""One random stream of changes for the store on disk, with reopening, and the one in memory: they
always agree."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from craqen.core.chunks.content import plan_replace, plan_truncate, plan_write
from craqen.core.chunks.memory import MemoryChunkStore
from craqen.core.chunks.store import (
    Abandon,
    ChunkRecord,
    ChunkStore,
    ChunkVersion,
    Commit,
    Drop,
    IndexChange,
    Install,
    Stage,
    StageRemove,
)
from craqen.core.clock import ManualClock
from craqen.core.ids import ChunkId, UpdateToken
from craqen.tests.core.chunks.support import QUARANTINE_SECONDS, open_store, version_content

CHUNKS = st.builds(ChunkId, st.integers(1, 2), st.integers(0, 2))
CHANNELS = st.integers(1, 3)
SIZES = st.sampled_from([0, 1, 100, 65_536, 70_000, 200_000])
DURABLE = st.booleans()


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "target"
        self.clock = ManualClock()
        self.file = self.loop.run_until_complete(self.opened())
        self.memory = MemoryChunkStore(self.clock, quarantine_seconds=QUARANTINE_SECONDS)
        self.sequence = 0

    async def opened(self) -> ChunkStore:
        return open_store(self.folder, self.clock)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.file.close())
        self.loop.run_until_complete(self.memory.close())
        self.loop.close()
        self.temporary.cleanup()

    def token(self, channel: int) -> UpdateToken:
        self.sequence += 1
        return UpdateToken(9, channel, self.sequence)

    def apply(self, to_file: IndexChange, to_memory: IndexChange, durable: bool) -> None:
        self.loop.run_until_complete(self.file.apply([to_file], durable=durable))
        self.loop.run_until_complete(self.memory.apply([to_memory], durable=durable))

    def make(
        self, store: ChunkStore, chunk: ChunkId, kind: int, token: UpdateToken, size: int
    ) -> ChunkVersion:
        record = store.get(chunk)
        present = None if record is None else record.committed
        data = memoryview(b"%d" % token.sequence * size)[:size]
        old_length = 0 if present is None else present.length_bytes
        if kind == 0:
            draft = plan_replace(store, data)
        elif kind == 1:
            draft = plan_write(store, chunk, present, old_length, data)
        elif kind == 2:
            draft = plan_write(store, chunk, present, old_length // 2, data)
        else:
            draft = plan_truncate(store, chunk, present, size)
        number = 1 if present is None else present.version + 1
        return draft.write().version(number, 1, token)

    @rule(
        chunk=CHUNKS,
        kind=st.integers(0, 3),
        channel=CHANNELS,
        size=SIZES,
        staged=st.booleans(),
        durable=DURABLE,
    )
    def change(
        self, chunk: ChunkId, kind: int, channel: int, size: int, staged: bool, durable: bool
    ) -> None:
        token = self.token(channel)
        how = Stage if staged else Install
        of_file = self.make(self.file, chunk, kind, token, size)
        of_memory = self.make(self.memory, chunk, kind, token, size)
        self.apply(how(chunk, of_file), how(chunk, of_memory), durable)

    @rule(chunk=CHUNKS, durable=DURABLE, again=st.booleans())
    def commit(self, chunk: ChunkId, durable: bool, again: bool) -> None:
        record = self.memory.get(chunk)
        committed = 0
        if record is not None and record.committed is not None:
            committed = record.committed.version
        waiting = record is not None and (record.pending or record.pending_remove)
        if again and committed:
            change = Commit(chunk, committed, 3)
        elif waiting:
            change = Commit(chunk, committed + 1, 2)
        else:
            return
        self.apply(change, change, durable)

    @rule(chunk=CHUNKS, channel=CHANNELS, durable=DURABLE)
    def stage_remove(self, chunk: ChunkId, channel: int, durable: bool) -> None:
        change = StageRemove(chunk, self.token(channel), 1)
        self.apply(change, change, durable)

    @rule(chunk=CHUNKS, channel=CHANNELS, named=st.booleans(), durable=DURABLE)
    def drop(self, chunk: ChunkId, channel: int, named: bool, durable: bool) -> None:
        change = Drop(chunk, self.token(channel) if named else None)
        self.apply(change, change, durable)

    @rule(chunk=CHUNKS, durable=DURABLE)
    def abandon(self, chunk: ChunkId, durable: bool) -> None:
        self.apply(Abandon(chunk), Abandon(chunk), durable)

    @rule(size=st.integers(1, 300_000), seen=st.booleans())
    def reserve_and_release(self, size: int, seen: bool) -> None:
        for store in (self.file, self.memory):
            block = store.reserve(size)
            (store.release_seen if seen else store.release)(block)

    @rule()
    def forget(self) -> None:
        self.file.forget_client(9)
        self.memory.forget_client(9)

    @rule(seconds=st.sampled_from([1.0, QUARANTINE_SECONDS]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.file.tick()
        self.memory.tick()

    @precondition(lambda self: self.sequence % 3 == 2)
    @rule()
    def reopen(self) -> None:
        self.loop.run_until_complete(self.file.close())
        self.file = self.loop.run_until_complete(self.opened())
        assert self.file.space().blocks_reserved == 0

    @rule()
    def count(self) -> None:
        self.loop.run_until_complete(self.file.apply([]))
        ours, theirs = self.file.space(), self.memory.space()
        for name in ("chunks", "blocks_used", "blocks_reserved", "used_bytes"):
            assert getattr(ours, name) == getattr(theirs, name), name

    @invariant()
    def same_contents(self) -> None:
        ours = [self.seen(self.file, record) for record in self.file.scan(ChunkId(0, 0), 99)]
        theirs = [self.seen(self.memory, record) for record in self.memory.scan(ChunkId(0, 0), 99)]
        assert ours == theirs
        for channel in (1, 2, 3):
            assert self.file.outcome(9, channel) == self.memory.outcome(9, channel)

    def seen(
        self, store: ChunkStore, record: ChunkRecord
    ) -> tuple[ChunkId, list[object], UpdateToken | None]:
        """The record with bytes in place of the block that holds them."""
        assert store.get(record.chunk_id) == record
        versions: list[object] = []
        for kept in (record.committed, record.pending):
            if kept is None:
                versions.append(None)
            else:
                data = version_content(store, record.chunk_id, kept)
                versions.append((kept.version, kept.chain_version, kept.token, data))
        return record.chunk_id, versions, record.pending_remove


StoreMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestStores = StoreMachine.TestCase
