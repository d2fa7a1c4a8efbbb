"""Open files for ordinary code."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from .async_files import AsyncFile, Closed
from .modes import Mode

if TYPE_CHECKING:
    from .store import Store


class StoreFile(io.RawIOBase):
    """A file with a position, as ``open(path, "rb", buffering=0)`` gives one, and reads and writes
    at positions. What was written is durable and visible to others after ``flush`` or ``close``.
    Reads at positions may come from any thread."""

    def __init__(self, store: Store, file: AsyncFile) -> None:
        super().__init__()
        self._store = store
        self._file = file
        self._position = file.size if file.mode.append else 0
        self.name = file.path
        self.handle = file.handle
        """The handle below; batches get at it without a call."""

    @property
    def path(self) -> str:
        """The path it was opened by."""
        return self._file.path

    @property
    def mode(self) -> Mode:
        """What it was opened for."""
        return self._file.mode

    @property
    def size(self) -> int:
        """Bytes in the file, with what was written here."""
        return self._file.size

    def pread(self, length: int, offset: int) -> bytes:
        """At most *length* bytes from *offset*; fewer only at the end. Raises OSError."""
        length = max(0, min(length, self.size - offset))
        buffer = bytearray(length)
        count = self.pread_into(buffer, offset)
        return bytes(buffer) if count == length else bytes(buffer[:count])

    def pread_into(self, buffer: Any, offset: int) -> int:
        """Fill *buffer* from *offset*; return how many bytes that are. Raises OSError."""
        self.mode.check_reads(self.path)
        done = self._store.fast.read(self.handle.state, offset, memoryview(buffer).cast("B"))
        if done is None:
            done = self._store.run(self._file.read_into(buffer, offset))
        return done

    def pwrite(self, data: Any, offset: int) -> int:
        """Write all of *data* at *offset*; return its length. Raises OSError."""
        return self._store.run(self._file.write(data, offset))

    # io.RawIOBase

    def readable(self) -> bool:
        return self.mode.reads

    def writable(self) -> bool:
        return self.mode.writes

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.pread_into(buffer, self._position)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        if self.mode.append:
            self._position = self.size
        count = self.pwrite(data, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if start is None:
            raise ValueError(f"whence {whence}: 0, 1 or 2")
        if start + offset < 0:
            raise ValueError(f"position {start + offset}: before the beginning")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self._store.run(self._file.truncate(size))
        return size

    def flush(self) -> None:
        super().flush()
        if not self._file.closed and self.mode.writes and not self._store.is_loop_thread():
            self._store.run(self._file.flush())

    def close(self) -> None:
        if self.closed:
            return
        self.handle = Closed(self.path)
        try:
            super().close()
        finally:
            if self._store.is_loop_thread():
                # Collected as garbage just there: the loop cannot wait for itself.
                self._store.start(self._file.close())
            elif not self._file.closed:
                self._store.run(self._file.close())
