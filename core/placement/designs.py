"""Pure: block designs by difference families, searched in bounded work.

The domains, all with equally many disks (columns), are numbered by the elements of a group, so that
disk (column i, element x) meets disk (column j, element x + d) as often as d occurs as a difference
between columns i and j within the base blocks. Every base block, shifted by every element, gives
one chain for each. So a few base blocks decide everything, and the figures of one disk per column
are those of all. If all differences occur equally often, the chains are a balanced incomplete block
design (with several columns: a group divisible one); if there are too few targets to reach all
disks, no difference more than once is the best there is.

Two refinements: a *short* block is a subgroup in one column, which has fewer different shifts; and
one domain may be kept *fixed* by all shifts (the 1-rotational designs), which finds more of the
small ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .draws import Draws
from .groups import Group, groups_of_order
from .order import balanced_order
from .spread import DOMAIN_WEIGHT, TEMPERATURE

COUNTERS_MAX = 2_000_000
"""Columns squared times elements: the memory that a search may take."""

TRY_EVALUATIONS_PER_POINT = 400
"""One try of a search, before it starts again from other blocks."""

WARM_SHARE = 1.5
"""The last third of a try only descends."""

Point = tuple[int, int]
"""(column, element); the element -1 is the fixed domain's."""


@dataclass(slots=True)
class _Family:
    """What a search arranges: full base blocks, beside fixed short ones."""

    group: Group
    columns: int
    full: list[list[Point]]
    short: list[list[Point]]
    pairs: list[int] = field(init=False)
    domain_pairs: list[int] = field(init=False)
    cost: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        order, columns = self.group.order, self.columns
        self.pairs = [0] * (columns * columns * (order + 1))
        self.domain_pairs = [0] * (order + 1)
        for block in self.short:
            head = block[0]
            for point in block[1:]:  # all its points see the same, and a disk is in one shift only
                self._count(head, point, 1)
        for block in self.full:
            for place in range(len(block)):
                for other in range(place):
                    self._count(block[place], block[other], 1)
                    if block[other][1] >= 0 and block[place][1] >= 0:
                        self._count(block[other], block[place], 1)

    def _count(self, one: Point, other: Point, step: int) -> None:
        """Account that *one*, in the group, meets *other*."""
        if one[1] < 0:
            one, other = other, one
        order = self.group.order
        distance = order if other[1] < 0 else self.group.minus(other[1], one[1])
        key = (one[0] * self.columns + other[0]) * (order + 1) + distance
        count = self.pairs[key]
        self.cost += 2 * step * count + 1
        self.pairs[key] = count + step
        count = self.domain_pairs[distance]
        self.cost += DOMAIN_WEIGHT * (2 * step * count + 1)
        self.domain_pairs[distance] = count + step

    def set_point(self, block: list[Point], place: int, point: Point) -> None:
        """Put *point* at *place* of a full block."""
        before = block[place]
        for at, other in enumerate(block):
            if at != place:
                self._count(before, other, -1)
                self._count(point, other, 1)
                if other[1] >= 0:
                    self._count(other, before, -1)
                    self._count(other, point, 1)
        block[place] = point

    def chains(self) -> list[list[Point]]:
        """All shifts of all blocks, each column at the head of as many blocks as any other."""
        group = self.group
        by_column = [
            [column + (x < 0) * self.columns for column, x in block] for block in self.full
        ]
        for block, order in zip(
            self.full, balanced_order(by_column, 2 * self.columns), strict=True
        ):
            block.sort(key=lambda point: point[0])  # a stable order to take points from
            waiting = list(block)
            for place, column in enumerate(order):
                at = next(
                    number
                    for number, (own, x) in enumerate(waiting)
                    if own + (x < 0) * self.columns == column
                )
                block[place] = waiting.pop(at)
        shifted = []
        for block, shifts in [
            *((block, list(range(group.order))) for block in self.full),
            *((block, self._short_shifts(block)) for block in self.short),
        ]:
            for shift in shifts:
                shifted.append(
                    [
                        (column, -1 if element < 0 else group.plus(element, shift))
                        for column, element in block
                    ]
                )
        return shifted

    def _short_shifts(self, block: list[Point]) -> list[int]:
        return list(self.group.cosets([element for _, element in block if element >= 0]))


