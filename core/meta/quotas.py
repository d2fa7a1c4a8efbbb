"""Quotas of buckets, folders and users.

A folder's quota counts what is below it: each inode there names the folder in ``quota_ids``, and
whatever is made in a folder inherits those of the folder. So a limit that is set on a folder with
content, or taken from it, is *settled*: a walk, a folder at a time, brings each inode in line with
the folder that it is in, and moves what it counts for in the same transaction. Meanwhile all counts
are right for what the inodes say. A folder is marked before its entries are read, so that nothing
is made in it any more without the mark; it can then not be renamed out of the tree (renames.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ..errors import InvalidArgumentError, NotDirectoryError, NotFoundError
from ..ids import ROOT_INODE_ID
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .accounts import (
    COUNTERS_PREFIX,
    LIMITS_PREFIX,
    ROOM_MAX,
    Account,
    Holder,
    Kind,
    Limits,
    Standing,
    account_of,
    counters_range,
    decode_limits,
    holder_of,
    limits_key,
    sum_of,
    usage_of,
)
from .charges import count_elsewhere, need_room
from .context import MetaContext
from .folders import make_explicit
from .records import Inode, InodeType, Usage
from .schema import (
    bucket_key,
    decode_bucket,
    decode_entry,
    decode_inode,
    decode_version,
    directory_end,
    directory_prefix,
    encode,
    inode_key,
    versions_end,
    versions_prefix,
)
from .tree import find_inode, inodes_of, put_inode
from .versions import bucket_by_id

SETTLE_ROWS = 250  # inodes that one transaction reads, and may write
SUPERUSER = 0
UID_MAX = (1 << 32) - 1

Rows = list[tuple[bytes, bytes]]


class _Page(NamedTuple):
    """What a step of a walk found: folders below, the next key, and counts."""

    folders: list[int]
    next_key: bytes
    """Empty: it was the last page of the range."""
    seen: int
    changed: int


def _nothing_told(entries: int) -> None:
    """Nobody watches."""


class Quotas:
    """``QuotaStore`` (core/meta/quota_store.py)."""

    _context: MetaContext

    async def set_quota(self, account: Account, *, size_bytes: int, files: int) -> None:
        """Limit an account."""
        context = self._context

        async def change(tx: Transaction) -> None:
            old = await _limits_of(tx, account)
            limits = Limits(size_bytes, files)
            if account.kind is Kind.DIRECTORY:
                inode = await _folder(tx, account.number)
                if inode.quota_ids[:1] == (inode.inode_id,) and old is not None:
                    limits = msgspec.structs.replace(old, size_bytes=size_bytes, files=files)
                else:
                    limits = await self._mark(tx, inode, limits)
            else:
                await _check_account(tx, account)
            tx.set(limits_key(account), encode(limits))

        await context.kv.transact(change)
        context.limits.forget()

    async def _mark(self, tx: Transaction, inode: Inode, limits: Limits) -> Limits:
        """*inode* counts for itself from now on; what is below follows by and by."""
        await make_explicit(tx, inode)  # it is somebody's will that it is there
        inode = msgspec.structs.replace(
            inode, explicit=True, quota_ids=(inode.inode_id, *inode.quota_ids)
        )
        put_inode(tx, inode)
        bucket = await bucket_by_id(tx, inode.bucket_id)
        if not bucket.has_quota_folders:
            marked = msgspec.structs.replace(bucket, has_quota_folders=True)
            tx.set(bucket_key(bucket.name), encode(marked))
        self._context.tell_inode(tx, inode.inode_id)
        return msgspec.structs.replace(limits, settled=False, settle_ns=self._context.now_ns())

    async def remove_quota(self, account: Account) -> bool:
        """Forget limits."""
        context = self._context

        async def change(tx: Transaction) -> bool:
            old = await _limits_of(tx, account)
            if old is None or old.ended:
                return False
            if account.kind is not Kind.DIRECTORY:
                tx.clear(limits_key(account))
                return True
            inode = await _folder(tx, account.number)
            rest = tuple(number for number in inode.quota_ids if number != inode.inode_id)
            put_inode(tx, msgspec.structs.replace(inode, quota_ids=rest))
            ended = Limits(settled=False, ended=True, settle_ns=context.now_ns())
            tx.set(limits_key(account), encode(ended))
            return True

        removed = await context.kv.transact(change)
        context.limits.forget()
        return removed

    async def settle_quota(
        self, directory_id: int, told: Callable[[int], None] = _nothing_told
    ) -> int:
        """Bring what is below a folder in line with it."""
        context = self._context
        account = Account(Kind.DIRECTORY, directory_id)
        limits = await context.kv.read(lambda tx: _limits_of(tx, account))
        if limits is None or limits.settled:
            return 0
        changed = 0
        folders = [directory_id]
        while folders:
            folder_id = folders.pop()
            await self._inherit(folder_id, directory_id)
            for begin, end in (
                (directory_prefix(folder_id), directory_end(folder_id)),
                (versions_prefix(folder_id), versions_end(folder_id)),
            ):
                at = begin
                while at:
                    page = await self._settle_page(folder_id, at, end)
                    folders += page.folders
                    changed += page.changed
                    at = page.next_key
                    told(page.seen)

        async def finish(tx: Transaction) -> None:
            now = await _limits_of(tx, account)
            if now is None or now.settle_ns != limits.settle_ns:
                return  # changed meanwhile: there is another walk to make
            if now.ended:
                tx.clear(limits_key(account))
                # A file with several names may count for the folder on, and be told of again.
                if await usage_of(tx, account, snapshot=False) == Usage(0, 0):
                    tx.clear_range(*counters_range(account))
            else:
                tx.set(limits_key(account), encode(msgspec.structs.replace(now, settled=True)))

        await context.kv.transact(finish)
        return changed

    async def _inherit(self, folder_id: int, top_id: int) -> None:
        """Mark a folder below *top_id* as its parent is."""

        async def mark(tx: Transaction) -> None:
            if folder_id == top_id:
                return
            value = await tx.get(inode_key(folder_id))
            if value is None:
                return
            inode = decode_inode(value)
            above = await tx.get(inode_key(inode.parent_id))
            if above is None:
                return
            own = inode.quota_ids[:1] if inode.quota_ids[:1] == (folder_id,) else ()
            quota_ids = own + decode_inode(above).quota_ids
            if quota_ids != inode.quota_ids:
                put_inode(tx, msgspec.structs.replace(inode, quota_ids=quota_ids))

        await self._context.kv.transact(mark)

    async def _settle_page(self, folder_id: int, begin: bytes, end: bytes) -> _Page:
        context = self._context

        async def settle(tx: Transaction) -> _Page:
            value = await tx.get(inode_key(folder_id))
            if value is None:
                return _Page([], b"", 0, 0)
            quota_ids = decode_inode(value).quota_ids
            rows = await tx.get_range(begin, end, limit=SETTLE_ROWS, snapshot=True)
            changed = 0
            folders: list[int] = []
            for inode in await inodes_of(tx, _inode_ids(rows)):
                if inode is None:
                    continue
                if inode.type == InodeType.DIRECTORY:
                    folders.append(inode.inode_id)
                elif inode.quota_ids != quota_ids and inode.lives:
                    holder = holder_of(inode)._replace(quota_ids=quota_ids)
                    put_inode(tx, await count_elsewhere(context, tx, inode, holder, checked=False))
                    changed += 1
            next_key = rows[-1][0] + b"\0" if len(rows) == SETTLE_ROWS else b""
            return _Page(folders, next_key, len(rows), changed)

        return await context.kv.transact(settle)

    async def unsettled_quotas(self) -> list[int]:
        """Folders whose walk is not done."""
        rows = await self._context.kv.read(_all_limits)
        return [
            account.number
            for account, limits in rows
            if account.kind is Kind.DIRECTORY and not limits.settled
        ]

    async def quotas(self) -> list[Standing]:
        """All limits, with what is held."""
        found: list[Standing] = []
        for account, limits in await self._context.kv.read(_all_limits):
            if not limits.ended:
                usage = await self._usage(account)
                found.append(Standing(account, limits, usage))
        return found

    async def standing(self, account: Account) -> Standing:
        """One account."""

        async def read(tx: ReadTransaction) -> Standing:
            await _check_account(tx, account, reading=True)
            limits = await _limits_of(tx, account)
            if limits is None or limits.ended:
                if account.kind is Kind.DIRECTORY:
                    raise NotFoundError(f"inode {account.number:x}: has no quota: set one first")
                limits = Limits()
            return Standing(account, limits, await usage_of(tx, account))

        if account == (Kind.USER, SUPERUSER):
            return (await self.user_usages())[0]
        return await self._context.kv.read(read)

    async def user_usages(self) -> list[Standing]:
        """What every owner holds."""

        async def read(tx: ReadTransaction) -> list[Standing]:
            everything = sum_of(await tx.get_range(b"r", b"s"))
            rows: dict[Account, Rows] = {}
            users = COUNTERS_PREFIX + bytes([Kind.USER])
            for key, value in await tx.get_range(users, prefix_end(users)):
                rows.setdefault(account_of(key), []).append((key, value))
            limits = dict(await _all_limits(tx))
            found: list[Standing] = []
            for account, counters in rows.items():
                usage = sum_of(counters)
                everything = Usage(
                    everything.size_bytes - usage.size_bytes,
                    everything.objects - usage.objects,
                    everything.part_bytes - usage.part_bytes,
                )
                found.append(Standing(account, limits.get(account, Limits()), usage))
            superuser = Standing(Account(Kind.USER, SUPERUSER), Limits(), everything)
            return [superuser, *found]

        return await self._context.kv.read(read)

    async def standings_of(self, inode: Inode) -> list[Standing]:
        """Limited accounts of a folder."""
        context = self._context

        async def read(tx: ReadTransaction) -> list[Standing]:
            await context.limits.refresh(tx, context.clock.monotonic_seconds())
            holder = Holder(inode.bucket_id or inode.inode_id, SUPERUSER, inode.quota_ids)
            return [
                Standing(account, limits, await usage_of(tx, account))
                for account, limits in context.limits.of(holder)
            ]

        return await context.kv.read(read)

    async def path_of(self, directory_id: int) -> str:
        """The names from the bucket on."""

        async def read(tx: ReadTransaction) -> str:
            names: list[str] = []
            inode = await find_inode(tx, directory_id)
            while inode.inode_id != ROOT_INODE_ID:
                names.append(inode.name.decode(errors="replace"))
                inode = await find_inode(tx, inode.parent_id)
            return "/".join(reversed(names))

        return await self._context.kv.read(read)

    async def room_of(self, inode: Inode) -> int:
        """How far a file may grow."""
        context = self._context
        if self._nothing_limited():
            return ROOM_MAX

        async def read(tx: ReadTransaction) -> int:
            await context.limits.refresh(tx, context.clock.monotonic_seconds())
            room = ROOM_MAX
            for account, limits in context.limits.of(holder_of(inode)):
                if limits.size_bytes:
                    usage = await usage_of(tx, account)
                    room = min(room, max(0, limits.size_bytes - usage.held_bytes))
            return room

        return await context.kv.read(read)

    def _nothing_limited(self) -> bool:
        """Whether it is known that there are no limits."""
        table = self._context.limits
        now_seconds = self._context.clock.monotonic_seconds()
        return not table.limits and now_seconds < table.good_until_seconds

    async def check_room(self, bucket_id: int, uid: int, size_bytes: int) -> None:
        """Refuse early."""
        context = self._context
        if self._nothing_limited():
            return

        async def check(tx: ReadTransaction) -> None:
            holder = Holder(bucket_id, uid)
            await need_room(context, tx, holder, size_bytes, 0, ahead=True)

        await context.kv.read(check)

    async def _usage(self, account: Account) -> Usage:
        rows = await self._context.kv.read(lambda tx: tx.get_range(*counters_range(account)))
        return sum_of(rows)


async def _limits_of(tx: ReadTransaction, account: Account) -> Limits | None:
    value = await tx.get(limits_key(account))
    return None if value is None else decode_limits(value)


async def _all_limits(tx: ReadTransaction) -> list[tuple[Account, Limits]]:
    rows = await tx.get_range(LIMITS_PREFIX, prefix_end(LIMITS_PREFIX))
    return [(account_of(key), decode_limits(value)) for key, value in rows]


async def _folder(tx: ReadTransaction, inode_id: int) -> Inode:
    """A folder in a bucket. Raises StaleHandleError, NotDirectoryError, InvalidArgumentError."""
    inode = await find_inode(tx, inode_id)
    if inode.type != InodeType.DIRECTORY:
        raise NotDirectoryError(f"inode {inode_id:x}: is not a folder")
    if inode_id == ROOT_INODE_ID or not inode.bucket_id:
        raise InvalidArgumentError(f"inode {inode_id:x}: is a bucket: set the quota of that")
    return inode


async def _check_account(tx: ReadTransaction, account: Account, *, reading: bool = False) -> None:
    """Raise NotFoundError, NotDirectoryError, InvalidArgumentError, StaleHandleError."""
    if account.kind is Kind.USER:
        if not reading and not SUPERUSER < account.number <= UID_MAX:
            raise InvalidArgumentError(
                f"user {account.number}: expected a uid from 1 on; the superuser has no quota"
            )
    elif account.kind is Kind.DIRECTORY:
        await _folder(tx, account.number)
    else:
        value = await tx.get(inode_key(account.number))
        name = b"" if value is None else decode_inode(value).name
        record = await tx.get(bucket_key(name.decode()))
        if record is None or decode_bucket(record).inode_id != account.number:
            raise NotFoundError(f"inode {account.number:x}: is not a bucket")


def _inode_ids(rows: Rows) -> list[int]:
    """The inodes that entries, or records of versions, name; one with several names once."""
    found: dict[int, None] = {}
    for key, value in rows:
        number = (decode_entry if key[:1] == b"d" else decode_version)(value).inode_id
        if number:
            found[number] = None
    return list(found)
