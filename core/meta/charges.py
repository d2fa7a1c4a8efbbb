"""Inside a transaction: count what comes and goes, and refuse what a quota forbids.

A removal is never refused. Whoever adds reads the counters of limited accounts by snapshot, and
without that close to the limit, where those who add conflict: so a limit is passed only if what is
added within one and the same moment by concurrent transactions is more than one part in NEAR_SHARE
of it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from ..errors import QuotaExceededError
from ..kv.store import ReadTransaction, Transaction
from .accounts import (
    NEAR_SHARE,
    OBJECTS,
    PARTS,
    SIZE,
    Account,
    Holder,
    Kind,
    Limits,
    accounts_of,
    counter_key,
    holder_of,
    usage_of,
)
from .context import USAGE_SHARDS, MetaContext
from .records import Inode


def count(tx: Transaction, holder: Holder, size_delta: int, objects_delta: int) -> None:
    """Account for bytes and files that *holder* gains or loses."""
    shard = random.randrange(USAGE_SHARDS)
    _add(tx, Account(Kind.BUCKET, holder.bucket_id), shard, size_delta, objects_delta)
    if holder.uid:
        _add(tx, Account(Kind.USER, holder.uid), shard, size_delta, objects_delta)
    for number in holder.quota_ids:
        _add(tx, Account(Kind.DIRECTORY, number), shard, size_delta, objects_delta)


def _add(
    tx: Transaction, account: Account, shard: int, size_delta: int, objects_delta: int
) -> None:
    if size_delta:
        tx.add(counter_key(account, shard, SIZE), size_delta)
    if objects_delta:
        tx.add(counter_key(account, shard, OBJECTS), objects_delta)


def count_file(tx: Transaction, inode: Inode, size_delta: int, objects_delta: int) -> None:
    """As ``count``, for a file."""
    count(tx, holder_of(inode), size_delta, objects_delta)


async def charge(
    context: MetaContext,
    tx: Transaction,
    inode: Inode,
    size_delta: int,
    objects_delta: int,
    *,
    replaced: Inode | None = None,
) -> None:
    """Count what is added for a file. *replaced*: what goes with the same change, counted already.

    Raises QuotaExceededError.
    """
    holder = holder_of(inode)
    count(tx, holder, size_delta, objects_delta)
    if replaced is not None and holder_of(replaced) == holder:
        size_delta -= replaced.size
        objects_delta -= 1
    await need_room(context, tx, holder, size_delta, objects_delta)


async def count_elsewhere(
    context: MetaContext, tx: Transaction, inode: Inode, holder: Holder, *, checked: bool = True
) -> Inode:
    """*inode*, counted for *holder* from now on; the caller writes it. Raises QuotaExceededError,
    if *checked*."""
    old = holder_of(inode)
    count(tx, old, -inode.size, -1)
    count(tx, holder, inode.size, 1)
    if checked:
        known = set(accounts_of(old))
        new = [account for account in accounts_of(holder) if account not in known]
        await need_room(context, tx, holder, inode.size, 1, accounts=new)
    return msgspec.structs.replace(
        inode, bucket_id=holder.bucket_id, uid=holder.uid, quota_ids=holder.quota_ids
    )


async def charge_parts(
    context: MetaContext, tx: Transaction, bucket_id: int, uid: int, delta: int
) -> None:
    """Count bytes of parts of an unfinished upload. Raises QuotaExceededError if they are added and
    there is no room."""
    shard = random.randrange(USAGE_SHARDS)
    if delta:
        tx.add(counter_key(Account(Kind.BUCKET, bucket_id), shard, PARTS), delta)
        if uid:
            tx.add(counter_key(Account(Kind.USER, uid), shard, PARTS), delta)
    await need_room(context, tx, Holder(bucket_id, uid), delta, 0)


async def need_room(
    context: MetaContext,
    tx: ReadTransaction,
    holder: Holder,
    size_growth: int,
    files_growth: int,
    *,
    ahead: bool = False,
    accounts: Sequence[Account] | None = None,
) -> None:
    """Raise QuotaExceededError if *holder* grows, and is over a limit with what was counted in *tx*
    already; *ahead*: with the growth itself, which is not counted yet. *accounts*: those that
    grow, if not all of the holder's do."""
    if size_growth <= 0 and files_growth <= 0:
        return
    table = context.limits
    now_seconds = context.clock.monotonic_seconds()
    if now_seconds >= table.good_until_seconds:
        await table.refresh(tx, now_seconds)
    if not table.limits:
        return
    size_ahead, files_ahead = (size_growth, files_growth) if ahead else (0, 0)
    for account in accounts_of(holder) if accounts is None else accounts:
        limits = table.limits.get(account)
        if limits is None:
            continue
        grows_size = size_growth > 0 and limits.size_bytes > 0
        grows_files = files_growth > 0 and limits.files > 0
        if not grows_size and not grows_files:
            continue
        snapshot = True
        while True:
            usage = await usage_of(tx, account, snapshot=snapshot)
            size_left = limits.size_bytes - usage.held_bytes - size_ahead
            files_left = limits.files - usage.objects - files_ahead
            if grows_size and size_left < 0:
                raise _exceeded(account, limits, f"{usage.held_bytes + size_ahead} bytes")
            if grows_files and files_left < 0:
                raise _exceeded(account, limits, f"{usage.objects + files_ahead} files")
            is_near = (grows_size and size_left < limits.size_bytes // NEAR_SHARE) or (
                grows_files and files_left <= limits.files // NEAR_SHARE
            )
            if not snapshot or not is_near:
                break
            snapshot = False


def _exceeded(account: Account, limits: Limits, wanted: str) -> QuotaExceededError:
    name = {
        Kind.BUCKET: f"the bucket (inode {account.number:x})",
        Kind.DIRECTORY: f"the folder (inode {account.number:x})",
        Kind.USER: f"user {account.number}",
    }[account.kind]
    return QuotaExceededError(
        f"the quota of {name} is {limits.size_bytes or 'any number of'} bytes, "
        f"{limits.files or 'any number of'} files: {wanted} would be over it; "
        f"remove something, or raise it: craqen admin quota set"
    )


class Counts:
    """What many removals of one transaction take away, added once for each account."""

    def __init__(self) -> None:
        self._sums: defaultdict[Holder, list[int]] = defaultdict(lambda: [0, 0])

    def lose(self, inode: Inode) -> None:
        """A file goes."""
        sums = self._sums[holder_of(inode)]
        sums[0] -= inode.size
        sums[1] -= 1

    def apply(self, tx: Transaction) -> None:
        """Write the sums."""
        for holder, (size, objects) in self._sums.items():
            count(tx, holder, size, objects)
