"""A node stops serving before its manager may declare it dead, whatever their clocks do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from craqen.core.cluster.membership import Membership
from craqen.core.cluster.messages import HeartbeatRequest
from craqen.core.cluster.records import NodeRecord, RoutingTable
from craqen.core.storage.lease import NodeLease

LEASE_SECONDS = 4.0
NODES = (NodeRecord(1, (), ""),)


def test_it_begins_without_a_right_to_serve() -> None:
    assert not NodeLease().holds(0.0)


def test_it_counts_from_when_the_heartbeat_was_sent() -> None:
    lease = NodeLease()
    lease.renewed(10.0, LEASE_SECONDS)
    assert lease.holds(11.99)
    assert not lease.holds(12.0)
    lease.renewed(9.0, LEASE_SECONDS)  # an answer that was late takes nothing away
    assert lease.holds(11.99)


@given(
    st.floats(0.67, 1.5),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0)), max_size=8),
    st.floats(0.0, 8.0),
)
def test_who_may_serve_is_alive_for_the_manager(
    rate: float, beats: list[tuple[float, float, float]], at: float
) -> None:
    """Heartbeats (pause, time to the manager, time back) by the manager's clock; the node's clock
    runs at *rate* of it and from another start."""
    lease = NodeLease()
    membership = Membership(RoutingTable(1, "cluster", NODES), LEASE_SECONDS, 0.0)
    sent = answered = 0.0
    for number, (pause, there, back) in enumerate(beats, start=1):
        sent = answered + pause
        came, answered = sent + there, sent + there + back
        _ticks(membership, came)
        request = HeartbeatRequest("cluster", 1, 5, number, 1)
        if membership.heartbeat(request, came).accepted:
            lease.renewed(1000.0 + rate * sent, LEASE_SECONDS)
    now = answered + at
    _ticks(membership, now)
    if lease.holds(1000.0 + rate * now):
        assert membership.alive(1)


def _ticks(membership: Membership, until: float) -> None:
    tick = membership._ticked
    while tick + LEASE_SECONDS / 16 < until:
        tick += LEASE_SECONDS / 16
        membership.tick(tick)
    membership.tick(max(until, tick))
