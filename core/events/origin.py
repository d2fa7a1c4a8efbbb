"""Who makes a change, for the events of it. The door says so before it calls the namespace."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """Where a change comes from."""

    principal: str = ""
    """Who did it; empty: the owner of the file, by a mount."""
    address: str = "mount"
    """Where the request came from."""
    request_id: str = ""
    created: str = ""
    """Name of the event of an object that is put; empty: by how it is put."""
    expires: bool = False
    """Removals are those of lifecycle rules."""


MOUNT = Origin()
LIFECYCLE = Origin("s3.amazonaws.com", "s3.amazonaws.com", expires=True)
"""As AWS names it."""

origin: ContextVar[Origin] = ContextVar("craqen_event_origin", default=MOUNT)
