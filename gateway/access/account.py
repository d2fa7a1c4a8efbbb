"""Without policies: an account may do everything with its own buckets, the store's own account with
all, and nobody else anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.identity.records import FIRST_ACCOUNT_ID, Principal
from ..copy_source import parse_copy_source
from ..errors import S3Error

if TYPE_CHECKING:
    from ...core.identity.records import Identity
    from ..exchange import Exchange


class AccountAuthorizer:
    """The ``Authorizer`` of a store whose only identities are accounts."""

    async def authorize(self, exchange: Exchange) -> None:
        """Raises S3Error AccessDenied."""
        identity = exchange.identity
        if identity.principal is not Principal.ACCOUNT:
            raise S3Error("AccessDenied")
        if identity.account_id == FIRST_ACCOUNT_ID:
            return
        info = exchange.bucket_info
        if info is not None and not owns(identity, info.record.owner):
            raise S3Error("AccessDenied")
        source = exchange.headers.get("x-amz-copy-source")
        if source is not None:
            bucket, key, version_id = parse_copy_source(source)
            await self.require(exchange, "s3:GetObject", bucket, key, version_id)

    async def require(
        self, exchange: Exchange, action: str, bucket: str, key: bytes, version_id: str = ""
    ) -> None:
        """Raises S3Error AccessDenied, and BucketNotFoundError."""
        identity = exchange.identity
        if identity.principal is not Principal.ACCOUNT:
            raise S3Error("AccessDenied")
        if identity.account_id == FIRST_ACCOUNT_ID:
            return
        info = exchange.bucket_info
        if info is None or bucket != exchange.bucket:
            info = await exchange.services.buckets.get(bucket)
        if not owns(identity, info.record.owner):
            raise S3Error("AccessDenied")


def owns(identity: Identity, owner: str) -> bool:
    """Whether *identity*'s account may act as the *owner* of a bucket, given by its canonical
    id: the store's own account may for all, also for those made in a mount."""
    return identity.account_id == FIRST_ACCOUNT_ID or identity.canonical_id == owner
