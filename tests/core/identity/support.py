"""An identity store on a KV in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from craqen.core.challenge import ClusterSecret
from craqen.core.clock import SystemClock
from craqen.core.identity.store import IdentityStore
from craqen.core.kv.memory import MemoryStore

ACCOUNT = "111122223333"
TRUST = '{"Version":"2012-10-17","Statement":[]}'
SECRET = ClusterSecret(b"a secret of the cluster, for tests")


def policy(action: str) -> str:
    """A policy that allows *action*."""
    return f'{{"Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"*"}}]}}'


def with_store(test: Callable[[IdentityStore, MemoryStore], Awaitable[None]]) -> None:
    """Run *test* on a store with one account."""

    async def run() -> None:
        kv = MemoryStore()
        try:
            store = await IdentityStore.open(kv, SystemClock(), SECRET)
            await store.create_account("testers", account_id=ACCOUNT, uid=7, gid=8, groups=(9,))
            await test(store, kv)
        finally:
            await kv.close()

    asyncio.run(run())
