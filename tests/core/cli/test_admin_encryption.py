"""``craqen admin encryption-key`` as an operator uses it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from craqen.core.cli.main import main
from craqen.core.kv.embedded import EmbeddedStore


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


def test_keys_are_checked_and_wrapped_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "craqen.yaml"
    path.write_text(f"data_folder: {tmp_path}\n")
    (tmp_path / "kv").mkdir()

    async def make() -> None:
        await EmbeddedStore(tmp_path / "kv").close()

    asyncio.run(make())

    def run(*words: str) -> tuple[int, str]:
        code = main(["admin", "encryption-key", *words, "--config", str(path)])
        return code, capsys.readouterr().out

    assert run("check", "photos")[0] == 1
    run("create", "photos")
    assert run("check", "photos") == (0, "key photos wraps and unwraps\n")
    code, said = run("rewrap", "--json")
    assert code == 0
    assert json.loads(said)["rewrapped"] == 0
    assert "0 keys wrapped anew" in run("rewrap", "--key", "photos", "--to", "photos")[1]
    assert run("rewrap", "--to", "nobody")[0] == 1
