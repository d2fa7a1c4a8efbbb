"""PORT: who has which secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, Principal, canonical_id_of


def account_identity(name: str, *, uid: int = 0, gid: int = 0) -> Identity:
    """The store's own account, shown as *name*; its files belong to *uid* and *gid*."""
    return Identity(
        Principal.ACCOUNT,
        FIRST_ACCOUNT_ID,
        canonical_id_of(FIRST_ACCOUNT_ID),
        name,
        f"arn:aws:iam::{FIRST_ACCOUNT_ID}:root",
        FIRST_ACCOUNT_ID,
        uid=uid,
        gid=gid,
    )


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


class CredentialStore(Protocol):
    """Finds credentials. Never blocks: it is asked once per request."""

    def get(self, access_key: str) -> Credentials | None: ...
