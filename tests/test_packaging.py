"""The package list in pyproject.toml is written by hand: a forgotten folder would be missing from
the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_folder_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {"craqen"}
    for component in ("core", "gateway", "fuse", "client"):
        for marker in (ROOT / component).rglob("__init__.py"):
            found.add(".".join(["craqen", *marker.parent.relative_to(ROOT).parts]))
    assert listed == found


def test_every_module_is_in_a_package() -> None:
    for component in ("core", "gateway", "fuse", "client"):
        for module in (ROOT / component).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_nothing_but_the_package_marker_lies_at_the_root() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]
