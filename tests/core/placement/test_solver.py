"""Chain tables: the rules for every shape, exact designs where they are known to exist."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.cluster.records import NodeRecord, NodeState
from craqen.core.errors import ConfigError
from craqen.core.placement.inventory import Disk, chain_count, inventory, quotas
from craqen.core.placement.solver import sensible_targets_per_disk, solve, unarranged
from craqen.tests.core.placement.shapes import assert_rules, node_lists, nodes_of, uniform

FEW = 3000
"""Evaluations of a search in a property test."""


@given(
    nodes=node_lists(),
    targets=st.integers(1, 7),
    replicas=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_rules_and_loads_hold_for_every_shape(
    nodes: list[NodeRecord], targets: int, replicas: int, seed: int
) -> None:
    shape = inventory(nodes)
    if len(shape.names) < replicas:
        with pytest.raises(ConfigError, match="failure domains"):
            solve(shape, targets, replicas, seed=seed, evaluations=FEW)
        return
    solution = solve(shape, targets, replicas, seed=seed, evaluations=FEW)
    assert_rules(shape, solution.chains, replicas)
    assert len(solution.chains) == chain_count(shape, targets, replicas)
    least, most = solution.balance.targets_per_disk
    assert most <= targets
    largest = max(shape.sizes())
    if largest * replicas <= len(shape.disks):  # no domain is larger than its even share
        assert least >= targets - 1
        assert len(solution.chains) == len(shape.disks) * targets // replicas
    assert solution.balance.disk_loss.worst_ratio >= solution.balance.disk_loss.least_ratio - 1e-9


@given(nodes=node_lists(), targets=st.integers(1, 9), replicas=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_no_more_chains_would_fit(nodes: list[NodeRecord], targets: int, replicas: int) -> None:
    shape = inventory(nodes)
    if len(shape.names) < replicas:
        return
    count = chain_count(shape, targets, replicas)
    rooms = [size * targets for size in shape.sizes()]
    assert sum(min(room, count) for room in rooms) >= count * replicas
    assert sum(min(room, count + 1) for room in rooms) < (count + 1) * replicas
    order = range(len(shape.disks))
    loads = quotas(shape, count, replicas, order, [0] * len(shape.disks))
    assert sum(loads) == count * replicas
    assert max(loads) <= targets


@pytest.mark.parametrize(
    ("nodes", "targets", "replicas", "meetings"),
    [
        (7, 3, 3, 1),
        (9, 4, 3, 1),
        (13, 4, 4, 1),
        (16, 5, 4, 1),
        (6, 5, 3, 2),
        (8, 7, 4, 3),
        (11, 5, 5, 2),
        (15, 7, 3, 1),
        (25, 8, 4, 1),
        (16, 6, 6, 2),
    ],
)
def test_block_designs_are_found(nodes: int, targets: int, replicas: int, meetings: int) -> None:
    """Every pair of disks meets in the same number of chains."""
    solution = solve(uniform(nodes, 1), targets, replicas)
    met: Counter[frozenset[Disk]] = Counter(
        frozenset(pair) for chain in solution.chains for pair in combinations(chain, 2)
    )
    assert set(met.values()) == {meetings}
    assert len(met) == nodes * (nodes - 1) // 2
    assert solution.exact
    assert solution.balance.disk_loss.worst_ratio == pytest.approx(1.0)
    assert solution.balance.targets_per_disk == (targets, targets)


def test_a_large_cluster_is_even_over_disks_nodes_and_heads() -> None:
    solution = solve(uniform(180, 16), 6, 3)
    found = solution.balance
    assert solution.exact
    assert found.chains == 5760
    assert found.targets_per_disk == (6, 6)
    assert found.heads_per_disk == (2, 2)
    assert found.most_shared == 1
    assert found.disk_loss.worst_ratio == 1.0
    assert found.domain_loss.worst_ratio == pytest.approx(found.domain_loss.least_ratio)


def test_arranging_is_better_than_drawing() -> None:
    shape = inventory(nodes_of([2, 3, 4, 2, 3, 4, 2, 3]))
    drawn = unarranged(shape, 6, 3)
    assert_rules(shape, drawn, 3)
    met = Counter(frozenset(pair) for chain in drawn for pair in combinations(chain, 2))
    assert max(met.values()) > 1
    arranged = solve(shape, 6, 3).balance
    assert arranged.most_shared == 1
    assert arranged.disk_loss.even


def test_the_same_question_has_the_same_answer() -> None:
    shape = inventory(nodes_of([1, 2, 3, 2, 1]))
    one = solve(shape, 5, 3, seed=7, evaluations=FEW)
    assert one == solve(shape, 5, 3, seed=7, evaluations=FEW)
    assert one.chains != solve(shape, 5, 3, seed=8, evaluations=FEW).chains


def test_refusals_name_reason_and_remedy() -> None:
    racks = inventory(nodes_of([2, 2, 2], ["rack a", "rack a", "rack b"]))
    with pytest.raises(ConfigError, match=r"needs 3 failure domains.*2 have disks \(rack a, rack"):
        solve(racks, 4, 3)
    with pytest.raises(ConfigError, match="no disk"):
        solve(inventory([]), 4, 1)
    with pytest.raises(ConfigError, match="replicas 0"):
        solve(uniform(3, 1), 4, 0)
    with pytest.raises(ConfigError, match="targets per disk 0"):
        solve(uniform(3, 1), 0, 3)
    twice = NodeRecord(1, (), "", disks=("/a", "/a"))
    with pytest.raises(ConfigError, match="disk twice"):
        inventory([twice])
    with pytest.raises(ConfigError, match="named twice"):
        inventory([NodeRecord(1, (), ""), NodeRecord(1, (), "")])


def test_draining_nodes_and_lost_disks_get_nothing() -> None:
    nodes = [
        NodeRecord(1, (), "", state=NodeState.DRAINING, disks=("/a",)),
        NodeRecord(2, (), "", state=NodeState.STOPPING, disks=("/a", "/b")),
        NodeRecord(3, (), "", disks=("/a", "/b")),
    ]
    shape = inventory(nodes, without={Disk(3, "/b")})
    assert shape.disks == (Disk(2, "/a"), Disk(2, "/b"), Disk(3, "/a"))
    assert shape.names == ("node 2", "node 3")


def test_sensible_numbers_of_targets() -> None:
    for shape, replicas in [(uniform(15, 1), 3), (uniform(180, 16), 3), (uniform(5, 4), 2)]:
        targets = sensible_targets_per_disk(shape, replicas)
        assert 4 <= targets <= 12
        solution = solve(shape, targets, replicas, evaluations=FEW)
        least, most = solution.balance.heads_per_disk
        assert most - least <= 1
        assert solution.balance.targets_per_disk == (targets, targets)
    assert sensible_targets_per_disk(uniform(180, 16), 3) == 6
    assert sensible_targets_per_disk(uniform(15, 1), 3) == 7
    assert sensible_targets_per_disk(uniform(3, 1), 1) == 6
