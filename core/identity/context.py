"""What the parts of the identity store share: the KV, the clock, the seal, and reading of single
records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..clock import Clock
from ..errors import LimitExceededError, NotFoundError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction
from .names import root_arn
from .records import Account, Group, Record, Role, User
from .schema import (
    RECORD_OF,
    Kind,
    decode,
    encode,
    holder_key,
    key,
    span,
    touch,
)
from .sealing import Sealer

PAGE_ROWS = 200  # read at a time by what goes through all of a kind

T = TypeVar("T")
R = TypeVar("R", bound=Record)
AnyHolder = User | Group | Role


class Context:
    """Shared state of the store's parts."""

    def __init__(self, kv: KeyValueStore, clock: Clock, sealer: Sealer) -> None:
        self.kv = kv
        self.clock = clock
        self.sealer = sealer

    async def change(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run *function* in a transaction that tells everybody who caches."""

        async def touching(tx: Transaction) -> T:
            result = await function(tx)
            touch(tx)
            return result

        return await self.kv.transact(touching)


async def get_record(tx: ReadTransaction, stored: bytes, kind: type[R]) -> R | None:
    """The record under a key, or None."""
    value = await tx.get(stored)
    return None if value is None else decode(value, kind)


async def need_account(tx: ReadTransaction, account_id: str) -> Account:
    """Raises NotFoundError."""
    account = await get_record(tx, key("a", account_id), Account)
    if account is None:
        raise NotFoundError(f"The account {account_id} cannot be found.")
    return account


async def get_holder(
    tx: ReadTransaction, kind: Kind, account_id: str, name: str
) -> AnyHolder | None:
    """A user, group or role, or None."""
    return await get_record(tx, holder_key(kind, account_id, name), RECORD_OF[kind])


async def need_holder(tx: ReadTransaction, kind: Kind, account_id: str, name: str) -> AnyHolder:
    """Raises NotFoundError."""
    holder = await get_holder(tx, kind, account_id, name)
    if holder is None:
        raise NotFoundError(f"The {kind.word} with name {name} cannot be found.")
    return holder


def put_holder(tx: Transaction, kind: Kind, holder: AnyHolder) -> None:
    """Write a user, group or role."""
    tx.set(holder_key(kind, holder.account_id, holder.name), encode(holder))


async def page(
    tx: ReadTransaction,
    bounds: tuple[bytes, bytes],
    kind: type[R],
    *,
    after: bytes,
    limit: int,
    wanted: Callable[[R], bool] = lambda record: True,
) -> tuple[list[R], bytes]:
    """At most *limit* records for which *wanted* holds, from behind the key *after* on, and the key
    to go on behind: empty at the end."""
    begin, end = bounds
    if after:
        begin = max(begin, after + b"\0")
    found: list[R] = []
    last = b""
    while True:
        rows = await tx.get_range(begin, end, limit=PAGE_ROWS)
        for stored, value in rows:
            record = decode(value, kind)
            if wanted(record):
                if len(found) == limit:
                    return found, last
                found.append(record)
                last = stored
        if len(rows) < PAGE_ROWS:
            return found, b""
        begin = rows[-1][0] + b"\0"


async def count_of(tx: ReadTransaction, account_id: str, letter: str) -> int:
    """How many of a kind the account has."""
    value = await tx.get(key("q", account_id, letter), snapshot=True)
    return 0 if value is None else int.from_bytes(value, "little", signed=True)


async def count_one_more(
    tx: Transaction, account_id: str, letter: str, most: int, what: str
) -> None:
    """Count what is about to be made. Raises LimitExceededError. Those made at the same moment
    may pass the limit together."""
    if await count_of(tx, account_id, letter) >= most:
        raise LimitExceededError(f"Cannot exceed quota for {what}PerAccount: {most}")
    tx.add(key("q", account_id, letter), 1)


def count_one_less(tx: Transaction, account_id: str, letter: str) -> None:
    """Count what is removed."""
    tx.add(key("q", account_id, letter), -1)


async def is_empty(tx: ReadTransaction, *names: str, letter: str) -> bool:
    """Whether no key begins so."""
    return not await tx.get_range(*span(letter, *names), limit=1)


def unnamed_account(account_id: str) -> Account:
    """The record of an account that was never written: the store's own, before anybody named
    it."""
    return Account(account_id, root_arn(account_id), 0)
