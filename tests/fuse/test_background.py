"""Mounts in the background, and what mount(8) asks for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from craqen.core.bench.store import LocalStore
from craqen.core.errors import ConfigError
from craqen.fuse.background import log_path
from craqen.fuse.mount_helper import command_of, main
from craqen.tests.fuse.conftest import why_not
from craqen.tests.gateway.integration.running_gateway import wait_until

PATIENCE_SECONDS = 60.0


def run(store: LocalStore, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "CRAQEN_DATA_FOLDER": store.folder},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def serving(point: Path) -> list[int]:
    """Processes that serve *point*, and their watchers."""
    words = [b"mount", os.fsencode(point)]
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                said = (one / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if all(word in said for word in words) and b"--background" not in said:
                found.append(int(one.name))
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with LocalStore(folder=str(tmp_path_factory.mktemp("store") / "data"), workers=1) as store:
        yield store


@pytest.mark.mount
def test_a_mount_in_the_background_comes_back_when_it_is_killed(
    store: LocalStore, tmp_path: Path
) -> None:
    point = tmp_path / "point"
    point.mkdir()
    done = run(store, "craqen.core.cli", "mount", str(point), "--background")
    assert done.returncode == 0, done.stderr
    assert "mounted at" in done.stdout
    (point / "bucket").mkdir()
    (point / "bucket" / "file").write_bytes(b"kept")
    (first,) = serving(point)
    os.kill(first, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return (point / "bucket" / "file").read_bytes() == b"kept" and first not in serving(
                point
            )
        except OSError:
            return False

    wait_until(is_back, PATIENCE_SECONDS)
    log = log_path(f"{store.folder}/run", str(point))
    assert "ended with signal 9" in log.read_text()
    subprocess.run(["umount", str(point)], check=True)
    wait_until(lambda: not serving(point), PATIENCE_SECONDS)
    assert not os.path.ismount(point)


@pytest.mark.mount
def test_what_cannot_be_mounted_is_told_at_once(store: LocalStore, tmp_path: Path) -> None:
    done = run(store, "craqen.core.cli", "mount", str(tmp_path / "none"), "--background")
    assert done.returncode != 0
    assert "does not exist" in done.stderr
    done = run(store, "craqen.fuse.mount_helper", "none", str(tmp_path), "-o", "rw,sizes=3")
    assert done.returncode == 1
    assert "sizes=3: unknown" in done.stderr


def test_what_fstab_says() -> None:
    options = ["rw", "path=b/f", "ro", "noallow_other", "cache_seconds=3", "_netdev", "x-y=1", ""]
    command = command_of("/etc/craqen/mount.yaml", "/data", options)
    assert command.words == [
        *("mount", "/data", "--background", "--config", "/etc/craqen/mount.yaml"),
        *("--path", "b/f", "--read-only"),
    ]
    assert command.environment == {
        "CRAQEN_MOUNT_ALLOW_OTHER": "false",
        "CRAQEN_MOUNT_CACHE_SECONDS": "3",
    }
    assert command_of("none", "/data", ["defaults"]).words == ["mount", "/data", "--background"]
    with pytest.raises(ConfigError, match="unknown"):
        command_of("none", "/data", ["pth=x"])


def test_a_trial_mounts_nothing() -> None:
    assert main(["none", "/nowhere", "-f", "-o", "ro"]) == 0
