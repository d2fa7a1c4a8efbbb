"""Pure: one storage node as its heartbeats show it."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from .messages import HeartbeatRequest
from .records import NodeRecord, NodeState


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a heartbeat."""

    accepted: bool
    """Whether the node's lease is renewed."""
    reason: str = ""
    """Why not."""
    is_candidate: bool = False
    """Not accepted, since the node is not in the table (yet)."""
    renews: bool = True
    """Of an accepted one: whether the node may go on serving. Not while targets of it, which serve,
    are about to leave their chains."""
    newer_incarnation: int = 0
    """Not accepted, since a process of this incarnation, which is above the sender's, was heard."""


ACCEPTED = Verdict(True)


@dataclass(slots=True)
class NodeLife:
    """A node of the table, and what was heard of it."""

    record: NodeRecord
    since_seconds: float
    """Of its last heartbeat, or when it became known."""
    renewed_seconds: float
    """When its lease was last renewed; at first when this manager took over: nobody renewed it
    later."""
    last: HeartbeatRequest | None = None
    dead: bool = False
    queued: bool = False
    """Whether the expiry queue holds it."""
    target_ids: set[int] = field(default_factory=set)

    @property
    def takes_part(self) -> bool:
        """Whether its targets may be anything but offline."""
        stopping = self.last is not None and self.last.stopping
        return not (self.dead or stopping or self.record.state is NodeState.STOPPING)

    def hear(self, request: HeartbeatRequest, now_seconds: float) -> bool:
        """Take a heartbeat that counts; whether the node is another than before: back, or about to
        end."""
        last = self.last
        changed = self.dead or last is None or last.stopping != request.stopping
        self.dead = False
        self.since_seconds = now_seconds
        self.last = request
        return changed


def verdict_on(node: NodeLife, request: HeartbeatRequest) -> Verdict:
    """Whether *request* counts after what was heard before.

    Incarnations of a node rise, so that a heartbeat of a process that has ended, however late and
    to whichever manager it comes, is never taken for that of the process which follows it.
    """
    last = node.last
    if last is None or request.incarnation > last.incarnation:
        return ACCEPTED
    if request.incarnation == last.incarnation:
        if request.number > last.number:
            return ACCEPTED
        return Verdict(
            False,
            f"node {request.node_id}: heartbeat {request.number} comes after number {last.number}",
        )
    return Verdict(
        False,
        f"node {request.node_id}: this process was replaced by a newer one; "
        f"end it, and see that no two processes have this node id",
        newer_incarnation=last.incarnation,
    )


def record_of(record: NodeRecord, request: HeartbeatRequest) -> NodeRecord:
    """The node's record with what it says of itself; what it leaves empty stays."""
    if (
        (not request.addresses or request.addresses == record.addresses)
        and (not request.host or request.host == record.host)
        and (not request.domain or request.domain == record.domain)
        and (not request.disks or request.disks == record.disks)
    ):
        return record
    return replace(
        record,
        addresses=request.addresses or record.addresses,
        host=request.host or record.host,
        domain=request.domain or record.domain,
        disks=request.disks or record.disks,
    )
