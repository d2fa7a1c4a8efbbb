"""A whole store for the tests of the native client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from craqen import client
from craqen.core.bench.store import LocalStore


@pytest.fixture(scope="session")
def running() -> Iterator[LocalStore]:
    # Tests of what a file system does, not of what survives a power cut.
    with LocalStore(workers=1, options=["CRAQEN_KV_DURABILITY=interval"]) as store:
        yield store


@pytest.fixture(scope="session")
def config(running: LocalStore) -> str:
    return f"{running.folder}/run/effective.yaml"


@pytest.fixture(scope="session")
def store(config: str) -> Iterator[client.Store]:
    with client.connect(config) as connected:
        yield connected


@pytest.fixture
def folder(store: client.Store, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = f"/{abs(hash(request.node.nodeid)):x}-bucket"
    store.make_directory(name)
    return name
