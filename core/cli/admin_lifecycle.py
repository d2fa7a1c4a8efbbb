"""``craqen admin lifecycle``: one pass by hand, dry or not, and how the keepers' passes go."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..clock import SystemClock
from ..errors import InvalidArgumentError, NotFoundError
from ..keeper.expiration import BucketPass, Ended
from ..keeper.lifecycle import calendar_of, told
from ..kv.store import KeyValueStore
from ..lifecycle.plan import Plan
from ..lifecycle.progress import Tally, read_all
from ..lifecycle.records import ASPECT, decode_lifecycle
from ..meta.local import LocalMetaStore
from ..options import Config
from .admin_show import print_table
from .fsck_command import plain
from .open_kv import opened_kv

LISTED_MAX = 1000
RENEWALS_PER_LEASE = 4
NS = 1_000_000_000


def add_lifecycle_commands(group: Any, leaf: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    leaf(group, "status", "the last pass over each bucket with rules", _status, _show_status)
    one = leaf(group, "run", "hold a bucket's rules against all of it now", _run, _show_run)
    one.add_argument("--bucket", required=True, metavar="BUCKET")
    one.add_argument("--dry-run", action="store_true", help="tell what would end, change nothing")
    one.add_argument(
        "--now",
        type=_moment_ns,
        metavar="TIME",
        help="as if it were this time (ISO 8601, UTC): what is young yet ends too, without "
        "--dry-run for good",
    )
    one.add_argument(
        "--list",
        dest="listed",
        type=int,
        default=LISTED_MAX,
        metavar="N",
        help=f"name so many of those that end (default: {LISTED_MAX})",
    )


def _moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time such as 2030-01-31T12:00:00Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * NS


@asynccontextmanager
async def _alive(kv: KeyValueStore, config: Config) -> AsyncIterator[LocalMetaStore]:
    """The namespace, with a lease that is renewed: a pass may take long."""
    meta = await LocalMetaStore.open(kv, SystemClock(), config.meta, description="admin")

    async def renew() -> None:
        while True:
            await asyncio.sleep(config.meta.client_lease_seconds / RENEWALS_PER_LEASE)
            await meta.renew_client()

    renewing = asyncio.create_task(renew())
    try:
        yield meta
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        await meta.close()


async def _run(arguments: argparse.Namespace, config: Config) -> Any:
    tally = Tally()
    ended: list[Ended] = []

    def note(one: Ended) -> None:
        if len(ended) < arguments.listed:
            ended.append(one)

    now_ns = time.time_ns() if arguments.now is None else arguments.now
    async with opened_kv(config) as kv, _alive(kv, config) as meta:
        bucket = await meta.get_bucket(arguments.bucket)
        setting = await meta.get_bucket_setting(arguments.bucket, ASPECT)
        if setting is None:
            raise NotFoundError(f"bucket {bucket.name}: has no lifecycle rules")
        plan = Plan(decode_lifecycle(setting), now_ns, calendar_of(config.lifecycle))
        one = BucketPass(meta, bucket, setting, plan, tally, dry_run=arguments.dry_run, told=note)
        if not await one.run():
            raise InvalidArgumentError(
                f"bucket {bucket.name}: its rules were changed meanwhile; run this again"
            )
    return {
        "bucket": bucket.name,
        "now": _iso(now_ns),
        "dry_run": arguments.dry_run,
        **msgspec.to_builtins(tally),
        "ended": [msgspec.to_builtins(each) for each in ended],
        "not_listed": tally.ended - len(ended),
    }


def _show_run(found: dict[str, Any]) -> None:
    if found["ended"]:
        print_table(
            ("WHAT", "KEY", "VERSION OR UPLOAD", "BYTES#", "RULE"),
            [
                (one["kind"], one["key"], one["version_id"], one["size_bytes"], one["rule_id"])
                for one in found["ended"]
            ],
        )
    if found["not_listed"]:
        print(f"… and {found['not_listed']} more (--list)")
    tally = Tally(**{name: found[name] for name in Tally.__struct_fields__})
    dry = "dry run, nothing was changed: " if found["dry_run"] else ""
    print(plain(f"{found['bucket']} at {found['now']}: {dry}{told(tally)}"))


async def _status(arguments: argparse.Namespace, config: Config) -> Any:
    async with opened_kv(config) as kv:
        found = await read_all(kv)
    return [
        {
            "bucket": one.bucket,
            "began": _iso(one.now_ns),
            "finished": _iso(one.finished_ns) if one.finished_ns else None,
            **msgspec.to_builtins(one.tally),
            "position": one.position.key.decode(errors="replace"),
        }
        for one in sorted(found.values(), key=lambda each: each.bucket)
    ]


def _show_status(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("No bucket has lifecycle rules, or no keeper has come to them yet.")
        return
    names = ("objects", "versions", "markers", "uploads", "kept", "scanned")
    print_table(
        ("BUCKET", "BEGAN", "FINISHED", *(f"{name.upper()}#" for name in names)),
        [
            (
                row["bucket"],
                row["began"],
                row["finished"] or f"at {row['position']}",
                *(row[name] for name in names),
            )
            for row in rows
        ],
    )


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS, UTC).isoformat().replace("+00:00", "Z")
