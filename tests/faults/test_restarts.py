"""Processes are restarted by the book, and lost at the worst moments, under load."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from craqen.tests.faults.hosts import LEASE_SECONDS, Hosts
from craqen.tests.faults.trial import under_load

TOLD_SECONDS = 4 * LEASE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_every_process_is_restarted_by_the_book(hosts: Hosts) -> None:
    """docs/operations.md, "Work on a host": no client is told."""
    hosts.build(managers=3)
    with under_load(hosts) as trial:
        for number in (1, 2, 3):
            hosts.admin("node", "stop", str(number))
            told = hosts.wait_until_told(f"node {number} is shut down by an operator")
            assert told["level"] == 1
            hosts.end(f"node{number}")
            trial.go_on(5)
            hosts.admin("node", "start", str(number))
            hosts.start_again(f"node{number}")
            hosts.wait_until_well()
        primary = hosts.primary()
        managers = [f"manager{number}" for number in (1, 2, 3)]
        for name in sorted(managers, key=lambda one: one == primary):
            hosts.end(name)
            trial.go_on(5)
            hosts.start_again(name)
            hosts.wait_until_well()
        for name in ("gateway1", "gateway2"):
            hosts.end(name)
            trial.go_on(5)
            hosts.start_again(name)


def test_the_primary_manager_hangs(hosts: Hosts) -> None:
    """Another takes its place; when it wakes up, it has nothing to say."""
    hosts.build()
    with under_load(hosts) as trial:
        primary = hosts.primary()
        os.kill(hosts.processes[primary].process_id, signal.SIGSTOP)
        hosts.wait_until_told("manager at", seconds=TOLD_SECONDS)
        trial.go_on(20)
        os.kill(hosts.processes[primary].process_id, signal.SIGCONT)
        trial.go_on(10)
        assert hosts.primary() != primary


def test_a_node_is_lost_while_another_is_filled(hosts: Hosts) -> None:
    hosts.build()
    with under_load(hosts, mounted=True) as trial:
        # So slow that the second loss comes while it is filled.
        hosts.admin("config", "set", "storage.resync_mebibytes_per_second", "0.5")
        hosts.kill("node1")
        hosts.wait_until_told("node 1 was last heard", seconds=TOLD_SECONDS)
        trial.go_on(20)
        hosts.start_node(1)
        hosts.wait_until_told("is being filled")
        hosts.kill("node2")
        told = hosts.wait_until_told("node 2 was last heard", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        assert told["chains"]["reduced"] == told["chains"]["all"]
        trial.go_on(10)
        hosts.admin("config", "set", "storage.resync_mebibytes_per_second", "0")
        hosts.start_node(2)


def test_the_disk_of_a_node_comes_back_empty(hosts: Hosts) -> None:
    """An empty folder looks like a disk that is not mounted: nothing is made in it until an
    operator says so."""
    hosts.build()
    with under_load(hosts) as trial:
        hosts.kill("node3")
        for path in hosts.disk(3).iterdir():
            shutil.rmtree(path)
        trial.go_on(10)
        wait = hosts.begin_node(3)
        with pytest.raises(AssertionError, match="mount its disk"):
            wait()
        told = hosts.wait_until_told("node 3 was last heard", seconds=TOLD_SECONDS)
        assert told["level"] == 1
        trial.go_on(5)
        for row in hosts.ask("targets"):
            if row["node"] == 3:
                hosts.admin("target", "replace", str(row["target"]))
        hosts.start_node(3)
