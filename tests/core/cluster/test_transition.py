"""The transition of a chain: every row of its table, and random lives held against a model of what
each target has."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.cluster.records import ChainRecord, ChainTarget, LocalState, PublicState
from craqen.core.cluster.transition import has_server, next_chain, settled_chain

UP, ON, OFF = LocalState.UP_TO_DATE, LocalState.ONLINE, LocalState.OFFLINE
SERVING, SYNCING, WAITING = PublicState.SERVING, PublicState.SYNCING, PublicState.WAITING
LAST, OFFLINE = PublicState.LAST_SERVER, PublicState.OFFLINE

ORDER = [SERVING, LAST, SYNCING, WAITING, OFFLINE]


def chain(*targets: tuple[int, PublicState], version: int = 7) -> ChainRecord:
    return ChainRecord(5, version, tuple(ChainTarget(*target) for target in targets), (1, 2, 3))


def shape(record: ChainRecord) -> list[tuple[int, PublicState]]:
    return [(target.target_id, target.state) for target in record.targets]


@pytest.mark.parametrize("present", [SERVING, SYNCING, LAST])
def test_up_to_date_serves(present: PublicState) -> None:
    assert shape(next_chain(chain((1, present)), {1: UP})) == [(1, SERVING)]


@pytest.mark.parametrize("present", [WAITING, OFFLINE])
@pytest.mark.parametrize("with_server", [False, True])
def test_up_to_date_waits_for_its_turn(present: PublicState, with_server: bool) -> None:
    record = chain((2, SERVING if with_server else LAST), (1, present))
    local = {1: UP, 2: ON if with_server else OFF}
    assert shape(next_chain(record, local))[1] == (1, WAITING)


@pytest.mark.parametrize("present", [SERVING, LAST])
def test_online_server_serves(present: PublicState) -> None:
    assert shape(next_chain(chain((1, present)), {1: ON})) == [(1, SERVING)]


@pytest.mark.parametrize("present", [SYNCING, WAITING])
def test_online_syncs_behind_a_server(present: PublicState) -> None:
    record = chain((2, SERVING), (1, present))
    assert shape(next_chain(record, {1: ON, 2: ON})) == [(2, SERVING), (1, SYNCING)]


@pytest.mark.parametrize("present", [SYNCING, WAITING])
def test_online_waits_without_a_server(present: PublicState) -> None:
    before = SERVING if present is SYNCING else LAST
    record = chain((2, before), (1, present))
    assert shape(next_chain(record, {1: ON, 2: OFF})) == [(2, LAST), (1, WAITING)]


@pytest.mark.parametrize("server", [ON, OFF])
def test_online_offline_waits(server: LocalState) -> None:
    record = chain((2, SERVING), (1, OFFLINE))
    assert shape(next_chain(record, {1: ON, 2: server}))[1] == (1, WAITING)


def test_lost_only_server_is_the_last() -> None:
    assert shape(next_chain(chain((1, SERVING)), {1: OFF})) == [(1, LAST)]
    assert shape(next_chain(chain((1, SERVING)), {})) == [(1, LAST)]


def test_lost_server_beside_another_is_offline_at_the_end() -> None:
    record = chain((1, SERVING), (2, SERVING), (3, OFFLINE))
    assert shape(next_chain(record, {2: ON})) == [(2, SERVING), (3, OFFLINE), (1, OFFLINE)]


@pytest.mark.parametrize("present", [SYNCING, WAITING, OFFLINE])
def test_lost_others_are_offline(present: PublicState) -> None:
    record = chain((2, SERVING), (1, present))
    assert shape(next_chain(record, {2: ON})) == [(2, SERVING), (1, OFFLINE)]


def test_lost_last_server_stays_the_last() -> None:
    record = chain((1, LAST))
    assert next_chain(record, {}) is record


def test_servers_lost_together_are_all_last() -> None:
    record = chain((1, SERVING), (2, SERVING), (3, SYNCING))
    assert shape(next_chain(record, {3: ON})) == [(1, LAST), (2, LAST), (3, WAITING)]


def test_first_last_server_back_serves_and_the_others_are_behind() -> None:
    record = chain((1, LAST), (2, LAST), (3, WAITING))
    back = next_chain(record, {2: ON, 3: ON})
    assert shape(back) == [(2, SERVING), (3, SYNCING), (1, OFFLINE)]
    assert shape(next_chain(back, {1: ON, 2: ON, 3: ON}))[2] == (1, WAITING)


def test_last_servers_back_together_all_serve_in_their_order() -> None:
    record = chain((1, LAST), (2, LAST), (3, LAST))
    local = {1: ON, 2: UP}
    assert shape(next_chain(record, local)) == [(1, SERVING), (2, SERVING), (3, OFFLINE)]


def test_last_server_beside_a_server_missed_updates() -> None:
    record = chain((1, SERVING), (2, LAST), (3, LAST))
    assert shape(next_chain(record, {1: ON, 2: ON})) == [(1, SERVING), (2, WAITING), (3, OFFLINE)]


def test_synced_target_takes_over_from_a_server_lost_in_the_same_step() -> None:
    record = chain((1, SERVING), (2, SYNCING), (3, WAITING))
    assert shape(next_chain(record, {2: UP, 3: ON})) == [
        (2, SERVING),
        (3, SYNCING),
        (1, OFFLINE),
    ]


def test_one_syncs_at_a_time_and_keeps_its_turn() -> None:
    record = chain((1, SERVING), (3, WAITING), (2, SYNCING), (4, WAITING))
    local = {1: ON, 2: ON, 3: ON, 4: ON}
    assert shape(next_chain(record, local)) == [
        (1, SERVING),
        (2, SYNCING),
        (3, WAITING),
        (4, WAITING),
    ]


def test_nothing_new_is_the_same_record() -> None:
    record = chain((1, SERVING), (2, SYNCING), (3, WAITING), (4, OFFLINE))
    assert next_chain(record, {1: UP, 2: ON, 3: ON}) is record
    assert settled_chain(record, {1: UP, 2: ON, 3: ON}) is record


def test_change_keeps_id_and_preferred_order_and_counts_one() -> None:
    changed = next_chain(chain((1, SERVING), (2, SERVING)), {2: ON})
    assert (changed.chain_id, changed.version, changed.preferred) == (5, 8, (1, 2, 3))


def test_settling_takes_all_steps_in_one_version() -> None:
    record = chain((1, SERVING), (2, OFFLINE))
    settled = settled_chain(record, {1: ON, 2: ON})
    assert (shape(settled), settled.version) == ([(1, SERVING), (2, SYNCING)], 8)
    # What was brought in by a step before is not promoted by what its node said before that step.
    assert shape(settled_chain(record, {1: ON, 2: UP})) == [(1, SERVING), (2, WAITING)]


local_states = st.sampled_from([UP, ON, OFF])


@st.composite
def any_chain(draw: st.DrawFn) -> ChainRecord:
    """Chains of any states, also such as never come to be."""
    states = draw(st.lists(st.sampled_from(list(PublicState)), min_size=1, max_size=6))
    return chain(*enumerate(states, start=1))


@settings(deadline=None)
@given(any_chain(), st.lists(local_states, min_size=6, max_size=6))
def test_any_chain_gets_into_shape(record: ChainRecord, reported: list[LocalState]) -> None:
    local = dict(enumerate(reported, start=1))
    following = next_chain(record, local)
    assert following.version == record.version + (following is not record)
    assert (following == record) == (following is record)
    assert {one.target_id for one in following.targets} == {one.target_id for one in record.targets}
    states = [target.state for target in following.targets]
    assert states == sorted(states, key=ORDER.index)
    assert states.count(SYNCING) <= 1
    if has_server(record) or LAST in [target.state for target in record.targets]:
        assert (SERVING in states) != (LAST in states)
    settled = settled_chain(record, local)
    assert next_chain(settled, local) is settled
    assert settled.version == record.version + (settled is not record)


@dataclass
class Life:
    """One chain and what is really on its targets' disks.

    A write takes effect where it gets to; it is acknowledged if every target that takes part in the
    chain's present version got it.
    """

    record: ChainRecord
    running: dict[int, bool]
    holds: dict[int, set[int]]
    synced_under: dict[int, int] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    writes: int = 0

    def write(self) -> None:
        self.writes += 1
        part = [one.target_id for one in self.record.targets if one.state in (SERVING, SYNCING)]
        for target_id in part:
            if not self.running[target_id]:
                return
            self.holds[target_id].add(self.writes)
        if has_server(self.record):
            self.acknowledged.add(self.writes)

    def sync(self) -> None:
        """The resync behind the last serving target comes to its end."""
        previous: ChainTarget | None = None
        for target in self.record.targets:
            if target.state is SYNCING and previous is not None:
                if self.running[target.target_id] and self.running[previous.target_id]:
                    assert previous.state is SERVING
                    self.holds[target.target_id] = set(self.holds[previous.target_id])
                    self.synced_under[target.target_id] = self.record.version
            previous = target

    def local(self) -> dict[int, LocalState]:
        """What the manager counts: as ``membership`` does, a sync under an old version is void."""
        local: dict[int, LocalState] = {}
        for target_id, runs in self.running.items():
            synced = self.synced_under.get(target_id) == self.record.version
            local[target_id] = OFF if not runs else UP if synced else ON
        return local

    def step(self, *, settle: bool) -> None:
        before, local = self.record, self.local()
        self.record = (settled_chain if settle else next_chain)(before, local)
        self.check(before, local)

    def check(self, before: ChainRecord, local: dict[int, LocalState]) -> None:
        after = self.record
        assert after.version == before.version + (after is not before)
        assert (after == before) == (after is before)
        states = [target.state for target in after.targets]
        assert states == sorted(states, key=ORDER.index)
        assert states.count(SYNCING) <= 1
        assert (SERVING in states) != (LAST in states)
        for target in after.targets:
            if target.state in (SERVING, LAST):
                assert self.acknowledged <= self.holds[target.target_id]
        able = {
            target.target_id
            for target in before.targets
            if local[target.target_id] is not OFF
            and (
                target.state in (SERVING, LAST)
                or (target.state is SYNCING and local[target.target_id] is UP)
            )
        }
        assert {one.target_id for one in after.targets if one.state is SERVING} == able
        was_offline = [one.target_id for one in before.targets if one.state is OFFLINE]
        offline = [one.target_id for one in after.targets if one.state is OFFLINE]
        newly = [target_id for target_id in offline if target_id not in was_offline]
        assert offline == [one for one in was_offline if one in offline] + newly

    def heal(self) -> None:
        """Everybody runs and reports properly: the chain is whole again after few steps."""
        for target_id in self.running:
            self.running[target_id] = True
        for _ in range(4 * len(self.running)):
            self.step(settle=False)
            self.sync()
        assert all(target.state is SERVING for target in self.record.targets)
        rested = self.record
        self.step(settle=False)
        assert self.record is rested


steps = st.lists(
    st.tuples(
        st.sampled_from(["stop", "start", "write", "write", "sync", "manager", "settle"]),
        st.integers(1, 5),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5), steps)
def test_no_life_of_a_chain_loses_what_was_acknowledged(
    length: int, events: list[tuple[str, int]]
) -> None:
    ids = range(1, length + 1)
    life = Life(
        chain(*((number, SERVING) for number in ids)),
        dict.fromkeys(ids, True),
        {number: set() for number in ids},
    )
    for event, number in events:
        target_id = 1 + number % length
        if event in ("stop", "start"):
            life.running[target_id] = event == "start"
        elif event == "write":
            life.write()
        elif event == "sync":
            life.sync()
        else:
            life.step(settle=event == "settle")
    life.heal()
    assert all(life.acknowledged <= held for held in life.holds.values())
