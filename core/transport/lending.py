"""DRIVER: memory whose bytes another process of this host takes for itself, instead of receiving
them through a socket.

A large buffer that lies in ``LendableMemory`` is not sent over a unix socket: its descriptor is,
and the other side copies from it. That is one copy instead of two and their many system calls: a
hop of a chain on one host costs a quarter less CPU time.

What is lent is never mapped by the borrower, only read: a lender that cuts it short causes a short
read and no signal. The borrower takes nothing but memory for it (a file that can be sealed is
such), since a read of anything else may wait for ever.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from typing import Final, Self

from ..errors import ProtocolError
from ..limits import KIB, MIB

LENT_BYTES_MIN: Final = 128 * KIB  # less is through a socket before a descriptor is
BORROWED_PIECE_BYTES: Final = 256 * KIB
"""Copied at a time: what stays in a core's own cache until it is summed."""

BORROWED_TURN_BYTES: Final = MIB  # then others of the event loop get their turn


class LendableMemory(mmap.mmap):
    """Memory that begins on a page boundary, and its descriptor."""

    descriptor: int
    lent: int
    """How many calls may still read it, for all that is known here. Until it is 0 the bytes must
    stay as they are."""
    _address: int

    def __new__(cls, length_bytes: int) -> Self:
        """Raises OSError."""
        descriptor = os.memfd_create("craqen-buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, length_bytes)
            memory = super().__new__(cls, descriptor, length_bytes)
            memory._address = _address(memoryview(memory))
        except BaseException:
            os.close(descriptor)
            raise
        memory.descriptor = descriptor
        memory.lent = 0
        return memory

    def __del__(self) -> None:
        os.close(self.descriptor)

    def offset_of(self, view: memoryview) -> int:
        """Where *view*, which lies in this memory, begins."""
        return _address(view) - self._address


def lender_of(view: memoryview) -> LendableMemory | None:
    """The memory in which *view* lies, if it can be lent."""
    memory = view.obj
    if view.nbytes < LENT_BYTES_MIN or view.readonly or not isinstance(memory, LendableMemory):
        return None
    return memory


def check_borrowed(descriptor: int) -> None:
    """Raise ProtocolError unless *descriptor* is of memory."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ProtocolError("a descriptor of something else than memory was lent") from error


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
