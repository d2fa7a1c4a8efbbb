"""MACHINE: from the routing table as it is to a wanted assignment, by steps that are safe one by
one.

The routing table alone tells how far a rebalance got: the same wanted assignment and whatever table
is found give the next steps, after a restart, a failure, or a change of what is wanted.

For each chain, *missing* is a wanted disk that has no target of it, *surplus* a target on a disk
that is not wanted for it.

| the chain | step |
| --- | --- |
| has no serving target | none: it must serve again first (its last servers return) |
| a surplus target, and as many others serve as are wanted | remove it |
| a surplus target that was never made | remove it |
| a target is waiting, syncing or was just added | none: it resyncs by itself |
| a disk missing, and the chain is at most as long as wanted | add a target there |
| exactly the wanted targets, and another preferred order | set the order |

1. A surplus target goes only when as many others *serve* as replicas are wanted; so the number of
   serving targets is never lowered below what is wanted, and if it is below that, never at all.
   Last servers are safe by this: they are such only while none serves.
2. A chain is at most one target longer than wanted, offline surplus targets aside: they wait for
   their removal, and must not keep their replacement out.
3. No target is added while ``chains_at_once`` chains have one on its way, nor to a disk that
   ``targets_at_once_per_disk`` targets are on their way to. Ordinary recoveries count: they come
   first.
4. Chains with the fewest serving targets come first. A node that is stopping, or of which no target
   is up, gets none.

Steps are carried out against the table they were made from: the driver writes them, and asks again
with the table that is then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ..cluster.records import ChainRecord, NodeState, PublicState, RoutingTable, TargetRecord
from ..errors import InvalidArgumentError
from .inventory import Disk
from .tables import disk_of

CHAINS_AT_ONCE = 8
"""Resyncs under way in the whole cluster, when none is said."""

TARGETS_AT_ONCE_PER_DISK = 2
"""Resyncs that fill one disk at once: more would only share its bandwidth."""

DOWN = (PublicState.OFFLINE, PublicState.LAST_SERVER)
ON_ITS_WAY = (PublicState.WAITING, PublicState.SYNCING)


@dataclass(frozen=True, slots=True)
class AddTarget:
    """Make a target on a disk and add it to the chain, offline and at its end."""

    chain_id: int
    node_id: int
    disk: str


@dataclass(frozen=True, slots=True)
class RemoveTarget:
    """Take a target out of its chain; its data may be deleted."""

    chain_id: int
    target_id: int


@dataclass(frozen=True, slots=True)
class PreferOrder:
    """Set the chain's preferred order, head first."""

    chain_id: int
    target_ids: tuple[int, ...]


Step = AddTarget | RemoveTarget | PreferOrder


