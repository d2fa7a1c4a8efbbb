"""``craqen bench kv`` with a short work list."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from craqen.core.bench import kv
from craqen.core.errors import UnavailableError
from craqen.core.kv.embedded import EmbeddedStore


def test_the_work_list_runs_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kv, "ROWS", 4000)
    monkeypatch.setattr(kv, "APPENDS", 5)
    monkeypatch.setattr(kv, "COMMITS_BY_IN_FLIGHT", {1: 5, 16: 32})
    monkeypatch.setattr(kv, "READS", 4000)
    monkeypatch.setattr(kv, "RANGES", 60)
    monkeypatch.setattr(kv.Bench, "processes", lambda self, folder: None)
    assert kv.main(["--runs", "1", "--folder", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for row in ("commit, 1 in flight", "commit, 16 in flight", "read of 3 keys", "1,000 rows"):
        assert f"{row} | " in text
    assert list(tmp_path.iterdir()) == []


def test_two_processes_commit_all_they_are_given(tmp_path: Path) -> None:
    async def prepare() -> None:
        store = EmbeddedStore(tmp_path / "kv")
        await kv.fill(store)
        await store.close()

    asyncio.run(prepare())
    sample = kv.write_from_processes(tmp_path / "kv", 2)
    assert sample.operations == 2 * kv.WRITER_COMMITS
    assert sample.cpu_seconds > 0


def test_a_writer_that_cannot_open_the_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="died"):
        kv.write_from_processes(tmp_path / "file", 1)
