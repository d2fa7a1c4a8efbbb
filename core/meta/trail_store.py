"""PORT: the part of the namespace that checks of file permissions look at."""

from __future__ import annotations

from typing import Protocol

from .records import Trail


class TrailStore(Protocol):
    """What lies on the way to a key."""

    async def trail(self, bucket: str, key: bytes) -> Trail:
        """The directories on the way to *key*, and what is there. What of it does not exist is no
        error. Raises BucketNotFoundError, NameTooLongError."""
        ...
