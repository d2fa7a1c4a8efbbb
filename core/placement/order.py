"""Pure: the order of targets in their chains, so that every disk heads equally many.

The head orders all writes of its chain, and the last target answers the questions of dirty reads;
so each position of the chains is spread over the disks by itself, exactly: by moving a position
along paths of chains from a disk with more to one with at least two fewer, until there is none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def balanced_order(chains: Sequence[Sequence[int]], disks: int) -> list[list[int]]:
    """*chains* with each position spread over the disks as evenly as can be. Keeps the order of
    chains that do not need another."""
    ordered = [list(chain) for chain in chains]
    length = max((len(chain) for chain in ordered), default=0)
    for position in range(length - 1):
        _settle(ordered, position, disks)
        _balance(ordered, position, disks)
    return ordered


def _settle(chains: list[list[int]], position: int, disks: int) -> None:
    """Give a position to a member that has it less often, chain by chain: cheap, and leaves few
    places to mend."""
    load = [0] * disks
    for chain in chains:
        if position < len(chain):
            load[chain[position]] += 1
    moved = True
    while moved:
        moved = False
        for chain in chains:
            if position < len(chain):
                place = min(range(position, len(chain)), key=lambda at: load[chain[at]])
                if load[chain[position]] - load[chain[place]] >= 2:
                    load[chain[position]] -= 1
                    load[chain[place]] += 1
                    chain[position], chain[place] = chain[place], chain[position]
                    moved = True


def _balance(chains: list[list[int]], position: int, disks: int) -> None:
    # Dictionaries as sets, for their order is the same on every host.
    held: list[dict[int, None]] = [{} for _ in range(disks)]
    for number, chain in enumerate(chains):
        if position < len(chain):
            held[chain[position]][number] = None
    moved = True
    while moved:
        moved = False
        settled = [False] * disks  # nothing better can be reached from here at this load
        least = min(map(len, held))
        for disk in sorted(range(disks), key=lambda disk: -len(held[disk])):
            while len(held[disk]) - least >= 2 and not settled[disk]:
                path = _path(chains, position, held, disk, settled)
                if not path:
                    break
                moved = True
                for number, place in path:
                    chain = chains[number]
                    del held[chain[position]][number]
                    held[chain[place]][number] = None
                    chain[position], chain[place] = chain[place], chain[position]


def _path(
    chains: list[list[int]],
    position: int,
    held: list[dict[int, None]],
    start: int,
    settled: list[bool],
) -> list[tuple[int, int]]:
    """Exchanges (chain, place) that take one from *start* and give one to a disk with at least two
    fewer; empty if there are none, and then all disks reached are settled: they have as good
    as what *start* has, and see no more than it."""
    goal = len(held[start]) - 2
    reached: dict[int, tuple[int, int, int]] = {start: (-1, -1, -1)}
    waiting = deque([start])
    while waiting:
        disk = waiting.popleft()
        for number in held[disk]:
            chain = chains[number]
            for place in range(position + 1, len(chain)):
                other = chain[place]
                if other in reached:
                    continue
                reached[other] = (disk, number, place)
                if len(held[other]) <= goal:
                    path = []
                    while other != start:
                        other, number, place = reached[other]
                        path.append((number, place))
                    return path
                waiting.append(other)
    for disk in reached:
        if len(held[disk]) <= goal + 2:
            settled[disk] = True
    return []
