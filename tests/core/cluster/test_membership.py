"""Membership: leases, grace, restarts, and what is proposed when."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from craqen.core.cluster.membership import CANDIDATES_MAX, FENCE_LEASES, Membership
from craqen.core.cluster.node_life import Verdict
from craqen.core.cluster.records import (
    ChainRecord,
    LocalState,
    NodeRecord,
    NodeState,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.tests.core.cluster.support import beat, shape, table_of

UP, ON, OFF = LocalState.UP_TO_DATE, LocalState.ONLINE, LocalState.OFFLINE
SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LAST, OFFLINE = PublicState.LAST_SERVER, PublicState.OFFLINE

LEASE = 8.0
TICK = 1.0

Says = Mapping[int, LocalState | tuple[LocalState, int]]


class Manager:
    """A membership whose proposals are stored at once, on a clock that only goes by ``wait``."""

    def __init__(self, table: RoutingTable) -> None:
        self.now = 100.0
        self.membership = Membership(table, LEASE, self.now)
        self.numbers: dict[int, int] = {}
        self.proposals = 0

    @property
    def table(self) -> RoutingTable:
        return self.membership.table

    def says(self, node_id: int, targets: Says, **more: object) -> Verdict:
        number = self.numbers[node_id] = self.numbers.get(node_id, 0) + 1
        return self.membership.heartbeat(beat(node_id, number, targets, **more), self.now)

    def store(self, table: RoutingTable) -> None:
        self.membership.written(replace(table, version=self.table.version + 1))

    def tick(self) -> bool:
        """Whether something had to change, which is stored."""
        proposed = self.membership.tick(self.now)
        if proposed is None:
            return False
        assert proposed.version == self.table.version
        assert proposed != self.table
        self.proposals += 1
        self.store(proposed)
        return True

    def settle(self) -> None:
        for _ in range(5):
            if not self.tick():
                return
        raise AssertionError("the table does not come to rest")

    def wait(self, seconds: float, **alive: Says) -> None:
        """Let time go by, ticking; *alive* nodes (``n1={…}``) send heartbeats all the while."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + TICK)
            for name, targets in alive.items():
                self.says(int(name[1:]), targets)
            self.settle()


def three() -> Manager:
    return Manager(table_of([(1, SERVING), (2, SERVING), (3, SERVING)]))


def all_heard(manager: Manager) -> Manager:
    for number in (1, 2, 3):
        assert manager.says(number, {number: ON}).accepted
    manager.settle()
    return manager


def test_new_manager_gives_everybody_one_lease() -> None:
    manager = three()
    manager.wait(LEASE - TICK, n1={1: ON})
    assert manager.proposals == 0
    manager.wait(TICK, n1={1: ON})
    assert shape(manager.table) == [(1, SERVING), (2, OFFLINE), (3, OFFLINE)]
    assert manager.membership.alive(1)
    assert not manager.membership.alive(2)


def test_nobody_comes_and_all_are_last_servers() -> None:
    manager = three()
    manager.wait(LEASE)
    assert shape(manager.table) == [(1, LAST), (2, LAST), (3, LAST)]


def test_node_dies_one_lease_after_its_last_heartbeat() -> None:
    manager = all_heard(three())
    manager.wait(3, n1={1: ON}, n2={2: ON}, n3={3: ON})
    manager.wait(LEASE - TICK, n1={1: ON}, n3={3: ON})
    assert manager.membership.alive(2)
    assert shape(manager.table)[1] == (2, SERVING)
    manager.wait(TICK, n1={1: ON}, n3={3: ON})
    assert not manager.membership.alive(2)
    assert shape(manager.table) == [(1, SERVING), (3, SERVING), (2, OFFLINE)]


def test_dead_node_returns_by_resync() -> None:
    manager = all_heard(three())
    manager.wait(LEASE, n1={1: ON}, n3={3: ON})
    version = manager.table.chains[0].version
    manager.says(2, {2: (UP, 1)})  # of before: it does not count
    manager.settle()
    assert shape(manager.table)[2] == (2, SYNCING)
    manager.says(2, {2: (UP, version)})
    manager.settle()
    assert shape(manager.table)[2] == (2, SYNCING)
    manager.says(2, {2: (UP, manager.table.chains[0].version)})
    manager.settle()
    assert shape(manager.table) == [(1, SERVING), (3, SERVING), (2, SERVING)]


