"""``craqen config check|show``: is the configuration right, and what is in force?"""

from __future__ import annotations

import argparse

from ..options import Config, documented_yaml


class ConfigCommand:
    """Check or show the configuration."""

    name = "config"
    help = "check or show the configuration"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "action",
            choices=("check", "show"),
            help="check: say whether it is right; show: print what is in force",
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        if arguments.action == "show":
            print(documented_yaml(config))
        else:
            print(f"The configuration is right. Data folder: {config.data_folder}")
        return 0


command = ConfigCommand()
