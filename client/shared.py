"""One connection for all parts of a process: a process has no more than one to a store with the
embedded metadata store."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import threading

from ..core.config import CONFIG_FILE_VARIABLE
from .store import Store, connect

_lock = threading.Lock()
_stores: dict[tuple[int, str], Store] = {}


def shared_store(config: str | os.PathLike[str] | None = None) -> Store:
    """The process's store of the configuration file *config* (None: the one that CRAQEN_CONFIG
    names), connected at the first call and closed at the process's end. Raises OSError."""
    key = _key(config)
    with _lock:
        store = _stores.get(key)
        if store is None or store.closed:
            store = _stores[key] = connect(key[1] or None)
            if multiprocessing.parent_process() is not None:
                # Such a process ends without what is registered with atexit.
                multiprocessing.util.Finalize(None, _close, (store,), exitpriority=0)
        return store


def _key(config: str | os.PathLike[str] | None) -> tuple[int, str]:
    path = os.fspath(config) if config is not None else os.environ.get(CONFIG_FILE_VARIABLE, "")
    return os.getpid(), os.path.realpath(path) if path else ""


def known_store(config: str | os.PathLike[str] | None = None) -> Store | None:
    """What ``shared_store`` would give, if this process is connected already."""
    with _lock:
        store = _stores.get(_key(config))
        return None if store is None or store.closed else store


def share(store: Store, config: str | os.PathLike[str]) -> None:
    """Have ``shared_store`` give *store*, which the caller has open and closes."""
    with _lock:
        _stores[_key(config)] = store


@atexit.register
def _close_all() -> None:
    for (process, _), store in _stores.items():
        if process == os.getpid():
            _close(store)


def _close(store: Store) -> None:
    with contextlib.suppress(OSError):
        store.close()
