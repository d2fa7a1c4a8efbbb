"""Pure: a new place for as few targets as possible, when disks come or go.

The chains stay: files name them, and a table's chains share its data evenly, so every target counts
as the same amount of data and *copies* (targets on disks that did not hold their chain) are what is
kept small. The new assignment keeps every rule of a fresh one: one target per failure domain, and
as many targets per disk as an even spread gives (quotas).

No assignment with these quotas can do with fewer copies than ``least_copies``: each disk must gain
what its quota exceeds its present targets by, and each chain what it lacks of its replicas once
those on gone disks, and all but one in each domain, are left out. The bound looks at disks and
at chains each by themselves: where domains are so large or so few that they leave little choice,
the true minimum is higher. ``copies`` tells what was needed.

First every chain gives up what the rules and quotas make it give up; then the free places get
disks with room, displacing others only where a chain fits nowhere else; at last the moved targets
are exchanged, among each other and with what else the same disks could have given up, for an even
spread. No exchange makes another copy, and some spare one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidArgumentError
from .balance import Balance, balance
from .draws import Draws
from .inventory import Disk, Inventory, check_replicas, quotas
from .order import balanced_order
from .spread import Spread

EVALUATIONS = 200_000
"""Exchanges tried among the moved targets; some seconds."""

EVALUATIONS_PER_COPY = 500
EVALUATIONS_LEAST = 5_000
"""Few moved targets are even with fewer: not more than these, whichever is larger."""

CANDIDATES_MAX = 64
"""Disks with room that are compared for a free place."""

EMPTY = -1


@dataclass(frozen=True, slots=True)
class Reassignment:
    """Where every chain's targets are wanted, and what that moves."""

    chains: dict[int, tuple[Disk, ...]]
    """By chain id, head first."""
    copies: int
    """Targets that must be filled on a disk that does not hold their chain now."""
    least_copies: int
    """No assignment that is as even can do with fewer."""
    balance: Balance


def reassign(
    shape: Inventory,
    present: Mapping[int, Sequence[Disk]],
    replicas: int,
    *,
    seed: int = 1,
    evaluations: int = EVALUATIONS,
) -> Reassignment:
    """*present* chains (head first; their disks need not be in *shape*) on the disks of *shape*.

    The same *present* that is balanced on *shape* already comes back as it is, but for the order of
    a chain's targets. Raises ConfigError if the shape has too few failure domains, and
    InvalidArgumentError if a chain names a disk twice.
    """
    check_replicas(shape, replicas)
    if not present:
        return Reassignment({}, 0, 0, balance(shape, []))
    work = _Work(shape, present, replicas, Draws(seed))
    work.give_up()
    work.fill()
    work.even_out(evaluations)
    ordered = balanced_order(work.spread.chains, len(shape.disks))
    chains = {
        chain_id: tuple(shape.disks[disk] for disk in chain)
        for chain_id, chain in zip(work.ids, ordered, strict=True)
    }
    copies = sum(len(set(chains[number]) - set(disks)) for number, disks in present.items())
    return Reassignment(chains, copies, work.least_copies(), balance(shape, chains.values()))


