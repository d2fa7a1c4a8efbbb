"""``python -m craqen.tests.fuzz``: every target in turn, or one, for a time; each with its bounds
on time and memory. Coverage leads the way where atheris is installed (``pip install
'craqen[fuzz]'``), chance alone elsewhere. Inputs that fail are kept below ``build/fuzz``."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .engine import CORPUS, corpus_of, play
from .target import Target
from .targets import TARGETS, target_named

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
MEMORY_MEGABYTES_MAX = 1536
ROUND_SECONDS = 120.0  # of a target, before it is the next one's turn
KEPT_MAX = 40  # inputs in the repository, for each target
KEPT_BYTES_MAX = 2048
_NOISE = ("INFO: ", "WARNING: ")  # libFuzzer's, about itself
_RUNS = re.compile(r"number_of_executed_units:\s*(\d+)")


class Round(NamedTuple):
    executions: int
    failure: str
    """What happened, for people; empty: nothing."""


def guided_round(target: Target, seconds: float, seed: int) -> Round:
    """A round with coverage, in a process of its own."""
    folder = FOLDER / target.name
    grown = folder / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    for data in corpus_of(target):
        (grown / hashlib.sha1(data).hexdigest()).write_bytes(data)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    command = [
        sys.executable,
        "-m",
        "craqen.tests.fuzz.guided",
        target.name,
        f"-max_total_time={max(1, round(seconds))}",
        f"-timeout={round(target.seconds_max)}",
        f"-rss_limit_mb={MEMORY_MEGABYTES_MAX}",
        f"-max_len={target.input_bytes_max}",
        *([f"-dict={words}"] if target.words else []),
        f"-artifact_prefix={folder}/",
        f"-seed={seed}",
        "-print_final_stats=1",
        "-verbosity=0",
        str(grown),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _RUNS.search(done.stderr)
    executions = int(found[1]) if found else 0
    if done.returncode == 0:
        return Round(executions, "")
    told = [line for line in done.stderr.splitlines() if not line.startswith(_NOISE)]
    return Round(executions, "\n".join([done.stdout, *told])[-6000:])


def plain_round(target: Target, seconds: float, seed: int) -> Round:
    """A round without coverage."""
    executions, failure = play(target, seconds, seed)
    if failure is None:
        return Round(executions, "")
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"crash-{hashlib.sha1(failure.data).hexdigest()}"
    path.write_bytes(failure.data)
    lines = traceback.format_exception(failure.error)
    return Round(executions, "".join(lines) + f"the input is in {path}\n")


def keep(target: Target) -> None:
    """Copy into the repository some of the inputs that led to new code, of all sizes."""
    grown = FOLDER / target.name / "corpus"
    found = sorted(grown.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    usable = [path for path in found if path.stat().st_size <= KEPT_BYTES_MAX]
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for path in usable[:: max(1, -(-len(usable) // KEPT_MAX))]:
        data = path.read_bytes()
        if data not in target.seeds:
            (folder / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


def _escaped(word: bytes) -> str:
    return "".join(
        chr(one) if 32 <= one < 127 and one not in b'"\\' else f"\\x{one:02x}" for one in word
    )


def _rounds(chosen: Sequence[Target], seconds: float) -> int:
    """Play *seconds* of each target, a round at a time; the number of failures."""
    guided = importlib.util.find_spec("atheris") is not None
    print("coverage-guided" if guided else "random inputs: atheris is not installed")
    left = {target.name: seconds for target in chosen}
    failures = 0
    seed = int(time.time())
    while any(left.values()):
        for target in chosen:
            length = min(left[target.name], ROUND_SECONDS)
            if not length:
                continue
            left[target.name] -= length
            seed += 1
            began = time.monotonic()
            run = guided_round if guided else plain_round
            executions, failure = run(target, length, seed)
            took = time.monotonic() - began
            print(f"{target.name:18} {executions:10,} inputs in {took:5.0f} s", flush=True)
            if failure:
                failures += 1
                left[target.name] = 0
                print(failure, flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    print(f"CPU: {sum(one.ru_utime + one.ru_stime for one in used):.0f} s")
    return failures


def main(arguments: Sequence[str]) -> int:
    """Fuzz; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--target", default="", choices=["", *(one.name for one in TARGETS)])
    parser.add_argument("--keep", action="store_true", help="renew the kept corpus")
    options = parser.parse_args(arguments)
    chosen = [target_named(options.target)] if options.target else list(TARGETS)
    if options.keep:
        for target in chosen:
            keep(target)
        return 0
    return 1 if _rounds(chosen, options.seconds) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
