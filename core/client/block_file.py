"""DRIVER: a block file that a storage node passed, and how bytes get into its blocks: large pieces
past the page cache (core/chunks/direct.py)."""

from __future__ import annotations

import os

from ..chunks.direct import fits, open_direct, write_pages


class BlockFile:
    """One block file, by the descriptor that came; ``close`` it in the end."""

    __slots__ = ("_direct", "descriptor")

    def __init__(self, descriptor: int) -> None:
        """Takes *descriptor* over."""
        self.descriptor = descriptor
        self._direct = open_direct(descriptor)

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of *data* at *offset*, inside a block that nobody reads yet. Blocks. Raises
        OSError."""
        done = 0
        if self._direct >= 0 and fits(data, offset):
            done = write_pages(self._direct, data, offset)
        while done < len(data):
            done += os.pwrite(self.descriptor, data[done:], offset + done)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.descriptor)
        if self._direct >= 0:
            os.close(self._direct)
