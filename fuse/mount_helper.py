"""``mount.craqen``: what mount(8) runs for lines of /etc/fstab of type ``craqen``.

    /etc/craqen/mount.yaml  /data  craqen  path=bucket/folder,ro,_netdev,nofail  0  0

The source is the configuration file (``none`` or ``craqen``: the default one). Options of mount(8)
that are not about this file system are taken and left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ..core.errors import ConfigError

_NO_SOURCE: Final = ("none", "craqen")
_IGNORED: Final = frozenset(
    "rw defaults auto noauto user nouser users owner group _netdev nofail dev nodev suid nosuid "
    "exec noexec async sync dirsync atime noatime relatime strictatime diratime nodiratime "
    "lazytime silent loud".split()
)
_IGNORED_PREFIXES: Final = ("x-", "comment=", "uhelper=", "helper=")
_SETTINGS: Final = ("cache_seconds", "dirty_mebibytes")


class Command(NamedTuple):
    """What is to be run."""

    words: list[str]
    """Of ``craqen``."""
    environment: dict[str, str]


def command_of(source: str, target: str, options: Sequence[str]) -> Command:
    """The mount that a line asks for. Raises ConfigError for an option that nobody knows."""
    words, environment = ["mount", target, "--background"], {}
    if source not in _NO_SOURCE:
        words += ["--config", source]
    for option in options:
        name, _, value = option.partition("=")
        if name == "ro":
            words.append("--read-only")
        elif name in ("path", "log") and value:
            words += [f"--{name}", value]
        elif name in ("allow_other", "noallow_other"):
            environment["CRAQEN_MOUNT_ALLOW_OTHER"] = str(name == "allow_other").lower()
        elif name in _SETTINGS and value:
            environment[f"CRAQEN_MOUNT_{name.upper()}"] = value
        elif option and name not in _IGNORED and not option.startswith(_IGNORED_PREFIXES):
            raise ConfigError(
                f"mount option {option}: unknown; there are path=BUCKET[/FOLDER], ro, "
                f"[no]allow_other, log=FILE, {', '.join(f'{one}=N' for one in _SETTINGS)}"
            )
    return Command(words, environment)


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> int:
    """Mount as mount(8) asks; return craqen's exit code."""
    parser = argparse.ArgumentParser(prog="mount.craqen", description="for mount(8)")
    parser.add_argument("source", help="configuration file, or none")
    parser.add_argument("target")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPTIONS")
    for flag in "sfnv":
        parser.add_argument(f"-{flag}", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-N", "-t", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        command = command_of(
            given.source, given.target, [one for each in given.options for one in each.split(",")]
        )
    except ConfigError as error:
        print(f"mount.craqen: {error}", file=sys.stderr)
        return 1
    if given.f:
        return 0  # a trial: mount(8) --fake
    os.execve(
        sys.executable,
        [sys.executable, "-m", "craqen.core.cli", *command.words],
        {**environment, **command.environment},
    )


if __name__ == "__main__":
    raise SystemExit(main())
