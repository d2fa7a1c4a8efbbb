"""``IdentityStore``: accounts, users, groups, roles, policies and keys of a store, on its KV."""

from __future__ import annotations

import os

from ..challenge import ClusterSecret
from ..clock import Clock
from ..kv.store import KeyValueStore, Transaction
from .accounts import Accounts
from .context import Context
from .directory import Directory
from .holders import Holders
from .policies import Policies
from .schema import SALT_KEY
from .sealing import SALT_BYTES, Sealer


class IdentityStore(Accounts, Holders, Policies):
    """Make it with ``open``. Policies given to it were checked by the caller."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.directory = Directory(context)

    @classmethod
    async def open(
        cls, kv: KeyValueStore, clock: Clock, secret: ClusterSecret | None
    ) -> IdentityStore:
        """The identities in *kv*, which stays the caller's. Secrets are sealed under *secret*: it
        must be the same in all processes of the store, always."""

        async def salt(tx: Transaction) -> bytes:
            value = await tx.get(SALT_KEY)
            if value is None:
                value = os.urandom(SALT_BYTES)
                tx.set(SALT_KEY, value)
            return value

        return cls(Context(kv, clock, Sealer(secret, await kv.transact(salt))))
