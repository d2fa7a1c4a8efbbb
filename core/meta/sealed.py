"""Encrypted files, changed through the mount. Every change brings bytes of its own: segments are
sealed once and never written again, so that no page is ever encrypted twice under one nonce, and
two writers cannot undo each other's neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..crypt.envelope import Encryption
from ..errors import ConflictError
from ..kv.store import Transaction
from .context import MetaContext
from .extents import with_extent
from .records import Extent, Inode, ObjectAttributes
from .schema import inline_key
from .segments import References
from .tree import all_extents, set_extents
from .writes import changed_content, need_file


class Sealed:
    """The calls of ``FileStore`` for encrypted content (core/meta/store.py)."""

    _context: MetaContext

    async def store_sealed(
        self,
        inode_id: int,
        generation: int,
        encryption: Encryption,
        *,
        size: int,
        inline: bytes | None = None,
        extents: Sequence[Extent] = (),
    ) -> Inode:
        """Put *inline* in place of all content, or lay *extents* over it."""
        context = self._context

        async def store(tx: Transaction) -> Inode:
            inode = await need_file(context, tx, inode_id)
            if inode.generation != generation:
                raise ConflictError(f"inode {inode_id:x}: changed while it was written")
            before = await all_extents(tx, inode)
            after: tuple[Extent, ...] = () if inode.inline or inline is not None else before
            for extent in extents:
                after = with_extent(after, extent)
            await References().lose(before).gain(after).apply(context, tx)
            if inline is not None:
                tx.set(inline_key(inode_id), inline)
            elif inode.inline:
                tx.clear(inline_key(inode_id))
            inode = set_extents(tx, inode, after)
            attributes = msgspec.structs.replace(
                inode.object or ObjectAttributes(), encryption=encryption
            )
            inode = msgspec.structs.replace(inode, inline=inline is not None, object=attributes)
            return await changed_content(context, tx, inode, size)

        return await context.kv.transact(store)
