"""``craqen admin quota`` and ``craqen admin usage``: what buckets, folders and users may hold, and
what they do."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pwd
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..clock import SystemClock
from ..errors import InvalidArgumentError, NotFoundError
from ..identity.records import FIRST_ACCOUNT_ID
from ..identity.store import IdentityStore
from ..ids import ROOT_INODE_ID
from ..kv.store import KeyValueStore
from ..meta.accounts import Account, Kind, Standing
from ..meta.local import LocalMetaStore
from ..meta.records import Inode
from ..meta.recount import find_differences, mend
from ..options import Config
from .admin_show import print_table
from .open_kv import opened_kv

Work = Callable[[argparse.Namespace, Config], Awaitable[Any]]
Leaf = Callable[..., argparse.ArgumentParser]

KINDS = ("bucket", "directory", "user")
RENEWALS_PER_LEASE = 4
LISTED_AT_ONCE = 1000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)(?:i?B)?", re.IGNORECASE)
_UNITS = " KMGTPE"
UNLIMITED = "none"


def add_quota_commands(group: Any, leaf: Leaf) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    one = leaf(group, "set", "limit what a bucket, folder or user may hold", _set)
    _add_what(one)
    one.add_argument(
        "--bytes", dest="size", type=_size, metavar="SIZE", help="such as 10G (2^30 bytes), or none"
    )
    one.add_argument("--files", type=_number, metavar="N", help="files and objects, or none")
    one = leaf(group, "show", "one limit, and what is held", _show_one, _print_rows)
    _add_what(one)
    one = leaf(group, "remove", "lift a limit", _remove)
    _add_what(one)
    leaf(group, "list", "all limits, and what is held", _list, _print_rows)


def add_usage_command(one: argparse.ArgumentParser) -> None:
    """Add the arguments of ``craqen admin usage``."""
    one.add_argument("kind", nargs="?", choices=KINDS, help="default: all")
    one.add_argument("name", nargs="?", metavar="NAME", help="one of them; default: all")
    one.add_argument(
        "--recount",
        action="store_true",
        help="add all files up, and mend counters that say something else",
    )


def _add_what(one: argparse.ArgumentParser) -> None:
    one.add_argument("kind", choices=KINDS)
    one.add_argument("name", metavar="NAME", help="BUCKET, BUCKET/FOLDER, or a user or uid")


def _size(text: str) -> int:
    if text == UNLIMITED:
        return 0
    match = _SIZE.fullmatch(text)
    size = (
        0 if match is None else int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper() or " "))
    )
    if not 0 < size < 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 500M or 10G, or none")
    return size


def _number(text: str) -> int:
    if text == UNLIMITED:
        return 0
    if not text.isdigit() or not 0 < int(text) < 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 on, or none")
    return int(text)


class _Opened:
    """The store, and names in it."""

    def __init__(self, kv: KeyValueStore, meta: LocalMetaStore, config: Config) -> None:
        self.kv = kv
        self.meta = meta
        self._config = config
        self._buckets: dict[int, str] = {}

    async def account(self, kind: str, name: str) -> Account:
        """What *name* means. Raises NotFoundError, InvalidArgumentError."""
        if kind == "bucket":
            return Account(Kind.BUCKET, (await self.meta.get_bucket(name)).inode_id)
        if kind == "user":
            return Account(Kind.USER, await self._uid(name))
        inode = await self._folder(name)
        return Account(Kind.DIRECTORY if inode.bucket_id else Kind.BUCKET, inode.inode_id)

    async def _folder(self, path: str) -> Inode:
        names = [name for name in path.split("/") if name]
        if not names:
            raise InvalidArgumentError(f"{path!r}: expected BUCKET/FOLDER")
        inode = await self.meta.get_inode(ROOT_INODE_ID)
        for name in names:
            inode = await self.meta.lookup(inode.inode_id, name.encode())
        return inode

    async def _uid(self, name: str) -> int:
        if name.isdigit():
            return int(name)
        identities = await IdentityStore.open(self.kv, SystemClock(), self._config.cluster_secret())
        account_id, _, user = name.rpartition("/")
        try:
            return (await identities.get_user(account_id or FIRST_ACCOUNT_ID, user)).uid
        except NotFoundError:
            pass
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            raise NotFoundError(
                f"user {name}: neither the store nor this host knows one; a uid will do"
            ) from None

    async def name_of(self, account: Account) -> str:
        """An account in words; folders by their way from the bucket."""
        if account.kind is Kind.USER:
            try:
                return f"{account.number} ({pwd.getpwuid(account.number).pw_name})"
            except KeyError:
                return str(account.number)
        return await self.meta.path_of(account.number)

    async def row(self, one: Standing) -> dict[str, Any]:
        """A standing as it is shown."""
        return {
            "kind": KINDS[one.account.kind - 1],
            "name": await self.name_of(one.account),
            "bytes": one.usage.size_bytes,
            "files": one.usage.objects,
            "part_bytes": one.usage.part_bytes,
            "bytes_limit": one.limits.size_bytes or None,
            "files_limit": one.limits.files or None,
            "settled": one.limits.settled,
        }

    async def buckets(self) -> list[Standing]:
        """What every bucket holds."""
        found: list[Standing] = []
        after = ""
        while True:
            page = await self.meta.list_buckets(after=after, limit=LISTED_AT_ONCE)
            for bucket in page:
                found.append(await self.meta.standing(Account(Kind.BUCKET, bucket.inode_id)))
            if len(page) < LISTED_AT_ONCE:
                return found
            after = page[-1].name


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[_Opened]:
    """The store, with a lease that is renewed: a walk over a large tree takes long."""
    async with opened_kv(config) as kv:
        meta = await LocalMetaStore.open(kv, SystemClock(), config.meta, description="admin")

        async def renew() -> None:
            while True:
                await asyncio.sleep(config.meta.client_lease_seconds / RENEWALS_PER_LEASE)
                await meta.renew_client()

        renewing = asyncio.create_task(renew())
        try:
            yield _Opened(kv, meta, config)
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await meta.close()


async def _set(arguments: argparse.Namespace, config: Config) -> Any:
    if arguments.size is None and arguments.files is None:
        raise InvalidArgumentError("expected --bytes, --files or both")
    async with _opened(config) as store:
        account = await store.account(arguments.kind, arguments.name)
        size, files = arguments.size, arguments.files
        for one in await store.meta.quotas():
            if one.account == account:
                size = one.limits.size_bytes if size is None else size
                files = one.limits.files if files is None else files
        await store.meta.set_quota(account, size_bytes=size or 0, files=files or 0)
        moved = await _settle(store, account)
    return {"done": f"{arguments.kind} {arguments.name}: the limit holds from now on{moved}"}


async def _remove(arguments: argparse.Namespace, config: Config) -> Any:
    async with _opened(config) as store:
        account = await store.account(arguments.kind, arguments.name)
        if not await store.meta.remove_quota(account):
            raise NotFoundError(f"{arguments.kind} {arguments.name}: has no quota")
        await _settle(store, account)
    return {"done": f"{arguments.kind} {arguments.name}: has no limit of its own any more"}


async def _settle(store: _Opened, account: Account) -> str:
    if account.kind is not Kind.DIRECTORY:
        return ""
    moved = await store.meta.settle_quota(account.number)
    return f"; {moved} files that were there count for it" if moved else ""


async def _show_one(arguments: argparse.Namespace, config: Config) -> Any:
    async with _opened(config) as store:
        account = await store.account(arguments.kind, arguments.name)
        return [await store.row(await store.meta.standing(account))]


async def _list(arguments: argparse.Namespace, config: Config) -> Any:
    async with _opened(config) as store:
        return [await store.row(one) for one in await store.meta.quotas()]


async def show_usage(arguments: argparse.Namespace, config: Config) -> Any:
    """The work of ``craqen admin usage``."""
    async with _opened(config) as store:
        if arguments.recount:
            return await _recount(store)
        if arguments.name is not None:
            account = await store.account(arguments.kind, arguments.name)
            return [await store.row(await store.meta.standing(account))]
        found: list[Standing] = []
        if arguments.kind in (None, "bucket"):
            found += await store.buckets()
        if arguments.kind in (None, "directory"):
            quotas = await store.meta.quotas()
            found += [one for one in quotas if one.account.kind is Kind.DIRECTORY]
        if arguments.kind in (None, "user"):
            found += await store.meta.user_usages()
        return [await store.row(one) for one in found]


async def _recount(store: _Opened) -> Any:
    differences, unstable = await find_differences(store.kv, lambda rows: None)
    mended = []
    for account, difference in differences.items():
        if await mend(store.kv, account, difference):
            name = await store.name_of(account)
            mended.append({"kind": KINDS[account.kind - 1], "name": name, **difference._asdict()})
    return {"mended": mended, "in_use": len(unstable)}


def print_usage(found: Any) -> None:
    """Show what ``show_usage`` returned."""
    if isinstance(found, list):
        _print_rows(found)
        return
    for one in found["mended"]:
        print(
            f"{one['kind']} {one['name']}: mended by {one['size_bytes']} bytes, "
            f"{one['objects']} files, {one['part_bytes']} bytes of parts"
        )
    if not found["mended"]:
        print("All counters that could be compared are right.")
    if found["in_use"]:
        print(f"{found['in_use']} counters changed meanwhile: run this again at a quiet time.")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("KIND", "NAME", "BYTES#", "LIMIT#", "FILES#", "LIMIT#", "PARTS#", "STATE"),
        (
            (
                row["kind"],
                row["name"],
                row["bytes"],
                "" if row["bytes_limit"] is None else row["bytes_limit"],
                row["files"],
                "" if row["files_limit"] is None else row["files_limit"],
                row["part_bytes"],
                "" if row["settled"] else "being counted",
            )
            for row in rows
        ),
    )