class _Work:
    """One reassignment under way. Chains have their present disks at their present places; a place
    is empty, or *moved* if its disk is a new one."""

    def __init__(
        self,
        shape: Inventory,
        present: Mapping[int, Sequence[Disk]],
        replicas: int,
        draws: Draws,
    ) -> None:
        numbers = {disk: number for number, disk in enumerate(shape.disks)}
        self.domains = shape.domains
        self.replicas = replicas
        self.draws = draws
        self.ids = sorted(present)
        for chain_id in self.ids:
            if len(set(present[chain_id])) < len(present[chain_id]):
                raise InvalidArgumentError(f"chain {chain_id} names a disk twice")
        self.before = [[numbers.get(disk, EMPTY) for disk in present[one]] for one in self.ids]
        self.held = [{disk for disk in chain if disk != EMPTY} for chain in self.before]
        self.load = [0] * len(shape.disks)
        for held in self.held:
            for disk in held:
                self.load[disk] += 1
        order = list(range(len(shape.disks)))
        draws.shuffle(order)
        self.order = order
        self.quota = quotas(shape, len(self.ids), replicas, order, self.load)
        self.first_load = list(self.load)
        self.spread = Spread(shape.domains, [])

    def least_copies(self) -> int:
        """See the module."""
        by_disks = sum(
            max(0, quota - load) for quota, load in zip(self.quota, self.first_load, strict=True)
        )
        by_chains = sum(
            max(0, self.replicas - len({self.domains[disk] for disk in held})) for held in self.held
        )
        return max(by_disks, by_chains)

    def give_up(self) -> None:
        """Empty the places that the rules, and then the quotas, do not leave where they are."""
        chains: list[list[int]] = []
        for chain in self.before:
            kept: list[int] = []
            for disk in sorted(
                (disk for disk in chain if disk != EMPTY),
                key=lambda disk: self.load[disk] - self.quota[disk],
            ):
                taken = any(self.domains[disk] == self.domains[other] for other in kept)
                if taken or len(kept) == self.replicas:
                    self.load[disk] -= 1
                else:
                    kept.append(disk)
            places = [disk if disk in kept else EMPTY for disk in chain]
            while len(places) > self.replicas:
                places.remove(EMPTY)
            chains.append(places + [EMPTY] * (self.replicas - len(places)))
        self.spread = Spread(self.domains, chains)
        at_disk: list[list[int]] = [[] for _ in self.load]
        for number, chain in enumerate(chains):
            for disk in chain:
                if disk != EMPTY:
                    at_disk[disk].append(number)
        for disk in self.order:
            while self.load[disk] > self.quota[disk]:
                number = max(at_disk[disk], key=lambda number: self._can_leave(number, disk))
                at_disk[disk].remove(number)
                self.spread.put(number, chains[number].index(disk), EMPTY)
                self.load[disk] -= 1

    def _can_leave(self, number: int, disk: int) -> tuple[int, int]:
        """Preferred to leave: of a chain that has most left (its moves do not queue behind each
        other), and whose disks meet often."""
        chain = self.spread.chains[number]
        met = sum(
            self.spread.meetings(disk, other) for other in chain if other not in (EMPTY, disk)
        )
        return sum(other != EMPTY for other in chain), met

    def fill(self) -> None:
        """Give every empty place a disk with room."""
        chains = self.spread.chains
        room = [disk for disk in self.order if self.load[disk] < self.quota[disk]]
        empty = [
            (number, place)
            for number, chain in enumerate(chains)
            for place, disk in enumerate(chain)
            if disk == EMPTY
        ]
        self.draws.shuffle(empty)
        for number, place in empty:
            fitting: list[int] = []
            first = self.draws.below(len(room))
            for at in range(len(room)):
                disk = room[(first + at) % len(room)]
                if self.spread.fits(number, place, disk):
                    fitting.append(disk)
                    if len(fitting) == CANDIDATES_MAX:
                        break
            if fitting:
                best = min(
                    fitting,
                    key=lambda disk: (
                        disk not in self.held[number],  # it gave this up, and may have it back
                        self.spread.cost_of(number, place, disk),
                    ),
                )
                self.spread.put(number, place, best)
            else:
                best = self._displace(number, place)
            self.load[best] += 1
            if self.load[best] == self.quota[best]:
                room.remove(best)

    def _displace(self, number: int, place: int) -> int:
        """Fill a place of a chain that has a target in all domains with room: it takes the place of
        another chain's target, and so on, until one finds room. Fewest kept targets are displaced.
        Returns the disk whose room was used."""
        chains, domains = self.spread.chains, self.domains
        room: dict[int, int] = {}
        for disk in self.order:
            if self.load[disk] < self.quota[disk]:
                room.setdefault(domains[disk], disk)
        users: list[list[tuple[int, int]]] = [[] for _ in range(max(domains) + 1)]
        for other, chain in enumerate(chains):
            for at, disk in enumerate(chain):
                if disk != EMPTY:
                    users[domains[disk]].append((other, at))
        via: dict[tuple[int, int], tuple[int, int]] = {}
        waiting = deque([(number, place)])
        done: set[int] = set()  # chains, and
        opened: set[int] = set()  # domains: the first to reach either displaced fewest
        while waiting:
            spot = waiting.popleft()
            if spot[0] in done:
                continue
            done.add(spot[0])
            chain = chains[spot[0]]
            mine = {domains[disk] for disk in chain if disk != EMPTY}
            for domain, disk in room.items():
                if domain not in mine:
                    return self._shift(spot, disk, via)
            for domain, spots in enumerate(users):
                if domain in mine or domain in opened:
                    continue
                opened.add(domain)
                for other, at in spots:
                    if other in done:
                        continue
                    via[other, at] = spot
                    if chains[other][at] in self.held[other]:
                        waiting.append((other, at))
                    else:  # displacing what is moved anyway costs nothing
                        waiting.appendleft((other, at))
        raise AssertionError("quotas that the domains hold can be filled")

    def _shift(
        self, spot: tuple[int, int], disk: int, via: Mapping[tuple[int, int], tuple[int, int]]
    ) -> int:
        """Put *disk* at *spot*, what was there at the spot that wanted it, and so on."""
        used = disk
        while True:
            disk = self.spread.put(*spot, disk)
            if spot not in via:
                return used
            spot = via[spot]

    def even_out(self, evaluations: int) -> None:
        """Exchange moved targets for an even spread."""
        chains, draws, spread = self.spread.chains, self.draws, self.spread
        moved = [
            (number, place)
            for number, chain in enumerate(chains)
            for place, disk in enumerate(chain)
            if disk not in self.held[number]
        ]
        at_disk: list[list[tuple[int, int]]] = [[] for _ in self.load]
        for number, chain in enumerate(chains):
            for place, disk in enumerate(chain):
                at_disk[disk].append((number, place))
        enough = max(EVALUATIONS_LEAST, EVALUATIONS_PER_COPY * len(moved)) if moved else 0
        for _ in range(min(evaluations, enough)):
            turn = draws.below(len(moved))
            number, place = moved[turn]
            other, other_place = moved[draws.below(len(moved))]
            given_up = self._given_up(number)
            if given_up and draws.below(2):
                # It may stay after all, if another target leaves that disk instead.
                spots = at_disk[given_up[draws.below(len(given_up))]]
                if not spots:
                    continue
                other, other_place = spots[draws.below(len(spots))]
            one, two = chains[number][place], chains[other][other_place]
            mine, yours = self.held[number], self.held[other]
            spared = (two in mine) + (one in yours) - (one in mine) - (two in yours)
            change = spread.gain(number, place, other, other_place)
            if change is None or spared < 0 or (change > 0 and not spared):
                continue
            spread.exchange(number, place, other, other_place)
            at_disk[one].remove((number, place))
            at_disk[two].remove((other, other_place))
            at_disk[one].append((other, other_place))
            at_disk[two].append((number, place))
            if two in mine:  # and what leaves that disk instead may be exchanged further
                moved[turn] = (other, other_place)

    def _given_up(self, number: int) -> list[int]:
        """Disks that hold the chain now and are not to."""
        chain = self.spread.chains[number]
        return [disk for disk in self.before[number] if disk != EMPTY and disk not in chain]
