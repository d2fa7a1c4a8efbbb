"""The true minimum of copies for given loads per disk, by a minimum-cost flow: too slow for large
clusters, and a judge for small ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from craqen.core.placement.inventory import Disk, Inventory

INFINITY = 10**9


class Flow:
    """Arcs with capacity and cost; whole units are sent along cheapest paths."""

    def __init__(self) -> None:
        self.arcs: dict[object, list[list[object]]] = {}
        self.cost = 0

    def add(self, source: object, goal: object, capacity: int, cost: int) -> None:
        forth: list[object] = [goal, capacity, cost, None]
        back: list[object] = [source, 0, -cost, forth]
        forth[3] = back
        self.arcs.setdefault(source, []).append(forth)
        self.arcs.setdefault(goal, []).append(back)

    def send(self, source: object, goal: object) -> bool:
        """Send one unit; False if there is no way."""
        cost: dict[object, int] = {source: 0}
        via: dict[object, list[object]] = {}
        waiting = deque([source])
        while waiting:
            node = waiting.popleft()
            for arc in self.arcs[node]:
                other, capacity, price, _ = arc
                assert isinstance(capacity, int)
                assert isinstance(price, int)
                if capacity and cost[node] + price < cost.get(other, INFINITY):
                    cost[other] = cost[node] + price
                    via[other] = arc
                    waiting.append(other)
        if goal not in via:
            return False
        self.cost += cost[goal]
        node = goal
        while node != source:
            arc = via[node]
            back = arc[3]
            assert isinstance(back, list)
            arc[1] -= 1  # type: ignore[operator]
            back[1] += 1
            node = back[0]
        return True


def least_copies(
    shape: Inventory,
    present: Mapping[int, Sequence[Disk]],
    wanted: Mapping[int, Sequence[Disk]],
) -> int:
    """Copies that any assignment needs whose loads per disk and chain lengths are those of
    *wanted*."""
    flow = Flow()
    loads = Counter(disk for disks in wanted.values() for disk in disks)
    for chain_id, disks in present.items():
        flow.add("source", chain_id, len(wanted[chain_id]), 0)
        for domain in range(len(shape.names)):
            flow.add(chain_id, (chain_id, domain), 1, 0)
        for disk, domain in zip(shape.disks, shape.domains, strict=True):
            flow.add((chain_id, domain), disk, 1, disk not in disks)
    for disk in shape.disks:
        flow.add(disk, "goal", loads[disk], 0)
    for _ in range(loads.total()):
        assert flow.send("source", "goal")
    return flow.cost
