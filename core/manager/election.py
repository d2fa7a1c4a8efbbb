"""DRIVER: which manager is the primary: the one that holds a lease in the KV.

No clock is compared between hosts. The holder rewrites the lease record every quarter of the lease,
and counts itself primary only for two thirds of a lease after it began its last renewal. A
candidate takes the lease when it has seen the same record for a whole lease by its own clock. Every
write of the primary reads the record in its transaction (the fence), so that one that is late
writes nothing.

A primary that reaches the KV may be cut off from the storage nodes, which then turn to the others
in vain. Who is asked so writes a claim beside the lease: how many nodes reach it. A primary that
hears fewer gives the lease up, and lets others begin. When no node runs, nobody claims, and all
stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from ..cluster.host import process_identity, process_is_gone
from ..cluster.records import Record
from ..errors import CraqenError, DataLossError, RetryableError, UnavailableError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction

LEASE_KEY = b"C/lease"
RENEWALS_PER_LEASE = 4
PRIMARY_LEASES = 2 / 3
CLAIM_KEY = b"C/lease-claim"
OUTDONE_REST_LEASES = 2.0
"""For how long a manager that gave way to another takes no part."""

_log = logging.getLogger("craqen.manager")


class LeaseRecord(Record, frozen=True):
    """Who holds the lease. ``holder`` empty: nobody, it was given up."""

    epoch: int
    holder: str
    renewals: int
    address: str
    process: str
    """Names the holder's process on its host, so that others there see that it is gone."""


class Claim(Record, frozen=True):
    """A manager that is not the primary says how many storage nodes reach it. ``number`` rises, so
    that one that is not renewed is not taken for a new one."""

    holder: str
    nodes: int
    number: int


async def unheard() -> int:
    """Of a manager that no storage node speaks to."""
    return 0


