"""Advisory locks of files: see the port, file_lock_store.py.

Key: ``L``, inode, client, handle; the value is ``x`` (exclusive) or ``s`` (shared). Rows of dead
clients do not count; who comes upon one clears it.
"""

from __future__ import annotations

import asyncio
import struct

from ..errors import StaleHandleError
from ..kv.keys import prefix_end
from ..kv.store import Transaction
from .context import MetaContext
from .schema import client_key, decode_client, inode_key

PREFIX = b"L"
EXCLUSIVE, SHARED = b"x", b"s"
_KEY = struct.Struct(">QQQ")
_ID = struct.Struct(">Q")


def locks_range(inode_id: int) -> tuple[bytes, bytes]:
    """The rows of a file."""
    own = PREFIX + _ID.pack(inode_id)
    return own, prefix_end(own)


class FileLocks:
    """``FileLockStore``."""

    _context: MetaContext

    async def take_lock(
        self, inode_id: int, handle: int, *, exclusive: bool
    ) -> asyncio.Future[None] | None:
        """Lock a file."""
        context = self._context
        own = PREFIX + _KEY.pack(inode_id, context.client_id, handle)

        async def take(tx: Transaction) -> asyncio.Future[None] | None:
            if await tx.get(inode_key(inode_id)) is None:
                raise StaleHandleError(f"inode {inode_id:x}: is gone")
            await context.need_alive(tx)
            for key, mode in await tx.get_range(*locks_range(inode_id)):
                if key == own or (mode == SHARED and not exclusive):
                    continue
                client_id = _KEY.unpack_from(key, len(PREFIX))[1]
                value = await tx.get(client_key(client_id))
                if value is not None and not decode_client(value).declared_dead:
                    return tx.watch(key)
                tx.clear(key)
            tx.set(own, EXCLUSIVE if exclusive else SHARED)
            return None

        return await context.kv.transact(take)

    async def release_lock(self, inode_id: int, handle: int) -> None:
        """Let a file go."""
        key = PREFIX + _KEY.pack(inode_id, self._context.client_id, handle)

        async def release(tx: Transaction) -> None:
            tx.clear(key)

        await self._context.kv.transact(release)
