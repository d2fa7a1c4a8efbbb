"""Options that all benchmarks share."""

from __future__ import annotations

import argparse

import pytest

from craqen.core.bench.measure import add_runs


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "1.5", ""])
def test_runs_are_counted_from_one(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench")
    add_runs(parser)
    assert parser.parse_args([]).runs == 3
    assert parser.parse_args(["--runs", "7"]).runs == 7
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([f"--runs={wrong}"])
    assert ended.value.code == 2
    assert "expected a whole number from 1 on" in capsys.readouterr().err
