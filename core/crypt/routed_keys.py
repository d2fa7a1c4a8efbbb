"""``KeyKeeper`` of a store with a key service: the store's own keys (SSE-S3) stay its own, others
are the service's."""

from __future__ import annotations

from .external_keys import EXTERNAL, ExternalKeys
from .key_ring import FileKeyRing
from .port import KMS_DEFAULT_KEY_ID, WrappedKey


class RoutedKeys:
    """*own*: wraps what names no key, and what names one of its keys. *default_key_id*: the
    service's key for SSE-KMS without a key; empty: the store's own."""

    def __init__(self, own: FileKeyRing, service: ExternalKeys, default_key_id: str) -> None:
        self._own = own
        self._service = service
        self._default_key_id = default_key_id

    async def wrap(self, key_id: str, data_key: bytes, bound_to: bytes) -> WrappedKey:
        """See the port."""
        if key_id == KMS_DEFAULT_KEY_ID:
            key_id = self._default_key_id
        if not key_id or self._own.has(key_id):
            return await self._own.wrap(key_id, data_key, bound_to)
        return await self._service.wrap(key_id, data_key, bound_to)

    async def unwrap(self, wrapped: WrappedKey, bound_to: bytes) -> bytes:
        """See the port."""
        keeper = self._service if wrapped.key_version == EXTERNAL else self._own
        return await keeper.unwrap(wrapped, bound_to)

    def is_current(self, wrapped: WrappedKey) -> bool:
        """See the port."""
        keeper = self._service if wrapped.key_version == EXTERNAL else self._own
        return keeper.is_current(wrapped)

    async def close(self) -> None:
        """Close both."""
        await self._service.close()
        await self._own.close()