def test_deaths_that_are_due_together_are_one_proposal() -> None:
    manager = Manager(table_of([(1, SERVING), (2, SERVING)], [(5, SERVING), (6, SERVING)]))
    for number, targets in ((1, {1: ON}), (2, {2: ON, 5: ON}), (3, {6: ON})):
        manager.says(number, targets)
    manager.wait(LEASE)
    assert manager.proposals == 1
    assert shape(manager.table, 1) == [(1, LAST), (2, LAST)]
    assert shape(manager.table, 2) == [(5, LAST), (6, LAST)]


def test_deaths_within_half_a_lease_count_together() -> None:
    """Nothing was acknowledged between: who was heard last had stopped serving by then."""
    manager = all_heard(three())
    manager.wait(1, n2={2: ON}, n3={3: ON})
    manager.wait(2, n3={3: ON})
    manager.wait(LEASE - TICK)
    assert manager.proposals == 0
    manager.wait(TICK)
    assert shape(manager.table) == [(1, LAST), (2, LAST), (3, LAST)]


def test_silent_survivor_that_is_heard_again_serves_alone() -> None:
    manager = all_heard(three())
    manager.wait(2, n3={3: ON})
    manager.wait(LEASE - 2)
    assert manager.proposals == 0
    manager.says(3, {3: ON})
    manager.settle()
    assert shape(manager.table) == [(3, SERVING), (1, OFFLINE), (2, OFFLINE)]


def test_death_long_after_another_leaves_one_last_server() -> None:
    manager = all_heard(three())
    manager.wait(LEASE, n3={3: ON})
    assert shape(manager.table) == [(3, SERVING), (1, OFFLINE), (2, OFFLINE)]
    manager.wait(LEASE)
    assert shape(manager.table) == [(3, LAST), (1, OFFLINE), (2, OFFLINE)]


def test_quick_restart_changes_nothing() -> None:
    manager = all_heard(three())
    manager.wait(3, n1={1: ON}, n3={3: ON})
    assert manager.says(2, {2: ON}, incarnation=2).accepted
    assert manager.says(1, {1: UP}).accepted
    assert not manager.tick()


def test_restarted_process_has_a_lease_to_name_its_targets() -> None:
    manager = all_heard(three())
    manager.says(2, {}, incarnation=2)
    manager.wait(LEASE - TICK, n1={1: ON}, n3={3: ON})
    assert manager.proposals == 0
    assert manager.says(2, {}, incarnation=2).renews
    manager.wait(TICK, n1={1: ON}, n3={3: ON})
    assert manager.proposals == 0  # that answer may have let it serve what it did not name
    assert not manager.says(2, {}, incarnation=2).renews
    manager.wait(LEASE * FENCE_LEASES - 2 * TICK, n1={1: ON}, n3={3: ON})
    assert manager.proposals == 0
    manager.wait(2 * TICK, n1={1: ON}, n3={3: ON})
    assert shape(manager.table)[2] == (2, OFFLINE)
    assert manager.says(2, {}, incarnation=2).renews


def test_a_target_that_is_named_just_in_time_stays() -> None:
    manager = all_heard(three())
    manager.says(2, {}, incarnation=2)
    manager.wait(LEASE - TICK, n1={1: ON}, n3={3: ON})
    manager.says(2, {}, incarnation=2)
    manager.wait(2 * TICK, n1={1: ON}, n3={3: ON})
    manager.says(2, {2: ON}, incarnation=2)
    manager.wait(LEASE - TICK, n1={1: ON}, n3={3: ON})
    assert manager.proposals == 0
    assert manager.says(2, {2: ON}, incarnation=2).renews


