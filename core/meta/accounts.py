"""What bytes and files are counted for, which limits there are, and how counters are read. Knows
nothing of how changes are counted (charges.py) nor of how limits are set (quotas.py).

Every file counts for its bucket, for its owner (but the superuser, uid 0, who is what is left of
all buckets), and for each folder with a quota above it (``Inode.quota_ids``). Counters are sums
over shards that writers add to blindly, so that none waits for another.

Keys of letter ``u``: ``ul`` kind, id: a limit; ``un`` kind, id, shard, what: a counter. Counters of
buckets are those of letter ``r``.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .records import Inode, Record, Usage
from .schema import Decoder, usage_key, usage_range

LIMITS_PREFIX = b"ul"
COUNTERS_PREFIX = b"un"
TABLE_SECONDS = 1.0
"""How long a process may take for a limit that another one sets to be heeded."""
SIZE, OBJECTS, PARTS = b"b", b"o", b"p"
"""How keys of counters end: bytes and number of files, bytes of parts of unfinished uploads."""
ROOM_MAX = 1 << 62
"""Room where there is no limit."""
NEAR_SHARE = 16
"""Within one part in so many of a limit, those who add exclude each other: it is not passed."""

_ID = struct.Struct(">BQ")


class Kind(IntEnum):
    """Kinds of accounts."""

    BUCKET = 1
    DIRECTORY = 2
    USER = 3


class Account(NamedTuple):
    """What is counted for."""

    kind: Kind
    number: int
    """The inode of the bucket or folder, or the uid."""


class Limits(Record, frozen=True):
    """What an account may hold."""

    size_bytes: int = 0
    """0: any number."""
    files: int = 0
    """0: any number."""
    settled: bool = True
    """Folders: all below it is known to count for it, or no more (``ended``)."""
    ended: bool = False
    """The quota is being removed."""
    settle_ns: int = 0
    """When ``settled`` became False: tells one settling from the next."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """An account's limits and what it holds."""

    account: Account
    limits: Limits
    usage: Usage


class Holder(NamedTuple):
    """For whom something counts."""

    bucket_id: int
    uid: int
    quota_ids: tuple[int, ...] = ()


_limits = Decoder(Limits)


def decode_limits(value: bytes) -> Limits:
    """Limits."""
    return _limits(value)  # type: ignore[return-value]


def limits_key(account: Account) -> bytes:
    return LIMITS_PREFIX + _ID.pack(*account)


def account_of(key: bytes) -> Account:
    """The account of a key of limits or counters."""
    kind, number = _ID.unpack_from(key, len(LIMITS_PREFIX))
    return Account(Kind(kind), number)


def counter_key(account: Account, shard: int, what: bytes) -> bytes:
    """*what*: SIZE, OBJECTS or PARTS."""
    if account.kind is Kind.BUCKET:
        return usage_key(account.number, shard, what)
    return COUNTERS_PREFIX + _ID.pack(*account) + bytes([shard]) + what


def counters_range(account: Account) -> tuple[bytes, bytes]:
    if account.kind is Kind.BUCKET:
        return usage_range(account.number)
    own = COUNTERS_PREFIX + _ID.pack(*account)
    return own, prefix_end(own)


def clear_limits(tx: Transaction, account: Account) -> None:
    """Forget an account with its counters."""
    tx.clear(limits_key(account))
    tx.clear_range(*counters_range(account))


def accounts_of(holder: Holder) -> list[Account]:
    """Everything that *holder* counts for."""
    found = [Account(Kind.BUCKET, holder.bucket_id)]
    if holder.uid:
        found.append(Account(Kind.USER, holder.uid))
    found += [Account(Kind.DIRECTORY, number) for number in holder.quota_ids]
    return found


def holder_of(inode: Inode) -> Holder:
    """For whom a file counts."""
    return Holder(inode.bucket_id, inode.uid, inode.quota_ids)


def sum_of(rows: list[tuple[bytes, bytes]]) -> Usage:
    """What counters add up to."""
    totals = {SIZE: 0, OBJECTS: 0, PARTS: 0}
    for key, value in rows:
        totals[key[-1:]] += int.from_bytes(value, "little", signed=True)
    return Usage(totals[SIZE], totals[OBJECTS], totals[PARTS])


async def usage_of(tx: ReadTransaction, account: Account, *, snapshot: bool = True) -> Usage:
    """What the account holds, the transaction's own changes included. Not by *snapshot*: whoever
    adds to it meanwhile conflicts."""
    return sum_of(await tx.get_range(*counters_range(account), snapshot=snapshot))


class LimitTable:
    """All limits, as a process knows them: at most TABLE_SECONDS old."""

    def __init__(self) -> None:
        self.limits: dict[Account, Limits] = {}
        self.good_until_seconds = 0.0
        """By the monotonic clock."""

    async def refresh(self, tx: ReadTransaction, now_seconds: float) -> None:
        """Read the limits anew if they are old."""
        if now_seconds < self.good_until_seconds:
            return
        rows = await tx.get_range(LIMITS_PREFIX, prefix_end(LIMITS_PREFIX), snapshot=True)
        self.limits = {
            account_of(key): limits
            for key, limits in ((key, decode_limits(value)) for key, value in rows)
            if limits.size_bytes or limits.files
        }
        self.good_until_seconds = now_seconds + TABLE_SECONDS

    def forget(self) -> None:
        """A limit was changed here: look again at once."""
        self.good_until_seconds = 0.0

    def of(self, holder: Holder) -> list[tuple[Account, Limits]]:
        """The limits that bind *holder*."""
        if not self.limits:
            return []
        return [
            (account, self.limits[account])
            for account in accounts_of(holder)
            if account in self.limits
        ]
