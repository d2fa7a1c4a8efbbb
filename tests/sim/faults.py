"""What goes wrong, and when: drawn from the run's chance, by a plan that says how much of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from craqen.core.cluster.moves import restore_order, shut_down, start
from craqen.core.cluster.records import NodeState, RoutingTable
from craqen.core.errors import ConflictError

from .network import CALM

if TYPE_CHECKING:
    from .clients import SimulatedClient
    from .cluster import Cluster
    from .disk import SimulatedDisk
    from .manager import SimulatedManager
    from .node import SimulatedNode

FIRST_SECONDS = 0.5
LAST_SECONDS = 9.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each."""

    crashes: int = 0
    """Of nodes, which come back after up to ``down_seconds``."""
    down_seconds: float = 6.0
    all_lost: int = 0
    """All nodes crash within a moment."""
    unheard: int = 0
    """A node and the managers are separated for a while."""
    partitions: int = 0
    """A node is cut off from some others, clients among them, at times in one direction only."""
    links: int = 0
    """Two nodes do not reach each other, though everybody else reaches both."""
    stalls: int = 0
    """A node stands still, and does not know it."""
    slow: int = 0
    """Messages to a node take up to 1000 times as long."""
    failed_disks: int = 0
    """A disk takes no more writes; after a while its node is started again with a good one."""
    full_disks: int = 0
    """A disk has no space for a while."""
    rot: int = 0
    """Damaged bytes, or index records."""
    manager_crashes: int = 0
    managers_unheard: int = 0
    """A manager is separated from the key-value store."""
    client_deaths: int = 0
    shutdowns: int = 0
    """Planned: a node steps out, ends, and starts again."""
    rotations: bool = False
    """Operators ask for the preferred order all the time."""


