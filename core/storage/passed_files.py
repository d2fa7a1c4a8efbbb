"""Which block files a connection has been passed. Touched only between awaits: no lock."""

from __future__ import annotations

from typing import Final

from ..chunks.store import Block
from ..errors import UnavailableError
from ..wire.messages import BlockPlace
from .target import Target

FILES_PASSED_MAX: Final = 64  # with one answer: what transports can pass at a time


class PassedFiles:
    """The names of block files for one connection; with one answer, those that are new to it.

    The answer must be on its way before anything else is asked of this: make all places of an
    answer, then its descriptors, without an await in between.
    """

    def __init__(self) -> None:
        self._passed: set[int] = set()
        self._new: dict[int, int] = {}

    def begin(self) -> None:
        """A new answer."""
        self._new = {}

    def place(self, target: Target, block: Block) -> BlockPlace:
        """The block as the connection knows it.

        Raises DataLossError if its file is gone, UnavailableError if the answer passes too many
        files already.
        """
        key = target.target_id << 32 | block.file_id
        if key not in self._passed:
            if len(self._new) >= FILES_PASSED_MAX:
                raise UnavailableError(
                    f"one answer passes at most {FILES_PASSED_MAX} files: ask again"
                )
            self._new[key] = target.store.open_file(block.file_id)
            self._passed.add(key)
        return BlockPlace(key, block.offset_bytes, block.capacity_bytes)

    def new_keys(self) -> tuple[int, ...]:
        """Names of the files that the answer passes."""
        return tuple(self._new)

    def descriptors(self) -> tuple[int, ...]:
        """Their descriptors, in the same order."""
        return tuple(self._new.values())

    def undo(self) -> None:
        """The answer is not given."""
        self._passed.difference_update(self._new)
        self._new = {}
