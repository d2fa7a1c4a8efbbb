"""Loading what gateway/ and fuse/ register as entry points, so that core need not know them."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..errors import MissingDependencyError

COMMANDS = "craqen.commands"
BENCHES = "craqen.benches"


def names(group: str) -> list[str]:
    """The names registered in *group*, sorted."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load(group: str, name: str) -> Any | None:
    """The object registered as *name* in *group*, or None. Raises MissingDependencyError."""
    for entry in entry_points(group=group):
        if entry.name == name:
            try:
                return entry.load()
            except ImportError as error:
                raise _missing(name, error) from error
    return None


def load_module(path: str, package: str | None, name: str) -> Any:
    """The module *path*, needed for *name*. Raises MissingDependencyError."""
    try:
        return import_module(path, package)
    except ImportError as error:
        raise _missing(name, error) from error


def _missing(name: str, error: ImportError) -> MissingDependencyError:
    needed = error.name or str(error)
    remedy = " (pip install 'craqen[mount]')" if needed == "pyfuse3" else ""
    return MissingDependencyError(
        f"{name}: needs {needed}, which is not installed or cannot be loaded: {error}{remedy}"
    )
