"""Loading the configuration: one YAML file, then the environment, checked option by option.

Every complaint names the file (or variable), the option, the value and what was expected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .options import SECTIONS, Config, documented_yaml

ENVIRONMENT_PREFIX = "CRAQEN_"
CONFIG_FILE_VARIABLE = "CRAQEN_CONFIG"
CONFIG_FILE_BYTES_MAX = 1 << 20

# Variables that steer processes, not options.
_RESERVED_VARIABLES = {
    CONFIG_FILE_VARIABLE,
    "CRAQEN_READY_FD",
    "CRAQEN_PARENT_PID",
    "CRAQEN_TEST_FDB_CLUSTER",
}


def load_config(path: str | None, environment: Mapping[str, str]) -> Config:
    """Return the effective configuration.

    *path* None: the file that CRAQEN_CONFIG names, else the defaults. Relative folders are below
    the
    working directory. Raises ConfigError.
    """
    path = path or environment.get(CONFIG_FILE_VARIABLE)
    values: dict[str, Any] = {}
    if path:
        values = _read_yaml(Path(path))
    settings = _check_tree(values, path or "defaults")
    _apply_environment(settings, environment)
    return _build(settings, Path.cwd(), path or "defaults")


def yaml_value(value: Any) -> str:
    """*value* as one line of YAML (JSON is YAML)."""
    return json.dumps(value)


def write_config(config: Config, path: Path) -> None:
    """Write the effective configuration where other processes load it from."""
    path.write_text(documented_yaml(config))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_FILE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {CONFIG_FILE_BYTES_MAX} bytes")
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected options as 'name: value', found {loaded!r}")
    return loaded


def _check_tree(values: dict[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """Split *values* into sections ('' for the top level), each option checked."""
    settings: dict[str, dict[str, Any]] = {"": {}, **{name: {} for name in SECTIONS}}
    top = {item.name: item for item in fields(Config) if item.name not in SECTIONS}
    for key, value in values.items():
        if key in top:
            settings[""][key] = _checked(top[key], value, source, key)
        elif key in SECTIONS:
            if value is None:
                continue
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {key}: expected a section, found {value!r}")
            known = {item.name: item for item in fields(SECTIONS[key]())}
            for name, inner in value.items():
                if name not in known:
                    raise ConfigError(
                        f"{source}: {key}.{name}: unknown option; "
                        f"{key} has: {', '.join(sorted(known))}"
                    )
                settings[key][name] = _checked(known[name], inner, source, f"{key}.{name}")
        else:
            raise ConfigError(
                f"{source}: {key}: unknown option; expected one of: {', '.join([*top, *SECTIONS])}"
            )
    return settings


def _apply_environment(settings: dict[str, dict[str, Any]], environment: Mapping[str, str]) -> None:
    known: dict[str, tuple[str, Field[Any]]] = {
        item.name.upper(): ("", item) for item in fields(Config) if item.name not in SECTIONS
    }
    for section, factory in SECTIONS.items():
        for item in fields(factory()):
            known[f"{section}_{item.name}".upper()] = (section, item)
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _RESERVED_VARIABLES:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name not in known:
            raise ConfigError(f"{variable}: no such option (value {text!r})")
        section, item = known[name]
        value = text if _kind(item) is str else _parse_text(text)
        settings[section][item.name] = _checked(item, value, "environment", variable)


def _parse_text(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _kind(item: Field[Any]) -> type:
    default = item.default_factory() if callable(item.default_factory) else item.default
    return type(default)


def _checked(item: Field[Any], value: Any, source: str, key: str) -> Any:
    """Return *value* as the option's type. Raises ConfigError."""
    kind = _kind(item)

    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"{source}: {key}: expected {expected}, found {value!r}")

    if kind is bool:
        if not isinstance(value, bool):
            raise refuse("true or false")
        return value
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse("a whole number")
    elif kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refuse("a number")
        value = float(value)
    elif kind is list:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise refuse("a list of texts")
        return value
    elif not isinstance(value, str):
        raise refuse("a text")
    metadata = item.metadata
    if metadata["choices"] and value not in metadata["choices"]:
        raise refuse("one of " + ", ".join(metadata["choices"]))
    if metadata["minimum"] is not None and not metadata["minimum"] <= value <= metadata["maximum"]:
        raise refuse(f"a number from {metadata['minimum']:g} to {metadata['maximum']:g}")
    return value


def _build(settings: dict[str, dict[str, Any]], base: Path, source: str) -> Config:
    """Make the frozen configuration, with absolute folders and cross-checks."""
    top = settings[""]
    data_folder = Path(base, Path(top.get("data_folder", Config().data_folder)).expanduser())
    storage = settings["storage"]
    disks = storage.get("disks") or ["disk1"]
    storage["disks"] = [os.path.normpath(data_folder / Path(disk).expanduser()) for disk in disks]
    if len(set(storage["disks"])) != len(storage["disks"]):
        raise ConfigError(f"{source}: storage.disks: a folder is named twice: {disks!r}")
    several_hosts = bool(settings["cluster"].get("managers"))
    if not several_hosts and storage.get("replicas", 1) > len(disks):
        raise ConfigError(
            f"{source}: storage.replicas: expected at most the number of disks ({len(disks)}), "
            f"found {storage['replicas']!r}"
        )
    for name in ("tls_certificate", "tls_key"):
        if settings["gateway"].get(name):
            path = Path(base, settings["gateway"][name]).expanduser()
            settings["gateway"][name] = os.path.normpath(path)
    if settings["mount"].get("point"):
        point = Path(base, settings["mount"]["point"]).expanduser()
        settings["mount"]["point"] = os.path.normpath(point)
    sections = {name: factory(**settings[name]) for name, factory in SECTIONS.items()}
    return Config(data_folder=os.path.normpath(data_folder), **sections)
