"""``craqen admin bucket``: what no S3 operation sets of a bucket."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..access.modes import ACCESS_MODE_ASPECT, MODES
from ..clock import SystemClock
from ..meta.local import LocalMetaStore
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


def add_bucket_commands(group: Any, leaf: Leaf) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    leaf(group, "list", "the buckets, their owners and who decides", _list, _show_list)
    one = leaf(group, "mode", _HELP, _mode, _show_mode)
    one.add_argument("bucket", metavar="BUCKET")
    one.add_argument("mode", nargs="?", choices=(*MODES, AS_CONFIGURED), help="gateway.access_mode")


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
