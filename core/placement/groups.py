"""Pure: finite commutative groups, whose translations turn one block of a design into many."""

from __future__ import annotations

from collections.abc import Iterator

TABLE_ORDER_MAX = 512
"""Groups other than the cyclic one are tabled up to this order (a quarter of a million entries)."""


class Group:
    """Tuples of residues, numbered from 0 (the neutral element)."""

    def __init__(self, moduli: tuple[int, ...]) -> None:
        self.moduli = moduli
        self.order = 1
        for modulus in moduli:
            self.order *= modulus
        cyclic = len(moduli) == 1
        self._table = (
            None
            if cyclic
            else [[self._minus(a, b) for b in range(self.order)] for a in range(self.order)]
        )

    def _minus(self, one: int, other: int) -> int:
        result, scale = 0, 1
        for modulus in self.moduli:
            result += (one % modulus - other % modulus) % modulus * scale
            one, other, scale = one // modulus, other // modulus, scale * modulus
        return result

    def minus(self, one: int, other: int) -> int:
        """The element that leads from *other* to *one*."""
        if self._table is None:
            return (one - other) % self.order
        return self._table[one][other]

    def plus(self, one: int, other: int) -> int:
        """The sum of two elements."""
        return self.minus(one, self.minus(0, other))

    def cyclic_subgroup(self, order: int) -> list[int] | None:
        """A subgroup of *order* elements that one element makes; None if there is none."""
        for element in range(self.order):
            made, multiple = [0], element
            while multiple and len(made) <= order:
                made.append(multiple)
                multiple = self.plus(multiple, element)
            if len(made) == order:
                return made
        return None

    def cosets(self, subgroup: list[int]) -> Iterator[int]:
        """One element of every coset of *subgroup*."""
        seen: set[int] = set()
        for element in range(self.order):
            if element not in seen:
                yield element
                seen.update(self.plus(element, other) for other in subgroup)


def groups_of_order(order: int) -> Iterator[Group]:
    """The cyclic group, and the one with the most factors where that is another and small
    enough."""
    yield Group((order,))
    factors: list[int] = []
    rest, prime = order, 2
    while rest > 1:
        while rest % prime == 0:
            factors.append(prime)
            rest //= prime
        prime += 1
    if len(set(factors)) < len(factors) and order <= TABLE_ORDER_MAX:
        yield Group(tuple(factors))
