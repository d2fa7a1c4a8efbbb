"""``craqen admin bucket``: what no S3 operation sets of a bucket."""

from __future__ import annotations

import argparse
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..access.modes import ACCESS_MODE_ASPECT, MODES
from ..clock import SystemClock
from ..meta.local import LocalMetaStore
from ..meta.records import Versioning
from ..options import Config
from .admin_show import print_table
from .open_kv import opened_kv

Work = Callable[[argparse.Namespace, Config], Awaitable[Any]]
Leaf = Callable[..., argparse.ArgumentParser]

LISTED_AT_ONCE = 1000
AS_CONFIGURED = "as-configured"

_HELP = (
    "who decides about a bucket's objects at the S3 door: policies, file permissions (posix), or "
    "both; without a word it is shown"
)

_TRASH_HELP = (
    "how long what file calls remove is kept in .trash of a bucket; without --days it is shown"
)
DAY_SECONDS = 86_400
TRASH_DAYS_MAX = 36_500


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= TRASH_DAYS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 to {TRASH_DAYS_MAX} days")
    return days


def add_bucket_commands(group: Any, leaf: Leaf) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    leaf(group, "list", "the buckets, their owners and who decides", _list, _show_list)
    one = leaf(group, "mode", _HELP, _mode, _show_mode)
    one.add_argument("bucket", metavar="BUCKET")
    one.add_argument("mode", nargs="?", choices=(*MODES, AS_CONFIGURED), help="gateway.access_mode")
    one = leaf(group, "trash", _TRASH_HELP, _trash, _show_trash)
    one.add_argument("bucket", metavar="BUCKET")
    one.add_argument("--days", type=_days, metavar="N", help="keep it for so long; 0: keep nothing")


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[LocalMetaStore]:
    async with opened_kv(config) as kv:
        meta = await LocalMetaStore.open(kv, SystemClock(), config.meta, description="admin")
        try:
            yield meta
        finally:
            await meta.close()


async def _mode(arguments: argparse.Namespace, config: Config) -> Any:
    name, mode = arguments.bucket, arguments.mode
    async with _opened(config) as meta:
        if mode is not None:
            value = None if mode == AS_CONFIGURED else mode.encode("ascii")
            await meta.set_bucket_setting(name, ACCESS_MODE_ASPECT, value)
        return {"bucket": name, **await _shown(meta, name, config)}


async def _shown(meta: LocalMetaStore, name: str, config: Config) -> dict[str, Any]:
    stored = await meta.get_bucket_setting(name, ACCESS_MODE_ASPECT)
    mode = config.gateway.access_mode if stored is None else stored.decode("ascii")
    return {"mode": mode, "as_configured": stored is None}


def _show_mode(found: dict[str, Any]) -> None:
    print(f"{found['bucket']}: {_words(found)}")


def _words(found: dict[str, Any]) -> str:
    return f"{found['mode']} (gateway.access_mode)" if found["as_configured"] else found["mode"]


async def _trash(arguments: argparse.Namespace, config: Config) -> Any:
    async with _opened(config) as meta:
        if arguments.days is not None:
            await meta.set_trash(arguments.bucket, math.ceil(arguments.days * DAY_SECONDS))
        bucket = await meta.get_bucket(arguments.bucket)
    return {
        "bucket": bucket.name,
        "trash_seconds": bucket.trash_seconds,
        "has_versions": bucket.versioning is not Versioning.NEVER,
    }


def _show_trash(found: dict[str, Any]) -> None:
    seconds = found["trash_seconds"]
    if found["has_versions"]:
        print(f"{found['bucket']}: keeps versions, and has no trash")
    elif seconds:
        print(f"{found['bucket']}: what is removed is kept for {seconds / DAY_SECONDS:g} days")
    else:
        print(f"{found['bucket']}: what is removed is not kept")


async def _list(arguments: argparse.Namespace, config: Config) -> Any:
    rows: list[dict[str, Any]] = []
    async with _opened(config) as meta:
        after = ""
        while True:
            page = await meta.list_buckets(after=after, limit=LISTED_AT_ONCE)
            for bucket in page:
                shown = await _shown(meta, bucket.name, config)
                rows.append({"bucket": bucket.name, "owner": bucket.owner, **shown})
            if len(page) < LISTED_AT_ONCE:
                return rows
            after = page[-1].name


def _show_list(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("BUCKET", "MODE", "OWNER"), [(row["bucket"], _words(row), row["owner"]) for row in rows]
    )
