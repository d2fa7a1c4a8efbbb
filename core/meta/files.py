"""Names and inodes as POSIX calls see them. The kernel has checked permissions; the rules of the
tree are checked here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..errors import (
    AlreadyExistsError,
    CrossDeviceError,
    InvalidArgumentError,
    IsDirectoryError,
    LimitExceededError,
    NotDirectoryError,
    NotEmptyError,
    NotFoundError,
    PermissionDeniedError,
    StaleHandleError,
)
from ..events.records import CREATED_PUT
from ..ids import ROOT_INODE_ID
from ..kv.store import ReadTransaction, Transaction
from ..limits import LINKS_MAX, SYMLINK_BYTES_MAX
from .buckets import drop_bucket, make_bucket
from .charges import charge
from .context import MetaContext
from .file_names import with_name
from .folders import (
    find_hidden,
    keep_if_emptied,
    leave_directory,
    make_explicit,
    show,
)
from .happenings import tell_name, tell_name_gone
from .inheritance import Inherited, inherited
from .names import is_plain, meant, shown
from .records import Bucket, DirectoryEntry, Inode, InodeType, Owner, Versioning
from .schema import (
    ENTRY_EXPLICIT,
    Entry,
    decode_entry,
    directory_end,
    directory_prefix,
    long_name_key,
    session_key,
    xattr_range,
)
from .trash import IDS_MAX, keep_file
from .tree import (
    drop_link,
    find_inode,
    inodes_of,
    is_empty,
    new_inode,
    put_entry,
    put_inode,
    remove_entry,
)
from .versions import Slot, bucket_by_id, enter, mark_deleted

MOUNT_OWNER = "mount"
MOUNT_REGION = ""


async def find_name(
    tx: ReadTransaction, parent_id: int, posix_name: bytes
) -> tuple[bytes, Entry] | None:
    """(stored name, entry) of what a POSIX name means; None if there is none."""
    name, hidden_file, is_digest = meant(posix_name)
    if is_digest:
        full = await tx.get(long_name_key(parent_id, name))
        if full is None:
            return None
        name = full
    own = directory_prefix(parent_id)
    as_file, as_directory = await tx.get_many([own + name, own + name + b"/"])
    if as_directory is not None and not hidden_file:
        return name + b"/", decode_entry(as_directory)
    if as_file is not None:
        return name, decode_entry(as_file)
    return None


async def need_name(tx: ReadTransaction, parent_id: int, posix_name: bytes) -> tuple[bytes, Entry]:
    """As ``find_name``. Raises NotFoundError."""
    found = await find_name(tx, parent_id, posix_name)
    if found is None:
        raise NotFoundError(f"{posix_name!r}: no such name")
    return found


def new_stored_name(posix_name: bytes, *, directory: bool) -> bytes:
    """The stored name of something made by a POSIX call. Raises InvalidArgumentError."""
    name, _, is_digest = meant(posix_name)
    if is_digest or not is_plain(name):
        raise InvalidArgumentError(f"{posix_name!r}: escaped names are made by S3 only")
    return name + b"/" if directory else name


async def need_directory(tx: ReadTransaction, inode_id: int) -> Inode:
    """The directory. Raises NotDirectoryError, StaleHandleError (it is gone, or hidden)."""
    inode = await find_inode(tx, inode_id)
    if inode.type != InodeType.DIRECTORY:
        raise NotDirectoryError(f"inode {inode_id:x}: is not a directory")
    if inode.noncurrent:
        raise StaleHandleError(f"inode {inode_id:x}: has no name any more")
    return inode


def bucket_of(parent: Inode) -> int:
    """Which bucket something in directory *parent* is counted for."""
    return parent.bucket_id or parent.inode_id


class Files:
    """Name and inode calls of ``FileStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def lookup(self, parent_id: int, name: bytes) -> Inode:
        """The inode that *name* means."""

        async def read(tx: ReadTransaction) -> Inode:
            _, entry = await need_name(tx, parent_id, name)
            return await find_inode(tx, entry.inode_id)

        return await self._context.kv.read(read)

    async def get_inode(self, inode_id: int) -> Inode:
        """The inode."""

        async def read(tx: ReadTransaction) -> Inode:
            inode = await find_inode(tx, inode_id)
            return await need_directory(tx, inode_id) if _is_hidden(inode) else inode

        return await self._context.kv.read(read)

    async def get_inodes(self, inode_ids: Sequence[int]) -> list[Inode | None]:
        """Several inodes."""
        found = await self._context.kv.read(lambda tx: inodes_of(tx, inode_ids))
        return [None if inode is None or _is_hidden(inode) else inode for inode in found]

    async def create(
        self,
        parent_id: int,
        name: bytes,
        kind: InodeType,
        *,
        mode: int,
        uid: int,
        gid: int,
        rdev: int = 0,
        symlink_target: bytes = b"",
        session: int | None = None,
        exclusive: bool = True,
    ) -> Inode:
        """Make something new."""
        context = self._context
        if len(symlink_target) > SYMLINK_BYTES_MAX:
            raise InvalidArgumentError(f"a link target of {len(symlink_target)} bytes")

        async def make(tx: Transaction) -> Inode:
            parent = await need_directory(tx, parent_id)
            present = await find_name(tx, parent_id, name)
            if present is not None:
                inode = await find_inode(tx, present[1].inode_id)
                if exclusive or inode.type != kind:
                    raise AlreadyExistsError(f"{name!r}: exists")
                await self._open(tx, inode.inode_id, session)
                return inode
            if parent_id == ROOT_INODE_ID:
                return await self._make_bucket(tx, name, kind, mode, uid, gid)
            stored = new_stored_name(name, directory=kind == InodeType.DIRECTORY)
            gets = inherited(parent, kind, mode, gid)
            bucket = await bucket_by_id(tx, bucket_of(parent))
            if kind == InodeType.DIRECTORY and bucket.versioning != Versioning.NEVER:
                hidden = await find_hidden(tx, parent_id, stored[:-1])
                if hidden is not None:
                    inode = await find_inode(tx, hidden)
                    inode = await self._make_again(tx, inode, gets, uid)
                    await tell_name(context, tx, bucket, CREATED_PUT, parent_id, stored, inode)
                    return inode
            inode = new_inode(
                context,
                kind,
                mode=gets.mode,
                uid=uid,
                gid=gets.gid,
                bucket_id=bucket_of(parent),
                size=len(symlink_target),
                parent_id=parent_id if kind == InodeType.DIRECTORY else 0,
                name=name if kind == InodeType.DIRECTORY else b"",
                quota_ids=parent.quota_ids,
                access_acl=gets.access_acl,
                default_acl=gets.default_acl,
            )
            inode = msgspec.structs.replace(
                inode,
                rdev=rdev,
                symlink_target=symlink_target,
                inline=False,
            )
            inode = await self._enter_new(tx, bucket, parent_id, stored, inode)
            await self._open(tx, inode.inode_id, session)
            context.touch_directory(tx, parent_id)
            context.tell_entry(tx, parent_id, name, inode.inode_id)
            return inode

        return await context.transact(make, ids=1)

    async def _enter_new(
        self, tx: Transaction, bucket: Bucket, parent_id: int, stored: bytes, inode: Inode
    ) -> Inode:
        """Write a new inode and its first name, count it and tell of it."""
        context = self._context
        if inode.type == InodeType.DIRECTORY:
            put_inode(tx, inode)
            entry = Entry(inode.inode_id, inode.type, ENTRY_EXPLICIT)
            put_entry(tx, parent_id, stored, entry)
        else:
            inode = with_name(tx, inode, parent_id, stored)
            put_inode(tx, inode)
            entry = await enter(
                context, tx, Slot(bucket.versioning, parent_id, stored), inode, None
            )
            await charge(context, tx, inode, inode.size, 1)
        await tell_name(context, tx, bucket, CREATED_PUT, parent_id, stored, inode, entry)
        return inode

    async def _make_again(self, tx: Transaction, hidden: Inode, gets: Inherited, uid: int) -> Inode:
        """mkdir of a folder that still holds versions: the same one comes back, as if new."""
        context = self._context
        now = context.now_ns()
        inode = msgspec.structs.replace(
            hidden,
            mode=gets.mode & 0o7777,
            uid=uid,
            gid=gets.gid,
            atime_ns=now,
            ctime_ns=now,
            birth_ns=now,
            access_acl=gets.access_acl,
            default_acl=gets.default_acl,
        )
        inode = show(context, tx, inode)
        await make_explicit(tx, inode)
        tx.clear_range(*xattr_range(inode.inode_id))
        context.touch_directory(tx, inode.inode_id)
        context.tell_inode(tx, inode.inode_id)
        return await find_inode(tx, inode.inode_id)

    async def _open(self, tx: Transaction, inode_id: int, handle: int | None) -> None:
        if handle is not None:
            await self._context.need_alive(tx)
            tx.set(session_key(inode_id, self._context.client_id, handle), b"w")

    async def _make_bucket(
        self, tx: Transaction, name: bytes, kind: InodeType, mode: int, uid: int, gid: int
    ) -> Inode:
        if kind != InodeType.DIRECTORY:
            raise PermissionDeniedError("the root holds buckets only: make a folder first")
        owner = Owner(uid, gid, 0o644, mode)
        text = name.decode("utf-8", "surrogateescape")
        bucket = await make_bucket(self._context, tx, text, MOUNT_OWNER, MOUNT_REGION, owner)
        return await find_inode(tx, bucket.inode_id)

    async def link(self, inode_id: int, parent_id: int, name: bytes) -> Inode:
        """Another name for a file."""
        context = self._context

        async def make(tx: Transaction) -> Inode:
            inode = await find_inode(tx, inode_id)
            parent = await need_directory(tx, parent_id)
            if inode.type == InodeType.DIRECTORY or parent_id == ROOT_INODE_ID:
                raise PermissionDeniedError("folders cannot be linked, nor files at the root")
            if bucket_of(parent) != inode.bucket_id:
                raise CrossDeviceError("a file cannot be linked into another bucket: copy it")
            if parent.quota_ids != inode.quota_ids:
                raise CrossDeviceError(
                    "a file cannot be linked where it would count for another quota: copy it"
                )
            if inode.nlink == 0:
                raise NotFoundError(f"inode {inode_id:x}: has no name any more")
            if inode.nlink >= LINKS_MAX:
                raise LimitExceededError(f"inode {inode_id:x}: has {LINKS_MAX} links")
            if await find_name(tx, parent_id, name) is not None:
                raise AlreadyExistsError(f"{name!r}: exists")
            stored = new_stored_name(name, directory=False)
            inode = msgspec.structs.replace(inode, nlink=inode.nlink + 1, ctime_ns=context.now_ns())
            put_inode(tx, with_name(tx, inode, parent_id, stored))
            bucket = await bucket_by_id(tx, inode.bucket_id)
            slot = Slot(bucket.versioning, parent_id, stored)
            entry = await enter(context, tx, slot, inode, None)
            await tell_name(context, tx, bucket, CREATED_PUT, parent_id, stored, inode, entry)
            context.touch_directory(tx, parent_id)
            context.tell_entry(tx, parent_id, name, inode_id)
            context.tell_inode(tx, inode_id)
            return inode

        return await context.transact(make, ids=1)

    async def unlink(self, parent_id: int, name: bytes) -> Inode:
        """Remove a file's name. The folder stays, also if S3 had made it and it is empty now."""
        context = self._context

        async def remove(tx: Transaction) -> Inode:
            stored, entry = await need_name(tx, parent_id, name)
            if entry.type == InodeType.DIRECTORY:
                raise IsDirectoryError(f"{name!r}: is a folder")
            inode = await find_inode(tx, entry.inode_id)
            bucket = await bucket_by_id(tx, inode.bucket_id)
            slot = Slot(bucket.versioning, parent_id, stored)
            marker = None
            kept = await keep_file(context, tx, bucket, parent_id, stored, inode)
            if kept is None:
                await remove_entry(tx, parent_id, stored)
            if kept is not None:
                inode = kept
            elif slot.versioning == Versioning.NEVER:
                inode = await drop_link(context, tx, inode)
            else:
                marker = await mark_deleted(context, tx, slot, entry, inode)
                inode = await find_inode(tx, entry.inode_id)
            await tell_name_gone(context, tx, bucket, parent_id, stored, marker)
            await keep_if_emptied(tx, parent_id)
            context.touch_directory(tx, parent_id)
            context.tell_entry(tx, parent_id, name, inode.inode_id)
            return inode

        return await context.transact(remove, ids=IDS_MAX)

    async def remove_directory(self, parent_id: int, name: bytes) -> None:
        """Remove an empty folder; at the root, an empty bucket."""
        context = self._context

        async def remove(tx: Transaction) -> bool:
            _, entry = await need_name(tx, parent_id, name)
            if entry.type != InodeType.DIRECTORY:
                raise NotDirectoryError(f"{name!r}: is not a folder")
            if parent_id == ROOT_INODE_ID:
                return await drop_bucket(context, tx, name.decode())
            if not await is_empty(tx, entry.inode_id):
                raise NotEmptyError(f"{name!r}: is not empty")
            folder = await find_inode(tx, entry.inode_id)
            await leave_directory(context, tx, folder, versioned=True)
            if folder.explicit:
                bucket = await bucket_by_id(tx, folder.bucket_id)
                await tell_name_gone(context, tx, bucket, parent_id, folder.name + b"/")
            await keep_if_emptied(tx, parent_id)
            return True

        while not await context.kv.transact(remove):
            pass

    async def read_directory(
        self, inode_id: int, *, after: bytes = b"", limit: int = 1000
    ) -> list[DirectoryEntry]:
        """A page of entries with their inodes."""

        async def read(tx: ReadTransaction) -> list[DirectoryEntry]:
            own = directory_prefix(inode_id)
            start = own + after
            rows = await tx.get_range(start, directory_end(inode_id), limit=limit)
            if not rows and not after:
                await need_directory(tx, inode_id)
            entries = [(key[len(own) :], decode_entry(value)) for key, value in rows]
            files = [name for name, entry in entries if not name.endswith(b"/") or not name]
            twins = await tx.get_many([own + name + b"/" for name in files])
            hidden = {name for name, twin in zip(files, twins, strict=True) if twin is not None}
            inodes = await inodes_of(tx, [entry.inode_id for _, entry in entries])
            found: list[DirectoryEntry] = []
            for (stored, entry), inode in zip(entries, inodes, strict=True):
                if inode is None:
                    continue
                is_directory = entry.type == InodeType.DIRECTORY
                name = shown(
                    stored.removesuffix(b"/") if is_directory else stored,
                    hidden_file=not is_directory and stored in hidden,
                )
                found.append(DirectoryEntry(name, inode, stored + b"\0"))
            return found

        return await self._context.kv.read(read)


def _is_hidden(inode: Inode) -> bool:
    """Whether a folder is gone as far as the mount goes."""
    return inode.noncurrent and inode.type == InodeType.DIRECTORY
