"""The audit log's file: rotation, by several processes too, and what happens when it cannot be
written."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from craqen.core.errors import ConfigError
from craqen.gateway.answered import Answered
from craqen.gateway.audit.auditor import Auditor
from craqen.gateway.audit.facts import Facts
from craqen.gateway.audit.log import AuditFile
from craqen.gateway.audit.record import render

WRITERS = 4
LINES_EACH = 300
WRITER = """
import sys
from pathlib import Path
from craqen.gateway.audit.log import AuditFile

audit = AuditFile(Path(sys.argv[1]), 4096, 1000)
for number in range(int(sys.argv[2])):
    audit.write(f"writer {sys.argv[3]} line {number} {'x' * 40}\\n".encode())
audit.close()
"""


def _lines(folder: Path) -> list[str]:
    files = [path for path in folder.iterdir() if not path.name.endswith(".lock")]
    return [line for path in files for line in path.read_text().splitlines()]


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    audit = AuditFile(path, 10, 2)
    for number in range(5):
        audit.write(f"line {number}\n".encode())  # seven bytes: one fits
    audit.close()
    assert path.read_text() == "line 4\n"
    assert (tmp_path / "audit.json.1").read_text() == "line 3\n"
    assert (tmp_path / "audit.json.2").read_text() == "line 2\n"
    assert not (tmp_path / "audit.json.3").exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_record_larger_than_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    audit = AuditFile(path, 10, 2)
    audit.write(b"y" * 100 + b"\n")
    audit.close()
    assert path.read_bytes() == b"y" * 100 + b"\n"


def test_several_processes_lose_and_mix_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "audit.json"), str(LINES_EACH)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(WRITERS)]
    assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    expected = {
        f"writer {writer} line {number} {'x' * 40}"
        for writer in range(WRITERS)
        for number in range(LINES_EACH)
    }
    found = _lines(tmp_path)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert (tmp_path / "audit.json.5").exists(), "it was never rotated"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    audit = AuditFile(path, 1000, 2)
    audit.write(b"one\n")
    path.rename(tmp_path / "elsewhere")
    audit.write(b"two\n")
    path.unlink()
    audit.write(b"three\n")
    audit.close()
    assert (tmp_path / "elsewhere").read_bytes() == b"one\n"
    assert path.read_bytes() == b"three\n"
    assert not (tmp_path / "audit.json.1").exists()


def test_a_full_disk_is_reported_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    audit = AuditFile(tmp_path / "audit.json", 1000, 2)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(os, "write", fail)
        audit.write(b"one\n")
        audit.write(b"two\n")
    audit.write(b"three\n")
    audit.close()
    assert _lines(tmp_path) == ["three"]
    assert audit.lost == 2
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text


def test_a_path_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.audit_log: .*No such file"):
        AuditFile(tmp_path / "missing" / "audit.json", 1000, 2)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"gateway\.audit_log"):
        AuditFile(tmp_path / "link", 1000, 2)


def _facts(service: str, headers: dict[str, str], parameters: dict[str, str]) -> Facts:
    return Facts(
        *("id", "host", 0, 0, "r", service, "DeleteObject", headers, "", None, "", "", ""),
        ("", ""),
        *("bucket", "", "key", parameters, 204, "", "", 0),
    )


def test_one_time_codes_are_not_written() -> None:
    facts = _facts("s3", {"x-amz-mfa-delete": "serial 123456", "x-amz-acl": "private"}, {})
    record = render(facts, "event")
    assert b"123456" not in record
    assert b"private" in record


def test_names_of_form_fields_are_not_the_client_s_to_choose() -> None:
    parameters = {
        "Tags." + "x" * 50_000: "1",
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/One",
        "UserName": "somebody",
        "UserName.secret words": "2",
    }
    record = render(_facts("iam", {}, parameters), "event")
    said = json.loads(record)["requestParameters"]
    assert said == {
        "policyArns.member.1.arn": "arn:aws:iam::aws:policy/One",
        "userName": "somebody",
    }


def test_a_record_that_cannot_be_made_takes_no_answer_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditFile(tmp_path / "audit.json", 1000, 1)
    auditor = Auditor(audit, "region", "host")
    no_request: Any = None
    auditor.note(Answered(no_request, "R1", 0, 0, 200, None, None, None, ("", "")))
    audit.close()
    assert audit.lost == 1
    assert "request R1: no audit record could be made" in caplog.text
