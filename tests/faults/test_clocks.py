"""The wall clock of one host jumps, by hours, both ways, under load. Leases count on monotonic
clocks; what is left to see are times of files."""

from __future__ import annotations

import pytest

from craqen.core.client.reclaim import ORPHAN_HUNT_SECONDS
from craqen.tests.faults.hosts import Hosts
from craqen.tests.faults.trial import under_load

HOURS = 3600.0
JUMPS = (2 * HOURS, -2 * HOURS, 0.0)
HOLD_SECONDS = ORPHAN_HUNT_SECONDS + 5
"""For how long a jump lasts: within it, the manager looks at least once for clients that are
gone."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", ["node1", "manager", "mount"])
def test_a_clock_jumps(hosts: Hosts, name: str) -> None:
    names = ["manager1", "manager2"] if name == "manager" else [name]
    for one in names:
        hosts.own_clock(one)
    hosts.build()
    with under_load(hosts, mounted=name == "mount") as trial:
        for seconds in JUMPS:
            for one in names:
                hosts.shift_clock(one, seconds)
            trial.go_on_for(HOLD_SECONDS)
            assert all(hosts.running(one) for one in hosts.processes)


def test_the_clock_of_a_gateway_jumps(hosts: Hosts) -> None:
    """It refuses requests that were signed at another time than it has, and does nothing else."""
    for one in ("gateway1", "gateway2"):
        hosts.own_clock(one)
    hosts.build()
    with under_load(hosts) as trial:
        for seconds in JUMPS:
            trial.allow("RequestTimeTooSkewed")
            for one in ("gateway1", "gateway2"):
                hosts.shift_clock(one, seconds)
            trial.go_on_for(HOLD_SECONDS)
            assert all(hosts.running(one) for one in hosts.processes)
    assert trial.record.refused
