"""MACHINE: pairs of nodes that do not reach each other, though the manager hears both, and who of
them leaves a chain. Part of the primary's ``membership``.

RULES
1. A pair is parted while one of the two says so: what is lost one way spoils every call between
   them.
2. Of two targets that serve next to each other in a chain while their nodes are parted, one
   leaves, since updates would wait for ever. Who does: whose node is parted from more of those that
   would serve in the chain; then whose node is parted from more nodes that take part, as one with a
   broken card is; else the one that comes later, which holds no pending update that the other
   lacks. One of the two stays, so that the last serving target never leaves.
3. Nobody is filled by a target whose node does not reach its own.
4. A pair that reaches each other again rests before it counts as whole for rule 3: for
   REST_LEASES, and twice as long with each parting that comes before it was whole for as long as
   it rested, at most REST_LEASES_MAX. So a line that fails again and again costs the chains'
   updates little.

Safety does not hang on any of this: who leaves has stopped serving before (rule 8 of
``membership``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

REST_LEASES: Final = 1.0
REST_LEASES_MAX: Final = 16.0

Pair = tuple[int, int]
"""Two node ids, the lower one first."""

T = TypeVar("T")


@dataclass(slots=True)
class _Rest:
    """What is remembered of a pair that was parted."""

    leases: float = 0.0
    """For how long it rests when it is whole again; 0: it was never parted."""
    whole_seconds: float = 0.0
    """Since when it reaches each other again, if it does."""
    resting: bool = False
    """Whether it reaches each other again, and that does not count yet."""


class Partings:
    """Times are those of the manager's monotonic clock."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._said: dict[int, frozenset[int]] = {}
        """By node: whom it does not reach. Only such as do not reach somebody."""
        self._rests: dict[Pair, _Rest] = {}
        """Of every pair that is parted, rests, or was parted lately."""

    def __bool__(self) -> bool:
        """Whether any pair is parted, or was lately."""
        return bool(self._rests)

    def say(self, node_id: int, unreached: Sequence[int], now_seconds: float) -> frozenset[int]:
        """A node says whom it does not reach; return the nodes for which that is news, itself
        among them."""
        before = self._said.get(node_id, frozenset())
        if not (unreached or before):
            return before
        present = frozenset(unreached) - {node_id}
        news = before ^ present
        if not news:
            return news
        was = {other: self.parted(node_id, other) for other in news}
        if present:
            self._said[node_id] = present
        else:
            del self._said[node_id]
        for other, parted in was.items():
            if parted != self.parted(node_id, other):
                self._turned(_pair(node_id, other), now_seconds)
        return news | {node_id}

    def forget(self, node_id: int, now_seconds: float) -> None:
        """The node is no more."""
        self.say(node_id, (), now_seconds)
        for other in list(self._said):
            self.say(other, tuple(self._said[other] - {node_id}), now_seconds)
        self._rests = {pair: rest for pair, rest in self._rests.items() if node_id not in pair}

    def _turned(self, pair: Pair, now_seconds: float) -> None:
        """The pair is parted now and was not, or the other way round."""
        rest = self._rests.setdefault(pair, _Rest())
        rest.resting = not self.parted(*pair)
        if rest.resting:
            rest.whole_seconds = now_seconds
        else:
            rest.leases = min(REST_LEASES_MAX, max(REST_LEASES, rest.leases * 2))

    def tick(self, now_seconds: float) -> set[int]:
        """The nodes of pairs that have rested by now; to be called often."""
        rested: set[int] = set()
        for pair, rest in list(self._rests.items()):
            if self.parted(*pair):
                continue
            if rest.resting and self._rest_ends(rest) <= now_seconds:
                rest.resting = False
                rested.update(pair)
            # Remembered for as long again, so that the next rest is longer if it comes soon.
            elif now_seconds - rest.whole_seconds >= 2 * rest.leases * self._lease_seconds:
                del self._rests[pair]
        return rested

    def _rest_ends(self, rest: _Rest) -> float:
        return rest.whole_seconds + rest.leases * self._lease_seconds

    # What follows

    def parted(self, one: int, other: int) -> bool:
        """Rule 1."""
        return other in self._said.get(one, ()) or one in self._said.get(other, ())

    def may_fill(self, one: int, other: int) -> bool:
        """Rules 3 and 4."""
        rest = self._rests.get(_pair(one, other))
        return rest is None or not (rest.resting or self.parted(one, other))

    def pairs(self, now_seconds: float) -> list[tuple[Pair, float]]:
        """Every pair that is parted, with 0, or that rests, with the seconds for which it will."""
        found: list[tuple[Pair, float]] = []
        for pair, rest in self._rests.items():
            if self.parted(*pair):
                found.append((pair, 0.0))
            elif rest.resting:
                found.append((pair, max(0.0, self._rest_ends(rest) - now_seconds)))
        return sorted(found)

    def staying(
        self, members: Sequence[tuple[T, int]], takes_part: Callable[[int], bool]
    ) -> list[tuple[T, int]]:
        """Rule 2: which *members*, targets that would serve with their nodes, in the chain's
        order, stay."""
        kept = list(members)
        at = 0
        while at + 1 < len(kept):
            first, second = kept[at][1], kept[at + 1][1]
            if not self.parted(first, second):
                at += 1
                continue
            nodes = [node_id for _, node_id in kept]
            heavier = self._burden(first, nodes, takes_part) > self._burden(
                second, nodes, takes_part
            )
            del kept[at if heavier else at + 1]
            at = 0
        return kept

    def _burden(
        self, node_id: int, nodes: Sequence[int], takes_part: Callable[[int], bool]
    ) -> tuple[int, int]:
        """From how many of *nodes*, and of all that take part, the node is parted."""
        others = {other for other, said in self._said.items() if node_id in said}
        others |= self._said.get(node_id, frozenset())
        return len(others.intersection(nodes)), sum(takes_part(other) for other in others)


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)
