"""``python -m craqen.tests.sim``: play many seeds, or one with its trace; check the mutations."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

from .run import Outcome, run_seed
from .scenarios import SCENARIOS, scenario_of

BLOCK_SEEDS = 25
FAILURES_SHOWN_MAX = 5


def play(seeds: Sequence[int], scenario: str) -> list[Outcome]:
    """Run seeds, one after the other."""
    return [
        run_seed(seed, SCENARIOS[scenario] if scenario else scenario_of(seed)) for seed in seeds
    ]


def replay(seed: int, scenario: str) -> Outcome:
    """Run one seed again, and tell what happened."""
    chosen = SCENARIOS[scenario] if scenario else scenario_of(seed)
    outcome = run_seed(seed, chosen, tracing=True)
    for line in outcome.trace:
        print(line)
    return outcome


def command_of(outcome: Outcome) -> str:
    """How to see a run again."""
    return f"make sim SEED={outcome.seed} SCENARIO={outcome.scenario}"


def main(arguments: Sequence[str]) -> int:
    """Play; 0 if all promises were kept."""
    parser = argparse.ArgumentParser(prog="sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=-1, help="play this one, with its trace")
    parser.add_argument("--scenario", default="", choices=["", *SCENARIOS])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.seed >= 0:
        outcome = replay(options.seed, options.scenario)
        print(outcome.error or "all promises were kept")
        return 1 if outcome.error else 0
    began = time.monotonic()
    blocks = [
        range(start, min(start + BLOCK_SEEDS, options.first + options.seeds))
        for start in range(options.first, options.first + options.seeds, BLOCK_SEEDS)
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = pool.map(play, blocks, [options.scenario] * len(blocks))
        return _tell((outcome for block in results for outcome in block), began)


def _tell(outcomes: Iterable[Outcome], began: float) -> int:
    failures: list[Outcome] = []
    seeds = events = actions = answered = too_hard = 0
    for outcome in outcomes:
        seeds += 1
        events += outcome.events
        actions += outcome.actions
        answered += outcome.answered
        too_hard += outcome.too_hard
        if outcome.error:
            failures.append(outcome)
            if len(failures) <= FAILURES_SHOWN_MAX:
                print(f"{command_of(outcome)}\n{outcome.error}\n", flush=True)
    print(
        f"{seeds} seeds in {time.monotonic() - began:.0f} s: {events} events, {actions} "
        f"operations, {answered} of them answered, {too_hard} histories too hard to check; "
        f"{len(failures)} failures"
    )
    for outcome in failures[FAILURES_SHOWN_MAX:]:
        print(command_of(outcome))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
