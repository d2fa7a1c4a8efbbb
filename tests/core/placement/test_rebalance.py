"""A rebalance on top of the real transition of chains: from every state of the table it goes on,
ends, and takes no redundancy away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.cluster.records import (
    ChainRecord,
    ChainTarget,
    LocalState,
    NodeRecord,
    NodeState,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from craqen.core.cluster.transition import next_chain
from craqen.core.errors import InvalidArgumentError
from craqen.core.placement.incremental import reassign
from craqen.core.placement.inventory import Disk, inventory
from craqen.core.placement.rebalance import (
    AddTarget,
    NextSteps,
    Outcome,
    PreferOrder,
    RemoveTarget,
    Step,
    next_steps,
)
from craqen.core.placement.solver import solve
from craqen.core.placement.tables import new_chains, present_assignment
from craqen.tests.core.placement.shapes import nodes_of

STEPS_MAX = 2000


class World:
    """A table, nodes that are up or down, and a manager that carries out steps."""

    def __init__(self, nodes: Sequence[NodeRecord], targets_per_disk: int, replicas: int) -> None:
        shape = inventory(nodes)
        chains = solve(shape, targets_per_disk, replicas, evaluations=500).chains
        empty = RoutingTable(0, "test", tuple(nodes))
        targets, records, table = new_chains(empty, chains)
        made = tuple(msgspec.structs.replace(target, made=True) for target in targets)
        self.table = RoutingTable(1, "test", tuple(nodes), made, records, (table,))
        self.replicas = replicas
        self.down: set[int] = set()
        self.synced: set[int] = set()
        """Targets whose resync has ended, to be promoted."""

    def serving(self) -> dict[int, int]:
        """Serving targets of each chain."""
        return {
            chain.chain_id: sum(one.state is PublicState.SERVING for one in chain.targets)
            for chain in self.table.chains
        }

    def apply(self, step: Step) -> None:
        """What the manager's driver does."""
        [chain] = [one for one in self.table.chains if one.chain_id == step.chain_id]
        if isinstance(step, AddTarget):
            target_id = max(target.target_id for target in self.table.targets) + 1
            folder = f"{step.disk}/target-{target_id}"
            record = TargetRecord(target_id, step.node_id, folder)
            self._set(targets=(*self.table.targets, record))
            members = (*chain.targets, ChainTarget(target_id, PublicState.OFFLINE))
            chain = msgspec.structs.replace(chain, targets=members)
        elif isinstance(step, RemoveTarget):
            [gone] = [one for one in chain.targets if one.target_id == step.target_id]
            others = tuple(one for one in chain.targets if one is not gone)
            assert others[0].state is PublicState.SERVING
            assert gone.state is not PublicState.LAST_SERVER
            chain = msgspec.structs.replace(chain, targets=others)
        else:
            chain = msgspec.structs.replace(chain, preferred=step.target_ids)
        self._set_chain(chain)

    def tick(self, chain_ids: Sequence[int] | None = None) -> None:
        """The manager's transition for some chains, once; folders are made on nodes that are up."""
        self._set(
            targets=tuple(
                target
                if target.node_id in self.down
                else msgspec.structs.replace(target, made=True)
                for target in self.table.targets
            )
        )
        nodes = {target.target_id: target.node_id for target in self.table.targets}
        for chain in self.table.chains:
            if chain_ids is not None and chain.chain_id not in chain_ids:
                continue
            local = {
                one.target_id: LocalState.UP_TO_DATE
                if one.target_id in self.synced
                else LocalState.ONLINE
                for one in chain.targets
                if nodes[one.target_id] not in self.down
            }
            self._set_chain(next_chain(chain, local))

    def end_resyncs(self, chain_ids: Sequence[int] | None = None) -> None:
        """Resyncs under way end."""
        for chain in self.table.chains:
            if chain_ids is None or chain.chain_id in chain_ids:
                self.synced = {
                    one.target_id for one in chain.targets if one.state is PublicState.SYNCING
                }
                self.tick([chain.chain_id])
        self.synced = set()

    def _set_chain(self, record: ChainRecord) -> None:
        chains = tuple(
            record if chain.chain_id == record.chain_id else chain for chain in self.table.chains
        )
        self._set(chains=chains)

    def _set(self, **fields: object) -> None:
        self.table = msgspec.structs.replace(self.table, version=self.table.version + 1, **fields)


