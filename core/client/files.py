"""DRIVER: open files over a namespace and a data store: reads, buffered writes, flush, truncation.

All handles of a file in this process share one ``FileState``: what is known of its inode, and what
was written but not stored yet. Its lock is held by whoever changes the stored file (flush,
truncation) or reads the inode anew; reads of bytes take no lock. Knows nothing of the kernel.

A file without a name keeps its bytes for a grace time. A handle that may outlive it gets a session
(``protect``) once the last name goes: so opening a file costs no transaction.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection

import msgspec

from ..clock import Clock
from ..crypt.pages import open_record
from ..errors import (
    CraqenError,
    LimitExceededError,
    QuotaExceededError,
    StaleHandleError,
    UnsupportedError,
)
from ..limits import FILE_BYTES_MAX, FILE_CHUNK_BYTES, MIB
from ..meta.records import Inode, SetAttributes
from ..meta.store import MetaStore
from .dirty import DirtyRanges
from .file_state import FileState as FileState
from .port import DataStore
from .sealed_files import SealedFiles
from .write_back import WriteBack

DIRTY_BYTES_MAX = 64 * MIB  # default for all open files together
FLUSH_BYTES = 8 * MIB  # from here on a file's whole chunks are stored while more arrives
WRITE_BACK_SECONDS = 5.0  # nothing written stays in memory alone for longer than about this
ROOM_AHEAD_BYTES = 8 * MIB  # how much more may be taken before quotas are asked again
REFRESHES_MAX = 4  # a file replaced under every attempt of a read

Buffer = bytes | bytearray | memoryview

_log = logging.getLogger("craqen.files")


class OpenFile:
    """A handle."""

    __slots__ = ("released", "state")

    def __init__(self, state: FileState) -> None:
        self.state = state
        self.released = False

    @property
    def inode(self) -> Inode:
        """The inode as last read or committed."""
        assert self.state.inode is not None
        return self.state.inode


class FileClient:
    """Verbs on open files; each raises what the stores raise (StaleHandleError: it is gone)."""

    def __init__(
        self,
        meta: MetaStore,
        data: DataStore,
        clock: Clock,
        *,
        dirty_bytes_max: int = DIRTY_BYTES_MAX,
        sealed: SealedFiles | None = None,
    ) -> None:
        """*sealed*: for encrypted files; without it they cannot be opened."""
        self._meta = meta
        self._data = data
        self._clock = clock
        self._write_back = WriteBack(meta, data)
        self._sealed = sealed
        self._states: dict[int, FileState] = {}
        self._dirty_bytes = 0
        self._dirty_bytes_max = dirty_bytes_max
        self._flush_bytes = min(FLUSH_BYTES, dirty_bytes_max // 2)
        self._sessions = itertools.count(1)

    # Opening and closing

    async def open(self, inode_id: int) -> OpenFile:
        """Open a file, its inode read anew. Raises StaleHandleError."""
        state = self._join(inode_id)
        try:
            async with state.lock:
                await self._load(state)
        except BaseException:
            await self._leave(state)
            raise
        return OpenFile(state)

    def opened(self, inode: Inode) -> OpenFile:
        """A handle of a file that was just made (or read) by this process."""
        state = self._join(inode.inode_id)
        if state.inode is None:
            state.inode = inode
        elif state.inode.generation != inode.generation:
            state.stale = True
        return OpenFile(state)

    async def release(self, file: OpenFile) -> None:
        """Give the handle back; what it wrote is stored, unless that fails: then it is lost if this
        was the last handle, and the error raised."""
        assert not file.released
        file.released = True
        try:
            await self.flush(file)
        finally:
            await self._leave(file.state)

    def _join(self, inode_id: int) -> FileState:
        state = self._states.get(inode_id)
        if state is None:
            state = self._states[inode_id] = FileState(inode_id)
        state.handles += 1
        return state

    async def _leave(self, state: FileState) -> None:
        while state.handles == 1 and state.background is not None:
            await asyncio.wait([state.background])
        state.handles -= 1
        if state.handles:
            return
        del self._states[state.inode_id]
        lost = state.dirty.size_bytes
        if lost:
            _log.error("inode %x: closed with %d bytes that cannot be stored", state.inode_id, lost)
            state.dirty.cut(0)
            self._dirty_bytes -= lost
        if state.session is not None:
            await self._meta.close_session(state.inode_id, state.session)

    async def protect(self, inode_ids: Collection[int]) -> None:
        """Hold the bytes of those of the files that are open here and have no name any more."""
        open_ids = [
            number
            for number in inode_ids
            if number in self._states and self._states[number].session is None
        ]
        if not open_ids:
            return
        for inode_id, inode in zip(open_ids, await self._meta.get_inodes(open_ids), strict=True):
            state = self._states.get(inode_id)
            if inode is None or inode.nlink or state is None or state.session is not None:
                continue
            state.session = next(self._sessions)
            try:
                await self._meta.open_session(inode_id, state.session, write=True)
            except StaleHandleError:
                state.session = None  # the grace is over: reads will say so

    def is_open(self, inode_id: int) -> bool:
        """Whether a handle of the file exists."""
        return inode_id in self._states

    def any_open(self) -> bool:
        """Whether any file is open."""
        return bool(self._states)

    def mark_stale(self, inode_ids: Collection[int]) -> None:
        """These inodes changed elsewhere: their open files look again before the next read."""
        for inode_id in inode_ids:
            state = self._states.get(inode_id)
            if state is not None:
                state.stale = True

    def mark_all_stale(self) -> None:
        """Changes may have been missed: every open file looks again before the next read."""
        self.mark_stale(tuple(self._states))

    def view(self, inode: Inode) -> Inode:
        """*inode* (as just read) with what was written here and is not committed yet."""
        state = self._states.get(inode.inode_id)
        if state is None or state.inode is None or not state.changed:
            return inode
        size = max(inode.size, state.size)
        return msgspec.structs.replace(
            inode, size=size, mtime_ns=state.changed_ns, ctime_ns=state.changed_ns
        )

    def has_changes(self, inode_id: int) -> bool:
        """Whether something written to the file is not committed yet."""
        state = self._states.get(inode_id)
        return state is not None and state.changed

    # Reading

    def read_now(
        self, file: OpenFile, offset: int, length: int, buffer: memoryview | None = None
    ) -> Buffer | None:
        """As ``read``, if the bytes can be had without waiting; else None. The hot path."""
        state = file.state
        inode = state.inode
        if inode is None or state.stale or state.changed:
            return None
        length = min(length, inode.size - offset)
        if length <= 0:
            return b""
        if inode.inline:
            data = state.inline_data
            return None if data is None else _slice(data, offset, length)
        if inode.extent_pages or inode.encryption is not None:
            return None
        into = memoryview(bytearray(length)) if buffer is None else buffer[:length]
        if self._data.read_now(inode.extents, offset, into, inode.generation):
            return into
        return None

    async def read(
        self, file: OpenFile, offset: int, length: int, buffer: memoryview | None = None
    ) -> Buffer:
        """At most *length* bytes from *offset*; fewer only at the end of the file.

        A given *buffer* (of at least *length* bytes) may be used for the answer.
        """
        state = file.state
        for attempt in range(REFRESHES_MAX):
            if state.stale or (state.inline_data is None and file.inode.inline):
                async with state.lock:
                    await self._load(state)
            length = min(length, state.size - offset)
            if length <= 0:
                return b""
            # Taken before the stored bytes are read: a flush that ends meanwhile hides nothing.
            overlays = [] if state.flushing is None else state.flushing.overlapping(offset, length)
            overlays += state.dirty.overlapping(offset, length)
            if len(overlays) == 1 and len(overlays[0][1]) == length:
                return overlays[0][1]
            into = memoryview(bytearray(length)) if buffer is None else buffer[:length]
            try:
                await self._read_stored(state, offset, into)
            except StaleHandleError:
                if attempt + 1 == REFRESHES_MAX:
                    raise
                state.stale = True
                continue
            for start, data in overlays:
                into[start - offset : start - offset + len(data)] = data
            return into
        raise AssertionError("the last attempt returns or raises")

    async def _read_stored(self, state: FileState, offset: int, into: memoryview) -> None:
        """Fill *into* from what is stored; zeros behind it."""
        inode = state.inode
        assert inode is not None
        stored = max(0, min(len(into), max(inode.size, state.written_end) - offset))
        if stored < len(into):
            into[stored:] = bytes(len(into) - stored)
        if not stored:
            return
        if inode.inline:
            into[:stored] = _slice(state.inline_data or b"", offset, stored)
            return
        extents = inode.extents
        if inode.extent_pages:
            extents = await self._meta.extents(inode, offset, stored)
        if inode.encryption is not None:
            key = await self._key_of(state, inode)
            await self._sealed_files().read(inode, extents, key, offset, into[:stored])
            return
        # Between a store and its commit the generation does not tell new chunks from old ones.
        generation = 0 if state.written_end else inode.generation
        await self._data.read(extents, offset, into[:stored], generation=generation)

    async def _load(self, state: FileState) -> None:
        """Read the inode and its inline content anew. The lock is held."""
        state.stale = False
        try:
            inode, inline_data = await self._meta.read_inline(state.inode_id)
            state.data_key = None
            if inode.encryption is not None:
                key = await self._key_of(state, inode)
                if inline_data is not None:
                    inline_data = open_record(key, inline_data)
            state.inode, state.inline_data = inode, inline_data
        except BaseException:
            state.stale = True
            raise

    def _sealed_files(self) -> SealedFiles:
        if self._sealed is None:
            raise UnsupportedError("encrypted files need keys: this client has none")
        return self._sealed

    async def _key_of(self, state: FileState, inode: Inode) -> bytes:
        """The key of encrypted content. Raises PermissionDeniedError and the like."""
        if state.data_key is None:
            state.data_key = await self._sealed_files().data_key(inode)
        assert state.data_key is not None
        return state.data_key

    # Writing

    async def write(self, file: OpenFile, offset: int, data: bytes) -> None:
        """Take *data* (kept, it must not change). Waits while too much is unstored; raises what
        keeps that from being stored, and then *data* was not taken."""
        state = file.state
        length = len(data)
        if offset + length > FILE_BYTES_MAX:
            raise LimitExceededError(f"a file of {offset + length} bytes; limit {FILE_BYTES_MAX}")
        if offset + length > state.room_end:
            await self._ask_quotas(state, offset + length)
        if self._dirty_bytes + length > self._dirty_bytes_max:
            await self._make_room(length)
        dirty = state.dirty
        if not state.changed:
            state.changed_since_seconds = self._clock.monotonic_seconds()
        before = dirty.size_bytes
        dirty.write(offset, data)
        self._dirty_bytes += dirty.size_bytes - before
        state.changed_ns = self._clock.wall_ns()
        if dirty.size_bytes >= self._flush_bytes and state.background is None:
            state.background = asyncio.create_task(self._flush_in_background(state))

    async def _ask_quotas(self, state: FileState, end: int) -> None:
        """Raise QuotaExceededError if the file would grow to *end* and there is no room for that;
        what is written is held against the quotas again when it is stored."""
        inode = state.inode
        if inode is None or end <= state.size:
            return
        stored = max(inode.size, state.written_end)
        room = await self._meta.room_of(inode)
        if end - inode.size > room:
            raise QuotaExceededError(
                f"inode {state.inode_id:x}: a quota leaves room for {inode.size + room} bytes"
            )
        state.room_end = min(inode.size + room, max(stored, end) + ROOM_AHEAD_BYTES)

    async def _make_room(self, length: int) -> None:
        """Store the file with the most unstored bytes until *length* more fit."""
        while self._dirty_bytes and self._dirty_bytes + length > self._dirty_bytes_max:
            state = max(self._states.values(), key=_unstored_bytes)
            assert _unstored_bytes(state), "every dirty byte belongs to an open file"
            async with state.lock:
                await self._store(state, whole_chunks=False)

    async def _flush_in_background(self, state: FileState) -> None:
        try:
            async with state.lock:
                await self._store(state, whole_chunks=True)
                if state.dirty.size_bytes >= self._flush_bytes:  # scattered: no whole chunks
                    await self._store(state, whole_chunks=False)
        except CraqenError as error:
            # The bytes are still here: the next flush tries again, and tells whoever waits for it.
            _log.warning("inode %x: cannot be stored for now: %s", state.inode_id, error)
        finally:
            state.background = None

    async def flush(self, file: OpenFile) -> Inode:
        """Store and commit all that was written to the file, by any handle: durable, and visible to
        all."""
        state = file.state
        if state.changed:
            async with state.lock:
                await self._commit(state)
        return file.inode

    async def flush_old(self) -> None:
        """Store what was written more than WRITE_BACK_SECONDS ago."""
        before = self._clock.monotonic_seconds() - WRITE_BACK_SECONDS
        states = self._states.values()
        old = [state for state in states if state.changed and state.changed_since_seconds < before]
        for state in old:
            try:
                async with state.lock:
                    await self._commit(state)
            except CraqenError as error:
                _log.warning("inode %x: cannot be stored for now: %s", state.inode_id, error)

    async def flush_all(self) -> None:
        """Store everything. Raises the first error, after all files were tried."""
        first: CraqenError | None = None
        for state in list(self._states.values()):
            try:
                async with state.lock:
                    await self._commit(state)
            except CraqenError as error:
                first = first or error
        if first is not None:
            raise first

    async def _commit(self, state: FileState) -> None:
        """Store all, then make it known. The lock is held."""
        await self._store(state, whole_chunks=False)
        if state.written_end:
            self._committed(state, await self._meta.commit_write(state.inode_id, state.written_end))
            state.written_end = 0
        state.changed_since_seconds = self._clock.monotonic_seconds()

    async def _store(self, state: FileState, *, whole_chunks: bool) -> None:
        """Store dirty ranges (only whole chunks if asked). They are dirty again after an error. The
        lock is held."""
        if whole_chunks:
            ranges = state.dirty.take_whole_units(FILE_CHUNK_BYTES)
        else:
            ranges, state.dirty = state.dirty, DirtyRanges()
        if not ranges:
            return
        state.flushing = ranges
        size_bytes = ranges.size_bytes
        try:
            await self._store_ranges(state, ranges)
        except BaseException:
            state.flushing = None
            before = state.dirty.size_bytes + size_bytes
            state.dirty.put_below(ranges)
            self._dirty_bytes += state.dirty.size_bytes - before
            raise
        state.flushing = None
        self._dirty_bytes -= size_bytes

    async def _store_ranges(self, state: FileState, ranges: DirtyRanges) -> None:
        assert state.inode is not None
        if self._sealed is not None and not state.written_end:
            if await self._sealed.begins_sealed(state.inode):
                state.data_key = None
                self._committed(state, await self._sealed.store(state.inode_id, ranges))
                return
        if not state.written_end:
            stored = await self._write_back.store_inline(state.inode, ranges)
            if stored is not None:
                self._committed(state, stored)
                return
        inode = await self._write_back.store_in_place(state.inode, ranges)
        state.written_end = max(state.written_end, ranges.end)
        # Its size is the stored one: what is behind it is in ``written_end``.
        state.inode, state.inline_data = inode, None

    def _committed(self, state: FileState, inode: Inode) -> None:
        """The inode after a change of content by this process."""
        if inode.generation == state.cache_generation + 1:
            state.cache_generation += 1  # nobody else changed it in between
        state.inode, state.inline_data = inode, None

    # Attributes

    async def set_attributes(self, inode_id: int, changes: SetAttributes) -> Inode:
        """Change attributes, a size included, in order with what was written before."""
        state = self._states.get(inode_id)
        if changes.size and self._sealed is not None:
            if state is not None:
                async with state.lock:
                    await self._commit(state)
            await self._sealed.cut_record(inode_id, changes.size)
        if state is None or state.inode is None:
            return await self._meta.set_attributes(inode_id, changes)
        async with state.lock:
            if changes.size is not None:
                before = state.dirty.size_bytes
                state.dirty.cut(changes.size)
                self._dirty_bytes += state.dirty.size_bytes - before
            if state.written_end or (state.dirty and _sets_time(changes)):
                await self._commit(state)
            inode = await self._meta.set_attributes(inode_id, changes)
            if changes.size is not None:
                self._committed(state, inode)
            else:
                if inode.generation != state.inode.generation:
                    state.inline_data = None
                state.inode = inode
        return inode


def _sets_time(changes: SetAttributes) -> bool:
    """Whether a later commit of earlier writes would undo a part of *changes*."""
    return changes.mtime_ns is not None or changes.atime_ns is not None


def _unstored_bytes(state: FileState) -> int:
    flushing = 0 if state.flushing is None else state.flushing.size_bytes
    return state.dirty.size_bytes + flushing


def _slice(data: bytes, offset: int, length: int) -> bytes:
    """Bytes of inline content, zeros behind its end."""
    piece = data[offset : offset + length]
    return piece if len(piece) == length else piece.ljust(length, b"\0")