def test_unnamed_target_does_not_take_over() -> None:
    """Its process began anew: it may not have the disk at all."""
    manager = all_heard(Manager(table_of([(1, SERVING), (2, SERVING)])))
    manager.says(2, {}, incarnation=2)
    manager.says(1, {1: OFF})
    assert not manager.tick()
    manager.says(2, {2: OFF}, incarnation=2)
    manager.settle()
    assert shape(manager.table) == [(1, LAST), (2, LAST)]


def test_replaced_process_is_refused_for_good() -> None:
    manager = all_heard(three())
    manager.wait(LEASE, n1={1: ON}, n3={3: ON})
    assert manager.says(2, {2: ON}, incarnation=2).accepted
    verdict = manager.says(2, {2: ON}, incarnation=1)
    assert not verdict.accepted
    assert "replaced" in verdict.reason


def test_late_and_repeated_heartbeats_are_refused() -> None:
    manager = three()
    membership = manager.membership
    assert membership.heartbeat(beat(1, 7, {1: ON}), manager.now).accepted
    for number in (7, 6):
        verdict = membership.heartbeat(beat(1, number, {1: OFF}), manager.now)
        assert not verdict.accepted
        assert "after number 7" in verdict.reason
    assert not manager.tick()


def test_other_clusters_are_refused() -> None:
    verdict = three().says(1, {1: ON}, cluster_id="other")
    assert not verdict.accepted
    assert "'other'" in verdict.reason
    assert not verdict.is_candidate


def test_unknown_nodes_are_candidates_for_a_lease() -> None:
    manager = three()
    verdict = manager.says(9, {}, addresses=("tcp://n9",))
    assert not verdict.accepted
    assert verdict.is_candidate
    assert [one.node_id for one in manager.membership.candidates()] == [9]
    manager.store(replace(manager.table, nodes=(*manager.table.nodes, NodeRecord(9, (), ""))))
    assert manager.membership.candidates() == []
    assert manager.says(9, {}).accepted
    manager.says(10, {})
    manager.wait(LEASE)
    assert manager.membership.candidates() == []


def test_strangers_are_bounded() -> None:
    manager = three()
    for number in range(CANDIDATES_MAX + 5):
        assert manager.says(100 + number, {}).is_candidate
    assert len(manager.membership.candidates()) == CANDIDATES_MAX


def test_disk_error_takes_out_that_target_only() -> None:
    manager = Manager(table_of([(1, SERVING), (2, SERVING)], [(4, SERVING), (5, SERVING)]))
    manager.says(1, {1: OFF, 4: ON})
    manager.says(2, {2: ON, 5: ON})
    manager.settle()
    assert shape(manager.table, 1) == [(2, SERVING), (1, OFFLINE)]
    assert shape(manager.table, 2) == [(4, SERVING), (5, SERVING)]
    assert manager.membership.alive(1)


def test_ending_process_leaves_at_once() -> None:
    manager = all_heard(three())
    manager.says(2, {2: ON}, stopping=True)
    manager.settle()
    assert shape(manager.table)[2] == (2, OFFLINE)
    assert not manager.membership.alive(2)
    manager.wait(2 * LEASE, n1={1: ON}, n3={3: ON})
    manager.says(2, {2: ON}, incarnation=2)
    manager.settle()
    assert shape(manager.table)[2] == (2, SYNCING)


def test_node_to_be_stopped_takes_no_part_though_it_lives() -> None:
    manager = all_heard(three())
    nodes = manager.table.nodes
    stopping = replace(nodes[1], state=NodeState.STOPPING)
    manager.store(replace(manager.table, nodes=(nodes[0], stopping, nodes[2])))
    beats(manager, FENCED)
    assert shape(manager.table)[2] == (2, OFFLINE)
    assert manager.membership.alive(2)
    manager.store(replace(manager.table, nodes=nodes))
    manager.settle()
    assert shape(manager.table)[2] == (2, SYNCING)


