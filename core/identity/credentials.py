"""One access key with its secret, and whom it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

from .records import ANONYMOUS, Identity


@dataclass(frozen=True, slots=True)
class Credentials:
    """One access key and whom it stands for. The secret never shows in its repr."""

    access_key: str
    secret_key: str = field(repr=False)
    identity: Identity
    """Whom it stands for."""
    session_token: str = field(default="", repr=False)
    """Not empty for temporary credentials: requests must carry it."""
    expires_seconds: float | None = None
    """Seconds since 1970 when they end; None: never."""


NOBODY = Credentials("", "", ANONYMOUS)
"""Those of a request without a signature."""
