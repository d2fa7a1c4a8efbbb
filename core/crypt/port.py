"""PORT: who keeps the outer keys."""

from __future__ import annotations

from typing import NamedTuple, Protocol

KMS_DEFAULT_KEY_ID = "alias/aws/s3"
"""What SSE-KMS wraps under if no key is named, as AWS calls it."""


class WrappedKey(NamedTuple):
    """A data key under a version of a named key."""

    key_id: str
    key_version: int
    wrapped: bytes


class KeyKeeper(Protocol):
    """Wraps data keys. What it keeps never leaves it.

    Errors: NotFoundError (no such key), PermissionDeniedError (disabled, or not ours to use),
    DataLossError (does not unwrap), KeyServiceUnavailableError, ConfigError.
    """

    async def wrap(self, key_id: str, data_key: bytes, bound_to: bytes) -> WrappedKey:
        """Wrap *data_key* under the newest version of *key_id* (empty: the store's own key)."""
        ...

    async def unwrap(self, wrapped: WrappedKey, bound_to: bytes) -> bytes:
        """The data key."""
        ...

    def is_current(self, wrapped: WrappedKey) -> bool:
        """Whether *wrapped* is under the newest version of its key. Raises NotFoundError."""
        ...

    async def close(self) -> None: ...
