"""PORT: a key service outside the store (AWS KMS, Vault): it makes and unwraps the keys under which
the store wraps the data keys of objects, and never gives its own away."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class ServiceKey(NamedTuple):
    """A key that the service made."""

    key_id: str
    """The service's key that wraps it, by the name that the service uses."""
    plaintext: bytes
    wrapped: bytes
    """What ``unwrap`` takes. It may be kept anywhere."""


class KeyService(Protocol):
    """Errors: NotFoundError (no such key), PermissionDeniedError (disabled, or not ours to use),
    DataLossError (does not unwrap), KeyServiceUnavailableError (no answer in time, or none that is
    one), ConfigError (the service does not know us)."""

    async def make(self, key_id: str) -> ServiceKey:
        """A new key of 32 bytes, wrapped under the service's key *key_id*."""
        ...

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """The key that ``make`` gave as *wrapped*."""
        ...

    async def close(self) -> None: ...
