"""Open files and directories of the mount, by the numbers that the kernel knows them by."""

from __future__ import annotations

import itertools
from typing import Generic, TypeVar

from ..core.client.files import OpenFile
from ..core.meta.records import DirectoryEntry
from ..core.meta.store import FileStore

PAGE_ENTRIES_MIN = 64  # a page that had to be thrown away is followed by a small one
PAGE_ENTRIES_MAX = 512
RELOADS_MAX = 3  # a directory that changes during every read of a page

T = TypeVar("T")


class HandleTable(Generic[T]):
    """Handles by number; numbers are not used twice."""

    def __init__(self) -> None:
        self._handles: dict[int, T] = {}
        self._numbers = itertools.count(1)

    def add(self, handle: T) -> int:
        """Keep *handle*; return its number."""
        number = next(self._numbers)
        self._handles[number] = handle
        return number

    def __getitem__(self, number: int) -> T:
        return self._handles[number]

    def remove(self, number: int) -> T:
        """Forget a handle."""
        return self._handles.pop(number)


class FileHandle:
    """An open file."""

    __slots__ = ("append", "clears_privileges", "file")

    def __init__(self, file: OpenFile, *, append: bool, clears_privileges: bool) -> None:
        self.file = file
        self.append = append
        self.clears_privileges = clears_privileges
        """The first write takes the set-user and set-group bits away."""


class DirectoryHandle:
    """A directory being read: pages of entries, and a cookie for each entry ever given.

    A cookie stands for "behind this entry" by the store's own cursor, so it stays good while
    entries come and go. Cookies cost memory (some 60 bytes an entry) until the directory is rewound
    or closed.
    """

    __slots__ = ("_cursors", "_limit", "_page", "_page_changes", "_page_first", "inode_id")

    FIRST_COOKIE = 3  # 1 and 2 are "." and ".."

    def __init__(self, inode_id: int) -> None:
        self.inode_id = inode_id
        self._limit = PAGE_ENTRIES_MAX
        self.rewind()

    def rewind(self) -> None:
        """Start over: the directory is read anew, cookies given so far are void."""
        self._cursors: list[bytes] = []
        self._page: list[DirectoryEntry] = []
        self._page_first = 0
        self._page_changes = -1

    def ready(self, cookie: int, changes: int) -> list[tuple[int, DirectoryEntry]] | None:
        """What is in memory behind *cookie*, as (cookie, entry), if it was read at change count
        *changes*; None: ``load`` first."""
        start = cookie + 1 - self.FIRST_COOKIE - self._page_first
        if self._page_changes != changes or not 0 <= start < len(self._page):
            return None
        first = self._page_first + self.FIRST_COOKIE
        return [(first + index, self._page[index]) for index in range(start, len(self._page))]

    async def load(self, meta: FileStore, cookie: int, changes: int) -> int:
        """Read the page behind *cookie* (any up to 2: the first); return the cookie to ask
        ``ready`` with. *changes* is the change count as it is before the call."""
        if self._page and self._page_changes != changes:
            self._limit = PAGE_ENTRIES_MIN
        position = cookie - self.FIRST_COOKIE
        after = self._cursors[position] if position >= 0 else b""
        page = await meta.read_directory(self.inode_id, after=after, limit=self._limit)
        self._limit = min(2 * self._limit, PAGE_ENTRIES_MAX)
        self._page_first = len(self._cursors)
        self._cursors += [entry.cursor for entry in page]
        self._page = page
        self._page_changes = changes
        return self._page_first + self.FIRST_COOKIE - 1
