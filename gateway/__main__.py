"""``craqen gateway``: one worker of the S3 door."""

from __future__ import annotations

import argparse
import sys

import uvloop

from ..core.cli.supervision import tell_ready
from ..core.collector import exempt_loaded
from ..core.options import Config


class GatewayCommand:
    """Run one gateway worker."""

    name = "gateway"
    help = "run one gateway worker (started by up)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--worker", type=int, default=1, help="its number, for log lines")

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        from .server import run_worker

        exempt_loaded()
        return uvloop.run(run_worker(config, arguments.worker, tell_ready))


command = GatewayCommand()

if __name__ == "__main__":
    from ..core.cli.main import main

    sys.exit(main(["gateway", *sys.argv[1:]]))
