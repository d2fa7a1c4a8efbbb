"""Pure: whether all is well with the cluster, and if not, what is wrong and what to do.

The worst trouble gives the level: DEGRADED while all data can be read and written, UNAVAILABLE if
some cannot. One cause is told once: a node that is down stands for its targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from ..cluster.records import ChainRecord, NodeRecord, NodeState, PublicState
from ..cluster.table_check import disk_of
from ..placement.rebalance import ON_ITS_WAY
from .overview import Overview, resyncs, serving, words

DISK_FREE_RATIO_LEAST = 0.10
"""Below this a disk counts as nearly full."""

SCRUB_AGE_SECONDS_MAX = 30 * 86_400
"""Damage that nobody reads is found by scrubs alone: they should come round within this."""

NAMED_MAX = 8
"""Ids that one sentence names; then it counts."""

TROUBLES_MAX = 50
"""Told on one screen; the lists of targets and chains have all."""


class Level(IntEnum):
    """How bad it is; the exit code of ``craqen admin status``."""

    WELL = 0
    DEGRADED = 1
    UNAVAILABLE = 2


def status(view: Overview) -> dict[str, object]:
    """Everything that one screen tells, as JSON."""
    troubles = sorted(_troubles(view), key=lambda one: -one[0])
    level = max((one[0] for one in troubles), default=Level.WELL)
    chains = view.table.chains
    return {
        "level": int(level),
        "state": _headline(level, len(troubles)),
        "epoch": view.epoch,
        "table_version": view.table.version,
        "cluster_id": view.table.cluster_id,
        "replicas": view.replicas,
        "nodes": {
            "all": len(view.table.nodes),
            "up": sum(view.condition(node) in ("up", "draining") for node in view.table.nodes),
            "candidates": len(view.candidates),
        },
        "refused": sum(request.refused for _, request in view.heard.values()),
        "targets": _target_counts(view),
        "chains": {
            "all": len(chains),
            "whole": sum(serving(chain) >= view.replicas for chain in chains),
            "reduced": sum(0 < serving(chain) < view.replicas for chain in chains),
            "without_server": sum(not serving(chain) for chain in chains),
        },
        "space": _space(view),
        "chunks": _chunk_counts(view),
        "resyncs": list(resyncs(view).values()),
        "rebalance": _rebalance(view),
        "troubles": [
            {"level": int(level), "what": what, "remedy": remedy}
            for level, what, remedy in troubles[:TROUBLES_MAX]
        ],
        "troubles_not_listed": max(0, len(troubles) - TROUBLES_MAX),
    }


def _headline(level: Level, troubles: int) -> str:
    if level is Level.WELL:
        return "all is well"
    told = "1 thing needs" if troubles == 1 else f"{troubles} things need"
    if level is Level.DEGRADED:
        return f"degraded: all data is available, but {told} attention"
    return f"DATA UNAVAILABLE: {told} attention"


Trouble = tuple[Level, str, str]
"""How bad, what is wrong, what to do."""


def _troubles(view: Overview) -> Iterator[Trouble]:
    if not view.table.tables:
        yield (
            Level.UNAVAILABLE,
            "the store has no chain table yet: it cannot hold data",
            "add the nodes (`craqen admin node add --all`), then `craqen admin init`",
        )
    yield from _chains_without_server(view)
    for told in view.silent_managers:
        yield (
            Level.DEGRADED,
            f"{told} (seen from where this was asked)",
            "start it; when the primary ends as well, nobody takes its place",
        )
    yield from _node_troubles(view)
    yield from _parted_nodes(view)
    yield from _target_troubles(view)
    yield from _reduced_chains(view)
    yield from _disk_troubles(view)
    yield from _data_troubles(view)
    yield from _rebalance_troubles(view)
    for one in view.candidates:
        yield (
            Level.DEGRADED,
            f"node {one.node_id} ({', '.join(one.addresses)}) is running, but not in the table",
            f"`craqen admin node add {one.node_id}`, or end its process",
        )


def _chains_without_server(view: Overview) -> Iterator[Trouble]:
    """Grouped by the nodes that any one of which brings the data back."""
    nodes = {node.node_id: node for node in view.table.nodes}
    node_of = {target.target_id: target.node_id for target in view.table.targets}
    groups: dict[tuple[int, ...], list[ChainRecord]] = {}
    for chain in view.table.chains:
        if serving(chain):
            continue
        last = {
            node_of[one.target_id] for one in chain.targets if one.state is PublicState.LAST_SERVER
        }
        groups.setdefault(tuple(sorted(last)), []).append(chain)
    reports = view.reports()
    for group, chains in groups.items():
        told = named("chain", [chain.chain_id for chain in chains])
        stopped = [one for one in group if nodes[one].state is NodeState.STOPPING]
        running = [one for one in group if one in view.alive and one not in stopped]
        back = named("node", group, "or")
        errors = sorted(
            {
                f"target {member.target_id}: {reports[member.target_id].error}"
                for chain in chains
                for member in chain.targets
                if member.state is PublicState.LAST_SERVER
                and member.target_id in reports
                and reports[member.target_id].error
            }
        )
        if stopped:
            remedy = f"`craqen admin node start {stopped[0]}`, and start its process"
        elif running and errors:
            remedy = f"mend the disk ({errors[0]}), and restart the process of node {running[0]}"
        else:
            remedy = f"start {back}"
        yield (
            Level.UNAVAILABLE,
            f"{told}: no target serves; the data is unavailable until {back} returns with its disk",
            f"{remedy}; only if none will ever return: `craqen admin chain rotate-last-server "
            f"{chains[0].chain_id}`, which says what may be lost",
        )


def _node_troubles(view: Overview) -> Iterator[Trouble]:
    held: dict[int, int] = {}
    for target in view.table.targets:
        held[target.node_id] = held.get(target.node_id, 0) + 1
    for node in view.table.nodes:
        condition, number = view.condition(node), node.node_id
        targets = f"its targets ({held.get(number, 0)}) do not serve"
        if condition == "shut down":
            yield (
                Level.DEGRADED,
                f"node {number} is shut down by an operator; {targets}",
                f"when its work is done: `craqen admin node start {number}`, and start its process",
            )
        elif condition == "draining":
            moving = view.plan is not None
            yield (
                Level.DEGRADED,
                f"node {number} is draining: {held.get(number, 0)} targets are left on it",
                _drain_remedy(number, held.get(number, 0), moving=moving),
            )
        elif condition == "not heard yet":
            yield (
                Level.DEGRADED,
                f"node {number} was not heard by this manager yet",
                f"if the manager has just begun, ask again in {view.lease_seconds:g} s; else start "
                f"the node's process and see that it reaches the managers",
            )
        elif condition == "silent":
            yield (
                Level.DEGRADED,
                f"node {number} has not been heard for {span(view.heard[number][0])}",
                f"ask again in {view.lease_seconds:g} s; chains go on without it if it stays "
                f"silent. Look at its host and network if this comes often",
            )
        elif condition in ("down", "ending"):
            yield _node_gone(view, node, targets)


def _drain_remedy(number: int, held: int, *, moving: bool) -> str:
    if not held:
        return f"`craqen admin node remove {number}`"
    if moving:
        return "wait for the rebalance"
    return "`craqen admin rebalance` moves them elsewhere"


def _node_gone(view: Overview, node: NodeRecord, targets: str) -> Trouble:
    number, seconds = node.node_id, view.heard[node.node_id][0]
    if view.condition(node) == "ending":
        what = f"node {number} has said that it ends, {span(seconds)} ago; {targets}"
    else:
        what = f"node {number} was last heard {span(seconds)} ago; {targets}"
    return (
        Level.DEGRADED,
        what,
        f"look at its host and log, and start its process; if it is lost for good: `craqen admin "
        f"node drain {number}`, then `craqen admin rebalance`",
    )


def _parted_nodes(view: Overview) -> Iterator[Trouble]:
    for (one, other), left in view.parted:
        both = f"nodes {one} and {other}"
        if left:
            yield (
                Level.DEGRADED,
                f"{both} reach each other again, after they did not: where one shall be filled by "
                f"the other, that begins in {span(left)} if it stays so",
                "wait; look at the network between them if this comes often",
            )
        else:
            yield (
                Level.DEGRADED,
                f"{both} do not reach each other, though this manager hears both; where one "
                f"follows the other in a chain, one of them does not serve",
                "mend the network between them; what does not serve is filled by itself then",
            )


def _is_parted(view: Overview, node_id: int, chain: ChainRecord) -> bool:
    """Whether a node does not reach one that serves in the chain: that was told."""
    others = {one for pair, _ in view.parted if node_id in pair for one in pair}
    node_of = {target.target_id: target.node_id for target in view.table.targets}
    return any(
        member.state is PublicState.SERVING and node_of[member.target_id] in others - {node_id}
        for member in chain.targets
    )


def _target_troubles(view: Overview) -> Iterator[Trouble]:
    """Targets that do not serve although their nodes are up."""
    reports, members, filled = view.reports(), view.members(), resyncs(view)
    nodes = {node.node_id: node for node in view.table.nodes}
    for target in view.table.targets:
        number = target.target_id
        place = members.get(number)
        node = nodes[target.node_id]
        if place is None or place[1] is PublicState.SERVING:
            continue
        if node.node_id not in view.alive or node.state is NodeState.STOPPING:
            continue  # told of the node
        chain, state = place
        if serving(chain) >= view.replicas and (state in ON_ITS_WAY or not target.made):
            continue  # it moves here: nothing is missing meanwhile
        report = reports.get(number)
        name = f"target {number} (chain {chain.chain_id}, node {node.node_id}, {disk_of(target)})"
        if report is not None and report.error:
            yield (
                Level.DEGRADED,
                f"{name} is {words(state)}: {report.error}",
                f"mend or replace the disk, then `craqen admin target replace {number}`",
            )
        elif state is PublicState.OFFLINE and _is_parted(view, node.node_id, chain):
            continue  # told of the nodes
        elif report is None:
            yield (
                Level.DEGRADED,
                f"{name} is {words(state)}: its node does not speak of it (yet)",
                "if this stays so, look into the node's log",
            )
        elif state is PublicState.SYNCING:
            yield (Level.DEGRADED, f"{name} is being filled{_progress(filled.get(number))}", "wait")
        elif state is PublicState.WAITING:
            waits = "for its turn to be filled" if serving(chain) else "for a last server to return"
            yield (Level.DEGRADED, f"{name} waits {waits}", "wait")
        else:
            yield (
                Level.DEGRADED,
                f"{name} is {words(state)}, though its node is up",
                "ask again in a few seconds; if this stays so, look into the node's log",
            )


def _progress(resync: dict[str, object] | None) -> str:
    if resync is None:
        return ""
    sent, to_send = int(str(resync["bytes_sent"])), int(str(resync["bytes_to_send"]))
    left = float(str(resync["seconds_left"]))
    rest = "the time left is not known yet" if left < 0 else f"about {span(left)} left"
    return f": {size(sent)} of {size(max(sent, to_send))} sent, {rest}"


def _reduced_chains(view: Overview) -> Iterator[Trouble]:
    for count in range(1, view.replicas):
        chains = [chain.chain_id for chain in view.table.chains if serving(chain) == count]
        if not chains:
            continue
        have = "has" if len(chains) == 1 else "have"
        last = ", so the next loss makes data unavailable" if count == 1 else ""
        yield (
            Level.DEGRADED,
            f"{named('chain', chains)} {have} {count} of {view.replicas} serving targets{last}",
            "it mends itself when the nodes and targets named above are back and filled; if no "
            "trouble is named, `craqen admin rebalance` adds the targets that are missing",
        )


def _disk_troubles(view: Overview) -> Iterator[Trouble]:
    for (node_id, disk), (capacity, free) in _disks(view).items():
        if capacity and free < capacity * DISK_FREE_RATIO_LEAST:
            yield (
                Level.DEGRADED,
                f"node {node_id}, disk {disk}: {size(free)} of {size(capacity)} left; writes fail "
                f"when it is full",
                "remove data, or add nodes or disks and run `craqen admin rebalance`",
            )


def _data_troubles(view: Overview) -> Iterator[Trouble]:
    for number, report in sorted(view.reports().items()):
        if report.damaged_chunks:
            yield (
                Level.DEGRADED,
                f"target {number}: {report.damaged_chunks} damaged chunks are not repaired yet",
                "they are repaired while another target of the chain serves them; if they stay, "
                "`craqen fsck --data` names the files",
            )
        age = view.wall_seconds - report.scrubbed_wall_seconds
        if report.scrubbed_wall_seconds and age > SCRUB_AGE_SECONDS_MAX:
            yield (
                Level.DEGRADED,
                f"target {number}: its last whole scrub ended {span(age)} ago",
                "`craqen admin config set storage.scrub_mebibytes_per_second` to a higher rate",
            )


def _rebalance_troubles(view: Overview) -> Iterator[Trouble]:
    if view.plan is None:
        return
    if view.plan.next is None:
        yield (
            Level.DEGRADED,
            f"the rebalance cannot go on: {view.plan.problem}",
            "`craqen admin rebalance` plans anew; `craqen admin rebalance --stop` ends it",
        )
        return
    stuck = view.plan.next.stuck
    for sentence in stuck[:NAMED_MAX]:
        yield (Level.DEGRADED, f"rebalance: {sentence}", "mend that first; it goes on by itself")
    if len(stuck) > NAMED_MAX:
        more = len(stuck) - NAMED_MAX
        yield (Level.DEGRADED, f"rebalance: {more} more chains wait", "mend what is named first")


def _rebalance(view: Overview) -> dict[str, object] | None:
    if view.plan is None:
        return None
    plan = view.plan.next
    if plan is None:
        return {"problem": view.plan.problem}
    return {
        "outcome": plan.outcome.value,
        "copies_left": plan.copies_left,
        "removals_left": plan.removals_left,
        "on_their_way": plan.on_their_way,
        "stuck": list(plan.stuck),
    }


def rebalance_status(view: Overview) -> dict[str, object]:
    """The rebalance alone."""
    return {"wanted": view.plan is not None, **(_rebalance(view) or {})}


def _target_counts(view: Overview) -> dict[str, int]:
    counts = {words(state): 0 for state in PublicState}
    for _, state in view.members().values():
        counts[words(state)] += 1
    return {"all": len(view.table.targets), **counts}


def _chunk_counts(view: Overview) -> dict[str, float]:
    reports = list(view.reports().values())
    scrubs = [one.scrubbed_wall_seconds for one in reports]
    return {
        "copies": sum(one.chunks for one in reports),
        "damaged": sum(one.damaged_chunks for one in reports),
        "repaired": sum(one.repaired_chunks for one in reports),
        "oldest_scrub_wall_seconds": min(scrubs, default=0.0),
        "never_scrubbed": sum(not one for one in scrubs),
    }


def _space(view: Overview) -> dict[str, int]:
    disks = _disks(view).values()
    return {
        "capacity_bytes": sum(capacity for capacity, _ in disks),
        "free_bytes": sum(free for _, free in disks),
        "used_bytes": sum(one.used_bytes for one in view.reports().values()),
    }


def _disks(view: Overview) -> dict[tuple[int, str], tuple[int, int]]:
    """(capacity, free) of each disk that is heard of: its targets all say the same."""
    reports = view.reports()
    found: dict[tuple[int, str], tuple[int, int]] = {}
    for target in view.table.targets:
        report = reports.get(target.target_id)
        if report is not None:
            found[target.node_id, disk_of(target)] = (report.capacity_bytes, report.free_bytes)
    return found


def named(kind: str, ids: Iterable[int], word: str = "and") -> str:
    """``chain 4``, ``nodes 1, 2 and 3``, ``40 chains (1, 2, … )``."""
    numbers: Sequence[int] = sorted(ids)
    if not numbers:
        return f"no {kind}"
    if len(numbers) == 1:
        return f"{kind} {numbers[0]}"
    if len(numbers) > NAMED_MAX:
        shown = ", ".join(map(str, numbers[:NAMED_MAX]))
        return f"{len(numbers)} {kind}s ({shown}, …)"
    plural = "" if word == "or" else "s"
    return f"{kind}{plural} {', '.join(map(str, numbers[:-1]))} {word} {numbers[-1]}"


def span(seconds: float) -> str:
    """A duration for people."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
