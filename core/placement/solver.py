"""Pure: chain tables for a set of disks.

Where all domains have equally many disks, and the targets fill whole chains, base blocks of a
design are searched first (designs.py). What they do not reach, and every other shape, is arranged
by exchanges from a start that keeps the rules (spread.py). Both have a budget of evaluations and
draw from a seed, so the same question has the same answer on every host; about 100,000
evaluations take a second.

No chain has two targets in one failure domain, nor on one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .balance import Balance, balance
from .designs import even_squares, find_design
from .draws import Draws
from .inventory import Disk, Inventory, chain_count, check_replicas, quotas
from .order import balanced_order
from .spread import DOMAIN_WEIGHT, Spread, fits, improve

EVALUATIONS = 600_000
"""Enough for an even table of some thousand disks, in a few seconds."""

EVALUATIONS_PER_TARGET = 400
EVALUATIONS_LEAST = 60_000
"""A small table is as good as it gets with fewer: not more than these, whichever is larger."""

DESIGN_SHARE = 0.4
"""Of the evaluations, those spent on base blocks."""

MIXING_ROUNDS = 3
"""Random exchanges per place before an arrangement is improved, so that it starts from no order."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Chains, and how well they came out."""

    chains: tuple[tuple[Disk, ...], ...]
    """Disks of each chain, head first."""
    balance: Balance
    method: str
    """``design``, ``design improved`` or ``exchanges``."""
    evaluations: int

    @property
    def exact(self) -> bool:
        """Whether a lost disk's load spreads over the others with no pair of disks meeting more
        often than any other, as far as whole chains allow (a balanced incomplete block design, if
        there are enough targets to reach all)."""
        return self.balance.disk_loss.even


