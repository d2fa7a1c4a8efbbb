"""Disks become full, or fail, under load. Only what lies on them is touched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from craqen.tests.faults.conditions import require
from craqen.tests.faults.disks import FailingDisk, failing_disk, small_disk
from craqen.tests.faults.hosts import LEASE_SECONDS, Hosts
from craqen.tests.faults.trial import under_load

SMALL_MEBIBYTES = 600
FULL = "InsufficientStorage"
TOLD_SECONDS = 4 * LEASE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_disk_of_a_node_is_full(hosts: Hosts) -> None:
    """Writes that need space are refused, and say why; all the rest goes on."""
    with small_disk(hosts.disk(1), SMALL_MEBIBYTES) as disk:
        try:
            hosts.build()
            with under_load(hosts) as trial:
                trial.allow(FULL)
                disk.fill()
                told = hosts.wait_until_told("node 1, disk", "left", seconds=TOLD_SECONDS)
                assert told["level"] == 1
                hosts.wait_until(lambda: bool(trial.record.refused), "writes are refused")
                trial.go_on(20)
                trial.read_all()
                disk.relieve()
                trial.go_on_until_taken()
            assert all(FULL in one for one in trial.record.refused)
        finally:
            hosts.end_all()


@pytest.fixture
def failing(hosts: Hosts, tmp_path: Path) -> Iterator[FailingDisk]:
    """The second disk of node 1, in a store with two disks per node."""
    require(["disk"])
    with failing_disk(hosts.disk(1, 2), tmp_path / "failing") as disk:
        try:
            hosts.build(disks=2)
            yield disk
        finally:
            hosts.end_all()


def _targets_of(hosts: Hosts, disk: Path) -> list[dict[str, Any]]:
    return [row for row in hosts.ask("targets") if row["disk"] == str(disk)]


def _is_out(hosts: Hosts, number: int) -> bool:
    """Whether the target serves no more."""
    return any(
        row["target"] == number and row["state"] == "offline" for row in hosts.ask("targets")
    )


@pytest.mark.parametrize("what", ["r", "w"], ids=["reads", "writes"])
def test_one_disk_fails_and_is_replaced(hosts: Hosts, failing: FailingDisk, what: str) -> None:
    with under_load(hosts) as trial:
        trial.go_on(20)
        failing.fail(what)
        hosts.wait_until(
            lambda: any(row["error"] for row in _targets_of(hosts, failing.folder)),
            "a target says that its disk fails",
        )
        told = hosts.wait_until_told("node 1", str(failing.folder), seconds=TOLD_SECONDS)
        assert told["level"] == 1
        assert told["chains"]["without_server"] == 0
        assert {row["state"] for row in _targets_of(hosts, hosts.disk(1, 1))} == {"serving"}
        trial.go_on(20)
        for row in _targets_of(hosts, failing.folder):
            number = int(row["target"])
            hosts.wait_until(partial(_is_out, hosts, number), f"target {number} leaves")
            disk = str(hosts.disk(1, 1))
            hosts.admin("target", "replace", str(number), "--disk", disk)


def test_one_disk_fails_and_is_mended(hosts: Hosts, failing: FailingDisk) -> None:
    with under_load(hosts) as trial:
        trial.go_on(20)
        failing.fail("x")
        hosts.wait_until_told("node 1", str(failing.folder))
        assert {row["state"] for row in _targets_of(hosts, hosts.disk(1, 1))} == {"serving"}
        trial.go_on(10)
        hosts.admin("node", "stop", "1")
        hosts.kill("node1")
        failing.mend()
        failing.unmount()
        failing.check()
        failing.mount()
        hosts.admin("node", "start", "1")
        hosts.start_node(1)