def _starting_family(
    group: Group, columns: int, targets: int, length: int, fixed: bool, draws: Draws
) -> _Family | None:
    """Random blocks in which every disk has *targets* targets; None where that needs others than
    full and short blocks."""
    order = group.order
    full: list[list[Point]] = []
    short: list[list[Point]] = []
    column_targets = [targets] * columns
    if fixed:
        whole, rest = divmod(targets, order)
        shorts, odd = divmod(rest * (length - 1), order)
        subgroup = group.cyclic_subgroup(length - 1) if shorts else []
        if odd or subgroup is None:
            return None
        for column in range(columns):
            full += [[(column, -1)] for _ in range(whole)]
            for number in range(shorts):
                at = (column + number) % columns
                column_targets[at] -= 1
                short.append([*((at, element) for element in subgroup), (column, -1)])
        if min(column_targets) < 0:
            return None
    else:
        shorts = columns * targets % length
        if shorts:
            subgroup = group.cyclic_subgroup(length) if order % length == 0 else None
            if subgroup is None:
                return None
            for number in range(shorts):
                column_targets[number % columns] -= 1
                short.append([(number % columns, element) for element in subgroup])
            if min(column_targets) < 0:
                return None
    deck = [column for column in range(columns) for _ in range(column_targets[column])]
    draws.shuffle(deck)
    missing = sum(length - len(block) for block in full)
    if len(deck) < missing or (len(deck) - missing) % length:
        return None
    full += [[] for _ in range((len(deck) - missing) // length)]
    for block in full:
        while len(block) < length:
            element = draws.below(order)
            if all(element != other for _, other in block):
                block.append((deck.pop(), element))
    return _Family(group, columns, full, short)


def _step(family: _Family, draws: Draws, bound: float) -> None:
    """Try one change of a family; keep it if the cost grows by at most *bound*."""
    block = family.full[draws.below(len(family.full))]
    place = draws.below(len(block))
    column, element = block[place]
    if element < 0:
        return
    before = family.cost
    if family.columns == 1 or draws.below(2):
        moved = draws.below(family.group.order)
        if any(moved == other for _, other in block):
            return
        family.set_point(block, place, (column, moved))
        if family.cost > before + bound:
            family.set_point(block, place, (column, element))
        return
    other_block = family.full[draws.below(len(family.full))]
    other_place = draws.below(len(other_block))
    other_column, other_element = other_block[other_place]
    if other_element < 0 or other_column == column:
        return
    family.set_point(block, place, (other_column, element))
    family.set_point(other_block, other_place, (column, other_element))
    if family.cost > before + bound:
        family.set_point(block, place, (column, element))
        family.set_point(other_block, other_place, (other_column, other_element))


def _least_cost(family: _Family, targets: int, length: int) -> float:
    """The cost if every pair met as often as any other, as far as whole numbers allow."""
    columns, order = family.columns, family.group.order
    fixed = any(element < 0 for block in family.full + family.short for _, element in block)
    domains = order if fixed else order - 1
    meetings = targets * (length - 1)
    return columns * even_squares(meetings, columns * domains) + (
        DOMAIN_WEIGHT * even_squares(columns * meetings, domains)
    )


def even_squares(total: int, parts: int) -> int:
    """The sum of squares of *parts* whole numbers that make *total* as evenly as can be."""
    whole, rest = divmod(total, parts)
    return (parts - rest) * whole * whole + rest * (whole + 1) * (whole + 1)


def find_design(
    domains: int, columns: int, targets: int, length: int, seed: int, evaluations: int
) -> tuple[list[list[Point]], int] | None:
    """Chains of (column, domain) for *domains* domains of *columns* disks with *targets* targets,
    and the evaluations used; the best that was found, which need not be a design.

    None if no family of blocks has this shape.
    """
    if length < 2 or domains <= length or columns * columns * (domains + 1) > COUNTERS_MAX:
        return None
    draws = Draws(seed)
    kinds = [
        (group, fixed)
        for fixed in (False, True)
        for group in groups_of_order(domains - fixed)
        if _starting_family(group, columns, targets, length, fixed, draws) is not None
    ]
    best: list[list[Point]] | None = None
    best_excess = 0.0
    used, turn = 0, 0
    while kinds and (used < evaluations or best is None):
        group, fixed = kinds[turn % len(kinds)]
        family = _starting_family(group, columns, targets, length, fixed, draws)
        assert family is not None, "it depends on the shape only"
        least = _least_cost(family, targets, length)
        points = sum(map(len, family.full))
        tries = min(points * TRY_EVALUATIONS_PER_POINT, max(evaluations - used, 0))
        for at in range(tries):
            if family.cost <= least + 1e-6:
                break
            warmth = max(TEMPERATURE * (1 - WARM_SHARE * at / tries), 0.0)
            _step(family, draws, warmth * draws.fraction())
            used += 1
        if family.full:
            turn += 1
            used += 1
        else:  # nothing to arrange
            del kinds[turn % len(kinds)]
        excess = family.cost - least
        if best is None or excess < best_excess - 1e-6:
            chains = family.chains()
            best_excess = excess
            best = [[(at, x if x >= 0 else domains - 1) for at, x in chain] for chain in chains]
        if best_excess <= 1e-6:
            break
    return None if best is None else (best, used)
