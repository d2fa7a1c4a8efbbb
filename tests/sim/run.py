"""One run: build a store, let faults happen, heal it, and hold what came of it against what was
promised."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from craqen.core.chunks.store import ChunkVersion
from craqen.core.cluster.records import PublicState
from craqen.core.errors import DataLossError
from craqen.core.ids import ChunkId

from .clients import SimulatedClient
from .cluster import Cluster, Settings, first_table, target_id_of
from .disk import SimulatedDisk
from .faults import Faults
from .linearizability import TooHardError, explained, listing
from .manager import KeyValues, SimulatedManager
from .node import SimulatedNode
from .scenarios import Scenario
from .target import SimulatedTarget
from .world import Violation, World

FAULT_SECONDS = 40.0
HEAL_SECONDS = 60.0
READ_SECONDS = 30.0
FLUSHED_SECONDS = 0.5  # what is freed counts as in use until the next flush


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    seed: int
    scenario: str
    error: str
    """Empty: all promises were kept."""
    events: int
    actions: int
    answered: int
    too_hard: int
    """Chunks whose history the checker gave up on."""
    crashed: bool = False
    """Whether ``error`` is none of a promise, but of a program."""
    trace: tuple[str, ...] = ()


def run_seed(seed: int, scenario: Scenario, *, tracing: bool = False) -> Outcome:
    """Play a scenario by a seed."""
    world = World(seed, tracing=tracing)
    cluster = build(world, scenario.settings(world.random))
    error, too_hard, crashed = "", 0, False
    try:
        too_hard = _play(cluster, scenario)
    except Violation as violation:
        error = str(violation)
    except Exception as exception:
        error = traceback.format_exc()
        crashed = not isinstance(exception, AssertionError)
    finally:
        world.close()
        for node in cluster.nodes.values():
            for disk in node.disks.values():
                disk.close()
    actions = cluster.history.actions
    return Outcome(
        seed,
        scenario.name,
        error,
        world.events,
        len(actions),
        sum(action.ended < float("inf") for action in actions),
        too_hard,
        crashed,
        tuple(world.trace or ()),
    )


def build(world: World, settings: Settings) -> Cluster:
    """All processes, none of which runs yet."""
    cluster = Cluster(world, settings)
    table = first_table(settings)
    cluster.kv = KeyValues(cluster, table)
    cluster.managers = [SimulatedManager(cluster, one) for one in range(settings.managers)]
    for number in range(1, settings.nodes + 1):
        cluster.nodes[number] = SimulatedNode(cluster, number)
    for chain in table.chains:
        for member in chain.targets:
            node = cluster.nodes[member.target_id % 100]
            assert member.target_id == target_id_of(chain.chain_id, node.node_id)
            node.disks[member.target_id] = SimulatedDisk(
                f"disk{member.target_id}", cluster.ghost, settings.flush_seconds
            )
    cluster.clients = [SimulatedClient(cluster, f"client{one}") for one in range(settings.clients)]
    return cluster


def _play(cluster: Cluster, scenario: Scenario) -> int:
    world = cluster.world
    for manager in cluster.managers:
        manager.start()
    for node in cluster.nodes.values():
        node.start()
    for client in cluster.clients:
        client.start(cluster.settings.actions)
    faults = Faults(cluster, scenario.plan)
    faults.start()

    def clients_done() -> bool:
        return not any(client.unfinished for client in cluster.clients)

    world.run(FAULT_SECONDS, lambda: faults.over and clients_done())
    faults.heal()
    world.say("world", "all faults are healed")
    if not _run_on(cluster, HEAL_SECONDS, lambda: clients_done() and _all_serve(cluster)):
        raise Violation(
            f"{HEAL_SECONDS} s after the last fault: {cluster.kv.table.chains}, clients "
            f"{'done' if clients_done() else 'not done'}"
        )
    _read_everything(cluster)
    if not _run_on(cluster, READ_SECONDS, lambda: _at_rest(cluster)):
        raise Violation(f"the replicas do not become equal: {_contents(cluster)}")
    _run_on(cluster, FLUSHED_SECONDS, lambda: False)
    for node in cluster.nodes.values():
        for target in node.targets.values():
            target.store.check_blocks()
    return check_history(cluster)


def _run_on(cluster: Cluster, seconds: float, finished: Callable[[], bool]) -> bool:
    return cluster.world.run(cluster.world.now + seconds, finished)


def _all_serve(cluster: Cluster) -> bool:
    return all(
        target.state is PublicState.SERVING
        for chain in cluster.kv.table.chains
        for target in chain.targets
    )


def _read_everything(cluster: Cluster) -> None:
    """A client reads every chunk at every replica. Raises Violation if one does not answer."""
    reader = SimulatedClient(cluster, "reader")
    cluster.clients.append(reader)
    reader.start(0)
    actions = []
    for chunk_id in cluster.chunk_ids:
        for member in cluster.kv.table.chains[cluster.chain_id_of(chunk_id) - 1].targets:
            action = cluster.history.begin("reader", chunk_id, None, cluster.world.now)
            actions.append(action)
            deadline = reader.process.clock() + READ_SECONDS
            reader.process.spawn(reader.read(action, deadline, member.target_id))

    def answered() -> bool:
        return all(action.ended < float("inf") for action in actions)

    if not _run_on(cluster, READ_SECONDS + 5.0, answered):
        raise Violation("nothing is wrong, but a read was not answered")


def _contents(cluster: Cluster) -> dict[str, dict[str, object]]:
    """By chunk and target: what is committed, what is pending."""
    found: dict[str, dict[str, object]] = {}
    for node in cluster.nodes.values():
        for target in node.targets.values():
            for record in target.store.scan(cluster.chunk_ids[0], 1000):
                committed: ChunkVersion | None = record.committed
                pending = record.pending is not None or record.pending_remove is not None
                content: object = None
                if committed is not None:
                    content = (committed.version, committed.crc32c, committed.token)
                key = f"{target.replica.chain.chain_id}/{record.chunk_id}"
                found.setdefault(key, {})[str(target.target_id)] = (content, pending)
    return found


def _at_rest(cluster: Cluster) -> bool:
    """Nothing is pending, and all replicas are equal."""
    replicas = cluster.settings.replicas
    for by_target in _contents(cluster).values():
        values = list(by_target.values())
        if len(values) != replicas or any(value != values[0] for value in values):
            return False
        if values[0][1]:  # type: ignore[index]
            return False
    return all(
        _is_readable(target) for node in cluster.nodes.values() for target in node.targets.values()
    )


def _is_readable(target: SimulatedTarget) -> bool:
    """Whether the bytes of all chunks are what their records say."""
    if target.store.damaged():
        return False
    for record in target.store.scan(ChunkId(0, 0), 1000):
        assert record.committed is not None
        try:
            target.read(record.chunk_id, record.committed)
        except DataLossError:
            return False
    return True


def check_history(cluster: Cluster) -> int:
    """Hold the history against the specification; how many chunks were too hard. Raises
    Violation."""
    too_hard = 0
    for chunk_id, actions in cluster.history.by_chunk().items():
        try:
            order = explained(actions)
        except TooHardError:
            too_hard += 1
            continue
        if order is None:
            raise Violation(f"no order explains chunk {tuple(chunk_id)}:\n{listing(actions)}")
    return too_hard
