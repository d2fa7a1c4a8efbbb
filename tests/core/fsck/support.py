"""A namespace without chunks, and a check of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from craqen.core.client.connections import NodeConnections
from craqen.core.clock import ManualClock
from craqen.core.cluster.records import RoutingTable
from craqen.core.cluster.routing import FixedRouting
from craqen.core.fsck.findings import Findings, Silence
from craqen.core.fsck.run import Choice, run_check
from craqen.core.fsck.scan import Check
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import KeyValueStore, ReadTransaction, Transaction
from craqen.core.meta.context import MetaContext
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
)
from craqen.core.meta.schema import decode_inode, encode, inode_key
from craqen.core.options import MetaOptions

T = TypeVar("T")


class Interleaved:
    """A store whose callers wait a moment before and after each transaction."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """``KeyValueStore``."""
        await asyncio.sleep(0)
        result = await self._kv.transact(function)
        await asyncio.sleep(0)
        return result

    async def read(self, function: Callable[[ReadTransaction], Awaitable[T]]) -> T:
        """``KeyValueStore``."""
        await asyncio.sleep(0)
        result = await self._kv.read(function)
        await asyncio.sleep(0)
        return result

    async def close(self) -> None:
        """``KeyValueStore``."""


class World:
    """A bucket with a few files by both doors."""

    def __init__(self, kv: MemoryStore, meta: LocalMetaStore, clock: ManualClock) -> None:
        self.kv = kv
        self.meta = meta
        self.clock = clock
        self.bucket_id = 0

    @classmethod
    async def make(cls) -> World:
        """A new one."""
        kv, clock = MemoryStore(), ManualClock()
        meta = await LocalMetaStore.open(kv, clock, MetaOptions(), description="test")
        world = cls(kv, meta, clock)
        bucket = await meta.create_bucket("bucket", owner="me", region="", as_owner=Owner())
        world.bucket_id = bucket.inode_id
        await world.put(b"plain", b"content")
        await world.put(b"a/b/c", b"deep")
        return world

    async def put(self, key: bytes, data: bytes) -> Inode:
        """What S3 does with a small object."""
        content = NewContent(len(data), data)
        result = await self.meta.put_object("bucket", key, content, ObjectAttributes(), Owner())
        return result.inode

    async def make_file(self, parent_id: int, name: bytes) -> Inode:
        """What the mount does."""
        return await self.meta.create(parent_id, name, InodeType.FILE, mode=0o644, uid=1, gid=1)

    async def make_folder(self, parent_id: int, name: bytes) -> int:
        """mkdir."""
        kind = InodeType.DIRECTORY
        made = await self.meta.create(parent_id, name, kind, mode=0o755, uid=1, gid=1)
        return made.inode_id

    async def write_in_place(self, name: bytes) -> tuple[Inode, int]:
        """A file with a segment of its own; return both."""
        inode = await self.make_file(self.bucket_id, name)
        plan = await self.meta.plan_write(inode.inode_id, 0, 1 << 20)
        inode = await self.meta.commit_write(inode.inode_id, 1 << 20)
        return inode, plan.extents[0].segment_id

    async def key(self, key: bytes) -> Inode:
        """The object's inode."""
        return (await self.meta.get_object("bucket", key)).inode

    async def row(self, key: bytes) -> bytes | None:
        """A raw value."""

        async def read(tx: ReadTransaction) -> bytes | None:
            return await tx.get(key)

        return await self.kv.read(read)

    async def edit(self, change: Callable[[Transaction], Awaitable[None]]) -> None:
        """Plant damage."""
        await self.kv.transact(change)

    async def set_row(self, key: bytes, value: bytes | None) -> None:
        """Write or remove a raw value."""

        async def change(tx: Transaction) -> None:
            if value is None:
                tx.clear(key)
            else:
                tx.set(key, value)

        await self.edit(change)

    async def change_inode(self, inode_id: int, change: Callable[[Inode], Inode]) -> None:
        """Rewrite an inode's record."""
        value = await self.row(inode_key(inode_id))
        assert value is not None
        await self.set_row(inode_key(inode_id), encode(change(decode_inode(value))))

    async def check(
        self, *, repair: bool = False, accept_loss: bool = False, interleaved: bool = False
    ) -> Findings:
        """A whole check; *interleaved*: others run between its transactions."""
        kv = Interleaved(self.kv) if interleaved else self.kv
        options = MetaOptions()
        context = MetaContext(
            kv,
            self.clock,
            removal_grace_seconds=options.removal_grace_seconds,
            feed_retention_seconds=options.feed_retention_seconds,
            client_lease_seconds=options.client_lease_seconds,
        )
        context.client_id = self.meta.client_id
        check = Check(
            kv,
            self.meta,
            context,
            FixedRouting(RoutingTable(1, "test")),
            NodeConnections(
                client_id=self.meta.client_id, cluster_id="test", host="", secret=lambda: None
            ),
            Findings(),
            Silence(),
        )
        return await run_check(check, Choice(repair, accept_loss))
