"""Pure: chains of disks while they are being arranged, with the count of how often each pair of
disks, and each pair of domains, meets in a chain.

What is made small is the sum of the squares of these counts: it is least when all pairs meet
equally often, and then the read load of a lost disk, or of a lost domain, spreads evenly over the
others. Chains keep their rule (one target per domain) through every exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

from .draws import Draws

DOMAIN_WEIGHT = 0.25
"""Of domain pairs against disk pairs: losing a disk is the common case, and even pairs of disks
make even pairs of domains anyway."""

ANNEAL_EVALUATIONS_PER_SLOT = 150
"""With fewer than these, a search only ever descends; warmth would just undo what it gained."""

TEMPERATURE = 2.5
"""At the start of a warm search, in units of the cost of one pair that meets a second time."""


def fits(domains: Sequence[int], chain: Sequence[int], place: int, disk: int) -> bool:
    """Whether *chain* may hold *disk* at *place*: no other place has its domain."""
    domain = domains[disk]
    for other, member in enumerate(chain):
        if other != place and member >= 0 and domains[member] == domain:
            return False
    return True


class Spread:
    """Chains of disk numbers, exchanged place by place."""

    def __init__(self, domains: Sequence[int], chains: list[list[int]]) -> None:
        """*domains*: of each disk. *chains* is changed in place; -1 stands for an empty place."""
        self.domains = domains
        self.chains = chains
        self._disks = len(domains)
        self._pairs: dict[int, int] = {}
        self._domain_pairs: dict[int, int] = {}
        sizes: dict[int, int] = {}
        for domain in domains:
            sizes[domain] = sizes.get(domain, 0) + 1
        self._count = len(sizes)
        mean = self._disks / len(sizes)
        # A pair of large domains rightly meets more often than a pair of small ones.
        self._scale = [mean / sizes[domain] for domain in range(len(sizes))]
        for chain in chains:
            for place, disk in enumerate(chain):
                if disk >= 0:
                    self._account(disk, chain[:place], 1)

    def meetings(self, one: int, other: int) -> int:
        """How many chains hold both disks."""
        return self._pairs.get(self._key(one, other), 0)

    def fits(self, number: int, place: int, disk: int) -> bool:
        """Whether chain *number* may hold *disk* at *place*."""
        return fits(self.domains, self.chains[number], place, disk)

    def cost_of(self, number: int, place: int, disk: int) -> float:
        """What the cost grows by when *disk* fills the empty *place* of a chain."""
        total = 0.0
        for other in self.chains[number]:
            if other >= 0:
                total += 2 * self._pairs.get(self._key(disk, other), 0) + 1
                key, weight = self._domain_key(self.domains[disk], self.domains[other])
                total += weight * (2 * self._domain_pairs.get(key, 0) + 1)
        return total

    def put(self, number: int, place: int, disk: int) -> int:
        """Set the disk at *place* of a chain (-1: empty it); return which was there."""
        chain = self.chains[number]
        before = chain[place]
        others = chain[:place] + chain[place + 1 :]
        if before >= 0:
            self._account(before, others, -1)
        if disk >= 0:
            self._account(disk, others, 1)
        chain[place] = disk
        return before

    def exchange(self, number: int, place: int, other: int, other_place: int) -> None:
        """Two places of different chains exchange their disks."""
        one, two = self.chains[number][place], self.chains[other][other_place]
        self.put(number, place, two)
        self.put(other, other_place, one)

    def gain(self, number: int, place: int, other: int, other_place: int) -> float | None:
        """The change of cost by an exchange; None if the rules forbid it."""
        if number == other:
            return None
        domains, pairs, disks = self.domains, self._pairs, self._disks
        mine, yours = self.chains[number], self.chains[other]
        one, two = mine[place], yours[other_place]
        my_domain, your_domain = domains[one], domains[two]
        same_domain = my_domain == your_domain
        if one == two or not (
            same_domain or (self.fits(number, place, two) and self.fits(other, other_place, one))
        ):
            return None
        change = 0.0
        for keep, leave, enter, common in ((mine, one, two, yours), (yours, two, one, mine)):
            leave_domain, enter_domain = domains[leave], domains[enter]
            for disk in keep:
                if disk == leave:
                    continue
                if disk not in common:  # else what one chain loses the other gains
                    key = leave * disks + disk if leave < disk else disk * disks + leave
                    change -= 2 * pairs.get(key, 0) - 1
                    key = enter * disks + disk if enter < disk else disk * disks + enter
                    change += 2 * pairs.get(key, 0) + 1
                if not same_domain:
                    domain = domains[disk]
                    if all(domains[member] != domain for member in common):
                        change += self._domain_change(domain, leave_domain, enter_domain)
        return change

    def _domain_change(self, domain: int, leave: int, enter: int) -> float:
        key, weight = self._domain_key(domain, leave)
        change = -weight * (2 * self._domain_pairs.get(key, 0) - 1)
        key, weight = self._domain_key(domain, enter)
        return change + weight * (2 * self._domain_pairs.get(key, 0) + 1)

    def disk_cost(self) -> int:
        """The part of the cost that pairs of disks make."""
        return sum(count * count for count in self._pairs.values())

    def cost(self) -> float:
        """What is made small: the weighed sum of squares."""
        total = float(self.disk_cost())
        for key, count in self._domain_pairs.items():
            one, other = divmod(key, self._count)
            total += self._domain_key(one, other)[1] * count * count
        return total

    def worst(self, chain: Sequence[int]) -> int:
        """How often that pair of the chain meets that meets most."""
        return max(
            (self.meetings(one, two) for at, one in enumerate(chain) for two in chain[:at]),
            default=0,
        )

    def _key(self, one: int, other: int) -> int:
        return one * self._disks + other if one < other else other * self._disks + one

    def _domain_key(self, one: int, other: int) -> tuple[int, float]:
        weight = DOMAIN_WEIGHT * self._scale[one] * self._scale[other]
        return (one * self._count + other if one < other else other * self._count + one), weight

    def _account(self, disk: int, others: Sequence[int], step: int) -> None:
        for other in others:
            if other >= 0:
                key = self._key(disk, other)
                self._pairs[key] = self._pairs.get(key, 0) + step
                key, _ = self._domain_key(self.domains[disk], self.domains[other])
                self._domain_pairs[key] = self._domain_pairs.get(key, 0) + step


def improve(spread: Spread, draws: Draws, evaluations: int, *, least_cost: float) -> int:
    """Exchange places at random while that makes the cost smaller, or at first a little larger.

    Ends after *evaluations* or at *least_cost*, and leaves the best arrangement found. Every other
    try starts at a chain with a pair that meets more often than another chain's does. Returns the
    evaluations used.
    """
    chains = spread.chains
    if len(chains) < 2:
        return 0
    length = len(chains[0])
    cost = best_cost = spread.cost()
    best = [list(chain) for chain in chains]
    warm = evaluations >= ANNEAL_EVALUATIONS_PER_SLOT * len(chains) * length
    crowded: list[int] = []
    for used in range(evaluations):
        if cost <= least_cost + 1e-6:
            return used
        if used % len(chains) == 0:
            worst = [spread.worst(chain) for chain in chains]
            limit = min(worst)
            crowded = [number for number, value in enumerate(worst) if value > limit]
        if used & 1 and crowded:
            number = crowded[draws.below(len(crowded))]
        else:
            number = draws.below(len(chains))
        other = draws.below(len(chains))
        place, other_place = draws.below(length), draws.below(length)
        change = spread.gain(number, place, other, other_place)
        if change is None:
            continue
        bound = 0.0
        if warm:
            bound = TEMPERATURE * (1 - used / evaluations) * draws.fraction()
        if change <= bound:
            spread.exchange(number, place, other, other_place)
            cost += change
            if warm and cost < best_cost - 1e-6:
                best_cost = cost
                best = [list(chain) for chain in chains]
    if warm and best_cost < cost - 1e-6:
        for number, chain in enumerate(best):
            for place, disk in enumerate(chain):
                spread.put(number, place, disk)
    return evaluations
