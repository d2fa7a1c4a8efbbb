"""``craqen admin encryption-key``: the store's own encryption keys, in a file of this host."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..client.rewrap import Rewrap, Rewrapped
from ..clock import SystemClock
from ..crypt.envelope import new_data_key
from ..crypt.key_ring import STORE_KEY_ID, FileKeyRing
from ..crypt.open_keys import open_keys
from ..crypt.port import KeyKeeper
from ..errors import DataLossError
from ..options import Config
from .admin_show import print_table
from .open_kv import opened_kv

Work = Callable[[argparse.Namespace, Config], Awaitable[Any]]
Leaf = Callable[..., argparse.ArgumentParser]

PROGRESS_SECONDS = 2.0
KEEP = "Keep a copy of {file}: without it nobody can read what is encrypted."


def add_encryption_commands(group: Any, leaf: Leaf) -> None:
    """Add the commands to *group*; *leaf* makes one, as those of the other groups are made."""
    leaf(group, "list", "the keys, their versions and whether they are in use", _list, _show_list)
    for name, text, work in (
        ("create", "make a key, for aws:kms by its name", _create),
        ("rotate", "add a version: it wraps from now on, older ones still unwrap", _rotate),
        ("disable", "refuse all use of a key: what it wraps cannot be read", _disable),
        ("enable", "allow a disabled key again", _enable),
    ):
        one = leaf(group, name, text, work)
        one.add_argument("key_id", metavar="KEY", help=f"its name; {STORE_KEY_ID}: of SSE-S3")
    text = "whether a key can be used, also one of the key service"
    leaf(group, "check", text, _check).add_argument("key_id", metavar="KEY")
    one = leaf(
        group,
        "rewrap",
        "wrap the keys of stored objects anew, after a rotation or under another key",
        _rewrap,
        _show_rewrap,
    )
    one.add_argument("--key", default="", metavar="KEY", help="only objects under this key")
    one.add_argument(
        "--to",
        default="",
        metavar="KEY",
        help="under this key; default: the newest version of the key that each has",
    )


def _ring(config: Config) -> FileKeyRing:
    return FileKeyRing(config.keys_file)


async def _list(arguments: argparse.Namespace, config: Config) -> Any:
    keys = _ring(config).keys()
    return [
        {
            "id": key.key_id,
            "created": key.created,
            "versions": len(key.versions),
            "disabled": key.disabled,
        }
        for key in keys
    ]


def _show_list(keys: list[dict[str, Any]]) -> None:
    print_table(
        ("KEY", "CREATED", "VERSIONS#", "STATE"),
        (
            (
                key["id"],
                key["created"],
                key["versions"],
                "disabled" if key["disabled"] else "in use",
            )
            for key in keys
        ),
    )


async def _create(arguments: argparse.Namespace, config: Config) -> Any:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _ring(config).create(arguments.key_id, now)
    return {"done": f"key {arguments.key_id} is made. {KEEP.format(file=config.keys_file)}"}


async def _rotate(arguments: argparse.Namespace, config: Config) -> Any:
    version = _ring(config).rotate(arguments.key_id)
    return {
        "done": f"key {arguments.key_id}: version {version} wraps from now on. "
        f"{KEEP.format(file=config.keys_file)}"
    }


async def _disable(arguments: argparse.Namespace, config: Config) -> Any:
    _ring(config).set_disabled(arguments.key_id, True)
    return {"done": f"key {arguments.key_id} is disabled: what it wraps cannot be read"}


async def _enable(arguments: argparse.Namespace, config: Config) -> Any:
    _ring(config).set_disabled(arguments.key_id, False)
    return {"done": f"key {arguments.key_id} is in use again"}


@asynccontextmanager
async def _keeper(config: Config) -> AsyncIterator[KeyKeeper]:
    keys = open_keys(config, SystemClock())
    try:
        yield keys
    finally:
        await keys.close()


async def _check(arguments: argparse.Namespace, config: Config) -> Any:
    data_key, bound_to = new_data_key(), b"check"
    async with _keeper(config) as keys:
        wrapped = await keys.wrap(arguments.key_id, data_key, bound_to)
    async with _keeper(config) as keys:  # another one, which has not seen the key
        if await keys.unwrap(wrapped, bound_to) != data_key:
            raise DataLossError(f"encryption key {arguments.key_id}: gives another key back")
    return {"done": f"key {wrapped.key_id} wraps and unwraps"}


async def _rewrap(arguments: argparse.Namespace, config: Config) -> Any:
    told_seconds = time.monotonic()

    def told(done: Rewrapped) -> None:
        nonlocal told_seconds
        if time.monotonic() - told_seconds >= PROGRESS_SECONDS:
            told_seconds = time.monotonic()
            print(f"{done.seen} looked at, {done.rewrapped} wrapped anew", file=sys.stderr)

    async with opened_kv(config) as kv, _keeper(config) as keys:
        done = await Rewrap(kv, keys, told, target=arguments.to, only=arguments.key).run()
    return {"level": int(done.failed > 0), **dataclasses.asdict(done)}


def _show_rewrap(found: dict[str, Any]) -> None:
    print(
        f"{found['seen']} records looked at, {found['rewrapped']} keys wrapped anew, "
        f"{found['changed']} changed meanwhile, {found['failed']} failed"
    )
    for line in found["failures"]:
        print(f"  {line}")
    if found["changed"]:
        print("Run it again for those that changed meanwhile.")
