"""Pages of chunks that were verified, kept in memory: small reads then cost a copy."""

from __future__ import annotations

from ..core.limits import CHECKSUM_PAGE_BYTES, MIB

CACHE_BYTES = 256 * MIB  # default

PageKey = tuple[int, int, int]
"""Segment, page of the segment, and for content that is written in place the generation of its file
(0: it never changes)."""


class VerifiedPages:
    """At most so many bytes of pages; those that nobody asked for lately go first.

    Two generations: what was used since the last turn is young. When the young ones fill half of
    the room they become the old ones, and the old ones go. Calls from several threads at once are
    safe: each step is one operation on a dict, and losing a page costs reading it again.
    """

    __slots__ = ("_old", "_pages_max", "young")

    def __init__(self, bytes_max: int = CACHE_BYTES) -> None:
        self._pages_max = max(1, bytes_max // 2 // CHECKSUM_PAGE_BYTES)
        self.young: dict[PageKey, memoryview] = {}
        """Looked at first, straight: one look-up is most of what a small read costs."""
        self._old: dict[PageKey, memoryview] = {}

    def old(self, key: PageKey) -> memoryview | None:
        """A page that is not young; it is from now on."""
        page = self._old.get(key)
        if page is not None:
            self.keep(key, page)
        return page

    def keep(self, key: PageKey, page: memoryview) -> None:
        """Take a verified page in."""
        if len(self.young) >= self._pages_max:
            self._old, self.young = self.young, {}
        self.young[key] = page

    def clear(self) -> None:
        """Forget all pages."""
        self._old, self.young = {}, {}