def test_newborn_chain_has_a_lease() -> None:
    manager = all_heard(three())
    manager.wait(LEASE, n1={1: ON}, n2={2: ON}, n3={3: ON})
    more = table_of([(1, SERVING), (2, SERVING), (3, SERVING)], [(4, SERVING), (5, SERVING)])
    manager.store(more)
    manager.wait(LEASE - TICK, n1={1: ON}, n2={2: ON, 5: ON}, n3={3: ON})
    assert manager.proposals == 0
    fence = LEASE * FENCE_LEASES
    manager.wait(fence - TICK, n1={1: ON}, n2={2: ON, 5: ON}, n3={3: ON})
    assert manager.proposals == 0
    manager.wait(2 * TICK, n1={1: ON}, n2={2: ON, 5: ON}, n3={3: ON})
    assert shape(manager.table, 2) == [(5, SERVING), (4, OFFLINE)]
    assert shape(manager.table, 1) == [(1, SERVING), (2, SERVING), (3, SERVING)]


def test_stalled_manager_does_not_blame_the_nodes() -> None:
    manager = all_heard(three())
    manager.now += 3 * LEASE
    assert not manager.tick()
    manager.wait(LEASE - TICK, n1={1: ON})
    assert manager.proposals == 0
    manager.wait(TICK, n1={1: ON})
    assert shape(manager.table) == [(1, SERVING), (2, OFFLINE), (3, OFFLINE)]


def test_proposal_repeats_until_it_is_stored() -> None:
    manager = all_heard(three())
    manager.says(2, {2: OFF})
    first = manager.membership.tick(manager.now)
    assert first is not None
    assert manager.membership.tick(manager.now) == first
    manager.store(first)
    assert manager.membership.tick(manager.now) is None


def test_somebody_elses_change_is_taken_in_and_an_older_one_ignored() -> None:
    manager = all_heard(three())
    chain = manager.table.chains[0]
    moved = ChainRecord(1, 9, (chain.targets[2], *chain.targets[:2]), chain.preferred)
    before = manager.table
    manager.store(replace(before, chains=(moved,)))
    manager.membership.written(before)
    manager.says(3, {3: OFF})
    manager.settle()
    assert shape(manager.table) == [(1, SERVING), (2, SERVING), (3, OFFLINE)]
    assert manager.table.chains[0].version == 10


def test_nodes_say_where_they_are() -> None:
    manager = all_heard(three())
    manager.says(1, {1: ON}, addresses=("tcp://new",), disks=("/d1",), host="boot2")
    assert manager.tick()
    node = manager.table.nodes[0]
    assert (node.addresses, node.disks, node.host) == (("tcp://new",), ("/d1",), "boot2")
    manager.says(1, {1: ON})  # what is left empty stays
    assert not manager.tick()
    manager.says(1, {1: ON}, addresses=("tcp://other",))
    manager.says(1, {1: ON}, addresses=("tcp://new",))  # and back, before it was stored
    assert not manager.tick()


def test_made_targets_are_noted() -> None:
    table = table_of([(1, SERVING), (2, SERVING)])
    fresh = tuple(replace(target, made=False) for target in table.targets)
    manager = Manager(replace(table, targets=fresh))
    manager.says(1, {1: ON})
    manager.says(2, {2: OFF})
    assert manager.tick()
    assert [target.made for target in manager.table.targets] == [True, False]


def test_targets_of_others_are_not_believed() -> None:
    manager = all_heard(three())
    manager.says(1, {1: ON, 2: OFF, 77: ON})
    assert not manager.tick()


def test_removed_nodes_and_targets_are_forgotten() -> None:
    manager = all_heard(Manager(table_of([(1, SERVING), (2, SERVING)], [(3, SERVING)])))
    table = manager.table
    manager.store(
        replace(
            table,
            nodes=table.nodes[:2],
            targets=table.targets[:2],
            chains=table.chains[:1],
            tables=(),
        )
    )
    manager.wait(LEASE, n1={1: ON}, n2={2: ON})
    assert manager.proposals == 0
    assert manager.membership.last_heartbeat(3) is None
    assert set(manager.membership.local_states()) == {1, 2}