class Outcome(Enum):
    """What the driver does next."""

    ACT = "act"
    """Carry out the steps, then ask again."""
    WAIT = "wait"
    """Ask again when the table has changed."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class NextSteps:
    """The answer to one table."""

    outcome: Outcome
    steps: tuple[Step, ...]
    copies_left: int
    """Targets that do not serve yet where they are wanted."""
    removals_left: int
    """Targets that are still where they are not wanted."""
    on_their_way: int
    """Chains with a target that is waiting, syncing or was just added."""
    stuck: tuple[str, ...]
    """For people: what somebody must mend before the rest can go on."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """One chain beside what is wanted of it."""

    record: ChainRecord
    wanted: Sequence[Disk]
    disks: dict[int, Disk]
    """Of its targets."""
    new: frozenset[int]
    """Targets whose folder was not made yet."""

    @property
    def serving(self) -> int:
        return sum(member.state is PublicState.SERVING for member in self.record.targets)

    @property
    def missing(self) -> list[Disk]:
        here = set(self.disks.values())
        return [disk for disk in self.wanted if disk not in here]

    @property
    def surplus(self) -> list[tuple[int, PublicState]]:
        """Targets to remove: those on other disks, and doubles on a wanted one."""
        kept: set[Disk] = set()
        found = []
        for member in self.record.targets:  # serving ones come first
            disk = self.disks[member.target_id]
            if disk in self.wanted and disk not in kept:
                kept.add(disk)
            else:
                found.append((member.target_id, member.state))
        return found

    def arriving(self) -> Iterator[Disk]:
        """Disks that a target of the chain is on its way to."""
        for member in self.record.targets:
            just_added = member.state is PublicState.OFFLINE and member.target_id in self.new
            if member.state in ON_ITS_WAY or just_added:
                yield self.disks[member.target_id]


def next_steps(
    table: RoutingTable,
    wanted: Mapping[int, Sequence[Disk]],
    *,
    chains_at_once: int = CHAINS_AT_ONCE,
    targets_at_once_per_disk: int = TARGETS_AT_ONCE_PER_DISK,
) -> NextSteps:
    """What is safe to do now for every chain in *wanted* (head first); others are left alone.

    Raises InvalidArgumentError if *wanted* names an unknown chain or disk, a draining node, a disk
    twice for a chain, or none.
    """
    _check(table, wanted)
    targets = {target.target_id: target for target in table.targets}
    chains = [
        _beside(record, wanted[record.chain_id], targets)
        for record in table.chains
        if record.chain_id in wanted
    ]
    arriving: dict[Disk, int] = {}
    busy = 0
    for record in table.chains:
        coming = list(_beside(record, (), targets).arriving())
        busy += bool(coming)
        for disk in coming:
            arriving[disk] = arriving.get(disk, 0) + 1
    down = _nodes_down(table, targets)
    steps: list[Step] = []
    stuck: list[str] = []
    on_their_way = busy
    for chain in sorted(chains, key=lambda chain: (chain.serving, chain.record.chain_id)):
        chain_id = chain.record.chain_id
        removal = _removal(chain)
        if not chain.serving:
            stuck.append(f"chain {chain_id} has no serving target")
        elif removal is not None:
            steps.append(RemoveTarget(chain_id, removal))
        elif any(chain.arriving()):
            continue
        elif chain.missing:
            goal = next((disk for disk in chain.missing if disk.node_id not in down), None)
            if goal is None:
                names = ", ".join(map(str, sorted({one.node_id for one in chain.missing})))
                stuck.append(f"chain {chain_id} waits for node {names}, which is down or stopping")
            elif not _has_length_left(chain):
                stuck.append(f"chain {chain_id} waits for a target of it that is down")
            elif busy < chains_at_once and arriving.get(goal, 0) < targets_at_once_per_disk:
                steps.append(AddTarget(chain_id, goal.node_id, goal.folder))
                busy += 1
                arriving[goal] = arriving.get(goal, 0) + 1
        elif chain.surplus or chain.serving < len(chain.wanted):
            stuck.append(f"chain {chain_id} waits for a target of it that is down")
        else:
            order = _order(chain)
            if order != chain.record.preferred:
                steps.append(PreferOrder(chain_id, order))
    copies = sum(_copies_left(chain) for chain in chains)
    removals = sum(len(chain.surplus) for chain in chains)
    if steps:
        outcome = Outcome.ACT
    elif copies or removals:
        outcome = Outcome.WAIT
    else:
        outcome = Outcome.DONE
    return NextSteps(outcome, tuple(steps), copies, removals, on_their_way, tuple(stuck))


def _beside(
    record: ChainRecord, wanted: Sequence[Disk], targets: Mapping[int, TargetRecord]
) -> _Chain:
    ids = [member.target_id for member in record.targets]
    return _Chain(
        record,
        wanted,
        {one: disk_of(targets[one]) for one in ids},
        frozenset(one for one in ids if not targets[one].made),
    )


def _check(table: RoutingTable, wanted: Mapping[int, Sequence[Disk]]) -> None:
    unknown = set(wanted) - {chain.chain_id for chain in table.chains}
    if unknown:
        raise InvalidArgumentError(
            f"chain {min(unknown)} is not in the routing table: plan again from the present one"
        )
    known = {Disk(node.node_id, folder) for node in table.nodes for folder in node.disks}
    leaving = {node.node_id for node in table.nodes if node.state is NodeState.DRAINING}
    for chain_id, disks in wanted.items():
        if not disks or len(set(disks)) < len(disks):
            raise InvalidArgumentError(f"chain {chain_id}: name each of its disks once")
        for disk in disks:
            if disk not in known:
                raise InvalidArgumentError(
                    f"chain {chain_id}: node {disk.node_id} has no disk {disk.folder}"
                )
            if disk.node_id in leaving:
                raise InvalidArgumentError(
                    f"chain {chain_id}: node {disk.node_id} is draining: plan again without it"
                )


def _nodes_down(table: RoutingTable, targets: Mapping[int, TargetRecord]) -> set[int]:
    """Nodes that are stopping, or have made targets in chains, of which none is up."""
    up: set[int] = set()
    seen: set[int] = set()
    for chain in table.chains:
        for member in chain.targets:
            target = targets[member.target_id]
            if target.made or member.state not in DOWN:
                seen.add(target.node_id)
            if member.state not in DOWN:
                up.add(target.node_id)
    stopping = {node.node_id for node in table.nodes if node.state is NodeState.STOPPING}
    return (seen - up) | stopping


def _removal(chain: _Chain) -> int | None:
    """The surplus target to remove now: the one that helps least."""
    for target_id, state in reversed(chain.surplus):
        if state is PublicState.OFFLINE and target_id in chain.new:
            return target_id
        others = chain.serving - (state is PublicState.SERVING)
        if others >= len(chain.wanted):
            return target_id
    return None


def _has_length_left(chain: _Chain) -> bool:
    lost = sum(state is PublicState.OFFLINE for _, state in chain.surplus)
    return len(chain.record.targets) - lost <= len(chain.wanted)


def _copies_left(chain: _Chain) -> int:
    serving = {
        chain.disks[member.target_id]
        for member in chain.record.targets
        if member.state is PublicState.SERVING
    }
    return sum(disk not in serving for disk in chain.wanted)


def _order(chain: _Chain) -> tuple[int, ...]:
    """The chain's targets in the wanted order of their disks."""
    by_disk = {disk: target_id for target_id, disk in chain.disks.items()}
    return tuple(by_disk[disk] for disk in chain.wanted)
