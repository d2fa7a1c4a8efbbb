"""The cache of values by key, for ordinary code: see kv_cache.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from ..core.clock import Clock
from .kv_cache import AsyncKvCache, Key, KvCacheUsage, Values
from .paths import Path
from .store import Store


class KvCache:
    """As ``AsyncKvCache``, for ordinary code: any thread may call."""

    def __init__(
        self, store: Store, folder: Path, *, size_bytes_max: int, clock: Clock | None = None
    ) -> None:
        """The cache in *folder*, which is made if need be and holds nothing else. It may grow to
        about *size_bytes_max*: all processes should say the same. Raises OSError."""
        self._store = store
        self._cache = store.run(
            AsyncKvCache.open(
                store.asynchronous, folder, size_bytes_max=size_bytes_max, clock=clock
            )
        )

    @property
    def asynchronous(self) -> AsyncKvCache:
        """The same cache for coroutines; they run by the store's ``run``."""
        return self._cache

    def close(self) -> None:
        """End what goes on beside. The store stays open."""
        if not self._store.closed:
            self._store.run(self._cache.close())

    def __enter__(self) -> KvCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, key: Key) -> bytes | None:
        """The value of *key*; None: it is not there."""
        return self._store.run(self._cache.get(key))

    def get_many(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The values of *keys*, in their order; None for what is not there."""
        return self._store.run(self._cache.get_many(keys))

    def get_into(self, reads: Iterable[tuple[Key, Any]]) -> list[int | None]:
        """As ``AsyncKvCache.get_into``."""
        return self._store.run(self._cache.get_into(reads))

    def exists(self, key: Key) -> bool:
        """Whether the value of *key* is there."""
        return self._store.run(self._cache.exists(key))

    def exists_many(self, keys: Sequence[Key]) -> list[bool]:
        """Whether the values of *keys* are there."""
        return self._store.run(self._cache.exists_many(keys))

    def prefix_length(self, keys: Sequence[Key]) -> int:
        """How many of *keys*, from the first on without a gap, are there: blocks of a prompt."""
        return self._store.run(self._cache.prefix_length(keys))

    def put(self, key: Key, value: Any, *, ttl_seconds: float | None = None) -> None:
        """As ``AsyncKvCache.put``."""
        self._store.run(self._cache.put(key, value, ttl_seconds=ttl_seconds))

    def put_many(
        self,
        values: Values,
        *,
        ttl_seconds: float | None = None,
    ) -> None:
        """As ``AsyncKvCache.put_many``."""
        self._store.run(self._cache.put_many(values, ttl_seconds=ttl_seconds))

    def delete(self, key: Key) -> bool:
        """Drop the value of *key*; tell whether it was there."""
        return self._store.run(self._cache.delete(key))

    def delete_many(self, keys: Sequence[Key]) -> int:
        """Drop the values of *keys*; return how many were there."""
        return self._store.run(self._cache.delete_many(keys))

    def clear(self) -> None:
        """Drop all values that are there when this is called."""
        self._store.run(self._cache.clear())

    def sweep(self) -> None:
        """Make free what expired values take."""
        self._store.run(self._cache.sweep())

    def usage(self) -> KvCacheUsage:
        """What the cache takes, and may take."""
        return self._store.run(self._cache.usage())
