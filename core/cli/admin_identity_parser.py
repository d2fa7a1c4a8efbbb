"""The command line of ``craqen admin account|user|group|role|key|policy``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..identity.records import FIRST_ACCOUNT_ID
from . import admin_identity as identity
from .admin_show import print_table, show_done
from .fsck_command import plain

Group = Callable[[Any, str, str], Any]
Leaf = Callable[..., argparse.ArgumentParser]

ID_MAX = 2**32 - 2
SESSION_SECONDS_DEFAULT = 3600


def add_identity_commands(commands: Any, group: Group, leaf: Leaf) -> None:
    """Add the commands to *commands*, by the means of the command that they are a part of."""
    adders = (
        ("account", "accounts: what owns buckets", _add_account),
        ("user", "users of an account, and their POSIX ids", _add_user),
        ("group", "groups of users that share policies", _add_group),
        ("role", "roles that others may assume", _add_role),
        ("key", "access keys", _add_key),
        ("policy", "policies, and who has them", _add_policy),
    )
    for name, text, add in adders:
        add(_Commands(group(commands, name, text), leaf))


class _Commands:
    """Makes the leaves of one command."""

    def __init__(self, commands: Any, leaf: Leaf) -> None:
        self._commands = commands
        self._leaf = leaf

    def add(
        self, what: str, text: str, work: Any, shown: Any = show_done, *, account: bool = True
    ) -> argparse.ArgumentParser:
        leaf = self._leaf(self._commands, what, text, work, shown)
        leaf.set_defaults(what=what)
        if account:
            leaf.add_argument(
                "--account", metavar="ID", default=FIRST_ACCOUNT_ID, help="default: the store's own"
            )
        return leaf


def _add_account(commands: _Commands) -> None:
    work = identity.account
    leaf = commands.add("create", "make an account", work, account=False)
    leaf.add_argument("name", metavar="NAME")
    leaf.add_argument("--id", default="", help="twelve digits; default: drawn at random")
    leaf.add_argument("--email")
    leaf.add_argument("--key", action="store_true", help="make a key of the account's own too")
    _add_posix(leaf)
    commands.add("list", "list the accounts", work, _table("id", "name", "email"), account=False)
    leaf = commands.add("show", "show an account", work, show_fields, account=False)
    leaf.add_argument("id", metavar="ID")
    leaf = commands.add("set", "change an account", work, account=False)
    leaf.add_argument("id", metavar="ID")
    leaf.add_argument("--name")
    leaf.add_argument("--email")
    _add_posix(leaf)
    leaf = commands.add("delete", "remove an empty account", work, account=False)
    leaf.add_argument("id", metavar="ID")


def _add_user(commands: _Commands) -> None:
    work = identity.user
    leaf = commands.add("create", "make a user", work)
    leaf.add_argument("name", metavar="NAME")
    leaf.add_argument("--path", default="/")
    leaf.add_argument("--key", action="store_true", help="make an access key too")
    _add_posix(leaf)
    commands.add("list", "list the users", work, _table("name", "uid#", "gid#", "arn"))
    _add_name(commands.add("show", "show a user", work, show_fields))
    leaf = commands.add("set", "change a user's POSIX ids", work)
    _add_name(leaf)
    _add_posix(leaf)
    leaf = commands.add("delete", "remove a user", work)
    _add_name(leaf)
    leaf.add_argument(
        "--force", action="store_true", help="with its keys, policies and memberships"
    )


def _add_group(commands: _Commands) -> None:
    work = identity.group
    leaf = commands.add("create", "make a group", work)
    _add_name(leaf)
    leaf.add_argument("--path", default="/")
    commands.add("list", "list the groups", work, _table("name", "arn"))
    _add_name(commands.add("show", "show a group and its members", work, show_fields))
    _add_name(commands.add("delete", "remove an empty group", work))
    for what, text in (("add", "make a user a member"), ("remove", "end a membership")):
        leaf = commands.add(what, text, work)
        _add_name(leaf)
        leaf.add_argument("user", metavar="USER")


def _add_role(commands: _Commands) -> None:
    work = identity.role
    leaf = commands.add("create", "make a role", work)
    _add_name(leaf)
    leaf.add_argument("--trust", metavar="FILE", required=True, help="who may assume it; -: stdin")
    leaf.add_argument("--path", default="/")
    leaf.add_argument(
        "--session-seconds",
        type=int,
        default=SESSION_SECONDS_DEFAULT,
        choices=range(3600, 43_201),
        metavar="N",
        help="longest session, 3600 to 43200",
    )
    _add_posix(leaf)
    commands.add("list", "list the roles", work, _table("name", "uid#", "gid#", "arn"))
    _add_name(commands.add("show", "show a role", work, show_fields))
    leaf = commands.add("set", "change a role's POSIX ids", work)
    _add_name(leaf)
    _add_posix(leaf)
    leaf = commands.add("trust", "change who may assume a role", work)
    _add_name(leaf)
    leaf.add_argument("file", metavar="FILE", help="the trust policy; -: standard input")
    _add_name(commands.add("delete", "remove a role without policies", work))


def _add_key(commands: _Commands) -> None:
    work = identity.key
    leaf = commands.add("create", "make a key", work)
    leaf.add_argument("--user", metavar="NAME", default="", help="default: the account itself")
    leaf.add_argument("--access-key", metavar="KEY", default="", help="default: drawn at random")
    leaf.add_argument(
        "--secret-file", metavar="FILE", help="holds the secret; -: stdin. Default: random"
    )
    leaf = commands.add(
        "list", "list the keys", work, _table("access_key", "user", "account", "active")
    )
    leaf.add_argument("--user", metavar="NAME", default="", help="of this user only")
    for what, text in (
        ("enable", "let a key be used again"),
        ("disable", "let a key not be used"),
        ("delete", "remove a key"),
    ):
        leaf = commands.add(what, text, work)
        leaf.add_argument("access_key", metavar="KEY")


def _add_policy(commands: _Commands) -> None:
    work = identity.policy
    commands.add("list", "list the policies", work, _table("name", "version", "arn"))
    _add_name(commands.add("show", "show a policy", work, show_fields))
    for what, text in (
        ("create", "make a policy that can be attached"),
        ("update", "put another document in its place"),
    ):
        leaf = commands.add(what, text, work)
        _add_name(leaf)
        leaf.add_argument("file", metavar="FILE", help="the policy as JSON; -: standard input")
    _add_name(commands.add("delete", "remove a policy that nobody has", work))
    for what, text in (
        ("attach", "attach a policy to a user, group or role"),
        ("detach", "take it away again"),
        ("put", "give a user, group or role a policy of its own"),
        ("remove", "take that away again"),
    ):
        leaf = commands.add(what, text, work)
        _add_name(leaf)
        if what == "put":
            leaf.add_argument("file", metavar="FILE", help="the policy as JSON; -: standard input")
        choice = leaf.add_mutually_exclusive_group(required=True)
        for kind in ("user", "group", "role"):
            choice.add_argument(f"--{kind}", dest=f"of_{kind}", metavar="NAME", default="")


def _add_name(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("name", metavar="NAME")


def _add_posix(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("--uid", type=_posix_id, help="owner of the files made")
    leaf.add_argument("--gid", type=_posix_id, help="their group")
    leaf.add_argument("--groups", type=_posix_ids, metavar="GID,…", help="supplementary groups")


def _posix_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > ID_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to {ID_MAX}")
    return int(text)


def _posix_ids(text: str) -> tuple[int, ...]:
    return tuple(_posix_id(one) for one in text.split(",") if one)


def _table(*columns: str) -> Callable[[Sequence[dict[str, Any]]], None]:
    """Shows rows; a column that ends in ``#`` holds numbers."""

    def show(rows: Sequence[dict[str, Any]]) -> None:
        names = [column.removesuffix("#") for column in columns]
        shown = [column.replace("_", " ") for column in columns]
        print_table(shown, ([row[name] for name in names] for row in rows))

    return show


def show_fields(row: dict[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    width = max(map(len, row)) + 2
    for name, value in row.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{name.replace('_', ' '):<{width}}{plain(text)}")
