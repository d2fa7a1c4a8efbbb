"""``craqen admin``: looks after the cluster."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from ..errors import InvalidArgumentError, UnavailableError
from ..fsck.findings import Silence
from ..fsck.run import Choice
from ..manager.client import ManagerClient
from ..options import Config
from . import admin_show as show
from .admin_bucket import add_bucket_commands
from .admin_chunks import CHUNKS_SHOWN, query
from .admin_encryption import add_encryption_commands
from .admin_events import add_event_commands
from .admin_identity_parser import add_identity_commands
from .admin_lifecycle import add_lifecycle_commands
from .admin_quota import add_quota_commands, add_usage_command, print_usage, show_usage
from .fsck_command import check_store

TABLE_FILE_BYTES_MAX = 15 << 20  # what one message to the manager holds, with room

EPILOG = """Exit codes of status: 0 all is well, 1 degraded, 2 some data is unavailable, or no
manager answers. Others: 0 done, 1 refused, 3 try again later."""

Work = Callable[[argparse.Namespace, Config], Awaitable[Any]]
Show = Callable[[Any], None]
Group = Any  # argparse does not name the type of what add_subparsers returns


class AdminCommand:
    """Ask the primary manager, or have it change something."""

    name = "admin"
    help = "look after the cluster: status, nodes, targets, chains, rebalance, options, users"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.epilog = EPILOG
        commands = parser.add_subparsers(metavar="WHAT", required=True)
        _leaf(
            commands,
            "status",
            "whether all is well, and if not what to do",
            _status,
            show.show_status,
        )
        for name, shown in (
            ("nodes", show.show_nodes),
            ("targets", show.show_targets),
            ("chains", show.show_chains),
            ("tables", show.show_tables),
        ):
            _leaf(commands, name, f"list the {name}", _asks(name), shown)
        _add_node_commands(_group(commands, "node", "add, remove, drain, start or stop nodes"))
        _add_target_commands(_group(commands, "target", "add, remove or replace a target"))
        _add_chain_commands(_group(commands, "chain", "restore a chain's order, or give up on it"))
        _add_table_commands(_group(commands, "table", "show or upload the routing table"))
        _add_placement_commands(commands)
        _add_option_commands(_group(commands, "config", "options that change while running"))
        add_bucket_commands(_group(commands, "bucket", "who decides about buckets"), _leaf)
        group = _group(commands, "lifecycle", "the rules by which objects end")
        add_lifecycle_commands(group, _leaf)
        group = _group(commands, "events", "who is told of what happens in buckets")
        add_event_commands(group, _leaf)
        add_quota_commands(
            _group(commands, "quota", "what buckets, folders and users may hold"), _leaf
        )
        add_usage_command(_leaf(commands, "usage", "what they hold", show_usage, print_usage))
        keys = _group(commands, "encryption-key", "the keys that wrap those of encrypted objects")
        add_encryption_commands(keys, _leaf)
        add_identity_commands(commands, _group, _leaf)
        leaf = _leaf(
            _group(commands, "chunk", "where data is"),
            "query",
            "the chunks of an object, and the version that each target has",
            _chunks,
            show.show_chunks,
        )
        leaf.add_argument("what", metavar="BUCKET/KEY|SEGMENT.INDEX")
        leaf.add_argument("--limit", type=int, default=CHUNKS_SHOWN, help="chunks to ask for")
        _leaf(
            commands,
            "orphans",
            "chunks that nothing refers to (a part of fsck)",
            _orphans,
            show.show_orphans,
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        result = uvloop.run(arguments.work(arguments, config))
        if arguments.json:
            print(json.dumps(result, indent=2))
        else:
            arguments.show(result)
        return int(result.get("level", 0)) if isinstance(result, dict) else 0


def _group(commands: Group, name: str, text: str) -> Group:
    return commands.add_parser(name, help=text).add_subparsers(metavar="WHAT", required=True)


def _leaf(
    commands: Group, name: str, text: str, work: Work, shown: Show = show.show_done
) -> argparse.ArgumentParser:
    leaf: argparse.ArgumentParser = commands.add_parser(name, help=text)
    leaf.add_argument("--json", action="store_true", help="print one JSON document")
    leaf.add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help="configuration file (YAML)"
    )
    leaf.set_defaults(work=work, show=shown)
    return leaf


def _asks(command: str, *names: str) -> Work:
    """Work that is one question to the primary: *names* are the arguments that go with it."""

    async def work(arguments: argparse.Namespace, config: Config) -> Any:
        return await _ask(config, command, {name: getattr(arguments, name) for name in names})

    return work


async def _ask(config: Config, command: str, values: dict[str, object]) -> Any:
    client = ManagerClient(config)
    try:
        return await client.admin(command, **values)
    finally:
        await client.close()


def _author() -> str:
    """Who changes something, for the history."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user id without a name
        return socket.gethostname()


