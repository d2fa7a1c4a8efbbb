"""The account that owns the store may do everything; nobody else may do anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.identity.records import Principal
from ..errors import S3Error

if TYPE_CHECKING:
    from ..exchange import Exchange


class AccountAuthorizer:
    """The ``Authorizer`` of a store whose only identity is its account."""

    async def authorize(self, exchange: Exchange) -> None:
        """Raises S3Error AccessDenied."""
        if exchange.identity.principal is not Principal.ACCOUNT:
            raise S3Error("AccessDenied")

    async def require(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, version_id: str = ""
    ) -> None:
        """Raises S3Error AccessDenied."""
        await self.authorize(exchange)
