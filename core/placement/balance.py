"""Pure: how evenly chains use the disks, and where the read load of a lost disk or domain goes.

Reads of a chain are spread over its serving targets. When a disk is lost, each of its chains sends
the lost share to the chain's other targets in equal parts; so the extra load on a surviving disk is
proportional to the number of chains that it shares with the lost one. With t targets on the lost
disk and r replicas there are t * (r - 1) such parts, and they are whole: however they are placed,
they reach at most t * (r - 1) disks, and at most the eligible ones (those in other domains).

The *ideal* is therefore an even spread over ``min(eligible, t * (r - 1))`` disks, and a ratio of
1.0 means that no disk gets more than that. Since parts are whole, the least ratio that any
placement could reach is ``ceil(parts / eligible)`` against the ideal; it is given beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor

from ..errors import ConfigError
from .inventory import Disk, Inventory


@dataclass(frozen=True, slots=True)
class LossSpread:
    """Extra read load on survivors, as a ratio to the ideal, over the loss of each one in turn."""

    worst_ratio: float
    """Of the survivor that gets most, at the worst loss."""
    mean_worst_ratio: float
    """Of the survivor that gets most, in the mean over all losses."""
    mean_ratio: float
    """Of the survivors that get any: 1.0 if as many take part as can."""
    least_ratio: float
    """What no placement can go below, for parts are whole chains (1.0 among unequal domains)."""
    even: bool
    """Whether every survivor gets the same, as far as whole chains allow."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a set of chains does to the disks."""

    disks: int
    chains: int
    targets_per_disk: tuple[int, int]
    """Least and most."""
    heads_per_disk: tuple[int, int]
    most_shared: int
    """Chains that two disks have in common, at most."""
    disk_loss: LossSpread
    """Per surviving disk, when one disk is lost."""
    domain_loss: LossSpread
    """Per surviving domain (and its share of disks), when one domain is lost."""


def balance(shape: Inventory, chains: Iterable[Sequence[Disk]]) -> Balance:
    """The figures of *chains* (head first) on *shape*. Raises ConfigError for an unknown disk."""
    numbers = {disk: number for number, disk in enumerate(shape.disks)}
    numbered: list[list[int]] = []
    for chain in chains:
        for place in chain:
            if place not in numbers:
                raise ConfigError(
                    f"node {place.node_id} has no disk {place.folder} that may hold targets: it "
                    f"is draining, or not in the table"
                )
        numbered.append([numbers[place] for place in chain])
    targets = [0] * len(shape.disks)
    heads = [0] * len(shape.disks)
    by_disk: list[dict[int, int]] = [{} for _ in shape.disks]
    by_domain: list[dict[int, int]] = [{} for _ in shape.names]
    for members in numbered:
        if members:
            heads[members[0]] += 1
        for disk in members:
            targets[disk] += 1
            for other in members:
                if other != disk:
                    by_disk[disk][other] = by_disk[disk].get(other, 0) + 1
                    mine, theirs = shape.domains[disk], shape.domains[other]
                    if mine != theirs:
                        by_domain[mine][theirs] = by_domain[mine].get(theirs, 0) + 1
    sizes = shape.sizes()
    disks = len(shape.disks)
    return Balance(
        disks,
        len(numbered),
        (min(targets, default=0), max(targets, default=0)),
        (min(heads, default=0), max(heads, default=0)),
        max((count for meetings in by_disk for count in meetings.values()), default=0),
        _spread(
            by_disk,
            [disks - sizes[domain] for domain in shape.domains],
            [1] * disks,
        ),
        _spread(by_domain, [disks - size for size in sizes], sizes),
    )


def _spread(
    shared: Sequence[dict[int, int]], eligible: Sequence[int], weights: Sequence[int]
) -> LossSpread:
    """*shared*: chains that each has in common with each other; *eligible*: disks that could take
    a part; *weights*: disks that one stands for."""
    worst: list[float] = []
    means: list[float] = []
    least = 1.0
    even = True
    alike = len(set(weights)) == 1
    for meetings, disks in zip(shared, eligible, strict=True):
        parts = sum(meetings.values())
        if not parts:
            continue
        # One whole part is the least that a survivor can get, whatever its ideal share.
        ratios = [
            count / max(1.0, parts * weights[other] / disks) for other, count in meetings.items()
        ]
        worst.append(max(ratios))
        means.append(sum(ratios) / len(ratios))
        if alike:
            share = parts * weights[0] / disks
            least = max(least, ceil(share) / max(1.0, share))
        even = even and all(
            floor(parts * weights[other] / disks) <= count <= ceil(parts * weights[other] / disks)
            for other, count in meetings.items()
        )
        reached = sum(weights[other] for other in meetings)
        even = even and (reached == disks or parts * min(weights) < disks)
    if not worst:
        return LossSpread(1.0, 1.0, 1.0, 1.0, True)
    count = len(worst)
    return LossSpread(max(worst), sum(worst) / count, sum(means) / count, least, even)
