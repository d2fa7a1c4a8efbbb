"""``craqen admin events``: what waits to be told, and whether a destination can be told."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from typing import Any

from ..errors import NotFoundError
from ..events.destinations import parse_destinations
from ..events.message import message_of
from ..events.outbox import Event
from ..events.records import TEST_EVENT
from ..events.senders import Senders
from ..keeper.outbox import Outbox
from ..kv.store import KeyValueStore, ReadTransaction
from ..meta.schema import decode_inode, inode_key
from ..options import Config
from .admin_show import print_table
from .open_kv import opened_kv

NS = 1_000_000_000


def add_event_commands(group: Any, leaf: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    leaf(group, "status", "what waits for whom, and what was lost", _status, _show_status)
    one = leaf(group, "test", "send a destination a test event now", _test)
    one.add_argument("destination", metavar="NAME")


async def _status(arguments: argparse.Namespace, config: Config) -> Any:
    known = parse_destinations(config.events.destinations)
    rows = []
    async with opened_kv(config) as kv:
        outbox = Outbox(kv)
        for one in await outbox.standings():
            oldest_ns = await outbox.oldest_ns(one.queue) if one.waiting else None
            age = None if oldest_ns is None else max(0, time.time_ns() - oldest_ns) // NS
            rows.append(
                {
                    "bucket": await _bucket_name(kv, one.queue.bucket_id),
                    "destination": one.queue.destination,
                    "is_configured": one.queue.destination in known,
                    "waiting": one.waiting,
                    "oldest_seconds": age,
                    "lost": one.lost,
                }
            )
    return rows


async def _bucket_name(kv: KeyValueStore, bucket_id: int) -> str:
    async def read(tx: ReadTransaction) -> str:
        value = await tx.get(inode_key(bucket_id))
        return "(removed)" if value is None else decode_inode(value).name.decode()

    return await kv.read(read)


def _show_status(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("No event waits, and none was lost.")
        return
    print_table(
        ("BUCKET", "DESTINATION", "WAITING#", "FOR SECONDS#", "LOST#"),
        [
            (
                row["bucket"],
                row["destination"],
                row["waiting"],
                "" if row["oldest_seconds"] is None else row["oldest_seconds"],
                row["lost"],
            )
            for row in rows
        ],
    )
    for name in sorted({row["destination"] for row in rows if not row["is_configured"]}):
        print(f"{name} is not in events.destinations: its events wait until it is.")


async def _test(arguments: argparse.Namespace, config: Config) -> Any:
    senders = Senders(config.events)
    sender = senders.of(arguments.destination)
    if sender is None:
        raise NotFoundError(
            f"destination {arguments.destination}: is not in events.destinations "
            f"({', '.join(sorted(senders.destinations)) or 'which is empty'})"
        )
    number = secrets.token_hex(8).upper()
    event = Event(
        TEST_EVENT, "", "", "", config.gateway.region, b"", time.time_ns(), request_id=number
    )
    try:
        await sender.send(message_of([(event, number)]), f"test-{number}")
    finally:
        await senders.close()
    return {"done": f"{arguments.destination} took a test event"}
