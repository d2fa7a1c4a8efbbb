"""`craqen admin lifecycle` on a store's metadata."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from craqen.core.cli.main import main
from craqen.core.clock import SystemClock
from craqen.core.keeper.lifecycle import LifecycleDuty
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.lifecycle.records import ASPECT, Filter, Lifecycle, Rule, encode_lifecycle
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.core.options import LifecycleOptions, MetaOptions

LATER = "2100-01-01T00:00:00Z"
RULES = Lifecycle((Rule("old logs", True, Filter("logs/"), expiration_days=30),))


def with_meta(data: Path, work: Any) -> Any:
    async def run() -> Any:
        kv = EmbeddedStore(data / "kv")
        meta = await LocalMetaStore.open(kv, SystemClock(), MetaOptions(), description="test")
        try:
            return await work(kv, meta)
        finally:
            await meta.close()
            await kv.close()

    return asyncio.run(run())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a store with two buckets, one of them with rules."""
    (tmp_path / "kv").mkdir()
    monkeypatch.setenv("CRAQEN_DATA_FOLDER", str(tmp_path))

    async def make(kv: EmbeddedStore, meta: LocalMetaStore) -> None:
        for name in ("ruled", "plain"):
            await meta.create_bucket(name, owner="someone", region="r", as_owner=Owner())
        await meta.set_bucket_setting("ruled", ASPECT, encode_lifecycle(RULES))
        for key in (b"logs/a", b"logs/b", b"kept"):
            content = NewContent(3, b"abc")
            await meta.put_object("ruled", key, content, ObjectAttributes(), Owner())

    with_meta(tmp_path, make)
    return tmp_path


def admin(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["admin", "lifecycle", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def keys(data: Path) -> list[bytes]:
    async def work(kv: EmbeddedStore, meta: LocalMetaStore) -> list[bytes]:
        return [entry.key for entry in (await meta.list_objects("ruled")).entries]

    found: list[bytes] = with_meta(data, work)
    return found


def test_a_dry_run_then_a_run(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = admin(capsys, "run", "--bucket", "ruled")
    assert (found["objects"], found["scanned"], found["ended"]) == (0, 2, [])
    line = ["run", "--bucket", "ruled", "--now", LATER]
    found = admin(capsys, *line, "--dry-run", "--list", "1")
    one = {
        "kind": "object", "key": "logs/a", "version_id": "", "size_bytes": 3,
        "rule_id": "old logs",
    }  # fmt: skip
    assert (found["dry_run"], found["now"], found["ended"]) == (True, LATER, [one])
    assert (found["objects"], found["size_bytes"], found["not_listed"]) == (2, 6, 1)
    assert len(keys(data)) == 3
    assert main(["admin", "lifecycle", *line, "--list", "1"]) == 0
    said = capsys.readouterr().out
    assert "logs/a" in said
    assert "… and 1 more" in said
    assert "2 objects" in said
    assert keys(data) == [b"kept"]


def test_status_tells_of_the_keepers_passes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin(capsys, "status") == []
    assert main(["admin", "lifecycle", "status"]) == 0
    assert "no keeper" in capsys.readouterr().out
    began = int(time.time())

    async def work(kv: EmbeddedStore, meta: LocalMetaStore) -> None:
        await LifecycleDuty(kv, meta, LifecycleOptions()).run_once(began * 10**9)

    with_meta(data, work)
    (found,) = admin(capsys, "status")
    assert (found["bucket"], found["scanned"], found["position"]) == ("ruled", 2, "")
    assert found["began"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    assert found["finished"] >= found["began"]
    assert main(["admin", "lifecycle", "status"]) == 0
    assert "ruled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--bucket", "plain"], 1, "no lifecycle rules"),
        (["--bucket", "none"], 1, "does not exist"),
        (["--bucket", "ruled", "--now", "soon"], 2, "2030-01-31T12:00:00Z"),
    ],
)
def test_what_it_cannot_do(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    try:
        found = main(["admin", "lifecycle", "run", *words])
    except SystemExit as error:
        found = int(error.code or 0)
    assert found == code
    assert said in capsys.readouterr().err
