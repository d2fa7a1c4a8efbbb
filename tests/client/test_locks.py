"""Locks of files by the native client."""

from __future__ import annotations

import threading

import pytest

from craqen.client import Store


def test_one_after_the_other(store: Store, folder: str) -> None:
    path = f"{folder}/locked"
    store.write_bytes(path, b"0")

    def count() -> None:
        for _ in range(10):
            with store.lock(path):
                store.write_bytes(path, b"%d" % (int(store.read_bytes(path)) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read_bytes(path) == b"40"


def test_who_waits_no_longer_is_told(store: Store, folder: str) -> None:
    path = f"{folder}/locked"
    store.write_bytes(path, b"")
    with store.lock(path, exclusive=False), store.lock(path, exclusive=False):
        with pytest.raises(BlockingIOError), store.lock(path, timeout_seconds=0.05):
            raise AssertionError("it was taken")
    with store.lock(path, timeout_seconds=0):
        pass
    with pytest.raises(FileNotFoundError), store.lock(f"{folder}/none"):
        pass
