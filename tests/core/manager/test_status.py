"""The text for each kind of trouble: what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from craqen.core.cluster.messages import HeartbeatRequest, ResyncReport, TargetReport
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
from craqen.core.manager.overview import Overview, Plan, chain_rows, node_rows, target_rows
from craqen.core.manager.status import SCRUB_AGE_SECONDS_MAX, named, size, span, status
from craqen.core.placement.rebalance import NextSteps, Outcome

SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LAST, OFFLINE = PublicState.LAST_SERVER, PublicState.OFFLINE
NOW = 1_800_000_000.0
LEASE = 5.0


def table(*states: PublicState, nodes: Mapping[int, NodeState] | None = None) -> RoutingTable:
    """Chain 1: target n on node n, in these states."""
    ids = range(1, len(states) + 1)
    wanted = nodes or {}
    return RoutingTable(
        4,
        "test",
        tuple(
            NodeRecord(one, (f"tcp://n{one}:1",), "", state=wanted.get(one, NodeState.ACTIVE))
            for one in ids
        ),
        tuple(TargetRecord(one, one, f"/d{one}/target-{one}", True) for one in ids),
        (
            ChainRecord(
                1,
                3,
                tuple(ChainTarget(one, state) for one, state in zip(ids, states, strict=True)),
                tuple(ids),
            ),
        ),
        (ChainTable(1, 1, (1,)),),
    )


def view(
    of: RoutingTable,
    *,
    silent: Mapping[int, float] | None = None,
    unheard: Sequence[int] = (),
    said: Mapping[int, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Overview:
    """*silent*: seconds since nodes were heard; *said*: of target reports."""
    heard = {}
    for node in of.nodes:
        if node.node_id in unheard:
            continue
        reports = tuple(
            TargetReport(
                target.target_id,
                **{
                    "state": LocalState.ONLINE,
                    "chain_version": 3,
                    "capacity_bytes": 1000,
                    "free_bytes": 500,
                    **(said or {}).get(target.target_id, {}),
                },
            )
            for target in of.targets
            if target.node_id == node.node_id
        )
        request = HeartbeatRequest("test", node.node_id, 1, 1, 4, targets=reports)
        heard[node.node_id] = ((silent or {}).get(node.node_id, 0.5), request)
    alive = frozenset(one for one, (seconds, _) in heard.items() if seconds < LEASE)
    return Overview(of, 3, 7, LEASE, NOW, alive, heard, **more)


def told(of: Overview) -> tuple[int, str]:
    """The level, and all that is said."""
    document: Any = status(of)
    lines = (f"{one['what']} => {one['remedy']}" for one in document["troubles"])
    return document["level"], "\n".join(lines)


def test_all_is_well() -> None:
    document: Any = status(view(table(SERVING, SERVING, SERVING)))
    assert document["level"] == 0
    assert document["state"] == "all is well"
    assert document["troubles"] == []
    assert document["space"] == {"capacity_bytes": 3000, "free_bytes": 1500, "used_bytes": 0}
    assert document["rebalance"] is None


def test_a_node_is_down() -> None:
    level, text = told(view(table(SERVING, SERVING, OFFLINE), silent={3: 400.0}))
    assert level == 1
    assert "node 3 was last heard 7 min ago; its targets (1) do not serve" in text
    assert "craqen admin node drain 3" in text
    assert "chain 1 has 2 of 3 serving targets =>" in text
    assert "target 3" not in text, "one cause is told once"


def test_a_node_is_silent_but_not_dead_yet() -> None:
    level, text = told(view(table(SERVING, SERVING, SERVING), silent={3: 3.0}))
    assert level == 1
    assert "node 3 has not been heard for 3 s => ask again in 5 s" in text


def test_a_node_was_not_heard_by_this_manager() -> None:
    level, text = told(view(table(SERVING, SERVING, SERVING), unheard=[2]))
    assert level == 1
    assert "node 2 was not heard by this manager yet" in text
    assert "ask again in 5 s" in text


def test_two_nodes_do_not_reach_each_other() -> None:
    level, text = told(view(table(SERVING, SERVING, OFFLINE), parted=[((2, 3), 0.0)]))
    assert level == 1
    assert "nodes 2 and 3 do not reach each other, though this manager hears both" in text
    assert "mend the network between them" in text
    assert "chain 1 has 2 of 3 serving targets =>" in text
    assert "target 3" not in text, "one cause is told once"
    level, text = told(view(table(SERVING, SERVING, OFFLINE), parted=[((2, 3), 12.0)]))
    assert level == 1
    assert "nodes 2 and 3 reach each other again" in text
    assert "that begins in 12 s" in text


def test_a_node_is_shut_down_or_drained() -> None:
    stopped = table(SERVING, SERVING, OFFLINE, nodes={3: NodeState.STOPPING})
    level, text = told(view(stopped))
    assert level == 1
    assert "node 3 is shut down by an operator" in text
    assert "craqen admin node start 3" in text
    assert status(view(stopped))["nodes"] == {"all": 3, "up": 2, "candidates": 0}
    draining = table(SERVING, SERVING, SERVING, nodes={2: NodeState.DRAINING})
    assert "1 targets are left on it => `craqen admin rebalance`" in told(view(draining))[1]
    empty = replace(draining, targets=(), chains=(), tables=())
    assert "craqen admin node remove 2" in told(view(empty))[1]


@pytest.mark.parametrize(
    ("states", "silent", "stopping", "expected"),
    [
        ((LAST, OFFLINE, OFFLINE), {1: 60.0}, {}, "until node 1 returns with its disk => start"),
        ((LAST, LAST, OFFLINE), {1: 60.0, 2: 60.0}, {}, "until node 1 or 2 returns"),
        ((LAST, OFFLINE, OFFLINE), {}, {1: NodeState.STOPPING}, "craqen admin node start 1"),
    ],
)
def test_no_target_of_a_chain_serves(
    states: tuple[PublicState, ...],
    silent: dict[int, float],
    stopping: dict[int, NodeState],
    expected: str,
) -> None:
    level, text = told(view(table(*states, nodes=stopping), silent=silent))
    assert level == 2
    first = text.splitlines()[0]
    assert first.startswith("chain 1: no target serves; the data is unavailable")
    assert expected in first
    assert "craqen admin chain rotate-last-server 1" in first


def test_the_last_server_has_a_broken_disk() -> None:
    said = {1: {"state": LocalState.OFFLINE, "error": "read failed: Input/output error"}}
    level, text = told(view(table(LAST, OFFLINE, OFFLINE), said=said))
    assert level == 2
    assert "mend the disk (target 1: read failed: Input/output error)" in text


def test_one_copy_is_left() -> None:
    _, text = told(view(table(SERVING, OFFLINE, OFFLINE), silent={2: 9.0, 3: 9.0}))
    assert "chain 1 has 1 of 3 serving targets, so the next loss makes data unavailable" in text


def test_a_disk_failed() -> None:
    said = {3: {"state": LocalState.OFFLINE, "error": "write failed: Input/output error"}}
    level, text = told(view(table(SERVING, SERVING, OFFLINE), said=said))
    assert level == 1
    assert "target 3 (chain 1, node 3, /d3) is offline: write failed: Input/output error" in text
    assert "craqen admin target replace 3" in text


def test_targets_are_on_their_way() -> None:
    resync = ResyncReport(2, 10, 4, 1 << 20, 4 << 20, 1e6, 180.0)
    _, text = told(view(table(SERVING, SYNCING, WAITING), said={1: {"resync": resync}}))
    assert "target 2 (chain 1, node 2, /d2) is being filled: 1.0 MiB of 4.0 MiB sent" in text
    assert "about 3 min left" in text
    assert "target 3 (chain 1, node 3, /d3) waits for its turn to be filled" in text


def test_a_manager_does_not_answer() -> None:
    silent = ["manager at tcp://m2:1: connection refused"]
    level, text = told(view(table(SERVING, SERVING, SERVING), silent_managers=silent))
    assert level == 1
    assert "manager at tcp://m2:1: connection refused" in text
    assert "=> start it" in text


def test_a_target_that_moves_is_no_trouble() -> None:
    of = view(table(SERVING, SERVING, SERVING, SYNCING))
    assert told(of)[0] == 0


def test_damage_scrubs_and_space() -> None:
    said: dict[int, dict[str, Any]] = {
        1: {"damaged_chunks": 2},
        2: {"scrubbed_wall_seconds": NOW - SCRUB_AGE_SECONDS_MAX - 86_400},
        3: {"free_bytes": 99},
    }
    level, text = told(view(table(SERVING, SERVING, SERVING), said=said))
    assert level == 1
    assert "target 1: 2 damaged chunks are not repaired yet" in text
    assert "target 2: its last whole scrub ended 31 d ago" in text
    assert "node 3, disk /d3: 99 B of 1000 B left" in text


def test_candidates_and_an_empty_store() -> None:
    knocks = HeartbeatRequest("test", 9, 1, 1, 0, addresses=("tcp://n9:1",))
    level, text = told(view(RoutingTable(1, "test"), candidates=[knocks]))
    assert level == 2
    assert "the store has no chain table yet" in text
    assert "node 9 (tcp://n9:1) is running, but not in the table => `craqen admin node add 9`" in (
        text
    )


def test_a_rebalance() -> None:
    whole = table(SERVING, SERVING, SERVING)
    stuck = tuple(f"chain {number} has no serving target" for number in range(20))
    plan = Plan(NextSteps(Outcome.WAIT, (), 5, 4, 3, stuck))
    level, text = told(view(whole, plan=plan))
    assert level == 1
    assert "rebalance: chain 0 has no serving target" in text
    assert "rebalance: 12 more chains wait" in text
    document: Any = status(view(whole, plan=Plan(NextSteps(Outcome.ACT, (), 5, 4, 3, ()))))
    assert document["level"] == 0, "moving data is not a trouble"
    assert document["rebalance"]["copies_left"] == 5
    _, text = told(view(whole, plan=Plan(None, "node 2 is draining: plan again without it")))
    assert "cannot go on: node 2 is draining: plan again without it" in text


def test_rows() -> None:
    resync = ResyncReport(2, 10, 4, 1 << 20, 4 << 20, 1e6, 180.0)
    of = view(table(SERVING, SYNCING, OFFLINE), silent={3: 50.0}, said={1: {"resync": resync}})
    assert [row["state"] for row in node_rows(of)] == ["up", "up", "down"]
    targets = target_rows(of)
    assert [row["state"] for row in targets] == ["serving", "syncing", "offline"]
    assert targets[1]["resync"] is not None
    assert targets[2]["chunks"] is None, "what a dead node said counts no more"
    (chain,) = chain_rows(of)
    assert (chain["serving"], chain["wanted"], chain["in_order"]) == (1, 3, True)


def test_words() -> None:
    assert named("node", [2]) == "node 2"
    assert named("node", [3, 1, 2]) == "nodes 1, 2 and 3"
    assert named("node", []) == "no node"
    assert named("node", range(1, 41)).startswith("40 nodes (1, 2, 3, 4, 5, 6, 7, 8, …)")
    assert (span(0.4), span(119), span(120), span(7200), span(200_000)) == (
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    )
    assert (size(12), size(2048), size(3 << 50)) == ("12 B", "2.0 KiB", "3072.0 TiB")
