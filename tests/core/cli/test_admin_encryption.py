"""``craqen admin encryption-key`` as an operator uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craqen.core.cli.main import main


def test_the_life_of_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "craqen.yaml"
    path.write_text(f"data_folder: {tmp_path}\n")

    def run(*words: str) -> tuple[int, str]:
        code = main(["admin", "encryption-key", *words, "--config", str(path)])
        return code, capsys.readouterr().out

    assert run("list", "--json") == (0, "[]\n")
    code, said = run("create", "photos")
    assert code == 0
    assert str(tmp_path / "keys.yaml") in said  # what to keep a copy of
    assert run("create", "photos")[0] == 1
    assert "version 2" in run("rotate", "photos")[1]
    run("disable", "photos")
    (key,) = json.loads(run("list", "--json")[1])
    assert (key["id"], key["versions"], key["disabled"]) == ("photos", 2, True)
    assert "disabled" in run("list")[1]
    run("enable", "photos")
    assert not json.loads(run("list", "--json")[1])[0]["disabled"]
    assert run("rotate", "nobody")[0] == 1
