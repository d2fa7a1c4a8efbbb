"""PORT: may this request do what it asks? Asked once before the handler, and by handlers for what
only the body names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..exchange import Exchange


class Authorizer(Protocol):
    """Decides by identity, policies, ACLs and file permissions."""

    async def authorize(self, exchange: Exchange) -> None:
        """Check the request's own operation on its own bucket and key.

        Raises S3Error AccessDenied (or what AWS answers instead for the operation).
        """
        ...

    async def require(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, version_id: str = ""
    ) -> None:
        """Check one more *action* (``s3:GetObject`` of a copy's source, ``s3:DeleteObject`` of each
        key in a list). Raises S3Error AccessDenied."""
        ...

    async def require_listing(self, exchange: Exchange, key: bytes) -> None:
        """Check whether the sender may be told that there is no *key*. Raises S3Error
        AccessDenied."""
        ...

    async def hidden_folders(
        self, exchange: Exchange, folders: frozenset[bytes]
    ) -> frozenset[bytes]:
        """Those of *folders* (each ends in a slash, or is empty) of the bucket whose content
        listings do not show to the sender."""
        ...
