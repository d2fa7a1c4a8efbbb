"""Large pieces of block files past the page cache (O_DIRECT).

A copy into the cache costs at least as much CPU time as the socket's copy before it, and up to 4 ms
per MiB where the cache grows into memory that a virtual machine has not touched before; what was
just written is seldom what is read next. Whoever reads through the cache finds what was written
past it: the kernel drops cached pages of what is written directly, and writes out those that are
read directly.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ..limits import KIB

DIRECT_BYTES_MIN = 512 * KIB  # for less, waiting for the disk costs more than the copy
ALIGNMENT_BYTES = 4096  # of memory, offset and length: no disk asks for more


def fits(data: memoryview, offset: int) -> bool:
    """Whether *data* is large enough, and lies in memory and at *offset* as a disk can take it."""
    if len(data) < DIRECT_BYTES_MIN or offset % ALIGNMENT_BYTES or data.readonly:
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) % ALIGNMENT_BYTES == 0


def write_pages(direct: int, data: memoryview, offset: int) -> int:
    """Blocking: write the whole pages of *data*, which ``fits``, by the descriptor *direct*; return
    how many bytes that were. Raises OSError."""
    end = len(data) & -ALIGNMENT_BYTES
    done = 0
    while done < end:
        try:
            written = os.pwrite(direct, data[done:end], offset + done)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break  # a disk that wants it otherwise: the rest goes through the cache
            raise
        done += written & -ALIGNMENT_BYTES
        if written % ALIGNMENT_BYTES:
            break
    return done


def read_pages(direct: int, into: memoryview, offset: int) -> int:
    """Blocking: read the whole pages of *into*, which ``fits``, by the descriptor *direct*; return
    how many bytes that were: fewer at the end of the file. Raises OSError."""
    end = len(into) & -ALIGNMENT_BYTES
    done = 0
    while done < end:
        try:
            count = os.preadv(direct, (into[done:end],), offset + done)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break
            raise
        done += count & -ALIGNMENT_BYTES
        if count == 0 or count % ALIGNMENT_BYTES:
            break
    return done


def open_direct(descriptor: int) -> int:
    """Another descriptor of the open file, for pages past the cache; -1 where there is no such way
    (another user's file, a file system without it, or no /proc)."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1


def is_cached(descriptor: int, offset: int, length: int) -> bool:
    """Whether the range is likely in the page cache: its first and last byte are."""
    probe = (bytearray(1),)
    try:
        for place in (offset, offset + length - 1):
            os.preadv(descriptor, probe, place, os.RWF_NOWAIT)
    except OSError:
        return False
    return True
