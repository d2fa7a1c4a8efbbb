"""MACHINE: which other nodes do not answer, as one storage node finds out by its own calls.

RULES
1. A node is asked while a call to it is under way. From the first question after its last sign of
   life it owes one: any answer is one, whatever it says.
2. Who owes a sign of life for SUSPECT_LEASES is probed, by a call of its own on a connection of its
   own: a call may take long for other reasons, as a successor that waits for its own, or a slow
   disk; and a slow line may be full of what is under way.
3. Who has owed one for SILENT_LEASES is silent. It is probed until it answers, and asked nothing
   else: whoever would wait for it shall hear at once that he would wait in vain.
4. A node that did not tick for STALLED_LEASES did not listen either: nobody owes it anything of
   before.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

SUSPECT_LEASES: Final = 0.25
PROBE_LEASES: Final = 0.25
"""Between two probes of one node."""
SILENT_LEASES: Final = 1.0
"""As long as the manager gives a node."""
STALLED_LEASES: Final = 0.5


@dataclass(slots=True)
class _Peer:
    since_seconds: float
    """Since when it owes a sign of life."""
    calls: int = 0
    """Under way."""
    probed_seconds: float = float("-inf")
    silent: bool = False


class Silence:
    """Times are those of the node's monotonic clock."""

    def __init__(self, now_seconds: float) -> None:
        self._peers: dict[int, _Peer] = {}
        """Those that owe a sign of life."""
        self._ticked = now_seconds
        self.silent: tuple[int, ...] = ()
        """Nodes that do not answer, in order."""

    def is_silent(self, node_id: int) -> bool:
        """Whether to ask the node would be in vain."""
        return node_id in self.silent

    # Calls

    def asked(self, node_id: int, now_seconds: float) -> None:
        """A call begins."""
        peer = self._peers.get(node_id)
        if peer is None:
            peer = self._peers[node_id] = _Peer(now_seconds)
        peer.calls += 1

    def answered(self, node_id: int, now_seconds: float) -> None:
        """A call has ended with an answer."""
        self.failed(node_id)
        self.heard(node_id, now_seconds)

    def failed(self, node_id: int) -> None:
        """A call has ended without one."""
        peer = self._peers.get(node_id)
        if peer is not None and peer.calls:
            peer.calls -= 1

    def heard(self, node_id: int, now_seconds: float) -> None:
        """A sign of life."""
        peer = self._peers.get(node_id)
        if peer is None:
            return
        if not peer.calls:
            del self._peers[node_id]
        peer.since_seconds = now_seconds
        if peer.silent:
            peer.silent = False
            self._list()

    def keep(self, node_ids: Collection[int]) -> None:
        """Forget all others: they are no more."""
        for node_id in self._peers.keys() - node_ids:
            del self._peers[node_id]
        self._list()

    # Time

    def tick(self, lease_seconds: float, now_seconds: float) -> list[int]:
        """Find out who is silent; return the nodes to be probed now. To be called several times
        per SUSPECT_LEASES."""
        if now_seconds - self._ticked > lease_seconds * STALLED_LEASES:
            for peer in self._peers.values():
                peer.since_seconds = now_seconds
        self._ticked = now_seconds
        probes: list[int] = []
        for node_id, peer in self._peers.items():
            owed_leases = (now_seconds - peer.since_seconds) / lease_seconds
            if owed_leases >= SILENT_LEASES:
                peer.silent = True
            suspect = peer.silent or owed_leases >= SUSPECT_LEASES
            if suspect and now_seconds - peer.probed_seconds >= lease_seconds * PROBE_LEASES:
                peer.probed_seconds = now_seconds
                probes.append(node_id)
        self._list()
        return probes

    def _list(self) -> None:
        self.silent = tuple(sorted(one for one, peer in self._peers.items() if peer.silent))
