"""DRIVER: a block file that a storage node passed, and how large pieces get into its blocks.

Whole pages go past the page cache (O_DIRECT). A copy into the cache costs at least as much CPU time
as the socket's copy before it, and up to 4 ms per MiB where the cache grows into memory that a
virtual machine has not touched before; what was just written is seldom what is read next. Whoever
reads a block finds it as written: the kernel drops cached pages of what is written directly.
"""

from __future__ import annotations

import ctypes
import os

from ..limits import KIB

DIRECT_BYTES_MIN = 512 * KIB  # for less, waiting for the disk costs more than the copy
ALIGNMENT_BYTES = 4096  # of memory, offset and length: no disk asks for more


class BlockFile:
    """One block file, by the descriptor that came; ``close`` it in the end."""

    __slots__ = ("_direct", "descriptor")

    def __init__(self, descriptor: int) -> None:
        """Takes *descriptor* over."""
        self.descriptor = descriptor
        try:
            self._direct = os.open(
                f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC
            )
        except OSError:
            # No such way: another user's file, a file system without it, or no /proc.
            self._direct = -1

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of *data* at *offset*, inside a block that nobody reads yet. Blocks. Raises
        OSError."""
        done = 0
        if self._direct >= 0 and _fits(data, offset):
            done = self._write_pages(data, offset)
        while done < len(data):
            done += os.pwrite(self.descriptor, data[done:], offset + done)

    def _write_pages(self, data: memoryview, offset: int) -> int:
        """Write the whole pages of *data*; return how many bytes that were."""
        end = len(data) & -ALIGNMENT_BYTES
        done = 0
        while done < end:
            written = os.pwrite(self._direct, data[done:end], offset + done)
            done += written & -ALIGNMENT_BYTES
            if written % ALIGNMENT_BYTES:
                break
        return done

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.descriptor)
        if self._direct >= 0:
            os.close(self._direct)


def _fits(data: memoryview, offset: int) -> bool:
    """Whether *data* is large enough, and lies in memory as a disk can take it."""
    if len(data) < DIRECT_BYTES_MIN or offset % ALIGNMENT_BYTES or data.readonly:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) % ALIGNMENT_BYTES == 0
