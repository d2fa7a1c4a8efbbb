"""PORT: the part of the namespace that removes trees, and keeps what is removed."""

from __future__ import annotations

from typing import Protocol


class TrashStore(Protocol):
    """What file calls remove may be kept for a while (core/meta/trash.py)."""

    async def set_trash(self, bucket: str, seconds: int) -> None:
        """Keep what file calls remove from *bucket* for so long from now on; 0: keep nothing. What
        is there already stays when it is 0, else it ends by the new time. Buckets that were ever
        versioned keep versions instead. Raises BucketNotFoundError."""
        ...

    async def remove_tree(self, parent_id: int, name: bytes) -> bool:
        """Remove a folder with all that is below it, however much that is: into the trash, or, of
        what is there or in a bucket without one, to where the keeper frees it soon.

        Returns False, and does nothing, where that cannot be one step: in a bucket that was ever
        versioned, where a quota of a folder counts, for the trash itself and for a whole bucket.
        Raises NotFoundError, NotDirectoryError."""
        ...
