"""``craqen bench placement`` on a small cluster."""

from __future__ import annotations

import pytest

from craqen.core.bench import placement
from craqen.core.cli.main import main


def test_the_table_says_what_was_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "UNEQUAL_NODES", 6)
    words = ["bench", "placement", "--nodes", "13", "--disks", "1", "--targets", "6"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "| 13 nodes, 13 disks, 6 targets each: a disk is lost" in text
    assert "1.00 (design; no placement is more even)" in text
    assert "one node added: targets copied" in text
    assert "**missed**" not in text


def test_a_bound_that_is_missed_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "UNEQUAL_NODES", 6)
    monkeypatch.setattr(placement, "RATIO_MAX", 0.5)
    assert placement.main(["--nodes", "4", "--disks", "1"]) == 1
    assert "**missed**" in capsys.readouterr().out
