"""PORT: what the lifecycle engine asks of the namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..lifecycle.plan import Plan
from .expiry_scan import Cursor, Due, Page
from .records import Bucket, Upload


class ExpiryStore(Protocol):
    """Finds what ended by rules, and removes it."""

    async def lifecycle_buckets(self) -> list[tuple[Bucket, bytes]]:
        """All buckets with rules, and the setting ``lifecycle`` of each. Many transactions."""
        ...

    async def scan_expiry(
        self, bucket: Bucket, plan: Plan, prefix: bytes, cursor: Cursor, *, limit: int
    ) -> Page:
        """The next *limit* keys (of a versioned bucket: versions and markers) with *prefix* behind
        *cursor*, and which of them *plan* ends. Damaged records are passed over."""
        ...

    async def expire(
        self, bucket: Bucket, setting: bytes, plan: Plan, due: Sequence[Due]
    ) -> list[bool] | None:
        """Remove what *due* names, each only if it is still the same and *plan* still ends it;
        whether each was removed. None: the bucket, its versioning or its rules (*setting*) are
        others by now, nothing was done."""
        ...

    async def expire_upload(self, bucket: Bucket, setting: bytes, upload: Upload) -> bool:
        """Abort an upload if the bucket still has the rules *setting*; whether it was there."""
        ...
