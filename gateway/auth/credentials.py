"""PORT: who has which secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """One access key and whom it stands for. The secret never shows in its repr."""

    access_key: str
    secret_key: str = field(repr=False)
    name: str = ""
    """The user; shown as the owner of buckets and objects."""
    session_token: str = field(default="", repr=False)
    """Not empty for temporary credentials: requests must carry it."""
    expires_seconds: float | None = None
    """Seconds since 1970 when they end; None: never."""


class CredentialStore(Protocol):
    """Finds credentials. Never blocks: it is asked once per request."""

    def get(self, access_key: str) -> Credentials | None: ...