def test_target_that_moved_to_another_node_has_said_nothing_yet() -> None:
    manager = all_heard(three())
    moved = (*manager.table.targets[:2], TargetRecord(3, 1, "/e/target-3"))
    manager.store(replace(manager.table, targets=moved))
    manager.wait(LEASE * (1 + FENCE_LEASES), n1={1: ON}, n2={2: ON}, n3={3: ON})
    assert shape(manager.table)[2] == (3, OFFLINE)


events = st.lists(
    st.tuples(
        st.sampled_from(["beat", "beat", "beat", "stop", "start", "disk", "wait", "ending"]),
        st.integers(1, 4),
    ),
    max_size=50,
)


@pytest.mark.parametrize("replicas", [2, 3])
@settings(max_examples=100, deadline=None)
@given(events)
def test_random_lives_end_whole(replicas: int, happenings: list[tuple[str, int]]) -> None:
    """Whatever happened: once all nodes run and report properly, all targets serve within few
    leases, and it stays so."""
    chains = [
        [((start + step) % 4 + 1 + 4 * start, SERVING) for step in range(replicas)]
        for start in range(4)
    ]
    manager = Manager(table_of(*chains, nodes=4))
    targets_of = {
        node.node_id: [
            one.target_id for one in manager.table.targets if one.node_id == node.node_id
        ]
        for node in manager.table.nodes
    }
    running = dict.fromkeys(targets_of, True)
    broken: set[int] = set()
    incarnations = dict.fromkeys(targets_of, 1)

    def send(node_id: int, *, ending: bool = False) -> None:
        says: dict[int, LocalState | tuple[LocalState, int]] = {}
        for chain in manager.table.chains:
            for target in chain.targets:
                if target.target_id in targets_of[node_id]:
                    synced = target.state is SYNCING
                    state = OFF if target.target_id in broken else UP if synced else ON
                    says[target.target_id] = (state, chain.version)
        verdict = manager.says(node_id, says, incarnation=incarnations[node_id], stopping=ending)
        assert verdict.accepted

    for event, node_id in happenings:
        if event == "stop":
            running[node_id] = False
        elif event in ("start", "ending"):
            if event == "ending" and running[node_id]:
                send(node_id, ending=True)
            incarnations[node_id] += 1
            running[node_id] = event == "start"
        elif event == "disk":
            broken ^= {targets_of[node_id][0]}
        elif event == "wait":
            manager.wait(2)
        elif running[node_id]:
            send(node_id)
            manager.settle()
        for chain in manager.table.chains:
            states = [target.state for target in chain.targets]
            assert (SERVING in states) != (LAST in states)
            assert states.count(SYNCING) <= 1
    broken.clear()
    for _ in range(3 * replicas):
        for node_id in targets_of:
            send(node_id)
        manager.now += TICK
        manager.settle()
    assert {one.state for chain in manager.table.chains for one in chain.targets} == {SERVING}
    version = manager.table.version
    for _ in range(2 * int(LEASE)):
        for node_id in targets_of:
            send(node_id)
        manager.now += TICK
        manager.settle()
    assert manager.table.version == version


# Nodes that do not reach each other


FENCED = FENCE_LEASES * LEASE + 2 * TICK  # what a leave takes: the node stops serving before


def beats(
    manager: Manager,
    seconds: float,
    nodes: tuple[int, ...] = (1, 2, 3),
    **unreached: tuple[int, ...],
) -> None:
    """Time goes by, *nodes* send heartbeats; ``n1=(2,)``: node 1 does not reach node 2."""
    end = manager.now + seconds
    while manager.now < end:
        manager.now += TICK
        for number in nodes:
            manager.says(number, {number: ON}, unreached=unreached.get(f"n{number}", ()))
        manager.settle()


def test_a_successor_that_is_not_reached_leaves_and_is_filled_by_another() -> None:
    manager = all_heard(three())
    beats(manager, FENCED, n1=(2,))
    assert shape(manager.table) == [(1, SERVING), (3, SERVING), (2, SYNCING)]
    manager.says(2, {2: (UP, manager.table.chains[0].version)})
    manager.settle()
    proposals = manager.proposals
    beats(manager, 10 * LEASE, n1=(2,))
    assert shape(manager.table) == [(1, SERVING), (3, SERVING), (2, SERVING)]
    assert manager.proposals == proposals