def _act(world: World, plan: NextSteps, wanted: Mapping[int, Sequence[Disk]], most: int) -> None:
    """Carry out steps one by one; each alone takes nothing away."""
    assert sum(isinstance(step, AddTarget) for step in plan.steps) <= max(
        0, most - plan.on_their_way
    )
    assert len({step.chain_id for step in plan.steps}) == len(plan.steps)
    for step in plan.steps:
        before = world.serving()
        world.apply(step)
        after = world.serving()
        for chain_id, count in after.items():
            assert count == before[chain_id] or count >= len(wanted[chain_id])
    for chain in world.table.chains:
        lost = sum(one.state is PublicState.OFFLINE for one in chain.targets)
        assert len(chain.targets) <= len(wanted[chain.chain_id]) + 1 + lost


def _finish(world: World, wanted: Mapping[int, Sequence[Disk]], most: int) -> None:
    """With all nodes up, it comes to its end."""
    world.down.clear()
    for _ in range(STEPS_MAX):
        plan = next_steps(world.table, wanted, chains_at_once=most)
        if plan.outcome is Outcome.DONE:
            break
        assert (plan.outcome is Outcome.ACT) == bool(plan.steps)
        _act(world, plan, wanted, most)
        world.tick()
        world.end_resyncs()
    else:
        raise AssertionError(f"not at its end: {plan}")
    assert plan.copies_left == plan.removals_left == plan.on_their_way == 0
    assert present_assignment(world.table) == {one: tuple(disks) for one, disks in wanted.items()}
    assert all(count == len(wanted[one]) for one, count in world.serving().items())


def _wanted(world: World, nodes: Sequence[NodeRecord], seed: int) -> dict[int, tuple[Disk, ...]]:
    shape = inventory(nodes)
    present = present_assignment(world.table)
    return reassign(shape, present, world.replicas, seed=seed, evaluations=300).chains


