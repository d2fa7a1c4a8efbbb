"""One conformance suite, every backend: the fixture ``stores`` opens fresh stores of one kind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.foundationdb import FoundationDbStore
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import KeyValueStore

CLUSTER_VARIABLE = "CRAQEN_TEST_FDB_CLUSTER"

StoreFactory = Callable[[], KeyValueStore]


@pytest.fixture(params=["memory", "embedded", "foundationdb"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreFactory]:
    """Return a function that opens a new, empty store; the test closes it."""
    if request.param == "memory":
        yield MemoryStore
    elif request.param == "embedded":
        yield lambda: EmbeddedStore(tmp_path / uuid.uuid4().hex, map_bytes=1 << 30)
    else:
        cluster_file = os.environ.get(CLUSTER_VARIABLE)
        if not cluster_file:
            pytest.skip(f"no FoundationDB cluster: set {CLUSTER_VARIABLE} to a cluster file")
        yield lambda: FoundationDbStore(cluster_file, prefix=b"craqen-test/" + os.urandom(8))
