"""conf/cluster is what docs/operations.md walks through: every file of it is one that Craqen and
systemd would take."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from craqen.core.cli.main import _find_command, _parser
from craqen.core.config import load_config
from craqen.core.options import Config

EXAMPLE = Path(__file__).resolve().parent.parent / "conf" / "cluster"
INSTALLED = "/etc/craqen/"
PROGRAM = "/opt/craqen/bin/craqen"
HOSTS = sorted(EXAMPLE.glob("host*.env"))
UNITS = sorted(EXAMPLE.glob("*.service"))
ROLES = sorted(EXAMPLE.glob("*.yaml"))
HARDENING = {"NoNewPrivileges": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes"}


def environment(host: Path) -> dict[str, str]:
    lines = [line for line in host.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def settings(unit: Path) -> dict[str, list[str]]:
    """``Section.Name`` and its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, separator, value = line.partition("=")
            assert separator, f"{unit.name}: {line}"
            found.setdefault(f"{section}.{name}", []).append(value)
    return found


def command_of(unit: Path) -> list[str]:
    """The words after the program, for the first instance of a template."""
    (line,) = settings(unit)["Service.ExecStart"]
    program, *words = shlex.split(line.replace("%i", "1"))
    assert program == PROGRAM
    return words


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.stem)
def test_every_role_is_understood_on_every_host(role: Path) -> None:
    configs = [load_config(str(role), environment(host)) for host in HOSTS]
    managers = configs[0].cluster.managers
    assert len(managers) == len(HOSTS) == 3
    assert [config.cluster.manager_number for config in configs] == [1, 2, 3]
    assert len({config.cluster.node_id for config in configs}) == 3
    for config, manager in zip(configs, managers, strict=True):
        # Node and manager of one host have one address.
        assert config.storage.listen.rpartition(":")[0] == manager.rpartition(":")[0]
        assert config.cluster.secret_file.startswith(INSTALLED)


def test_the_roles_agree() -> None:
    configs = {role.stem: load_config(str(role), environment(HOSTS[0])) for role in ROLES}
    assert set(configs) == {"gateway", "keeper", "manager", "mount", "storage"}
    assert len({(tuple(one.cluster.managers), one.data_folder) for one in configs.values()}) == 1
    # Storage nodes never open the metadata.
    assert len({configs[name].kv.url for name in ("gateway", "keeper", "manager", "mount")}) == 1
    assert configs["storage"].kv.url == Config().kv.url
    assert configs["manager"].storage.replicas == 3


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_every_unit_starts_a_command_that_there_is(unit: Path) -> None:
    words = command_of(unit)
    command = _find_command(words[0])
    assert command is not None, words
    parsed = _parser(command).parse_args(words)
    assert parsed.config.startswith(INSTALLED)
    role = EXAMPLE / Path(parsed.config).name
    assert role in ROLES
    assert role.stem == words[0] == unit.stem.removeprefix("craqen-").rstrip("@")
    assert settings(unit)["Service.EnvironmentFile"] == [f"{INSTALLED}host.env"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_every_unit_is_started_again_and_confined(unit: Path) -> None:
    found = settings(unit)
    assert found["Service.Restart"] == ["on-failure"]
    for name, value in HARDENING.items():
        assert found[f"Service.{name}"] == [value]
    for name, values in found.items():
        assert len(values) == 1, f"{unit.name}: {name} is given twice"
    if unit.stem == "craqen-mount":
        # These would hide the mount from everybody else.
        assert not {name for name in found if name.startswith(("Service.Protect", "Service.Priv"))}
    else:
        assert found["Service.User"] == ["craqen"]
        assert found["Service.ProtectSystem"] == ["strict"]


def test_the_disks_are_those_that_the_unit_waits_for() -> None:
    config = load_config(str(EXAMPLE / "storage.yaml"), environment(HOSTS[0]))
    found = settings(EXAMPLE / "craqen-storage.service")
    assert found["Unit.RequiresMountsFor"] == [" ".join(config.storage.disks)]
    (writable,) = found["Service.ReadWritePaths"]
    assert all(disk.startswith(f"{writable}/") for disk in config.storage.disks)


def test_the_walk_names_every_file() -> None:
    walk = (EXAMPLE.parent.parent / "docs" / "operations.md").read_text()
    for path in [*ROLES, *UNITS]:
        assert path.name in walk, f"docs/operations.md does not mention {path.name}"
    assert "host1.env" in walk