def _flag(leaf: argparse.ArgumentParser, name: str, text: str) -> None:
    leaf.add_argument(name, action="store_true", help=text)


def _add_node_commands(group: Group) -> None:
    leaf = _leaf(
        group,
        "add",
        "let nodes in that run, or will run",
        _asks("node-add", "node_ids", "every_candidate", "addresses", "disks", "domain"),
    )
    leaf.add_argument("node_ids", metavar="NODE", type=int, nargs="*")
    leaf.add_argument(
        "--all", dest="every_candidate", action="store_true", help="all that ask to be let in"
    )
    for name, dest, text in (
        ("--address", "addresses", "of a node that does not run yet; may be given several times"),
        ("--disk", "disks", "of a node that does not run yet; may be given several times"),
    ):
        leaf.add_argument(name, dest=dest, action="append", default=[], help=text)
    leaf.add_argument("--domain", default="", help="failure domain")
    for name, text in (
        ("remove", "forget nodes that have no targets any more"),
        ("drain", "give nodes no new targets; a rebalance moves those that they have"),
        ("start", "end a planned shutdown or a drain"),
        ("stop", "hand over what nodes serve, so that their processes may be ended"),
    ):
        names = ("node_ids", "accept_unavailable") if name == "stop" else ("node_ids",)
        leaf = _leaf(group, name, text, _asks(f"node-{name}", *names))
        leaf.add_argument("node_ids", metavar="NODE", type=int, nargs="+")
        if name == "stop":
            _flag(leaf, "--accept-unavailable", "also if some data cannot be reached meanwhile")


def _add_target_commands(group: Group) -> None:
    leaf = _leaf(
        group,
        "add",
        "add a target to a chain",
        _asks("target-add", "chain_id", "node_id", "disk", "same_node"),
    )
    leaf.add_argument("chain_id", metavar="CHAIN", type=int)
    leaf.add_argument("node_id", metavar="NODE", type=int)
    leaf.add_argument("disk", metavar="DISK")
    _flag(
        leaf, "--same-node", "beside one of the chain on another disk there: until that is removed"
    )
    leaf = _leaf(
        group,
        "remove",
        "take a target out of its chain",
        _asks("target-remove", "target_id", "forced"),
    )
    leaf.add_argument("target_id", metavar="TARGET", type=int)
    leaf.add_argument(
        "--force", dest="forced", action="store_true", help="also if fewer than wanted serve then"
    )
    leaf = _leaf(
        group,
        "replace",
        "put a new target in the place of one that is down",
        _asks("target-replace", "target_id", "node_id", "disk"),
    )
    leaf.add_argument("target_id", metavar="TARGET", type=int)
    leaf.add_argument("--node", dest="node_id", type=int, help="on another node")
    leaf.add_argument("--disk", help="on another disk")


def _add_chain_commands(group: Group) -> None:
    leaf = _leaf(
        group, "rotate", "one step towards the preferred order", _asks("chain-rotate", "chain_id")
    )
    leaf.add_argument("chain_id", metavar="CHAIN", type=int)
    leaf = _leaf(
        group,
        "rotate-last-server",
        "give up last servers that will not return",
        _asks("chain-rotate-last-server", "chain_id", "target_id", "accept_loss"),
    )
    leaf.add_argument("chain_id", metavar="CHAIN", type=int)
    leaf.add_argument("--target", dest="target_id", type=int, help="the one that takes over")
    _flag(leaf, "--accept-loss", "acknowledged writes may be lost for good")


def _add_table_commands(group: Group) -> None:
    _leaf(group, "show", "the routing table as JSON", _asks("table-show"), _show_json)
    leaf = _leaf(
        group, "upload", "put a changed table in the place of the one it was made from", _upload
    )
    leaf.add_argument("file", metavar="FILE", help="as `table show` prints it; -: standard input")


