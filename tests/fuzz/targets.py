"""All targets."""

from __future__ import annotations

from . import document_targets, door_targets, inner_targets, request_targets
from .target import Target

TARGETS: tuple[Target, ...] = (
    *request_targets.TARGETS,
    *document_targets.TARGETS,
    *inner_targets.TARGETS,
    *door_targets.TARGETS,
)


def target_named(name: str) -> Target:
    """The target called *name*. Raises KeyError."""
    return {target.name: target for target in TARGETS}[name]
