"""MACHINE: a storage node's right to serve.

A node that cannot renew its lease stops serving by itself before the manager may declare it dead
(self-fencing). Both count on their own monotonic clocks: the node from when it *sent* a heartbeat
that was answered, for half a lease; the manager from when that heartbeat *came*, which is later,
for a whole lease. So clocks may run at rates that differ by half.
"""

from __future__ import annotations

from typing import Final

SERVING_LEASES: Final = 0.5


class NodeLease:
    """Times are those of the node's monotonic clock."""

    __slots__ = ("until_seconds",)

    def __init__(self) -> None:
        self.until_seconds = float("-inf")
        """When the node stops serving, unless it hears of its manager before."""

    def renewed(self, sent_seconds: float, lease_seconds: float) -> None:
        """A heartbeat that was sent at *sent_seconds* was accepted."""
        self.until_seconds = max(self.until_seconds, sent_seconds + lease_seconds * SERVING_LEASES)

    def end(self) -> None:
        """The node serves no more."""
        self.until_seconds = float("-inf")

    def holds(self, now_seconds: float) -> bool:
        """Whether the node may serve now. What it answers must have been found before it asked."""
        return now_seconds < self.until_seconds