def _add_placement_commands(commands: Group) -> None:
    leaf = _leaf(commands, "init", "make the first chain table over the nodes", _init)
    leaf.add_argument("--replicas", type=int, help="default: storage.replicas")
    leaf.add_argument("--targets-per-disk", type=int, help="default: what spreads best")
    _flag(leaf, "--dry-run", "tell what would be made")
    leaf = _leaf(
        commands, "rebalance", "spread the targets evenly over the disks, online", _rebalance
    )
    choice = leaf.add_mutually_exclusive_group()
    choice.add_argument("--dry-run", action="store_true", help="tell what would be moved")
    choice.add_argument("--status", action="store_true", help="tell how far it is")
    choice.add_argument("--stop", action="store_true", help="begin no more moves")
    leaf.add_argument("--replicas", type=int, help="another number of replicas from now on")
    leaf.add_argument(
        "--without",
        metavar="NODE:FOLDER",
        action="append",
        default=[],
        type=_disk,
        help="a disk to leave empty; may be given several times",
    )


def _add_option_commands(group: Group) -> None:
    _leaf(group, "get", "the options and their values", _asks("config-get"), show.show_options)
    leaf = _leaf(group, "set", "change an option everywhere, now", _set_option)
    leaf.add_argument("name", metavar="NAME")
    choice = leaf.add_mutually_exclusive_group(required=True)
    choice.add_argument("value", metavar="VALUE", nargs="?")
    choice.add_argument(
        "--as-configured", action="store_true", help="back to what the configuration files say"
    )
    _leaf(group, "history", "who changed what", _asks("config-history"), show.show_history)


def _disk(text: str) -> tuple[int, str]:
    node_id, colon, folder = text.partition(":")
    if not (colon and node_id.isdigit() and folder.startswith("/")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NODE:FOLDER, such as 3:/data/disk1")
    return int(node_id), folder


async def _status(arguments: argparse.Namespace, config: Config) -> Any:
    client = ManagerClient(config)
    try:
        # A single one that is silent is told of by the question itself.
        silent = await client.silent() if len(config.manager_addresses) > 1 else []
        return await client.admin("status", silent_managers=silent)
    except UnavailableError as error:
        remedy = (
            "start the managers, and see that they are reached from here. Storage nodes stop "
            "serving when no manager answers them"
        )
        return {
            "level": 2,
            "state": "NO MANAGER ANSWERS: how the cluster is cannot be told",
            "troubles": [{"level": 2, "what": str(error), "remedy": remedy}],
        }
    finally:
        await client.close()


async def _upload(arguments: argparse.Namespace, config: Config) -> Any:
    name = arguments.file
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        table = json.loads(text)
    except OSError as error:
        raise InvalidArgumentError(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{name}: is not JSON: {error}") from error
    if len(text) > TABLE_FILE_BYTES_MAX:
        raise InvalidArgumentError(f"{name}: larger than {TABLE_FILE_BYTES_MAX} characters")
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"{name}: expected what `craqen admin table show` prints")
    return await _ask(config, "table-upload", {"table": table})


async def _init(arguments: argparse.Namespace, config: Config) -> Any:
    replicas = arguments.replicas
    values = {
        "replicas": config.storage.replicas if replicas is None else replicas,
        "targets_per_disk": arguments.targets_per_disk,
        "dry_run": arguments.dry_run,
        "author": _author(),
    }
    return await _ask(config, "init", values)


async def _rebalance(arguments: argparse.Namespace, config: Config) -> Any:
    if arguments.status:
        arguments.show = show.show_rebalance
        return await _ask(config, "rebalance-status", {})
    if arguments.stop:
        return await _ask(config, "rebalance-stop", {})
    values = {
        "dry_run": arguments.dry_run,
        "replicas": arguments.replicas,
        "without": arguments.without,
        "author": _author(),
    }
    return await _ask(config, "rebalance", values)


async def _set_option(arguments: argparse.Namespace, config: Config) -> Any:
    values = {"name": arguments.name, "value": arguments.value, "author": _author()}
    return await _ask(config, "config-set", values)


async def _chunks(arguments: argparse.Namespace, config: Config) -> Any:
    return await query(config, arguments.what, arguments.limit)


async def _orphans(arguments: argparse.Namespace, config: Config) -> Any:
    findings = await check_store(config, Choice(), Silence(), verify_data=False)
    found = [one for one in findings.all if one.kind == "orphan"]
    return {
        "level": 2 if findings.incomplete else int(bool(found)),
        "orphans": [{"segment": one.subject, "text": one.text} for one in found],
        "incomplete": findings.incomplete,
    }


def _show_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


command = AdminCommand()
