"""Changing the lock of a version: the calls of ``ObjectStore`` (core/meta/store.py)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..errors import BucketStateError, ConflictError, InvalidArgumentError
from ..events.records import RETENTION_PUT
from ..kv.store import Transaction
from .context import MetaContext
from .happenings import teller_of
from .locks import OFF, ON, check_new_lock, check_retention_change, lock_of
from .object_lookup import find_object
from .records import InodeType, Lock, ObjectAttributes
from .schema import planned_range, unpack_number
from .tree import changed, find_bucket

PLANNED_WRITE_NS = 120 * 1_000_000_000
"""No write in place is under way longer after it was planned: every message of it has a deadline
well below that."""


async def _refuse_while_written(tx: Transaction, inode_id: int, now_ns: int) -> None:
    """Raise ConflictError while a write in place is planned and not committed: its bytes may still
    arrive. Who plans the next one finds the lock."""
    for _, value in await tx.get_range(*planned_range(inode_id)):
        if now_ns - unpack_number(value) < PLANNED_WRITE_NS:
            raise ConflictError(f"inode {inode_id:x}: is being written in a mount; try again soon")


class LockCalls:
    """``set_retention`` and ``set_legal_hold``."""

    _context: MetaContext

    async def set_retention(
        self,
        bucket: str,
        key: bytes,
        *,
        mode: str,
        retain_until_ns: int,
        version_id: str = "",
        bypass_governance: bool = False,
    ) -> None:
        """Set or lift retention."""
        now = self._context.now_ns()

        def change(old: Lock) -> Lock:
            new = Lock(mode, retain_until_ns, old.legal_hold)
            check_new_lock(new, now)
            check_retention_change(old, new, now, bypass_governance=bypass_governance)
            return new

        await self._change_lock(bucket, key, version_id, change, RETENTION_PUT)

    async def set_legal_hold(
        self, bucket: str, key: bytes, *, hold: bool, version_id: str = ""
    ) -> None:
        """Set or lift a legal hold."""

        def change(old: Lock) -> Lock:
            return Lock(old.mode, old.retain_until_ns, ON if hold else OFF)

        await self._change_lock(bucket, key, version_id, change)

    async def _change_lock(
        self,
        bucket: str,
        key: bytes,
        version_id: str,
        change: Callable[[Lock], Lock],
        event: str = "",
    ) -> None:
        context = self._context

        async def write(tx: Transaction) -> None:
            record = await find_bucket(tx, bucket)
            if not record.object_lock:
                raise BucketStateError(f"bucket {bucket}: has no object lock")
            inode, found_id = await find_object(tx, bucket, key, version_id)
            if inode.type == InodeType.DIRECTORY:
                raise InvalidArgumentError("a folder without content cannot be locked")
            await _refuse_while_written(tx, inode.inode_id, context.now_ns())
            attributes = inode.object or ObjectAttributes()
            attributes = msgspec.structs.replace(attributes, lock=change(lock_of(inode)))
            inode = changed(context, tx, msgspec.structs.replace(inode, object=attributes))
            teller = await teller_of(context, tx, record) if event else None
            if teller is not None:
                await teller.tell(event, key, inode, found_id)

        await context.kv.transact(write)
