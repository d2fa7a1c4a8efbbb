"""The command ``craqen``: finds the command, loads the configuration, maps errors to exit codes.

Exit codes: 0 done, 1 the request cannot be carried out, 2 wrong usage or configuration, 3 try again
later, 4 data is missing or damaged, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ..config import load_config
from ..errors import (
    ConfigError,
    CraqenError,
    DataLossError,
    MissingDependencyError,
    RetryableError,
)
from ..log import set_up_logging
from .command import Command
from .entry_points import COMMANDS, load, load_module, names
from .supervision import die_with_parent

# Own commands by module, so that starting one does not import the others.
_OWN_COMMANDS = {
    "up": "up_command",
    "manager": "manager_command",
    "storage": "storage_command",
    "keeper": "keeper_command",
    "config": "config_command",
    "bench": "bench_command",
    "fsck": "fsck_command",
    "admin": "admin_command",
}
_OWN_HELP = {
    "up": "start a whole store on this host",
    "manager": "run the cluster manager (started by up)",
    "storage": "run one storage process (started by up)",
    "keeper": "run one keeper: work in the background (started by up)",
    "config": "check or show the configuration",
    "admin": "look after the cluster: status, nodes, targets, chains, rebalance, options",
    "fsck": "check metadata against chunks both ways, and repair what is safe",
    "bench": "measure, each figure beside a reference in the same run",
}

_DOOR_HELP = {
    "mount": "mount the store as a file system",
    "ls": "list folders of the store",
    "stat": "what is known of files of the store",
    "du": "how much is in folders of the store",
    "find": "files of the store by name, size, age",
    "rm": "remove files of the store",
    "mv": "rename within the store",
    "cp": "copy to, from and within the store",
}
"""Of commands that are registered elsewhere: loading each to ask would cost their imports."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: the process's); return the exit code.

    Raises SystemExit for ``--help``, ``--version`` (0) and for wrong usage (2).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in words if not word.startswith("-")), None)
    try:
        die_with_parent(os.environ)
        command = _find_command(name)
        parser = _parser(command)
        parsed = parser.parse_args(words)
        if command is None:
            parser.print_help()
            return 2
        config = load_config(parsed.config, os.environ)
        set_up_logging(config.log)
        return command.run(parsed, config)
    except CraqenError as error:
        print(f"craqen: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read our output has seen enough. Nothing may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _exit_code(error: CraqenError) -> int:
    if isinstance(error, ConfigError | MissingDependencyError):
        return 2
    if isinstance(error, RetryableError):
        return 3
    if isinstance(error, DataLossError):
        return 4
    return 1


def _find_command(name: str | None) -> Command | None:
    if name is None:
        return None
    command: Command | None
    if name in _OWN_COMMANDS:
        command = load_module(f".{_OWN_COMMANDS[name]}", __package__, name).command
    else:
        command = load(COMMANDS, name)
    return command


def _parser(command: Command | None) -> argparse.ArgumentParser:
    """A parser for all commands' names, and in full for *command*."""
    parser = argparse.ArgumentParser(
        prog="craqen", description="One store, two doors: S3 objects and files."
    )
    parser.add_argument("--version", action="version", version=f"craqen {version('craqen')}")
    commands = parser.add_subparsers(metavar="COMMAND")
    helps = dict(_OWN_HELP)
    for name in names(COMMANDS):
        helps.setdefault(name, _DOOR_HELP.get(name, f"the {name} process"))
    for name, text in helps.items():
        chosen = command is not None and command.name == name
        sub = commands.add_parser(name, help=command.help if chosen and command else text)
        sub.add_argument("--config", metavar="FILE", default=None, help="configuration file (YAML)")
        if chosen and command is not None:
            command.add_arguments(sub)
    parser.set_defaults(config=None)
    return parser
