"""PORT: who has which secret."""

from __future__ import annotations

from typing import Protocol

from ...core.identity.credentials import NOBODY, Credentials
from ...core.identity.records import FIRST_ACCOUNT_ID, Identity, Principal, canonical_id_of

__all__ = ["NOBODY", "CredentialStore", "Credentials", "account_identity"]


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


class CredentialStore(Protocol):
    """Finds credentials. Asked once per request."""

    def get(self, access_key: str) -> Credentials | None:
        """Those that are known without waiting, and cannot have changed."""
        ...

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        """Those that ``get`` does not know, as they are now; with *session_token* the temporary
        ones that it holds. None if there are none.

        Raises S3Error InvalidToken.
        """
        ...
