"""DRIVER: verbs on files: attributes, open, read, write, flush."""

from __future__ import annotations

import asyncio
import os
import stat

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, InodeT

from ..core.client.files import Buffer, OpenFile
from ..core.errors import StaleHandleError
from ..core.limits import KIB, MIB
from ..core.meta.records import Inode, InodeType, SetAttributes
from .handles import FileHandle
from .verbs import OperationsBase, verb

READ_BYTES_MAX = 1 * MIB  # the largest read that the kernel sends
POOLED_READ_BYTES_MIN = 64 * KIB  # below, a new buffer costs less than keeping track of an old one
POOLED_BUFFERS_MAX = 16
RETRIES_MAX = 1024  # threads that were told to look a name up again, at once
NOT_YET = 0  # no inode has this number

_buffers: list[memoryview] = []
"""Read buffers for the next large reads: new memory for each would cost a page fault per page."""


class FileVerbs(OperationsBase):
    """See the module."""

    @verb
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        inode_id = self._id(inode)
        mode = attr.st_mode & 0o7777 if fields.update_mode else None
        gives_away = fields.update_uid or fields.update_gid
        if mode is None and (gives_away or (fields.update_size and ctx.uid != 0)):
            mode = _without_privileges(await self._meta.get_inode(inode_id))
        changes = SetAttributes(
            mode=mode,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._entry(await self._set_attributes(inode_id, changes))

    @verb
    async def open(
        self, inode: InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> FileInfo:
        inode_id = self._id(inode)
        file = await self._client.open(inode_id)
        try:
            return await self._opened(file, flags, ctx)
        except BaseException:
            await self._client.release(file)
            raise

    async def _opened(self, file: OpenFile, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        """The handle of a file whose inode was just read; the kernel keeps only valid caches."""
        found = file.inode
        state = file.state
        known = self._inodes.get(found.inode_id)
        if found.nlink == 0 and not known.unlinked_here:
            self._refuse_once(found.inode_id, ctx.pid)
        elif self._retries:
            self._retries.pop(ctx.pid, None)
        if flags & os.O_TRUNC and state.size:
            found = await self._set_attributes(found.inode_id, SetAttributes(size=0))
        pages = known.page_generation if state.cache_generation < 0 else state.cache_generation
        state.cache_generation = found.generation
        if known.shown_size != state.size:
            known.shown_size = state.size
            await self._notifier.attributes_now(self._number(found.inode_id))
        handle = FileHandle(
            file,
            append=bool(flags & os.O_APPEND),
            clears_privileges=ctx.uid != 0 and _without_privileges(found) is not None,
        )
        fh = FileHandleT(self._files.add(handle))
        return FileInfo(fh=fh, keep_cache=pages == found.generation)

    def _refuse_once(self, inode_id: int, thread_id: int) -> None:
        """Raise StaleHandleError for a file that was replaced or removed elsewhere: the kernel then
        looks the name up again, and opens what it finds. If that was replaced in turn meanwhile, it
        is opened: its name was valid after the caller had asked."""
        if self._retries.pop(thread_id, None) == inode_id:
            return
        if len(self._retries) >= RETRIES_MAX:
            del self._retries[next(iter(self._retries))]
        self._retries[thread_id] = NOT_YET
        raise StaleHandleError(f"inode {inode_id:x}: has no name any more")

    @verb
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        exclusive = bool(flags & os.O_EXCL)
        inode = await self._create(
            parent_inode, name, InodeType.FILE, mode, ctx, exclusive=exclusive
        )
        self._inodes.get(inode.inode_id).shown_size = inode.size
        file = self._client.opened(inode)
        try:
            info = await self._opened(file, flags, ctx)
        except BaseException:
            await self._client.release(file)
            raise
        return info, self._looked_up(file.inode)

    @verb
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer
        self, fh: FileHandleT, off: int, size: int
    ) -> Buffer:
        file = self._files[fh].file
        if size < POOLED_READ_BYTES_MIN:
            data = self._client.read_now(file, off, size)
            return await self._client.read(file, off, size) if data is None else data
        size = min(size, READ_BYTES_MAX)
        buffer = _buffers.pop() if _buffers else memoryview(bytearray(READ_BYTES_MAX))
        try:
            data = self._client.read_now(file, off, size, buffer)
            return await self._client.read(file, off, size, buffer) if data is None else data
        finally:
            # pyfuse3 sends the answer before the loop runs anything else.
            asyncio.get_running_loop().call_soon(_give_back, buffer)

    @verb
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        handle = self._files[fh]
        file = handle.file
        known = self._inodes.get(file.state.inode_id)
        if handle.append and off == known.shown_size < file.state.size:
            # It grew elsewhere, and the kernel takes the old end for the end.
            off = file.state.size
            self._notifier.inode(self._number(file.state.inode_id))
        elif off + len(buf) > known.shown_size:
            known.shown_size = off + len(buf)
        if handle.clears_privileges:
            handle.clears_privileges = False
            mode = _without_privileges(await self._meta.get_inode(file.state.inode_id))
            if mode is not None:
                await self._set_attributes(file.state.inode_id, SetAttributes(mode=mode))
        await self._client.write(file, off, buf)
        return len(buf)

    @verb
    async def flush(self, fh: FileHandleT) -> None:
        await self._flush(self._files[fh])

    @verb
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._flush(self._files[fh])

    async def _flush(self, handle: FileHandle) -> None:
        if handle.file.state.changed:
            await self._client.flush(handle.file)
            self._changes += 1

    @verb
    async def release(self, fh: FileHandleT) -> None:
        file = self._files.remove(fh).file
        try:
            await self._client.release(file)
        finally:
            state = file.state
            if state.inode_id in self._inodes:
                self._inodes.get(state.inode_id).page_generation = state.cache_generation


def _without_privileges(inode: Inode) -> int | None:
    """The mode of a file without what a write or a new owner takes away; None: it is the same."""
    if inode.type != InodeType.FILE:
        return None
    taken = stat.S_ISUID
    if inode.mode & stat.S_IXGRP:
        taken |= stat.S_ISGID
    return inode.mode & ~taken if inode.mode & taken else None


def _give_back(buffer: memoryview) -> None:
    if len(_buffers) < POOLED_BUFFERS_MAX:
        _buffers.append(buffer)
