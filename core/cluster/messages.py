"""What storage nodes, operators and managers say to each other. Encoded as in
core/wire/messages.py."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..wire.messages import Message, Natural, Number
from .delta import RoutingDelta
from .records import LocalState

TARGETS_PER_NODE_MAX = 4096
ADDRESSES_PER_NODE_MAX = 16
DISKS_PER_NODE_MAX = 256
UNREACHED_MAX = 1024
FOLLOW_WAIT_SECONDS_MAX = 30.0
ADMIN_BYTES_MAX = 16 << 20

Name = Annotated[str, msgspec.Meta(max_length=4096)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=DISKS_PER_NODE_MAX)]


class ResyncReport(Message, frozen=True):
    """How far a predecessor has brought its syncing successor."""

    target_id: int
    """The one that is being filled."""
    chunks_compared: Natural
    chunks_sent: Natural
    bytes_sent: Natural
    bytes_to_send: Natural
    """Known so far."""
    bytes_per_second: float
    seconds_left: float
    """Negative: not known yet."""


class TargetReport(Message, frozen=True):
    """One target as its node sees it."""

    target_id: int
    state: LocalState
    chain_version: int
    """Of the chain record under which ``state`` was found."""
    error: Name = ""
    """Why it is OFFLINE."""
    capacity_bytes: Natural = 0
    free_bytes: Natural = 0
    used_bytes: Natural = 0
    chunks: Natural = 0
    damaged_chunks: Natural = 0
    repaired_chunks: Natural = 0
    scrubbed_wall_seconds: float = 0.0
    """When the last whole scrub ended; 0: never."""
    resync: ResyncReport | None = None
    """Of its successor, while that is filled from here."""


class HeartbeatRequest(Message, frozen=True):
    """A node lives. ``number`` rises by one with each, ``incarnation`` with each process of the
    node."""

    cluster_id: Name
    node_id: Number
    incarnation: Number
    number: Number
    routing_version: Number
    """The table that the node works by."""
    addresses: Annotated[tuple[Name, ...], msgspec.Meta(max_length=ADDRESSES_PER_NODE_MAX)] = ()
    host: Name = ""
    domain: Name = ""
    disks: Names = ()
    targets: Annotated[tuple[TargetReport, ...], msgspec.Meta(max_length=TARGETS_PER_NODE_MAX)] = ()
    stopping: bool = False
    """The process is about to end: its targets leave at once."""
    refused: Natural = 0
    """Frames, greetings and calls that the process has refused."""
    unreached: Annotated[tuple[Number, ...], msgspec.Meta(max_length=UNREACHED_MAX)] = ()
    """Nodes that have not answered the process for a lease, though it asks."""


class HeartbeatReply(Message, frozen=True):
    """The lease is renewed, from when the heartbeat was sent. ``delta`` is from the version that
    the node said, or whole."""

    epoch: int
    lease_seconds: float
    delta: RoutingDelta | None = None
    settings_version: int = 0
    settings: dict[str, str] | None = None
    """Options that operators changed while running, if newer than what the node has."""
    newer_incarnation: int = 0
    """Nothing is renewed: the heartbeat is older than the process of this incarnation. One that was
    never accepted (its host's clock went back) goes on as the next above; any other ends."""
    renews: bool = True
    """Whether the lease is renewed. False: it was heard, but targets of it are about to leave their
    chains, and it must not serve them by a table that counts no more."""


class FollowRequest(Message, frozen=True):
    """Answer when the table is newer than ``routing_version``, or when ``wait_seconds`` are
    over."""

    routing_version: Number
    wait_seconds: Annotated[float, msgspec.Meta(ge=0, le=FOLLOW_WAIT_SECONDS_MAX)]


class FollowReply(Message, frozen=True):
    delta: RoutingDelta | None = None


class AdminRequest(Message, frozen=True):
    """An operator's command; ``arguments`` is a JSON object."""

    command: Annotated[str, msgspec.Meta(max_length=64)]
    arguments: Annotated[bytes, msgspec.Meta(max_length=ADMIN_BYTES_MAX)]


class AdminReply(Message, frozen=True):
    """``result`` is JSON."""

    result: bytes
