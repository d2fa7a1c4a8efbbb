"""`craqen admin`: what it asks the manager, what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from craqen.core.cli import admin_command
from craqen.core.cli.main import main
from craqen.core.errors import ConflictError, UnavailableError
from craqen.core.manager.admin import understood


class Manager:
    """In the place of the client: remembers what it was asked, and answers as it was told to."""

    asked: ClassVar[list[tuple[str, dict[str, object]]]] = []
    answer: ClassVar[Any] = {"done": "it is done", "target_id": 9}

    def __init__(self, config: object) -> None:
        """It needs no configuration."""

    async def admin(self, command: str, **arguments: object) -> Any:
        Manager.asked.append((command, arguments))
        if isinstance(Manager.answer, Exception):
            raise Manager.answer
        return Manager.answer

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Manager]]:
    monkeypatch.setattr(admin_command, "ManagerClient", Manager)
    Manager.asked = []
    yield Manager
    Manager.answer = {"done": "it is done", "target_id": 9}


@pytest.mark.parametrize(
    ("line", "command", "some"),
    [
        ("node add 4 5", "node-add", {"node_ids": [4, 5], "every_candidate": False}),
        ("node add --all --domain r1", "node-add", {"every_candidate": True, "domain": "r1"}),
        ("node add 4 --address tcp://a:1 --disk /d", "node-add", {"addresses": ["tcp://a:1"]}),
        ("node remove 4", "node-remove", {"node_ids": [4]}),
        ("node drain 4", "node-drain", {"node_ids": [4]}),
        ("node start 4", "node-start", {"node_ids": [4]}),
        ("node stop 4 --accept-unavailable", "node-stop", {"accept_unavailable": True}),
        ("target add 1 2 /d", "target-add", {"chain_id": 1, "node_id": 2, "disk": "/d"}),
        ("target remove 1 --force", "target-remove", {"target_id": 1, "forced": True}),
        ("target replace 1 --node 2", "target-replace", {"node_id": 2, "disk": None}),
        ("chain rotate 3", "chain-rotate", {"chain_id": 3}),
        (
            "chain rotate-last-server 3 --accept-loss",
            "chain-rotate-last-server",
            {"chain_id": 3, "target_id": None, "accept_loss": True},
        ),
        ("init --replicas 3 --dry-run", "init", {"replicas": 3, "dry_run": True}),
        ("rebalance --without 2:/d --replicas 2", "rebalance", {"without": [(2, "/d")]}),
        ("rebalance --stop", "rebalance-stop", {}),
        ("config set a.b 5", "config-set", {"name": "a.b", "value": "5"}),
        ("config set a.b --as-configured", "config-set", {"name": "a.b", "value": None}),
    ],
)
def test_changes(
    line: str, command: str, some: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["admin", *line.split()]) == 0
    assert capsys.readouterr().out == "it is done\n  target id: 9\n"
    ((asked, arguments),) = Manager.asked
    assert asked == command
    assert {name: arguments[name] for name in some} == some
    understood(command, json.loads(json.dumps(arguments)))
    assert main(["admin", *line.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Manager.answer


def test_a_table_is_uploaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "table.json"
    file.write_text('{"version": 3}')
    assert main(["admin", "table", "upload", str(file)]) == 0
    assert Manager.asked == [("table-upload", {"table": {"version": 3}})]
    for text, message in (("{", "is not JSON"), ("[]", "expected what `craqen admin table show`")):
        file.write_text(text)
        assert main(["admin", "table", "upload", str(file)]) == 1
        assert message in capsys.readouterr().err
    assert main(["admin", "table", "upload", str(tmp_path / "none")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert len(Manager.asked) == 1


def test_status_tells_the_worst_first_and_by_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = {
        "level": 2,
        "state": "DATA UNAVAILABLE: 1 thing needs attention",
        "epoch": 7,
        "table_version": 4,
        "replicas": 3,
        "nodes": {"all": 3, "up": 2, "candidates": 0},
        "targets": {"all": 3, "serving": 2, "offline": 1},
        "chains": {"all": 1, "whole": 0, "reduced": 1, "without_server": 0},
        "space": {"capacity_bytes": 4096, "free_bytes": 2048, "used_bytes": 1},
        "chunks": {
            "copies": 5,
            "damaged": 1,
            "repaired": 0,
            "oldest_scrub_wall_seconds": 0.0,
            "never_scrubbed": 3,
        },
        "resyncs": [
            {"target_id": 3, "bytes_sent": 1024, "bytes_to_send": 2048,
             "bytes_per_second": 512.0, "seconds_left": 2.0}
        ],
        "rebalance": {"copies_left": 2, "removals_left": 1, "on_their_way": 1, "stuck": []},
        "troubles": [{"level": 2, "what": "chain 1\x1b: no target", "remedy": "start node 1"}],
        "troubles_not_listed": 0,
    }  # fmt: skip
    Manager.answer = status
    assert main(["admin", "status"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DATA UNAVAILABLE: 1 thing needs attention"
    assert lines[2:4] == ["! chain 1\\x1b: no target", "    to do: start node 1"]
    assert "nodes     2 of 3 up" in lines
    assert "targets   3: 2 serving, 1 offline" in lines
    assert "resync    target 3: 1.0 KiB of 2.0 KiB sent at 512 B/s, about 2 s left" in lines
    assert "rebalance 2 targets to fill, 1 to remove, 1 chains at it" in lines
    assert main(["admin", "status", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == status


def test_no_manager_answers(capsys: pytest.CaptureFixture[str]) -> None:
    Manager.answer = UnavailableError("no primary manager answers at tcp://m:1")
    assert main(["admin", "status"]) == 2
    told = capsys.readouterr().out
    assert told.startswith("NO MANAGER ANSWERS")
    assert "! no primary manager answers at tcp://m:1\n    to do: start the managers" in told
    assert main(["admin", "nodes"]) == 3


def test_what_is_refused_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Manager.answer = ConflictError("node 2 still has 3 targets: drain it first")
    assert main(["admin", "node", "remove", "2"]) == 3
    assert capsys.readouterr().err == "craqen: node 2 still has 3 targets: drain it first\n"
    for line in ("rebalance --without here", "node stop", "config set x", "nothing"):
        with pytest.raises(SystemExit) as ended:
            main(["admin", *line.split()])
        assert ended.value.code == 2


def test_lists_have_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/" + "d" * 200
    Manager.answer = [
        {"node": 1, "state": "up", "heard_seconds_ago": 0.4, "targets": 3, "serving": 3,
         "domain": "", "disks": [long], "addresses": ["tcp://n1:1"], "routing_version": 4,
             "refused": 2}
    ]  # fmt: skip
    assert main(["admin", "nodes"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == "node state heard targets serving refused domain disks addresses".split()
    assert row.split() == ["1", "up", "0", "s", "ago", "3", "3", "2", "-", long, "tcp://n1:1"]


def test_status_looks_for_managers_that_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def silent(self: Manager) -> list[str]:
        return ["manager at tcp://127.0.0.1:2: refused"]

    monkeypatch.setattr(Manager, "silent", silent, raising=False)
    monkeypatch.setenv("CRAQEN_CLUSTER_MANAGERS", '["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]')
    Manager.answer = {"level": 1, "state": "degraded", "troubles": []}
    assert main(["admin", "status"]) == 1
    assert capsys.readouterr().out == "degraded\n"
    ((command, arguments),) = Manager.asked
    understood(command, arguments)
    assert arguments == {"silent_managers": ["manager at tcp://127.0.0.1:2: refused"]}
