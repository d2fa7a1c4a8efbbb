"""The configuration: what is accepted, what is refused, and how the refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from craqen.core.config import load_config
from craqen.core.errors import ConfigError
from craqen.core.options import Config, documented_yaml

ROOT = Path(__file__).resolve().parents[3]


def _load(tmp_path: Path, text: str, **environment: str) -> Config:
    path = tmp_path / "craqen.yaml"
    path.write_text(text)
    return load_config(str(path), environment)


def test_the_documented_file_is_the_defaults() -> None:
    path = ROOT / "conf" / "craqen.yaml"
    assert path.read_text() == documented_yaml()
    assert load_config(str(path), {}) == load_config(None, {})


def test_file_then_environment(tmp_path: Path) -> None:
    text = "gateway:\n  port: 9100\n  region: eu-north-1\n"
    config = _load(tmp_path, text, CRAQEN_GATEWAY_PORT="9200", CRAQEN_DATA_FOLDER=str(tmp_path))
    assert (config.gateway.port, config.gateway.region) == (9200, "eu-north-1")
    assert config.storage.disks == [f"{tmp_path}/disk1"]
    assert config.kv_url == f"embedded:{tmp_path}/kv"


def test_the_effective_file_gives_the_same_configuration(tmp_path: Path) -> None:
    config = _load(tmp_path, "storage:\n  disks: [a, /b]\n", CRAQEN_DATA_FOLDER=str(tmp_path))
    assert config.storage.disks == [f"{tmp_path}/a", "/b"]
    assert _load(tmp_path, documented_yaml(config)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway:\n  port: many", ["craqen.yaml", "gateway.port", "'many'", "whole number"]),
        ("gateway:\n  port: 70000", ["gateway.port", "70000", "1 to 65535"]),
        ("gateway:\n  tls: 1", ["gateway.tls", "true or false"]),
        ("gateway: 3", ["gateway", "section"]),
        ("gatway: {}", ["gatway", "unknown", "gateway"]),
        ("gateway:\n  prot: 1", ["gateway.prot", "unknown", "port"]),
        ("kv:\n  durability: maybe", ["kv.durability", "flush, interval", "'maybe'"]),
        ("storage:\n  disks: one", ["storage.disks", "list of texts"]),
        ("storage:\n  disks: [a, a]", ["storage.disks", "twice"]),
        ("storage:\n  replicas: 2", ["storage.replicas", "number of disks"]),
        ("- a", ["options"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_refusals_name_file_option_value_and_expectation(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_environment_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CRAQEN_GATEWAY_PROT"):
        _load(tmp_path, "", CRAQEN_GATEWAY_PROT="1")
    with pytest.raises(ConfigError, match=r"CRAQEN_GATEWAY_PORT.*whole number"):
        _load(tmp_path, "", CRAQEN_GATEWAY_PORT="x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(str(tmp_path / "absent.yaml"), {})


def test_replicas_of_a_store_on_several_hosts_are_on_their_disks_too(tmp_path: Path) -> None:
    file = tmp_path / "craqen.yaml"
    file.write_text("storage: {replicas: 3}\n")
    with pytest.raises(ConfigError, match="at most the number of disks"):
        load_config(str(file), {})
    file.write_text('storage: {replicas: 3}\ncluster: {managers: ["tcp://m:1"]}\n')
    assert load_config(str(file), {}).storage.replicas == 3
