"""Pure: the disks that chains may be placed on, their failure domains, and how many targets each
disk gets.

A failure domain is what fails together. A node whose record names none is one by itself, so that
two targets of a chain are never on one node in any case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..cluster.records import NodeRecord, NodeState
from ..errors import ConfigError

REPLICAS_MAX = 16
"""Longer chains cost more than they protect."""

TARGETS_PER_DISK_MAX = 4096
"""Every target is a folder, an index and a resync of its own."""

DISKS_MAX = 100_000
"""What the pure tables are measured for, with room."""


class Disk(NamedTuple):
    """One disk of one node: the folder that holds its targets' folders."""

    node_id: int
    folder: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Disks in a fixed order, and the failure domain of each."""

    disks: tuple[Disk, ...]
    domains: tuple[int, ...]
    """Number of the domain of each disk, from 0."""
    names: tuple[str, ...]
    """Of the domains, for people."""

    def sizes(self) -> list[int]:
        """How many disks each domain has."""
        sizes = [0] * len(self.names)
        for domain in self.domains:
            sizes[domain] += 1
        return sizes


def inventory(nodes: Iterable[NodeRecord], *, without: Collection[Disk] = ()) -> Inventory:
    """All disks of *nodes* that may hold targets: those of draining nodes and *without* left out.

    A node that is stopping keeps its place: it comes back. Raises ConfigError if a node or a disk
    is named twice, or there are too many.
    """
    disks: list[Disk] = []
    domains: list[int] = []
    numbers: dict[tuple[bool, str], int] = {}
    seen: set[int] = set()
    for node in sorted(nodes, key=lambda node: node.node_id):
        if node.node_id in seen:
            raise ConfigError(f"node {node.node_id} is named twice: give every node its own id")
        seen.add(node.node_id)
        if len(set(node.disks)) < len(node.disks):
            raise ConfigError(f"node {node.node_id} names a disk twice: {', '.join(node.disks)}")
        if node.state is NodeState.DRAINING:
            continue
        named = bool(node.domain)
        key = (named, node.domain if named else f"node {node.node_id}")
        for folder in node.disks:
            disk = Disk(node.node_id, folder)
            if disk not in without:
                disks.append(disk)
                domains.append(numbers.setdefault(key, len(numbers)))
    if len(disks) > DISKS_MAX:
        raise ConfigError(f"{len(disks)} disks: this release places at most {DISKS_MAX}")
    return Inventory(tuple(disks), tuple(domains), tuple(name for _, name in numbers))


def check_replicas(shape: Inventory, replicas: int) -> None:
    """Raises ConfigError unless chains of *replicas* targets fit into the domains."""
    if not 1 <= replicas <= REPLICAS_MAX:
        raise ConfigError(f"replicas {replicas}: choose from 1 to {REPLICAS_MAX}")
    if not shape.disks:
        raise ConfigError("no disk may hold targets: add a node with disks, or end a drain")
    if len(shape.names) < replicas:
        listed = ", ".join(shape.names)
        raise ConfigError(
            f"replicas {replicas}: a chain needs {replicas} failure domains, but only "
            f"{len(shape.names)} have disks ({listed}); add nodes in other domains, or set fewer "
            f"replicas"
        )


def chain_count(shape: Inventory, targets_per_disk: int, replicas: int) -> int:
    """How many chains there can be, with at most *targets_per_disk* targets on every disk.

    All disks are full with that many, but for a rest below *replicas*, or where a domain is so
    large that the others cannot give its targets partners. Raises ConfigError for a shape that
    holds no chain.
    """
    check_replicas(shape, replicas)
    if not 1 <= targets_per_disk <= TARGETS_PER_DISK_MAX:
        raise ConfigError(
            f"targets per disk {targets_per_disk}: choose from 1 to {TARGETS_PER_DISK_MAX}"
        )
    rooms = [size * targets_per_disk for size in shape.sizes()]
    least, most = 1, sum(rooms) // replicas
    while least < most:
        middle = (least + most + 1) // 2
        if sum(min(room, middle) for room in rooms) >= middle * replicas:
            least = middle
        else:
            most = middle - 1
    return least


def quotas(
    shape: Inventory, chains: int, replicas: int, order: Sequence[int], present: Sequence[int]
) -> list[int]:
    """Targets that each disk gets when *chains* are spread as evenly as domains allow.

    No domain gets more than one target of every chain. Where some disks get one target more than
    others, those come first that hold more than the smaller number at *present*, and then by
    *order* (all disks, in any order).
    """
    sizes = shape.sizes()
    full: set[int] = set()
    while True:  # domains too large for an even share get all that the rules allow
        slots = chains * (replicas - len(full))
        width = sum(size for domain, size in enumerate(sizes) if domain not in full)
        more = [
            domain
            for domain, size in enumerate(sizes)
            if domain not in full and size * slots > chains * width
        ]
        if not more:
            break
        full.update(more)
    result = [0] * len(shape.disks)
    room = [chains] * len(sizes)
    for disk, domain in enumerate(shape.domains):
        result[disk] = chains // sizes[domain] if domain in full else slots // width
        room[domain] -= result[disk]
    rest = slots % width
    for disk in sorted(order, key=lambda disk: present[disk] <= result[disk]):
        domain = shape.domains[disk]
        if room[domain] and (domain in full or rest):
            result[disk] += 1
            room[domain] -= 1
            rest -= domain not in full
    assert sum(result) == chains * replicas, "the domains hold all chains"
    return result
