"""Style as a test: sizes, layers, lazy drivers, pure machines."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = ("core", "gateway", "fuse", "client")
MODULES = sorted(path for name in COMPONENTS for path in (ROOT / name).rglob("*.py"))

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 520

# Lower layers never import higher ones. Modules of one layer may import each other only within
# their folder.
CORE_LAYERS = [
    {
        "errors",
        "errno_map",
        "ids",
        "limits",
        "checksum",
        "challenge",
        "clock",
        "collector",
        "durable_file",
    },
    {"options", "config", "log", "metrics"},
    {"wire"},
    {"crypt", "access"},
    {"kv", "chunks"},
    {"cluster", "transport"},
    {"craq"},
    {"placement"},
    {"manager"},
    {"identity"},
    {"events", "lifecycle"},
    {"meta", "storage"},
    {"client"},
    {"keeper"},
    {"fsck"},
    {"bench"},
    {"cli"},
]

# Machines: protocol logic without I/O, clocks or randomness.
PURE = {
    "core/craq": {"asyncio", "os", "socket", "time", "random", "logging", "threading"},
    "core/access": {"asyncio", "os", "socket", "time", "random", "logging", "threading"},
    "core/placement": {"asyncio", "os", "socket", "time", "random", "logging", "threading"},
    "core/client/plan.py": {"asyncio", "os", "socket", "time", "random", "logging", "threading"},
    "core/wire/framing.py": {"asyncio", "os", "socket", "time", "random", "logging", "threading"},
    "core/chunks/allocator.py": {"asyncio", "os", "socket", "time", "random", "logging"},
}

# What must be importable without these: they are optional or heavy.
LAZY = {
    "craqen.gateway.app": ["pyfuse3", "fdb"],
    "craqen.core.cli.main": ["pyfuse3", "fdb", "aiohttp", "boto3"],
    "craqen.core.kv.open": ["fdb"],
}


def _imports(path: Path) -> Iterator[str]:
    """Absolute names of all modules that *path* imports, inside functions too."""
    package = ["craqen", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module or ""
                continue
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield ".".join([*base, node.module])
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def _layer_of(name: str) -> int | None:
    parts = name.split(".")
    if parts[:2] != ["craqen", "core"] or len(parts) < 3 or parts[2] == "__init__":
        return None
    for number, layer in enumerate(CORE_LAYERS):
        if parts[2] in layer:
            return number
    raise AssertionError(f"{name} is in no layer of tests/test_tidy.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path: Path) -> None:
    text = path.read_text()
    relative = path.relative_to(ROOT)
    assert len(text.splitlines()) <= MODULE_LINES_MAX, "split the module"
    tree = ast.parse(text)
    if text.strip():
        assert ast.get_docstring(tree), "a module says what it owns"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
    assert "TODO" not in text
    assert "FIXME" not in text
    own_layer = _layer_of(".".join(["craqen", *relative.with_suffix("").parts]))
    for name in _imports(path):
        component = relative.parts[0]
        if component == "core":
            assert not name.startswith(("craqen.gateway", "craqen.fuse", "craqen.client")), name
        elif name.startswith("craqen."):
            other = name.split(".")[1]
            assert other in ("core", component), name
        layer = _layer_of(name)
        if own_layer is not None and layer is not None:
            same_folder = name.split(".")[2] == relative.parts[1].removesuffix(".py")
            assert (
                layer < own_layer
                or same_folder
                or layer == own_layer == 0
                or (own_layer == layer and name.split(".")[2] in {"options", "config", "log"})
            ), f"{relative} imports {name}"
    for folder, banned in PURE.items():
        if str(relative).startswith(folder):
            used = {name.split(".")[0] for name in _imports(path)}
            assert not used & banned, f"a machine imports {used & banned}"


@pytest.mark.parametrize("module", sorted(LAZY))
def test_heavy_dependencies_are_lazy(module: str) -> None:
    """A fresh interpreter imports *module* with these packages blocked."""
    blocked = LAZY[module]
    program = (
        f"import sys\nfor name in {blocked!r}:\n    sys.modules[name] = None\nimport {module}\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
