"""DRIVER: the lease of one duty, a record in the KV. As for the primary manager
(core/manager/election.py), no clocks are compared: the holder rewrites the record every quarter of
the lease and counts on it for two thirds; who has seen the same record for a whole lease takes it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..cluster.host import process_identity, process_is_gone
from ..cluster.records import Record
from ..errors import DataLossError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction

LEASE_PREFIX = b"C/keeper/"
RENEWALS_PER_LEASE = 4
HELD_LEASES = 2 / 3


class LeaseRecord(Record, frozen=True):
    """Who does the duty. ``holder`` empty: nobody, it was given up."""

    epoch: int
    holder: str
    renewals: int
    process: str
    """Names the holder's process on its host, so that others there see that it is gone."""


class DutyLease:
    """The part that one keeper takes in the election for one duty."""

    def __init__(
        self,
        kv: KeyValueStore,
        duty: str,
        holder: str,
        lease_seconds: float,
        now_seconds: Callable[[], float],
    ) -> None:
        """*holder* names the keeper; *now_seconds* is a monotonic clock."""
        self._kv = kv
        self._key = LEASE_PREFIX + duty.encode()
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._now_seconds = now_seconds
        self._mine: LeaseRecord | None = None
        self._valid_until = 0.0
        self._seen: LeaseRecord | None = None
        self._seen_since = now_seconds()

    def holds(self) -> bool:
        """Whether the duty is this keeper's now: nobody else has taken it yet."""
        return self._mine is not None and self._now_seconds() < self._valid_until

    async def try_to_take(self, *, patient: bool = False) -> bool:
        """Take the lease if it is free, given up or silent; *patient*: only if it has been so for a
        whole lease. Ask every quarter of a lease. Raises RetryableError, DataLossError."""
        began = self._now_seconds()
        found = await self._kv.read(self._read)
        if found != self._seen:
            self._seen, self._seen_since = found, began
        silent = began - self._seen_since >= self._lease_seconds
        free = found is None or not found.holder or process_is_gone(found.process)
        if not silent and (patient or not free):
            return False
        epoch = 1 + (0 if found is None else found.epoch)
        mine = LeaseRecord(epoch, self._holder, 0, process_identity())

        async def take(tx: Transaction) -> bool:
            if await self._read(tx) != found:
                return False
            tx.set(self._key, msgspec.msgpack.encode(mine))
            return True

        if not await self._kv.transact(take):
            return False
        self._mine, self._valid_until = mine, began + self._lease_seconds * HELD_LEASES
        return True

    async def renew(self) -> bool:
        """Whether the lease is still ours, and renewed. Raises RetryableError, DataLossError."""
        mine = self._mine
        assert mine is not None
        began = self._now_seconds()
        renewed = msgspec.structs.replace(mine, renewals=mine.renewals + 1)
        if not await self._replace(mine, renewed):
            self._mine = None
            return False
        self._mine, self._valid_until = renewed, began + self._lease_seconds * HELD_LEASES
        return True

    async def give_up(self) -> None:
        """Let the next keeper begin at once. Raises RetryableError, DataLossError: then the lease
        runs out by itself."""
        mine, self._mine = self._mine, None
        if mine is not None:
            await self._replace(mine, LeaseRecord(mine.epoch, "", 0, ""))

    async def _replace(self, mine: LeaseRecord, by: LeaseRecord) -> bool:
        async def replace(tx: Transaction) -> bool:
            found = await self._read(tx)
            if found is None or (found.holder, found.epoch) != (mine.holder, mine.epoch):
                return False
            tx.set(self._key, msgspec.msgpack.encode(by))
            return True

        return await self._kv.transact(replace)

    async def _read(self, tx: ReadTransaction) -> LeaseRecord | None:
        value = await tx.get(self._key)
        if value is None:
            return None
        try:
            return msgspec.msgpack.decode(value, type=LeaseRecord)
        except msgspec.MsgspecError as error:
            raise DataLossError(f"{self._key!r}: a lease cannot be understood: {error}") from error
