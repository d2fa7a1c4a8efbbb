"""`craqen admin bucket` on a store's metadata."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from craqen.core.access.modes import ACCESS_MODE_ASPECT
from craqen.core.cli.main import main
from craqen.core.clock import SystemClock
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import Owner
from craqen.core.options import MetaOptions


async def _with_meta(data: Path, work: Any) -> Any:
    kv = EmbeddedStore(data / "kv")
    try:
        meta = await LocalMetaStore.open(kv, SystemClock(), MetaOptions(), description="test")
        try:
            return await work(meta)
        finally:
            await meta.close()
    finally:
        await kv.close()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a store with one bucket."""
    (tmp_path / "kv").mkdir()
    monkeypatch.setenv("CRAQEN_DATA_FOLDER", str(tmp_path))

    async def make(meta: LocalMetaStore) -> None:
        await meta.create_bucket("shared", owner="someone", region="r", as_owner=Owner())

    asyncio.run(_with_meta(tmp_path, make))
    return tmp_path


def test_who_decides(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def admin(line: str) -> Any:
        assert main(["admin", *line.split(), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    unset = {"bucket": "shared", "mode": "both", "as_configured": True}
    assert admin("bucket mode shared") == unset
    for mode in ("posix", "policy", "both"):
        assert admin(f"bucket mode shared {mode}") == {
            **unset,
            "mode": mode,
            "as_configured": False,
        }

        async def stored(meta: LocalMetaStore) -> bytes | None:
            return await meta.get_bucket_setting("shared", ACCESS_MODE_ASPECT)

        assert asyncio.run(_with_meta(data, stored)) == mode.encode()
    assert admin("bucket list") == [
        {"bucket": "shared", "owner": "someone", "mode": "both", "as_configured": False}
    ]
    assert admin("bucket mode shared as-configured") == unset
    assert main(["admin", "bucket", "mode", "shared"]) == 0
    assert capsys.readouterr().out == "shared: both (gateway.access_mode)\n"
    assert main(["admin", "bucket", "mode", "missing", "posix"]) == 1
    assert "missing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["admin", "bucket", "mode", "shared", "everybody"])
