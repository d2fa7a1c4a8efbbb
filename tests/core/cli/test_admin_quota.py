"""`craqen admin quota` and `craqen admin usage` on a store's metadata."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from craqen.core.cli.main import main
from craqen.core.clock import SystemClock
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.store import Transaction
from craqen.core.meta.accounts import Account, Kind, counter_key
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.core.options import MetaOptions

Work = Callable[[EmbeddedStore, LocalMetaStore], Awaitable[None]]


def with_meta(data: Path, work: Work) -> None:
    async def opened() -> None:
        kv = EmbeddedStore(data / "kv")
        meta = await LocalMetaStore.open(kv, SystemClock(), MetaOptions(), description="test")
        try:
            await work(kv, meta)
        finally:
            await meta.close()
            await kv.close()

    asyncio.run(opened())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a store with two objects in a bucket."""
    (tmp_path / "kv").mkdir()
    monkeypatch.setenv("CRAQEN_DATA_FOLDER", str(tmp_path))

    async def make(kv: EmbeddedStore, meta: LocalMetaStore) -> None:
        await meta.create_bucket("shared", owner="someone", region="r", as_owner=Owner())
        for key, uid in ((b"team/one/a", 4711), (b"b", 0)):
            content = NewContent(100, b"x" * 100)
            await meta.put_object("shared", key, content, ObjectAttributes(), Owner(uid, 1))

    with_meta(tmp_path, make)
    return tmp_path


@pytest.fixture
def admin(data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(line: str, code: int = 0) -> Any:
        assert main(["admin", *line.split(), "--json"]) == code
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    return run


def row(kind: str, name: str, size: int, files: int, **more: object) -> dict[str, object]:
    limits = {"bytes_limit": None, "files_limit": None, "settled": True, "part_bytes": 0}
    return {"kind": kind, "name": name, "bytes": size, "files": files, **limits, **more}


def test_limits_are_set_and_lifted(admin: Callable[..., Any]) -> None:
    admin("quota set bucket shared --bytes 1.5K")
    admin("quota set directory shared/team --files 7")
    admin("quota set user 4711 --bytes 10G --files 3")
    bucket = row("bucket", "shared", 200, 2, bytes_limit=1536)
    folder = row("directory", "shared/team", 100, 1, files_limit=7)
    user = row("user", "4711", 100, 1, bytes_limit=10 << 30, files_limit=3)
    assert admin("quota list") == [bucket, folder, user]
    admin("quota set bucket shared --files 5")  # the other limit stays
    assert admin("quota show bucket shared") == [{**bucket, "files_limit": 5}]
    admin("quota set bucket shared --bytes none")
    assert admin("quota show bucket shared") == [row("bucket", "shared", 200, 2, files_limit=5)]
    for what in ("bucket shared", "directory shared/team", "user 4711"):
        admin(f"quota remove {what}")
        admin(f"quota remove {what}", code=1)
    assert admin("quota list") == []
    admin("quota show directory shared/team", code=1)


def test_what_cannot_be_limited(admin: Callable[..., Any]) -> None:
    for line in (
        "bucket missing --files 1",
        "directory shared/missing --files 1",
        "directory shared/b --files 1",
        "user nobody-of-that-name --files 1",
        "user 0 --files 1",
        "bucket shared",
    ):
        admin(f"quota set {line}", code=1)
    with pytest.raises(SystemExit):
        admin("quota set bucket shared --bytes 10X")


def test_usage_and_recount(
    data: Path, admin: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bucket, user = row("bucket", "shared", 200, 2), row("user", "4711", 100, 1)
    superuser = row("user", "0 (root)", 100, 1)
    assert admin("usage") == [bucket, superuser, user]
    assert admin("usage user") == [superuser, user]
    assert admin("usage user 4711") == [user]
    assert admin("usage bucket shared") == [bucket]

    async def damage(kv: EmbeddedStore, meta: LocalMetaStore) -> None:
        async def add(tx: Transaction) -> None:
            tx.add(counter_key(Account(Kind.USER, 4711), 1, b"b"), 55)

        await kv.transact(add)

    with_meta(data, damage)
    mended = {"kind": "user", "name": "4711", "size_bytes": -55, "objects": 0, "part_bytes": 0}
    assert admin("usage --recount") == {"mended": [mended], "in_use": 0}
    assert admin("usage --recount") == {"mended": [], "in_use": 0}
    assert main(["admin", "usage", "--recount"]) == 0
    assert capsys.readouterr().out == "All counters that could be compared are right.\n"
    assert main(["admin", "usage"]) == 0
    assert "shared" in capsys.readouterr().out
