"""A plug-in for the suite's pytest: the report says which markers a test has."""

from __future__ import annotations

from typing import Any


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Write the markers where the report takes them from."""
    for item in items:
        for name in sorted({marker.name for marker in item.iter_markers()}):
            item.user_properties.append(("marker", name))
