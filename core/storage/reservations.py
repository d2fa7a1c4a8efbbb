"""Blocks that clients were given to fill, by connection. What a lost connection held goes to
quarantine: its client may still be writing."""

from __future__ import annotations

from dataclasses import dataclass

from ..chunks.store import Block, ChunkStore
from ..errors import InvalidArgumentError, LimitExceededError, UnavailableError

RESERVATIONS_MAX = 4096  # per connection


@dataclass(slots=True)
class Reservation:
    """One reserved block."""

    store: ChunkStore
    block: Block
    in_use: bool = False
    given_back: bool = False
    """By its client, while an update was using it."""


class Reservations:
    """Touched only between awaits of the node's event loop: no lock."""

    def __init__(self) -> None:
        self._by_peer: dict[int, dict[int, Reservation]] = {}
        self._orphans: dict[int, Reservation] = {}
        self._next_id = 0

    def add(self, peer_id: int, store: ChunkStore, block: Block) -> int:
        """Note a block; return its id. Raises LimitExceededError."""
        mine = self._by_peer.setdefault(peer_id, {})
        if len(mine) >= RESERVATIONS_MAX:
            store.release(block)
            raise LimitExceededError(f"a connection with {RESERVATIONS_MAX} reserved blocks")
        self._next_id += 1
        mine[self._next_id] = Reservation(store, block)
        return self._next_id

    def take(self, peer_id: int, reservation_id: int, store: ChunkStore) -> Reservation:
        """The reservation, now in use by an update. Raises InvalidArgumentError;
        UnavailableError if it is a block of another store."""
        found = self._by_peer.get(peer_id, {}).get(reservation_id)
        if found is None or found.in_use:
            raise InvalidArgumentError(f"reservation {reservation_id} is not this connection's")
        if found.store is not store:
            raise UnavailableError(
                f"reservation {reservation_id} is a block of a target that is not asked: the "
                f"chain's head is another one by now"
            )
        found.in_use = True
        return found

    def adopted(self, peer_id: int, reservation_id: int) -> None:
        """The block belongs to a chunk now."""
        self._by_peer.get(peer_id, {}).pop(reservation_id, None)
        self._orphans.pop(reservation_id, None)

    def unused(self, peer_id: int, reservation_id: int) -> None:
        """The update is over; if it did not adopt the block, that is the client's again, unless it
        wants it no more."""
        found = self._by_peer.get(peer_id, {}).get(reservation_id)
        if found is not None:
            found.in_use = False
            if found.given_back:
                self.release(peer_id, reservation_id)
        elif reservation_id in self._orphans:
            orphan = self._orphans.pop(reservation_id)
            orphan.store.release_seen(orphan.block)

    def release(self, peer_id: int, reservation_id: int) -> None:
        """Give one back; nothing happens if it is unknown. One that an update is using comes back
        if the update does not adopt it."""
        mine = self._by_peer.get(peer_id, {})
        found = mine.get(reservation_id)
        if found is None:
            return
        if found.in_use:
            found.given_back = True
            return
        del mine[reservation_id]
        found.store.release_seen(found.block)

    def release_all(self, peer_id: int) -> None:
        """The connection is gone."""
        for number, found in self._by_peer.pop(peer_id, {}).items():
            if found.in_use:
                self._orphans[number] = found  # an update that is under way decides
            else:
                found.store.release_seen(found.block)
