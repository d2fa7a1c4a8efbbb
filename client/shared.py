"""One connection for all parts of a process: a process has no more than one to a store with the
embedded metadata store."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading

from ..core.config import CONFIG_FILE_VARIABLE
from .store import Store, connect

_lock = threading.Lock()
_stores: dict[tuple[int, str], Store] = {}


def shared_store(config: str | os.PathLike[str] | None = None) -> Store:
    """The process's store of the configuration file *config* (None: the one that CRAQEN_CONFIG
    names), connected at the first call and closed at the process's end. Raises OSError."""
    path = os.fspath(config) if config is not None else os.environ.get(CONFIG_FILE_VARIABLE, "")
    key = os.getpid(), os.path.realpath(path) if path else ""
    with _lock:
        store = _stores.get(key)
        if store is None or store.closed:
            store = _stores[key] = connect(path or None)
        return store


def share(store: Store, config: str | os.PathLike[str]) -> None:
    """Have ``shared_store`` give *store*, which the caller has open and closes."""
    with _lock:
        _stores[os.getpid(), os.path.realpath(os.fspath(config))] = store


@atexit.register
def _close_all() -> None:
    for (process, _), store in _stores.items():
        if process == os.getpid():
            with contextlib.suppress(OSError):
                store.close()
