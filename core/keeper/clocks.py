"""Is this host's clock one to end objects by? What a clock that is ahead ends does not come back.

Every process of the store keeps a lease that is dated by its own host's clock (core/meta/life.py).
A clock far ahead of all of those is wrong, or all of those are.
"""

from __future__ import annotations

from typing import Final

from ..errors import UnavailableError
from ..kv.keys import prefix_end
from ..kv.store import KeyValueStore, ReadTransaction
from ..meta.schema import CLIENT_PREFIX, client_of, decode_client

APART_SECONDS: Final = 300.0
"""Far more than what leases are ahead of, or behind, the clock that dates them."""


async def check_clock(kv: KeyValueStore, own_client_id: int, now_ns: int) -> None:
    """Raise UnavailableError if *now_ns* is far later than the clocks of all other processes. With
    no other process there is nothing to compare it with."""

    async def newest(tx: ReadTransaction) -> int:
        rows = await tx.get_range(CLIENT_PREFIX, prefix_end(CLIENT_PREFIX))
        clients = {client_of(key): decode_client(value) for key, value in rows}
        return max(
            (
                client.expires_ns
                for client_id, client in clients.items()
                if client_id != own_client_id and not client.declared_dead
            ),
            default=now_ns,
        )

    ahead_seconds = (now_ns - await kv.read(newest)) / 1e9
    if ahead_seconds > APART_SECONDS:
        raise UnavailableError(
            f"the clock of this host is {ahead_seconds:.0f} s ahead of those of all other processes"
            f" of the store: nothing is ended by it. Set the clocks right"
        )
