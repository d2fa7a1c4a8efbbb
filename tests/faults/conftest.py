"""A store of several hosts, for each test a fresh one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from craqen.tests.faults.conditions import require
from craqen.tests.faults.hosts import Hosts


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """A store that the test builds."""
    require(["network"])
    made = Hosts(tmp_path)
    try:
        yield made
    finally:
        made.close()
