"""The command line: finding commands, exit codes, and ``craqen config`` as a user runs it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

from craqen.core import errors
from craqen.core.cli import bench_command, config_command, entry_points, main, up_command
from craqen.core.config import load_config
from craqen.core.options import Config, documented_yaml


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No option in the environment, another working folder, and logging left as it is."""
    for name in [name for name in os.environ if name.startswith("CRAQEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "set_up_logging", lambda options: None)


def craqen(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "craqen.core.cli", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make ``craqen config`` raise *error*."""

    def run(self: object, arguments: argparse.Namespace, config: Config) -> int:
        raise error

    monkeypatch.setattr(config_command.ConfigCommand, "run", run)


def registered(monkeypatch: pytest.MonkeyPatch, **places: str) -> None:
    """Register entry points in every group, in place of those of the installed package."""

    def found(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, place, group) for name, place in places.items()]

    monkeypatch.setattr(entry_points, "entry_points", found)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.InvalidArgumentError("x"), 1),
            (errors.NotFoundError("x"), 1),
            (errors.OperatorError("x"), 1),
            (errors.NoSpaceError("x"), 1),
            (errors.DiskError("x"), 1),
            (errors.ConfigError("x"), 2),
            (errors.MissingDependencyError("x"), 2),
            (errors.UnavailableError("x"), 3),
            (errors.ConflictError("x"), 3),
            (errors.StaleChainVersionError("x", chain_id=1, current_version=2), 3),
            (errors.DataLossError("x"), 4),
        ],
    )
    def test_of_each_kind_of_error(
        self,
        error: errors.CraqenError,
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        raising(monkeypatch, error)
        assert main.main(["config", "check"]) == code
        said = capsys.readouterr()
        assert said.err == "craqen: x\n"
        assert said.out == ""

    def test_of_an_interruption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raising(monkeypatch, KeyboardInterrupt())
        assert main.main(["config", "check"]) == 130

    def test_a_bug_is_not_dressed_up_as_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raising(monkeypatch, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            main.main(["config", "check"])

    def test_of_no_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main.main([]) == 2
        assert "usage: craqen" in capsys.readouterr().out

    @pytest.mark.parametrize("words", [["no-such"], ["config"], ["config", "no-such"], ["--no"]])
    def test_of_wrong_usage(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main.main(words)
        assert stop.value.code == 2
        assert "usage: craqen" in capsys.readouterr().err


class TestHelp:
    def test_it_names_every_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main.main(["--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for name in ("up", "manager", "storage", "config", "bench", "gateway", "mount"):
            assert f"\n    {name} " in text

    def test_of_one_command_has_its_arguments(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main.main(["up", "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for name in ("--config", "--data", "--port", "--workers", "--mount"):
            assert f"  {name} " in text

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main.main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith("craqen 0.")


class TestRegistered:
    def test_a_command_is_found(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registered(monkeypatch, config2="craqen.core.cli.config_command:command")
        monkeypatch.setattr(config_command.command, "name", "config2", raising=False)
        assert main.main(["config2", "check"]) == 0
        assert capsys.readouterr().out.startswith("The configuration is right.")

    def test_one_whose_library_is_missing_names_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registered(monkeypatch, door="no_such_library.door:command")
        assert main.main(["door"]) == 2
        assert "craqen: door: needs no_such_library" in capsys.readouterr().err

    def test_a_missing_pyfuse3_comes_with_its_remedy(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyfuse3", None)
        registered(monkeypatch, mount="pyfuse3:command")
        assert main.main(["mount"]) == 2
        assert "pip install 'craqen[mount]'" in capsys.readouterr().err


class TestBench:
    ran: list[tuple[str, Sequence[str]]]

    @pytest.fixture(autouse=True)
    def _programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two programs that only say that they ran; ``b`` misses a target."""
        self.ran = []

        def program(name: str, code: int) -> Any:
            def run(arguments: Sequence[str]) -> int:
                self.ran.append((name, list(arguments)))
                return code

            return run

        monkeypatch.setattr(bench_command, "_OWN", {})
        monkeypatch.setattr(bench_command, "names", lambda group: ["a", "b"])
        programs = {"a": program("a", 0), "b": program("b", 1)}
        monkeypatch.setattr(bench_command, "load", lambda group, name: programs[name])

    def test_one_gets_its_arguments(self) -> None:
        assert main.main(["bench", "a", "--runs", "1"]) == 0
        assert self.ran == [("a", ["--runs", "1"])]

    def test_all_run_with_the_same_arguments_and_a_miss_counts(self) -> None:
        assert main.main(["bench", "all", "--runs", "1"]) == 1
        assert self.ran == [("a", ["--runs", "1"]), ("b", ["--runs", "1"])]


class TestConfigCommand:
    def test_check_of_the_defaults(self, tmp_path: Path) -> None:
        done = craqen("config", "check")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            f"The configuration is right. Data folder: {tmp_path / 'craqen-data'}\n"
        )

    def test_check_names_file_option_value_and_what_was_expected(self, tmp_path: Path) -> None:
        file = tmp_path / "craqen.yaml"
        file.write_text("gateway:\n  port: 70000\n")
        done = craqen("config", "check", "--config", str(file))
        assert done.returncode == 2
        assert done.stderr == (
            f"craqen: {file}: gateway.port: expected a number from 1 to 65535, found 70000\n"
        )

    def test_show_prints_what_is_in_force_and_can_be_loaded(self, tmp_path: Path) -> None:
        file = tmp_path / "craqen.yaml"
        file.write_text("data_folder: store\ngateway:\n  port: 9100\n  region: eu-west-1\n")
        done = craqen("config", "show", CRAQEN_CONFIG=str(file), CRAQEN_GATEWAY_PORT="9200")
        assert (done.returncode, done.stderr) == (0, "")
        shown = yaml.safe_load(done.stdout)
        assert shown["data_folder"] == str(tmp_path / "store")
        assert (shown["gateway"]["port"], shown["gateway"]["region"]) == (9200, "eu-west-1")
        again = tmp_path / "again.yaml"
        again.write_text(done.stdout)
        assert documented_yaml(load_config(str(again), {})) + "\n" == done.stdout


class TestUpWords:
    def test_the_command_line_wins_over_environment_and_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "craqen.yaml"
        file.write_text("gateway:\n  port: 9100\n  workers: 3\n")
        monkeypatch.setenv("CRAQEN_GATEWAY_PORT", "9200")
        arguments = argparse.Namespace(
            config=str(file), data="data", port=9300, workers=None, mount="mnt", nodes=3, replicas=2
        )
        config = up_command._with_arguments(load_config(str(file), os.environ), arguments)
        assert config.data_folder == str(tmp_path / "data")
        assert (config.gateway.port, config.gateway.workers) == (9300, 3)
        assert config.mount.point == str(tmp_path / "mnt")
        disks = [str(tmp_path / "data" / f"disk{number}") for number in (1, 2, 3)]
        assert config.storage.disks == disks
        assert config.storage.replicas == 2

    def test_its_processes_see_no_option_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CRAQEN_GATEWAY_PORT", "9200")
        monkeypatch.setenv("UNRELATED", "kept")
        environment = up_command._process_environment()
        assert environment["UNRELATED"] == "kept"
        assert not [name for name in environment if name.startswith("CRAQEN_")]

    def test_stages_are_manager_storage_gateway_keeper_and_the_mount_if_asked(self) -> None:
        config = load_config(
            None,
            {
                "CRAQEN_STORAGE_DISKS": "[one, two]",
                "CRAQEN_GATEWAY_WORKERS": "2",
                "CRAQEN_MOUNT_POINT": "/mnt/store",
                "CRAQEN_MOUNT_PATH": "photos",
                "CRAQEN_MOUNT_READ_ONLY": "true",
            },
        )
        stages = up_command._processes(config, "/run/effective.yaml")
        common = ("-m", "craqen.core.cli")
        with_config = ("--config", "/run/effective.yaml")
        assert [[spec.name for spec in stage] for stage in stages] == [
            ["manager"],
            ["storage 1", "storage 2"],
            ["gateway 1", "gateway 2"],
            ["keeper"],
            ["mount"],
        ]
        assert stages[1][1].words == (*common, "storage", *with_config, "--disk", "2")
        assert stages[2][0].words == (*common, "gateway", *with_config, "--worker", "1")
        assert stages[3][0].words == (*common, "keeper", *with_config)
        assert stages[4][0].words == (
            *(*common, "mount", *with_config, "/mnt/store"),
            *("--path", "photos", "--read-only"),
        )
