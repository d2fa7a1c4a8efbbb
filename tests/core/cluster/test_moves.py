"""Operators' moves: what each changes, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from craqen.core.cluster import moves
from craqen.core.cluster.layout import local_table
from craqen.core.cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    LocalState,
    NodeRecord,
    NodeState,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.cluster.table_check import check_table
from craqen.core.cluster.transition import settled_chain
from craqen.core.errors import ConflictError, InvalidArgumentError
from craqen.tests.core.cluster.support import CLUSTER, shape, table_of

SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LAST, OFFLINE = PublicState.LAST_SERVER, PublicState.OFFLINE


def whole() -> RoutingTable:
    return table_of([(1, SERVING), (2, SERVING), (3, SERVING)])


def version(table: RoutingTable) -> int:
    return table.chains[0].version


def test_shut_down_leaves_the_others_serving() -> None:
    down = moves.shut_down(whole(), [1])
    assert shape(down) == [(2, SERVING), (3, SERVING), (1, OFFLINE)]
    assert (version(down), down.version) == (2, 1)
    assert [node.state for node in down.nodes] == [
        NodeState.STOPPING,
        NodeState.ACTIVE,
        NodeState.ACTIVE,
    ]
    again = moves.start(down, [1])
    assert {node.state for node in again.nodes} == {NodeState.ACTIVE}
    assert shape(again) == shape(down)


def test_shut_down_of_all_at_once_keeps_all_as_last_servers() -> None:
    table = table_of([(1, SERVING), (2, SERVING), (3, SYNCING)])
    assert shape(moves.shut_down(table, [1, 2, 3])) == [(1, LAST), (2, LAST), (3, OFFLINE)]
    assert shape(moves.shut_down(table, [1, 2])) == [(1, LAST), (2, LAST), (3, WAITING)]


def test_shut_down_touches_only_chains_of_the_node() -> None:
    table = table_of([(1, SERVING), (2, SERVING)], [(5, SERVING), (6, SERVING)])
    down = moves.shut_down(table, [1])
    assert down.chains[0].version == 2
    assert down.chains[1] is table.chains[1]
    with pytest.raises(InvalidArgumentError, match="node 9 is not in the table"):
        moves.shut_down(table, [9])


def test_drain_marks_and_start_ends_it() -> None:
    marked = moves.drain(whole(), [2])
    assert [node.state for node in marked.nodes][1] is NodeState.DRAINING
    assert shape(marked) == shape(whole())
    assert moves.start(marked, [2]) == whole()
    with pytest.raises(ConflictError, match="start it first"):
        moves.drain(moves.shut_down(whole(), [2]), [2])


def test_nodes_come_and_go() -> None:
    table = moves.add_node(whole(), NodeRecord(4, ("tcp://n4",), "h", disks=("/d",)))
    assert moves.remove_node(table, 4) == whole()
    with pytest.raises(InvalidArgumentError, match="already"):
        moves.add_node(table, NodeRecord(4, (), ""))
    with pytest.raises(InvalidArgumentError, match="ids begin at 1"):
        moves.add_node(table, NodeRecord(0, (), ""))
    with pytest.raises(ConflictError, match="still has 1 targets"):
        moves.remove_node(table, 1)
    with pytest.raises(InvalidArgumentError, match="node 5 is not in the table"):
        moves.remove_node(table, 5)


def test_added_target_is_at_the_end_with_a_new_id() -> None:
    table = moves.add_node(whole(), NodeRecord(4, (), "h", disks=("/a", "/b")))
    added = moves.add_target(table, 1, 4, "/b")
    assert shape(added)[3] == (4, OFFLINE)
    assert added.targets[3] == TargetRecord(4, 4, "/b/target-4")
    assert version(added) == 2
    check_table(added)
    # An id is not given again, though its target is gone.
    gone = moves.remove_target(added, 4, 3)
    assert moves.add_target(gone, 1, 4, "/b").targets[3].target_id == 5


def test_target_is_not_added_where_it_would_fail_with_another() -> None:
    table = moves.add_node(whole(), NodeRecord(4, (), "h", disks=("/a",)))
    with pytest.raises(InvalidArgumentError, match="node 4 has no disk /b; it has /a"):
        moves.add_target(table, 1, 4, "/b")
    with pytest.raises(InvalidArgumentError, match="choose another node"):
        moves.add_target(table, 1, 1, "/other")
    with pytest.raises(InvalidArgumentError, match="choose another disk"):
        moves.add_target(table, 1, 1, "/d1", same_node=True)
    assert len(moves.add_target(table, 1, 1, "/other", same_node=True).targets) == 4
    with pytest.raises(ConflictError, match="draining"):
        moves.add_target(moves.drain(table, [4]), 1, 4, "/a")
    with pytest.raises(InvalidArgumentError, match="chain 7"):
        moves.add_target(table, 7, 4, "/a")


def test_serving_target_is_removed_only_if_enough_others_serve() -> None:
    removed = moves.remove_target(whole(), 1, 2)
    assert shape(removed) == [(2, SERVING), (3, SERVING)]
    assert removed.chains[0].preferred == (2, 3)
    assert [target.target_id for target in removed.targets] == [2, 3]
    check_table(removed)
    with pytest.raises(ConflictError, match="only 2 others"):
        moves.remove_target(whole(), 1, 3)
    assert len(moves.remove_target(whole(), 1, 3, forced=True).targets) == 2


def test_last_copy_is_never_removed() -> None:
    table = table_of([(1, SERVING), (2, OFFLINE)])
    with pytest.raises(ConflictError, match="only 0 others"):
        moves.remove_target(table, 1, 1, forced=True)
    assert shape(moves.remove_target(table, 2, 2)) == [(1, SERVING)]
    with pytest.raises(ConflictError, match="all that chain 1 has"):
        moves.remove_target(moves.remove_target(table, 2, 2), 1, 1, forced=True)
    lost = table_of([(1, LAST), (2, LAST), (3, OFFLINE)])
    with pytest.raises(ConflictError, match="rotating the last server"):
        moves.remove_target(lost, 1, 1, forced=True)
    with pytest.raises(InvalidArgumentError, match="target 9 is in no chain"):
        moves.remove_target(lost, 9, 1)


def test_replaced_target_has_a_new_id_on_the_same_disk() -> None:
    table = table_of([(1, SERVING), (3, SERVING), (2, OFFLINE)])
    replaced = moves.replace_target(table, 2)
    assert shape(replaced) == [(1, SERVING), (3, SERVING), (4, OFFLINE)]
    assert replaced.targets[-1] == TargetRecord(4, 2, "/d2/target-4")
    assert replaced.chains[0].preferred == (1, 4, 3)
    assert version(replaced) == 2
    elsewhere = moves.replace_target(table, 2, 2, "/new")
    assert elsewhere.targets[-1].folder == "/new/target-4"
    with pytest.raises(ConflictError, match="target 1 is serving"):
        moves.replace_target(table, 1)
    with pytest.raises(InvalidArgumentError, match="on node 1"):
        moves.replace_target(table, 2, 1, "/new")


def test_order_is_restored_step_by_step_without_giving_up_a_copy() -> None:
    table = table_of([(3, SERVING), (2, SERVING), (1, SERVING)])
    moved: list[int] = []
    while (changed := moves.restore_order(table, 1)) is not table:
        check_table(changed)
        mover = changed.chains[0].targets[-1]
        assert mover.state is SYNCING
        assert [state for _, state in shape(changed)[:-1]] == [SERVING, SERVING]
        with pytest.raises(ConflictError, match="not whole"):
            moves.restore_order(changed, 1)
        moved.append(mover.target_id)
        synced = settled_chain(changed.chains[0], dict.fromkeys((1, 2, 3), LocalState.UP_TO_DATE))
        table = replace(changed, chains=(synced,))
    assert shape(table) == [(1, SERVING), (2, SERVING), (3, SERVING)]
    assert moved == [2, 3]


@settings(deadline=None)
@given(st.permutations([1, 2, 3, 4, 5]), st.permutations([1, 2, 3, 4, 5]))
def test_order_is_restored_from_any(present: list[int], preferred: list[int]) -> None:
    table = moves.prefer_order(
        table_of([(number, SERVING) for number in present], nodes=5), 1, preferred
    )
    for _ in present:
        table = moves.restore_order(table, 1)
        healed = settled_chain(table.chains[0], dict.fromkeys(present, LocalState.UP_TO_DATE))
        table = replace(table, chains=(healed,))
    assert [target_id for target_id, _ in shape(table)] == preferred
    assert moves.restore_order(table, 1) is table


def test_preferred_order_names_each_target_once() -> None:
    changed = moves.prefer_order(whole(), 1, (3, 1, 2))
    assert changed.chains[0].preferred == (3, 1, 2)
    assert version(changed) == 2
    for wrong in ((1, 2), (1, 2, 3, 3), (1, 2, 4)):
        with pytest.raises(InvalidArgumentError, match="each of them once"):
            moves.prefer_order(whole(), 1, wrong)


def test_rotation_needs_the_loss_accepted() -> None:
    table = table_of([(1, LAST), (3, WAITING), (2, OFFLINE)])
    with pytest.raises(ConflictError, match=r"last servers \(1\) alone have all acknowledged"):
        moves.rotate_last_server(table, 1)
    rotated = moves.rotate_last_server(table, 1, accept_loss=True)
    assert shape(rotated) == [(3, LAST), (2, OFFLINE), (1, OFFLINE)]
    check_table(rotated)
    up = settled_chain(rotated.chains[0], {3: LocalState.ONLINE})
    assert up.targets[0] == ChainTarget(3, SERVING)
    chosen = moves.rotate_last_server(table, 1, target_id=2, accept_loss=True)
    assert shape(chosen) == [(2, LAST), (3, WAITING), (1, OFFLINE)]


def test_rotation_takes_the_one_lost_last() -> None:
    table = table_of([(1, LAST), (2, OFFLINE), (3, OFFLINE)])
    assert shape(moves.rotate_last_server(table, 1, accept_loss=True))[0] == (3, LAST)


def test_rotation_is_refused_where_nothing_is_to_be_given_up() -> None:
    with pytest.raises(ConflictError, match="chain 1 serves"):
        moves.rotate_last_server(whole(), 1, accept_loss=True)
    with pytest.raises(ConflictError, match="each with all data"):
        moves.rotate_last_server(table_of([(1, LAST), (2, LAST)]), 1, accept_loss=True)
    with pytest.raises(InvalidArgumentError, match="these can: 2"):
        moves.rotate_last_server(
            table_of([(1, LAST), (2, OFFLINE)]), 1, target_id=1, accept_loss=True
        )


def new_chain(first: int, chain_id: int, *nodes: int) -> tuple[list[TargetRecord], ChainRecord]:
    targets = [
        TargetRecord(first + place, node_id, f"/n/target-{first + place}")
        for place, node_id in enumerate(nodes)
    ]
    members = tuple(ChainTarget(target.target_id, SERVING) for target in targets)
    return targets, ChainRecord(chain_id, 1, members)


def test_chain_table_is_added() -> None:
    targets, chain = new_chain(4, 2, 1, 2, 3)
    table = moves.add_chain_table(whole(), targets, [chain], ChainTable(2, 1, (1, 2)))
    assert [one.chain_ids for one in table.tables] == [(1,), (1, 2)]
    assert table.last_target_id == 6
    check_table(table)


def test_chain_table_is_refused_with_the_reason() -> None:
    targets, chain = new_chain(4, 2, 1, 2)
    with pytest.raises(InvalidArgumentError, match="names chain 3"):
        moves.add_chain_table(whole(), targets, [chain], ChainTable(2, 1, (2, 3)))
    with pytest.raises(InvalidArgumentError, match="names chain table 1 twice"):
        moves.add_chain_table(whole(), targets, [chain], ChainTable(1, 1, (2,)))
    with pytest.raises(InvalidArgumentError, match="number new targets from 10 on"):
        moves.add_chain_table(
            replace(whole(), last_target_id=9), targets, [chain], ChainTable(2, 1, (2,))
        )
    together, chain = new_chain(4, 2, 1, 1)
    apart = [together[0], replace(together[1], folder="/other/target-5")]
    with pytest.raises(InvalidArgumentError, match="on node 1: both would fail with it"):
        moves.add_chain_table(whole(), apart, [chain], ChainTable(2, 1, (2,)))


def test_upload_brings_chains_and_orders() -> None:
    present = whole()
    targets, chain = new_chain(4, 2, 1, 2)
    known = replace(present.chains[0], preferred=(2, 1, 3))
    uploaded = replace(
        present,
        targets=(*present.targets, *targets),
        chains=(known, chain),
        tables=(*present.tables, ChainTable(2, 1, (1, 2))),
    )
    table = moves.upload(present, uploaded)
    assert table.chains[0] == replace(known, version=2)
    assert table.chains[1] == chain
    assert table.last_target_id == 5
    assert moves.upload(present, present) is present


def altered(table: RoutingTable, chain: ChainRecord) -> RoutingTable:
    return replace(table, chains=(chain, *table.chains[1:]))


PRESENT = replace(whole(), version=8, chains=(replace(whole().chains[0], version=4),))
CHAIN = PRESENT.chains[0]

UPLOADS = {
    "is of cluster 'x'": replace(PRESENT, cluster_id="x"),
    "chain 1 is missing": replace(PRESENT, chains=(), tables=()),
    "would go back": altered(PRESENT, replace(CHAIN, version=3)),
    "has other targets": altered(PRESENT, replace(CHAIN, targets=CHAIN.targets[::-1])),
    "target 3 is missing": replace(
        PRESENT,
        targets=PRESENT.targets[:2],
        chains=(replace(CHAIN, targets=CHAIN.targets[:2], preferred=()),),
    ),
    "target 1 differs": replace(
        PRESENT, targets=(TargetRecord(1, 2, "/e/target-1", True), *PRESENT.targets[1:])
    ),
    "which is not in the table: add the node": replace(PRESENT, nodes=PRESENT.nodes[:2]),
    "chain table 1 has to stay": replace(PRESENT, tables=()),
    "chain table 1: version 0": replace(PRESENT, tables=(ChainTable(1, 0, (1,)),)),
    "said to be made": replace(
        PRESENT, targets=(*PRESENT.targets, TargetRecord(4, 1, "/e/target-4", True))
    ),
    "is to serve from the beginning": replace(
        PRESENT,
        targets=(*PRESENT.targets, TargetRecord(4, 1, "/e/target-4")),
        chains=(CHAIN, ChainRecord(2, 1, (ChainTarget(4, LAST),))),
    ),
}


@pytest.mark.parametrize("reason", UPLOADS)
def test_upload_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=reason):
        moves.upload(PRESENT, UPLOADS[reason])


@pytest.mark.parametrize("number", [7, 9])
def test_upload_of_another_version_is_refused(number: int) -> None:
    with pytest.raises(ConflictError, match="make it anew"):
        moves.upload(PRESENT, replace(PRESENT, version=number))


def chain_of(*members: tuple[int, PublicState], preferred: tuple[int, ...] = ()) -> RoutingTable:
    targets = tuple(ChainTarget(*member) for member in members)
    return altered(PRESENT, ChainRecord(1, 4, targets, preferred))


CONTRADICTIONS = {
    "names node 1 twice": replace(PRESENT, nodes=(*PRESENT.nodes, PRESENT.nodes[0])),
    "names target 1 twice": replace(PRESENT, targets=(*PRESENT.targets, PRESENT.targets[0])),
    "names chain 1 twice": replace(PRESENT, chains=(CHAIN, CHAIN)),
    "target 0: ids begin at 1": replace(
        PRESENT, targets=(*PRESENT.targets, TargetRecord(0, 1, "/e/t"))
    ),
    "the whole path": replace(PRESENT, targets=(*PRESENT.targets, TargetRecord(9, 1, "t"))),
    "has the folder": replace(
        PRESENT, targets=(*PRESENT.targets, replace(PRESENT.targets[0], target_id=9))
    ),
    "names target 8, which is not": chain_of((8, SERVING)),
    "as chain 1 has": replace(PRESENT, chains=(CHAIN, replace(CHAIN, chain_id=2))),
    "on one disk": replace(
        chain_of((1, SERVING), (9, SERVING)),
        targets=(*PRESENT.targets, TargetRecord(9, 1, "/d1/target-9")),
    ),
    "chain 1 is empty": chain_of(),
    "chain 1 names target 1 twice": chain_of((1, SERVING), (1, SERVING)),
    "preferred order names target 1 twice": chain_of((1, SERVING), preferred=(1, 1)),
    "prefers target 2": chain_of((1, SERVING), preferred=(2,)),
    "out of order": chain_of((1, OFFLINE), (2, SERVING)),
    "has both serving targets and last servers": chain_of((1, SERVING), (2, LAST)),
    "has neither a serving target nor last servers": chain_of((1, OFFLINE)),
    "more syncing targets": chain_of((1, SERVING), (2, SYNCING), (3, SYNCING)),
    "versions begin at 1": altered(PRESENT, replace(CHAIN, version=0)),
    "chain table 1 is empty": replace(PRESENT, tables=(ChainTable(1, 1, ()),)),
    "chain table 1 names chain 1 twice": replace(PRESENT, tables=(ChainTable(1, 1, (1, 1)),)),
    "chain table 1 names chain 5": replace(PRESENT, tables=(ChainTable(1, 1, (5,)),)),
}


@pytest.mark.parametrize("reason", CONTRADICTIONS)
def test_contradictions_are_found(reason: str) -> None:
    check_table(PRESENT)
    with pytest.raises(InvalidArgumentError, match=reason):
        check_table(CONTRADICTIONS[reason])
    with pytest.raises(InvalidArgumentError, match=reason):
        moves.upload(PRESENT, CONTRADICTIONS[reason])


def test_first_tables_hold_together() -> None:
    for replicas in (1, 2, 3):
        disks = ("/a", "/b", "/c")
        check_table(local_table(RoutingTable(0, ""), CLUSTER, disks, replicas))


doings = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 5)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(doings)
def test_any_moves_keep_the_table_whole(does: list[tuple[int, int, int]]) -> None:
    """Whatever operators do and targets report: the table never contradicts itself, ids are never
    given twice, and who has a chain's data stays in it."""
    table = replace(
        table_of(*([(3 * n + k, SERVING) for k in (1, 2, 3)] for n in range(2)), nodes=5), version=1
    )
    given_ids: set[int] = {target.target_id for target in table.targets}
    for what, number, other in does:
        before = table
        chain = table.chains[number % 2]
        try:
            if what == 0:
                table = moves.shut_down(table, {number % 5 + 1, other})
            elif what == 1:
                table = moves.start(table, [other])
            elif what == 2:
                table = moves.add_target(table, chain.chain_id, other, f"/x{number}")
            elif what == 3:
                table = moves.remove_target(table, number, 2, forced=other == 1)
            elif what == 4:
                table = moves.replace_target(table, number)
            elif what == 5:
                table = moves.restore_order(table, chain.chain_id)
            elif what == 6:
                table = moves.rotate_last_server(table, chain.chain_id, accept_loss=True)
            else:
                local = {
                    one.target_id: LocalState((one.target_id * other + number + what) % 3 + 1)
                    for one in table.targets
                }
                chains = tuple(settled_chain(one, local) for one in table.chains)
                table = replace(table, chains=chains)
        except (ConflictError, InvalidArgumentError):
            assert table is before
            continue
        check_table(table)
        fresh = {one.target_id for one in table.targets} - {one.target_id for one in before.targets}
        assert not fresh & given_ids
        given_ids |= fresh
        for old, new in zip(before.chains, table.chains, strict=True):
            assert new.version == old.version + (new != old)
            if what != 6:
                had = {
                    one.target_id for one in old.targets if one.state in (SERVING, LAST, SYNCING)
                }
                assert had & {one.target_id for one in new.targets if one.state in (SERVING, LAST)}
