"""Pure: one storage node as its heartbeats show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from .messages import HeartbeatRequest
from .records import NodeRecord, NodeState

REPLACED_MAX: Final = 64  # replaced processes of a node that are remembered


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a heartbeat."""

    accepted: bool
    """Whether the node's lease is renewed."""
    reason: str = ""
    """Why not."""
    is_candidate: bool = False
    """Not accepted, since the node is not in the table (yet)."""


ACCEPTED = Verdict(True)


@dataclass(slots=True)
class NodeLife:
    """A node of the table, and what was heard of it."""

    record: NodeRecord
    since_seconds: float
    """Of its last heartbeat, or when it became known."""
    last: HeartbeatRequest | None = None
    dead: bool = False
    queued: bool = False
    """Whether the expiry queue holds it."""
    target_ids: set[int] = field(default_factory=set)
    replaced: list[int] = field(default_factory=list)
    """Incarnations that count no more."""

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
        if last is not None and last.incarnation != request.incarnation:
            self.replaced = [*self.replaced, last.incarnation][-REPLACED_MAX:]
        self.dead = False
        self.since_seconds = now_seconds
        self.last = request
        return changed


def refusal_of(node: NodeLife, request: HeartbeatRequest) -> str:
    """Why *request* does not count after what was heard before; empty: it does."""
    last = node.last
    if last is None:
        return ""
    if request.incarnation == last.incarnation:
        if request.number > last.number:
            return ""
        return (
            f"node {request.node_id}: heartbeat {request.number} comes after number {last.number}"
        )
    if request.incarnation in node.replaced:
        return (
            f"node {request.node_id}: this process was replaced by a newer one; "
            f"end it, and see that no two processes have this node id"
        )
    return ""


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