class Election:
    """Takes part for one manager. One task; ``fence`` may be used from any transaction."""

    def __init__(
        self,
        kv: KeyValueStore,
        address: str,
        lease_seconds: float,
        now: Callable[[], float],
        heard: Callable[[], Awaitable[int]] = unheard,
    ) -> None:
        """*heard*: how many nodes of the table speak to this manager, primary or not."""
        self._kv = kv
        self._address = address
        self._lease_seconds = lease_seconds
        self._now = now
        self._heard = heard
        self._claim: Claim | None = None
        """The last one of another that was seen; as a candidate, the last one of our own."""
        self._rest_until = 0.0
        self._holder = secrets.token_hex(16)
        self._record: LeaseRecord | None = None
        self._valid_until = 0.0

    @property
    def epoch(self) -> int:
        """Of the lease that this manager holds, or held last."""
        return 0 if self._record is None else self._record.epoch

    def holds(self) -> bool:
        """Whether this manager is the primary now: nobody else has taken the lease yet."""
        return self._record is not None and self._now() < self._valid_until

    async def fence(self, tx: ReadTransaction) -> None:
        """Raise UnavailableError, in a transaction, if the lease is another's."""
        record = await _read(tx)
        mine = self._record
        if (
            mine is None
            or record is None
            or (record.holder, record.epoch)
            != (
                self._holder,
                mine.epoch,
            )
        ):
            raise UnavailableError("this manager is not the primary (any more)")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Take the lease whenever it is free, and run *lead* while it is held: it is cancelled when
        the lease is lost. Ends by cancellation, or with what *lead* raises if trying again does not
        help; gives the lease up then."""
        try:
            while True:
                await self._campaign()
                _log.info("primary manager, epoch %d", self.epoch)
                await self._lead(lead)
                _log.warning("no longer the primary manager, epoch %d", self.epoch)
                if self._now() < self._rest_until:
                    with contextlib.suppress(CraqenError):  # then the lease runs out by itself
                        await self._give_up()
        finally:
            with contextlib.suppress(CraqenError):
                await self._give_up()

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.create_task(self._renew_until_lost())
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if leading.done() and (error := leading.exception()) is not None:
                if not isinstance(error, RetryableError):
                    raise error
                _log.error("the primary manager's work ended: %s", error)
        finally:
            self._valid_until = 0.0
            for task in (leading, renewing):
                task.cancel()
            await asyncio.gather(leading, renewing, return_exceptions=True)

    async def _campaign(self) -> None:
        """Return once the lease is ours."""
        seen: LeaseRecord | None = None
        since = self._now()
        while True:
            try:
                record = await self._kv.read(_read)
                if record != seen:
                    seen, since = record, self._now()
                silent = self._now() - since >= self._lease_seconds
                if record is None or not record.holder or silent or process_is_gone(record.process):
                    if self._now() >= self._rest_until:
                        if await self._take(record):
                            return
                        continue
                else:
                    await self._say_who_is_heard()
            except DataLossError:
                raise
            except CraqenError as error:
                _log.warning("the lease cannot be read: %s", error)
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)

    async def _take(self, found: LeaseRecord | None) -> bool:
        epoch = 1 + (0 if found is None else found.epoch)
        mine = LeaseRecord(epoch, self._holder, 0, self._address, process_identity())

        async def take(tx: Transaction) -> bool:
            if await _read(tx) != found:
                return False
            self._claim = await _read_claim(tx)  # of before: it does not count
            tx.set(LEASE_KEY, msgspec.msgpack.encode(mine))
            return True

        began = self._now()
        if not await self._kv.transact(take):
            return False
        self._record, self._valid_until = mine, began + self._lease_seconds * PRIMARY_LEASES
        return True

    async def _renew_until_lost(self) -> None:
        while self.holds():
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            began = self._now()
            try:
                if not await self._renew():
                    return
                if await self._is_outdone():
                    self._rest_until = began + self._lease_seconds * OUTDONE_REST_LEASES
                    return
            except CraqenError as error:
                _log.warning("the manager's lease was not renewed: %s", error)
                continue
            self._valid_until = began + self._lease_seconds * PRIMARY_LEASES

    async def _renew(self) -> bool:
        """Whether the lease is still ours, and renewed."""
        record = self._record
        assert record is not None
        renewed = msgspec.structs.replace(record, renewals=record.renewals + 1)

        async def renew(tx: Transaction) -> bool:
            found = await _read(tx)
            if found is None or (found.holder, found.epoch) != (record.holder, record.epoch):
                return False
            tx.set(LEASE_KEY, msgspec.msgpack.encode(renewed))
            return True

        kept = await self._kv.transact(renew)
        if kept:
            self._record = renewed
        return kept

    async def _say_who_is_heard(self) -> None:
        """Claim, if nodes turn to this manager though another is the primary."""
        nodes = await self._heard()
        if not nodes:
            return
        number = 0 if self._claim is None else self._claim.number
        mine = self._claim = Claim(self._holder, nodes, number + 1)

        async def claim(tx: Transaction) -> None:
            tx.set(CLAIM_KEY, msgspec.msgpack.encode(mine))

        await self._kv.transact(claim)

    async def _is_outdone(self) -> bool:
        """Whether another manager has just claimed to hear more nodes than this one."""
        claim = await self._kv.read(_read_claim)
        before, self._claim = self._claim, claim
        if claim is None or claim == before or claim.holder == self._holder:
            return False
        heard = await self._heard()
        if claim.nodes <= heard:
            return False
        _log.error(
            "%d storage nodes reach this manager, %d another one: it gives way", heard, claim.nodes
        )
        return True

    async def _give_up(self) -> None:
        """Let the next one begin at once."""
        record = self._record
        if record is None:
            return
        free = LeaseRecord(record.epoch, "", 0, "", "")

        async def give_up(tx: Transaction) -> None:
            found = await _read(tx)
            if found is not None and (found.holder, found.epoch) == (record.holder, record.epoch):
                tx.set(LEASE_KEY, msgspec.msgpack.encode(free))

        await self._kv.transact(give_up)


async def _read(tx: ReadTransaction) -> LeaseRecord | None:
    value = await tx.get(LEASE_KEY)
    if value is None:
        return None
    try:
        return msgspec.msgpack.decode(value, type=LeaseRecord)
    except msgspec.MsgspecError as error:
        raise DataLossError(f"the managers' lease cannot be understood: {error}") from error


async def _read_claim(tx: ReadTransaction) -> Claim | None:
    value = await tx.get(CLAIM_KEY)
    if value is None:
        return None
    try:
        return msgspec.msgpack.decode(value, type=Claim)
    except msgspec.MsgspecError:
        return None  # of another version: it is advice, nothing rests on it