def solve(
    shape: Inventory,
    targets_per_disk: int,
    replicas: int,
    *,
    seed: int = 1,
    evaluations: int = EVALUATIONS,
) -> Solution:
    """Chains of *replicas* targets, at most *targets_per_disk* on every disk, evenly spread.

    Raises ConfigError if the shape has too few failure domains, or a number is out of its range.
    """
    count = chain_count(shape, targets_per_disk, replicas)
    evaluations = min(
        evaluations, max(EVALUATIONS_LEAST, EVALUATIONS_PER_TARGET * count * replicas)
    )
    draws = Draws(seed)
    best: Spread | None = None
    method, used, left = "exchanges", 0, evaluations
    if count * replicas == len(shape.disks) * targets_per_disk:
        best, used = _designed(
            shape, targets_per_disk, replicas, seed, int(evaluations * DESIGN_SHARE)
        )
        left -= used
    loads = _loads(shape, best.chains) if best else _quotas(shape, count, replicas, draws)
    least_disks, least = _least_costs(shape, loads, replicas)
    if best is None:
        best = Spread(shape.domains, _first_chains(shape, loads, count, replicas, draws))
        used += improve(best, draws, left, least_cost=least)
    else:
        method = "design"
        if best.disk_cost() > least_disks:
            other = Spread(shape.domains, _first_chains(shape, loads, count, replicas, draws))
            used += improve(other, draws, left // 2, least_cost=least)
            before = best.cost()
            used += improve(best, draws, left // 2, least_cost=least)
            method = "design improved" if best.cost() < before else "design"
            if other.cost() < best.cost():
                best, method = other, "exchanges"
    chains = _ordered(shape, best.chains)
    return Solution(chains, balance(shape, chains), method, used)


def unarranged(
    shape: Inventory, targets_per_disk: int, replicas: int, *, seed: int = 1
) -> tuple[tuple[Disk, ...], ...]:
    """Random chains that keep the rules, have equally many targets on every disk, and are otherwise
    left as drawn: what arranging them is compared with. Raises ConfigError as ``solve`` does."""
    count = chain_count(shape, targets_per_disk, replicas)
    draws = Draws(seed)
    loads = _quotas(shape, count, replicas, draws)
    return _ordered(shape, _first_chains(shape, loads, count, replicas, draws))


def _ordered(shape: Inventory, chains: Sequence[Sequence[int]]) -> tuple[tuple[Disk, ...], ...]:
    ordered = balanced_order(chains, len(shape.disks))
    return tuple(tuple(shape.disks[disk] for disk in chain) for chain in ordered)


def sensible_targets_per_disk(shape: Inventory, replicas: int, *, about: int = 6) -> int:
    """The number of targets near *about* (two thirds to twice as many) that spreads best.

    First come numbers with which a lost disk's load reaches all eligible disks, if there are any;
    then those whose parts divide evenly over them, then those that fill whole chains with equally
    many heads on every disk, then the nearest one. Raises ConfigError for a shape that holds no
    chain.
    """
    check_replicas(shape, replicas)
    eligible = len(shape.disks) - max(shape.sizes())

    def rank(targets: int) -> tuple[bool, float, bool, bool, int]:
        parts = targets * (replicas - 1)
        uneven = -(-parts // eligible) * eligible / parts if parts > eligible else 1.0
        whole = chain_count(shape, targets, replicas) * replicas == targets * len(shape.disks)
        apart = abs(targets - about)
        return (parts < eligible, uneven, not whole, targets % replicas > 0, apart)

    if replicas == 1:
        return about
    return min(range(max(1, about * 2 // 3), 2 * about + 1), key=rank)


def _designed(
    shape: Inventory, targets: int, replicas: int, seed: int, evaluations: int
) -> tuple[Spread | None, int]:
    sizes = shape.sizes()
    if len(set(sizes)) > 1:
        return None, 0
    found = find_design(len(sizes), sizes[0], targets, replicas, seed, evaluations)
    if found is None:
        return None, 0
    by_domain: list[list[int]] = [[] for _ in sizes]
    for disk, domain in enumerate(shape.domains):
        by_domain[domain].append(disk)
    chains, used = found
    return Spread(
        shape.domains, [[by_domain[domain][column] for column, domain in chain] for chain in chains]
    ), used


def _loads(shape: Inventory, chains: Sequence[Sequence[int]]) -> list[int]:
    loads = [0] * len(shape.disks)
    for chain in chains:
        for disk in chain:
            loads[disk] += 1
    return loads


def _quotas(shape: Inventory, count: int, replicas: int, draws: Draws) -> list[int]:
    order = list(range(len(shape.disks)))
    draws.shuffle(order)
    return quotas(shape, count, replicas, order, [0] * len(order))


def _first_chains(
    shape: Inventory, loads: Sequence[int], count: int, replicas: int, draws: Draws
) -> list[list[int]]:
    """Chains that keep the rules, in no particular order: each domain's targets go to chains one
    after the other, and a domain has at most one per chain, so it comes to no chain twice."""
    by_domain: list[list[int]] = [[] for _ in shape.names]
    for disk, domain in enumerate(shape.domains):
        by_domain[domain] += [disk] * loads[disk]
    draws.shuffle(by_domain)
    for places in by_domain:
        draws.shuffle(places)
    chains: list[list[int]] = [[] for _ in range(count)]
    for turn, disk in enumerate(disk for places in by_domain for disk in places):
        chains[turn % count].append(disk)
    for _ in range(MIXING_ROUNDS * count * replicas):
        one, other = draws.below(count), draws.below(count)
        place, other_place = draws.below(replicas), draws.below(replicas)
        disk, other_disk = chains[one][place], chains[other][other_place]
        if (
            one != other
            and fits(shape.domains, chains[one], place, other_disk)
            and fits(shape.domains, chains[other], other_place, disk)
        ):
            chains[one][place], chains[other][other_place] = other_disk, disk
    return chains


def _least_costs(shape: Inventory, loads: Sequence[int], replicas: int) -> tuple[int, float]:
    """What no arrangement can go below: the disks' part of the cost, and the whole of it."""
    sizes = shape.sizes()
    disks = len(shape.disks)
    twice = sum(
        even_squares(load * (replicas - 1), disks - sizes[domain])
        for load, domain in zip(loads, shape.domains, strict=True)
        if load and disks > sizes[domain]
    )
    whole = twice / 2
    if len(set(sizes)) == 1 and len(sizes) > 1:
        totals = [0] * len(sizes)
        for load, domain in zip(loads, shape.domains, strict=True):
            totals[domain] += load * (replicas - 1)
        whole += DOMAIN_WEIGHT * sum(even_squares(total, len(sizes) - 1) for total in totals) / 2
    return -(-twice // 2), whole
