"""A plug-in for the suite's pytest: each of its processes has a configuration of its own, and the
report says which markers a test has."""

from __future__ import annotations

import os
from typing import Any

_process = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
os.environ["S3TEST_CONF"] = f"{os.environ['CRAQEN_S3TEST_CONF']}.{_process}"


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Write the markers where the report takes them from."""
    for item in items:
        for name in sorted({marker.name for marker in item.iter_markers()}):
            item.user_properties.append(("marker", name))
