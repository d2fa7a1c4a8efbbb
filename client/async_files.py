"""Open files on an event loop."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.client.files import FileState, OpenFile
from ..core.meta.records import SetAttributes
from .errors import as_os_errors
from .modes import Mode
from .records import Stat, stat_of

if TYPE_CHECKING:
    from .async_store import AsyncStore

PIECE_BYTES = 8 << 20  # of a read or write of any size


class Closed:
    """What a closed file has for a handle."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def state(self) -> FileState:
        """Raises ValueError."""
        raise ValueError(f"{self._path}: is closed")


class AsyncFile:
    """A file, by positions; any number of calls at once. Get it from ``AsyncStore.open``, and close
    it: what was written is durable and visible to others after ``flush`` or ``close``."""

    __slots__ = ("_store", "handle", "mode", "path")

    def __init__(self, store: AsyncStore, handle: OpenFile, path: str, mode: Mode) -> None:
        self._store = store
        self.handle: OpenFile | Closed = handle
        """The handle below; batches get at it without a call."""
        self.path = path
        self.mode = mode

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return isinstance(self.handle, Closed)

    def _open(self) -> OpenFile:
        """The handle. Raises ValueError if the file is closed."""
        if isinstance(self.handle, Closed):
            raise ValueError(f"{self.path}: is closed")
        return self.handle

    @property
    def size(self) -> int:
        """Bytes in the file, with what was written here."""
        return self._open().state.size

    async def stat(self) -> Stat:
        """What is known of the file now, under whatever name. Raises OSError."""
        with as_os_errors(self.path):
            inode = await self._store.meta.get_inode(self._open().state.inode_id)
        return stat_of(self._store.files.view(inode))

    async def read(self, length: int = -1, offset: int = 0) -> bytes:
        """At most *length* bytes (-1: all) from *offset*; fewer only at the end. Raises OSError."""
        self.mode.check_reads(self.path)
        length = max(0, self.size - offset) if length < 0 else length
        buffer = bytearray(min(length, max(0, self.size - offset)))
        count = await self.read_into(buffer, offset)
        return bytes(memoryview(buffer)[:count])

    async def read_into(self, buffer: Any, offset: int = 0) -> int:
        """Fill *buffer* from *offset*; return how many bytes that are: fewer than it holds only at
        the end of the file. Raises OSError."""
        self.mode.check_reads(self.path)
        view = memoryview(buffer).cast("B")
        store, handle = self._store, self._open()
        done = store.fast.read(handle.state, offset, view)
        if done is not None:
            return done
        done = 0
        with as_os_errors(self.path):
            while done < len(view):
                piece = view[done : done + PIECE_BYTES]
                data = await store.files.read(handle, offset + done, len(piece), piece)
                if data is not piece:
                    piece[: len(data)] = data
                done += len(data)
                if len(data) < len(piece):
                    break
        return done

    async def write(self, data: Any, offset: int | None = None) -> int:
        """Write all of *data* at *offset* (None: at the end of the file as it is here); return its
        length. It is in memory until ``flush`` or ``close``, or until there is too much of it.
        Raises OSError."""
        self.mode.check_writes(self.path)
        view = memoryview(data).cast("B")
        handle = self._open()
        if offset is None or self.mode.append:
            offset = handle.state.size
        with as_os_errors(self.path):
            for start in range(0, len(view), PIECE_BYTES):
                piece = bytes(view[start : start + PIECE_BYTES])
                await self._store.files.write(handle, offset + start, piece)
        return len(view)

    async def truncate(self, size: int) -> None:
        """Cut the file, or let it grow by a hole. Raises OSError."""
        self.mode.check_writes(self.path)
        with as_os_errors(self.path):
            changes = SetAttributes(size=size)
            await self._store.files.set_attributes(self._open().state.inode_id, changes)

    async def flush(self) -> None:
        """Make what was written durable and visible to all. Raises OSError."""
        with as_os_errors(self.path):
            await self._store.files.flush(self._open())

    async def close(self) -> None:
        """Flush, and give the handle back; closing twice does nothing. Raises OSError: then what
        was not stored is lost."""
        handle, self.handle = self.handle, Closed(self.path)
        if not isinstance(handle, Closed):
            with as_os_errors(self.path):
                await self._store.files.release(handle)

    async def __aenter__(self) -> AsyncFile:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
