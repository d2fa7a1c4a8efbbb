"""A bucket with its settings, parsed once and used until they change.

Every request reads the bucket's record; only when its ``settings_version`` moved are the settings
read anew. So a change by any worker or door holds for the next request of all, at the cost of one
key read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from ..core.errors import UNREADABLE, DataLossError
from ..core.meta.records import Bucket
from ..core.meta.store import MetaStore

BUCKETS_CACHED_MAX = 1024

T = TypeVar("T")


class BucketInfo:
    """One bucket as one transaction saw it."""

    __slots__ = ("_parsed", "record", "settings")

    def __init__(self, record: Bucket, settings: Mapping[str, bytes]) -> None:
        self.record = record
        self.settings = settings
        self._parsed: dict[str, object] = {}

    def parsed(self, aspect: str, parse: Callable[[bytes], T]) -> T | None:
        """The setting *aspect* as *parse* gives it, parsed at most once; None if it is not set.
        Raises DataLossError."""
        found = self._parsed.get(aspect)
        if found is None:
            value = self.settings.get(aspect)
            if value is None:
                return None
            try:
                found = self._parsed[aspect] = parse(value)
            except UNREADABLE as error:
                raise DataLossError(
                    f"bucket {self.record.name}: the setting {aspect} cannot be understood: {error}"
                ) from error
        return cast(T, found)

    def derived(self, name: str, make: Callable[[], T]) -> T:
        """What *make* gives, made at most once for these settings and kept as *name*."""
        key = f"derived {name}"
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = make()
        return cast(T, found)


class BucketCache:
    """The buckets that a worker has seen last; at most BUCKETS_CACHED_MAX."""

    def __init__(self, meta: MetaStore) -> None:
        self._meta = meta
        self._buckets: OrderedDict[str, BucketInfo] = OrderedDict()

    def known(self, name: str) -> BucketInfo | None:
        """The bucket as it was when a request last asked for it; None if that is forgotten."""
        return self._buckets.get(name)

    async def get(self, name: str) -> BucketInfo:
        """The bucket as it is now. Raises BucketNotFoundError."""
        cached = self._buckets.get(name)
        known = None if cached is None else cached.record
        record, settings = await self._meta.bucket_settings(name, known=known)
        if settings is None:
            assert cached is not None
            return cached
        found = self._buckets[name] = BucketInfo(record, settings)
        self._buckets.move_to_end(name)
        if len(self._buckets) > BUCKETS_CACHED_MAX:
            self._buckets.popitem(last=False)
        return found
