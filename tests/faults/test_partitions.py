"""The network between hosts fails, under load."""

from __future__ import annotations

import pytest

from craqen.tests.faults.conditions import BAD_LINE, SLOW_LINE, require
from craqen.tests.faults.hosts import LEASE_SECONDS, Hosts
from craqen.tests.faults.trial import under_load

TOLD_SECONDS = 4 * LEASE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_node_is_cut_off_from_all(hosts: Hosts) -> None:
    hosts.build()
    with under_load(hosts, mounted=True) as trial:
        hosts.network.isolate("node2")
        told = hosts.wait_until_told("node 2 was last heard", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        assert told["chains"]["without_server"] == 0
        trial.go_on(20)
        hosts.network.heal()


def test_a_node_is_cut_off_from_the_managers_only(hosts: Hosts) -> None:
    """It hears its peers and clients, who may hear it: it must not answer them."""
    hosts.build()
    with under_load(hosts) as trial:
        hosts.network.part(["node1"], ["manager1", "manager2"])
        told = hosts.wait_until_told("node 1 was last heard", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        trial.go_on(30)
        hosts.network.heal()


def test_the_primary_manager_is_cut_off_from_the_nodes(hosts: Hosts) -> None:
    """It reaches the metadata still, so that its lease does not run out."""
    hosts.build()
    with under_load(hosts) as trial:
        primary = hosts.primary()
        hosts.network.part([primary], ["node1", "node2", "node3"])
        hosts.wait_until(lambda: hosts.primary() != primary, "another manager leads", TOLD_SECONDS)
        trial.go_on(30)
        hosts.network.heal()


def test_a_host_with_a_manager_is_cut_off_from_all(hosts: Hosts) -> None:
    hosts.build()
    with under_load(hosts) as trial:
        hosts.network.isolate(hosts.primary())
        trial.go_on(30)
        hosts.network.heal()


def test_two_nodes_do_not_reach_each_other(hosts: Hosts) -> None:
    """The managers, the clients and the third node reach both. Chains in which one follows the
    other go on without one of them, and do not try again and again while the line is cut."""
    hosts.build()
    with under_load(hosts) as trial:
        hosts.network.part(["node1"], ["node2"])
        told = hosts.wait_until_told("nodes 1 and 2 do not reach each other", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        assert told["chains"]["without_server"] == 0
        trial.go_on(20)
        hosts.wait_until(
            lambda: not hosts.ask("status")["targets"]["syncing"], "nobody is being filled"
        )
        settled = hosts.ask("status")
        trial.go_on_for(4 * LEASE_SECONDS)
        assert hosts.ask("status")["table_version"] == settled["table_version"]
        hosts.network.heal()


def test_a_node_reaches_no_other_though_the_managers_hear_it(hosts: Hosts) -> None:
    """It leaves every chain, at whichever place, and the two others serve."""
    hosts.build()
    with under_load(hosts) as trial:
        hosts.network.part(["node1"], ["node2", "node3"])
        hosts.wait_until_told("nodes 1 and 2 do not reach each other", seconds=TOLD_SECONDS)
        told = hosts.wait_until_told("nodes 1 and 3 do not reach each other", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        trial.go_on(30)
        states = {row["state"] for row in hosts.ask("targets") if row["node"] != 1}
        assert states == {"serving"}
        hosts.network.heal()


@pytest.mark.parametrize("lost", ["sent", "received"])
def test_one_direction_is_lost(hosts: Hosts, lost: str) -> None:
    """A node speaks and hears nothing, or hears and is not heard."""
    hosts.build()
    others = [name for name in hosts.network.hosts if name != "node3"]
    with under_load(hosts) as trial:
        if lost == "sent":
            hosts.network.cut(["node3"], others)
        else:
            hosts.network.cut(others, ["node3"])
        told = hosts.wait_until_told("node 3 was last heard", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        trial.go_on(30)
        hosts.network.heal()


def test_lines_are_slow(hosts: Hosts) -> None:
    """16 Mbit/s: packets queue up, and are lost where the queue ends."""
    hosts.build()
    with under_load(hosts, longest_seconds=None) as trial:
        for name in ("node1", "node2", "gateway"):
            hosts.network.shape(name, *SLOW_LINE)
        trial.go_on(10)
        for name in ("node1", "node2", "gateway"):
            hosts.network.unshape(name)


def test_the_lines_delay_and_lose(hosts: Hosts) -> None:
    require(["netem"])
    hosts.build()
    with under_load(hosts, longest_seconds=None) as trial:
        for name in ("node1", "node2", "gateway"):
            hosts.network.shape(name, *BAD_LINE)
        trial.go_on(30)
        for name in ("node1", "node2", "gateway"):
            hosts.network.unshape(name)
