"""``MetaStore`` in this process, on a KV: what trusted processes use."""

from __future__ import annotations

from ..clock import Clock
from ..ids import ROOT_INODE_ID
from ..kv.store import KeyValueStore, Transaction
from ..options import MetaOptions
from .appends import Appends
from .buckets import Buckets
from .context import MetaContext
from .expiry import Expiry
from .file_locks import FileLocks
from .files import Files
from .key_renames import KeyRenames
from .life import Life
from .listing import Listings
from .lock_calls import LockCalls
from .multipart import Multipart
from .objects import Objects
from .quotas import Quotas
from .records import Inode, InodeType
from .schema import inode_key
from .sealed import Sealed
from .trails import Trails
from .trash_calls import TrashCalls
from .tree import put_inode
from .version_listing import VersionListings
from .writes import Writes
from .xattrs import Xattrs


class LocalMetaStore(
    Buckets,
    Objects,
    Appends,
    LockCalls,
    Listings,
    VersionListings,
    Multipart,
    Files,
    KeyRenames,
    Writes,
    Sealed,
    Trails,
    TrashCalls,
    Xattrs,
    Quotas,
    Expiry,
    FileLocks,
    Life,
):
    """The namespace. Make it with ``open``."""

    def __init__(self, context: MetaContext) -> None:
        self._context = context

    @classmethod
    async def open(
        cls, kv: KeyValueStore, clock: Clock, options: MetaOptions, *, description: str
    ) -> LocalMetaStore:
        """Open the namespace on *kv*, making its root if it is new, and register this client.

        The caller keeps *kv* (and closes it after this store), and renews the lease.
        """
        context = MetaContext(
            kv,
            clock,
            removal_grace_seconds=options.removal_grace_seconds,
            feed_retention_seconds=options.feed_retention_seconds,
            client_lease_seconds=options.client_lease_seconds,
        )
        store = cls(context)
        await kv.transact(lambda tx: _make_root(context, tx))
        await store.register_client(
            description=description, lease_seconds=options.client_lease_seconds
        )
        await store.ensure_ids(1)
        return store

    async def close(self) -> None:
        """End the client's lease."""
        await self._context.settle()
        await self.unregister_client()


async def _make_root(context: MetaContext, tx: Transaction) -> None:
    if await tx.get(inode_key(ROOT_INODE_ID)) is not None:
        return
    now = context.now_ns()
    put_inode(tx, Inode(ROOT_INODE_ID, InodeType.DIRECTORY, 0o755, 0, 0, 2, 0, now, now, now, now))
