"""Who leaves a chain whose nodes do not reach each other, and when it may come back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from craqen.core.cluster.partings import REST_LEASES_MAX, Partings

LEASE = 2.0


def partings(*pairs: tuple[int, int]) -> Partings:
    """The first of each pair says that it does not reach the second."""
    found = Partings(LEASE)
    for one in {first for first, _ in pairs}:
        found.say(one, [other for first, other in pairs if first == one], 0.0)
    return found


def staying(found: Partings, nodes: Sequence[int], dead: Sequence[int] = ()) -> list[int]:
    """By node: who stays of a chain, target n on node n."""
    members = [(node, node) for node in nodes]
    return [target for target, _ in found.staying(members, lambda one: one not in dead)]


def test_the_successor_leaves() -> None:
    assert staying(partings((1, 2)), [1, 2, 3]) == [1, 3]
    assert staying(partings((1, 2)), [2, 1]) == [2]
    assert staying(partings((2, 1)), [1, 2, 3]) == [1, 3]


def test_who_do_not_follow_each_other_stay() -> None:
    assert staying(partings((1, 2)), [1, 3, 2]) == [1, 3, 2]


def test_who_is_parted_from_more_leaves() -> None:
    """A head that nobody hears but the manager, here and in other chains."""
    assert staying(partings((1, 2), (1, 3)), [1, 2, 3]) == [2, 3]
    assert staying(partings((1, 2), (4, 1)), [1, 2]) == [2]
    assert staying(partings((1, 2), (4, 1)), [1, 2], dead=[4]) == [1]


def test_of_two_halves_the_larger_part_of_the_chain_stays() -> None:
    halves = partings((1, 3), (1, 4), (2, 3), (2, 4))
    assert staying(halves, [1, 3, 4]) == [3, 4]
    assert staying(halves, [1, 3, 2]) == [1, 2]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=20),
    st.permutations(range(1, 6)),
)
def test_some_stay_and_those_reach_who_follows_them(
    pairs: list[tuple[int, int]], nodes: list[int]
) -> None:
    found = partings(*pairs)
    kept = staying(found, nodes)
    assert kept
    assert kept == [node for node in nodes if node in kept]
    assert not any(found.parted(one, other) for one, other in pairwise(kept))
    if not any(found.parted(one, other) for one, other in pairwise(nodes)):
        assert kept == nodes


def test_a_pair_is_whole_again_when_both_say_so() -> None:
    found = partings((1, 2), (2, 1))
    assert found.say(1, (), 1.0) == {1, 2}
    assert found.parted(1, 2)
    assert found.pairs(1.0) == [((1, 2), 0.0)]
    assert found.say(2, (), 2.0) == {1, 2}
    assert not found.parted(1, 2)
    assert found.pairs(2.5) == [((1, 2), LEASE - 0.5)]


def test_what_is_said_again_is_no_news() -> None:
    found = partings((1, 2))
    assert not found.say(1, (2,), 1.0)
    assert not found.say(3, (), 1.0)


def test_rest_before_anybody_is_filled_again() -> None:
    found = partings((1, 2))
    assert not found.may_fill(2, 1)
    assert found.may_fill(1, 3)
    found.say(1, (), 10.0)
    assert found.tick(10.0 + LEASE - 0.1) == set()
    assert not found.may_fill(1, 2)
    assert found.tick(10.0 + LEASE) == {1, 2}
    assert found.may_fill(1, 2)
    assert found.tick(10.0 + LEASE) == set()


def rest_leases(found: Partings, at: float) -> float:
    """Part a pair, join it, and wait until it may be filled; for how many leases."""
    found.say(1, (2,), at)
    found.say(1, (), at)
    waited = 0.0
    while not found.may_fill(1, 2):
        waited += 0.5
        found.tick(at + waited * LEASE)
    return waited


def test_a_line_that_fails_again_and_again_rests_longer() -> None:
    found = Partings(LEASE)
    now, rests = 100.0, []
    for _ in range(7):
        rests.append(rest_leases(found, now))
        now += (rests[-1] + 0.5) * LEASE
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, REST_LEASES_MAX, REST_LEASES_MAX]


def test_a_line_that_held_is_forgotten() -> None:
    found = Partings(LEASE)
    assert found.say(1, (2,), 0.0)
    found.say(1, (), 0.0)
    assert found
    found.tick(LEASE)
    found.tick(2 * LEASE)
    assert not found
    assert rest_leases(found, 50.0) == 1.0


def test_a_node_that_is_no_more_parts_from_nobody() -> None:
    found = partings((1, 2), (3, 2), (2, 4))
    found.forget(2, 1.0)
    assert not found
    assert staying(found, [1, 2, 3]) == [1, 2, 3]
