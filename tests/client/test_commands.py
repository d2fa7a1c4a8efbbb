"""``craqen ls`` and its like, on a running store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from craqen.client import Store


@pytest.fixture
def craqen(config: str) -> object:
    def run(*words: str, code: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "craqen.core.cli", words[0], *words[1:], "--config", config],
            capture_output=True,
            text=True,
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    return run


def fill(store: Store, folder: str) -> None:
    store.make_directory(f"{folder}/a/b", parents=True)
    store.make_directory(f"{folder}/empty")
    for number in range(5):
        store.write_bytes(f"{folder}/a/file-{number}.txt", b"x" * number)
    store.write_bytes(f"{folder}/a/b/large.bin", b"y" * 100_000)


def test_looking(store: Store, folder: str, craqen: object) -> None:
    assert callable(craqen)
    fill(store, folder)
    assert craqen("ls", folder).split() == ["a/", "empty/"]
    assert " 100000 " in craqen("ls", "-l", f"{folder}/a/b")
    rows = [json.loads(line) for line in craqen("ls", "--json", f"{folder}/a").splitlines()]
    assert rows[0]["path"] == f"{folder}/a/b"
    assert json.loads(craqen("stat", "--json", f"{folder}/a/file-3.txt"))["size"] == 3
    assert json.loads(craqen("du", "--json", folder)) == {
        "path": folder, "bytes": 100_010, "files": 6, "folders": 3,
    }  # fmt: skip
    assert craqen("find", folder, "--larger", "10K").split() == [f"{folder}/a/b/large.bin"]
    assert craqen("find", folder, "--name", "*-[01].txt", "--type", "f").split() == [
        f"{folder}/a/file-0.txt", f"{folder}/a/file-1.txt",
    ]  # fmt: skip
    assert craqen("find", folder, "--older", "1h") == ""
    assert "No such file" in craqen("ls", f"{folder}/none", code=1)


def test_changing(store: Store, folder: str, craqen: object) -> None:
    assert callable(craqen)
    fill(store, folder)
    craqen("mv", f"{folder}/a/file-1.txt", f"{folder}/a/file-2.txt", f"{folder}/empty")
    assert [entry.name for entry in store.list(f"{folder}/empty")] == ["file-1.txt", "file-2.txt"]
    assert "exist" in craqen("mv", "-n", f"{folder}/a/file-3.txt", f"{folder}/a/file-4.txt", code=1)
    assert "not empty" in craqen("rm", f"{folder}/a", code=1)
    craqen("rm", "-r", f"{folder}/a")
    assert not store.exists(f"{folder}/a")
    craqen("rm", "-f", f"{folder}/a")
    assert "No such file" in craqen("rm", f"{folder}/a", code=1)
    craqen("rm", "-r", folder)
    assert not store.exists(folder)


def test_the_trash(store: Store, folder: str, craqen: object) -> None:
    assert callable(craqen)
    bucket = folder.split("/")[1]
    shown = json.loads(craqen("admin", "bucket", "trash", bucket, "--days", "0.5", "--json"))
    assert shown == {"bucket": bucket, "trash_seconds": 43_200, "has_versions": False}
    try:
        fill(store, folder)
        craqen("rm", f"{folder}/a/file-1.txt")
        craqen("rm", "-r", f"{folder}/a/b")
        path = f"/{bucket}/.trash"
        [file] = craqen("find", path, "--name", "file-1.txt").split()
        [large] = craqen("find", path, "--name", "large.bin").split()
        assert craqen("restore", file).split() == [f"{folder}/a/file-1.txt"]
        assert craqen("restore", os.path.dirname(large)).split() == [f"{folder}/a/b"]
        assert store.read_bytes(f"{folder}/a/b/large.bin") == b"y" * 100_000
        craqen("rm", f"{folder}/a/file-1.txt")
        store.write_bytes(f"{folder}/a/file-1.txt", b"new")
        assert "exist" in craqen("restore", file, code=1)
        assert "not in a trash" in craqen("restore", f"{folder}/a/file-2.txt", code=1)
    finally:
        craqen("admin", "bucket", "trash", bucket, "--days", "0")
        craqen("rm", "-r", f"/{bucket}/.trash")


def test_copying(store: Store, folder: str, craqen: object, tmp_path: Path) -> None:
    assert callable(craqen)
    tree = tmp_path / "tree"
    (tree / "below" / "deeper").mkdir(parents=True)
    (tree / "script").write_bytes(b"#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    (tree / "below" / "large").write_bytes(os.urandom(9 << 20))
    craqen("cp", "-r", str(tree), f"craqen:{folder}/tree")
    assert store.read_bytes(f"{folder}/tree/below/large") == (tree / "below/large").read_bytes()
    assert store.stat(f"{folder}/tree/script").st_mode & 0o777 == 0o755
    craqen("cp", "-r", f"craqen:{folder}/tree", f"craqen:{folder}/copy")
    craqen("cp", "-r", f"craqen:{folder}/copy", str(tmp_path / "back"))
    compared = subprocess.run(["diff", "-r", str(tree), str(tmp_path / "back")], check=False)
    assert compared.returncode == 0
    assert "with -r" in craqen("cp", str(tree), f"craqen:{folder}/x", code=1)
    assert "in the store" in craqen("cp", str(tree), str(tmp_path / "x"), code=1)
