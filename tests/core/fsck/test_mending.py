"""Which replica is right, where they differ."""

from __future__ import annotations

from craqen.core.cluster.records import RoutingTable, TargetRecord
from craqen.core.cluster.routing import Routing
from craqen.core.fsck.mending import refill_commands, right_target


def test_the_highest_version_counts() -> None:
    assert right_target({1: (3, 7, 10), 2: (4, 8, 10), 3: None}) == 2
    assert right_target({1: None, 2: (1, 8, 10)}) == 2
    assert right_target({1: (4, 8, 10), 2: (3, 9, 10), 3: (4, 8, 10)}) == 1


def test_one_version_with_two_contents_cannot_be_told() -> None:
    assert right_target({1: (4, 8, 10), 2: (4, 9, 10), 3: (3, 1, 1)}) is None
    assert right_target({1: (4, 8, 10), 2: (4, 8, 11)}) is None
    assert right_target({1: None}) is None


def test_the_commands_name_the_disk() -> None:
    table = RoutingTable(1, "c", (), (TargetRecord(7, 2, "/srv/disk1/target-7"),), ())
    told = refill_commands(Routing(table), 5, 7)
    assert "craqen admin target remove 7 --force" in told
    assert "craqen admin target add 5 2 /srv/disk1`" in told