class Faults:
    """Carries out a plan."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._chance = cluster.world.random
        self._plan = plan
        self._open = 0
        self._healed = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to go wrong."""
        return self._open == 0

    def start(self) -> None:
        """Plan it all."""
        plan = self._plan
        nodes = list(self._cluster.nodes.values())
        for count, action in (
            (plan.crashes, lambda: self._crash_soon(self._any(nodes))),
            (plan.all_lost, self._lose_all),
            (plan.unheard, lambda: self._unheard(self._any(nodes))),
            (plan.partitions, self._part),
            (plan.links, self._cut_link),
            (plan.stalls, lambda: self._stall(self._any(nodes))),
            (plan.slow, lambda: self._slow(self._any(nodes))),
            (plan.failed_disks, lambda: self._fail_disk(self._any(nodes))),
            (plan.full_disks, lambda: self._fill_disk(self._any(nodes))),
            (plan.rot, lambda: self._rot(self._any(nodes))),
            (plan.manager_crashes, self._crash_manager),
            (plan.managers_unheard, self._unheard_manager),
            (plan.client_deaths, self._kill_client),
            (plan.shutdowns, lambda: self._shut_down(self._any(nodes))),
        ):
            for _ in range(count):
                self._later(self._chance.uniform(FIRST_SECONDS, LAST_SECONDS), action)
        if plan.rotations:
            self._world.at(1.0, self._rotate)

    def _any(self, nodes: Sequence[SimulatedNode]) -> SimulatedNode:
        return self._chance.choice(nodes)

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something later, before which the plan is not over."""
        self._open += 1
        self._world.at(self._world.now + seconds, self._now, action)

    def _now(self, action: Callable[[], object]) -> None:
        self._open -= 1
        if not self._healed:
            action()

    def _say(self, text: str) -> None:
        self._world.say("fault", text)

    # Nodes

    def _crash_soon(self, node: SimulatedNode) -> None:
        """Now, or in the middle of the next flush."""
        if self._chance.random() < 0.4 or not node.disks:
            self._crash(node)
            return
        disk = self._chance.choice(list(node.disks.values()))
        delay = disk.flush_seconds * 1.2 * self._chance.random()
        disk.on_flush = lambda: self._later(delay, lambda: self._crash(node))

    def _crash(self, node: SimulatedNode) -> None:
        if node.process.alive:
            node.crash()
            down = self._plan.down_seconds * self._chance.random() ** 2
            self._later(down, lambda: self._restart(node))

    def _restart(self, node: SimulatedNode) -> None:
        if not node.process.alive:
            for disk in node.disks.values():
                disk.failing = False
            node.start()

    def _lose_all(self) -> None:
        spread = self._chance.choice((0.0, 0.3, 3.0))
        for node in self._cluster.nodes.values():
            self._later(spread * self._chance.random(), partial(self._crash, node))

    def _unheard(self, node: SimulatedNode) -> None:
        seconds = self._cluster.settings.lease_seconds * self._chance.uniform(0.3, 3.0)
        self._say(f"{node.process.name} and the managers do not hear each other for {seconds:.1f}")
        others = [manager.process.name for manager in self._cluster.managers]
        self._separate(node.process.name, others, seconds, ((True, True), (True, False)))

    def _part(self) -> None:
        processes = [one.name for one in self._cluster.processes()]
        one = self._any(list(self._cluster.nodes.values())).process.name
        others = [name for name in processes if name != one and self._chance.random() < 0.5]
        seconds = self._chance.uniform(0.3, 6.0)
        self._say(f"{one} is cut off from {', '.join(others)} for {seconds:.1f}")
        ways = ((True, True), (True, False), (False, True))
        self._separate(one, others, seconds, ways)

    def _cut_link(self) -> None:
        names = [node.process.name for node in self._cluster.nodes.values()]
        if len(names) < 2:
            return
        one, other = self._chance.sample(names, 2)
        seconds = self._cluster.settings.lease_seconds * self._chance.uniform(0.5, 6.0)
        self._say(f"{one} and {other} do not reach each other for {seconds:.1f}")
        ways = ((True, True), (True, True), (True, False))
        self._separate(one, [other], seconds, ways)

    def _separate(
        self,
        one: str,
        others: Sequence[str],
        seconds: float,
        ways: Sequence[tuple[bool, bool]],
    ) -> None:
        network = self._cluster.network
        outward, inward = self._chance.choice(ways)
        links = [(one, other) for other in others if outward]
        links += [(other, one) for other in others if inward]
        network.cut.update(links)
        self._later(seconds, lambda: network.cut.difference_update(links))

    def _stall(self, node: SimulatedNode) -> None:
        seconds = self._chance.uniform(0.2, 5.0)
        self._say(f"{node.process.name} stands still for {seconds:.1f}")
        node.process.stalled_until = self._world.now + seconds

    def _slow(self, node: SimulatedNode) -> None:
        network, name = self._cluster.network, node.process.name
        network.slowness[name] = 10.0 ** self._chance.uniform(1.0, 3.0)
        self._say(f"messages to {name} take {network.slowness[name]:.0f} times as long")
        self._later(self._chance.uniform(1.0, 5.0), lambda: network.slowness.pop(name, None))

    # Disks

    def _fail_disk(self, node: SimulatedNode) -> None:
        if not node.disks:
            return
        disk = self._chance.choice(list(node.disks.values()))
        self._say(f"{disk.name} takes no more writes")
        disk.failing = True
        self._later(self._chance.uniform(1.0, 6.0), lambda: self._mend_disk(node))

    def _fill_disk(self, node: SimulatedNode) -> None:
        if not node.disks:
            return
        disk = self._chance.choice(list(node.disks.values()))
        self._say(f"{disk.name} is full")
        disk.full = True
        self._later(self._chance.uniform(0.5, 6.0), lambda: self._free_disk(disk))

    def _free_disk(self, disk: SimulatedDisk) -> None:
        self._say(f"{disk.name} has space again")
        disk.full = False

    def _mend_disk(self, node: SimulatedNode) -> None:
        """An operator sees to it."""
        if node.process.alive:
            node.crash()
        self._restart(node)

    def _rot(self, node: SimulatedNode) -> None:
        """Damage one replica of one chunk that no other replica has damaged."""
        chunk_id = self._chance.choice(self._cluster.chunk_ids)
        target = node.targets.get(self._cluster.chain_id_of(chunk_id))
        if target is None or not self._is_whole_elsewhere(target.target_id, chunk_id):
            return
        if self._chance.random() < 0.5:
            if target.store.lose_record(chunk_id):
                self._say(f"t{target.target_id} loses its index record of {chunk_id}")
                target.found_damaged(chunk_id, 0)
        elif target.store.rot(chunk_id):
            self._say(f"bytes of {chunk_id} rot at t{target.target_id}")

    def _is_whole_elsewhere(self, target_id: int, chunk_id: object) -> bool:
        """Whether damage here can be repaired: everything serves, and nothing else is damaged."""
        for node in self._cluster.nodes.values():
            if not node.process.alive:
                return False
            for target in node.targets.values():
                disk = target.store.disk
                if disk.rotten or disk.damaged_records or not target.replica.view.is_serving:
                    return False
        return self._cluster.settings.replicas > 1

    # Managers and clients

    def _crash_manager(self) -> None:
        manager = self._chance.choice(self._cluster.managers)
        if manager.process.alive:
            manager.crash()
            self._later(self._chance.uniform(0.1, 6.0), lambda: self._restart_manager(manager))

    def _restart_manager(self, manager: SimulatedManager) -> None:
        if not manager.process.alive:
            manager.start()

    def _unheard_manager(self) -> None:
        manager = self._chance.choice(self._cluster.managers)
        seconds = self._cluster.settings.lease_seconds * self._chance.uniform(0.5, 3.0)
        self._say(f"{manager.process.name} and the key-value store are parted for {seconds:.1f}")
        ways = ((True, True), (True, False), (False, True))
        self._separate(manager.process.name, ["kv"], seconds, ways)

    def _kill_client(self) -> None:
        client = self._chance.choice(self._cluster.clients)
        if client.process.alive:
            self._say(f"{client.process.name} dies")
            left = client.left
            client.kill()
            self._later(self._chance.uniform(0.1, 1.0), lambda: self._revive(client, left))

    def _revive(self, client: SimulatedClient, left: int) -> None:
        if not client.process.alive:
            client.start(left)

    # Operators

    def _shut_down(self, node: SimulatedNode) -> None:
        """The node steps out, ends, and comes back."""
        going = [node]
        if self._chance.random() < 0.3:
            going = list(self._cluster.nodes.values())
        ids = [one.node_id for one in going]
        self._say(f"planned shutdown of nodes {ids}")
        self._cluster.moves.append(lambda table: shut_down(table, ids))
        self._later(self._chance.uniform(0.5, 1.5), lambda: self._end(going))

    def _end(self, nodes: Sequence[SimulatedNode]) -> None:
        for node in nodes:
            if node.process.alive:
                node.crash()
        self._later(self._chance.uniform(0.5, 3.0), lambda: self._bring_back(nodes))

    def _bring_back(self, nodes: Sequence[SimulatedNode]) -> None:
        ids = [node.node_id for node in nodes]
        self._cluster.moves.append(lambda table: start(table, ids))
        for node in nodes:
            self._later(self._chance.uniform(0.0, 2.0), partial(self._restart, node))

    def _rotate(self) -> None:
        """Ask for the preferred order, chain by chain, for as long as the run lasts."""
        chain_id = self._chance.randrange(1, self._cluster.settings.chains + 1)
        if not self._cluster.moves:
            self._cluster.moves.append(lambda table: _in_order(table, chain_id))
        if not self._healed:
            self._world.at(self._world.now + self._chance.uniform(0.2, 2.0), self._rotate)

    # The end

    def heal(self) -> None:
        """Everything works again, and everybody runs."""
        self._healed = True
        cluster = self._cluster
        cluster.network.weather = CALM
        cluster.network.cut.clear()
        cluster.network.slowness.clear()
        stopped = [
            node.node_id for node in cluster.kv.table.nodes if node.state is not NodeState.ACTIVE
        ]
        if stopped or cluster.moves:
            cluster.moves.clear()
            cluster.moves.append(lambda table: start(table, list(cluster.nodes)))
        for node in cluster.nodes.values():
            for disk in node.disks.values():
                disk.full = False
            if any(disk.failing for disk in node.disks.values()) and node.process.alive:
                node.crash()
            self._restart(node)
        for manager in cluster.managers:
            self._restart_manager(manager)


def _in_order(table: RoutingTable, chain_id: int) -> RoutingTable:
    try:
        return restore_order(table, chain_id)
    except ConflictError:
        return table
