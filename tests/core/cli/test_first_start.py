"""What ``craqen up`` prepares before it starts anything."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from craqen.core.cli.first_start import (
    check_port,
    ensure_credentials,
    greeting,
    lock_data_folder,
    make_mount_point,
    write_effective_config,
)
from craqen.core.config import load_config
from craqen.core.errors import ConfigError, OperatorError
from craqen.core.options import Config

ENDPOINT = "http://127.0.0.1:9000"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The defaults, in a folder that does not exist yet."""
    return load_config(None, {"CRAQEN_DATA_FOLDER": str(tmp_path / "deep" / "data")})


@pytest.fixture
def locked(config: Config) -> Config:
    """The same with its folder made."""
    os.close(lock_data_folder(config))
    return config


def craqen(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CRAQEN_")
    }
    return subprocess.run(
        [sys.executable, "-m", "craqen.core.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class TestLock:
    def test_the_second_is_refused_each_time_with_the_holder_named(self, config: Config) -> None:
        descriptor = lock_data_folder(config)
        try:
            for _ in range(2):
                with pytest.raises(OperatorError, match=rf"\(process {os.getpid()}\) runs on it"):
                    lock_data_folder(config)
        finally:
            os.close(descriptor)
        os.close(lock_data_folder(config))

    def test_up_in_another_process_is_refused(self, config: Config) -> None:
        descriptor = lock_data_folder(config)
        try:
            done = craqen("up", "--data", config.data_folder)
        finally:
            os.close(descriptor)
        assert done.returncode == 1
        assert f"another craqen up (process {os.getpid()}) runs on it" in done.stderr
        assert not Path(config.credentials_file).exists()

    def test_the_folder_is_made_for_its_owner_alone(self, locked: Config) -> None:
        for folder in (locked.data_folder, locked.run_folder):
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700

    def test_a_shorter_process_id_replaces_a_longer_one(self, locked: Config) -> None:
        lock = Path(locked.data_folder) / "lock"
        lock.write_text("123456789012")
        descriptor = lock_data_folder(locked)
        assert lock.read_text() == str(os.getpid())
        os.close(descriptor)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        config = Config(data_folder=str(tmp_path / "file" / "data"))
        with pytest.raises(OperatorError, match=r"file/data: cannot be used: Not a directory"):
            lock_data_folder(config)


class TestCredentials:
    def test_they_are_made_once_for_the_owner_alone(self, locked: Config) -> None:
        made = ensure_credentials(locked)
        assert made is not None
        path = Path(locked.credentials_file)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        assert yaml.safe_load(content) == {
            "credentials": [{"access_key": made[0], "secret_key": made[1], "name": "root"}]
        }
        assert ensure_credentials(locked) is None
        assert path.read_bytes() == content
        assert sorted(os.listdir(locked.data_folder)) == ["credentials.yaml", "lock", "run"]

    def test_two_stores_get_different_ones_of_the_usual_lengths(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            config = Config(data_folder=str(tmp_path / name))
            os.close(lock_data_folder(config))
            keys = ensure_credentials(config)
            assert keys is not None
            assert [len(key) for key in keys] == [20, 40]
            made.append(keys)
        assert made[0][0] != made[1][0]
        assert made[0][1] != made[1][1]

    def test_what_an_attempt_that_was_cut_short_left_does_not_widen_the_mode(
        self, locked: Config
    ) -> None:
        left = Path(locked.credentials_file).with_suffix(".new")
        left.write_text("half")
        left.chmod(0o666)
        assert ensure_credentials(locked) is not None
        assert stat.S_IMODE(os.stat(locked.credentials_file).st_mode) == 0o600
        assert not left.exists()

    def test_the_secret_is_shown_once(self, locked: Config) -> None:
        made = ensure_credentials(locked)
        assert made is not None
        first = greeting(locked, ENDPOINT, made)
        assert f"AWS_ACCESS_KEY_ID={made[0]}" in first
        assert f"AWS_SECRET_ACCESS_KEY={made[1]}" in first
        second = greeting(locked, ENDPOINT, ensure_credentials(locked))
        assert made[1] not in second
        assert locked.credentials_file in second


class TestGreeting:
    def test_its_lines_can_be_pasted(self, locked: Config) -> None:
        text = greeting(locked, ENDPOINT, None)
        assert f"aws --endpoint-url {ENDPOINT} s3 sync FOLDER s3://data/" in text
        assert f'boto3.client("s3", endpoint_url="{ENDPOINT}", region_name="us-east-1")' in text
        assert f"craqen mount --config {locked.run_folder}/effective.yaml MOUNTPOINT" in text
        assert "AWS_CA_BUNDLE" not in text

    def test_it_names_the_program_by_its_path_where_the_shell_would_not_find_it(
        self, locked: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "my venv"
        folder.mkdir()
        program = folder / "craqen"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(folder / "python"))
        monkeypatch.setenv("PATH", "/nowhere")
        assert f"\n  '{program}' mount --config" in greeting(locked, ENDPOINT, None)
        monkeypatch.setenv("PATH", str(folder))
        assert "\n  craqen mount --config" in greeting(locked, ENDPOINT, None)

    def test_it_names_the_mount_and_the_certificate_where_there_are(self, locked: Config) -> None:
        config = dataclasses.replace(
            locked,
            mount=dataclasses.replace(locked.mount, point="/mnt/store"),
            gateway=dataclasses.replace(locked.gateway, tls=True),
        )
        text = greeting(config, "https://127.0.0.1:9000", None)
        assert "the store is mounted at /mnt/store" in text
        assert f"export AWS_CA_BUNDLE={locked.data_folder}/tls/certificate.pem" in text


def test_processes_load_what_is_in_force(locked: Config) -> None:
    assert load_config(write_effective_config(locked), {}) == locked


class TestMountPoint:
    def test_it_is_made(self, locked: Config, tmp_path: Path) -> None:
        point = tmp_path / "mnt" / "store"
        config = dataclasses.replace(
            locked, mount=dataclasses.replace(locked.mount, point=str(point))
        )
        for _ in range(2):
            make_mount_point(config)
            assert point.is_dir()

    def test_a_file_in_its_place_is_named(self, locked: Config, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        mount = dataclasses.replace(locked.mount, point=str(tmp_path / "file"))
        with pytest.raises(OperatorError, match=r"^mount\.point: .*/file: File exists"):
            make_mount_point(dataclasses.replace(locked, mount=mount))


class TestPort:
    def test_a_taken_port_is_refused_with_the_option_named(self, locked: Config) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            gateway = dataclasses.replace(locked.gateway, port=port)
            with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
                check_port(dataclasses.replace(locked, gateway=gateway))
            done = craqen("up", "--data", locked.data_folder, "--port", str(port))
        assert done.returncode == 2
        assert "set gateway.port (or CRAQEN_GATEWAY_PORT)" in done.stderr

    def test_a_free_port_stays_free(self, locked: Config) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config = dataclasses.replace(locked, gateway=dataclasses.replace(locked.gateway, port=port))
        check_port(config)
        check_port(config)
