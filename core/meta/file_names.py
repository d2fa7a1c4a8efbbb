"""Which names a file has: what events of a write in place need, since a write knows the inode only.

An inode remembers the name that it was given last (``Inode.folder_id``, ``Inode.file_name``); what
``link`` adds, or a rename of one of several names, is a row of its own. Neither is taken away when
a name goes: whoever reads them holds each against its entry.

Key: ``En``, inode, folder, name; no value.
"""

from __future__ import annotations

import struct

import msgspec

from ..errors import StaleHandleError
from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction, Transaction
from .records import Inode
from .schema import Entry
from .tree import find_entry, find_inode

NAMES_PREFIX = b"En"
_IDS = struct.Struct(">QQ")
_ID = struct.Struct(">Q")
_NAME_AT = len(NAMES_PREFIX) + _IDS.size


class Named(msgspec.Struct, frozen=True, gc=False):
    """A name that a file has."""

    folder_id: int
    name: bytes
    """As stored."""
    entry: Entry


def names_range(inode_id: int) -> tuple[bytes, bytes]:
    """The rows of an inode."""
    own = NAMES_PREFIX + _ID.pack(inode_id)
    return own, prefix_end(own)


def with_name(tx: Transaction, inode: Inode, folder_id: int, name: bytes) -> Inode:
    """*inode*, which is about to have the stored *name* in a folder; the caller writes it."""
    if inode.nlink > 1:
        tx.set(NAMES_PREFIX + _IDS.pack(inode.inode_id, folder_id) + name, b"")
        return inode
    return msgspec.structs.replace(inode, folder_id=folder_id, file_name=name)


async def names_of(tx: ReadTransaction, inode: Inode) -> list[Named]:
    """All names that the file has now; of a file that an older version of Craqen made, those that
    were given since then."""
    known = {(inode.folder_id, inode.file_name)}
    for key, _ in await tx.get_range(*names_range(inode.inode_id)):
        known.add((_IDS.unpack_from(key, len(NAMES_PREFIX))[1], key[_NAME_AT:]))
    found = []
    for folder_id, name in sorted(known):
        entry = await find_entry(tx, folder_id, name)
        if entry is not None and entry.inode_id == inode.inode_id:
            found.append(Named(folder_id, name, entry))
    return found


async def key_of(tx: ReadTransaction, bucket_id: int, folder_id: int, name: bytes) -> bytes:
    """The object key of the stored *name* in a folder. Raises StaleHandleError if the folder is not
    in the bucket."""
    names = [name]
    while folder_id != bucket_id:
        folder = await find_inode(tx, folder_id)
        if folder.parent_id == 0 or len(names) > _DEPTH_MAX:
            raise StaleHandleError(f"folder {folder_id:x}: is not in bucket {bucket_id:x}")
        names.append(folder.name)
        folder_id = folder.parent_id
    return b"/".join(reversed(names))


_DEPTH_MAX = 1 << 16  # a path in a mount may be longer than a key; a damaged one would be endless
