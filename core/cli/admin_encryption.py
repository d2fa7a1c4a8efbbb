"""``craqen admin encryption-key``: the store's own encryption keys, in a file of this host."""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..crypt.key_ring import STORE_KEY_ID, FileKeyRing
from ..options import Config
from .admin_show import print_table

Work = Callable[[argparse.Namespace, Config], Awaitable[Any]]
Leaf = Callable[..., argparse.ArgumentParser]

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
