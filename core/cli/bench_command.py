"""``craqen bench NAME …``: programs with a fixed work list, each figure beside a reference in the
same run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points

from ..errors import CallerError
from ..options import Config

Program = Callable[[Sequence[str]], int]

# Benchmarks of the core; the doors register theirs as entry points ``craqen.benches``.
_OWN = {"kv": "..bench.kv", "chunk": "..bench.chunk", "rpc": "..bench.rpc"}


class BenchCommand:
    """Run one benchmark, or all of them."""

    name = "bench"
    help = "measure, each figure beside a reference in the same run"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        names = sorted([*_OWN, *(entry.name for entry in entry_points(group="craqen.benches"))])
        parser.add_argument("program", choices=["all", *names])
        parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the program")

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        if arguments.program != "all":
            return _program(arguments.program)(arguments.rest)
        entries = [entry.name for entry in entry_points(group="craqen.benches")]
        codes = [_program(name)([]) for name in sorted([*_OWN, *entries])]
        return max(codes)


def _program(name: str) -> Program:
    if name in _OWN:
        module = import_module(_OWN[name], __package__)
        program: Program = module.main
        return program
    for entry in entry_points(group="craqen.benches"):
        if entry.name == name:
            loaded: Program = entry.load()
            return loaded
    raise CallerError(f"bench {name}: no such benchmark")


command = BenchCommand()
