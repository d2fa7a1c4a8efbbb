"""``craqen bench NAME …``: programs with a fixed work list, each figure beside a reference in the
same run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from ..errors import CallerError
from ..options import Config
from .entry_points import BENCHES, load, load_module, names

Program = Callable[[Sequence[str]], int]

# Benchmarks of the core; the doors register theirs as entry points ``craqen.benches``.
_OWN = {
    "kv": "..bench.kv",
    "chain": "..bench.chain",
    "chunk": "..bench.chunk",
    "rpc": "..bench.rpc",
    "placement": "..bench.placement",
    "lifecycle": "..bench.lifecycle",
    "manager": "..bench.manager",
}


class BenchCommand:
    """Run one benchmark, or all of them."""

    name = "bench"
    help = "measure, each figure beside a reference in the same run"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("program", choices=["all", *_names()])
        parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the program")

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        if arguments.program != "all":
            return _program(arguments.program)(arguments.rest)
        return max(_program(name)(arguments.rest) for name in _names())


def _names() -> list[str]:
    return sorted([*_OWN, *names(BENCHES)])


def _program(name: str) -> Program:
    if name in _OWN:
        own: Program = load_module(_OWN[name], __package__, f"bench {name}").main
        return own
    program: Program | None = load(BENCHES, name)
    if program is None:
        raise CallerError(f"bench {name}: no such benchmark")
    return program


command = BenchCommand()
