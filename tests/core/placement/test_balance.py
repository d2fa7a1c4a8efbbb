"""What a loss does, worked out by hand; and heads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.errors import ConfigError
from craqen.core.placement.balance import balance
from craqen.core.placement.inventory import Disk, inventory
from craqen.core.placement.order import balanced_order
from craqen.tests.core.placement.shapes import nodes_of, uniform


def _disks(*numbers: int) -> tuple[Disk, ...]:
    return tuple(Disk(number, "/disks/0") for number in numbers)


def test_a_ring_loads_the_neighbours() -> None:
    """Of six disks in a ring of pairs, the two neighbours take what five could have shared."""
    ring = [_disks(number, number % 6 + 1) for number in range(1, 7)] * 2
    found = balance(uniform(6, 1), ring)
    # 4 parts; the ideal is 4 disks with one each (fewer parts than disks); a neighbour gets 2.
    assert found.disk_loss.worst_ratio == 2.0
    assert found.disk_loss.mean_ratio == 2.0
    assert found.disk_loss.least_ratio == 1.0
    assert not found.disk_loss.even
    assert found.most_shared == 2
    assert found.heads_per_disk == (2, 2)
    assert found.targets_per_disk == (4, 4)


def test_uneven_chains() -> None:
    shape = uniform(4, 1)
    found = balance(shape, [_disks(1, 2), _disks(1, 2), _disks(1, 2), _disks(1, 3), _disks(3, 4)])
    # Disk 1 has 4 parts for 3 disks, and disk 2 gets 3 of them; disk 2 has 3 parts, all to disk 1.
    assert found.disk_loss.worst_ratio == 3.0
    assert found.disk_loss.mean_worst_ratio == pytest.approx((3 / (4 / 3) + 3 + 1 + 1) / 4)
    assert found.heads_per_disk == (0, 4)
    assert found.targets_per_disk == (1, 4)
    assert found.domain_loss == found.disk_loss


def test_a_domain_counts_by_its_disks() -> None:
    """Node 1 has one disk; of its six parts, four rightly go to the node with two disks."""
    shape = inventory(nodes_of([1, 2, 1]))
    one, two, three, four = shape.disks
    found = balance(shape, [(one, two)] * 2 + [(one, three)] * 2 + [(one, four)] * 2)
    assert found.disk_loss.mean_worst_ratio == pytest.approx((1.0 + 2.0 + 2.0 + 2.0) / 4)
    # Node 2's four parts all go to node 1: one of the two disks it could use.
    assert found.domain_loss.worst_ratio == pytest.approx(2.0)
    assert balance(shape, []).disk_loss.worst_ratio == 1.0


def test_unknown_disks_are_refused() -> None:
    with pytest.raises(ConfigError, match="node 9 has no disk"):
        balance(uniform(3, 1), [_disks(1, 9)])


@given(
    chains=st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=3, unique=True), max_size=40)
)
@settings(max_examples=100, deadline=None)
def test_heads_cannot_be_spread_better(chains: list[list[int]]) -> None:
    """No set of disks has more heads than the chains force on it: the largest number equals what a
    complete search by sets allows (Hall's condition)."""
    ordered = balanced_order(chains, 8)
    assert [sorted(chain) for chain in ordered] == [sorted(chain) for chain in chains]
    heads = [0] * 8
    for chain in ordered:
        heads[chain[0]] += 1
    forced = 0
    for subset in range(1, 256):
        inside = sum(all(subset >> disk & 1 for disk in chain) for chain in chains)
        forced = max(forced, -(-inside // subset.bit_count()))
    assert max(heads) == forced


def test_balanced_orders_stay() -> None:
    chains = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert balanced_order(chains, 3) == chains
