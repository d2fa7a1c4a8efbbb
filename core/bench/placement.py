"""``craqen bench placement``: chain tables for a large cluster, and what the loss of a disk does.

Pure computation: no store is needed. The reference is a random table of the same shape: the same
disks and numbers of targets, chains that keep the rules, and no arranging.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from ..cluster.records import NodeRecord
from ..placement.balance import Balance, balance
from ..placement.incremental import reassign
from ..placement.inventory import Inventory, inventory
from ..placement.solver import Solution, solve, unarranged
from .measure import Report, add_runs, cpu_seconds

NODES = 180
DISKS_PER_NODE = 16
TARGETS_PER_DISK = 6
REPLICAS = 3

RATIO_MAX = 1.2
"""Extra read load on a surviving disk against the ideal, when one disk is lost."""

SOLVE_CPU_SECONDS_MAX = 300.0

UNEQUAL_NODES = 24
"""Of a shape that has no design: nodes of 4, 5, 6 and 7 disks."""

ALL_REACHED = (15, 1)
ALL_REACHED_TARGETS = 7
"""Nodes, disks of each and targets: as many parts as there are other disks."""

T = TypeVar("T")


def main(arguments: Sequence[str]) -> int:
    """Compute the tables and print what comes out; 1 if a bound is not met."""
    parser = argparse.ArgumentParser(prog="craqen bench placement")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--disks", type=int, default=DISKS_PER_NODE, help="of each node")
    parser.add_argument("--targets", type=int, default=TARGETS_PER_DISK, help="on each disk")
    parser.add_argument("--replicas", type=int, default=REPLICAS)
    parser.add_argument("--seed", type=int, default=1)
    add_runs(parser, 1, "ignored: one seed has one result")
    options = parser.parse_args(arguments)
    report = Report("Placement (`craqen bench placement`)")
    report.notes += [
        "a lost disk's read load goes in whole parts, one per chain and other target, to the disks "
        "that share its chains; the ideal spreads targets x (replicas - 1) parts evenly over all "
        "disks of other nodes, or over as many as there are parts",
        "the reference is a random table that keeps the rules; `least` is what whole parts allow",
    ]
    shape = uniform(options.nodes, options.disks)
    solution = _table(report, shape, options.targets, options.replicas, options.seed)
    _node_moves(report, options.nodes, options.disks, options.replicas, solution)
    unequal = inventory(
        NodeRecord(number, (), "", disks=_folders(4 + number % 4))
        for number in range(1, UNEQUAL_NODES + 1)
    )
    _table(report, unequal, options.targets, options.replicas, options.seed)
    _table(report, uniform(*ALL_REACHED), ALL_REACHED_TARGETS, options.replicas, options.seed)
    print(report.text())
    return int(any(row.reached is False for row in report.rows))


def uniform(nodes: int, disks_per_node: int) -> Inventory:
    """*nodes* that are alike, each a failure domain by itself."""
    return inventory(
        NodeRecord(number, (), "", disks=_folders(disks_per_node)) for number in range(1, nodes + 1)
    )


def _folders(count: int) -> tuple[str, ...]:
    return tuple(f"/disks/{number}" for number in range(1, count + 1))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    before = cpu_seconds([os.getpid()])
    result = work()
    return result, cpu_seconds([os.getpid()]) - before


def _table(report: Report, shape: Inventory, targets: int, replicas: int, seed: int) -> Solution:
    name = f"{len(shape.names)} nodes, {len(shape.disks)} disks, {targets} targets each"
    solution, seconds = _timed(lambda: solve(shape, targets, replicas, seed=seed))
    random = balance(shape, unarranged(shape, targets, replicas, seed=seed))
    found = solution.balance
    exact = "; no placement is more even" if solution.exact else ""
    report.add(
        f"{name}: a disk is lost, most loaded survivor against the ideal",
        f"{found.disk_loss.worst_ratio:.2f} ({solution.method}{exact})",
        f"random: {random.disk_loss.worst_ratio:.2f}; least {found.disk_loss.least_ratio:.2f}",
        ratio=found.disk_loss.worst_ratio,
        at_most=RATIO_MAX,
    )
    report.add(
        "— the survivors that take part, in the mean",
        f"{found.disk_loss.mean_ratio:.2f}",
        f"random: {random.disk_loss.mean_ratio:.2f}",
    )
    parts = targets * (replicas - 1)
    report.add(
        "— that survivor's extra load, of what the lost disk served",
        f"{max_extra(found, parts):.1%}",
        f"random: {max_extra(random, parts):.1%}",
    )
    report.add(
        "— a node is lost, most loaded survivor against an even share",
        f"{found.domain_loss.worst_ratio:.2f}",
        f"random: {random.domain_loss.worst_ratio:.2f}; least {found.domain_loss.least_ratio:.2f}",
    )
    report.add("— targets and heads per disk", _uses(found), f"random: {_uses(random)}")
    report.add(
        f"— computing {found.chains:,} chains",
        f"{seconds:.1f} s CPU",
        f"{SOLVE_CPU_SECONDS_MAX:.0f} s CPU",
        ratio=seconds / SOLVE_CPU_SECONDS_MAX,
        at_most=1.0,
    )
    return solution


def max_extra(found: Balance, parts: int) -> float:
    """The largest share of a lost disk's reads that comes to one survivor, of *parts* in all."""
    return found.most_shared / parts


def _uses(found: Balance) -> str:
    (least, most), (few, many) = found.targets_per_disk, found.heads_per_disk
    return f"{least} to {most}, {few} to {many}"


def _node_moves(
    report: Report, nodes: int, disks_per_node: int, replicas: int, solution: Solution
) -> None:
    present = dict(enumerate(solution.chains, start=1))
    for words, count in (("one node added", nodes + 1), ("one node removed", nodes - 1)):
        shape = uniform(count, disks_per_node)
        moved, seconds = _timed(partial(reassign, shape, present, replicas))
        report.add(
            f"{words}: targets copied",
            f"{moved.copies} ({seconds:.1f} s CPU; a lost disk then "
            f"{moved.balance.disk_loss.worst_ratio:.2f} of the ideal)",
            f"lower bound: {moved.least_copies}",
            ratio=moved.copies / max(1, moved.least_copies),
        )