def test_nobody_is_filled_over_a_line_that_is_cut() -> None:
    manager = Manager(table_of([(1, SERVING), (2, SERVING)]))
    for number in (1, 2):
        manager.says(number, {number: ON})
    beats(manager, FENCED, n1=(2,))
    assert shape(manager.table) == [(1, SERVING), (2, OFFLINE)]
    proposals = manager.proposals
    beats(manager, 10 * LEASE, n1=(2,))
    assert shape(manager.table) == [(1, SERVING), (2, OFFLINE)]
    assert manager.proposals == proposals
    assert manager.membership.partings(manager.now) == [((1, 2), 0.0)]
    beats(manager, LEASE - TICK)
    assert shape(manager.table) == [(1, SERVING), (2, OFFLINE)]
    beats(manager, 2 * TICK)
    assert shape(manager.table) == [(1, SERVING), (2, SYNCING)]


def test_a_head_that_reaches_nobody_leaves() -> None:
    manager = all_heard(three())
    beats(manager, FENCED, n1=(2, 3))
    assert shape(manager.table) == [(2, SERVING), (3, SERVING), (1, OFFLINE)]


def test_the_word_of_a_dead_node_does_not_count() -> None:
    """What it said of others while it was alive does not weigh against them."""
    manager = all_heard(three())
    beats(manager, FENCED, n3=(1,))
    manager.wait(LEASE, n1={1: ON}, n2={2: ON})
    assert shape(manager.table) == [(1, SERVING), (2, SERVING), (3, OFFLINE)]
    assert manager.membership.partings(manager.now) == []
    beats(manager, FENCED, nodes=(1, 2), n1=(2,))
    assert shape(manager.table) == [(1, SERVING), (3, OFFLINE), (2, OFFLINE)]


def test_the_last_serving_target_stays_whoever_does_not_reach_it() -> None:
    manager = Manager(table_of([(1, SERVING), (2, OFFLINE), (3, OFFLINE)]))
    beats(manager, 3 * LEASE, n1=(2, 3), n2=(1,), n3=(1,))
    assert shape(manager.table)[0] == (1, SERVING)
    assert manager.table.chains[0].version == 1


# Who leaves has stopped serving before (rule 8)


def test_a_node_is_not_renewed_before_a_target_of_it_leaves() -> None:
    manager = all_heard(three())
    version = manager.table.chains[0].version
    renewed = manager.now
    manager.says(1, {1: ON}, unreached=(2,))
    manager.settle()
    while manager.table.chains[0].version == version:
        manager.now += TICK
        assert manager.says(1, {1: ON}, unreached=(2,)).renews
        verdict = manager.says(2, {2: ON})
        assert verdict.accepted
        assert not verdict.renews
        assert manager.says(3, {3: ON}).renews
        manager.settle()
        assert manager.now < renewed + LEASE
    assert manager.now >= renewed + FENCE_LEASES * LEASE
    assert manager.says(2, {2: ON}).renews


def test_a_target_that_its_node_gives_up_leaves_at_once() -> None:
    manager = all_heard(three())
    assert manager.says(2, {2: OFF}).renews
    manager.settle()
    assert (2, OFFLINE) in shape(manager.table)


def test_an_operators_move_waits_until_the_node_has_stopped_serving() -> None:
    manager = all_heard(three())
    table = manager.table
    chain = table.chains[0]
    gone = replace(chain, version=chain.version + 1, targets=chain.targets[:2])
    wanted = replace(table, chains=(gone, *table.chains[1:]))
    begun = manager.now
    while not manager.membership.may_leave(wanted, manager.now):
        manager.now += TICK
        assert not manager.says(3, {3: ON}).renews
        assert manager.says(1, {1: ON}).renews
    assert manager.now >= begun + FENCE_LEASES * LEASE
    assert manager.membership.may_leave(table, manager.now), "nothing leaves"
