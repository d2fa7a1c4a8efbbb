"""DRIVER: verbs on names: directories, links, renames, special files."""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileNameT, FUSEError, InodeT

from ..core.errors import LimitExceededError, NotFoundError, StaleHandleError
from ..core.meta.records import Inode, InodeType
from .handles import RELOADS_MAX, DirectoryHandle
from .verbs import OperationsBase, verb

JUST_NOW_SECONDS = 1.0  # how long stat may show a replaced file when changes come very fast

_KINDS = {
    stat.S_IFREG: InodeType.FILE,
    stat.S_IFIFO: InodeType.FIFO,
    stat.S_IFSOCK: InodeType.SOCKET,
    stat.S_IFCHR: InodeType.CHARACTER_DEVICE,
    stat.S_IFBLK: InodeType.BLOCK_DEVICE,
}


class NameVerbs(OperationsBase):
    """See the module."""

    @verb
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        changes = self._changes
        parent_id = self._id(parent_inode)
        if name == b".":
            inode = await self._meta.get_inode(parent_id)
        elif name == b"..":
            inode = await self._parent(await self._meta.get_inode(parent_id))
        else:
            try:
                inode = await self._meta.lookup(parent_id, name)
            except NotFoundError:
                self._retries.pop(ctx.pid, None)
                raise
        if self._retries and ctx.pid in self._retries:
            self._retries[ctx.pid] = inode.inode_id
        return self._looked_up(inode, cached=changes == self._changes)

    def forget(  # type: ignore[override]  # not a coroutine: pyfuse3 takes that, and it costs less
        self, inode_list: Sequence[tuple[InodeT, int]]
    ) -> None:
        for number, lookups in inode_list:
            if number != pyfuse3.ROOT_INODE:
                self._inodes.forget(number, lookups)

    @verb
    async def getattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        changes = self._changes
        found = await self._meta.get_inode(self._id(inode))
        if found.nlink == 0 and not self._may_be_nameless(found.inode_id):
            # On ESTALE the kernel looks the name up again.
            raise StaleHandleError(f"inode {found.inode_id:x}: was replaced or removed elsewhere")
        return self._entry(found, cached=changes == self._changes)

    def _may_be_nameless(self, inode_id: int) -> bool:
        """Whether a caller can rightly mean an inode without a name: it is open, was unlinked here,
        or still had a name a moment ago (then it is being replaced over and over)."""
        known = self._inodes.get(inode_id)
        recent = time.monotonic() - known.looked_up_seconds < JUST_NOW_SECONDS
        return recent or known.unlinked_here or self._client.is_open(inode_id)

    @verb
    async def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        kind = _KINDS[stat.S_IFMT(mode)]
        return self._looked_up(await self._create(parent_inode, name, kind, mode, ctx, rdev=rdev))

    @verb
    async def mkdir(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        kind = InodeType.DIRECTORY
        return self._looked_up(await self._create(parent_inode, name, kind, mode, ctx))

    @verb
    async def symlink(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        target: FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        kind = InodeType.SYMLINK
        return self._looked_up(
            await self._create(parent_inode, name, kind, 0o777, ctx, symlink_target=target)
        )

    @verb
    async def readlink(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileNameT:
        return FileNameT((await self._meta.get_inode(self._id(inode))).symlink_target)

    @verb
    async def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        try:
            linked = await self._meta.link(self._id(inode), self._id(new_parent_inode), new_name)
        except LimitExceededError:
            raise FUSEError(errno.EMLINK) from None
        self._changes += 1
        return self._looked_up(linked)

    @verb
    async def unlink(
        self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        inode = await self._meta.unlink(self._id(parent_inode), name)
        self._changes += 1
        await self._lost_a_name(inode)

    async def _lost_a_name(self, inode: Inode) -> None:
        """*inode* lost a name by a call through this mount."""
        if inode.nlink == 0 and self._client.is_open(inode.inode_id):
            self._inodes.get(inode.inode_id).unlinked_here = True
            await self._client.protect([inode.inode_id])

    @verb
    async def rmdir(
        self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        await self._meta.remove_directory(self._id(parent_inode), name)
        self._changes += 1

    @verb
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
            raise FUSEError(errno.EINVAL)
        new_parent_id = self._id(parent_inode_new)
        victim = None
        if not flags and self._client.any_open():
            try:
                victim = await self._meta.lookup(new_parent_id, name_new)
            except NotFoundError:
                victim = None
        await self._meta.rename(
            self._id(parent_inode_old),
            name_old,
            new_parent_id,
            name_new,
            no_replace=bool(flags & pyfuse3.RENAME_NOREPLACE),
            exchange=bool(flags & pyfuse3.RENAME_EXCHANGE),
        )
        self._changes += 1
        if victim is not None and self._client.is_open(victim.inode_id):
            await self._lost_a_name(await self._meta.get_inode(victim.inode_id))

    # Directories

    @verb
    async def opendir(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileHandleT:
        return FileHandleT(self._directories.add(DirectoryHandle(self._id(inode))))

    @verb
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle = self._directories[fh]
        if start_id == 0:
            handle.rewind()
        if start_id < 2 and not await self._give_dots(handle, start_id, token):
            return
        cookie = max(start_id, 2)
        loads = 0
        while True:
            page = handle.ready(cookie, self._changes)
            if page is None:
                changes = self._changes
                cookie = await handle.load(self._meta, cookie, changes)
                loads += 1
                if changes != self._changes and loads < RELOADS_MAX:
                    continue
                page = handle.ready(cookie, changes)
                if page is None:
                    return
                cached = changes == self._changes
            else:
                cached = True
            for number, listed in page:
                entry = self._entry(listed.inode, cached=cached)
                if not pyfuse3.readdir_reply(token, FileNameT(listed.name), entry, number):
                    return
                self._inodes.looked_up(listed.inode.inode_id)
                self._inodes.shown(listed.inode.inode_id, entry.st_size)
                cookie = number
            loads = 0

    async def _give_dots(
        self, handle: DirectoryHandle, start_id: int, token: pyfuse3.ReaddirToken
    ) -> bool:
        """Give "." and "..", which do not count as lookups; False if they do not fit."""
        own = await self._meta.get_inode(handle.inode_id)
        if start_id < 1 and not pyfuse3.readdir_reply(token, FileNameT(b"."), self._entry(own), 1):
            return False
        above = self._entry(await self._parent(own))
        return pyfuse3.readdir_reply(token, FileNameT(b".."), above, 2)

    @verb
    async def releasedir(self, fh: FileHandleT) -> None:
        self._directories.remove(fh)

    @verb
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Every change of a name is durable when its call returns."""