@given(data=st.data(), replicas=st.integers(2, 3), most=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_every_state_of_the_table_goes_on_to_the_end(
    data: st.DataObject, replicas: int, most: int
) -> None:
    """Nodes go down and come back, chains go on at their own pace, what is wanted changes: each
    time the table alone is looked at. When all nodes are up, it ends as wanted."""
    nodes = nodes_of([1, 2, 1, 2, 1])
    world = World(nodes[:4], 3, replicas)
    world.table = msgspec.structs.replace(world.table, nodes=tuple(nodes))
    chain_ids = [chain.chain_id for chain in world.table.chains]
    wanted = _wanted(world, nodes, 0)
    some = st.lists(st.sampled_from(chain_ids), max_size=len(chain_ids), unique=True)
    moves = ["act", "act", "act", "tick", "end", "down", "up", "replan"]
    for move in data.draw(st.lists(st.sampled_from(moves), max_size=40)):
        if move == "act":
            plan = next_steps(world.table, wanted, chains_at_once=most)
            part = data.draw(st.integers(0, len(plan.steps)))  # then the manager was killed
            _act(world, _with_steps(plan, plan.steps[:part]), wanted, most)
        elif move == "tick":
            world.tick(data.draw(some))
        elif move == "end":
            world.end_resyncs(data.draw(some))
        elif move == "down":
            world.down.add(data.draw(st.integers(1, 5)))
            world.tick()
        elif move == "up" and world.down:
            world.down.remove(data.draw(st.sampled_from(sorted(world.down))))
        elif move == "replan":
            without = data.draw(st.sampled_from([0, 5] if replicas == 3 else [0, 1, 2, 5]))
            wanted = _wanted(world, [node for node in nodes if node.node_id != without], 1)
    _finish(world, wanted, most)


def _with_steps(plan: NextSteps, steps: tuple[Step, ...]) -> NextSteps:
    """The first steps of a plan."""
    return NextSteps(
        plan.outcome, steps, plan.copies_left, plan.removals_left, plan.on_their_way, plan.stuck
    )


def _three() -> tuple[World, Disk]:
    """Three nodes with one chain, and a fourth node."""
    nodes = nodes_of([1, 1, 1, 1])
    world = World(nodes[:3], 1, 3)
    world.table = msgspec.structs.replace(world.table, nodes=tuple(nodes))
    return world, Disk(4, "/disks/0")


def test_one_move_step_by_step() -> None:
    world, new = _three()
    [chain] = world.table.chains
    leaving, second, third = present_assignment(world.table)[1]
    wanted = {1: (second, third, new)}
    old = chain.targets[0].target_id

    plan = next_steps(world.table, wanted)
    assert plan.steps == (AddTarget(1, new.node_id, new.folder),)
    assert (plan.copies_left, plan.removals_left, plan.on_their_way) == (1, 1, 0)
    world.apply(plan.steps[0])
    for _ in range(3):  # just added, waiting, syncing
        plan = next_steps(world.table, wanted)
        assert (plan.outcome, plan.steps) == (Outcome.WAIT, ())
        assert plan.on_their_way == 1
        assert plan.stuck == ()
        world.tick()
    world.end_resyncs()
    plan = next_steps(world.table, wanted)
    assert plan.steps == (RemoveTarget(1, old),)
    assert (plan.copies_left, plan.removals_left) == (0, 1)
    world.apply(plan.steps[0])
    plan = next_steps(world.table, wanted)
    [prefer] = plan.steps
    assert isinstance(prefer, PreferOrder)
    world.apply(prefer)
    assert next_steps(world.table, wanted).outcome is Outcome.DONE
    assert present_assignment(world.table) == wanted
    assert leaving not in present_assignment(world.table)[1]


def test_a_dead_target_is_replaced_before_it_is_removed() -> None:
    world, new = _three()
    first, second, third = present_assignment(world.table)[1]
    world.down.add(first.node_id)
    world.tick()
    wanted = {1: (second, third, new)}
    plan = next_steps(world.table, wanted)
    assert plan.steps == (AddTarget(1, new.node_id, new.folder),)
    world.apply(plan.steps[0])
    for _ in range(2):
        world.tick()
        assert not next_steps(world.table, wanted).steps
    world.end_resyncs()
    [removal] = next_steps(world.table, wanted).steps
    assert isinstance(removal, RemoveTarget)


def test_nothing_is_removed_while_another_target_is_down() -> None:
    world, new = _three()
    _, second, third = present_assignment(world.table)[1]
    wanted = {1: (second, third, new)}
    world.apply(next_steps(world.table, wanted).steps[0])
    for _ in range(2):
        world.tick()
    world.end_resyncs()
    world.down.add(third.node_id)
    world.tick()
    plan = next_steps(world.table, wanted)
    assert plan.outcome is Outcome.WAIT
    assert plan.stuck == ("chain 1 waits for a target of it that is down",)
    world.down.clear()
    world.tick()
    world.tick()
    world.end_resyncs()
    assert isinstance(next_steps(world.table, wanted).steps[0], RemoveTarget)


def test_two_dead_targets_are_replaced_one_after_the_other() -> None:
    """They do not count for the chain's length, and their replacements do not sync together."""
    nodes = nodes_of([1, 1, 1, 1, 1])
    world = World(nodes[:3], 1, 3)
    world.table = msgspec.structs.replace(world.table, nodes=tuple(nodes))
    first, second, third = present_assignment(world.table)[1]
    world.down.update((first.node_id, second.node_id))
    world.tick()
    wanted = {1: (third, Disk(4, "/disks/0"), Disk(5, "/disks/0"))}
    for node_id in (4, 5):
        [step] = next_steps(world.table, wanted).steps
        assert step == AddTarget(1, node_id, "/disks/0")
        world.apply(step)
        for _ in range(2):
            assert not next_steps(world.table, wanted).steps
            world.tick()
        world.end_resyncs()
    for _ in range(2):
        [step] = next_steps(world.table, wanted).steps
        assert isinstance(step, RemoveTarget)
        world.apply(step)
    _finish(world, wanted, 1)


def test_a_chain_that_cannot_shrink_does_not_grow_on() -> None:
    nodes = nodes_of([1, 1, 1, 1, 1])
    world = World(nodes[:3], 1, 3)
    world.table = msgspec.structs.replace(world.table, nodes=tuple(nodes))
    _, _, third = present_assignment(world.table)[1]
    wanted = {1: (third, Disk(4, "/disks/0"), Disk(5, "/disks/0"))}
    world.down.add(third.node_id)
    world.tick()
    world.apply(next_steps(world.table, wanted).steps[0])
    for _ in range(2):
        world.tick()
    world.end_resyncs()
    plan = next_steps(world.table, wanted)
    assert plan.steps == ()
    assert plan.stuck == ("chain 1 waits for a target of it that is down",)
    _finish(world, wanted, 1)


def test_the_order_is_left_while_a_target_is_down() -> None:
    world, _ = _three()
    first, second, third = present_assignment(world.table)[1]
    world.down.add(first.node_id)
    world.tick()
    plan = next_steps(world.table, {1: (third, second, first)})
    assert (plan.outcome, plan.steps) == (Outcome.WAIT, ())
    _finish(world, {1: (third, second, first)}, 1)


def test_a_chain_without_a_serving_target_is_left_alone() -> None:
    world, new = _three()
    _, second, third = present_assignment(world.table)[1]
    world.down.update((1, 2, 3))
    world.tick()
    plan = next_steps(world.table, {1: (second, third, new)})
    assert (plan.outcome, plan.steps) == (Outcome.WAIT, ())
    assert plan.stuck == ("chain 1 has no serving target",)


def test_an_addition_that_is_no_longer_wanted_goes_at_once() -> None:
    """Also when the chain has lost a target meanwhile: what was never made holds nothing."""
    world, new = _three()
    first, second, third = present_assignment(world.table)[1]
    world.apply(next_steps(world.table, {1: (second, third, new)}).steps[0])
    world.down.update((new.node_id, third.node_id))
    world.tick()
    [removal] = next_steps(world.table, {1: (first, second, third)}).steps
    assert isinstance(removal, RemoveTarget)
    world.apply(removal)
    assert {first, second, third} == set(present_assignment(world.table)[1])


def test_limits_per_cluster_and_per_disk() -> None:
    nodes = nodes_of([2, 2, 2, 2, 2])
    world = World(nodes[:4], 6, 3)
    world.table = msgspec.structs.replace(world.table, nodes=tuple(nodes))
    wanted = _wanted(world, nodes, 0)
    plan = next_steps(world.table, wanted, chains_at_once=100, targets_at_once_per_disk=1)
    adds = [step for step in plan.steps if isinstance(step, AddTarget)]
    assert sorted(add.disk for add in adds) == ["/disks/0", "/disks/1"]
    plan = next_steps(world.table, wanted, chains_at_once=3, targets_at_once_per_disk=100)
    assert sum(isinstance(step, AddTarget) for step in plan.steps) == 3
    _finish(world, wanted, 3)


def test_no_target_is_added_on_a_node_that_is_down_or_stopping() -> None:
    nodes = nodes_of([1, 1, 1, 1])
    world = World(nodes, 3, 3)
    world.down.add(4)
    world.tick()
    [chain_id] = [
        one
        for one, disks in present_assignment(world.table).items()
        if Disk(4, "/disks/0") not in disks
    ]
    disks = present_assignment(world.table)[chain_id]
    wanted = {chain_id: (disks[0], disks[1], Disk(4, "/disks/0"))}
    plan = next_steps(world.table, wanted)
    assert plan.steps == ()
    assert plan.stuck == (f"chain {chain_id} waits for node 4, which is down or stopping",)
    world.down.clear()
    for _ in range(2):
        world.tick()
        world.end_resyncs()
    assert isinstance(next_steps(world.table, wanted).steps[0], AddTarget)
    stopping = (*nodes[:3], msgspec.structs.replace(nodes[3], state=NodeState.STOPPING))
    world.table = msgspec.structs.replace(world.table, nodes=stopping)
    assert next_steps(world.table, wanted).steps == ()


def test_contradictory_wishes_are_refused() -> None:
    world, new = _three()
    first, second, _ = present_assignment(world.table)[1]
    with pytest.raises(InvalidArgumentError, match="chain 7 is not in"):
        next_steps(world.table, {7: (first,)})
    with pytest.raises(InvalidArgumentError, match="node 4 has no disk /other"):
        next_steps(world.table, {1: (first, second, Disk(4, "/other"))})
    with pytest.raises(InvalidArgumentError, match="once"):
        next_steps(world.table, {1: (first, first)})
    with pytest.raises(InvalidArgumentError, match="once"):
        next_steps(world.table, {1: ()})
    draining = (
        *world.table.nodes[:3],
        msgspec.structs.replace(world.table.nodes[3], state=NodeState.DRAINING),
    )
    world.table = msgspec.structs.replace(world.table, nodes=draining)
    with pytest.raises(InvalidArgumentError, match="node 4 is draining"):
        next_steps(world.table, {1: (first, second, new)})
