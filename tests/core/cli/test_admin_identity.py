"""`craqen admin account|user|group|role|key|policy` on a store's metadata."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from craqen.core.cli.main import main
from craqen.core.clock import SystemClock
from craqen.core.identity.credentials import Credentials
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.core.identity.store import IdentityStore
from craqen.core.kv.embedded import EmbeddedStore

TRUST = '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}'
POLICY = '{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a store."""
    (tmp_path / "kv").mkdir()
    (tmp_path / "policy.json").write_text(POLICY)
    (tmp_path / "trust.json").write_text(TRUST)
    monkeypatch.setenv("CRAQEN_DATA_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def admin(data: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(line: str, *, code: int = 0) -> Any:
        assert main(["admin", *line.split(), "--json"]) == code
        out = capsys.readouterr().out
        return json.loads(out) if code == 0 else None

    return run


def find(data: Path, access_key: str) -> Credentials | None:
    """What a gateway finds."""

    async def look() -> Credentials | None:
        kv = EmbeddedStore(data / "kv")
        try:
            store = await IdentityStore.open(kv, SystemClock(), None)
            return await store.directory.find(access_key)
        finally:
            await kv.close()

    return asyncio.run(look())


def test_life_of_a_user(admin: Any, data: Path) -> None:
    made = admin("user create alice --uid 1000 --gid 1001 --groups 5,6 --key")
    assert made["arn"] == f"arn:aws:iam::{FIRST_ACCOUNT_ID}:user/alice"
    found = find(data, made["access_key"])
    assert found is not None
    assert found.secret_key == made["secret_key"]
    assert (found.identity.uid, found.identity.gid, found.identity.groups) == (1000, 1001, (5, 6))
    admin("user set alice --uid 7")
    assert admin("user show alice")["uid"] == 7
    admin("group create crew")
    admin("group add crew alice")
    assert admin("group show crew")["members"] == ["alice"]
    admin("policy put own policy.json --user alice")
    admin("policy create shared policy.json")
    admin("policy attach shared --group crew")
    admin("policy attach AmazonS3ReadOnlyAccess --user alice")
    found = find(data, made["access_key"])
    assert found is not None
    assert len(found.identity.grants.policies) == 3
    assert [one["name"] for one in admin("user list")] == ["alice"]
    admin("key disable " + made["access_key"])
    assert find(data, made["access_key"]) is None
    assert admin("key list") == [
        {
            "access_key": made["access_key"],
            "user": "alice",
            "account": FIRST_ACCOUNT_ID,
            "active": False,
        }
    ]
    admin("key enable " + made["access_key"])
    admin("user delete alice", code=1)
    admin("user delete alice --force")
    assert find(data, made["access_key"]) is None
    admin("policy delete shared", code=1)
    admin("policy detach shared --group crew")
    admin("policy delete shared")
    admin("group delete crew")


def test_accounts_and_keys_that_are_given(
    admin: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = admin("account create other --email a@example.com --id 123456789012 --uid 5")
    monkeypatch.setattr("sys.stdin", io.StringIO("a/secret=\n"))
    key = admin("key create --account 123456789012 --access-key GIVEN --secret-file -")
    assert (key["access_key"], key["secret_key"]) == ("GIVEN", "a/secret=")
    found = find(data, "GIVEN")
    assert found is not None
    assert found.secret_key == "a/secret="
    assert found.identity.canonical_id == made["canonical_id"]
    assert found.identity.uid == 5
    admin("account set 123456789012 --name renamed")
    names = {one["id"]: one["name"] for one in admin("account list")}
    assert names == {FIRST_ACCOUNT_ID: "root", "123456789012": "renamed"}
    admin("account create third --email A@example.com", code=1)
    admin("account delete 123456789012")
    assert find(data, "GIVEN") is None


def test_roles_and_versions_of_policies(admin: Any) -> None:
    admin("role create worker --trust trust.json --session-seconds 7200")
    assert admin("role show worker")["session_seconds"] == 7200
    admin("role trust worker trust.json")
    admin("policy create p policy.json")
    for _ in range(6):
        admin("policy update p policy.json")
    assert admin("policy show p")["version"] == "v7"
    admin("policy delete p")
    admin("role delete worker")
    assert admin("role list") == []


def test_what_is_wrong_is_said(admin: Any, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "none.json").write_text("{}")
    assert main("admin policy create p none.json".split()) == 1
    assert "Statement" in capsys.readouterr().err
    admin("policy create p missing.json", code=1)
    admin("user show nobody", code=1)
    with pytest.raises(SystemExit):
        admin("user create u --uid -1")


def test_no_store_is_made_by_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRAQEN_DATA_FOLDER", str(tmp_path / "nothing"))
    assert main(["admin", "user", "list"]) != 0
    assert "there is no store" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_people_see_tables(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admin", "user", "create", "alice", "--uid", "12"]) == 0
    assert main(["admin", "user", "list"]) == 0
    assert main(["admin", "user", "show", "alice"]) == 0
    out = capsys.readouterr().out
    assert "user alice is made" in out
    assert "arn:aws:iam::" in out
