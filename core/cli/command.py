"""PORT: a command of ``craqen``. gateway/ and fuse/ register theirs as entry points
``craqen.commands``."""

from __future__ import annotations

import argparse
from typing import Protocol

from ..options import Config


class Command(Protocol):
    """One word after ``craqen``."""

    name: str
    help: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""
        ...

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        """Do it; return the exit code. A CraqenError raised is printed and mapped by
        core/cli/main.py."""
        ...
